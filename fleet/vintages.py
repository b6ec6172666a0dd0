"""Which vintage of a covariate a step is shown: the one that was known at the step's own issue time.

At the issue, the steps of the target see a weather forecast that is hours or days old when its hour comes. A model
that learns from the past has to see the past in the same way, or it trusts the weather more than it will deserve. So
the history is cut as if the product had been issued before each stretch of it as long as the target, at the same
local time: a row of the past is shown what was known at that issue. A product with a timetable was issued at its own
times and no others. Only where nothing was known yet does the first
vintage that came later stand in, never one later than the issue itself. A vintage without a value for an instant says
nothing about it; the one before counts.
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
import numpy.typing as npt

from fleet import calendar
from fleet.task import IntArray
from fleet.timetable import Timetable, local_date
from fleet.zones import DAY, zone_of

_CHANGE = DAY // 8
# Days that hold an issue for sure, on any day of the week.
_WEEKS = 15


def own_issues(at: IntArray, target: IntArray, issue: int, freq: str, tz: str) -> IntArray:
    """The issue time whose knowledge each step is shown: that of the issue itself, or earlier for what lies before it.

    Args:
        at: the steps, UTC microseconds.
        target: the steps of the issue, ascending.
        issue: UTC microseconds.
        freq: the step.
        tz: the zone in whose local days a target of whole days moves back.

    >>> hours = np.arange(-3, 2) * 3_600_000_000
    >>> own_issues(hours, hours[3:], 0, "1h", "UTC") // 3_600_000_000
    array([-4, -2, -2,  0,  0])
    """
    own = np.full(len(at), issue, dtype=np.int64)
    past = at < target[0]
    if past.any():
        own[past] = _earlier(at[past], target, issue, freq, tz)
    return own


def listed_issues(
    at: IntArray, span: tuple[int, int], issue: int, timetable: Timetable, tz: str, *, days: bool
) -> IntArray:
    """As `own_issues`, of a product that is issued by a timetable: the past issues are those it has.

    What lies before a target is shown the issue whose own target ends there, or the oldest one that reaches so far: so
    the past is forecast as far ahead as the target. Steps that no issue was about are shown the last one before.

    Args:
        span: first step of the target, and the end of its last one.
        days: the target is whole local days, whenever on the day the issue is; then the past issues are those at the
            same time of day.

    >>> hour = 3_600_000_000
    >>> twice = Timetable(times=(6 * hour, 18 * hour))
    >>> listed_issues(np.arange(4, 20, 2) * hour, (18 * hour, 24 * hour), 18 * hour, twice, "UTC", days=False) // hour
    array([-6,  6,  6,  6,  6,  6,  6, 18])
    """
    own = np.full(len(at), issue, dtype=np.int64)
    past = at < span[0]
    if not past.any():
        return own
    first, today = int(at.min()), local_date(issue, tz)
    reach = (span[1] - issue) // DAY + 2
    zone = zone_of(tz, first - 2 * (reach + _WEEKS) * DAY, span[1])
    if days:
        shown = int(zone.local(np.array([issue], dtype=np.int64))[0]) - today * DAY
        passed = tuple(time for time in timetable.times if time <= shown)
        timetable = Timetable(times=(passed or timetable.times)[-1:], weekdays=timetable.weekdays)
    issues = timetable.on(np.arange(local_date(first, tz) - reach - _WEEKS, today + 1), tz)
    issues = issues[issues <= issue]
    begun = zone.local(issues)
    since = int(zone.local(np.array([issue], dtype=np.int64))[0])
    if days:
        begun, since = begun // DAY * DAY, today * DAY
    # Where the targets of those issues lie on the clock is where this one's does.
    lead = zone.local(np.array(span, dtype=np.int64)) - since
    starts = np.maximum.accumulate(zone.utc(begun + lead[0])).tolist()
    ends = np.maximum.accumulate(zone.utc(begun + lead[1])).tolist()
    edge, chosen = span[0], []
    while edge > first:
        number = bisect_left(ends, edge)
        if number == len(ends) or starts[number] >= edge:
            number = bisect_left(starts, edge) - 1
        edge = starts[number]
        chosen.append(number)
    numbers = np.array(chosen[::-1], dtype=np.int64)
    place = np.searchsorted(np.array(starts, dtype=np.int64)[numbers], at[past], side="right") - 1
    own[past] = issues[numbers[place]]
    return own


def _earlier(at: IntArray, target: IntArray, issue: int, freq: str, tz: str) -> IntArray:
    step = calendar.step_of(freq).elapsed
    moment = np.array([issue], dtype=np.int64)
    if not step:
        blocks = -(calendar.positions_micros(at, target[:1], freq, tz) // len(target))
        distinct, place = np.unique(blocks, return_inverse=True)
        issues = [calendar.back_micros(moment, int(n) * len(target), freq, tz)[0] for n in distinct]
        return np.array(issues, dtype=np.int64)[place]
    span = len(target) * step
    days = round(span / DAY)
    if not days or abs(span - days * DAY) > _CHANGE:
        elapsed: IntArray = issue + (at - target[0]) // span * span
        return elapsed
    zone = zone_of(tz, min(int(at.min()), issue) - (days + 1) * DAY, int(target[-1]))
    blocks = (zone.local(at) - zone.local(target[:1])) // (days * DAY)
    earlier: IntArray = zone.utc(zone.local(moment) + blocks * days * DAY)
    return earlier


def as_of(valid: IntArray, available: IntArray, own: IntArray) -> IntArray:
    """Of the vintages of each instant the row that its own issue time is shown: the last one known by then.

    Args:
        valid: (rows,) instants, sorted; those of one instant in the order of their availability.
        available: (rows,) when each became known.
        own: (rows,) the own issue time of each row's instant.

    Returns:
        One row of each instant; the first one where none was known by then.

    >>> as_of(np.array([1, 1, 1, 2]), np.array([10, 20, 30, 40]), np.array([25, 25, 25, 25]))
    array([1, 3])
    """
    if not len(valid):
        return np.zeros(0, dtype=np.int64)
    starts = np.flatnonzero(np.append(True, valid[1:] != valid[:-1]))
    sizes = np.diff(np.append(starts, len(valid)))
    limit = np.repeat(np.maximum(own[starts], available[starts]), sizes)
    early: npt.NDArray[np.int64] = (available <= limit).astype(np.int64)
    rows: IntArray = starts + np.add.reduceat(early, starts) - 1
    return rows
