"""Forecasts beside their actuals, summed into the cells of the ``scores`` table.

A cell is one asset, product, recipe, version, role and truth on one local day in one lead bucket. It holds sums, so any
window, group or lead is re-aggregated exactly; `fleet.metrics.evaluate` turns sums into values. A cell depends on its
own points alone and is summed in the order (issue time, valid time): equal points give equal bits, in any company.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from fleet import calendar
from fleet.losses import FloatArray, covered_terms, pinball_terms, smape_terms, winkler_terms
from fleet.metrics import interval_suffix, intervals_of, quantile_column
from fleet.zones import IntArray

IDENTITY: tuple[str, ...] = (
    "asset_id", "product", "recipe", "recipe_hash", "version_id", "role", "truth", "perfect_foresight",
)  # fmt: skip
"""What, besides the day and the lead bucket, tells cells apart."""

SUMS: tuple[str, ...] = ("n", "sum_e", "sum_abs_e", "sum_sq_e", "sum_abs_y", "sum_smape", "sum_nmae_cap", "n_cap")
"""The columns of every cell that add up."""

LEAD_BUCKETS: tuple[str, ...] = ("0-1h", "1-6h", "6-24h", "1-2d", "2-7d", "7d+")
"""Labels of the lead, valid time minus issue time; the lower end belongs to the bucket."""

_HOUR = 3600 * 1_000_000
_BUCKET_STARTS = np.array([1, 6, 24, 48, 168], dtype=np.int64) * _HOUR


def dynamic_columns(levels: Sequence[float]) -> tuple[str, ...]:
    """The columns that add up beside `SUMS` when forecasts have these quantiles, in the order of the table.

    >>> dynamic_columns((0.1, 0.9))
    ('n_q', 'pinball_sum_q10', 'pinball_sum_q90', 'covered_80', 'width_sum_80', 'winkler_sum_80')
    """
    quantiles = [f"pinball_sum_{quantile_column(level)}" for level in sorted(levels)]
    shares = [interval_suffix(share) for share in intervals_of(tuple(levels))]
    of_shares = (f"{kind}_{share}" for share in shares for kind in ("covered", "width_sum", "winkler_sum"))
    return (*(("n_q",) if quantiles else ()), *quantiles, *of_shares)


def cells_schema(levels: Sequence[float]) -> pa.Schema:
    """The columns of `score_cells`, those of ``scores`` in the store.

    >>> cells_schema(()).names[-4:]
    ['sum_smape', 'sum_nmae_cap', 'n_cap', 'actuals_v']
    """
    text = [pa.field(name, pa.string()) for name in IDENTITY[:-1]]
    key = [
        pa.field("perfect_foresight", pa.bool_()),
        pa.field("day", pa.date32()),
        pa.field("lead_bucket", pa.string()),
    ]
    counted = [pa.field("n", pa.int64()), pa.field("points", pa.string())]
    summed = [pa.field(name, pa.float64()) for name in SUMS[1:-1]]
    dynamic = [pa.field(name, pa.float64()) for name in dynamic_columns(levels)]
    ends = pa.field("n_cap", pa.int64()), pa.field("actuals_v", pa.int64())
    return pa.schema([*text, *key, *counted, *summed, ends[0], *dynamic, ends[1]])


def buckets_from(lead: timedelta) -> tuple[str, ...]:
    """The buckets that hold leads of so long or longer.

    >>> buckets_from(timedelta(days=2)), buckets_from(timedelta(hours=30))
    (('2-7d', '7d+'), ('1-2d', '2-7d', '7d+'))
    """
    ends = [*(timedelta(microseconds=int(start)) for start in _BUCKET_STARTS), timedelta.max]
    return tuple(label for label, end in zip(LEAD_BUCKETS, ends, strict=True) if end > lead)


def lead_bucket(leads: npt.NDArray[np.timedelta64] | IntArray) -> npt.NDArray[np.object_]:
    """The label of each lead; a valid time before the issue counts as the first bucket.

    Args:
        leads: valid time minus issue time, as timedelta64 or in microseconds.

    >>> lead_bucket(np.array([0, 1, 24, 200], dtype="m8[h]")).tolist()
    ['0-1h', '1-6h', '1-2d', '7d+']
    """
    whole: IntArray = leads.astype("m8[us]").astype(np.int64) if leads.dtype.kind == "m" else leads.astype(np.int64)
    return np.array(LEAD_BUCKETS, dtype=object)[_bucket(whole)]


def _bucket(leads: IntArray) -> IntArray:
    return np.searchsorted(_BUCKET_STARTS, leads, side="right")


def score_cells(rows: pa.Table, *, levels: tuple[float, ...]) -> pa.Table:
    """The cells of forecasts whose actuals are known.

    Args:
        rows: one forecast point per row, in any order: the columns of `IDENTITY` (text, plain or dictionary-encoded;
            ``perfect_foresight`` bool), issue_time, valid_time, day (local date), mean, the quantile columns of
            ``levels`` as far as present, y, capacity (nullable), actuals_v. Rows whose y is NULL or NaN are left out.
        levels: quantile levels to sum for.

    Returns:
        One row per cell in the form of `cells_schema`, sorted by its key (`IDENTITY`, day, lead). ``points``
        fingerprints the set of (issue, valid) pairs: equal text, equal set. ``actuals_v`` is the newest in the cell.
        ``n_q`` counts the points with quantiles, over which their sums go: a point without any is left out of them. A
        quantile's sums are NULL in a cell where no point has it and NaN where only some have that have others; a
        missing mean makes the sums that need it NaN.

    Cost: about half a second for a million rows.
    """
    rows = _with_actuals(rows)
    schema = cells_schema(levels)
    if not rows.num_rows:
        return schema.empty_table()
    issue, valid = _integers(rows["issue_time"]), _integers(rows["valid_time"])
    day, bucket = rows["day"].cast(pa.date32()).cast(pa.int32()).to_numpy().astype(np.int64), _bucket(valid - issue)
    identity, member = _identities(rows)
    order, starts = _cells(identity, day, bucket, issue, valid)
    first = order[starts]
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        name: rows[name].take(pa.array(member[identity[first]])) for name in IDENTITY
    }
    columns["day"] = pa.array(day[first].view("M8[D]"))
    columns["lead_bucket"] = pa.array(np.array(LEAD_BUCKETS, dtype=object)[bucket[first]], pa.string())
    columns["points"] = _fingerprints(issue[order], valid[order], starts)
    columns |= _sums(rows, order, starts)
    columns |= _quantile_sums(rows, order, starts, levels)
    columns["actuals_v"] = pa.array(np.maximum.reduceat(_integers(rows["actuals_v"])[order], starts))
    return pa.table([columns[field.name].cast(field.type) for field in schema], schema=schema)


def _with_actuals(rows: pa.Table) -> pa.Table:
    known = ~np.isnan(_floats(rows["y"]))
    return rows if known.all() else rows.filter(pa.array(known))


def _floats(column: pa.ChunkedArray) -> FloatArray:
    values: FloatArray = column.cast(pa.float64()).to_numpy()
    return values


def _integers(column: pa.ChunkedArray) -> IntArray:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz))
    values: IntArray = column.cast(pa.int64()).fill_null(0).to_numpy()
    return values


def _ranks(column: pa.ChunkedArray) -> IntArray:
    """A number for each value, in the order of the values; 0 is NULL."""
    if pa.types.is_boolean(column.type):
        flags: IntArray = column.cast(pa.int64()).fill_null(-1).to_numpy() + 1
        return flags
    if not pa.types.is_dictionary(column.type):
        column = column.cast(pa.string()).dictionary_encode()
    encoded = column.unify_dictionaries().combine_chunks()
    words = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)[:-1]
    # values that a dictionary holds twice are one value
    rank_of = {word: rank for rank, word in enumerate(sorted({word for word in words if word is not None}), start=1)}
    ranks = np.array([rank_of.get(word, 0) for word in words] + [0], dtype=np.int64)
    codes: IntArray = encoded.indices.cast(pa.int64()).fill_null(len(words)).to_numpy()
    return ranks[codes]


def _identities(rows: pa.Table) -> tuple[IntArray, IntArray]:
    """The number of each row's identity, in the order of `IDENTITY`; and a row that has each identity."""
    ranks = [_ranks(rows[name]) for name in IDENTITY]
    changed = np.zeros(rows.num_rows, dtype=bool)
    changed[0] = True
    for rank in ranks:
        changed[1:] |= rank[1:] != rank[:-1]
    # rows of one identity come in long runs, so only the first of each run is sorted
    heads = np.flatnonzero(changed)
    keys = [rank[heads] for rank in ranks]
    order = np.lexsort(keys[::-1])
    new = np.zeros(len(heads), dtype=bool)
    for key in keys:
        new[1:] |= key[order][1:] != key[order][:-1]
    number = np.empty(len(heads), dtype=np.int64)
    number[order] = np.cumsum(new)
    member = np.empty(int(number.max()) + 1, dtype=np.int64)
    member[number] = heads
    return number[np.cumsum(changed) - 1], member


