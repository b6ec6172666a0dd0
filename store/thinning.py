"""Thinning: of old forecasts only the short leads stay.

What was issued far ahead is most of a fleet's rows, and is asked for while it is young. A row goes by its issue and its
lead, so all roles of one issue and valid time go together: what ``published`` shows of the leads that stay is what it
showed. Backtests stay whole, for intervals and comparisons are made of them; so do the scores of what went, which
nobody can compute again: a watermark says which those are.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from store.catalog import Catalog, Columns, Segment
from store.clock import Clock, from_micros, to_micros
from store.errors import SchemaMismatch, StoreBusy
from store.rewriting import Swap, committed, discard, groups, rewrite
from store.schema import REPLACED
from store.upkeep import lease

if TYPE_CHECKING:
    import pyarrow as pa

    from store.catalog.removing import Remover

TABLE = "forecasts"
#: The companion goes along: what it says of rows that went speaks of nothing any more.
TABLES = (TABLE, TABLE + REPLACED)
KEPT_ROLE = "backtest"
#: Before the product: the watermark that tells its :class:`Extent`.
MARK = "thinned/"
_COLUMNS = ("product", "role", "issue_time", "valid_time")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What goes: of a product the leads from ``keep_leads_below`` on, where the issue was before ``older_than``."""

    product: str
    older_than: datetime
    keep_leads_below: timedelta

    def __post_init__(self) -> None:
        if self.older_than.tzinfo is None:
            raise SchemaMismatch(f"{self.older_than.isoformat()} has no time zone", hint="give an aware datetime")
        if self.keep_leads_below <= timedelta(0):
            raise SchemaMismatch("every lead would go", hint="keep leads below a length of time above zero")


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """What has been thinned of a product: leads from ``leads_from`` on, of valid times up to ``valid_upto``."""

    leads_from: timedelta
    valid_upto: datetime

    @classmethod
    def from_mark(cls, text: str | None) -> Extent | None:
        """As its watermark tells it; None for a product that was never thinned.

        >>> Extent.from_mark('{"leads_from": 7200000000, "valid_upto": 0}').leads_from
        datetime.timedelta(seconds=7200)
        """
        if text is None:
            return None
        told = json.loads(text)
        lead, upto = timedelta(microseconds=told["leads_from"]), from_micros(told["valid_upto"])
        return cls(leads_from=lead, valid_upto=upto)

    def with_(self, other: Extent | None) -> Extent:
        """Both, taken together."""
        if other is None:
            return self
        lead, upto = min(self.leads_from, other.leads_from), max(self.valid_upto, other.valid_upto)
        return Extent(leads_from=lead, valid_upto=upto)

    def mark(self) -> str:
        """As a watermark."""
        lead = round(self.leads_from / timedelta(microseconds=1))
        return json.dumps({"leads_from": lead, "valid_upto": to_micros(self.valid_upto)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinned:
    """What a thinning dropped, or would: ``rows`` of forecasts; ``snapshot`` is its commit, None without any.

    ``segments`` were written anew, with ``bytes``; the old files go with the next upkeep.
    """

    product: str
    rows: int
    segments: int
    bytes: int
    snapshot: int | None
    seconds: float


def thin(folder: Path, catalog: Catalog, clock: Clock, rule: Rule, *, dry_run: bool = False) -> Thinned:
    """Drop what a rule says; see the module.

    Raises:
        StoreBusy: another process is at upkeep.
        Damaged: a file that would be written anew is; nothing was dropped.
    """
    began = time.monotonic()
    rows = _Rows(rule)
    with lease(folder):
        work = _Thinning(folder, catalog, clock, rows)
        work.look()
        snapshot = None if dry_run else committed(catalog, work)
    return Thinned(
        product=rule.product,
        rows=work.gone.rows,
        segments=len(work.concerned),
        bytes=sum(one.bytes for one in work.swaps),
        snapshot=snapshot,
        seconds=time.monotonic() - began,
    )


class _Rows:
    """Tells which rows a rule drops."""

    def __init__(self, rule: Rule) -> None:
        self.product, self.before = rule.product, to_micros(rule.older_than)
        self.lead = round(rule.keep_leads_below / timedelta(microseconds=1))

    def dropped(self, rows: pa.Table) -> pa.ChunkedArray:
        """Which of the rows go."""
        import pyarrow as pa
        import pyarrow.compute as pc

        issued, valid = (_micros(rows.column(name)) for name in ("issue_time", "valid_time"))
        far = pc.greater_equal(pc.subtract(valid, issued), self.lead)
        live = pc.not_equal(rows.column("role").cast(pa.string()), KEPT_ROLE)
        old = pc.and_(pc.less(issued, self.before), pc.equal(rows.column("product").cast(pa.string()), self.product))
        return pc.and_(old, pc.and_(far, live))

    def kept(self, rows: pa.Table) -> pa.Table:
        """The rows that stay."""
        import pyarrow.compute as pc

        return rows.filter(pc.invert(self.dropped(rows)))

    def gone(self, rows: pa.Table) -> Gone:
        """How many rows go, and the latest of their valid times."""
        import pyarrow.compute as pc

        valid = _micros(rows.column("valid_time")).filter(self.dropped(rows))
        return Gone(len(valid), pc.max(valid).as_py() if len(valid) else 0)

    def of_hot(self, columns: Columns) -> list[int]:
        """The places of hot rows that go."""
        import pyarrow.compute as pc

        places: list[int] = pc.indices_nonzero(self.dropped(_hot(columns))).to_pylist()
        return places


class Gone(NamedTuple):
    """Rows that go, and the latest of their valid times, in microseconds."""

    rows: int = 0
    upto: int = 0

    def plus(self, other: Gone) -> Gone:
        return Gone(self.rows + other.rows, max(self.upto, other.upto))


def _hot(columns: Columns) -> pa.Table:
    import pyarrow as pa

    return pa.table({name: columns[name] for name in _COLUMNS})


def _micros(values: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa

    return values.cast(pa.int64())


class _Thinning:
    """One thinning on its way: ``gone`` are rows of forecasts, ``concerned`` the segments that hold some."""

    def __init__(self, folder: Path, catalog: Catalog, clock: Clock, rows: _Rows) -> None:
        self.folder, self.catalog, self.clock, self.rows = folder, catalog, clock, rows
        self.head, self.gone = 0, Gone()
        self.concerned: list[Segment] = []
        self.swaps: list[Swap] = []
        self._found: dict[str, Gone] = {}

    def look(self) -> None:
        state = self.catalog.state(TABLES)
        self.head = state.head
        held = [one for name in TABLES for one in state.segments[name]]
        for one in held:
            if one.id not in self._found:
                self._found[one.id] = self._count(one)
        self.concerned = [one for one in held if self._found[one.id].rows]
        self.gone = self.rows.gone(_hot(self.catalog.hot_rows(TABLE)[1])) if state.hot_count[TABLE] else Gone()
        for one in self.concerned:
            if one.table == TABLE:
                self.gone = self.gone.plus(self._found[one.id])

    def _count(self, segment: Segment) -> Gone:
        found = Gone()
        if segment.min_time is None or segment.min_time < self.rows.before:
            for rows in groups(self.folder, segment, _COLUMNS):
                found = found.plus(self.rows.gone(rows))
        return found

    def discard(self) -> None:
        for swap in self.swaps:
            discard(self.folder, swap.new)

    def prepare(self) -> None:
        written = {one.id for swap in self.swaps for one in swap.old}
        for name in TABLES:
            old = [one for one in self.concerned if one.table == name and one.id not in written]
            if old:
                self.swaps.append(rewrite(self.folder, name, old, self.rows.kept))

    def swap(self, remover: Remover) -> int | None:
        hot = {name: remover.hot(name, _COLUMNS) for name in TABLES}
        leaving = {
            name: [places[at] for at in self.rows.of_hot(columns)] for name, (places, columns) in hot.items() if places
        }
        if not self.swaps and not any(leaving.values()):
            return None
        at = to_micros(self.clock.now())
        snapshot = remover.begin(at, "thin")
        for name, places in leaving.items():
            if places:
                remover.remove_hot(name, places, {})
                remover.touch(name)
        for swap in self.swaps:
            if not remover.swap(swap.table, [one.id for one in swap.old], swap.new, at):
                raise StoreBusy(f"segments of {swap.table} went meanwhile", hint="try again")
            remover.touch(swap.table)
        remover.end_before(snapshot, TABLE)
        name = MARK + self.rows.product
        before = Extent.from_mark(self.catalog.mark(name, snapshot))
        lead = timedelta(microseconds=self.rows.lead)
        remover.set_mark(name, Extent(leads_from=lead, valid_upto=from_micros(self.gone.upto)).with_(before).mark())
        return snapshot
