"""Origins lie on the grid, keep the local time of the issue, and leave every target its actuals."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet import calendar
from fleet.errors import ConfigInvalid
from fleet.origins import origins, stride_steps

DAY = pd.Timedelta("24h")


def utc(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def test_the_last_origins_whose_target_has_actuals() -> None:
    found = origins(None, utc("2024-01-10 06:00"), 3, DAY, 24, "1h", "UTC")
    assert found.equals(
        pd.DatetimeIndex(["2024-01-07 06:00", "2024-01-08 06:00", "2024-01-09 06:00"], tz="UTC").as_unit("us")
    )


def test_a_fixed_first_origin_is_the_same_for_all() -> None:
    found = origins(utc("2024-06-10"), utc("2024-06-17"), 7, DAY, 24, "1h", "UTC")
    assert found.equals(pd.date_range("2024-06-10", periods=7, freq="24h", tz="UTC").as_unit("us"))
    assert origins(utc("2024-06-10"), utc("2024-06-12 01:00"), 7, DAY, 24, "1h", "UTC").equals(found[:3])
    assert len(origins(utc("2024-06-10"), utc("2024-06-10"), 7, DAY, 24, "1h", "UTC")) == 0


@pytest.mark.parametrize("end", ["2024-04-02", "2024-10-29"])
@pytest.mark.parametrize("first", [None, "2024-03-28 05:00", "2024-10-25 05:00"])
def test_daily_origins_keep_the_local_time(end: str, first: str | None) -> None:
    stop = pd.Timestamp(end, tz="Europe/Paris") + pd.Timedelta("6h")
    start = None if first is None else pd.Timestamp(first, tz="Europe/Paris")
    found = origins(start, stop, 5, DAY, 24, "1h", "Europe/Paris")
    local = [time.to_pydatetime().astimezone(ZoneInfo("Europe/Paris")).strftime("%H:%M") for time in found]
    assert len(set(local)) <= 1
    assert origins(start, stop, 5, "24h", 24, "1h", "UTC").equals(found) == (
        set(np.diff(found.asi8)) <= {86_400_000_000}
    )


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["15min", "1h", "1D", "1W", "1MS"]),
    st.sampled_from(["UTC", "Europe/Paris", "America/Santiago", "Australia/Lord_Howe"]),
    st.integers(0, 2000), st.integers(1, 9), st.integers(1, 30), st.integers(1, 50),
)  # fmt: skip
def test_every_target_ends_by_the_last_actual(
    freq: str, tz: str, place: int, count: int, strides: int, horizon: int
) -> None:
    start = pd.Timestamp("2024-01-01", tz=tz)
    end = calendar.grid(start, place + 1, freq, tz)[-1]
    stride = pd.Timedelta(seconds=strides * calendar.step_seconds(freq))
    found = origins(None, end, count, stride, horizon, freq, tz)
    assert len(found) == count
    assert found.is_monotonic_increasing
    last = calendar.grid(found[-1], horizon, freq, tz)
    assert calendar.interval_end(last[-1:], freq, tz)[0] == end
    for origin in found[:-1]:
        assert calendar.interval_end(calendar.grid(origin, horizon, freq, tz)[-1:], freq, tz)[0] < end
    if not calendar.is_calendar_step(freq):
        assert ((found.asi8 - end.as_unit("us").asm8.astype(np.int64)) % (calendar.step_seconds(freq) * 1e6) == 0).all()


@pytest.mark.parametrize(
    ("stride", "freq"), [("90min", "1h"), ("12h", "1D"), ("0h", "1h"), ("-24h", "1h"), ("10D", "1W")]
)
def test_a_stride_that_is_no_number_of_steps_is_refused(stride: str, freq: str) -> None:
    with pytest.raises(ConfigInvalid):
        stride_steps(stride, freq)


@pytest.mark.parametrize(("stride", "freq", "steps"), [
    ("24h", "15min", 96), ("7D", "1D", 7), ("7D", "1W", 1), ("31D", "1MS", 1), ("365D", "1MS", 12), ("91D", "1QS", 1),
])  # fmt: skip
def test_strides_in_steps(stride: str, freq: str, steps: int) -> None:
    assert stride_steps(pd.Timedelta(stride), freq) == steps


def test_no_origins_or_no_horizon_is_refused() -> None:
    for count, horizon in ((0, 1), (1, 0)):
        with pytest.raises(ConfigInvalid):
            origins(None, utc("2024-01-01"), count, DAY, horizon, "1h", "UTC")
