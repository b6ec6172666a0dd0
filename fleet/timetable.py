"""When a product is issued: at times that the clock of an asset shows, on the local days that it names.

A time that a change of the clock skips is the first instant after the gap; of one that comes twice the earlier is
meant. So every such day has its issues, and none of them twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fleet.zones import DAY, IntArray, zone_of

# Enough days for any day of the week, although a country may skip one of them.
_WEEK = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """The issue times of a product.

    Args:
        times: what the clock shows, microseconds after midnight, ascending.
        weekdays: 0 is Monday; empty is every day.
    """

    times: tuple[int, ...]
    weekdays: tuple[int, ...] = ()

    def on(self, days: IntArray, tz: str) -> IntArray:
        """The issues of local days (counted from 1970-01-01), ascending; UTC microseconds.

        >>> paris = Timetable(times=(41_400_000_000,))    # 11:30
        >>> paris.on(np.array([19_812, 19_813]), "Europe/Paris").view("M8[us]").astype("M8[m]")
        array(['2024-03-30T10:30', '2024-03-31T09:30'], dtype='datetime64[m]')
        """
        if self.weekdays:
            days = days[np.isin((days + 3) % 7, self.weekdays)]
        if not len(days):
            return days
        shown = (days[:, None] * DAY + np.array(self.times, dtype=np.int64)).ravel()
        zone = zone_of(tz, int(shown[0]) - DAY, int(shown[-1]) + DAY)
        found: IntArray = np.unique(zone.utc(shown))
        return found

    def last(self, at: int, tz: str) -> int:
        """The newest issue at or before an instant; both UTC microseconds."""
        today = local_date(at, tz)
        found = self.on(np.arange(today - _WEEK, today + 1), tz)
        return int(found[found <= at][-1])

    def next(self, at: int, tz: str) -> int:
        """The first issue at or after an instant; both UTC microseconds."""
        today = local_date(at, tz)
        found = self.on(np.arange(today, today + _WEEK + 1), tz)
        return int(found[found >= at][0])

    def back(self, at: int, count: int, every: int, tz: str) -> IntArray:
        """The last so many issues at or before an instant, ascending.

        Args:
            every: take only each so-many-th local day, the newest among them.
        """
        newest = local_date(self.last(at, tz), tz)
        days = newest - np.arange(self._days(count, every), -1, -1) * every
        found = self.on(days, tz)
        return found[found <= at][-count:]

    def forward(self, at: int, count: int, every: int, tz: str) -> IntArray:
        """The first so many issues at or after an instant, ascending; see `back`."""
        oldest = local_date(self.next(at, tz), tz)
        found = self.on(oldest + np.arange(self._days(count, every) + 1) * every, tz)
        return found[found >= at][:count]

    def _days(self, count: int, every: int) -> int:
        """How many days hold as many issues for sure."""
        return (-(-count // len(self.times)) + 1) * (7 if self.weekdays else 1) + _WEEK


def local_date(at: int, tz: str) -> int:
    """The local day of an instant, counted from 1970-01-01.

    >>> local_date(0, "America/Santiago")
    -1
    """
    return int(zone_of(tz, at, at).local(np.array([at], dtype=np.int64))[0]) // DAY
