"""Features beside slow lookups; the same bits at fit and at predict; nothing after the last known reading."""

from __future__ import annotations

from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from fleet import almanac, calendar, features, windows
from fleet.errors import ConfigInvalid
from fleet.features import Features, known_lag

FULL = Features(
    lags=(1, 24, 25, 168),
    rolling=("mean_24", "std_48", "min_5", "max_168"),
    calendar=(*almanac.COLUMNS, "holiday"),
    country="GB",
    covariate_lags=(0, 24),
)


def series(periods: int, tz: str, freq: str = "1h", start: str = "2024-03-01", seed: int = 0) -> pd.Series:
    rng = np.random.default_rng(seed)
    index = calendar.grid(pd.Timestamp(start, tz=tz), periods, freq, tz)
    return pd.Series(np.where(rng.random(periods) < 0.05, np.nan, rng.normal(100, 10, periods)), index=index)


def covariates(y: pd.Series, ahead: int, freq: str, tz: str) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    index = calendar.grid(y.index[0], len(y) + ahead, freq, tz)
    return pd.DataFrame({"temp": rng.normal(10, 5, len(index)), "seen": rng.normal(0, 1, len(index))}, index=index)


def design(y: pd.Series, X: pd.DataFrame | None, at: pd.DatetimeIndex, asked: Features, **more: Any) -> pd.DataFrame:
    """The features as a table, to compare by name and step."""
    return pd.DataFrame(features.design(y, X, calendar.micros(at), asked, **more), index=at)


# the same at fit and at predict


@pytest.mark.parametrize("tz", ["UTC", "Europe/Paris", "America/Santiago", "Australia/Lord_Howe"])
@pytest.mark.parametrize("issue_after", [700, 731, 900, 1200])
@pytest.mark.parametrize("gap", [0, 13])
def test_fit_and_predict_see_the_same_features(tz: str, issue_after: int, gap: int) -> None:
    # March to May: the clock of Paris moves in step 724, those of Santiago and Lord Howe within a week of it
    y = series(1500, tz)
    X = covariates(y, 0, "1h", tz)
    known = y.iloc[:issue_after]
    target = y.index[issue_after + gap : issue_after + gap + 36]
    asked = {"asked": FULL, "farthest": gap + 36, "freq": "1h", "tz": tz, "past": ("seen",)}
    blind = X.loc[: target[-1]].copy()
    blind.loc[blind.index > known.index[-1], "seen"] = np.nan
    at_predict = design(known, blind, target, **asked)
    at_fit = design(y, X, y.index, **asked).loc[target]
    pd.testing.assert_frame_equal(at_predict, at_fit, check_exact=True, check_freq=False)
    short = known.iloc[-36 - gap - 400 :]
    pd.testing.assert_frame_equal(design(short, blind, target, **asked), at_predict, check_exact=True)
    assert at_predict.notna().mean().min() > 0.5


@pytest.mark.parametrize(
    ("freq", "lags"),
    [("15min", (1, 96, 97)), ("1D", (1, 7)), ("1W", (1, 52)), ("1MS", (1, 12)), ("7h", (1, 24))],
)
def test_other_steps_see_the_same_features_too(freq: str, lags: tuple[int, ...]) -> None:
    tz = "Europe/Berlin"
    y = series(400, tz, freq, start="2024-01-01")
    asked = {"asked": Features(lags=lags, rolling=("mean_5",)), "farthest": 10, "freq": freq, "tz": tz}
    at_predict = design(y.iloc[:300], None, y.index[300:310], **asked)
    at_fit = design(y, None, y.index, **asked).iloc[300:310]
    pd.testing.assert_frame_equal(at_predict, at_fit, check_exact=True, check_freq=False)
    assert at_predict.notna().to_numpy().mean() > 0.8


def test_nothing_after_the_last_known_reading_is_seen() -> None:
    y = series(600, "Europe/Paris")
    known, target = y.iloc[:500], y.index[500:524]
    asked = {"asked": FULL, "farthest": 24, "freq": "1h", "tz": "Europe/Paris"}
    planted = y.copy()
    planted.iloc[500:] = 1e9
    seen = design(planted, None, target, **asked)
    assert seen.max().max() < 1e5
    pd.testing.assert_frame_equal(seen, design(known, None, target, **asked), check_exact=True)


