"""The book of deliveries: what was sent under which number, made of which snapshot, and whether it arrived.

A number is taken by a commit whose id names it, so two processes never take the same one for different content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from jobs.errors import DeliveryMissing
from store.errors import CommitConflict, Overtaken

if TYPE_CHECKING:
    from store import Store

PREPARED, SENT, ACKNOWLEDGED, FAILED = "prepared", "sent", "acknowledged", "failed"
ARRIVED = (SENT, ACKNOWLEDGED)
_ATTEMPTS = 100

Row: TypeAlias = Mapping[str, Any]


def entries(store: Store, delivery: str | None = None) -> list[Row]:
    """The rows of a delivery, or of all, in order of their numbers."""
    asked = "select * from deliveries where $name::varchar is null or delivery = $name order by delivery, number"
    return [*store.snapshot().sql(asked, {"name": delivery}).rows()]


def entry(store: Store, delivery: str, number: int) -> Row:
    """The row of one number."""
    found = [row for row in entries(store, delivery) if row["number"] == number]
    if not found:
        raise DeliveryMissing(f"{delivery} has sent no number {number}", hint="`tsfleet deliver ls` lists them")
    return found[0]


def prepared(store: Store, delivery: str, row: Row) -> Row:
    """Take the next number for what is about to be sent.

    Two that take one at the same time make commits of the same id: the second is refused and takes the next, unless
    it is about to send the very same, which does no harm.
    """
    for _ in range(_ATTEMPTS):
        number = max((one["number"] for one in entries(store, delivery)), default=0) + 1
        made = {**row, "delivery": delivery, "number": number, "status": PREPARED, "attempts": 0}
        transaction = store.begin(note="deliver", commit_id=f"deliver/{delivery}/{number}")
        transaction.insert("deliveries", [made])
        try:
            transaction.commit()
        except Overtaken:
            raise
        except CommitConflict:
            continue
        return made
    raise CommitConflict(f"{delivery}: no number was free after {_ATTEMPTS} attempts", hint="try again")


def written(store: Store, row: Row, **changes: Any) -> Row:
    """The row of a number as it is from now on."""
    made = {**row, **changes}
    transaction = store.begin(note="deliver")
    transaction.replace("deliveries", [made])
    transaction.commit()
    return made


def acknowledged(store: Store, delivery: str, number: int, at: datetime) -> Row:
    """The receiver of a file has told that it has it."""
    row = entry(store, delivery, number)
    if row["status"] not in ARRIVED:
        raise DeliveryMissing(f"number {number} of {delivery} is {row['status']}: it has not arrived")
    return row if row["status"] == ACKNOWLEDGED else written(store, row, status=ACKNOWLEDGED, acknowledged_at=at)


def unfinished(rows: Sequence[Row], since: datetime) -> list[Row]:
    """What may not have arrived, of issues from an instant on, in order."""
    return [
        row
        for row in rows
        if row["status"] not in ARRIVED and (row["issue_time"] is None or row["issue_time"] >= since)
    ]