def _cells(
    identity: IntArray, day: IntArray, bucket: IntArray, issue: IntArray, valid: IntArray
) -> tuple[IntArray, IntArray]:
    """The order (cell, issue, valid) of the rows, and where in it each cell starts."""
    since = day - day.min()
    cell = (identity * (int(since.max()) + 1) + since) * len(LEAD_BUCKETS) + bucket
    order = np.lexsort((valid, issue, cell))
    sorted_cell = cell[order]
    return order, np.flatnonzero(np.concatenate([[True], sorted_cell[1:] != sorted_cell[:-1]]))


def _sums(rows: pa.Table, order: IntArray, starts: IntArray) -> dict[str, pa.Array]:
    actual, mean = _floats(rows["y"])[order], _floats(rows["mean"])[order]
    capacity = _floats(rows["capacity"])[order]
    error = mean - actual
    size = np.abs(error)
    has_capacity = np.isfinite(capacity) & (capacity > 0)
    terms = {
        "sum_e": error,
        "sum_abs_e": size,
        "sum_sq_e": error * error,
        "sum_abs_y": np.abs(actual),
        "sum_smape": smape_terms(actual, mean),
        "sum_nmae_cap": np.divide(size, capacity, out=np.zeros(len(size)), where=has_capacity),
        "n_cap": has_capacity.astype(np.int64),
    }
    sums = {name: pa.array(np.add.reduceat(term, starts)) for name, term in terms.items()}
    return {"n": pa.array(np.diff(starts, append=len(order))), **sums}