def test_the_history_is_left_as_it_is() -> None:
    y, X = series(300, "UTC"), covariates(series(300, "UTC"), 0, "1h", "UTC")
    before = y.copy(), X.copy()
    found = design(y, X, y.index, FULL, farthest=24, freq="1h", tz="UTC")
    found.iloc[:, :] = 0.0
    pd.testing.assert_series_equal(y, before[0])
    pd.testing.assert_frame_equal(X, before[1])


# lags


@pytest.mark.parametrize(("lag", "farthest", "freq", "moved"), [
    (24, 24, "1h", 24), (1, 24, "1h", 25), (24, 25, "1h", 48), (168, 24, "1h", 168), (168, 169, "1h", 336),
    (1, 1, "1h", 1), (25, 60, "1h", 73), (96, 100, "15min", 192), (672, 700, "15min", 1344), (1, 7, "1D", 7),
    (7, 8, "1D", 14), (12, 13, "1MS", 24), (1, 6, "1MS", 6), (1, 4, "1W", 4), (3, 4, "1QS", 4), (4, 5, "1QS", 8),
    (5, 12, "7h", 29), (2, 5, "11min", 6), (1, 3, "2D", 3),
])  # fmt: skip
def test_a_lag_that_is_not_known_yet_moves_back(lag: int, farthest: int, freq: str, moved: int) -> None:
    assert known_lag(lag, farthest, freq) == moved


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 800),
    st.integers(1, 800),
    st.sampled_from(["15min", "1h", "7h", "11min", "1D", "2D", "1W", "1MS", "1YS"]),
)
def test_a_moved_lag_is_known_and_no_further_than_needed(lag: int, farthest: int, freq: str) -> None:
    moved = known_lag(lag, farthest, freq)
    assert moved >= max(lag, farthest)
    assert known_lag(moved, farthest, freq) == moved


def test_lags_mean_local_time_and_their_columns_say_how_far() -> None:
    y = series(24 * 40, "Europe/Paris", start="2024-03-10")
    found = design(y, None, y.index, Features(lags=(1, 24, 25)), farthest=24, freq="1h", tz="Europe/Paris")
    assert found.columns.to_list() == ["lag_25", "lag_24"]
    table = y.to_dict()
    for place in range(100, len(y)):
        now = y.index[place]
        then = (now.tz_convert("Europe/Paris").tz_localize(None) - pd.Timedelta("24h")).tz_localize(
            "Europe/Paris", nonexistent="shift_forward", ambiguous=True
        )
        far_enough = now - then >= pd.Timedelta("24h")
        expected = table[then.tz_convert("UTC")] if far_enough else np.nan
        assert_array_equal(found["lag_24"].iloc[place], expected)
        assert_array_equal(found["lag_25"].iloc[place], table[now - pd.Timedelta("25h")])


def hours_before(now: pd.Timestamp, hours: int, tz: str) -> pd.Timestamp:
    """The slow way: whole days by the clock on the wall, anything else by the hours that passed."""
    if hours % 24:
        return now - pd.Timedelta(hours=hours)
    wall = now.tz_convert(tz).tz_localize(None) - pd.Timedelta(hours=hours)
    # A time that was skipped is the end of the gap; pandas shifts too far where a gap is half an hour.
    then = pd.Timestamp(wall.to_pydatetime().replace(tzinfo=ZoneInfo(tz))).tz_convert("UTC")
    # where a clock moves by half an hour, the hourly step that holds the same local time
    return now - (now - then).ceil("h")


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["UTC", "Europe/Paris", "America/Santiago", "Australia/Lord_Howe", "Asia/Kolkata"]),
    st.sampled_from(["2024-01-10", "2024-03-25", "2024-03-31", "2024-04-05", "2024-09-06", "2024-10-03", "2024-10-26"]),
    st.lists(st.integers(1, 60), min_size=1, max_size=4, unique=True),
    st.integers(1, 50),
    st.sets(st.integers(0, 239), max_size=60),
)
def test_a_lag_is_what_a_slow_look_up_finds(
    tz: str, start: str, lags: list[int], farthest: int, missing: set[int]
) -> None:
    index = calendar.grid(pd.Timestamp(start, tz="UTC"), 240 + farthest, "1h", tz)
    values = np.arange(240.0)
    values[list(missing)] = np.nan
    y, table = pd.Series(values, index=index[:240]), dict(zip(index[:240], values, strict=True))
    found = design(y, None, index, Features(lags=tuple(lags)), farthest=farthest, freq="1h", tz=tz)
    for lag in lags:
        moved = known_lag(lag, farthest, "1h")
        for now, value in found[f"lag_{moved}"].items():
            then = hours_before(now, moved, tz)
            near = now - then < pd.Timedelta(hours=farthest)
            assert_array_equal(value, np.nan if near else table.get(then, np.nan))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=3, unique=True), st.sets(st.integers(0, 99), max_size=30))
