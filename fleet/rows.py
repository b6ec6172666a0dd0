"""Forecasts of many assets as one Arrow table: blocks of arrays go in, the store's `forecasts` rows come out.

No pandas and no loop over steps: each block is one asset, recipe and set of issues; columns are repeated and joined
once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fleet import calendar
from fleet.metrics import quantile_column
from fleet.task import FloatArray, IntArray

UTC = pa.timestamp("us", "UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Forecasts of one version for one asset, all steps of all its issues one after another.

    Args:
        issue_time, valid_time: (rows,) UTC microseconds.
        step: (rows,) 1, 2, ... within each issue.
        mean: (rows,) in the asset's unit.
        quantiles: level to (rows,).
        capacity: (rows,) of the asset at valid time, NaN where unknown; None where it never was.
        truth: (rows,) what happened, NaN where unknown; None for an issue into the future.
        truth_version: (rows,) snapshot that brought the truth.
        gate: UTC microseconds until which a live forecast counts; None where it always does.
    """

    asset_id: str
    product: str
    recipe: str
    recipe_hash: str
    version_id: str
    run_id: str
    role: str
    quality: str
    tz: str
    issue_time: IntArray
    valid_time: IntArray
    step: IntArray
    mean: FloatArray
    quantiles: Mapping[float, FloatArray]
    foresight: bool = False
    capacity: FloatArray | None = None
    truth: FloatArray | None = None
    truth_version: IntArray | None = None
    gate: int | None = None


_LABELS = ("asset_id", "product", "recipe", "recipe_hash", "version_id", "run_id", "role", "quality")


def forecasts(blocks: Sequence[Block]) -> pa.Table:
    """The `forecasts` rows of blocks, without created_at; with the column `gate` where there is one (`fleet.gate`)."""
    sizes = np.array([len(block.mean) for block in blocks])
    columns: dict[str, pa.Array] = {
        name: _repeated([getattr(block, name) for block in blocks], sizes) for name in _LABELS
    }
    columns["issue_time"] = pa.array(_joined([block.issue_time for block in blocks])).cast(UTC)
    columns["valid_time"] = pa.array(_joined([block.valid_time for block in blocks])).cast(UTC)
    columns["step"] = pa.array(_joined([block.step for block in blocks]))
    columns["mean"] = pa.array(np.concatenate([block.mean for block in blocks]))
    for level in sorted({level for block in blocks for level in block.quantiles}):
        values = [block.quantiles.get(level) for block in blocks]
        absent = np.repeat([value is None for value in values], sizes)
        filled = [np.zeros(size) if value is None else value for value, size in zip(values, sizes, strict=True)]
        columns[quantile_column(level)] = pa.array(np.concatenate(filled), mask=absent)
    if any(block.gate is not None for block in blocks):
        gates = pa.array([block.gate for block in blocks], pa.int64())
        columns["gate"] = gates.take(pa.array(np.repeat(np.arange(len(blocks)), sizes))).cast(UTC)
    return pa.table(columns)


def judged(blocks: Sequence[Block], table: pa.Table) -> pa.Table:
    """The rows that `cells.score_cells` wants: the forecasts of `blocks` beside what happened."""
    sizes = np.array([len(block.mean) for block in blocks])
    day = np.empty(int(sizes.sum()), dtype="M8[D]")
    stops = np.cumsum(sizes)
    for tz in {block.tz for block in blocks}:
        mine = np.repeat([block.tz == tz for block in blocks], sizes)
        times = np.concatenate([block.valid_time for block in blocks if block.tz == tz])
        day[mine] = calendar.local_day_micros(times, tz)
    assert stops[-1] == len(day)
    truth = [np.full(n, np.nan) if b.truth is None else b.truth for b, n in zip(blocks, sizes, strict=True)]
    version = [
        np.zeros(n, np.int64) if b.truth_version is None else b.truth_version
        for b, n in zip(blocks, sizes, strict=True)
    ]
    sized = zip(blocks, sizes, strict=True)
    capacity = [np.full(n, np.nan) if b.capacity is None else b.capacity for b, n in sized]
    extra: dict[str, pa.Array] = {
        "y": pa.array(np.concatenate(truth)),
        "capacity": pa.array(np.concatenate(capacity), from_pandas=True),
        "day": pa.array(day),
        "perfect_foresight": pa.array(np.repeat([block.foresight for block in blocks], sizes)),
        "truth": _repeated(["latest"] * len(blocks), sizes),
        "actuals_v": pa.array(np.concatenate(version)),
    }
    for name, column in extra.items():
        table = table.append_column(name, column)
    return table


def _joined(parts: Sequence[IntArray]) -> IntArray:
    return np.concatenate(parts).astype(np.int64, copy=False)


def _repeated(values: Sequence[str], sizes: IntArray) -> pa.DictionaryArray:
    """Each text as often as its block has rows, dictionary-encoded."""
    names = sorted(set(values))
    code = {name: number for number, name in enumerate(names)}
    codes = np.array([code[value] for value in values], dtype=np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(np.repeat(codes, sizes)), pa.array(names, pa.string()))
