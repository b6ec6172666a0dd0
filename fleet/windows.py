"""Statistics of the readings in a sliding window, the same to the last bit however long the history before it is.

A window is put together from windows of 1, 2, 4, ... steps in an order that its length alone decides. Running sums
are as fast, but carry the rounding of all that came before: the same readings would give other features at fit than
at predict.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Stat = Literal["mean", "std", "min", "max"]
State = tuple[FloatArray, ...]

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
            return _no_reading(_folded((np.where(present, values, np.inf),), window, _lowest, (np.inf,))[0])
        case "max":
            return -rolling(-values, window, "min")
        case "mean":
            count, total = _folded(
                (present.astype(np.float64), np.where(present, values, 0.0)), window, _added, (0.0, 0.0)
            )
            return _over(total, count)
        case "std":
            start = (present.astype(np.float64), np.where(present, values, 0.0), np.zeros(len(values)))
            count, _, squares = _folded(start, window, _joined, (0.0, 0.0, 0.0))
            return np.sqrt(_over(squares, count))


def _folded(state: State, window: int, merge: Callable[[State, State], State], empty: tuple[float, ...]) -> State:
    """The merged state of the last ``window`` steps at each step, older first."""
    found: State | None = None
    covered, length = 0, 1
    while True:
        if window & length:
            found = state if found is None else merge(_delayed(state, covered, empty), found)
            covered += length
        if covered == window:
            assert found is not None
            return found
        state = merge(_delayed(state, length, empty), state)
        length *= 2


def _delayed(state: State, steps: int, empty: tuple[float, ...]) -> State:
    count = len(state[0])
    steps = min(steps, count)
    return tuple(
        np.concatenate([np.full(steps, nothing), part[: count - steps]])
        for part, nothing in zip(state, empty, strict=True)
    )


def _lowest(older: State, newer: State) -> State:
    return (np.minimum(older[0], newer[0]),)


def _added(older: State, newer: State) -> State:
    return older[0] + newer[0], older[1] + newer[1]


def _joined(older: State, newer: State) -> State:
    """Count, mean and sum of squared deviations of two parts together (Chan, Golub & LeVeque 1983)."""
    count = older[0] + newer[0]
    share = np.divide(newer[0], count, out=np.zeros(len(count)), where=count > 0)
    apart = newer[1] - older[1]
    return count, older[1] + apart * share, older[2] + newer[2] + apart * apart * older[0] * share


def _over(total: FloatArray, count: FloatArray) -> FloatArray:
    quotient: FloatArray = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    return quotient


def _no_reading(lowest: FloatArray) -> FloatArray:
    return np.where(np.isinf(lowest), np.nan, lowest)
