"""The issue times of a backtest: where on the past a model is judged.

An origin of a product that follows the data lies on the asset's grid, for its target begins there. A stride of whole
days keeps the local time of the issue when the clocks change. A product with a timetable is judged at its own issues.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from fleet import calendar
from fleet.errors import ConfigInvalid
from fleet.timetable import Timetable, local_date
from fleet.zones import DAY, IntArray, zone_of


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


def timetable_origins(
    timetable: Timetable,
    first: pd.Timestamp | None,
    last_actual_end: pd.Timestamp,
    count: int,
    stride: pd.Timedelta,
    *,
    days_ahead: int | None,
    days: int,
    horizon: int,
    freq: str,
    tz: str,
) -> pd.DatetimeIndex:
    """The issues of a timetable that are judged, ascending; arguments as for `origins`.

    Args:
        stride: of a stride of several days only each so-many-th day is taken.
        days_ahead: of a delivery, local days from the issue to the first of `days`; None has a horizon instead.

    >>> noon, end = Timetable(times=(12 * 3_600_000_000,)), pd.Timestamp("2024-04-02", tz="Europe/Paris")
    >>> asked = {"days_ahead": 1, "days": 1, "horizon": 24, "freq": "1h", "tz": "Europe/Paris"}
    >>> found = timetable_origins(noon, None, end, 2, pd.Timedelta("1D"), **asked)
    >>> found.strftime("%m-%d %H:%M").to_list()
    ['03-30 11:00', '03-31 10:00']
    """
    every, end = max(1, stride // pd.Timedelta(days=1)), calendar.instant(last_actual_end)
    if first is not None:
        forward = timetable.forward(calendar.instant(first), count, every, tz)
        begins = forward if days_ahead is None else _midnights(forward, days_ahead, tz)
        return calendar.from_micros(forward[begins < end])
    if days_ahead is None:
        last = calendar.instant(_start_of_last(last_actual_end, horizon, freq, tz))
    else:
        # through the end of the last day whose issues have all the actuals of their targets
        last = _midnight(local_date(end, tz) - days_ahead - days + 1, tz) - 1
    return calendar.from_micros(timetable.back(last, count, every, tz))


def _midnights(issues: IntArray, days_ahead: int, tz: str) -> IntArray:
    """When the local days begin that lie so many days after those of the issues."""
    days = [local_date(int(issue), tz) + days_ahead for issue in issues]
    return np.array([_midnight(day, tz) for day in days], dtype=np.int64)


def _midnight(day: int, tz: str) -> int:
    return int(zone_of(tz, (day - 1) * DAY, (day + 1) * DAY).utc(np.array([day * DAY], dtype=np.int64))[0])


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
