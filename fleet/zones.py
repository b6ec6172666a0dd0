"""What the clocks of a zone show, in integers.

A zone is a short table of the instants at which its offset from UTC changes; a million instants are converted in one
search. A local time inside a gap becomes the first instant after it, one that exists twice the earlier of the two, so
``utc(local(t)) <= t``, with equality outside the second pass of a repeated hour.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import numpy.typing as npt

from fleet.errors import ConfigInvalid

IntArray = npt.NDArray[np.int64]

SECOND = 1_000_000
DAY = 86_400 * SECOND


@dataclass(frozen=True, slots=True, eq=False)
class Zone:
    """What a zone's clock shows, as a table of the instants at which its offset changes.

    Args:
        starts: (k,) instants from which an offset holds, ascending; the first is before all others can be.
        offsets: (k,) local minus UTC in microseconds.
        local_ends: (k - 1,) what the clock shows as each offset ends.
    """

    starts: IntArray
    offsets: IntArray
    local_ends: IntArray

    @property
    def fixed(self) -> bool:
        """Whether the offset never changes in the years of the table."""
        return len(self.starts) == 1

    def changes(self, first: int, last: int) -> bool:
        """Whether the offset at one instant and the offset at a later one lie on two sides of a change."""
        edges = np.searchsorted(self.starts, [first, last], side="right")
        return bool(edges[0] != edges[1])

    def offset_at(self, instants: IntArray) -> IntArray:
        """Local minus UTC at each instant."""
        place: IntArray = np.searchsorted(self.starts, instants, side="right") - 1
        return self.offsets[place]

    def local(self, instants: IntArray) -> IntArray:
        """What the clock shows, in microseconds since 1970-01-01 00:00 of its own."""
        return instants + (self.offsets[0] if self.fixed else self.offset_at(instants))

    def utc(self, local: IntArray) -> IntArray:
        """The instants at which the clock shows this: shifted forward out of a gap, the earlier of two."""
        if self.fixed:
            only: IntArray = local - self.offsets[0]
            return only
        # the earliest offset whose local span has not ended: it holds the time, or begins after the gap that does
        place = np.searchsorted(self.local_ends, local, side="right")
        instants: IntArray = np.maximum(local - self.offsets[place], self.starts[place])
        return instants


_FIRST_YEAR, _LAST_YEAR = 1900, 2199


def zone_of(tz: str, first: int, last: int) -> Zone:
    """The clock of a zone, sure to hold from one instant to another.

    >>> spring = 1_711_846_800 * SECOND
    >>> zone_of("Europe/Paris", spring, spring).local(np.array([spring])).view("M8[us]")
    array(['2024-03-31T03:00:00.000000'], dtype='datetime64[us]')
    """
    if tz == "UTC":
        return _UTC
    # whole decades, so that few tables are built (about 2 ms for ten years), and a year to spare at both ends
    return _table(tz, (_year(first) - 1) // 10 * 10, (_year(last) + 1) // 10 * 10 + 9)


def _year(instant: int) -> int:
    return 1970 + (instant - DAY) // (365 * DAY + DAY // 4)


@lru_cache(maxsize=512)
def named(tz: str) -> ZoneInfo:
    """The zone of an IANA name.

    >>> named("Europe/Paris")
    zoneinfo.ZoneInfo(key='Europe/Paris')
    """
    try:
        return ZoneInfo(tz)
    except (LookupError, ValueError, OSError) as cause:
        near = difflib.get_close_matches(tz, available_timezones(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else 'write an IANA name, such as "Europe/Paris"'
        raise ConfigInvalid(f"timezone {tz!r} is not known", hint=hint) from cause


@lru_cache(maxsize=1024)
def _table(tz: str, first_year: int, last_year: int) -> Zone:
    """The table, found by asking the zone day by day and halving the days on which the answer changes.

    zoneinfo does not show its transitions, and pandas must be told for each ambiguous hour which of the two is meant.
    """
    where = named(tz)

    def offset(second: int) -> int:
        delta = datetime.fromtimestamp(second, UTC).astimezone(where).utcoffset()
        return 0 if delta is None else round(delta.total_seconds())

    begin = int(datetime(max(first_year, _FIRST_YEAR), 1, 1, tzinfo=UTC).timestamp())
    end = int(datetime(min(max(last_year, _FIRST_YEAR), _LAST_YEAR), 12, 31, tzinfo=UTC).timestamp())
    starts, offsets = [-(2**62)], [offset(begin)]
    for day in range(begin, end, 86_400):
        after = offset(day + 86_400)
        if after != offsets[-1]:
            low, high = day, day + 86_400
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(middle) == offsets[-1] else (low, middle)
            starts.append(high * SECOND)
            offsets.append(after)
    start, shift = np.array(starts, dtype=np.int64), np.array(offsets, dtype=np.int64) * SECOND
    return Zone(start, shift, start[1:] + shift[:-1])


_UTC = Zone(np.array([-(2**62)], dtype=np.int64), np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int64))
