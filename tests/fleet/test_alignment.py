"""Histories as a wall clock shows them, against pandas' own conversion."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fleet.alignment import align, covariates_at, filled, steps_after
from fleet.errors import SeriesInvalid
from fleet.task import Task


def wall(tz: str, start: str, hours: int) -> tuple[pd.Series, pd.DatetimeIndex]:
    index = pd.date_range(start, periods=hours, freq="h", tz="UTC", unit="us")
    return pd.Series(np.arange(float(hours)), index=index), index.tz_convert(tz).tz_localize(None)


@pytest.mark.parametrize("start", ["2024-03-29 03:00", "2024-10-25 20:00", "2024-06-01 00:00"])
@pytest.mark.parametrize("tz", ["Europe/Paris", "America/New_York", "Asia/Kolkata"])
def test_each_reading_stands_at_its_local_hour(tz: str, start: str) -> None:
    y, local = wall(tz, start, 120)
    aligned = align(y[:72], Task(target=y.index[72:], freq="1h", tz=tz), 24)
    shown = pd.Series(y[:72].to_numpy(), index=local[:72])
    shown = shown[~shown.index.duplicated()].resample("h", origin="start").asfreq()
    np.testing.assert_array_equal(aligned.values, shown.to_numpy())
    after = (local[72:] - shown.index[-1]) // pd.Timedelta("1h")
    np.testing.assert_array_equal(aligned.ahead, after)


def test_a_target_in_the_second_pass_of_an_hour_is_still_ahead() -> None:
    y, _ = wall("Europe/Paris", "2024-10-25 00:00", 60)
    known = y[: pd.Timestamp("2024-10-27 00:00", tz="UTC")]  # 02:00, the first time
    task = Task(target=y.index[len(known) :], freq="1h", tz="Europe/Paris")
    aligned = align(known, task, 24)
    assert aligned.ahead.min() >= 1
    assert aligned.values[-1] == y[pd.Timestamp("2024-10-26 23:00", tz="UTC")]


def test_places_agree_between_histories() -> None:
    y, _ = wall("Europe/Paris", "2024-03-25", 300)
    task = Task(target=y.index[290:], freq="1h", tz="Europe/Paris")
    whole, part = align(y[:290], task, 24), align(y[200:290], task, 24)
    assert whole.last == part.last
    np.testing.assert_array_equal(whole.values[part.first - whole.first :], part.values)
    assert whole.after(part.first - 1, whole.clock, gap=0) is not None
    assert whole.after(part.first - 1, "steps", gap=0) is None
    assert part.after(part.first - 4, part.clock, gap=2) is None
    np.testing.assert_array_equal(
        part.after(part.first - 4, part.clock, gap=3)[:4], [np.nan, np.nan, np.nan, y.iloc[200]]
    )


def test_missing_readings_at_both_ends_are_left_off() -> None:
    y, _ = wall("UTC", "2024-01-01", 30)
    y.iloc[[0, 1, 9]] = np.nan
    aligned = align(y[:10], Task(target=y.index[10:12], freq="1h"), 24)
    assert aligned.values.tolist() == list(range(2, 9))
    assert aligned.ahead.tolist() == [2, 3]


def test_covariates_stand_where_the_readings_stand() -> None:
    y, _ = wall("Europe/Paris", "2024-03-29 03:00", 120)
    task = Task(target=y.index[72:], freq="1h", tz="Europe/Paris")
    aligned = align(y[:72], task, 24)
    rows = covariates_at(pd.DataFrame({"y": y}), task, 24, aligned.first, len(aligned.values))
    np.testing.assert_array_equal(rows[:, 0], aligned.values)


def test_months_count_months() -> None:
    index = pd.date_range("2023-01-01", periods=15, freq="MS", tz="Europe/Paris").tz_convert("UTC").as_unit("us")
    task = Task(target=index[12:], freq="1MS", tz="Europe/Paris")
    assert steps_after(index[11], task).tolist() == [1, 2, 3]
    assert align(pd.Series(1.0, index=index[:12]), task, 12).ahead.tolist() == [1, 2, 3]


def test_a_history_that_reaches_the_target_is_refused() -> None:
    y, _ = wall("UTC", "2024-01-01", 10)
    with pytest.raises(SeriesInvalid):
        align(y, Task(target=y.index[9:], freq="1h"), 24)


def test_gaps_are_bridged_with_the_shape_of_the_season() -> None:
    day = np.array([0.0, 5.0, 9.0, 5.0])
    values = np.tile(day, 6) + np.repeat(np.arange(6.0), 4)
    holed = values.copy()
    holed[9:14] = np.nan
    np.testing.assert_allclose(filled(holed, 4)[9:14], values[9:14], atol=1.5)
    np.testing.assert_array_equal(filled(holed, 4)[:9], values[:9])
    line = filled(np.array([1.0, np.nan, 3.0]), 1)
    assert line.tolist() == [1, 2, 3]
    assert filled(values, 4) is values
