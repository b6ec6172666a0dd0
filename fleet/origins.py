"""The issue times of a backtest: where on the past a model is judged.

An origin lies on the asset's grid, for a rolling target begins at it. A stride of whole days keeps the local time of
the issue when the clocks change.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from fleet import calendar
from fleet.errors import ConfigInvalid


def origins(
    first: pd.Timestamp | None,
    last_actual_end: pd.Timestamp,
    count: int,
    stride: pd.Timedelta | str,
    horizon: int,
    freq: str,
    tz: str,
) -> pd.DatetimeIndex:
    """The origins of a rolling product, ascending.

    Args:
        first: the first origin, the same for all assets; None takes the last ``count`` whose whole target has actuals.
        last_actual_end: the end of the asset's last interval with a reading.
        count: how many.
        stride: from one origin to the next.
        horizon: steps of a target.
        freq: the step.
        tz: the zone of the local clock.

    Returns:
        ``count`` instants; fewer after a fixed first one, where no step of a target would have an actual.

    >>> end = pd.Timestamp("2024-01-05", tz="UTC")
    >>> origins(None, end, 2, "24h", 24, "1h", "UTC").strftime("%m-%d %H:%M").to_list()
    ['01-03 00:00', '01-04 00:00']
    """
    if count < 1 or horizon < 1:
        raise ConfigInvalid(f"a backtest needs an origin and a step, got {count} origins of {horizon} steps")
    between = stride_steps(stride, freq)
    if first is not None:
        forward = [_shifted(first, -place * between, freq, tz) for place in range(count)]
        end = calendar.instant(last_actual_end)
        return calendar.from_micros(np.array([at for at in forward if at < end], dtype=np.int64))
    last = _start_of_last(last_actual_end, horizon, freq, tz)
    back = [_shifted(last, place * between, freq, tz) for place in range(count - 1, -1, -1)]
    return calendar.from_micros(np.array(back, dtype=np.int64))


def stride_steps(stride: pd.Timedelta | str, freq: str) -> int:
    """How many steps a stride is; for steps of months the nearest whole number.

    >>> stride_steps("24h", "1h"), stride_steps("1D", "1D"), stride_steps("30D", "1MS")
    (24, 1, 1)
    """
    seconds, step = pd.Timedelta(stride).total_seconds(), calendar.step_seconds(freq)
    steps = round(seconds / step)
    exact = bool(calendar.step_of(freq).months) or steps * step == seconds
    if steps < 1 or not exact:
        raise ConfigInvalid(f"the stride {stride} is not a whole number of steps of {freq}", hint=f"such as {freq!r}")
    return steps


def _shifted(time: pd.Timestamp, back: int, freq: str, tz: str) -> int:
    return int(calendar.back_micros(np.array([calendar.instant(time)], dtype=np.int64), back, freq, tz)[0])


def _start_of_last(end: pd.Timestamp, horizon: int, freq: str, tz: str) -> pd.Timestamp:
    """The start of the target of so many steps that ends here; below a day they are elapsed time."""
    elapsed = calendar.step_of(freq).elapsed
    if elapsed:
        return end - pd.Timedelta(microseconds=horizon * elapsed)
    return calendar.from_micros(np.array([_shifted(end, horizon, freq, tz)], dtype=np.int64))[0]
