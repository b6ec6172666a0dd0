"""The calendar beside slow oracles: zoneinfo one instant at a time, pandas on naive local times, dictionaries."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet import calendar, zones
from fleet.errors import ConfigInvalid, SeriesInvalid

ZONES = [
    "UTC", "Europe/Paris", "Europe/Berlin", "Europe/London", "America/Santiago", "America/Havana", "America/New_York",
    "Asia/Kolkata", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia", "Asia/Kathmandu", "Pacific/Chatham",
]  # fmt: skip
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - local times have no zone


def utc(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def at(*texts: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(list(texts), tz="UTC").as_unit("us")


def wall(times: pd.DatetimeIndex, tz: str) -> list[str]:
    """Local times as zoneinfo shows them."""
    return [time.to_pydatetime().astimezone(ZoneInfo(tz)).strftime("%m-%d %H:%M") for time in times]


def test_indices_are_utc_in_microseconds() -> None:
    times = calendar.grid(pd.Timestamp("2024-01-01", tz="Europe/Paris"), 3, "1h", "Europe/Paris")
    assert str(times.dtype) == "datetime64[us, UTC]"
    assert times[0] == utc("2023-12-31 23:00")


def test_naive_times_are_refused() -> None:
    with pytest.raises(SeriesInvalid):
        calendar.micros(pd.DatetimeIndex(["2024-01-01"]))
    with pytest.raises(SeriesInvalid):
        calendar.grid(pd.Timestamp("2024-01-01"), 1, "1h", "UTC")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_any_unit_of_time_is_read_alike(unit: str) -> None:
    times = at("2024-03-31 00:30", "2024-03-31 01:30").as_unit(unit)
    assert calendar.steps_back(times, 24, "1h", "Europe/Paris").equals(at("2024-03-30 00:30", "2024-03-30 02:30"))
    assert calendar.micros(times).tolist() == calendar.micros(times.as_unit("us")).tolist()
    assert calendar.instant(times[0]) == calendar.micros(times)[0]


@pytest.mark.parametrize("freq", ["", "h1", "1", "0h", "1H", "1M", "-1h", "1.5h", "25h", "1 h", "min15", "1hour"])
def test_a_text_that_is_no_step_is_refused(freq: str) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        calendar.step_of(freq)
    assert refused.value.hint
    assert refused.value.code == "config-invalid"


def test_unknown_zone_names_the_nearest() -> None:
    with pytest.raises(ConfigInvalid) as refused:
        calendar.local_day(at("2024-01-01"), "Europe/Pari")
    assert "Europe/Paris" in refused.value.hint


@pytest.mark.parametrize(("freq", "seconds", "local"), [("10min", 600, False), ("1h", 3600, False), ("h", 3600, False),
    ("24h", 86_400, True), ("1D", 86_400, True), ("2D", 172_800, True), ("1W", 604_800, True),
    ("1MS", 2_629_800, True), ("1QS", 7_889_400, True), ("1YS", 31_557_600, True)])  # fmt: skip
def test_length_and_kind_of_steps(freq: str, seconds: float, local: bool) -> None:
    assert calendar.step_seconds(freq) == seconds
    assert calendar.is_calendar_step(freq) is local


# zones


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(ZONES), st.integers(0, 4_000_000_000))
def test_local_time_is_what_zoneinfo_shows(tz: str, second: int) -> None:
    instants = np.array([second * zones.SECOND])
    shown = datetime.fromtimestamp(second, UTC).astimezone(ZoneInfo(tz)).replace(tzinfo=None)
    zone = zones.zone_of(tz, int(instants[0]), int(instants[0]))
    assert zone.local(instants)[0] == (shown - EPOCH) // timedelta(microseconds=1)


def instant_of(local: datetime, tz: str) -> datetime:
    """The earlier instant that shows a local time; the first after the gap when none does."""
    zone = ZoneInfo(tz)
    found = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if found.astimezone(zone).replace(tzinfo=None) == local:
        return found
    minute = timedelta(minutes=1)
    moment = found - timedelta(hours=26)
    while (moment + minute).astimezone(zone).replace(tzinfo=None) < local:
        moment += minute
    return moment + minute


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_instant_of_a_local_time_near_a_change(data: st.DataObject) -> None:
    tz = data.draw(st.sampled_from([name for name in ZONES if name not in ("UTC", "Asia/Kolkata", "Asia/Kathmandu")]))
    zone = zones.zone_of(tz, 0, 0)
    zone = zones.zone_of(tz, 946_684_800 * zones.SECOND, 1_700_000_000 * zones.SECOND)
    change = int(data.draw(st.sampled_from(zone.starts[1:].tolist())))
    shift = data.draw(st.integers(-150, 150))
    local = EPOCH + timedelta(microseconds=int(zone.local(np.array([change]))[0])) + timedelta(minutes=shift)
    found = zone.utc(np.array([(local - EPOCH) // timedelta(microseconds=1)]))[0]
    assert datetime.fromtimestamp(found / zones.SECOND, UTC) == instant_of(local, tz)


@pytest.mark.parametrize("tz", ZONES)
def test_utc_undoes_local_outside_the_second_pass(tz: str) -> None:
    hours = np.arange(0, 20 * 365 * 24, dtype=np.int64) * 3_600_000_000 + 1_100_000_000_000_000
    zone = zones.zone_of(tz, int(hours[0]), int(hours[-1]))
    back = zone.utc(zone.local(hours))
    assert (back <= hours).all()
    assert (back == hours).mean() > 0.9997


def test_times_far_outside_the_table_have_a_clock() -> None:
    assert calendar.local_day(at("1850-06-01", "2290-06-01"), "Europe/Paris").tolist()[1].year == 2290


# grids


@pytest.mark.parametrize(
    "tz", ["Europe/Paris", "Europe/Berlin", "America/Santiago", "Asia/Kolkata", "Australia/Lord_Howe"]
)
@pytest.mark.parametrize(
    ("freq", "naive"),
    [("1D", "D"), ("2D", "2D"), ("1W", "7D"), ("1MS", "MS"), ("1QS", "3MS"), ("1YS", "12MS")],
)
def test_calendar_steps_begin_at_local_midnight(tz: str, freq: str, naive: str) -> None:
    expected = pd.date_range("2022-01-01", periods=40, freq=naive).tz_localize(
        tz, nonexistent="shift_forward", ambiguous=np.ones(40, bool)
    )
    found = calendar.grid(pd.Timestamp("2022-01-01", tz=tz), 40, freq, tz)
    assert found.equals(expected.tz_convert("UTC").as_unit("us"))
    end = calendar.interval_end(found, freq, tz)
    assert end[:-1].equals(found[1:])
    assert calendar.grid_between(found[0], found[-1], freq, tz).equals(found[:-1])
    assert calendar.steps_back(found[3:], 3, freq, tz).equals(found[:-3])


def test_santiago_day_without_midnight_begins_at_one() -> None:
    days = calendar.grid(pd.Timestamp("2024-09-07", tz="America/Santiago"), 3, "1D", "America/Santiago")
    assert wall(days, "America/Santiago") == ["09-07 00:00", "09-08 01:00", "09-09 00:00"]
    assert calendar.positions(days, days[0], "1D", "America/Santiago").tolist() == [0, 1, 2]
    values = np.array([1.0, 2.0, 3.0])
    assert calendar.lagged(values, days, days, 1, "1D", "America/Santiago")[1:].tolist() == [1.0, 2.0]


def test_grid_below_a_day_is_elapsed_time() -> None:
    found = calendar.grid(utc("2024-03-31"), 4, "1h", "Europe/Paris")
    assert found.equals(pd.date_range("2024-03-31", periods=4, freq="h", tz="UTC").as_unit("us"))
    assert calendar.interval_end(found, "1h", "Europe/Paris").equals(found + pd.Timedelta("1h"))
    assert len(calendar.grid(utc("2024-03-31"), 0, "1D", "Europe/Paris")) == 0
    assert len(calendar.grid_between(utc("2024-03-31"), utc("2024-03-31"), "1D", "Europe/Paris")) == 0
    assert len(calendar.grid_between(utc("2024-03-31"), utc("2024-03-01"), "1h", "Europe/Paris")) == 0


def test_months_that_lack_the_day_end_on_their_last() -> None:
    found = calendar.grid(utc("2024-01-31 06:00"), 4, "1MS", "UTC")
    assert found.strftime("%m-%d %H").to_list() == ["01-31 06", "02-29 06", "03-31 06", "04-30 06"]


@pytest.mark.parametrize(("tz", "day", "quarters"), [
    ("Europe/Paris", "2024-03-31", 92), ("Europe/Paris", "2024-03-30", 96), ("Europe/Paris", "2024-10-27", 100),
    ("Europe/Berlin", "2025-03-30", 92), ("Europe/Berlin", "2025-10-26", 100),
    ("America/Santiago", "2024-09-08", 92), ("America/Santiago", "2024-04-06", 100),
    ("America/Santiago", "2024-04-07", 96), ("America/Havana", "2024-11-03", 100),
    ("Asia/Kolkata", "2024-03-31", 96),
    ("Australia/Lord_Howe", "2024-10-06", 94), ("Australia/Lord_Howe", "2024-04-07", 98),
])  # fmt: skip
def test_quarter_hours_of_a_delivery_day(tz: str, day: str, quarters: int) -> None:
    issue = pd.Timestamp(f"{day} 11:30", tz=tz) - pd.Timedelta("24h")
    steps = calendar.delivery_day(issue, 1, "15min", tz)
    assert len(steps) == quarters
    assert set(calendar.local_day(steps, tz).astype(str)) == {day}
    before, after = steps[0] - pd.Timedelta("1us"), steps[-1] + pd.Timedelta("15min")
    assert day not in calendar.local_day(pd.DatetimeIndex([before, after]), tz).astype(str)
    assert calendar.delivery_day(issue, 1, "1D", tz).equals(steps[:1])


@pytest.mark.parametrize("tz", ZONES)
def test_local_day_is_the_date_that_zoneinfo_shows(tz: str) -> None:
    times = calendar.grid(utc("2011-12-01"), 24 * 60, "1h", tz)
    expected = [time.to_pydatetime().astimezone(ZoneInfo(tz)).date() for time in times]
    assert calendar.local_day(times, tz).tolist() == expected


# shifts


@pytest.mark.parametrize("tz", ["Europe/Paris", "Europe/Berlin", "America/Santiago", "America/New_York"])
@pytest.mark.parametrize("days", [1, 7, 364])
@pytest.mark.parametrize("freq", ["15min", "30min", "1h"])
def test_a_shift_of_whole_days_keeps_the_local_time(tz: str, days: int, freq: str) -> None:
    per_day = int(86_400 / calendar.step_seconds(freq))
    times = calendar.grid(utc("2024-02-01"), 330 * per_day, freq, tz)
    back = calendar.steps_back(times, days * per_day, freq, tz)
    now, then = times.tz_convert(tz).tz_localize(None), back.tz_convert(tz).tz_localize(None)
    same = now - pd.Timedelta(days=days) == then
    # only the hour that did not exist is moved, in spring of either year
    assert (~same).sum() <= 2 * per_day / 24
    assert ((then[~same] - (now[~same] - pd.Timedelta(days=days))) <= pd.Timedelta("1h")).all()
    repeated = back[same] + pd.Timedelta("-1h")
    first = repeated.tz_convert(tz).tz_localize(None) != then[same]
    assert first.all(), "of a repeated hour the first is meant"


def test_the_hour_that_was_skipped_becomes_the_first_after_the_gap() -> None:
    back = calendar.steps_back(at("2024-04-01 00:30"), 24, "30min", "Europe/Paris")
    assert back.equals(at("2024-03-31 12:30")), "12 hours are elapsed time"
    back = calendar.steps_back(
        at("2024-04-01 00:00", "2024-04-01 00:30", "2024-04-01 01:00"), 48, "30min", "Europe/Paris"
    )
    assert wall(back, "Europe/Paris") == ["03-31 03:00", "03-31 03:00", "03-31 03:00"]


def test_the_hour_that_came_twice_means_the_first() -> None:
    back = calendar.steps_back(at("2024-10-28 01:30"), 48, "30min", "Europe/Paris")
    assert back.equals(at("2024-10-27 00:30"))


@pytest.mark.parametrize("n", [1, 5, 25, 36])
def test_other_shifts_are_elapsed_time(n: int) -> None:
    times = calendar.grid(utc("2024-03-29"), 100, "1h", "Europe/Paris")
    assert calendar.steps_back(times, n, "1h", "Europe/Paris").equals(times - pd.Timedelta(hours=n))


@pytest.mark.parametrize("tz", ["Australia/Lord_Howe", "Asia/Kolkata", "Asia/Kathmandu"])
@pytest.mark.parametrize("start", ["2024-04-05", "2024-10-04"])
def test_half_hour_clocks_stay_on_the_hourly_grid(tz: str, start: str) -> None:
    times = calendar.grid(utc(start), 96, "1h", tz)
    back = calendar.steps_back(times, 24, "1h", tz)
    gone = times.asi8 - back.asi8
    assert (gone % 3_600_000_000 == 0).all()
    local, then = times.tz_convert(tz).tz_localize(None), back.tz_convert(tz).tz_localize(None)
    into = (local - pd.Timedelta("1D")) - then
    assert ((into >= pd.Timedelta(0)) & (into < pd.Timedelta("1h"))).mean() > 0.98


def test_steps_forward_are_negative_steps_back() -> None:
    times = calendar.grid(utc("2024-03-29 12:00"), 72, "1h", "Europe/Paris")
    forward = calendar.steps_back(times, -24, "1h", "Europe/Paris")
    assert [text[6:] for text in wall(forward, "Europe/Paris")].count("12:00") == 3
    assert calendar.steps_back(forward, 24, "1h", "Europe/Paris")[30:].equals(times[30:])
    assert calendar.steps_back(times, 0, "1h", "Europe/Paris").equals(times)


def test_a_shift_of_many_years_sees_the_clock_of_then() -> None:
    # Kathmandu went from UTC+5:30 to UTC+5:45 in 1986
    midnight, tz = at("2012-01-09 18:15"), "Asia/Kathmandu"
    for n, freq in ((365 * 30, "1D"), (365 * 30 * 96, "15min"), (12 * 30, "1MS")):
        assert wall(calendar.steps_back(midnight, n, freq, tz), tz)[0][6:] == "00:00"


# values


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_lagged_is_a_lookup(data: st.DataObject) -> None:
    tz = data.draw(st.sampled_from(ZONES))
    freq = data.draw(st.sampled_from(["30min", "1h", "1D", "1W", "1MS"]))
    start = data.draw(st.sampled_from(["2024-03-28", "2024-10-24", "2024-09-05", "2024-04-04"]))
    times = calendar.grid(pd.Timestamp(start, tz=tz), data.draw(st.integers(1, 120)), freq, tz)
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(times), max_size=len(times))))
    whole = data.draw(st.booleans())
    kept = times if whole else times[keep]
    values = np.arange(len(kept), dtype=np.float64)
    n = data.draw(st.sampled_from([0, 1, 2, 24, 25, 48, 168]))
    wanted = calendar.grid(times[0], len(times) + 30, freq, tz)
    table = dict(zip(kept, values.tolist(), strict=True))
    expected = [table.get(time, np.nan) for time in calendar.steps_back(wanted, n, freq, tz)]
    found = calendar.lagged(values, kept, wanted, n, freq, tz)
    np.testing.assert_array_equal(found, expected)


def test_lagged_off_the_grid_finds_nothing() -> None:
    hours = calendar.grid(utc("2024-01-01"), 3, "1h", "UTC")
    assert np.isnan(calendar.lagged(np.ones(3), hours, hours + pd.Timedelta("10min"), 1, "1h", "UTC")).all()
    assert np.isnan(calendar.lagged(np.zeros(0), hours[:0], hours, 1, "1h", "UTC")).all()
    assert len(calendar.lagged(np.ones(3), hours, hours[:0], 1, "1h", "UTC")) == 0


def test_lagged_never_hands_out_the_history_itself() -> None:
    hours = calendar.grid(utc("2024-01-01"), 3, "1h", "UTC")
    values = np.ones(3)
    assert not np.shares_memory(calendar.lagged(values, hours, hours, 0, "1h", "UTC"), values)


def test_daily_steps_find_their_place_whatever_the_clock_does() -> None:
    days = calendar.grid(pd.Timestamp("2024-01-01", tz="Europe/Paris"), 400, "1D", "Europe/Paris")
    assert calendar.positions(days, days[100], "1D", "Europe/Paris").tolist() == list(range(-100, 300))
    months = calendar.grid(pd.Timestamp("2024-01-01", tz="Europe/Paris"), 30, "1MS", "Europe/Paris")
    assert calendar.positions(months, months[3], "1MS", "Europe/Paris").tolist() == list(range(-3, 27))
