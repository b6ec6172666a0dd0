"""What the runner checks, not the model: every forecast that comes out, and every history that goes in.

A forecast is refused with the exact reason or passes; crossing quantiles alone are put in order, and marked. A
history is reported on and never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from fleet import calendar
from fleet.errors import BadOutput, MetricUnknown
from fleet.losses import FloatArray
from fleet.metrics import level_of, quantile_column
from fleet.task import Task
from fleet.zones import IntArray

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """A forecast that holds what the task asked.

    Args:
        mean: (horizon,) finite.
        quantiles: level to (horizon,), finite and ascending in the level; empty when the model has none.
        quality: what had to be done: ``crossing_repaired``, ``conformal`` (the quantiles are not the model's own), or
            nothing.
    """

    mean: FloatArray
    quantiles: dict[float, FloatArray]
    quality: tuple[str, ...]


def check_output(frame: pd.DataFrame, task: Task) -> Checked:
    """The forecast of a model, when it lies on the task's grid and is finite; BadOutput with the reason otherwise.

    A model without quantiles passes; one that has some but not all that the task asked for does not.

    Args:
        frame: index ``task.target``; columns ``mean`` and quantiles named by `fleet.metrics.quantile_column`.
        task: what was asked.

    Cost: 20 us.

    >>> task = Task(target=pd.date_range("2024-01-01", periods=2, freq="h", tz="UTC"), freq="1h", quantiles=(0.1, 0.9))
    >>> frame = pd.DataFrame({"mean": [1.0, 2.0], "q10": [0.0, 3.0], "q90": [2.0, 1.0]}, index=task.target)
    >>> check_output(frame, task).quantiles[0.9], check_output(frame, task).quality
    (array([2., 3.]), ('crossing_repaired',))
    """
    if not isinstance(frame, pd.DataFrame):
        raise BadOutput(f"the forecast is a {type(frame).__name__}, not a DataFrame", hint="return task.frame(mean)")
    _check_grid(frame.index, task.target)
    names = frame.columns.to_list()
    levels = _levels(tuple(names), task.quantiles)
    try:
        values: FloatArray = frame.to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as cause:
        raise BadOutput(f"the forecast is not numeric: {cause}") from cause
    if not np.isfinite(values).all():
        raise BadOutput(_not_finite(values, names, task.target))
    mean = values[:, names.index("mean")].copy()  # a model may use its memory again
    if not levels:
        return Checked(mean, {}, ())
    table = values[:, [names.index(name) for name in levels.values()]]
    crossing = bool((table[:, 1:] < table[:, :-1]).any())
    if crossing:
        table = np.sort(table, axis=1)
    quantiles = {level: table[:, place].copy() for place, level in enumerate(levels)}
    return Checked(mean, quantiles, ("crossing_repaired",) if crossing else ())


def _check_grid(index: pd.Index[pd.Timestamp], target: pd.DatetimeIndex) -> None:
    if index is target:
        return
    if len(index) != len(target):
        raise BadOutput(f"the forecast has {len(index)} rows, the task {len(target)} steps")
    if not isinstance(index, pd.DatetimeIndex) or index.tz is None:
        kind = "has no time zone" if isinstance(index, pd.DatetimeIndex) else f"is a {type(index).__name__}"
        raise BadOutput(f"the forecast's index {kind}", hint="its index is task.target")
    wrong = np.flatnonzero(calendar.micros(index) != target.asi8)
    if len(wrong):
        at = int(wrong[0])
        raise BadOutput(f"row {at} of the forecast is for {index[at].isoformat()}, asked was {target[at].isoformat()}")


@lru_cache(maxsize=256)
def _levels(names: tuple[str, ...], asked: tuple[float, ...]) -> dict[float, str]:
    """Level to column, ascending."""
    if len(set(names)) != len(names):
        raise BadOutput(f"the forecast has a column twice: {[*names]}")
    if "mean" not in names:
        raise BadOutput(f"the forecast has no column 'mean', only {[*names]}")
    found: dict[float, str] = {}
    for name in names:
        if name != "mean":
            try:
                found[level_of(name)] = name
            except (MetricUnknown, TypeError) as cause:
                raise BadOutput(
                    f"the forecast's column {name!r} is neither 'mean' nor a quantile such as 'q10'"
                ) from cause
    absent = [quantile_column(level) for level in asked if quantile_column(level) not in names]
    if found and absent:
        raise BadOutput(f"the forecast has the quantiles {list(found.values())} and lacks {absent}")
    return dict(sorted(found.items()))


def _not_finite(values: FloatArray, names: list[str], target: pd.DatetimeIndex) -> str:
    row, column = (int(place[0]) for place in np.nonzero(~np.isfinite(values)))
    count = int((~np.isfinite(values[:, column])).sum())
    at = target[row].isoformat()
    return f"{names[column]} is {values[row, column]} at {at} ({count} of {len(values)} steps not finite)"


FAR_OUT = 10.0
"""How many interquartile ranges beyond the quartiles a reading is called an outlier: gross errors, not peaks."""


def quality_report(table: pa.Table, *, freq: str | Mapping[str, str], tz: str | Mapping[str, str] = "UTC") -> pa.Table:
    """What is odd about each asset's history. It reports; nothing is changed.

    Args:
        table: asset_id, valid_time, y; sorted by asset and time, each instant once.
        freq: the step, for all or by asset.
        tz: the zone, for all or by asset.

    Returns:
        One row per asset, in the order of the table: asset_id; rows; first, last (instants); gaps (stretches of absent
        steps), absent (steps in them), missing (rows whose y is NaN, NULL or infinite), off_grid (rows not on the grid
        of the first one); completeness (finite readings over steps from first to last); longest_flat (steps of the
        longest run of one value) and its flat_value; zeros, negatives (counts); minimum, maximum; outliers (readings
        more than `FAR_OUT` interquartile ranges beyond the quartiles); findings, the names of what holds, joined by +:
        no_data, gaps, missing, off_grid, constant, zero, negative, outliers, flat_line (beyond a day and 24 steps).

    Cost: about 2 s for ten million rows on a quiet machine.

    >>> hours = pa.array([0, 1, 3], pa.int64()).cast(pa.timestamp("s", "UTC"))
    >>> table = pa.table({"asset_id": ["a"] * 3, "valid_time": hours, "y": [1.0, -1.0, None]})
    >>> quality_report(table, freq="1s").select(["rows", "gaps", "missing", "findings"]).to_pylist()
    [{'rows': 3, 'gaps': 1, 'missing': 1, 'findings': 'gaps+missing+negative'}]
    """
    names, starts = _assets(table["asset_id"])
    if not len(names):
        return _REPORT.empty_table()
    stops = np.append(starts[1:], table.num_rows)
    times: IntArray = table["valid_time"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    y: FloatArray = table["y"].cast(pa.float64()).to_numpy()
    finite = np.isfinite(y)
    place, off_grid = _places(times, names, starts, stops, freq, tz)
    columns: _Columns = {"asset_id": names, "rows": stops - starts, "first": times[starts], "last": times[stops - 1]}
    columns["off_grid"] = np.add.reduceat(off_grid, starts, dtype=np.int64)
    columns |= _absences(place, finite, starts, stops) | _runs(y, place, finite, starts)
    columns |= _ranges(y, finite, starts, stops)
    columns["day"] = np.array([max(24.0, 86_400 / calendar.step_seconds(_of(freq, name))) for name in names])
    columns["findings"] = _findings(columns)
    return pa.table(
        [pa.array(columns[field.name], from_pandas=True).cast(field.type) for field in _REPORT], schema=_REPORT
    )


_REPORT = pa.schema(
    [
        ("asset_id", pa.string()),
        ("rows", pa.int64()),
        ("first", pa.timestamp("us", "UTC")),
        ("last", pa.timestamp("us", "UTC")),
        ("gaps", pa.int64()),
        ("absent", pa.int64()),
        ("missing", pa.int64()),
        ("off_grid", pa.int64()),
        ("completeness", pa.float64()),
        ("longest_flat", pa.int64()),
        ("flat_value", pa.float64()),
        ("zeros", pa.int64()),
        ("negatives", pa.int64()),
        ("minimum", pa.float64()),
        ("maximum", pa.float64()),
        ("outliers", pa.int64()),
        ("findings", pa.string()),
    ]
)

_Columns = dict[str, Any]


def _assets(column: pa.ChunkedArray) -> tuple[list[str], IntArray]:
    """The ids in the order of the rows, and where each one's rows begin."""
    if not pa.types.is_dictionary(column.type):
        column = column.cast(pa.string()).dictionary_encode()
    encoded = column.unify_dictionaries().combine_chunks()
    codes = encoded.indices.to_numpy()
    starts = np.flatnonzero(np.append(True, codes[1:] != codes[:-1])[: len(codes)])
    return encoded.take(pa.array(starts)).to_pylist(), starts


def _of(setting: str | Mapping[str, str], name: str) -> str:
    return setting if isinstance(setting, str) else setting[name]


def _places(
    times: IntArray,
    names: Sequence[str],
    starts: IntArray,
    stops: IntArray,
    freq: str | Mapping[str, str],
    tz: str | Mapping[str, str],
) -> tuple[IntArray, BoolArray]:
    """Each row's step, counted from the asset's first; and whether it lies off the grid of that first one."""
    settings = [(_of(freq, name), _of(tz, name)) for name in names]
    origin = np.repeat(times[starts], stops - starts)
    kinds = sorted(set(settings))
    if len(kinds) == 1:
        place, off_grid = _places_of(times, origin, *kinds[0])
    else:
        place, off_grid = np.empty(len(times), dtype=np.int64), np.empty(len(times), dtype=bool)
        number = {kind: code for code, kind in enumerate(kinds)}
        kind_of = np.repeat([number[setting] for setting in settings], stops - starts)
        for kind, code in number.items():
            mine = kind_of == code
            place[mine], off_grid[mine] = _places_of(times[mine], origin[mine], *kind)
    off_grid[starts] = False
    return place, off_grid


def _places_of(times: IntArray, origin: IntArray, freq: str, tz: str) -> tuple[IntArray, BoolArray]:
    place = calendar.positions_micros(times, origin, freq, tz)
    elapsed = calendar.step_of(freq).elapsed
    if elapsed:
        return place, times - origin != place * elapsed
    # on the calendar only a second row in one step can be told from a clock that moved
    return place, np.append(False, place[1:] == place[:-1])


def _absences(place: IntArray, finite: BoolArray, starts: IntArray, stops: IntArray) -> _Columns:
    jump = np.diff(place, prepend=place[:1]) - 1  # below 0 from one asset to the next, whose places begin at 0
    readings = np.add.reduceat(finite, starts, dtype=np.int64)
    return {
        "gaps": np.add.reduceat(jump > 0, starts, dtype=np.int64),
        "absent": np.add.reduceat(np.maximum(jump, 0), starts),
        "missing": stops - starts - readings,
        "completeness": readings / (place[stops - 1] + 1),
    }


def _runs(y: FloatArray, place: IntArray, finite: BoolArray, starts: IntArray) -> _Columns:
    """The longest run of one value on adjacent steps."""
    # an asset begins at place 0, so a run never reaches into the next one
    begins = np.append(True, (y[1:] != y[:-1]) | (place[1:] - place[:-1] != 1))
    heads = np.flatnonzero(begins)
    length = np.diff(heads, append=len(y)) * finite[heads]
    of_asset = np.searchsorted(starts, heads, side="right") - 1
    longest = np.maximum.reduceat(length, np.searchsorted(heads, starts))
    _, where = np.unique(of_asset[length == longest[of_asset]], return_index=True)
    value = y[heads[length == longest[of_asset]][where]]
    return {"longest_flat": longest, "flat_value": np.where(longest > 0, value, np.nan)}


def _ranges(y: FloatArray, finite: BoolArray, starts: IntArray, stops: IntArray) -> _Columns:
    known = y if finite.all() else np.where(finite, y, np.nan)
    return {
        "zeros": np.add.reduceat(known == 0, starts, dtype=np.int64),
        "negatives": np.add.reduceat(known < 0, starts, dtype=np.int64),
        "minimum": np.fmin.reduceat(known, starts),
        "maximum": np.fmax.reduceat(known, starts),
        "outliers": np.array([_outliers(known[a:b]) for a, b in zip(starts, stops, strict=True)], dtype=np.int64),
    }


def _outliers(values: FloatArray) -> int:
    values = values[~np.isnan(values)]
    if len(values) < 4:
        return 0
    low, high = len(values) // 4, (3 * len(values)) // 4
    parted = np.partition(values, [low, high])
    reach = FAR_OUT * (parted[high] - parted[low])
    if not reach:
        return 0
    return int(((values < parted[low] - reach) | (values > parted[high] + reach)).sum())


_FINDINGS: Mapping[str, Callable[[_Columns], BoolArray]] = {
    "no_data": lambda c: c["missing"] == c["rows"],
    "gaps": lambda c: c["gaps"] > 0,
    "missing": lambda c: c["missing"] > 0,
    "off_grid": lambda c: c["off_grid"] > 0,
    "constant": lambda c: (c["minimum"] == c["maximum"]) & (c["rows"] - c["missing"] > 1),
    "zero": lambda c: (c["minimum"] == 0) & (c["maximum"] == 0),
    "negative": lambda c: c["negatives"] > 0,
    "flat_line": lambda c: (c["longest_flat"] > c["day"]) & (c["minimum"] != c["maximum"]),
    "outliers": lambda c: c["outliers"] > 0,
}


def _findings(columns: _Columns) -> list[str]:
    """The names of what holds for each asset, joined by +."""
    holds = {name: rule(columns) for name, rule in _FINDINGS.items()}
    return ["+".join(name for name, flags in holds.items() if flags[place]) for place in range(len(columns["rows"]))]
