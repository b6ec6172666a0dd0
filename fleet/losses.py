"""Every metric on plain arrays, and the terms per point that it shares with the sums of the ``scores`` table.

The error is forecast minus actual. The last axis are the points, the result has the other axes. A point without an
actual is left out; a missing forecast is not, it makes the metric undefined. Undefined (no points, a zero denominator)
is NaN, never 0 and never an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Weights = Callable[[FloatArray], FloatArray]


def smape_terms(actual: FloatArray, forecast: FloatArray) -> FloatArray:
    """2 abs e / (abs y + abs f) of each point, 0 where both are 0.

    >>> smape_terms(np.array([1.0, 0.0, 2.0]), np.array([3.0, 0.0, 2.0]))
    array([1., 0., 0.])
    """
    size = np.abs(actual) + np.abs(forecast)
    # where both are 0 the error is 0 too, so dividing by 1 gives the 0 that counts
    return 2.0 * np.abs(forecast - actual) / np.where(size == 0, 1.0, size)


def pinball_terms(actual: FloatArray, quantile: FloatArray, level: float) -> FloatArray:
    """max(q (y - f), (q - 1) (y - f)) of each point.

    >>> pinball_terms(np.array([10.0, 10.0]), np.array([8.0, 12.0]), 0.9).round(9)
    array([1.8, 0.2])
    """
    under = actual - quantile
    return np.maximum(level * under, (level - 1.0) * under) + 0.0  # a hit costs 0.0, not -0.0


def covered_terms(actual: FloatArray, lower: FloatArray, upper: FloatArray) -> FloatArray:
    """1 where the actual lies in the interval, its ends included, else 0; NaN where an end is missing.

    >>> covered_terms(np.array([1.0, 2.0]), np.array([1.0, 3.0]), np.array([2.0, 4.0]))
    array([1., 0.])
    """
    inside = ((lower <= actual) & (actual <= upper)).astype(np.float64)
    return np.where(np.isnan(lower + upper), np.nan, inside)


def winkler_terms(actual: FloatArray, lower: FloatArray, upper: FloatArray, share: float) -> FloatArray:
    """Width of the interval plus 2 / (1 - share) times how far the actual lies outside.

    Source: Winkler (1972); Gneiting & Raftery (2007), eq. 43.

    >>> winkler_terms(np.array([1.0, 5.0]), np.array([0.0, 0.0]), np.array([2.0, 2.0]), 0.8).round(9)
    array([ 2., 32.])
    """
    outside = np.maximum(lower - actual, 0.0) + np.maximum(actual - upper, 0.0)
    return upper - lower + 2.0 / (1.0 - share) * outside


def crps_weights(levels: FloatArray) -> FloatArray:
    """How much of the interval (0, 1) each level stands for; they add up to 1.

    Half of the gap to each neighbour; the lowest reaches down to 0, the highest up to 1.

    Args:
        levels: (k,) ascending, between 0 and 1.

    >>> crps_weights(np.array([0.1, 0.5, 0.9])).round(9)
    array([0.3, 0.4, 0.3])
    """
    edges = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [1.0]])
    return np.diff(edges)


def equal_weights(levels: FloatArray) -> FloatArray:
    """The same weight for each level.

    >>> equal_weights(np.array([0.1, 0.9]))
    array([0.5, 0.5])
    """
    return np.full(len(levels), 1.0 / len(levels))


def ratio(top: FloatArray, bottom: FloatArray) -> FloatArray:
    """Quotient, NaN where the bottom is not above 0.

    >>> ratio(np.array([1.0, 1.0]), np.array([2.0, 0.0]))
    array([0.5, nan])
    """
    top, bottom = np.broadcast_arrays(np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64))
    quotient: FloatArray = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0)
    return quotient


def _sum(terms: FloatArray, actual: FloatArray) -> FloatArray:
    return np.asarray(np.where(np.isnan(actual), 0.0, terms).sum(axis=-1), dtype=np.float64)


def _mean(terms: FloatArray, actual: FloatArray) -> FloatArray:
    return ratio(_sum(terms, actual), np.asarray((~np.isnan(actual)).sum(axis=-1), dtype=np.float64))


def mae(actual: FloatArray, forecast: FloatArray) -> FloatArray:
    """Mean absolute error, in the unit of the data.

    >>> mae(np.array([1.0, 2.0, np.nan]), np.array([2.0, 4.0, 9.0]))
    array(1.5)
    """
    return _mean(np.abs(forecast - actual), actual)


def mse(actual: FloatArray, forecast: FloatArray) -> FloatArray:
    """Mean squared error.

    >>> mse(np.array([1.0, 2.0]), np.array([2.0, 4.0]))
    array(2.5)
    """
    return _mean((forecast - actual) ** 2, actual)


def rmse(actual: FloatArray, forecast: FloatArray) -> FloatArray:
    """Root of the mean squared error, in the unit of the data.

    >>> rmse(np.array([[0.0, 0.0]]), np.array([[3.0, 3.0]]))
    array([3.])
    """
    return np.sqrt(mse(actual, forecast))


def bias(actual: FloatArray, forecast: FloatArray) -> FloatArray:
    """Mean of forecast minus actual: above 0 when the forecasts are too high.

    >>> bias(np.array([1.0, 2.0]), np.array([2.0, 4.0]))
    array(1.5)
    """
    return _mean(forecast - actual, actual)


def wape(actual: FloatArray, forecast: FloatArray) -> FloatArray:
    """Sum of absolute errors over the sum of absolute actuals; NaN where all actuals are 0.

    >>> wape(np.array([1.0, 3.0]), np.array([2.0, 4.0]))
    array(0.5)
    """
    return ratio(_sum(np.abs(forecast - actual), actual), _sum(np.abs(actual), actual))


def smape(actual: FloatArray, forecast: FloatArray) -> FloatArray:
    """Mean of 2 abs e / (abs y + abs f), from 0 to 2; a point where both are 0 counts 0. Times 100 it is M4's.

    Source: Makridakis, Spiliotis & Assimakopoulos (2020), eq. 1.

    >>> smape(np.array([1.0, 0.0]), np.array([3.0, 0.0]))
    array(0.5)
    """
    return _mean(smape_terms(actual, forecast), actual)


def mase(actual: FloatArray, forecast: FloatArray, scale_abs: FloatArray) -> FloatArray:
    """Mean absolute error in units of the in-sample seasonal-naive error.

    Args:
        actual: (..., points).
        forecast: (..., points), same unit.
        scale_abs: (...) mean absolute seasonal step of the history, same unit.

    Returns:
        (...) without unit; 1.0 is no better than repeating the last season. NaN where the scale is 0.

    Source: Hyndman & Koehler (2006).

    >>> mase(np.array([[1.0, -1.0]]), np.array([[2.0, -2.0]]), np.array([2.0]))
    array([0.5])
    """
    return ratio(mae(actual, forecast), scale_abs)


def rmsse(actual: FloatArray, forecast: FloatArray, scale_sq: FloatArray) -> FloatArray:
    """Root mean squared error in units of the root mean squared seasonal step.

    Args:
        actual: (..., points).
        forecast: (..., points), same unit.
        scale_sq: (...) mean **squared** seasonal step of the history; its root divides.

    Source: Makridakis, Spiliotis & Assimakopoulos (2022), M5.

    >>> rmsse(np.array([[1.0, -1.0]]), np.array([[2.0, -2.0]]), np.array([4.0]))
    array([0.5])
    """
    return ratio(rmse(actual, forecast), np.sqrt(scale_sq))


def skill(actual: FloatArray, forecast: FloatArray, baseline: FloatArray) -> FloatArray:
    """1 - mae / mae of a baseline on the same points; 0 is as good, 1 perfect, below 0 worse.

    >>> skill(np.array([[1.0]]), np.array([[2.0]]), np.array([[5.0]]))
    array([0.75])
    """
    return 1.0 - ratio(mae(actual, forecast), mae(actual, baseline))


def nmae_cap(actual: FloatArray, forecast: FloatArray, capacity: FloatArray) -> FloatArray:
    """Mean of abs e / capacity at valid time, over the points whose capacity is known and above 0.

    >>> nmae_cap(np.array([10.0, 10.0]), np.array([20.0, 0.0]), np.array([100.0, np.nan]))
    array(0.1)
    """
    known = np.where(capacity > 0, actual, np.nan)
    return _mean(ratio(np.abs(forecast - actual), capacity), known)


def pinball(actual: FloatArray, quantile: FloatArray, level: float) -> FloatArray:
    """Mean pinball loss of one quantile.

    Source: Koenker & Bassett (1978).

    >>> pinball(np.array([10.0, 10.0]), np.array([8.0, 12.0]), 0.9)
    array(1.)
    """
    return _mean(pinball_terms(actual, quantile, level), actual)


def mean_pinball(actual: FloatArray, quantiles: Mapping[float, FloatArray]) -> FloatArray:
    """Plain mean of the pinball losses of all levels.

    >>> mean_pinball(np.array([10.0]), {0.1: np.array([10.0]), 0.9: np.array([8.0])})
    array(0.9)
    """
    return over_levels({level: pinball(actual, f, level) for level, f in quantiles.items()}, equal_weights)


def crps(actual: FloatArray, quantiles: Mapping[float, FloatArray]) -> FloatArray:
    """Continuous ranked probability score, as far as quantiles show it: 2 x the weighted mean of the pinball losses.

    See `crps_weights` for the weights. With the median alone it is the mae.

    Source: Gneiting & Ranjan (2011): the CRPS is twice the integral of the pinball loss over the levels.

    >>> crps(np.array([[10.0]]), {0.5: np.array([[8.0]])})
    array([2.])
    """
    return 2.0 * over_levels({level: pinball(actual, f, level) for level, f in quantiles.items()}, crps_weights)


def coverage(actual: FloatArray, lower: FloatArray, upper: FloatArray) -> FloatArray:
    """Share of the actuals inside the interval, its ends included.

    >>> coverage(np.array([1.0, 5.0]), np.array([0.0, 0.0]), np.array([2.0, 2.0]))
    array(0.5)
    """
    return _mean(covered_terms(actual, lower, upper), actual)


def width(actual: FloatArray, lower: FloatArray, upper: FloatArray) -> FloatArray:
    """Mean width of the interval, over the points that have an actual.

    >>> width(np.array([1.0, np.nan]), np.array([0.0, 0.0]), np.array([2.0, 9.0]))
    array(2.)
    """
    return _mean(upper - lower, actual)


def winkler(actual: FloatArray, lower: FloatArray, upper: FloatArray, share: float) -> FloatArray:
    """Mean of width plus penalty of the central interval that is to hold ``share`` of the actuals.

    >>> winkler(np.array([5.0]), np.array([0.0]), np.array([2.0]), 0.5)
    array(14.)
    """
    return _mean(winkler_terms(actual, lower, upper, share), actual)


def over_levels(means: Mapping[float, FloatArray], weights: Weights) -> FloatArray:
    """The weighted mean over the levels that each entry has; NaN where it has none.

    Args:
        means: level to (...) mean loss; at least one level.
        weights: of the levels that are present, ascending.

    >>> over_levels({0.1: np.array([1.0, 2.0]), 0.9: np.array([3.0, np.nan])}, equal_weights)
    array([2., 2.])
    """
    levels = sorted(means)
    table = np.stack([np.asarray(means[level], dtype=np.float64) for level in levels], axis=-1)
    flat = table.reshape(-1, len(levels))
    out = np.full(len(flat), np.nan)
    present = ~np.isnan(flat)
    for pattern in np.unique(present, axis=0):
        if pattern.any():
            rows = (present == pattern).all(axis=1)
            out[rows] = flat[np.ix_(rows, pattern)] @ weights(np.array(levels)[pattern])
    return out.reshape(table.shape[:-1])