def _quantile_sums(rows: pa.Table, order: IntArray, starts: IntArray, levels: Sequence[float]) -> dict[str, pa.Array]:
    names = {level: quantile_column(level) for level in levels}
    absent = np.full(len(order), np.nan)
    found = {level: _floats(rows[q])[order] if q in rows.column_names else absent for level, q in names.items()}
    actual = _floats(rows["y"])[order]
    if not levels:
        return {}
    bare = np.logical_and.reduce([np.isnan(values) for values in found.values()])

    sums = {"n_q": pa.array(np.add.reduceat(~bare, starts, dtype=np.int64))}
    sums |= {
        f"pinball_sum_{names[level]}": _sum_or_null(pinball_terms(actual, found[level], level), bare, starts)
        for level in levels
    }
    for share, (low, high) in intervals_of(tuple(levels)).items():
        lower, upper, tail = found[low], found[high], interval_suffix(share)
        sums[f"covered_{tail}"] = _sum_or_null(covered_terms(actual, lower, upper), bare, starts)
        sums[f"width_sum_{tail}"] = _sum_or_null(upper - lower, bare, starts)
        sums[f"winkler_sum_{tail}"] = _sum_or_null(winkler_terms(actual, lower, upper, share), bare, starts)
    return sums


def _sum_or_null(terms: FloatArray, bare: npt.NDArray[np.bool_], starts: IntArray) -> pa.Array:
    """The sums of the cells over the points that are not bare of quantiles; NULL where none has this one."""
    sums = np.add.reduceat(np.where(bare, 0.0, terms), starts)
    if not (bare.any() or np.isnan(sums).any()):
        return pa.array(sums)
    none = ~np.logical_or.reduceat(~np.isnan(terms), starts)
    return pa.array(sums, mask=none)


def _fingerprints(issue: IntArray, valid: IntArray, starts: IntArray) -> pa.Array:
    """16 hexadecimal digits: the sum, modulo 2**64, of a hash of each pair, so that no order matters."""
    pairs = _mixed(_mixed(issue.view(np.uint64)) ^ valid.view(np.uint64))
    totals = np.add.reduceat(pairs, starts)
    digits = totals.astype(">u8").tobytes().hex().encode()
    places = np.arange(len(totals) + 1, dtype=np.int32) * 16
    return pa.StringArray.from_buffers(len(totals), pa.py_buffer(places), pa.py_buffer(digits))


def _mixed(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Each word hashed to 64 bits by SplitMix64 (Steele, Lea & Flood 2014)."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def seasonal_scale(y: FloatArray, times: pd.DatetimeIndex, season: int, freq: str, tz: str) -> tuple[float, float]:
    """What mase and rmsse divide by: the mean absolute and the mean **squared** seasonal-naive step of a history.

    Args:
        y: (steps,) the history, NaN where a reading is missing; pairs with a missing end are left out.
        times: (steps,) its instants, on the regular grid.
        season: in steps; whole days mean the same local time.
        freq: the step.
        tz: the zone of the local time.

    Returns:
        scale_abs in the unit of y, scale_sq in its square; both NaN when there is no pair.

    Source: Hyndman & Koehler (2006), in-sample.

    >>> hours = pd.date_range("2024-01-01", periods=4, freq="h", tz="UTC")
    >>> seasonal_scale(np.array([1.0, 2.0, 4.0, 8.0]), hours, 2, "1h", "UTC")
    (4.5, 22.5)
    """
    return seasonal_scale_micros(y, calendar.micros(times), season, freq, tz)


def seasonal_scale_micros(y: FloatArray, times: IntArray, season: int, freq: str, tz: str) -> tuple[float, float]:
    """`seasonal_scale` on instants given as microseconds."""
    if not len(times):
        return float("nan"), float("nan")
    if calendar.positions_micros(times[-1:], times[:1], freq, tz)[0] == len(times) - 1:
        later, earlier = calendar.pairs(int(times[0]), len(times), season, freq, tz)
        steps = y[later] - y[earlier]
    else:  # rows are absent
        steps = y - calendar.lagged_micros(y, times, times, season, freq, tz)
    if np.isnan(steps).any():
        steps = steps[~np.isnan(steps)]
    if not len(steps):
        return float("nan"), float("nan")
    return float(np.abs(steps).mean()), float((steps * steps).mean())
