"""Sending a delivery: what may not have arrived first, then what is published now, unless that was sent already."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.config import DeliverySection
from fleet.config.messages import meant
from jobs.deliver import book
from jobs.deliver.book import ACKNOWLEDGED, FAILED, SENT, Row
from jobs.deliver.content import Content, content_of, filled
from jobs.deliver.targets import Parcel, Receipt, transmit
from jobs.errors import DeliveryMissing
from store.errors import TsfleetError

if TYPE_CHECKING:
    from fleet import Fleet

GIVEN_UP_AFTER = timedelta(days=7)
"""What has not arrived is sent by itself for so long after its issue, later only by hand."""

CHANGED = "what was to be sent cannot be made again: the assets, the configuration or a library have changed"

Transmit = Callable[[Parcel, Mapping[str, str], Callable[[float], None]], Receipt]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """What deliveries are sent with.

    Args:
        job: that sends; in the book.
        environ: holds the tokens that the configuration names.
        wait: sleeps so many seconds between two attempts.
        transmit: brings a parcel to its target.
    """

    fleet: Fleet
    job: str
    environ: Mapping[str, str]
    wait: Callable[[float], None]
    transmit: Transmit = transmit


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What one run of a delivery did.

    Args:
        rows: of the book, of each number that was sent or should have been.
        assets: that the content of now holds; of the missing ones nothing was published for its issue.
    """

    delivery: str
    rows: tuple[Row, ...] = ()
    assets: int = 0
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def failed(self) -> tuple[Row, ...]:
        """Those that did not arrive."""
        return tuple(row for row in self.rows if row["status"] == FAILED)


def section_of(fleet: Fleet, name: str) -> DeliverySection:
    """A delivery by name."""
    found = fleet.config.deliveries.get(name)
    if found is None:
        raise DeliveryMissing(f"there is no delivery {name!r}{meant(name, fleet.config.deliveries)}")
    return found


def deliver(sender: Sender, name: str, slot: datetime) -> Delivered:
    """Send what may not have arrived, and what is published for a slot, if it is not what was sent last.

    Args:
        slot: whose issue is meant: the last one by then.
    """
    fleet = sender.fleet
    section, rows = section_of(fleet, name), book.entries(fleet.store, name)
    since = fleet.clock.now() - GIVEN_UP_AFTER
    done = [_again(sender, row) for row in book.unfinished(rows, since)]
    snapshot = fleet.store.snapshot()
    content = content_of(snapshot, fleet.config, section, slot)
    named = [f"{name}: nothing was published of {len(content.missing):,} assets"] if content.missing else []
    if not content.assets:
        return Delivered(delivery=name, rows=tuple(done), missing=content.missing, notes=tuple(named))
    last = next((row for row in reversed(book.entries(fleet.store, name)) if row["issue_time"] == content.issue), None)
    if last is not None and last["sha256"] == content.sha256:
        named.append(f"{name}: number {last['number']} holds what is published; nothing new to send")
    else:
        row = book.prepared(
            fleet.store,
            name,
            {
                "product": section.product,
                "issue_time": content.issue,
                "snapshot": snapshot.id,
                "rows": content.table.num_rows,
                "sha256": content.sha256,
                "job": sender.job,
                "slot": slot,
                "spec": json.dumps(section.model_dump(mode="json")),  # columns stay in their order
            },
        )
        done.append(_sent(sender, section, content, row))
    return Delivered(
        delivery=name, rows=tuple(done), assets=content.assets, missing=content.missing, notes=tuple(named)
    )


def resend(sender: Sender, name: str, number: int) -> Row:
    """Send a number again, the same bytes, whatever became of it before."""
    return _again(sender, book.entry(sender.fleet.store, name, number))


def _again(sender: Sender, row: Row) -> Row:
    """Make the content of a number anew and send it; what cannot be made as it was is not sent."""
    fleet, name = sender.fleet, row["delivery"]
    then = DeliverySection.model_validate(json.loads(row["spec"]))
    now = fleet.config.deliveries.get(name, then)
    try:
        content = content_of(fleet.store.at(row["snapshot"]), fleet.config, then, row["slot"])
    except TsfleetError as error:
        return _not_made(fleet, row, error.message)
    if content.sha256 != row["sha256"]:
        return _not_made(fleet, row, CHANGED)
    # The form is that of then; the place may have moved.
    places = {key: getattr(now, key) for key in ("path", "url", "connect", "table", "token_env", "timeout", "retries")}
    section = then if now.format != then.format else then.model_copy(update=places)
    return _sent(sender, section, content, row)


def _not_made(fleet: Fleet, row: Row, why: str) -> Row:
    return book.written(fleet.store, row, status=row["status"] if row["sent_at"] else FAILED, error=why)


def _sent(sender: Sender, section: DeliverySection, content: Content, row: Row) -> Row:
    """Send a number, and write down what became of it."""
    fleet, number = sender.fleet, row["number"]
    parcel = Parcel(
        section=section,
        content=content,
        target=_target(section, content, fleet.config.folder, number),
        number=number,
        key=f"{row['delivery']}-{number}-{row['sha256'][:16]}",
        folder=fleet.config.folder,
    )
    receipt = sender.transmit(parcel, sender.environ, sender.wait)
    now = fleet.clock.now()
    arrived = receipt.error is None
    status = (ACKNOWLEDGED if receipt.acknowledged else SENT) if arrived else FAILED
    if not arrived and row.get("sent_at") is not None:
        status = row["status"]  # it arrived once; that another copy did not changes nothing about it
    return book.written(
        fleet.store,
        row,
        target=receipt.target,
        status=status,
        attempts=(row["attempts"] or 0) + receipt.attempts,
        sent_at=now if arrived else row.get("sent_at"),
        acknowledged_at=now if arrived and receipt.acknowledged else row.get("acknowledged_at"),
        error=receipt.error,
    )


def _target(section: DeliverySection, content: Content, folder: Path, number: int) -> str:
    if section.path is not None:
        return str(folder / filled(section.path, content, section.product, number))
    return str(section.url or section.table)
