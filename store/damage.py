"""What is damaged, in words that tell whom it concerns: file, table, months, assets."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from store.catalog import Segment
from store.clock import from_micros
from store.files import segment_file
from store.schema import FILED

_FEW = 5


class Damage(NamedTuple):
    """One file, or one part of the catalog, that is not what was written.

    ``assets`` are the ids that it held, the first and the last where only bounds are known (``between``); ``since`` and
    ``until`` the earliest and the latest time of its rows. Empty and None where that is not known.
    """

    path: Path
    what: str
    table: str = ""
    assets: tuple[str, ...] = ()
    between: bool = False
    since: datetime | None = None
    until: datetime | None = None
    rows: int = 0

    def __str__(self) -> str:
        within = self.path.parts
        name = "/".join(within[-3:] if "segments" in within[-3:-2] else within[-2:])
        parts = [f"{name} of {self.table}: {self.what}" if self.table else f"{name}: {self.what}"]
        if self.since is not None and self.until is not None:
            parts.append(_span(self.since, self.until))
        if self.assets:
            parts.append(_named(self.assets, between=self.between))
        if self.rows:
            parts.append(f"{self.rows:,} rows")
        return ", ".join(parts)


def of_segment(folder: Path, segment: Segment, what: str) -> Damage:
    """What a segment's loss means, as the catalog knows it."""
    known = segment.min_asset is not None and segment.max_asset is not None
    ends = {segment.min_asset or "", segment.max_asset or ""} if known else set()
    timed = FILED[segment.table].time_column is not None and segment.min_time is not None
    return Damage(
        path=segment_file(folder, segment.table, segment.id),
        what=what,
        table=segment.table,
        assets=tuple(sorted(ends)),
        between=len(ends) > 1,
        since=moment(segment.min_time) if timed else None,
        until=moment(segment.max_time) if timed else None,
        rows=segment.rows,
    )


def moment(micros: int | None) -> datetime | None:
    """An instant, None where it lies outside of what a datetime can hold."""
    try:
        return None if micros is None else from_micros(micros)
    except OverflowError:
        return None


def wrong_with(path: Path, size: int, sha256: str) -> str | None:
    """What is wrong with a file that should have a size and a hash; None when nothing is."""
    import hashlib

    try:
        with path.open("rb") as file:
            found = file.seek(0, 2)
            if found != size:
                return f"it has {found:,} bytes, {size:,} were written"
            file.seek(0)
            same = hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return "it is missing"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return None if same else "its bytes are not those that were written"


def wrong_segment(folder: Path, segment: Segment) -> Damage | None:
    """What is wrong with a segment's file; it is read whole."""
    what = wrong_with(segment_file(folder, segment.table, segment.id), segment.bytes, segment.sha256)
    return None if what is None else of_segment(folder, segment, what)


def listed(damages: Iterable[Damage]) -> str:
    """A few of them in one sentence, and how many more there are.

    >>> listed([Damage(path=Path("packs/a.pack"), what="it is missing")])
    'packs/a.pack: it is missing'
    """
    told = [str(one) for one in damages]
    more = f"; and {len(told) - _FEW} more" if len(told) > _FEW else ""
    return "; ".join(told[:_FEW]) + more


def _span(since: datetime, until: datetime) -> str:
    first, last = f"{since:%Y-%m}", f"{until:%Y-%m}"
    return first if first == last else f"{first} to {last}"


def _named(assets: tuple[str, ...], *, between: bool) -> str:
    if between:
        return f"assets {assets[0]} to {assets[-1]}"
    more = f" and {len(assets) - _FEW} more" if len(assets) > _FEW else ""
    return f"asset{'s' if len(assets) > 1 else ''} {', '.join(assets[:_FEW])}{more}"
