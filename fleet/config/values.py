"""What may stand to the right of an equals sign in ``fleet.toml``: durations, steps, zones, quantiles, clock times.

Each form is checked where it is read and kept in the type the code uses, so that nothing downstream parses text. A
message says what is accepted; ``fleet.config.messages`` puts the file, the key and the value before it.
"""

from __future__ import annotations

import calendar
import difflib
import re
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BeforeValidator, Field, PlainSerializer
from pydantic_core import PydanticCustomError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|sec|min|h|d|D|w|W)")
_UNIT_SECONDS = {"s": 1, "sec": 1, "min": 60, "h": 3_600, "d": 86_400, "D": 86_400, "w": 604_800, "W": 604_800}
_LONGEST_S = 36_525 * 86_400
_STEP = re.compile(r"(\d*)\s*([A-Za-z]+)")
_STEP_UNITS = {"s": "s", "min": "min", "t": "min", "h": "h", "d": "D", "w": "W", "ms": "MS", "qs": "QS", "ys": "YS"}
_STEPS_ACCEPTED = '"10min", "15min", "30min", "1h", "1D", "1W", "1MS"'


def wrong(text: str) -> PydanticCustomError:
    """A value that does not hold, in words that go to the user as they are."""
    return PydanticCustomError("tsfleet", "{text}", {"text": text})


def duration(value: Any) -> timedelta:
    """A length of time: ``"90s"``, ``"15min"``, ``"48h"``, ``"365d"``, ``"2w"``.

    >>> duration("48h")
    datetime.timedelta(days=2)
    """
    if isinstance(value, timedelta):
        return value
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise wrong('expected a length of time; accepted: "60s", "15min", "48h", "365d", "2w"')
    seconds = float(found[1]) * _UNIT_SECONDS[found[2]]
    if seconds > _LONGEST_S:
        raise wrong("longer than 100 years; accepted: up to 36525d")
    return timedelta(seconds=seconds)


def duration_text(value: timedelta) -> str:
    """A length of time as the configuration writes it.

    >>> duration_text(timedelta(days=365)), duration_text(timedelta(seconds=90))
    ('365d', '90s')
    """
    seconds = value.total_seconds()
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s"


def step(value: Any) -> str:
    """The step of a series in one spelling: a number and ``s``, ``min``, ``h``, ``D``, ``W``, ``MS``, ``QS`` or ``YS``.

    >>> step("h"), step("15T"), step("60min"), step("24h")
    ('1h', '15min', '1h', '1D')
    """
    found = _STEP.fullmatch(value.strip()) if isinstance(value, str) else None
    unit = _STEP_UNITS.get(found[2].lower()) if found else None
    if found is None or unit is None or int(found[1] or 1) == 0:
        raise wrong(f"not a step; accepted: {_STEPS_ACCEPTED}")
    count = int(found[1] or 1)
    for small, large, size in (("s", "min", 60), ("min", "h", 60), ("h", "D", 24)):
        if unit == small and count % size == 0:
            unit, count = large, count // size
    if count > {"s": 86_400, "min": 1_440, "h": 24}.get(unit, count):
        raise wrong(f"longer than a day and not a whole number of days; accepted: {_STEPS_ACCEPTED}")
    return f"{count}{unit}"


def zone(value: Any) -> str:
    """An IANA time zone.

    >>> zone("Europe/Paris")
    'Europe/Paris'
    """
    if isinstance(value, str) and value:
        try:
            ZoneInfo(value)
        except (ValueError, OSError, LookupError):
            pass
        else:
            return value
    raise wrong(f"not a time zone{_meant(value)}; accepted: IANA names such as Europe/London, America/New_York, UTC")


def _meant(value: Any) -> str:
    by_fold = {name.casefold(): name for name in available_timezones()}
    close = difflib.get_close_matches(str(value).casefold(), by_fold, 1)
    return f', did you mean "{by_fold[close[0]]}"?' if close else ""


def levels(value: Any) -> tuple[float, ...]:
    """Quantile levels, ascending.

    >>> levels([0.9, 0.1])
    (0.1, 0.9)
    """
    accepted = "accepted: a list of different numbers between 0 and 1, such as [0.1, 0.5, 0.9]"
    if not isinstance(value, list | tuple):
        raise wrong(f"expected a list; {accepted}")
    for level in value:
        if isinstance(level, bool) or not isinstance(level, int | float) or not 0.0 < level < 1.0:
            raise wrong(f"{level!r} is not a level; {accepted}")
    if len(set(value)) < len(value):
        raise wrong(f"a level stands twice; {accepted}")
    return tuple(sorted(float(level) for level in value))


def instant(value: Any) -> datetime:
    """A moment with its zone, in UTC.

    >>> instant("2024-06-10T00:00Z")
    datetime.datetime(2024, 6, 10, 0, 0, tzinfo=datetime.timezone.utc)
    """
    moment = value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise wrong('expected a moment with its zone; accepted: "2024-06-10T00:00Z", "2024-06-10T00:00+02:00"')
    return moment.astimezone(UTC)


def wall_time(value: Any) -> time:
    """A time of day on the local clock.

    >>> wall_time("11:30")
    datetime.time(11, 30)
    """
    moment = value
    if isinstance(value, str):
        try:
            moment = time.fromisoformat(value)
        except ValueError:
            moment = None
    if not isinstance(moment, time) or moment.tzinfo is not None:
        raise wrong('expected a time of day; accepted: "11:30", "00:00"')
    return moment


def wall_times(value: Any) -> tuple[time, ...]:
    """One time of day or several, ascending.

    >>> wall_times(["18:00", "06:00"])
    (datetime.time(6, 0), datetime.time(18, 0))
    """
    given = [wall_time(one) for one in (value if isinstance(value, list | tuple) else [value])]
    if not given or len(set(given)) < len(given):
        raise wrong('expected a time of day, or a list of different ones; accepted: "11:30", ["06:00", "18:00"]')
    return tuple(sorted(given))


WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_NAMES = {**{day: day for day in WEEKDAYS}, **{day.lower(): day.lower()[:3] for day in calendar.day_name}}


def weekdays(value: Any) -> tuple[str, ...]:
    """Days of the week, Monday first.

    >>> weekdays(["Friday", "mon"])
    ('mon', 'fri')
    """
    given = [value] if isinstance(value, str) else value
    names = {_DAY_NAMES.get(str(day).strip().lower()) for day in given} if isinstance(given, list | tuple) else set()
    if not names or None in names:
        raise wrong(f"expected days of the week; accepted: a list of {', '.join(WEEKDAYS)}")
    return tuple(day for day in WEEKDAYS if day in names)


_TARGET = re.compile(r"(today|tomorrow)(?:\s*\+\s*(\d{1,3}))?")


def days_ahead(target: str) -> int:
    """Local days from the issue to the day that a target names.

    >>> days_ahead("today"), days_ahead("tomorrow"), days_ahead("tomorrow+1")
    (0, 1, 2)
    """
    found = _TARGET.fullmatch(target)
    assert found is not None
    return {"today": 0, "tomorrow": 1}[found[1]] + int(found[2] or 0)


def target(value: Any) -> str:
    """The local day that a product is about, in one spelling; a number counts days from the day of the issue.

    >>> target("tomorrow"), target("tomorrow + 1"), target(2), target("today+1")
    ('tomorrow', 'tomorrow+1', 'tomorrow+1', 'tomorrow')
    """
    if isinstance(value, str) and _TARGET.fullmatch(value.strip()):
        ahead = days_ahead(value.strip())
    elif isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1000:
        ahead = value
    else:
        raise wrong('expected a local day; accepted: "today", "tomorrow", "tomorrow+1", or a count of days')
    return ("today", "tomorrow")[ahead] if ahead < 2 else f"tomorrow+{ahead - 1}"


_MOST_STEPS = 100_000


def horizon(value: Any) -> int | str:
    """How far a forecast reaches: a count of steps, or a length that holds for assets of any step.

    >>> horizon(24), horizon("36h"), horizon("7d"), horizon("3MS")
    (24, '36h', '7D', '3MS')
    """
    found = _STEP.fullmatch(value.strip()) if isinstance(value, str) else None
    unit = _STEP_UNITS.get(found[2].lower()) if found else None
    if found is not None and unit is not None and found[1] and 0 < int(found[1]) <= _MOST_STEPS:
        return f"{int(found[1])}{unit}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong('expected a whole number of steps, or a length; accepted: 24, "36h", "7d"')
    if not 1 <= value <= _MOST_STEPS:
        raise wrong("accepted: 1 or more" if value < 1 else f"accepted: {_MOST_STEPS} or less")
    return value


POWER: Mapping[str, float] = {"W": 1.0, "kW": 1e3, "MW": 1e6, "GW": 1e9}
"""Units of power, in W; those of another kind of power (kvar, kVA) stay what they are."""
ENERGY: Mapping[str, float] = {"Wh": 1.0, "kWh": 1e3, "MWh": 1e6, "GWh": 1e9, "MJ": 1e6 / 3600, "GJ": 1e9 / 3600}
"""Units of energy, in Wh."""


def several(value: Any) -> Any:
    """A list, or one word that stands for a list of one."""
    return (value,) if isinstance(value, str) else value


_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(kB|MB|GB)")
_SIZES = {"kB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}


def memory(value: Any) -> Any:
    """An amount of memory in bytes, or ``"auto"``.

    >>> memory("1.5GB"), memory("auto")
    (1500000000, 'auto')
    """
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or float(found[1]) == 0:
        raise wrong('accepted: "auto", "800MB", "2GB"')
    return round(float(found[1]) * _SIZES[found[2]])


def _workers(value: Any) -> Any:
    if value != "auto" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise wrong('accepted: "auto" or a whole number from 1 up')
    return value


Duration = Annotated[
    timedelta, BeforeValidator(duration), PlainSerializer(duration_text, return_type=str), Field(ge=timedelta(0))
]
PositiveDuration = Annotated[
    timedelta, BeforeValidator(duration), PlainSerializer(duration_text, return_type=str), Field(gt=timedelta(0))
]
Step = Annotated[str, BeforeValidator(step)]
Zone = Annotated[str, BeforeValidator(zone)]
Levels = Annotated[tuple[float, ...], BeforeValidator(levels)]
Instant = Annotated[datetime, BeforeValidator(instant)]
WallTime = Annotated[time, BeforeValidator(wall_time), PlainSerializer(lambda v: v.strftime("%H:%M"), return_type=str)]
WallTimes = Annotated[
    tuple[time, ...],
    BeforeValidator(wall_times),
    PlainSerializer(lambda v: [one.strftime("%H:%M") for one in v], return_type=list),
]
Weekdays = Annotated[tuple[str, ...], BeforeValidator(weekdays)]
Target = Annotated[str, BeforeValidator(target)]
Text = Annotated[str, Field(strict=True, min_length=1)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(several)]
Count = Annotated[int, Field(strict=True, ge=1)]
Horizon = Annotated[int | str, BeforeValidator(horizon)]
Days = Annotated[int, Field(strict=True, ge=1, le=366)]
NonNegative = Annotated[int, Field(strict=True, ge=0)]
Number = Annotated[int, Field(strict=True)]
Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Switch = Annotated[bool, Field(strict=True)]
Workers = Annotated[int | str, BeforeValidator(_workers)]
Memory = Annotated[int | str, BeforeValidator(memory)]
