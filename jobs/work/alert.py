"""The kind `alert`: the rules of ``[[alerts]]`` looked at for a slot, what changed written down, people told.

Alerts and what has to be said of them are one commit; sending comes after it. A channel that fails does not fail the
job: it stands in the notes, and the next run tries again.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING

from fleet.errors import NothingSelected
from jobs.alerts import book, notifying
from jobs.alerts.causes import Group, grouped
from jobs.alerts.channels import made
from jobs.alerts.evidence import gathered
from jobs.alerts.judging import findings
from jobs.work import Done, Work
from store.ids import new_id

if TYPE_CHECKING:
    from fleet import Fleet


def run(work: Work) -> Done:
    """Looks at every rule, opens, updates and closes alerts, and tells people."""
    fleet, at = work.fleet, work.slot
    if not fleet.config.alerts:
        return Done(status="ok", notes=("there is no rule: write [[alerts]] into fleet.toml",))
    try:
        groups, held = look(fleet, at)
    except NothingSelected:
        return Done(status="ok", notes=("the fleet has no asset yet",))
    change = settle(fleet, groups, held, at, work)
    config = fleet.config
    channels = {name: made(section, config.folder, os.environ) for name, section in config.channels.items()}
    told = notifying.send(fleet.store, config.fleet.name, channels, work.clock.now())
    counted = f"{len(change.opened)} opened, {len(change.updated)} go on, {len(change.closed)} closed"
    return Done(
        status="ok",
        assets=len({one.asset_id for group in groups for one in group.concerned}),
        notes=(
            counted,
            *(f"opened: {alert.text}" for alert, _ in change.opened),
            *(f"closed: {alert.text}" for alert in change.closed),
            *([f"{told.sent} sent, {told.failed} not"] if told.sent or told.failed else []),
            *told.errors,
        ),
    )


def look(fleet: Fleet, at: datetime) -> tuple[tuple[Group, ...], book.Book]:
    """The causes that the rules find now, and the book as it was."""
    held = book.read(fleet.store.snapshot())
    evidence = gathered(fleet, fleet.config.alerts, at)
    found, jobs = findings(evidence, fleet.config.alerts, held.held)
    return grouped(evidence, fleet.config.alerts, found, jobs), held


def settle(fleet: Fleet, groups: tuple[Group, ...], held: book.Book, at: datetime, work: Work) -> book.Change:
    """Writes down what changed, with the notifications that are due for it, in one commit."""
    config, now = fleet.config, work.clock.now()
    change = book.settled(held, groups, at, [new_id() for _ in groups])
    transaction = fleet.store.begin(note=work.name)
    alerts = book.write(transaction, change, at)
    told = notifying.told_so_far(fleet.store.snapshot(), now)
    transaction.replace("notifications", notifying.due(change, alerts, told, config.alerts, config.channels, now))
    transaction.commit()
    return change
