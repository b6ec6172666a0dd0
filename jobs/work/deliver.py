"""The kind `deliver`: every delivery of the configuration, or those that the job's options name."""

from __future__ import annotations

import os
import time

from fleet.errors import ConfigInvalid
from jobs.deliver.sending import Delivered, Sender, deliver
from jobs.work import Done, Work


def run(work: Work) -> Done:
    """Send what the slot is about; a delivery that does not arrive fails the job after the others were sent.

    ``options = { deliveries = ["desk"] }`` names some; ``product`` only those of one product.
    """
    sender = Sender(fleet=work.fleet, job=work.name, environ=os.environ, wait=time.sleep)
    done = [deliver(sender, name, work.slot) for name in _names(work)]
    return summed(done)


def _names(work: Work) -> list[str]:
    known = work.fleet.config.deliveries
    wanted = work.section.options.get("deliveries", [*known])
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    if not names:
        raise ConfigInvalid(
            f"[jobs.{work.name}]: there is nothing to deliver", hint="a section [deliveries.NAME] says what and where"
        )
    product = work.section.product
    return [name for name in names if product is None or name not in known or known[name].product == product]


def summed(done: list[Delivered]) -> Done:
    """What several deliveries say of the job: assets are those of all of them."""
    missing, there = sum(len(one.missing) for one in done), sum(one.assets for one in done)
    errors = [f"{row['delivery']} {row['number']}: {row['error']}" for one in done for row in one.failed]
    notes = [note for one in done for note in one.notes]
    notes += [
        f"{row['delivery']} {row['number']}: {row['rows']:,} rows {row['status']}, {row['target']}"
        for one in done
        for row in one.rows
        if row not in one.failed
    ]
    return Done(
        status="failed" if errors else "ok",
        assets=missing + there,
        ok=there,
        failed=missing,
        error="; ".join(errors) or None,
        notes=tuple(notes),
    )
