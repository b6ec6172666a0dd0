"""What suits a step: its seasons, how far origins lie apart, how much history, how many steps a length is."""

from __future__ import annotations

import math
from datetime import timedelta
from fractions import Fraction

_STEP_SECONDS = {"s": 1, "min": 60, "h": 3_600, "D": 86_400, "W": 604_800, "MS": 2_629_800, "QS": 7_889_400}
_STEP_SECONDS["YS"] = 31_557_600
_MONTHS = {"MS": 1, "QS": 3, "YS": 12}
_SEASONS = {"D": 7, "W": 52, "MS": 12, "QS": 4}


def split_step(freq: str) -> tuple[int, str]:
    """The number and the unit of a step.

    >>> split_step("15min")
    (15, 'min')
    """
    unit = freq.lstrip("0123456789")
    return int(freq[: len(freq) - len(unit)] or 1), unit


def default_seasons(freq: str) -> tuple[int, ...]:
    """A day and a week in steps; a week of days, a year of weeks, months or quarters.

    >>> default_seasons("1h"), default_seasons("15min"), default_seasons("1D"), default_seasons("1MS")
    ((24, 168), (96, 672), (7,), (12,))
    """
    count, unit = split_step(freq)
    if unit in _SEASONS:
        return (_SEASONS[unit] // count,) if _SEASONS[unit] % count == 0 else (1,)
    day, rest = divmod(86_400, count * _STEP_SECONDS.get(unit, 86_400))
    return (1,) if rest or unit == "YS" else (day, 7 * day)


def default_stride(freq: str, horizon: int) -> timedelta:
    """From one origin to the next: a day, or the whole horizon where that is longer.

    >>> default_stride("1h", 24), default_stride("1h", 48)
    (datetime.timedelta(days=1), datetime.timedelta(days=2))
    """
    count, unit = split_step(freq)
    return max(timedelta(days=1), timedelta(seconds=count * _STEP_SECONDS[unit] * horizon))


def steps_in(horizon: int | str, freq: str) -> int:
    """How many steps reach as far as a horizon: a count as it is, of a length as many as cover it.

    >>> steps_in(24, "1D"), steps_in("36h", "15min"), steps_in("36h", "1D"), steps_in("1YS", "1MS")
    (24, 144, 2, 12)
    """
    return horizon if isinstance(horizon, int) else math.ceil(_ratio(horizon, freq))


def holds_step(length: str, freq: str) -> bool:
    """Whether a length is a step or longer.

    >>> holds_step("6h", "1h"), holds_step("6h", "1D"), holds_step("24h", "1D")
    (True, False, True)
    """
    return _ratio(length, freq) >= 1


def _ratio(length: str, freq: str) -> Fraction:
    (count, unit), (size, step) = split_step(length), split_step(freq)
    if unit in _MONTHS and step in _MONTHS:
        return Fraction(count * _MONTHS[unit], size * _MONTHS[step])
    return Fraction(count * _STEP_SECONDS[unit], size * _STEP_SECONDS[step])


def is_multiple(length: timedelta, freq: str) -> bool:
    """Whether a length is a whole number of steps; of months the nearest.

    >>> is_multiple(timedelta(days=1), "15min"), is_multiple(timedelta(days=1), "1W")
    (True, False)
    """
    count, unit = split_step(freq)
    steps = length.total_seconds() / (count * _STEP_SECONDS[unit])
    return round(steps) >= 1 and (unit in _MONTHS or steps == round(steps))


def mixed_window(freq: str) -> timedelta | None:
    """How much history a model sees of an asset whose step is long; None where a year will do.

    >>> mixed_window("1MS"), mixed_window("1h")
    (datetime.timedelta(days=3650), None)
    """
    return timedelta(days=3650) if split_step(freq)[1] in ("W", *_MONTHS) else None
