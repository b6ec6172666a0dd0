"""Where the time comes from: an argument, never a global read in passing.

Every instant in the store is UTC. A clock answers one question, and tests answer it with a fixed one.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Clock(Protocol):
    """Answers what time it is, as an aware UTC datetime."""

    def now(self) -> datetime: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def __repr__(self) -> str:
        return "system_clock"


class FixedClock:
    """A clock that stands still until it is moved; for tests and for replays.

    >>> clock = FixedClock(datetime(2024, 6, 1, tzinfo=UTC))
    >>> clock.advance(hours=2)
    >>> clock.now().isoformat()
    '2024-06-01T02:00:00+00:00'
    """

    def __init__(self, at: datetime) -> None:
        self._at = at.astimezone(UTC)

    def now(self) -> datetime:
        return self._at

    def set(self, at: datetime) -> None:
        """Move the clock to an instant."""
        self._at = at.astimezone(UTC)

    def advance(self, **step: float) -> None:
        """Move the clock on by a timedelta given as keywords."""
        self._at += timedelta(**step)


system_clock = SystemClock()


def to_micros(at: datetime) -> int:
    """Microseconds since 1970 of an aware datetime.

    >>> to_micros(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    1000000
    """
    if at.tzinfo is None:
        raise ValueError(f"{at.isoformat()} has no time zone")
    return (at - EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The aware UTC datetime of microseconds since 1970.

    >>> from_micros(1_000_000).isoformat()
    '1970-01-01T00:00:01+00:00'
    """
    return EPOCH + timedelta(microseconds=micros)
