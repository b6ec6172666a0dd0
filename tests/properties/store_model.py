"""A store as plain lists: every row that was ever stored, with the commit that brought it. No disk, no cleverness."""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
#: The store folds by itself what was superseded so long ago.
FOLDS_AFTER = timedelta(days=1)

Key = tuple[str, int]
#: One stored reading: rank within its key (known, commit), value, quality.
Reading = tuple[int, int, float | None, str | None]


def same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return one == other or (math.isnan(one) and math.isnan(other))


def bits(value: float | None) -> bytes | None:
    return None if value is None else b"nan" if math.isnan(value) else struct.pack("<d", value)


@dataclass
class Model:
    """What a store should hold, and which of its snapshots it may refuse."""

    head: int = 0
    #: When each snapshot was made, by its number.
    times: list[datetime] = field(default_factory=lambda: [START - HOUR])
    actuals: dict[Key, list[Reading]] = field(default_factory=dict)
    alerts: list[tuple[int, str, str | None, float | None]] = field(default_factory=list)
    metrics: list[tuple[int, str, float | None]] = field(default_factory=list)
    #: commit, run, team, whether it is deleted; a row for each change.
    runs: list[tuple[int, str, str | None, bool]] = field(default_factory=list)
    champions: list[tuple[int, str, str]] = field(default_factory=list)
    verdicts: list[tuple[int, str]] = field(default_factory=list)
    marks: list[tuple[int, str]] = field(default_factory=list)
    #: By commit id what was committed, and as which snapshot.
    ids: dict[str, tuple[Any, int]] = field(default_factory=dict)
    #: Snapshots before this one have ended.
    ended: int = 0
    #: Per table the bound of the last fold that was asked for.
    _folded: dict[str, int] = field(default_factory=dict)

    # ------------------------------------------------------------ what happens

    def committed(self, at: datetime) -> int:
        self.head += 1
        self.times.append(at)
        return self.head

    def kept(self, rows: dict[tuple[str, int, int], tuple[float | None, str | None]]) -> int:
        """Of readings those that change something, in rank order; they belong to the commit that comes next."""
        commit, kept = self.head + 1, 0
        for (asset, hour, known), (y, quality) in sorted(rows.items(), key=lambda item: item[0][2]):
            held = self.actuals.setdefault((asset, hour), [])
            before = max((row for row in held if row[:2] <= (known, commit)), key=lambda row: row[:2], default=None)
            if before is not None and same(before[2], y) and before[3] == quality:
                continue
            held.append((known, commit, y, quality))
            kept += 1
        return kept

    def folds(self, table: str, bound: int) -> None:
        self._folded[table] = max(bound, self._folded.get(table, 0))

    # ------------------------------------------------------------ what must hold

    def may_refuse(self, table: str, at: int, now: datetime) -> bool:
        """Whether a table need not be whole at a snapshot: rows that it shows were superseded and may have gone."""
        by_itself = sum(when <= now - FOLDS_AFTER for when in self.times) - 1
        bound = max(self._folded.get(table, 0), by_itself)
        return at < max((row[0] for row in getattr(self, table) if row[0] <= bound), default=0)

    def readings(self, at: int) -> list[tuple[str, datetime, bytes | None, datetime, str | None, int]]:
        found = []
        for (asset, hour), held in self.actuals.items():
            visible = [row for row in held if row[1] <= at]
            if visible:
                known, commit, y, quality = max(visible, key=lambda row: row[:2])
                found.append((asset, START + HOUR * hour, bits(y), START + HOUR * known, quality, commit))
        return sorted(found, key=lambda row: (row[0].encode(), row[1]))

    def newest(self, rows: Iterable[tuple[Any, ...]], at: int) -> dict[str, tuple[Any, ...]]:
        """Of keyed rows (commit, key, ...) what the last commit of each key up to a snapshot says."""
        return {row[1]: row[2:] for row in rows if row[0] <= at}

    def champion(self, asset: str) -> str | None:
        found = self.newest(self.champions, self.head).get(asset)
        return None if found is None else str(found[0])

    def mark(self, at: int) -> str | None:
        return next((value for commit, value in reversed(self.marks) if commit <= at), None)

    def added(self, after: int, upto: int) -> dict[str, int]:
        """How many rows each table got later than one snapshot, up to another."""
        stored = {
            "actuals": [row[1] for held in self.actuals.values() for row in held],
            "alerts": [row[0] for row in self.alerts],
            "metrics": [row[0] for row in self.metrics],
            "runs": [row[0] for row in self.runs],
            "champions": [row[0] for row in self.champions],
            "decisions": [row[0] for row in self.verdicts],
        }
        counted = {name: sum(after < commit <= upto for commit in commits) for name, commits in stored.items()}
        return {name: count for name, count in counted.items() if count}

    def said(self, at: int) -> Counter[str]:
        return Counter(verdict for commit, verdict in self.verdicts if commit <= at)
