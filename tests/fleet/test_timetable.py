"""Issue times on the local clock, beside an oracle that walks every minute of zoneinfo's clock."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet import calendar
from fleet.origins import timetable_origins
from fleet.timetable import Timetable, local_date

ZONES = ("UTC", "Europe/Paris", "America/Santiago", "Australia/Lord_Howe", "America/Havana", "Asia/Kathmandu")
MINUTE = timedelta(minutes=1)


def table(*texts: str, weekdays: tuple[int, ...] = ()) -> Timetable:
    clock = [time.fromisoformat(text) for text in texts]
    return Timetable(times=tuple((at.hour * 60 + at.minute) * 60_000_000 for at in clock), weekdays=weekdays)


def utc(micros: int) -> str:
    return f"{datetime.fromtimestamp(micros / 1e6, UTC):%Y-%m-%dT%H:%M}"


def micros(at: datetime) -> int:
    return round(at.timestamp() * 1e6)


def days(*texts: str) -> np.ndarray:
    return np.array([(date.fromisoformat(text) - date(1970, 1, 1)).days for text in texts])


def walked(day: date, at: time, tz: str) -> datetime:
    """The first minute at which the clock shows the time of the day, or one after it."""
    wanted, zone = datetime.combine(day, at), ZoneInfo(tz)
    moment = datetime.combine(day, time(), tzinfo=UTC) - timedelta(hours=15)
    while moment.astimezone(zone).replace(tzinfo=None) < wanted:
        moment += MINUTE
    return moment


def test_an_issue_keeps_its_local_time_when_the_clocks_change() -> None:
    found = table("11:30").on(days("2024-03-30", "2024-03-31", "2024-10-26", "2024-10-27"), "Europe/Paris")
    assert [utc(at) for at in found.tolist()] == [
        "2024-03-30T10:30", "2024-03-31T09:30", "2024-10-26T09:30", "2024-10-27T10:30",
    ]  # fmt: skip


def test_a_time_that_the_clock_skips_is_the_first_instant_after_the_gap() -> None:
    found = table("02:15", "02:45", "03:30").on(days("2024-03-31"), "Europe/Paris")
    assert [utc(at) for at in found.tolist()] == ["2024-03-31T01:00", "2024-03-31T01:30"]
    midnight = table("00:00", "00:20").on(days("2024-09-08"), "America/Santiago")
    assert [utc(at) for at in midnight.tolist()] == ["2024-09-08T04:00"]
    half = table("02:10").on(days("2024-10-06"), "Australia/Lord_Howe")
    assert [utc(at) for at in half.tolist()] == ["2024-10-05T15:30"]


def test_of_a_time_that_comes_twice_the_earlier_is_meant() -> None:
    assert [utc(at) for at in table("02:30").on(days("2024-10-27"), "Europe/Paris").tolist()] == ["2024-10-27T00:30"]
    half = table("01:45").on(days("2024-04-07"), "Australia/Lord_Howe")
    assert [utc(at) for at in half.tolist()] == ["2024-04-06T14:45"]


def test_weekdays_are_those_of_the_local_clock() -> None:
    """00:30 on Monday in Auckland is still Sunday in UTC."""
    mondays = table("00:30", weekdays=(0,))
    found = mondays.on(np.arange(19_783, 19_783 + 15), "Pacific/Auckland")
    assert [pd.Timestamp(at, unit="us", tz="UTC").day_name() for at in found.tolist()] == ["Sunday", "Sunday"]
    assert len({utc(at)[11:] for at in found.tolist()}) == 1


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(ZONES),
    st.dates(date(2023, 1, 1), date(2025, 12, 31)),
    st.lists(st.times().map(lambda at: at.replace(second=0, microsecond=0)), min_size=1, max_size=3, unique=True),
)
def test_every_issue_is_where_walking_the_clock_finds_it(tz: str, day: date, at: list[time]) -> None:
    found = table(*(f"{one:%H:%M}" for one in sorted(at))).on(days(day.isoformat()), tz)
    assert found.tolist() == sorted({micros(walked(day, one, tz)) for one in at})


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(ZONES), st.integers(1_672_531_200, 1_767_225_600), st.integers(1, 9), st.integers(1, 4),
    st.sets(st.integers(0, 6), max_size=3), st.sets(st.integers(0, 1439), min_size=1, max_size=3),
)  # fmt: skip
def test_last_next_back_and_forward_are_parts_of_the_same_row(
    tz: str, second: int, count: int, every: int, weekdays: set[int], minutes: set[int]
) -> None:
    clock = Timetable(times=tuple(sorted(at * 60_000_000 for at in minutes)), weekdays=tuple(sorted(weekdays)))
    at = second * 1_000_000
    row = clock.on(np.arange(second // 86_400 - 500, second // 86_400 + 500), tz)
    last, following = clock.last(at, tz), clock.next(at, tz)
    assert last == row[row <= at][-1]
    assert following == row[row >= at][0]
    behind = [one for one in row[row <= at] if (local_date(last, tz) - local_date(int(one), tz)) % every == 0]
    ahead = [one for one in row[row >= at] if (local_date(int(one), tz) - local_date(following, tz)) % every == 0]
    assert clock.back(at, count, every, tz).tolist() == behind[-count:]
    assert clock.forward(at, count, every, tz).tolist() == ahead[:count]


# -- what an issue is about ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("issue", "tz", "freq", "steps"),
    [
        ("2024-03-30 11:30", "Europe/Paris", "15min", 92),
        ("2024-03-29 11:30", "Europe/Paris", "15min", 96),
        ("2024-10-26 11:30", "Europe/Paris", "15min", 100),
        ("2024-03-30 11:30", "Europe/Paris", "10min", 138),
        ("2024-03-30 11:30", "Europe/Paris", "1h", 23),
        ("2024-10-26 11:30", "Europe/Paris", "1h", 25),
        ("2024-03-30 11:30", "Europe/Paris", "1D", 1),
        ("2024-10-26 11:30", "Europe/Paris", "1D", 1),
        ("2024-09-07 11:30", "America/Santiago", "1h", 23),
        ("2024-04-05 11:30", "America/Santiago", "15min", 100),
        ("2024-10-05 11:30", "Australia/Lord_Howe", "30min", 47),
        ("2024-04-06 11:30", "Australia/Lord_Howe", "30min", 49),
        ("2024-10-05 11:30", "Australia/Lord_Howe", "15min", 94),
    ],
)
def test_a_delivery_is_the_steps_of_the_local_day(issue: str, tz: str, freq: str, steps: int) -> None:
    at = pd.Timestamp(issue, tz=tz)
    found = calendar.delivery_day(at, 1, freq, tz)
    assert len(found) == steps
    assert set(found.tz_convert(tz).date) == {(at + pd.DateOffset(days=1)).date()}


def test_two_days_with_a_change_between_them_are_one_delivery() -> None:
    friday = pd.Timestamp("2024-10-25 11:30", tz="Europe/Paris")
    found = calendar.delivery_day(friday, 1, "1h", "Europe/Paris", days=3)
    assert len(found) == 24 + 25 + 24
    assert found[0] == pd.Timestamp("2024-10-26", tz="Europe/Paris")


def test_steps_that_do_not_begin_at_midnight_belong_to_the_day_they_begin_in() -> None:
    """Midnight in Kathmandu is 18:15 in UTC; readings of whole UTC hours begin at a quarter to each hour there."""
    issue, anchor = pd.Timestamp("2024-06-09 11:30", tz="Asia/Kathmandu"), 0
    found = calendar.delivery_day(issue, 1, "1h", "Asia/Kathmandu", anchor=anchor)
    assert found[0] == pd.Timestamp("2024-06-09 19:00", tz="UTC")
    assert (len(found), found[-1]) == (24, pd.Timestamp("2024-06-10 18:00", tz="UTC"))
    gas = calendar.instant(pd.Timestamp("2024-01-01 06:00", tz="Europe/Paris"))
    day = calendar.delivery_day(
        pd.Timestamp("2024-03-30 11:30", tz="Europe/Paris"), 1, "1D", "Europe/Paris", anchor=gas
    )
    assert day.equals(pd.DatetimeIndex(["2024-03-31 04:00"], tz="UTC").as_unit("us"))


def test_today_is_what_is_left_of_it() -> None:
    noon = pd.Timestamp("2024-10-27 12:10", tz="Europe/Paris")
    found = calendar.delivery_day(noon, 0, "1h", "Europe/Paris")
    assert (len(found), found[0]) == (11, pd.Timestamp("2024-10-27 13:00", tz="Europe/Paris"))
    midnight = pd.Timestamp("2024-10-27", tz="Europe/Paris")
    assert len(calendar.delivery_day(midnight, 0, "15min", "Europe/Paris")) == 100


# -- where a timetable is judged -----------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(("Europe/Paris", "America/Santiago", "Australia/Lord_Howe", "UTC")),
    st.sampled_from(("15min", "30min", "1h", "1D")),
    st.integers(0, 700), st.integers(1, 6), st.integers(0, 2), st.integers(1, 3), st.integers(0, 1439),
)  # fmt: skip
def test_the_last_origins_are_the_last_issues_whose_target_is_over(
    tz: str, freq: str, place: int, count: int, ahead: int, length: int, minute: int
) -> None:
    """The next issue after the last origin has a target that reaches beyond the actuals."""
    clock = Timetable(times=(minute * 60_000_000,))
    steps = calendar.grid(pd.Timestamp("2024-01-01", tz=tz), place + 400, "1D", tz)
    end = calendar.first_step(calendar.instant(steps[-1]) + minute * 31_000_000, calendar.instant(steps[0]), freq, tz)
    last_end = pd.Timestamp(end, unit="us", tz="UTC")
    found = timetable_origins(
        clock, None, last_end, count, pd.Timedelta("1D"), days_ahead=ahead + 1, days=length, horizon=1, freq=freq, tz=tz
    )
    anchor = calendar.instant(steps[0])
    over = [
        calendar.interval_end(
            calendar.delivery_day(issue, ahead + 1, freq, tz, days=length, anchor=anchor)[-1:], freq, tz
        )[0]
        <= last_end
        for issue in (*found, pd.Timestamp(clock.next(int(found.asi8[-1]) + 1, tz), unit="us", tz="UTC"))
    ]
    assert over == [True] * count + [False]


def test_a_rolling_product_with_issue_times_ends_its_last_target_with_the_actuals() -> None:
    clock, end = table("00:00", "06:00", "12:00", "18:00"), pd.Timestamp("2024-03-31 23:00", tz="Europe/Paris")
    asked = {"days_ahead": None, "days": 1, "horizon": 6, "freq": "1h", "tz": "Europe/Paris"}
    found = timetable_origins(clock, None, end, 4, pd.Timedelta("1D"), **asked)  # type: ignore[arg-type]  # of a dict
    assert [utc(at) for at in calendar.micros(found).tolist()] == [
        "2024-03-30T17:00", "2024-03-30T23:00", "2024-03-31T04:00", "2024-03-31T10:00",
    ]  # fmt: skip


def test_a_fixed_first_origin_is_the_first_issue_from_then_on() -> None:
    first, end = pd.Timestamp("2024-06-10T10:00Z"), pd.Timestamp("2024-06-13T05:00Z")
    asked = {"days_ahead": 1, "days": 1, "horizon": 24, "freq": "1h", "tz": "Europe/Paris"}
    found = timetable_origins(table("11:30"), first, end, 7, pd.Timedelta("1D"), **asked)  # type: ignore[arg-type]  # of a dict
    assert [utc(at) for at in calendar.micros(found).tolist()] == ["2024-06-11T09:30", "2024-06-12T09:30"]


def test_a_stride_of_a_week_takes_one_issue_a_week() -> None:
    end = pd.Timestamp("2024-06-17", tz="Europe/Paris")
    asked = {"days_ahead": 1, "days": 1, "horizon": 24, "freq": "1h", "tz": "Europe/Paris"}
    found = timetable_origins(table("11:30"), None, end, 3, pd.Timedelta("7D"), **asked)  # type: ignore[arg-type]  # of a dict
    assert [utc(at) for at in calendar.micros(found).tolist()] == [
        "2024-06-01T09:30", "2024-06-08T09:30", "2024-06-15T09:30",
    ]  # fmt: skip
