"""What libraries that count steps are shown: the wall clock, no holes, and what is known beside the history."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import pandas as pd
import pytest

from fleet import calendar
from fleet.counted import Counted, Wanted, counted, main_season, quiet
from fleet.errors import BadOutput, CovariateMissing, NoData, TooShort
from fleet.task import Task

PARIS = "Europe/Paris"


def local(first: str, steps: int, freq: str = "1h", tz: str = PARIS) -> pd.DatetimeIndex:
    return calendar.grid(pd.Timestamp(first, tz=tz), steps, freq, tz)


def asked(times: pd.DatetimeIndex, split: int, freq: str = "1h", tz: str = PARIS, season: int = 24) -> Task:
    return Task(target=times[split:], freq=freq, tz=tz, seasons=(season,))


def shown(times: pd.DatetimeIndex) -> pd.Series:
    """The hour of the local clock as the reading."""
    return pd.Series(times.tz_convert(PARIS).hour.to_numpy(dtype=np.float64), index=times)


@pytest.mark.parametrize(("day", "hours"), [("2024-03-31", 23), ("2024-10-27", 25)])
def test_a_step_is_a_step_of_the_wall_clock(day: str, hours: int) -> None:
    """Two days, then the change, then two more: place by place the hour is what repeats."""
    start = pd.Timestamp(day) - pd.Timedelta("2D")
    times = local(str(start), 48 + hours + 48)
    split = 48 + hours
    found = counted(shown(times)[:split], None, asked(times, split), Wanted(season=24, calendar=("hour",)))
    assert found.steps == 72, "each day has 24 places"
    np.testing.assert_array_equal(found.values, np.arange(72) % 24)
    np.testing.assert_array_equal(found.columns["hour"], np.arange(72 + 48) % 24)
    np.testing.assert_array_equal(found.ahead, np.arange(1, 49))


def test_the_hour_that_exists_twice_is_one_step_of_the_target() -> None:
    times = local("2024-10-25", 48 + 25)
    found = counted(shown(times)[:48], None, asked(times, 48), Wanted(season=24))
    assert found.ahead.tolist() == [1, 2, 3, 3, *range(4, 25)]
    forecast = np.arange(24.0)
    assert found.at_target(forecast).tolist() == [0.0, 1.0, 2.0, 2.0, *np.arange(3.0, 24.0)]
    with pytest.raises(BadOutput, match="23 of 24"):
        found.at_target(forecast[:-1])


@pytest.mark.parametrize(
    ("freq", "season", "names"),
    [("1D", 7, ("dayofweek",)), ("1MS", 12, ("month",)), ("15min", 7, ("minute_of_day",)), ("10min", 7, ("minute",))],
)
def test_the_calendar_is_that_of_the_step_at_every_step(freq: str, season: int, names: tuple[str, ...]) -> None:
    """Against pandas, on the days around both changes of the clock."""
    for first in ("2024-03-29", "2024-10-25"):
        times = local(first, 40, freq)
        y = pd.Series(np.arange(30.0), index=times[:30])
        task = Task(target=times[30:], freq=freq, tz=PARIS, seasons=(season,))
        found = counted(y, None, task, Wanted(season=season, calendar=names))
        clock = times.tz_convert(PARIS)
        truth = {
            "dayofweek": clock.day_of_week,
            "month": clock.month,
            "minute": clock.minute,
            "minute_of_day": clock.hour * 60 + clock.minute,
        }[names[0]]
        np.testing.assert_array_equal(found.columns[names[0]], truth)
        assert found.ahead.tolist() == list(range(1, 11))


def test_a_gap_at_the_end_is_steps_to_go_and_one_inside_is_bridged() -> None:
    times = local("2024-05-01", 120)
    y = shown(times)[:96]
    y.iloc[[30, 31, 94, 95]] = np.nan
    found = counted(y, None, asked(times, 96), Wanted(season=24))
    np.testing.assert_array_equal(found.values, np.arange(94) % 24)
    assert found.ahead.tolist() == list(range(3, 27))
    assert found.farthest == 26


def test_covariates_stand_beside_every_step_or_are_missed_by_name() -> None:
    times = local("2024-05-01", 72)
    y, X = shown(times)[:48], pd.DataFrame({"temp": np.arange(72.0), "seen": np.arange(72.0)}, index=times)
    X.loc[times[48] :, "seen"] = np.nan
    task = asked(times, 48)
    found = counted(y, X, task, Wanted(season=24))
    assert found.covariates == ("temp",), "what ends with the history is no help"
    np.testing.assert_array_equal(found.future(), np.arange(48.0, 72.0).reshape(-1, 1))
    assert found.beside(ahead=True).index.equals(found.index(ahead=True))
    assert found.past().shape == (48, 1)
    with pytest.raises(CovariateMissing, match="seen"):
        counted(y, X, task, Wanted(season=24, covariates=("seen",)))
    assert counted(y, X, task, Wanted(season=24, covariates=())).future() is None


def test_what_is_too_short_or_nothing_is_said() -> None:
    times = local("2024-05-01", 48)
    y = shown(times)[:24]
    with pytest.raises(TooShort, match=r"needs 25 .* has 24"):
        counted(y, None, asked(times, 24), Wanted(season=24), at_least=25)
    with pytest.raises(TooShort, match=r"needs 20 .* has 4"):
        counted(y.where(y >= 20), None, asked(times, 24), Wanted(season=24), at_least=20)
    with pytest.raises(NoData):
        counted(y * np.nan, None, asked(times, 24), Wanted(season=24))


def test_a_history_is_cut_and_lengthened_in_step_with_its_season() -> None:
    history = Counted(
        values=np.arange(10.0), first=103, ahead=np.array([1, 2]), columns={"x": np.arange(12.0)}, covariates=("x",)
    )
    cut = history.since(100, 4)
    assert (cut.first, cut.values[0], cut.columns["x"][0]) == (104, 1.0, 1.0)
    assert history.since(103, 4) is history
    assert history.newest(3).values.tolist() == [7.0, 8.0, 9.0]
    assert history.newest(3).columns["x"].tolist() == [7.0, 8.0, 9.0, 10.0, 11.0]
    assert history.newest(30) is history
    longer = history.back_to(98, 4)
    assert (longer.first, longer.steps) == (98, 15)
    assert longer.values[:5].tolist() == [3.0, 0.0, 1.0, 2.0, 3.0], "four steps a season, in phase"
    assert longer.columns["x"][:5].tolist() == [3.0, 0.0, 1.0, 2.0, 3.0]
    assert history.back_to(104, 4) is history


def test_a_season_is_the_recipe_s_or_the_task_s_or_none() -> None:
    times = local("2024-05-01", 2)
    assert main_season(168, asked(times, 1)) == 168
    assert main_season(None, asked(times, 1)) == 24
    assert main_season(None, Task(target=times, freq="1h")) == 1


def test_quiet_is_over_when_it_ends() -> None:
    logger = logging.getLogger("a_library_that_talks")
    logger.setLevel(logging.INFO)

    def talk() -> None:
        with quiet("a_library_that_talks"):
            warnings.warn("nobody hears this", stacklevel=1)
            assert not logger.isEnabledFor(logging.ERROR)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        talk()
    assert logger.level == logging.INFO
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)
