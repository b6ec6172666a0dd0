"""Which assets got worse: against their own past, and against others of their kind. Arithmetic only.

An error is compared as a fraction of what it was, asset by asset. A change counts when it is as large as asked for and
larger than what the days of the past differ among themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Texts = npt.NDArray[np.object_]

NOISE = 3.0
LEAST_DAYS = 3
LEAST_PEERS = 5


def change(now: FloatArray, before: FloatArray) -> FloatArray:
    """How much larger a value is than it was, as a fraction; NaN where either is unknown, or the past was 0.

    >>> change(np.array([3.0, 1.0]), np.array([2.0, 0.0]))
    array([0.5, nan])
    """
    unknown = np.full(np.shape(before), np.nan)
    made: FloatArray = np.divide(now - before, before, out=unknown, where=before > 0)
    return made


def distance(now: FloatArray, before: FloatArray) -> FloatArray:
    """How far the mean of some days lies above that of earlier days, in standard errors.

    The spread is that of the earlier days; fewer than three of them, or none now, tell nothing. Days are taken as if
    they were independent, which they are not quite: hence a high bar (`NOISE`).

    Args:
        now: (assets, days), NaN for a day without a value.
        before: (assets, earlier days), likewise.

    >>> distance(np.array([[9.0]]), np.array([[1.0, 2.0, 3.0]])).round(2)
    array([6.06])
    """
    held, past = np.isfinite(now).sum(axis=1), np.isfinite(before).sum(axis=1)
    mean_now = np.divide(np.nansum(now, axis=1), held, out=np.full(len(now), np.nan), where=held > 0)
    mean = np.divide(np.nansum(before, axis=1), past, out=np.full(len(now), np.nan), where=past > 0)
    squares = np.nansum((before - mean[:, None]) ** 2, axis=1)
    variance = np.divide(squares, past - 1, out=np.full(len(now), np.nan), where=past >= LEAST_DAYS)
    error = np.sqrt(variance * (1 / np.maximum(held, 1) + 1 / np.maximum(past, 1)))
    above = mean_now - mean
    with np.errstate(divide="ignore", invalid="ignore"):  # days that do not differ at all: any change is far beyond
        return np.where(np.abs(above) > 0, above / error, np.where(np.isnan(error), np.nan, 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """Each asset beside those of its group.

    Args:
        median: (assets,) of the group; NaN in a group of fewer than five.
        distance: (assets,) from the median in robust standard deviations.
    """

    median: FloatArray
    distance: FloatArray


def beside(values: FloatArray, groups: Texts) -> Peers:
    """Where each value stands in its group: the median, and how far off it is by the median absolute deviation.

    >>> found = beside(np.array([1.0, 1.1, 0.9, 1.0, 1.2, 5.0]), np.array(["a"] * 6, dtype=object))
    >>> float(found.median[0].round(2)), found.distance.round(1).tolist()[-1]
    (1.05, 26.6)
    """
    median, far = np.full(len(values), np.nan), np.full(len(values), np.nan)
    for group in np.unique(groups.astype(str)):
        mine = np.flatnonzero((groups.astype(str) == group) & np.isfinite(values))
        if len(mine) < LEAST_PEERS:
            continue
        middle = float(np.median(values[mine]))
        spread = 1.4826 * float(np.median(np.abs(values[mine] - middle)))
        median[mine] = middle
        if spread > 0:
            far[mine] = (values[mine] - middle) / spread
    return Peers(median=median, distance=far)


VERDICTS = ("worse", "better", "steady", "unknown")


def verdicts(changed: FloatArray, far: FloatArray, enough: Flags, effect: float) -> Texts:
    """One of `VERDICTS` for each asset.

    Args:
        changed: fraction, from `change`.
        far: in standard errors, from `distance`.
        enough: whether both windows hold enough points.
        effect: the least fraction that counts.

    >>> some = np.array([True, True, False])
    >>> verdicts(np.array([0.5, 0.5, 0.5]), np.array([4.0, 1.0, 9.0]), some, 0.2).tolist()
    ['worse', 'steady', 'unknown']
    """
    made = np.full(len(changed), "steady", dtype=object)
    made[(changed >= effect) & (far >= NOISE)] = "worse"
    made[(changed <= -effect) & (far <= -NOISE)] = "better"
    made[~enough | np.isnan(changed)] = "unknown"
    return made


def counted(words: Sequence[str] | Texts) -> dict[str, int]:
    """How many assets have each verdict."""
    return {verdict: int(sum(word == verdict for word in words)) for verdict in VERDICTS}
