"""The rows of many assets in one memory-mapped block, and what of them is known at an issue time.

The driver writes a `Panel` once per batch; workers map it and slice it, so no asset costs a query or a copy.
`History` is the one place where "issue time t knows every row with available_at <= t and nothing else" is carried
out; models, scores and fingerprints all read through it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, reduce
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from fleet import calendar
from fleet.task import FloatArray, IntArray
from fleet.vintages import as_of

COLUMNS = ("valid_time", "value", "available_at", "version")
_RECENT = 64


class Span(NamedTuple):
    """Half-open range of rows of a panel."""

    start: int
    stop: int


class Rows(NamedTuple):
    """Rows of one series: instants in UTC microseconds, sorted by (valid_time, available_at, version)."""

    valid_time: IntArray
    value: FloatArray
    available_at: IntArray
    version: IntArray

    def part(self, which: slice | npt.NDArray[np.bool_] | IntArray) -> Rows:
        """The same columns, cut or filtered alike."""
        return Rows(self.valid_time[which], self.value[which], self.available_at[which], self.version[which])


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Rows of many series, one after another; pickles as the path of its file.

    Args:
        path: an uncompressed Arrow file, or None while the panel stays in this process.
        rows: the columns, only when `path` is None.
    """

    path: str | None
    rows: Rows | None = None

    def slice(self, span: Span) -> Rows:
        """The rows of one series, without a copy."""
        rows = self.rows if self.rows is not None else _mapped(str(self.path))
        return rows.part(slice(span.start, span.stop))


@lru_cache(maxsize=4)
def _mapped(path: str) -> Rows:
    with pa.memory_map(path) as source:
        table = pa.ipc.open_file(source).read_all()
    return Rows(*(table.column(name).chunk(0).to_numpy() for name in COLUMNS))


def panel_of(table: pa.Table, value: str, path: Path | None) -> Panel:
    """A panel from a sorted table of the store with valid_time, `value`, available_at and _v.

    Args:
        table: rows in the order of the series, then valid_time, available_at, _v.
        value: name of the value column; NULL becomes NaN.
        path: where to write the Arrow file; None keeps the panel in this process.
    """
    rows = Rows(
        instants(table["valid_time"]),
        table[value].cast(pa.float64()).to_numpy(),
        instants(table["available_at"]),
        table["_v"].cast(pa.int64()).to_numpy(),
    )
    if path is None:
        return Panel(path=None, rows=rows)
    block = pa.table(dict(zip(COLUMNS, rows, strict=True)))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, block.schema) as writer:
        writer.write_table(block.combine_chunks())
    return Panel(path=str(path))


def instants(column: pa.ChunkedArray) -> IntArray:
    """A timestamp column as UTC microseconds."""
    times: IntArray = column.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    return times


def spans(keys: Sequence[pa.ChunkedArray]) -> dict[tuple[str, ...], Span]:
    """Where each key begins and ends in sorted key columns.

    >>> spans([pa.chunked_array([["a", "a", "b"]])])
    {('a',): Span(start=0, stop=2), ('b',): Span(start=2, stop=3)}
    """
    if not len(keys[0]):
        return {}
    # Neighbours are compared and no text is looked up: a third of the time of a dictionary.
    runs = [pc.run_end_encode(column.cast(pa.string()).combine_chunks()) for column in keys]
    stops = [run.run_ends.to_numpy() for run in runs]
    ends = reduce(np.union1d, stops)
    names = [
        run.values.take(pa.array(np.searchsorted(at, ends))).to_pylist() for run, at in zip(runs, stops, strict=True)
    ]
    starts = [0, *ends[:-1].tolist()]
    return {
        key: Span(a, b) for *parts, a, b in zip(*names, starts, ends.tolist(), strict=True) for key in [tuple(parts)]
    }


