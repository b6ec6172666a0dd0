"""Laws of vintages: each step is shown what its own issue knew, across clock changes and through gaps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fleet import calendar
from fleet.frames import Covariate, Panel, Rows, Span, covariate_frame
from fleet.plan import Settings
from fleet.task import IntArray
from fleet.timetable import Timetable
from fleet.vintages import as_of, own_issues

HOUR = 3_600_000_000
PARIS = "Europe/Paris"


def us(*times: str, tz: str = "UTC") -> IntArray:
    return calendar.micros(pd.DatetimeIndex([pd.Timestamp(time, tz=tz) for time in times]).tz_convert("UTC"))


# -- own issues ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["2024-03-31", "2024-10-27"])
@pytest.mark.parametrize("freq", ["15min", "1h"])
def test_a_day_ahead_product_was_issued_at_the_same_local_time_on_each_day_before(change: str, freq: str) -> None:
    """Issued at 11:30 for tomorrow: a step of day D is shown what was known at 11:30 of the day before D."""
    issue = pd.Timestamp(change + "T11:30", tz=PARIS) + pd.DateOffset(days=2)
    target = calendar.delivery_day(issue, 1, freq, PARIS)
    at = calendar.grid_between(target[0] - pd.Timedelta(days=6), target[-1], freq, PARIS)
    own = calendar.from_micros(own_issues(at.asi8, target.asi8, calendar.instant(issue), freq, PARIS))
    expected = pd.DatetimeIndex(
        [pd.Timestamp(f"{day - np.timedelta64(1, 'D')}T11:30", tz=PARIS) for day in calendar.local_day(at, PARIS)]
    )
    assert list(own) == list(expected.tz_convert("UTC"))


def test_the_target_and_what_lies_within_it_share_the_knowledge_of_the_issue() -> None:
    target = np.arange(48) * HOUR
    own = own_issues(np.arange(-96, 48) * HOUR, target, -3 * HOUR, "1h", "UTC")
    assert (own[96:] == -3 * HOUR).all()
    assert (own[48:96] == -51 * HOUR).all()
    assert (own[:48] == -99 * HOUR).all()


def test_a_short_target_moves_back_by_its_own_length() -> None:
    own = own_issues(np.arange(-7, 6) * HOUR, np.arange(6) * HOUR, 0, "1h", PARIS)
    assert (own // HOUR).tolist() == [-12] + [-6] * 6 + [0] * 6


def test_days_and_months_move_back_on_the_calendar() -> None:
    days = calendar.grid(pd.Timestamp("2024-03-20", tz=PARIS), 21, "1D", PARIS)
    own = own_issues(days.asi8, days.asi8[14:], int(days.asi8[14]), "1D", PARIS)
    assert own.tolist() == [days.asi8[0]] * 7 + [days.asi8[7]] * 7 + [days.asi8[14]] * 7
    months = calendar.grid(pd.Timestamp("2024-01-01", tz=PARIS), 6, "1MS", PARIS)
    own = own_issues(months.asi8, months.asi8[3:], int(months.asi8[3]), "1MS", PARIS)
    assert own.tolist() == [months.asi8[0]] * 3 + [months.asi8[3]] * 3


@pytest.mark.parametrize("change", ["2024-03-31", "2024-10-27"])
def test_a_daily_timetable_has_the_issues_that_its_target_moves_back_to(change: str) -> None:
    issue = pd.Timestamp(change + "T11:30", tz=PARIS) + pd.DateOffset(days=4)
    for days in (1, 3):
        settings = settings_of(Timetable(times=(clock(11, 30), clock(14, 0))), days_ahead=1, days=days)
        target = settings.target(calendar.instant(issue), None)
        at = calendar.grid_between(target[0] - pd.Timedelta(days=12), target[-1], "1h", PARIS)
        own = settings.own_issues(at, target, calendar.instant(issue))
        assert own.tolist() == own_issues(at.asi8, target.asi8, calendar.instant(issue), "1h", PARIS).tolist()


def test_days_without_an_issue_are_shown_the_last_one_before() -> None:
    """Issued on Fridays for Saturday to Monday."""
    settings = settings_of(Timetable(times=(clock(10, 0),), weekdays=(4,)), days_ahead=1, days=3)
    issue = pd.Timestamp("2024-04-12T10:00", tz=PARIS)
    target = settings.target(calendar.instant(issue), None)
    at = calendar.grid_between(target[0] - pd.Timedelta(days=20), target[-1], "1h", PARIS)
    own = calendar.from_micros(settings.own_issues(at, target, calendar.instant(issue))).tz_convert(PARIS)
    expected = []
    for day in pd.DatetimeIndex(calendar.local_day(at, PARIS)):
        friday = day - pd.Timedelta(days=1)
        while friday.day_of_week != 4:
            friday -= pd.Timedelta(days=1)
        expected.append(min((friday + pd.Timedelta(hours=10)).tz_localize(PARIS), issue))
    assert list(own) == expected


def test_a_rolling_product_was_issued_at_the_times_it_has_and_never_after_the_issue() -> None:
    """Issued at 06:00 and 18:00 for nine hours: from 15:00 on and from 03:00 on the last one before has to do."""
    settings = settings_of(Timetable(times=(clock(6, 0), clock(18, 0))), horizon=9)
    issue = calendar.instant(pd.Timestamp("2024-04-02T06:00", tz=PARIS))
    target = settings.target(issue, None)
    at = calendar.grid_between(target[0] - pd.Timedelta(days=4), target[-1], "1h", PARIS)
    own = calendar.from_micros(settings.own_issues(at, target, issue)).tz_convert(PARIS)
    local = at.tz_convert(PARIS)
    for step, mine in zip(local, own, strict=True):
        times = [step.normalize() + pd.Timedelta(hours=hour) for hour in (-6, 6, 18)]
        times = [time.tz_localize(None).round("6h").tz_localize(PARIS) for time in times]
        assert mine == max(time for time in times if time <= step)


def clock(hours: int, minutes: int) -> int:
    return hours * HOUR + minutes * HOUR // 60


def settings_of(timetable: Timetable, *, horizon: int = 24, days_ahead: int | None = None, days: int = 1) -> Settings:
    return Settings(
        product="p",
        tz=PARIS,
        freq="1h",
        horizon=horizon,
        seasons=(24,),
        quantiles=(),
        seed=0,
        window_us=None,
        judgement=None,
        days_ahead=days_ahead,
        days=days,
        timetable=timetable,
    )


# -- what is shown ---------------------------------------------------------------------------------------------------


def test_the_row_shown_is_the_one_a_loop_finds() -> None:
    random = np.random.default_rng(7)
    valid = np.sort(random.integers(0, 40, 300))
    available = random.integers(0, 60, 300)
    order = np.lexsort([available, valid])
    available = available[order]
    own = random.integers(0, 60, 40)[valid]
    for row in as_of(valid, available, own):
        mine = np.flatnonzero(valid == valid[row])
        early = mine[available[mine] <= own[row]]
        assert available[row] == (available[early].max() if len(early) else available[mine].min())
    assert len(as_of(valid, available, own)) == len(set(valid.tolist()))


def frame(rows: list[tuple[int, int, float]], issue: int, own: list[int]) -> list[float]:
    """What steps 0, 1, ... are shown of rows of (valid, available, value) in hours."""
    valid, available, value = (np.array(column) for column in zip(*sorted(rows), strict=True))
    panel = Panel(
        path=None,
        rows=Rows(valid * HOUR, value.astype(float), available * HOUR, np.zeros(len(rows), dtype=np.int64)),
    )
    covariate = Covariate(name="wind", span=Span(0, len(rows)), foresight=False, vintages=True)
    index = calendar.from_micros(np.arange(len(own)) * HOUR)
    found = covariate_frame(panel, (covariate,), index, issue * HOUR, np.array(own) * HOUR)
    assert found is not None
    return found["wind"].tolist()


def test_a_vintage_without_a_value_says_nothing_and_the_one_before_counts() -> None:
    rows = [(0, -6, 1.0), (0, -1, np.nan), (1, -1, np.nan)]
    np.testing.assert_array_equal(frame(rows, 0, [0, 0]), [1.0, np.nan])


def test_where_nothing_was_known_yet_the_first_vintage_stands_in_and_never_one_after_the_issue() -> None:
    rows = [(0, 3, 3.0), (0, 4, 4.0), (1, 9, 9.0)]
    np.testing.assert_array_equal(frame(rows, 5, [-1, -1]), [3.0, np.nan])
