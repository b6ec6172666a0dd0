"""What can be wrong with a row, in words, and the rows that are: refused with one line, or written beside the store."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fleet.errors import SeriesInvalid
from fleet.ingest.readings import ABSENT, Batch
from fleet.ingest.stamps import BoolArray
from fleet.sources import Source


class Fault(IntEnum):
    """Why a row cannot be stored as it is; the first one found of a row counts."""

    NONE = 0
    NO_ID = 1
    BAD_ID = 2
    NO_TIME = 3
    UNREADABLE_TIME = 4
    OUTSIDE = 5
    NO_ZONE = 6
    AMBIGUOUS = 7
    NEVER = 8
    OFF_GRID = 9
    NOT_A_NUMBER = 10
    INFINITE = 11
    NO_AVAILABLE = 12
    DUPLICATE = 13


FaultArray = npt.NDArray[np.uint8]

SAID: Mapping[Fault, tuple[str, str]] = {
    Fault.NO_ID: ("without an id", "every row needs one"),
    Fault.BAD_ID: ("with an id that cannot be stored", "an id has at most 512 bytes and no control character"),
    Fault.NO_TIME: ("without a time", "every row needs one"),
    Fault.UNREADABLE_TIME: (
        "with a time that cannot be read",
        'say how it is written, such as time_format = "%d.%m.%Y %H:%M"',
    ),
    Fault.OUTSIDE: ("with a time outside the years 1900 to 2199", "is it a placeholder?"),
    Fault.NO_ZONE: ("with a time without a zone", 'name the zone of the source, such as timezone = "Europe/Paris"'),
    Fault.AMBIGUOUS: (
        "in an hour that the clock shows twice",
        'say what it means: ambiguous = "infer", "first" or "second"',
    ),
    Fault.NEVER: ("at a local time that the clock skipped", "is the zone of the source right?"),
    Fault.OFF_GRID: ("off the grid of the asset's step", "is freq right? the register may give each asset its own"),
    Fault.NOT_A_NUMBER: ("with a value that is no number", "an empty field, NA, NaN or null is a missing reading"),
    Fault.INFINITE: ("with an infinite value", "a missing reading is NaN or empty"),
    Fault.NO_AVAILABLE: (
        "without a time at which they were known",
        "the column available_at is filled in every row, or left out",
    ),
    Fault.DUPLICATE: ("whose id and time stand more than once", 'duplicates = "last" or "first" takes one of them'),
}
_ASIDE = pa.schema([(name, pa.string()) for name in ("source", "id", "time", "value", "available_at", "fault")])


@dataclass(kw_only=True)
class BadRows:
    """The bad rows of one source, counted, and kept as they were found."""

    source: Source
    section: str
    keep: bool
    counts: dict[Fault, int] = field(default_factory=dict)
    by_key: dict[tuple[str, Fault], int] = field(default_factory=dict)
    first: str = ""
    _tables: list[pa.Table] = field(default_factory=list)

    def add(self, batch: Batch, faults: FaultArray) -> None:
        """Count, and keep where they are to be kept, the rows with a fault."""
        bad = faults != Fault.NONE
        if not bad.any():
            return
        # Text is dear: all of it only where it is kept, else that of the one row that the message names.
        wanted = np.flatnonzero(bad)[: None if self.keep else 1]
        rows = _as_text(batch.taken(wanted), faults[wanted], self.source.label)
        for code, fault, count in zip(*_counted(batch.codes[bad], faults[bad]), strict=True):
            key = batch.keys[code] or ""
            self.by_key[key, Fault(fault)] = self.by_key.get((key, Fault(fault)), 0) + int(count)
            self.counts[Fault(fault)] = self.counts.get(Fault(fault), 0) + int(count)
        if not self.first:
            one = rows.slice(0, 1).to_pylist()[0]
            asset, time, value = (printable(one[name]) for name in ("id", "time", "value"))
            self.first = f"{asset or '(no id)'} at {time or '(no time)'}, value {value or 'missing'}"
        if self.keep:
            self._tables.append(rows)

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(self.counts.values())

    def refuse(self) -> None:
        """One line that names the first of them, unless they are kept aside.

        Raises:
            SeriesInvalid: there are bad rows and the source does not keep them aside.
        """
        if not self.total or self.keep:
            return
        worst = max(self.counts, key=lambda fault: self.counts[fault])
        kinds = ", ".join(f"{count:,} {SAID[fault][0]}" for fault, count in sorted(self.counts.items()))
        rows = "row" if self.total == 1 else "rows"
        raise SeriesInvalid(
            f"{self.source.label}: {self.total:,} {rows} refused: {kinds}; the first is {self.first}",
            hint=f'{SAID[worst][1]}; on_bad = "keep_aside" in {self.section} brings in the rest',
        )

    def write(self, folder: Path) -> Path | None:
        """The kept rows as a CSV; the same rows give the same file, so a second run writes no second one."""
        if not self._tables:
            return None
        from pyarrow import csv

        table = pa.concat_tables(self._tables)
        sink = pa.BufferOutputStream()
        csv.write_csv(table, sink)
        content = sink.getvalue().to_pybytes()
        name = self.section.strip("[]").split("]")[0]
        path = folder / f"{name}-{hashlib.sha256(content).hexdigest()[:12]}.csv"
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(content)
        return path


def printable(text: str) -> str:
    """A text that goes on one line of a message, whatever it was.

    >>> printable("plant-7"), len(printable("x" * 600))
    ('plant-7', 60)
    """
    shown = text if text.isprintable() else repr(text)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _counted(codes: npt.NDArray[np.int64], faults: FaultArray) -> tuple[list[int], list[int], list[int]]:
    pairs, counts = np.unique(codes * 256 + faults, return_counts=True)
    return (pairs // 256).tolist(), (pairs % 256).tolist(), counts.tolist()


def _as_text(rows: Batch, faults: FaultArray, label: str) -> pa.Table:
    """Rows as the source wrote them, as near as can be told."""
    times = _stamps(rows.times, rows.zoned)
    if rows.unread_time is not None:
        times = [
            said if said is not None else time for said, time in zip(rows.unread_time.to_pylist(), times, strict=True)
        ]
    values = ["" for _ in times]
    for column, unread in zip(rows.values, rows.unread, strict=True):
        texts = ["" if np.isnan(value) else repr(float(value)) for value in column]
        if unread is not None:
            texts = [said if said is not None else text for said, text in zip(unread.to_pylist(), texts, strict=True)]
        values = [f"{left} {text}" if left else text for left, text in zip(values, texts, strict=True)]
    available = ["" for _ in times] if rows.available is None else _stamps(rows.available, rows.available_zoned)
    columns = {
        "source": [label] * len(times),
        "id": [rows.keys[code] or "" for code in rows.codes.tolist()],
        "time": times,
        "value": values,
        "available_at": available,
        "fault": [SAID[Fault(fault)][0] for fault in faults.tolist()],
    }
    return pa.table(columns, schema=_ASIDE)


def _stamps(times: npt.NDArray[np.int64], zoned: BoolArray | bool) -> list[str]:
    """Times as text: with Z where they are UTC, without where they are what a clock showed."""
    texts = np.datetime_as_string(np.where(times == ABSENT, 0, times).view("M8[us]"), unit="s").tolist()
    marks = [zoned] * len(texts) if isinstance(zoned, bool) else zoned.tolist()
    absent = (times == ABSENT).tolist()
    return ["" if gone else text + ("Z" if mark else "") for text, mark, gone in zip(texts, marks, absent, strict=True)]