EVER = (-(2**62), 2**62)
"""Instants before and after all others, UTC microseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Covariate:
    """One covariate of one asset, or one of the series that it is the weighted mean of.

    Args:
        name: column name in X.
        span: its rows in the covariate panel.
        foresight: True uses values ahead of the issue time although the source has no vintages.
        vintages: it is a forecast that says when each value was known, so that a row of the past is shown what was
            known at its own issue time (see `fleet.vintages`).
        outside: the recipe whose forecasts it is, where somebody else made them; only who asks for it sees it.
        weight: among those of one name; None where it is the only one.
        since, until: the instants (UTC microseconds, half-open) at which it counts.
    """

    name: str
    span: Span
    foresight: bool
    vintages: bool = False
    outside: str = ""
    weight: float | None = None
    since: int = EVER[0]
    until: int = EVER[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetRows:
    """Where one asset's rows lie, and its facts.

    Args:
        capacities: (UTC microseconds from which it holds, capacity; NaN where none is known), in order of time.
        unscored: from when to before when readings are not scored, UTC microseconds.
    """

    asset_id: str
    span: Span
    covariates: tuple[Covariate, ...] = ()
    static: Mapping[str, object] = field(default_factory=dict)
    capacities: tuple[tuple[int, float], ...] = ()
    unscored: tuple[tuple[int, int], ...] = ()


class History:
    """One series on its regular grid, and what of it is known at any instant.

    Cost: some 50 microseconds for 1,000 steps without gaps or revisions; known_at is then a slice.

    >>> hours = np.arange(3, dtype=np.int64) * 3_600_000_000
    >>> rows = Rows(hours, np.array([1.0, 2.0, 3.0]), hours + 3_600_000_000, np.ones(3, dtype=np.int64))
    >>> History(rows, "1h", "UTC").known_at(2 * 3_600_000_000).to_list()
    [1.0, 2.0]
    """

    def __init__(self, rows: Rows, freq: str, tz: str) -> None:
        self.rows, self.freq, self.tz = rows, freq, tz
        self._revised = bool((rows.valid_time[1:] == rows.valid_time[:-1]).any())
        current = newest(rows) if self._revised else rows
        self.times, self.values, place = self._on_grid(current)
        available = current.available_at
        self._in_order = not self._revised and bool((available[1:] >= available[:-1]).all())
        # A missing step is known with the row after it, so no history ends in a gap that nobody could know of yet.
        gaps = len(available) < len(self.times)
        self._available = available[np.searchsorted(place, np.arange(len(self.times)))] if gaps else available

    def known_at(self, issue: int, window_us: int | None = None) -> pd.Series[float]:
        """The readings known at an issue time, on the regular grid, through the last known step.

        Args:
            issue: UTC microseconds.
            window_us: leave out what is older than this before the issue time.
        """
        if not self._in_order:
            values, times = self.known_arrays(issue)
            first = 0 if window_us is None else int(np.searchsorted(times.asi8, issue - window_us))
            return pd.Series(values[first:], index=times[first:], copy=False)
        stop = int(np.searchsorted(self._available, issue, side="right"))
        first = 0 if window_us is None else int(np.searchsorted(self.times.asi8[:stop], issue - window_us))
        # A slice is a new index: a model that names it, or gives it a frequency, changes nothing for the next one.
        return pd.Series(self.values[first:stop], index=self.times[first:stop], copy=False)

    def known_arrays(self, issue: int) -> tuple[FloatArray, pd.DatetimeIndex]:
        """(values, instants) of `known_at`, without the window."""
        if self._in_order:
            stop = int(np.searchsorted(self._available, issue, side="right"))
            return self.values[:stop], self.times[:stop]
        times, values, _ = self._on_grid(newest(self.rows.part(self.rows.available_at <= issue)))
        return values, times

    @property
    def anchor(self) -> int | None:
        """A step of the grid, the same for all series of one phase; None without rows. UTC microseconds."""
        if not len(self.times):
            return None
        first = int(self.times.asi8[0])
        elapsed = calendar.step_of(self.freq).elapsed
        return first % elapsed if elapsed else first

    def truth(self, at: IntArray) -> tuple[FloatArray, IntArray]:
        """The newest reading at each instant (UTC microseconds), NaN where there is none, and the commit it is of."""
        rows = self.rows
        if self._revised:
            told = rows.version >= 0  # what is less is a mask, which `AssetRows.unscored` is about
            rows = newest(rows if told.all() else rows.part(told))
        if not len(rows.valid_time):
            return np.full(len(at), np.nan), np.zeros(len(at), dtype=np.int64)
        place = np.minimum(np.searchsorted(rows.valid_time, at), len(rows.valid_time) - 1)
        found = rows.valid_time[place] == at
        return np.where(found, rows.value[place], np.nan), np.where(found, rows.version[place], 0)

    def readings(self, at: IntArray, issue: int) -> FloatArray:
        """What is known at an issue time of the readings at these instants (UTC microseconds), NaN where nothing is."""
        if not len(at):
            return np.empty(0)
        low, high = np.searchsorted(self.rows.valid_time, [at.min(), at.max() + 1]).tolist()
        rows = self.rows.part(slice(low, high))
        rows = newest(rows.part(rows.available_at <= issue))
        if not len(rows.valid_time):
            return np.full(len(at), np.nan)
        place = np.minimum(np.searchsorted(rows.valid_time, at), len(rows.valid_time) - 1)
        return np.where(rows.valid_time[place] == at, rows.value[place], np.nan)

    @property
    def last_reading_end(self) -> int | None:
        """End of the interval of the last finite reading, of the last row where none is finite; None without rows.

        UTC microseconds.
        """
        if not len(self.times):
            return None
        finite = np.flatnonzero(np.isfinite(self.values[-_RECENT:]))
        if not len(finite):
            finite = np.flatnonzero(np.isfinite(self.values)) - max(0, len(self.values) - _RECENT)
        last = max(0, len(self.values) - _RECENT) + int(finite[-1]) if len(finite) else len(self.times) - 1
        return interval_end(int(self.times.asi8[last]), self.freq, self.tz)

    def _on_grid(self, rows: Rows) -> tuple[pd.DatetimeIndex, FloatArray, IntArray]:
        """The full regular grid, the values on it with NaN for a missing step, and the place of each row."""
        if not len(rows.valid_time):
            return calendar.from_micros(rows.valid_time), rows.value, rows.valid_time
        place = calendar.positions_micros(rows.valid_time, rows.valid_time[:1], self.freq, self.tz)
        count = int(place[-1]) + 1
        grid = steps(int(rows.valid_time[0]), count, self.freq, self.tz)
        if count == len(place) and bool((place[1:] > place[:-1]).all()):
            return grid, rows.value, place
        values = np.full(count, np.nan)
        values[place] = rows.value
        return grid, values, place


@lru_cache(maxsize=4096)
def interval_end(start: int, freq: str, tz: str) -> int:
    """When the interval that begins at `start` ends; both UTC microseconds."""
    end = calendar.interval_end(calendar.from_micros(np.array([start])), freq, tz)
    return int(calendar.micros(end)[0])


@lru_cache(maxsize=1024)
def steps(first: int, count: int, freq: str, tz: str) -> pd.DatetimeIndex:
    """So many steps from an instant in microseconds; shared, since most assets of a fleet lie on the same ones."""
    return calendar.grid(pd.Timestamp(first, unit="us", tz="UTC"), count, freq, tz)


def newest(rows: Rows) -> Rows:
    """The last row of each instant, by (available_at, version)."""
    return rows.part(np.append(rows.valid_time[1:] != rows.valid_time[:-1], True)[: len(rows.valid_time)])


def covariate_frame(
    panel: Panel, covariates: Sequence[Covariate], index: pd.DatetimeIndex, issue: int, own: IntArray | None = None
) -> pd.DataFrame | None:
    """The covariates of one asset as known at an issue time, one row per step of `index`, NaN where unknown.

    Args:
        own: (steps,) the own issue time of each step, at or before the issue, for covariates with vintages; None shows
            all steps what was known at the issue.
    """
    if not covariates:
        return None
    wanted = index.asi8
    columns: dict[str, FloatArray] = {}
    weights: dict[str, FloatArray] = {}
    for covariate in covariates:
        column = _column(panel, covariate, wanted, issue, own)
        if covariate.weight is None:
            columns[covariate.name] = column
            continue
        # Of several series the weighted mean; it is known where all are that count at the instant.
        mine = (wanted >= covariate.since) & (wanted < covariate.until)
        sums = columns.setdefault(covariate.name, np.zeros(len(wanted)))
        sums[mine] += covariate.weight * column[mine]
        weights.setdefault(covariate.name, np.zeros(len(wanted)))[mine] += covariate.weight
    for name, weight in weights.items():
        columns[name] = np.divide(columns[name], weight, out=np.full(len(wanted), np.nan), where=weight > 0)
    return pd.DataFrame(columns, index=index)


def _column(panel: Panel, covariate: Covariate, wanted: IntArray, issue: int, own: IntArray | None) -> FloatArray:
    rows = shown(panel, covariate, wanted, issue, own)
    column = np.full(len(wanted), np.nan)
    if len(rows.valid_time):
        place = np.minimum(np.searchsorted(rows.valid_time, wanted), len(rows.valid_time) - 1)
        found = rows.valid_time[place] == wanted
        column[found] = rows.value[place[found]]
    return column


def shown(panel: Panel, covariate: Covariate, wanted: IntArray, issue: int, own: IntArray | None = None) -> Rows:
    """The rows of a covariate that an issue is shown, one for each instant that there is a row of.

    Args:
        wanted: the steps asked for, UTC microseconds, ascending; with vintages no row of another instant is shown.
        issue: UTC microseconds.
        own: (steps,) as in `covariate_frame`.
    """
    rows = panel.slice(covariate.span)
    if covariate.foresight:
        return newest(rows)
    if not covariate.vintages or not len(wanted):
        return newest(rows.part(rows.available_at <= issue))
    low, high = np.searchsorted(rows.valid_time, [wanted[0], wanted[-1] + 1]).tolist()
    rows = rows.part(slice(low, high))
    place = np.minimum(np.searchsorted(wanted, rows.valid_time), len(wanted) - 1)
    # A vintage without a value says nothing about its instant.
    known = (rows.available_at <= issue) & (wanted[place] == rows.valid_time) & np.isfinite(rows.value)
    rows, place = rows.part(known), place[known]
    limit = np.full(len(place), issue, dtype=np.int64) if own is None else own[place]
    return rows.part(as_of(rows.valid_time, rows.available_at, limit))


def digest(rows: Rows) -> str:
    """A hash of what a model could see in these rows: instants, values, availability."""
    state = hashlib.blake2b(digest_size=16)
    for column in (rows.valid_time, rows.value, rows.available_at):
        state.update(np.ascontiguousarray(column).view(np.uint8).data)
    return state.hexdigest()
