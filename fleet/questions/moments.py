"""How far back and at which instant: what a user types, in microseconds."""

from __future__ import annotations

from datetime import datetime

from pydantic_core import PydanticCustomError

from fleet.calendar import step_seconds
from fleet.config.values import duration, instant
from fleet.errors import ConfigInvalid
from fleet.zones import DAY, SECOND
from store.clock import to_micros


def length(text: str) -> int:
    """A length of time such as 7d or 36h, in microseconds.

    >>> length("36h") // 3_600_000_000
    36
    """
    try:
        return round(duration(text).total_seconds() * 1e6)
    except PydanticCustomError as error:
        raise ConfigInvalid(f"{text!r}: {error.message()}") from error


def week_or_steps(freq: str) -> int:
    """A week, or sixty steps where those are longer, in microseconds.

    >>> [week_or_steps(freq) // 86_400_000_000 for freq in ("1h", "1D")]
    [7, 60]
    """
    return max(7 * DAY, round(60 * step_seconds(freq)) * SECOND)


def moment(at: datetime | str, what: str) -> int:
    """An instant with its zone, in UTC microseconds."""
    try:
        return to_micros(instant(at))
    except PydanticCustomError as error:
        raise ConfigInvalid(f"{what} {at}: {error.message()}") from error
