"""Deliveries by hand: `tsfleet deliver send`, `ls`, `resend`, `ack`."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cyclopts import App

from jobs.cli.console import print_rows, say
from jobs.cli.exits import Exit
from jobs.cli.options import WORK, Common, instant

if TYPE_CHECKING:
    from fleet import Fleet
    from jobs.deliver.book import Row
    from jobs.deliver.sending import Sender

COMMON = Common()
SHOWN = (
    "delivery", "number", "product", "issue_time", "rows", "status", "attempts", "sent_at", "acknowledged_at", "target",
    "error",
)  # fmt: skip
deliver = App(name="deliver", help="Send what was published to where it is needed.", help_format="markdown", group=WORK)


@deliver.command
def send(name: str, /, *, slot: str | None = None, common: Common = COMMON) -> int:
    """Send a delivery now: what has not arrived yet, and what is published, unless that was sent already.

    For example:

    - `tsfleet deliver send desk`

    Args:
        name: Of the delivery, as in [deliveries.NAME].
        slot: The last issue by this instant, as 2024-06-10T09:45Z; without it, by now.
    """
    from jobs.deliver import sending

    with common.fleet() as fleet:
        done = sending.deliver(_sender(fleet), name, instant(slot, "--slot") or fleet.clock.now())
    for note in done.notes:
        say(note)
    return _told(done.rows, as_json=common.json, failed=bool(done.failed or done.missing))


@deliver.command
def ls(name: str | None = None, /, *, common: Common = COMMON) -> int:
    """What was sent when, under which number, and whether it arrived.

    For example:

    - `tsfleet deliver ls desk --json`

    Args:
        name: Of one delivery; all of them without it.
    """
    from jobs.deliver import book

    with common.fleet(read_only=True) as fleet:
        rows = book.entries(fleet.store, name)
    return _told(rows, as_json=common.json)


@deliver.command
def resend(name: str, number: int, /, *, common: Common = COMMON) -> int:
    """Send a number again: the same bytes under the same number, also if it had arrived.

    For example:

    - `tsfleet deliver resend desk 17`

    Args:
        name: Of the delivery.
        number: As `tsfleet deliver ls` shows it.
    """
    from jobs.deliver import sending

    with common.fleet() as fleet:
        row = sending.resend(_sender(fleet), name, number)
    return _told([row], as_json=common.json, failed=row["error"] is not None)


@deliver.command
def ack(name: str, number: int, /, *, common: Common = COMMON) -> int:
    """Write down that the receiver has told that it has a number.

    For example:

    - `tsfleet deliver ack desk 17`

    Args:
        name: Of the delivery.
        number: As `tsfleet deliver ls` shows it.
    """
    from jobs.deliver import book

    with common.fleet() as fleet:
        row = book.acknowledged(fleet.store, name, number, fleet.clock.now())
    return _told([row], as_json=common.json)


def _sender(fleet: Fleet) -> Sender:
    from jobs.deliver.sending import Sender

    return Sender(fleet=fleet, job="cli:deliver", environ=os.environ, wait=time.sleep)


def _told(rows: Sequence[Row], *, as_json: bool, failed: bool = False) -> int:
    shown = rows if as_json else [{name: row.get(name) for name in SHOWN} for row in rows]
    print_rows(shown, as_json=as_json, empty="nothing was sent")
    return Exit.PARTLY if failed else Exit.OK
