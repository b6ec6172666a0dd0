"""Statistics of the readings in a sliding window, the same to the last bit however long the history before it is.

A window is put together from windows of 1, 2, 4, ... steps in an order that its length alone decides. Running sums
are as fast, but carry the rounding of all that came before: the same readings would give other features at fit than
at predict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Stat = Literal["mean", "std", "min", "max"]
State = tuple[FloatArray, ...]
Parts = Sequence[FloatArray]
Merge = Callable[[Parts, Parts, Parts], None]

STATS: tuple[Stat, ...] = get_args(Stat)


def rolling(values: FloatArray, window: int, stat: Stat) -> FloatArray:
    """The statistic of the last ``window`` steps up to and with each; missing readings are left out.

    Args:
        values: (steps,) NaN where a reading is missing.
        window: in steps, at least 1; at the beginning as far as there are any.
        stat: mean, std (of the population), min, max.

    Returns:
        (steps,) NaN where the window holds no reading.

    Cost: a few passes for each binary digit of the window.

    >>> rolling(np.array([1.0, 3.0, np.nan, 8.0]), 2, "mean")
    array([1., 2., 3., 8.])
    """
    present = np.isfinite(values)
    match stat:
        case "min":
            return _no_reading(_folded((np.where(present, values, np.inf),), window, _lowest)[0])
        case "max":
            return -rolling(-values, window, "min")
        case "mean":
            if present.all():
                (total,) = _folded((values,), window, _added)
                readings: FloatArray = np.minimum(np.arange(1.0, len(values) + 1.0), window)
                return _over(total, readings)
            count, total = _folded((present.astype(np.float64), np.where(present, values, 0.0)), window, _added)
            return _over(total, count)
        case "std":
            start = (present.astype(np.float64), np.where(present, values, 0.0), np.zeros(len(values)))
            count, _, squares = _folded(start, window, _joined)
            return np.sqrt(_over(squares, count))


def _folded(state: State, window: int, merge: Merge) -> State:
    """The merged state of the last ``window`` steps at each step, older first."""
    found: State | None = None
    covered, length = 0, 1
    while True:
        if window & length:
            found = state if found is None else _behind(state, covered, found, merge)
            covered += length
        if covered == window:
            assert found is not None
            return found
        state = _behind(state, length, state, merge)
        length *= 2


def _behind(older: State, steps: int, newer: State, merge: Merge) -> State:
    """The newer state with the older one of so many steps before; at the beginning there is nothing older."""
    count = len(newer[0]) - steps
    if count <= 0:
        return newer
    found = tuple(part.copy() for part in newer)
    merge([part[:count] for part in older], [part[steps:] for part in newer], [part[steps:] for part in found])
    return found


def _lowest(older: Parts, newer: Parts, into: Parts) -> None:
    np.minimum(older[0], newer[0], out=into[0])


def _added(older: Parts, newer: Parts, into: Parts) -> None:
    for before, after, both in zip(older, newer, into, strict=True):
        np.add(before, after, out=both)


def _joined(older: Parts, newer: Parts, into: Parts) -> None:
    """Count, mean and sum of squared deviations of two parts together (Chan, Golub & LeVeque 1983)."""
    count = np.add(older[0], newer[0], out=into[0])
    share = np.divide(newer[0], count, out=np.zeros(len(count)), where=count > 0)
    apart = newer[1] - older[1]
    np.add(older[1], apart * share, out=into[1])
    np.add(older[2] + newer[2], apart * apart * older[0] * share, out=into[2])


def _over(total: FloatArray, count: FloatArray) -> FloatArray:
    quotient: FloatArray = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    return quotient


def _no_reading(lowest: FloatArray) -> FloatArray:
    return np.where(np.isinf(lowest), np.nan, lowest)
