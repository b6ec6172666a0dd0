"""From the rows as a source wrote them to rows that can be stored, and what became of the others.

Whole batches at a time, in NumPy; only the distinct ids are looked at one by one. A row is never changed in silence:
what a rule of the source decided is counted by series, what no rule decides is a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fleet.config.inputs import Stamps
from fleet.errors import SeriesInvalid
from fleet.ingest.faults import SAID, Fault, FaultArray
from fleet.ingest.readings import ABSENT, Batch, FloatArray
from fleet.ingest.stamps import EARLIEST, LATEST, BoolArray, ends_of, localized, off_grid, starts_of
from fleet.zones import IntArray
from store.errors import InvalidId
from store.ids import check_asset_id

Step = tuple[str, str]
"""A step and the clock it walks on."""
Change = Callable[[IntArray, Step], IntArray]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rules:
    """What holds for the rows of one batch.

    Args:
        stamps: the source's section.
        steps: by series, its step and its clock.
        grid: whether a row must lie on the grid of its series.
        known: by series, an instant that is stored, -1 where nothing is; only with `grid`.
    """

    stamps: Stamps
    steps: Sequence[Step]
    grid: bool
    known: IntArray


@dataclass(slots=True, kw_only=True, eq=False)
class Clean:
    """Rows that can be stored, sorted by series, time and availability.

    Args:
        codes: (rows,) place in `keys`.
        starts: (rows,) start of the interval, UTC microseconds.
        available: (rows,) when the value was known, UTC microseconds.
        counts: what the source's rules decided, by name: (series,) rows.
    """

    keys: list[str | None]
    codes: IntArray
    starts: IntArray
    available: IntArray
    values: list[FloatArray]
    counts: dict[str, IntArray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.codes)

    def begins(self) -> BoolArray:
        """(rows,) Whether a row is the first of its series."""
        return np.append(True, self.codes[1:] != self.codes[:-1])[: len(self)]

    def present(self) -> list[int]:
        """The places in `keys` that have rows, ascending: read off the order, where np.unique would hash every row."""
        found: list[int] = self.codes[self.begins()].tolist()
        return found

    def taken(self, rows: npt.NDArray[np.int64] | BoolArray) -> Clean:
        """Some of the rows, or all in another order."""
        return Clean(
            keys=self.keys,
            codes=self.codes[rows],
            starts=self.starts[rows],
            available=self.available[rows],
            values=[column[rows] for column in self.values],
            counts=self.counts,
        )


def cleaned(batch: Batch, rules: Rules, label: str) -> tuple[Clean, FaultArray]:
    """The rows of a batch that can be stored, and for every row of the batch its fault.

    Raises:
        SeriesInvalid: the times are without a zone and the source names none.
    """
    faults = np.zeros(len(batch), dtype=np.uint8)
    counts: dict[str, IntArray] = {}
    _ids(batch, faults)
    _absent_times(batch, faults)
    starts = _instants(batch, batch.times, batch.zoned, rules, faults, counts, label)
    if rules.stamps.label == "end":
        _by_step(rules.steps, batch.codes, starts, lambda part, step: starts_of(part, *step), faults == Fault.NONE)
    _values(batch, faults)
    available = _available(batch, starts, rules, faults, label)
    clean = Clean(
        keys=batch.keys, codes=batch.codes, starts=starts, available=available, values=batch.values, counts=counts
    )
    _duplicates(clean, rules, faults, revisions=batch.available is not None)
    if rules.grid:
        _grid(clean, rules, faults)
    if (faults != Fault.NONE).any():
        clean = clean.taken(faults == Fault.NONE)
    order = _order(clean)
    return (clean if order is None else clean.taken(order)), _without_dropped(faults)


_DROPPED = 255
"""In place of a fault: one of several equal rows that the rule of the source leaves out."""


def _without_dropped(faults: FaultArray) -> FaultArray:
    return np.where(faults == _DROPPED, np.uint8(Fault.NONE), faults)


def _mark(faults: FaultArray, rows: BoolArray, fault: int) -> None:
    """The first fault of a row stays."""
    if rows.any():
        faults[rows & (faults == Fault.NONE)] = fault


def _ids(batch: Batch, faults: FaultArray) -> None:
    for code, key in enumerate(batch.keys):
        if key is None:
            _mark(faults, batch.codes == code, Fault.NO_ID)
            continue
        try:
            check_asset_id(key)
        except InvalidId:
            _mark(faults, batch.codes == code, Fault.BAD_ID if key else Fault.NO_ID)


def _absent_times(batch: Batch, faults: FaultArray) -> None:
    absent = batch.times == ABSENT
    if absent.any():
        if batch.unread_time is not None:
            said = np.asarray(batch.unread_time.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
            _mark(faults, absent & said, Fault.UNREADABLE_TIME)
        _mark(faults, absent, Fault.NO_TIME)
    _mark(faults, (batch.times < EARLIEST) | (batch.times > LATEST), Fault.OUTSIDE)


def _instants(
    batch: Batch,
    times: IntArray,
    zoned: BoolArray | bool,
    rules: Rules,
    faults: FaultArray,
    counts: dict[str, IntArray],
    label: str,
) -> IntArray:
    """The instants of the times; those that the clock on the wall showed are converted by the rule of the source."""
    if zoned is True:
        return times.copy()
    zone = rules.stamps.timezone
    if zone is None:
        if zoned is False:
            what, hint = SAID[Fault.NO_ZONE]
            raise SeriesInvalid(f"{label}: column {rules.stamps.time}: every row {what}", hint=hint)
        _mark(faults, ~zoned, Fault.NO_ZONE)
        return times.copy()
    instants = times.copy()
    local = faults == Fault.NONE if isinstance(zoned, bool) else (faults == Fault.NONE) & ~zoned
    resolved = np.zeros(len(batch), dtype=bool)
    zones = [zone] if zone != "local" else sorted({tz for _, tz in rules.steps})
    for one in zones:
        rows = local if zone != "local" else local & np.array([tz == one for _, tz in rules.steps])[batch.codes]
        found = localized(times[rows], one, rules.stamps.ambiguous, batch.codes[rows])
        instants[rows], resolved[rows] = found.instants, found.resolved
        for special, fault in ((found.unclear, Fault.AMBIGUOUS), (found.never, Fault.NEVER)):
            if special.any():
                marked = np.zeros(len(batch), dtype=bool)
                marked[np.flatnonzero(rows)[special]] = True
                _mark(faults, marked, fault)
    if resolved.any():
        counts["ambiguous"] = np.bincount(batch.codes[resolved], minlength=len(batch.keys))
    return instants


def _values(batch: Batch, faults: FaultArray) -> None:
    for column, unread in zip(batch.values, batch.unread, strict=True):
        if unread is not None:
            _mark(faults, np.asarray(unread.is_valid().to_numpy(zero_copy_only=False), dtype=bool), Fault.NOT_A_NUMBER)
        _mark(faults, np.isinf(column), Fault.INFINITE)


def _available(batch: Batch, starts: IntArray, rules: Rules, faults: FaultArray, label: str) -> IntArray:
    """When each value was known: what the column says, or the end of the interval and the delay of the source."""
    if batch.available is None:
        ends = starts.copy()
        _by_step(rules.steps, batch.codes, ends, lambda part, step: ends_of(part, *step), faults == Fault.NONE)
        delay = rules.stamps.delay
        return ends if not delay else ends + round(delay.total_seconds() * 1e6)
    times, zoned = batch.available, batch.available_zoned
    _mark(faults, (times == ABSENT) | (times < EARLIEST) | (times > LATEST), Fault.NO_AVAILABLE)
    if zoned is not True:
        # Of a repeated hour the later pass: a value must not seem known an hour before it was; no fault hangs on this.
        later = rules.stamps.model_copy(update={"ambiguous": "second"})
        plain = Rules(stamps=later, steps=rules.steps, grid=False, known=rules.known)
        times = _instants(batch, times, zoned, plain, faults, {}, label)
    published = rules.stamps.publication_delay
    return times + round(published.total_seconds() * 1e6) if published else times


def _duplicates(clean: Clean, rules: Rules, faults: FaultArray, *, revisions: bool) -> None:
    """Rows with the id and time (and, where the source has them, availability) of another one."""
    good = np.flatnonzero(faults == Fault.NONE)
    order = good
    columns = [clean.codes[good], clean.starts[good], *([clean.available[good]] if revisions else [])]
    if not _ascending(columns):
        ranks = np.lexsort(columns[::-1])
        order, columns = good[ranks], [column[ranks] for column in columns]
    same = np.ones(max(len(order) - 1, 0), dtype=bool)
    for column in columns:
        same &= column[1:] == column[:-1]
    if not same.any():
        return
    if rules.stamps.duplicates != "refuse":
        dropped = (order[:-1] if rules.stamps.duplicates == "last" else order[1:])[same]
        faults[dropped] = _DROPPED
        clean.counts["duplicates"] = np.bincount(clean.codes[dropped], minlength=len(clean.keys))
        return
    faults[order[:-1][same]] = Fault.DUPLICATE
    faults[order[1:][same]] = Fault.DUPLICATE


def _grid(clean: Clean, rules: Rules, faults: FaultArray) -> None:
    good = np.flatnonzero(faults == Fault.NONE)
    for (freq, tz), rows in _groups(rules.steps, clean.codes[good]):
        part = good[rows]
        off = off_grid(clean.starts[part], clean.codes[part], freq, tz, rules.known)
        faults[part[off]] = Fault.OFF_GRID


def _order(clean: Clean) -> npt.NDArray[np.int64] | None:
    """The order by series, time and availability; None where it is that already."""
    columns = [clean.codes, clean.starts, clean.available]
    return None if _ascending(columns) else np.lexsort(columns[::-1])


def _ascending(columns: Sequence[IntArray]) -> bool:
    """Whether rows are sorted by the columns, the first one first."""
    if len(columns[0]) < 2:
        return True
    undecided = np.ones(len(columns[0]) - 1, dtype=bool)
    for column in columns:
        left, right = column[:-1], column[1:]
        if (undecided & (left > right)).any():
            return False
        undecided &= left == right
        if not undecided.any():
            break
    return True


def _groups(steps: Sequence[Step], codes: IntArray) -> list[tuple[Step, BoolArray | slice]]:
    """The rows of each step and clock there is."""
    distinct = sorted(set(steps))
    if len(distinct) <= 1:
        return [(step, slice(None)) for step in distinct]
    place = {step: number for number, step in enumerate(distinct)}
    of_row = np.array([place[step] for step in steps], dtype=np.int64)[codes]
    return [(step, of_row == number) for step, number in place.items()]


def _by_step(steps: Sequence[Step], codes: IntArray, times: IntArray, change: Change, good: BoolArray) -> None:
    """Change instants in place, each by its step; those of faulty rows stay, for they may be no instants at all."""
    all_good = bool(good.all())
    for step, rows in _groups(steps, codes):
        if all_good:
            times[rows] = change(times[rows], step)
        else:
            here = good.copy()
            if not isinstance(rows, slice):
                here &= rows
            times[here] = change(times[here], step)
