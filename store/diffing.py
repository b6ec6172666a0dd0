"""What lies between two snapshots: the rows that were added, and the commits that added them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from store.clock import from_micros
from store.planning import narrowed
from store.reading import Asking, Reader
from store.schema import TABLES


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One commit: the snapshot that it made, when, and the note that came with it."""

    snapshot: int
    at: datetime
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """What changed later than ``after``, up to ``upto``: rows added per table, replacing ones included."""

    after: int
    upto: int
    rows: Mapping[str, int]
    commits: tuple[Change, ...]


def diff(reader: Reader, after: int, upto: int) -> Diff:
    """Compare two snapshots, the older one first.

    Raises:
        SnapshotExpired: rows of a table from between the two were folded away.
    """
    commits = tuple(
        Change(snapshot=snapshot, at=from_micros(at), note=note)
        for snapshot, at, note in reader.catalog.commits_between(after, upto)
    )
    rows = reader.answer(lambda asking: {name: _added(asking, name, after, upto) for name in TABLES})
    return Diff(after=after, upto=upto, rows={name: count for name, count in rows.items() if count}, commits=commits)


def _added(asking: Asking, name: str, after: int, upto: int) -> int:
    plan = asking.plan([name], after)._replace(snapshot=upto)
    later = [one for one in plan.segments(TABLES[name]) if one.max_v > after]
    whole = [one for one in later if one.min_v > after and one.max_v <= upto]
    mixed = [one for one in later if one not in whole]
    count = sum(one.rows for one in whole)
    if mixed or name in plan.hot:
        rows = narrowed(plan, name, mixed).rows(TABLES[name])
        query = f"SELECT count(*) AS n FROM ({rows}) WHERE _v > {after}"
        count += asking.engine.cursor().arrow(query).column("n")[0].as_py()
    return count
