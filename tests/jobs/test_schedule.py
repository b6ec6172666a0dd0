"""Firing tables: which instants a schedule means, through both changes of the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest

from jobs.errors import ScheduleInvalid
from jobs.schedule import Cron, Daylight, Every, missed, spacing, upcoming


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def between(schedule: Cron | Every, first: str, upto: str) -> list[str]:
    found = []
    for slot in schedule.after(utc(first)):
        if slot > utc(upto):
            break
        found.append(f"{slot:%d %H:%M}")
    return found


SPRING, AUTUMN = ("2024-03-30 00:00", "2024-04-01 12:00"), ("2024-10-25 12:00", "2024-10-28 12:00")


@pytest.mark.parametrize(
    ("line", "daylight", "when", "expected"),
    [
        # Summer time begins on 31 March at 01:00Z: 02:00 to 03:00 is skipped.
        ("0 2 * * *", "once", SPRING, ["30 01:00", "31 01:00", "01 00:00"]),
        ("30 2 * * *", "once", SPRING, ["30 01:30", "31 01:00", "01 00:30"]),
        ("0 2 * * *", "twice", SPRING, ["30 01:00", "31 01:00", "01 00:00"]),
        ("30 2 * * *", "skip", SPRING, ["30 01:30", "01 00:30"]),
        ("0,30 2 * * *", "once", SPRING, ["30 01:00", "30 01:30", "31 01:00", "01 00:00", "01 00:30"]),
        # It ends on 27 October at 01:00Z: 02:00 to 03:00 comes twice.
        ("0 2 * * *", "once", AUTUMN, ["26 00:00", "27 00:00", "28 01:00"]),
        ("30 2 * * *", "once", AUTUMN, ["26 00:30", "27 00:30", "28 01:30"]),
        ("0 2 * * *", "twice", AUTUMN, ["26 00:00", "27 00:00", "27 01:00", "28 01:00"]),
        ("30 2 * * *", "skip", AUTUMN, ["26 00:30", "27 00:30", "28 01:30"]),
    ],
)
def test_berlin_at_two_and_half_past_two(
    line: str, daylight: Daylight, when: tuple[str, str], expected: list[str]
) -> None:
    assert between(Cron(line=line, zone="Europe/Berlin", daylight=daylight), *when) == expected


def test_santiago_at_midnight_once_a_day_through_both_changes() -> None:
    cron = Cron(line="0 0 * * *", zone="America/Santiago")
    # On 8 September 00:00 is skipped: the day begins at 01:00. On 7 April 23:00 to 24:00 of the 6th comes twice.
    assert between(cron, "2024-09-06 12:00", "2024-09-10 00:00") == ["07 04:00", "08 04:00", "09 03:00"]
    assert between(cron, "2024-04-05 12:00", "2024-04-09 00:00") == ["06 03:00", "07 04:00", "08 04:00"]
    year = [slot.astimezone(ZoneInfo("America/Santiago")).date() for slot in islice(cron.after(utc("2024-01-01")), 365)]
    assert len(set(year)) == 365


@pytest.mark.parametrize(
    "schedule", [Cron(line="*/15 * * * *", zone="Europe/Berlin"), Every(period=timedelta(minutes=15))]
)
@pytest.mark.parametrize(
    ("day", "quarters"), [("2024-03-30 23:00", 92), ("2024-10-26 22:00", 100), ("2024-06-09 22:00", 96)]
)
def test_every_quarter_of_an_hour_keeps_its_distance(schedule: Cron | Every, day: str, quarters: int) -> None:
    # From local midnight to local midnight.
    slots = upcoming(schedule, utc(day) - timedelta(seconds=1), quarters + 1)
    assert {later - earlier for earlier, later in pairwise(slots)} == {timedelta(minutes=15)}
    local = [slot.astimezone(ZoneInfo("Europe/Berlin")) for slot in slots]
    assert local[0].date() != local[-1].date()
    assert (local[0].hour, local[-1].hour, local[-1].minute) == (0, 0, 0)
    assert len({one.date() for one in local[:-1]}) == 1


def test_slots_do_not_depend_on_where_one_begins_to_look() -> None:
    cron = Cron(line="30 2 * * *", zone="Europe/Berlin")
    every = list(islice(cron.after(utc("2024-01-01")), 366))
    for at in range(60, 120):
        assert upcoming(cron, every[at], 3) == every[at + 1 : at + 4]
        assert upcoming(cron, every[at] - timedelta(seconds=1), 1) == [every[at]]


def test_weekdays_are_those_of_cron() -> None:
    monday = Cron(line="0 12 * * 1", zone="UTC")
    assert next(monday.after(utc("2024-06-01"))).strftime("%a") == "Mon"
    for sunday in ("0", "7", "sun"):
        assert next(Cron(line=f"0 12 * * {sunday}", zone="UTC").after(utc("2024-06-03"))).strftime("%a") == "Sun"


def test_day_or_weekday_is_enough_where_both_are_named() -> None:
    cron = Cron(line="0 0 13 * 5", zone="UTC")
    assert between(cron, "2024-06-01 00:00", "2024-06-22 00:00") == ["07 00:00", "13 00:00", "14 00:00", "21 00:00"]


def test_missed_slots_are_the_last_ones_oldest_first() -> None:
    cron = Cron(line="0 3 * * *", zone="UTC")
    found = missed(cron, utc("2024-01-01"), utc("2024-03-01 12:00"), 2)
    assert found == [utc("2024-02-29 03:00"), utc("2024-03-01 03:00")]
    assert missed(cron, utc("2024-03-01 03:00"), utc("2024-03-01 12:00"), 2) == []
    assert missed(cron, utc("2024-02-28 03:00"), utc("2024-03-01 03:00"), 9) == found
    assert missed(cron, utc("2024-03-02"), utc("2024-03-01"), 9) == []


def test_what_is_normal_between_two_slots() -> None:
    assert spacing(Cron(line="0 3 * * *", zone="UTC"), utc("2024-01-01")) == timedelta(days=1)
    assert spacing(Cron(line="0 3 * * 1-5", zone="UTC"), utc("2024-01-01")) == timedelta(days=3)


@pytest.mark.parametrize(
    "line", ["", "5", "* * * *", "61 * * * *", "0 0 30 2 *", "0 25 * * *", "a b c d e", "0 0 * * 9"]
)
def test_a_line_that_makes_no_sense_is_refused_with_what_is_accepted(line: str) -> None:
    with pytest.raises(ScheduleInvalid) as caught:
        Cron(line=line, zone="UTC")
    assert line in caught.value.message
    assert "five fields" in caught.value.hint
