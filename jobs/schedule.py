"""When a job is due: its slots, from a cron line or a period, on the clock of its zone.

A slot is an instant; the slots of a schedule are the same whoever asks and whenever, so a missed one can be found
later. APScheduler works out which wall-clock times a cron line means; what a change of the clock makes of them is
decided here. A line whose hour is ``*`` follows elapsed time through the change. For any other line, a time that the
clock skips is the first instant after the gap (``skip`` leaves it out) and one that comes twice is the earlier of the
two (``twice`` takes both).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice, pairwise
from typing import Literal
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

from jobs.errors import ScheduleInvalid
from store.clock import EPOCH

Daylight = Literal["once", "twice", "skip"]
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SECOND = timedelta(seconds=1)
# The most that a clock is set back in one change; only there do slots come in another order than what the clock shows.
_WIDEST = timedelta(hours=3)
ACCEPTED = 'accepted: five fields, as cron = "5 * * * *" (minute hour day month weekday)'


@dataclass(frozen=True, slots=True, kw_only=True)
class Every:
    """Slots a fixed length apart, counted from 1970-01-01T00:00Z, so that they are the same after a restart."""

    period: timedelta

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The slots later than an instant, without end.

        >>> at = datetime(2024, 1, 1, 0, 7, tzinfo=UTC)
        >>> next(Every(period=timedelta(minutes=15)).after(at)).isoformat()
        '2024-01-01T00:15:00+00:00'
        """
        count = (moment - EPOCH) // self.period
        while True:
            count += 1
            yield EPOCH + count * self.period


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """Slots at the wall-clock times that a cron line names, in a zone.

    Weekdays are those of cron: 0 and 7 are Sunday. Where day and weekday are both restricted, either is enough.
    """

    line: str
    zone: str
    daylight: Daylight = "once"
    _triggers: tuple[CronTrigger, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_triggers", _triggers(self.line))

    @property
    def follows_time(self) -> bool:
        """Whether the line names every hour, so that it keeps its distance through a change of the clock."""
        return self.line.split()[1] == "*"

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The slots later than an instant, ascending; ends only with the calendar.

        >>> cron = Cron(line="30 2 * * *", zone="Europe/Berlin")
        >>> next(cron.after(datetime(2024, 3, 30, 12, tzinfo=UTC))).isoformat()  # 02:30 is skipped on the 31st
        '2024-03-31T01:00:00+00:00'
        """
        zone = ZoneInfo(self.zone)
        wall = moment.astimezone(zone).replace(tzinfo=UTC)
        waiting: set[datetime] = set()
        for named in self._walls(wall - _WIDEST):
            # What lies further back than the widest change cannot be overtaken any more.
            sure = named.replace(tzinfo=zone).astimezone(UTC) - _WIDEST
            for slot in sorted(one for one in waiting if one < sure):
                waiting.discard(slot)
                yield slot
            waiting.update(one for one in self._instants(named, zone) if one > moment)

    def _walls(self, after: datetime) -> Iterator[datetime]:
        """The times that the line names, as if the wall's clock were UTC."""
        at = after
        while True:
            found = [one for trigger in self._triggers if (one := trigger.get_next_fire_time(None, at)) is not None]
            if not found:
                return
            yield min(found)
            at = min(found) + _SECOND

    def _instants(self, named: datetime, zone: ZoneInfo) -> list[datetime]:
        first = named.replace(tzinfo=zone)
        instants = [first.replace(fold=fold).astimezone(UTC) for fold in (0, 1)]
        shown = [one.astimezone(zone).replace(tzinfo=UTC, fold=0) == named for one in instants]
        if not any(shown):  # the clock skips it
            return [] if self.follows_time or self.daylight == "skip" else [_change(instants[1], instants[0], zone)]
        if instants[0] != instants[1] and not (self.follows_time or self.daylight == "twice"):
            return instants[:1]
        return sorted(set(instants))


Schedule = Every | Cron


def _change(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The instant between two others at which the zone's clock jumps."""
    old = before.astimezone(zone).utcoffset()
    while after - before > _SECOND:
        middle = before + (after - before) // 2
        if middle.astimezone(zone).utcoffset() == old:
            before = middle
        else:
            after = middle
    return after.replace(microsecond=0)


@lru_cache(maxsize=256)
def _triggers(line: str) -> tuple[CronTrigger, ...]:
    fields = line.split()
    if len(fields) != 5:
        raise ScheduleInvalid(f'cron = "{line}" has {len(fields)} fields', hint=ACCEPTED)
    minute, hour, day, month, weekday = fields
    both = day != "*" and weekday != "*"
    made = []
    for days, weekdays in [(day, "*"), ("*", weekday)] if both else [(day, weekday)]:
        try:
            made.append(
                CronTrigger(minute=minute, hour=hour, day=days, month=month, day_of_week=_named(weekdays), timezone=UTC)
            )
        except ValueError as error:
            raise ScheduleInvalid(f'cron = "{line}": {error}', hint=ACCEPTED) from error
    if not any(one.get_next_fire_time(None, EPOCH) for one in made):
        raise ScheduleInvalid(f'cron = "{line}" names a day that no year has', hint=ACCEPTED)
    return tuple(made)


def _named(weekdays: str) -> str:
    """Weekdays by name: APScheduler counts from Monday, cron from Sunday.

    >>> _named("1-5"), _named("0"), _named("*/2"), _named("5-7")
    ('mon,tue,wed,thu,fri', 'sun', 'sun,tue,thu,sat', 'fri,sat,sun')
    """
    if weekdays == "*":
        return weekdays
    found = []
    for part in weekdays.split(","):
        ends, _, step = part.partition("/")
        first, _, last = ends.partition("-")
        if ends == "*":
            first, last = "0", "6"
        if not (first.isdecimal() and (last or first).isdecimal() and (step or "1").isdecimal()):
            found.append(part)  # names already; a wrong one is refused by the trigger
            continue
        start, stop = int(first), int(last or ("6" if step else first))
        if not (0 <= start <= stop <= 7 and int(step or 1) > 0):
            raise ValueError(f'the weekday "{part}" is not within 0 to 7')
        found += [_DAYS[number] for number in range(start, stop + 1, int(step or 1))]
    return ",".join(found)


def upcoming(schedule: Schedule, after: datetime, count: int) -> list[datetime]:
    """The next slots later than an instant."""
    return list(islice(schedule.after(after), count))


def missed(schedule: Schedule, after: datetime, upto: datetime, count: int) -> list[datetime]:
    """The last slots later than one instant and not later than another, oldest first, at most so many.

    What lies further back is not gone through one by one, however long nobody looked.

    >>> quarter = Every(period=timedelta(minutes=15))
    >>> [f"{one:%H:%M}" for one in missed(quarter, EPOCH, datetime(2024, 1, 1, 12, 1, tzinfo=UTC), 3)]
    ['11:30', '11:45', '12:00']
    """
    if after >= upto or count < 1:
        return []
    reach = timedelta(minutes=1) * count
    while True:
        begin = max(after, upto - reach)
        found: list[datetime] = []
        for slot in schedule.after(begin):
            if slot > upto:
                break
            found.append(slot)
        if len(found) >= count or begin == after:
            return found[-count:]
        reach *= 4


def spacing(schedule: Schedule, around: datetime) -> timedelta:
    """The longest time between slots near an instant: how long is normal for nothing to happen."""
    slots = upcoming(schedule, around, 8)
    return max((later - earlier for earlier, later in pairwise(slots)), default=timedelta(0))
