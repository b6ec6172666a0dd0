"""Intervals out of past errors: split conformal quantiles, by lead, for a recipe that has none of its own.

The errors are those of a backtest, each made by a model that had not seen the reading it was off. If the next error is
like the past ones in random order, it lies below the quantile of a level at least that often, however few there are.
Errors keep their sign, so a recipe that is too low more than it is too high gets a lopsided interval. An issue has all
of its quantiles, at every step, or none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fleet.losses import FloatArray
from fleet.zones import IntArray

ENOUGH = 50
"""Errors that stand behind the margins of a step; a step that has fewer borrows those of its neighbours."""

LEAST_ISSUES = 3
"""Errors of one issue are alike, so the steps of a single day are no sample of what other days will bring."""

REVISION = 1
"""Raised when other margins come out of the same errors."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Past:
    """What one recipe forecast for one asset in a backtest, all steps of all its issues, the earliest issue first.

    Args:
        issue_time, valid_time: (rows,) UTC microseconds.
        step: (rows,) 1, 2, ... within each issue.
        mean: (rows,) in the asset's unit.
    """

    issue_time: IntArray
    valid_time: IntArray
    step: IntArray
    mean: FloatArray

    def before(self, issue: int) -> Past:
        """The issues before one (UTC microseconds)."""
        stop = int(np.searchsorted(self.issue_time, issue))
        return Past(
            issue_time=self.issue_time[:stop],
            valid_time=self.valid_time[:stop],
            step=self.step[:stop],
            mean=self.mean[:stop],
        )

    def errors(self, readings: FloatArray) -> FloatArray:
        """(issues, steps) reading minus forecast; NaN where a reading is unknown, or an issue has no such step.

        Args:
            readings: (rows,) what is known of what happened.
        """
        _, issue = np.unique(self.issue_time, return_inverse=True)
        table = np.full((int(issue[-1]) + 1, int(self.step.max())), np.nan) if len(issue) else np.empty((0, 0))
        table[issue, self.step - 1] = readings - self.mean
        return table


def margins(errors: FloatArray, levels: Sequence[float]) -> FloatArray | None:
    """What to add to a forecast so that it becomes the quantile of each level; None where there are too few errors.

    A step draws on its own errors when there are `ENOUGH`, otherwise on those of the nearest steps as well, at the
    start and the end of an issue on the first and the last of them.

    Args:
        errors: (issues, steps) reading minus forecast of one recipe and asset, NaN where unknown.
        levels: between 0 and 1, ascending.

    Returns:
        (levels, steps) in the unit of the errors, ascending in the level.

    Source: Vovk, Gammerman & Shafer (2005); Lei et al. (2018) for the split form.

    >>> margins(np.array([[-4.0], [-3.0], [-2.0], [-1.0], [0.0], [1.0], [2.0], [3.0], [9.0]]), (0.1, 0.5, 0.9))
    array([[-4.], [ 0.], [ 9.]])
    """
    table = np.where(np.isfinite(errors), errors, np.nan)
    known = np.isfinite(table)
    count, width = int(known.sum()), table.shape[1]
    if int(known.any(axis=1).sum()) < LEAST_ISSUES or count < needed(levels):
        return None
    narrow = min(width, math.ceil(max(ENOUGH, needed(levels)) * width / count))
    for steps in dict.fromkeys((narrow, width)):
        found = _margins(table, steps, levels)
        if np.isfinite(found).all():
            return found
    return None


def needed(levels: Sequence[float]) -> int:
    """How many errors there must be before the outermost levels lie between the smallest and the largest of them.

    >>> needed((0.1, 0.5, 0.9)), needed((0.025, 0.975)), needed(())
    (9, 39, 1)
    """
    tail = min((min(level, 1 - level) for level in levels), default=0.5)
    return math.ceil(round(1 / tail, 9)) - 1


def _margins(table: FloatArray, steps: int, levels: Sequence[float]) -> FloatArray:
    """Margins from so many adjacent steps each; NaN where these have too few errors for a level."""
    windows = np.lib.stride_tricks.sliding_window_view(table, steps, axis=1).transpose(1, 0, 2)
    ordered = np.sort(windows.reshape(len(windows), -1), axis=1)  # NaN comes last
    count = np.isfinite(ordered).sum(axis=1)
    found = np.array([_ordered(ordered, count, level) for level in levels]).reshape(len(levels), len(windows))
    nearest = np.clip(np.arange(table.shape[1]) - steps // 2, 0, len(windows) - 1)
    return found[:, nearest]


def _ordered(ordered: FloatArray, count: IntArray, level: float) -> FloatArray:
    """(windows,) the error that a further one exceeds (above the median: falls short of) as often as the level says."""
    rank = np.round((count + 1) * level, 9)
    low, high = np.floor(rank).astype(np.int64), np.ceil(rank).astype(np.int64)
    if level < 0.5:
        high = low
    elif level > 0.5:
        low = high
    inside = (low >= 1) & (high <= count)
    rows = np.arange(len(ordered))
    last = ordered.shape[1] - 1
    both = ordered[rows, np.clip(low - 1, 0, last)] + ordered[rows, np.clip(high - 1, 0, last)]
    return np.where(inside, both / 2, np.nan)


def around(mean: FloatArray, table: FloatArray, levels: Sequence[float]) -> Mapping[float, FloatArray]:
    """The quantiles of a forecast, by level.

    Args:
        mean: (horizon,).
        table: (levels, steps) from `margins`; a step beyond the last one takes the margins of that.

    >>> around(np.array([10.0, 20.0]), np.array([[-1.0], [2.0]]), (0.1, 0.9))
    {0.1: array([ 9., 19.]), 0.9: array([12., 22.])}
    """
    steps = np.minimum(np.arange(len(mean)), table.shape[1] - 1)
    return {level: mean + table[place, steps] for place, level in enumerate(levels)}
