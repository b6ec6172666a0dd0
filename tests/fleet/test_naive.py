"""The rules against what a person would compute: five-line loops and hand-made calendars."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

from fleet.adapters.naive import Mean, Naive, SeasonalNaive
from fleet.errors import ConfigInvalid, NoData, SeriesInvalid, TooShort
from fleet.task import Task


def hours(start: str, periods: int, tz: str = "UTC") -> pd.DatetimeIndex:
    return pd.date_range(pd.Timestamp(start, tz=tz).tz_convert("UTC"), periods=periods, freq="h", unit="us")


def by_loop(y: pd.Series, target: pd.DatetimeIndex, days: int, tz: str) -> list[float]:
    """The last reading at the same local time, whole seasons of days before, as the definition says it."""
    found = []
    for time_ in target:
        back = time_.tz_convert(tz).tz_localize(None)
        while True:
            back -= pd.Timedelta(days=days)
            at = back.tz_localize(tz, ambiguous=True, nonexistent="shift_forward").tz_convert("UTC")
            if at < y.index[0]:
                found.append(float("nan"))
                break
            if at in y.index and np.isfinite(y[at]):
                found.append(float(y[at]))
                break
    return found


@pytest.mark.parametrize("tz", ["UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("end", ["2024-03-30 00:00", "2024-03-31 05:00", "2024-10-27 00:00", "2024-11-04 07:00"])
@pytest.mark.parametrize("days", [1, 7])
@pytest.mark.parametrize("gap", [0, 2, 48])
def test_seasonal_naive_repeats_the_last_reading_at_the_same_local_time(tz: str, end: str, days: int, gap: int) -> None:
    random = np.random.default_rng(days)
    index = pd.date_range(end=pd.Timestamp(end, tz="UTC"), periods=24 * 23, freq="h", unit="us")
    y = pd.Series(random.normal(size=len(index)), index=index).mask(random.random(len(index)) < 0.1)
    y.iloc[-1] = np.nan
    target = hours(str(index[-1].tz_localize(None) + pd.Timedelta(hours=1 + gap)), 48)
    task = Task(target=target, freq="1h", tz=tz)
    mean = SeasonalNaive(season=24 * days).predict(y, None, task)["mean"]
    np.testing.assert_array_equal(mean, by_loop(y, target, days, tz))


def test_the_morning_after_the_clocks_change_looks_like_the_morning_before() -> None:
    local = pd.date_range("2024-03-28", "2024-04-02", freq="h", tz="Europe/Paris")
    y = pd.Series((local.hour == 8).astype(float), index=local.tz_convert("UTC").as_unit("us"))
    known, target = y[: 24 * 3], y.index[24 * 3 :]
    mean = SeasonalNaive(season=24).predict(known, None, Task(target=target, freq="1h", tz="Europe/Paris"))["mean"]
    np.testing.assert_array_equal(mean, y[target])
    drifting = SeasonalNaive(season=24).predict(known, None, Task(target=target, freq="1h", tz="UTC"))["mean"]
    assert (drifting != y[target]).any()


def test_daily_steps_keep_local_midnight() -> None:
    days = pd.date_range("2024-10-01", periods=40, freq="D", tz="Europe/Berlin")
    y = pd.Series(np.arange(40.0), index=days.tz_convert("UTC").as_unit("us"))
    task = Task(target=pd.DatetimeIndex(y.index[30:37]), freq="1D", tz="Europe/Berlin")
    assert SeasonalNaive(season=7).predict(y[:30], None, task)["mean"].to_list() == list(range(23, 30))


@pytest.mark.parametrize(("freq", "tz"), [("15min", "Europe/Paris"), ("10min", "UTC")])
def test_a_season_that_is_no_whole_day_counts_steps(freq: str, tz: str) -> None:
    index = pd.date_range("2024-03-31", periods=20, freq=freq, tz="UTC", unit="us")
    y = pd.Series(np.arange(20.0), index=index)
    target = pd.date_range(index[-1], periods=8, freq=freq)[1:].as_unit("us")
    mean = SeasonalNaive(season=5).predict(y, None, Task(target=target, freq=freq, tz=tz))["mean"]
    assert mean.to_list() == [15, 16, 17, 18, 19, 15, 16]


def test_seasonal_naive_says_which_season_it_could_not_find() -> None:
    y = pd.Series([1.0, np.nan, 3.0], index=hours("2024-01-01", 3))
    task = Task(target=hours("2024-01-01 03:00", 3), freq="1h")
    with pytest.raises(TooShort, match=r"season of 3 steps .* 3 steps of history hold none for 1 of the 3"):
        SeasonalNaive(season=3).predict(y, None, task)
    with pytest.raises(TooShort, match="needs 24 steps of history and has 3"):
        SeasonalNaive(season=24).fit(y, None, task)
    with pytest.raises(ConfigInvalid, match="season"):
        SeasonalNaive().fit(y, None, task)


def test_naive_is_the_last_finite_reading() -> None:
    y = pd.Series([1.0, 4.0, np.inf, np.nan], index=hours("2024-01-01", 4))
    assert Naive().predict(y, None, Task(target=hours("2024-01-01 04:00", 2), freq="1h"))["mean"].to_list() == [4, 4]


def test_mean_is_of_its_window_and_of_the_peers_without_a_reading() -> None:
    y = pd.Series([1.0, 4.0, 8.0, np.nan], index=hours("2024-01-01", 4))
    task = Task(target=hours("2024-01-01 04:00", 1), freq="1h")
    assert Mean().predict(y, None, task)["mean"].to_list() == [13 / 3]
    assert Mean(window=3).predict(y, None, task)["mean"].to_list() == [6]
    with pytest.raises(NoData, match="peer_mean"):
        Mean(window=1).predict(y, None, task)
    cold = Task(target=task.target, freq="1h", static={"peer_mean": 5.0})
    assert Mean().fit(y[:0], None, cold).predict(y[:0], None, cold)["mean"].to_list() == [5]


def test_a_target_inside_the_history_is_refused() -> None:
    y = pd.Series(1.0, index=hours("2024-01-01", 30))
    with pytest.raises(SeriesInvalid, match="the history reaches"):
        SeasonalNaive(season=24).predict(y, None, Task(target=y.index[-1:], freq="1h"))


def test_a_rule_costs_a_fraction_of_a_millisecond() -> None:
    index = hours("2024-01-01", 1000)
    y = pd.Series(np.random.default_rng(0).normal(size=1000), index=index)
    target = hours(str(index[-1].tz_localize(None) + pd.Timedelta(hours=1)), 24)
    rule = SeasonalNaive(season=24)

    def batch() -> float:
        started = time.process_time()
        for _ in range(100):
            task = Task(target=target, freq="1h", seasons=(24, 168))
            rule.fit(y, None, task).predict(y, None, task)
        return (time.process_time() - started) / 100

    assert min(batch() for _ in range(3)) < 0.0006  # half of that on an idle machine