def test_covariates_are_what_a_slow_look_up_finds(lags: list[int], missing: set[int]) -> None:
    index = calendar.grid(pd.Timestamp("2024-03-29", tz="UTC"), 100, "1h", "Europe/Paris")
    X = pd.DataFrame({"a": np.arange(100.0), "b": np.arange(100.0) + 1000}, index=index)
    X.iloc[list(missing), 0] = np.nan
    y = pd.Series(np.ones(76), index=index[:76])
    asked = Features(covariate_lags=tuple(lags))
    found = design(y, X, index[76:], asked, farthest=24, freq="1h", tz="Europe/Paris")
    for name in ("a", "b"):
        table = X[name].to_dict()
        for lag in lags:
            column = found[f"x_{name}_lag_{lag}" if lag else f"x_{name}"]
            expected = [table.get(hours_before(now, lag, "Europe/Paris"), np.nan) for now in column.index]
            assert_array_equal(column, expected)


# windows


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.one_of(st.just(np.nan), st.floats(-1e6, 1e6)), min_size=1, max_size=80),
    st.integers(1, 90),
    st.sampled_from(windows.STATS),
)
def test_a_window_is_the_statistic_of_its_readings(values: list[float], window: int, stat: windows.Stat) -> None:
    found = windows.rolling(np.array(values), window, stat)
    for place in range(len(values)):
        inside = np.array(values[max(0, place - window + 1) : place + 1])
        inside = inside[~np.isnan(inside)]
        expected = getattr(np, stat)(inside) if len(inside) else np.nan
        assert_allclose(found[place], expected, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("stat", windows.STATS)
@pytest.mark.parametrize("window", [1, 7, 24, 168])
def test_a_window_does_not_remember_what_came_before(stat: windows.Stat, window: int) -> None:
    rng = np.random.default_rng(window)
    values = rng.normal(0, 1, 400)
    other = np.concatenate([rng.normal(0, 1e12, 1000), values])
    assert_array_equal(
        windows.rolling(values, window, stat)[window:], windows.rolling(other, window, stat)[1000 + window :]
    )


def test_rolling_columns_end_at_the_last_known_reading() -> None:
    y = series(300, "UTC")
    found = design(y, None, y.index, Features(rolling=("mean_24", "std_24")), farthest=12, freq="1h", tz="UTC")
    rolled = y.rolling(24, min_periods=1)
    assert_allclose(found["mean_24"], rolled.mean().shift(12), rtol=1e-9)
    assert_allclose(found["std_24"].iloc[50:], rolled.std(ddof=0).shift(12).iloc[50:], rtol=1e-9)


# calendar


@pytest.mark.parametrize("tz", ["UTC", "Europe/Paris", "America/Santiago", "Asia/Kolkata", "Australia/Lord_Howe"])
def test_calendar_columns_are_what_the_local_clock_shows(tz: str) -> None:
    times = calendar.grid(pd.Timestamp("2023-12-25", tz="UTC"), 24 * 370, "1h", tz)
    found = almanac.calendar_columns(calendar.micros(times), almanac.NAMES, "GB", tz)
    local = times.tz_convert(tz)
    year_day = local.day_of_year
    expected = {
        "minute": local.minute, "hour": local.hour, "minute_of_day": local.hour * 60 + local.minute,
        "dayofweek": local.day_of_week, "weekend": local.day_of_week >= 5, "day": local.day, "dayofyear": year_day,
        "month": local.month, "quarter": local.quarter, "year": local.year,
        "day_sin": np.sin((local.hour + local.minute / 60) * np.pi / 12),
        "day_cos": np.cos((local.hour + local.minute / 60) * np.pi / 12),
        "week_sin": np.sin((local.day_of_week + (local.hour + local.minute / 60) / 24) * 2 * np.pi / 7),
        "week_cos": np.cos((local.day_of_week + (local.hour + local.minute / 60) / 24) * 2 * np.pi / 7),
        "year_sin": np.sin(year_day * 2 * np.pi / 365.25), "year_cos": np.cos(year_day * 2 * np.pi / 365.25),
    }  # fmt: skip
    import holidays

    public = holidays.country_holidays("GB", years=[2023, 2024, 2025])
    expected["holiday"] = [time.to_pydatetime().astimezone(ZoneInfo(tz)).date() in public for time in times]
    assert set(expected) == set(almanac.NAMES)
    for name, values in expected.items():
        assert_allclose(found[name], np.asarray(values, dtype=np.float64), atol=1e-9, err_msg=name)


def test_holidays_know_regions() -> None:
    epiphany = (date(2025, 1, 6) - date(1970, 1, 1)).days
    assert epiphany in almanac.holidays_in("DE-BY", 2025)
    assert epiphany not in almanac.holidays_in("DE", 2025)


# covariates


def test_columns_seen_only_in_the_past_are_told_apart() -> None:
    y = series(100, "UTC")
    X = covariates(y, 24, "1h", "UTC")
    X.loc[X.index > y.index[-1], "seen"] = np.nan
    assert features.past_only(y, X) == ("seen",)
    assert features.past_only(y, X.iloc[:100]) == ()
    assert features.past_only(y, None) == ()


def test_covariates_known_ahead_stand_at_their_step() -> None:
    y = series(200, "UTC")
    X = covariates(y, 24, "1h", "UTC")
    target = X.index[200:]
    asked = Features(covariate_lags=(0, 1, 24))
    found = design(y, X, target, asked, farthest=24, freq="1h", tz="UTC", past=("seen",))
    assert found.columns.to_list() == ["x_temp", "x_temp_lag_1", "x_temp_lag_24", "x_seen_lag_24", "x_seen_lag_25"]
    for lag in (0, 1, 24):
        name = f"x_temp_lag_{lag}" if lag else "x_temp"
        assert_array_equal(found[name], X["temp"].to_numpy()[200 - lag : 224 - lag])
    assert_array_equal(found["x_seen_lag_25"], X["seen"].to_numpy()[175:199])


# what is refused, what is empty


@pytest.mark.parametrize("asked", [
    {"lags": (0,)}, {"lags": (-24,)}, {"covariate_lags": (-1,)}, {"rolling": ("24",)}, {"rolling": ("mean",)},
    {"rolling": ("mean_0",)}, {"rolling": ("median_24",)}, {"calendar": ("hours",)},
    {"calendar": ("holiday",), "country": "XX"}, {"calendar": ("holiday",), "country": "DE-XX"},
])  # fmt: skip
def test_a_feature_that_is_none_is_refused(asked: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        Features(**asked)
    assert refused.value.hint


def test_a_holiday_without_a_country_is_that_of_the_zone() -> None:
    noon = calendar.grid(pd.Timestamp("2024-07-14 12:00", tz="UTC"), 1, "1h", "UTC")
    asked = Features(calendar=("holiday",))
    empty = pd.Series(np.zeros(0), index=noon[:0])
    for tz, holiday in (("Europe/Paris", 1.0), ("Europe/Berlin", 0.0)):
        assert design(empty, None, noon, asked, farthest=1, freq="1h", tz=tz).iloc[0, 0] == holiday
    with pytest.raises(ConfigInvalid, match="UTC names none"):
        design(empty, None, noon, asked, farthest=1, freq="1h", tz="UTC")


def test_the_nearest_name_is_hinted() -> None:
    with pytest.raises(ConfigInvalid) as refused:
        Features(calendar=("day_of_week",))
    assert "dayofweek" in refused.value.hint


def test_an_empty_history_gives_nothing_but_the_calendar() -> None:
    hours = calendar.grid(pd.Timestamp("2024-01-01", tz="UTC"), 3, "1h", "UTC")
    empty = pd.Series(np.zeros(0), index=hours[:0])
    asked = Features(lags=(1,), rolling=("mean_2",), calendar=("hour",))
    found = design(empty, None, hours, asked, farthest=3, freq="1h", tz="UTC")
    assert found["hour"].to_list() == [0.0, 1.0, 2.0]
    assert found.drop(columns="hour").isna().all(axis=None)
    assert design(empty, None, hours[:0], asked, farthest=3, freq="1h", tz="UTC").shape == (0, 3)
    assert design(empty, None, hours, Features(), farthest=3, freq="1h", tz="UTC").shape == (3, 0)
