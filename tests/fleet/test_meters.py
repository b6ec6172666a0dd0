"""Laws of meters: energy is conserved, registers count through rollovers and stop at resets, nothing is made up."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet import calendar
from fleet.config import parse
from fleet.errors import ConfigInvalid, SeriesInvalid
from fleet.ingest import IngestReport, ingest
from fleet.ingest.cleaning import Clean
from fleet.ingest.meters import Meter, differences, metered
from fleet.zones import IntArray
from store import FixedClock, Store

NOW = FixedClock(datetime(2025, 1, 1, tzinfo=UTC))
PARIS = "Europe/Paris"
HOUR = 3_600_000_000
DATA = Path(os.environ.get("TSFLEET_TEST_DATA", "/nonexistent"))
real = pytest.mark.skipif(not DATA.is_dir(), reason="TSFLEET_TEST_DATA is not set to the folder of real data")


class World:
    """A store in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store.open(folder / "fleet.store", clock=NOW)

    def ingest(self, text: str, source: object = None) -> IngestReport:
        config = parse(text, self.folder / "fleet.toml", check_recipes=False)
        return ingest(self.store, config, clock=NOW, source=source)

    def stored(self) -> pd.Series:
        return self.store.table("actuals").to_pandas().set_index("valid_time")["y"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


def rows(times: pd.DatetimeIndex, y: Any) -> pd.DataFrame:
    return pd.DataFrame({"unique_id": "a", "ds": times, "y": np.asarray(y, dtype=float)})


def quarters(start: str, steps: int) -> pd.DatetimeIndex:
    return pd.date_range(start, periods=steps, freq="15min", tz="UTC")


def checks(report: IngestReport) -> Mapping[str, int]:
    return {finding.check: finding.rows for finding in report.findings}


# -- numbers ---------------------------------------------------------------------------------------------------------


def test_scale_and_sign_are_multiplied(world: World) -> None:
    world.ingest("[data]\nscale = 0.5\nsign = -1\n", rows(quarters("2024-06-01", 1), [8]))
    assert world.stored().to_list() == [-4.0]


@pytest.mark.parametrize(
    ("unit", "register", "value", "expected"),
    [
        ("kW", "MW", 500.0, 0.5),
        ("kWh", "MWh", 500.0, 0.5),
        ("kWh", "kW", 10.0, 40.0),  # in a quarter of an hour
        ("MW", "kWh", 1.0, 250.0),
        ("GJ", "MWh", 3.6, 1.0),
        ("m3", "m3", 7.0, 7.0),
    ],
)
def test_numbers_become_those_of_the_unit_of_the_asset(
    world: World, unit: str, register: str, value: float, expected: float
) -> None:
    (world.folder / "assets.csv").write_text(f"asset_id,unit\na,{register}\n")
    rows(quarters("2024-06-01", 2), [value, np.nan]).to_parquet(world.folder / "data.parquet")
    text = f"[fleet]\nfreq = '15min'\n[assets]\npath = 'assets.csv'\n[data]\npath = 'data.parquet'\nunit = '{unit}'\n"
    world.ingest(text)
    np.testing.assert_allclose(world.stored().to_list(), [expected, np.nan])


def test_a_unit_that_does_not_become_that_of_the_asset_is_refused(world: World) -> None:
    (world.folder / "assets.csv").write_text("asset_id,unit\na,m3\n")
    rows(quarters("2024-06-01", 2), [1, 2]).to_parquet(world.folder / "data.parquet")
    with pytest.raises(SeriesInvalid, match='unit = "kWh" does not become m3, the unit of asset a'):
        world.ingest(
            "[assets]\npath = 'assets.csv'\n[fleet]\nfreq='15min'\n[data]\npath = 'data.parquet'\nunit='kWh'\n"
        )


def test_an_asset_that_only_the_data_know_has_the_unit_of_its_readings(world: World) -> None:
    world.ingest("[data]\nunit = 'kWh'\n", rows(quarters("2024-06-01", 1), [1]))
    assert world.store.sql("select unit from assets").rows() == [{"unit": "kWh"}]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("unit = 'kW'\nkind = 'register'", 'kind = "register" is not counted in kW; accepted: kind = "power"'),
        ("digits = 6", 'digits is of a register; accepted: with kind = "register"'),
        ("step = '15min'", 'step puts readings together; accepted: with kind = "power" or "energy"'),
        ("kind = 'counter'", '[data] kind = "counter"'),
        ("min_share = 0.0", "min_share = 0: accepted: a share above 0 up to 1"),
        ("sign = 0", "[data] sign = 0"),
        ("digit = 6", 'did you mean "digits"'),
        ("columns = ['a']", 'columns are the steps of a day; accepted: with layout = "days"'),
    ],
)
def test_keys_of_a_meter_that_do_not_hold_are_one_line(keys: str, said: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        parse(f"[data]\n{keys}\n", Path("fleet.toml"), check_recipes=False)
    assert said in caught.value.message
    assert caught.value.message.startswith("fleet.toml: [data]")


# -- resampling ------------------------------------------------------------------------------------------------------

HOURLY = "[data]\nkind = '{}'\nstep = '15min'\nmin_share = {}\n"


def test_energy_adds_up_and_of_power_the_mean_counts(world: World) -> None:
    frame = rows(quarters("2024-06-01", 8), [1, 2, 3, 4, 10, 20, 30, 40])
    world.ingest(HOURLY.format("energy", 1.0), frame)
    assert world.stored().to_list() == [10.0, 100.0]
    world.ingest(HOURLY.format("power", 1.0), frame.assign(unique_id="b"))
    table = world.store.table("actuals", assets=["b"]).to_pandas()
    assert table.y.to_list() == [2.5, 25.0]
    assert list(table.available_at - table.valid_time) == [pd.Timedelta("1h")] * 2


def test_an_interval_with_its_share_of_readings_is_estimated_from_them_and_counted(world: World) -> None:
    y = [1, 2, 3, 4, 10, np.nan, 30, 20, np.nan, np.nan, 5, 5, 1, 1, 1, 1]
    report = world.ingest(HOURLY.format("energy", 0.75), rows(quarters("2024-06-01", 16), y))
    np.testing.assert_array_equal(world.stored().to_list(), [10.0, 80.0, np.nan, 4.0])
    assert (checks(report)["estimated"], checks(report)["incomplete"]) == (1, 1)


def test_an_hour_that_a_file_holds_in_part_waits_for_the_rest(world: World) -> None:
    """A file that begins or ends within an hour neither stores nor spoils it."""
    times, y = quarters("2024-06-01", 12), np.arange(12.0)
    world.ingest(HOURLY.format("energy", 1.0), rows(times[:10], y[:10]))
    assert world.stored().to_list() == [6.0, 22.0]
    world.ingest(HOURLY.format("energy", 1.0), rows(times[6:], y[6:]))
    assert world.stored().to_list() == [6.0, 22.0, 38.0]


def test_a_step_that_does_not_divide_is_refused(world: World) -> None:
    text = "[fleet]\nfreq = '1h'\n[data]\nkind = 'energy'\nstep = '25min'\n"
    with pytest.raises(SeriesInvalid, match='step = "25min" does not divide the step of asset a, 1h'):
        world.ingest(text, rows(pd.date_range("2024-06-01", periods=5, freq="25min", tz="UTC"), np.ones(5)))


@pytest.mark.parametrize("change", ["2024-03-30", "2024-10-26"])
def test_a_local_day_holds_the_energy_of_its_23_or_25_hours(world: World, change: str) -> None:
    begin = pd.Timestamp(change, tz=PARIS)
    times = pd.date_range(begin, begin + pd.DateOffset(days=3), freq="h", inclusive="left").tz_convert("UTC")
    text = "[fleet]\nfreq = '1D'\ntimezone = 'Europe/Paris'\n[data]\nunit = 'kWh'\nstep = '1h'\n"
    world.ingest(text, rows(times, np.ones(len(times))))
    middle = 23.0 if change.startswith("2024-03") else 25.0
    assert world.stored().to_list() == [24.0, middle, 24.0]
    assert list(world.stored().index.tz_convert(PARIS).hour) == [0, 0, 0]


def clean_of(times: IntArray, values: Any) -> Clean:
    return Clean(
        keys=["a"],
        codes=np.zeros(len(times), dtype=np.int64),
        starts=times,
        available=times + HOUR,
        values=[np.asarray(values, dtype=float)],
    )


def run(times: IntArray, values: Any, meter: Meter, freq: str, tz: str) -> Clean:
    return metered(clean_of(times, values), meter, [(freq, tz)], [None], np.array([-1]), 0)


@settings(max_examples=60, deadline=None)
@given(
    start=st.sampled_from(["2024-03-28", "2024-10-24", "2024-06-01", "2023-12-30"]),
    days=st.integers(2, 6),
    freq=st.sampled_from(["30min", "1h", "2h", "6h", "1D", "1W", "1MS"]),
    tz=st.sampled_from([PARIS, "UTC", "Asia/Kolkata", "Australia/Lord_Howe", "America/New_York"]),
    seed=st.integers(0, 1000),
)
def test_resampling_conserves_energy_over_clock_changes(start: str, days: int, freq: str, tz: str, seed: int) -> None:
    """Of the intervals that are there, each holds the readings from its start to its end; none is counted twice."""
    begin = calendar.instant(pd.Timestamp(start, tz=tz))
    times = begin + np.arange(days * 96, dtype=np.int64) * (HOUR // 4)
    values = np.random.default_rng(seed).integers(0, 100, len(times)).astype(float)
    meter = Meter(kind="energy", step="15min")
    found = run(times, values, meter, freq, tz)
    for place, (one, amount) in enumerate(zip(found.starts, found.values[0], strict=True)):
        end = found.available[place]
        assert amount == values[(times >= one) & (times < end)].sum()
        if place:
            assert one == found.available[place - 1]
    left_out = values.sum() - found.values[0].sum()
    outside = (times < found.starts.min(initial=2**62)) | (times >= found.available.max(initial=-(2**62)))
    assert left_out == values[outside].sum()


# -- registers -------------------------------------------------------------------------------------------------------

REGISTER = "[data]\nkind = 'register'\ndigits = 4\nunit = 'kWh'\n"


def hours(*values: float) -> pd.DataFrame:
    return rows(pd.date_range("2024-06-01", periods=len(values), freq="h", tz="UTC"), values)


def test_a_register_counts_what_lies_between_two_readings(world: World) -> None:
    world.ingest(REGISTER, hours(100, 110, 125, 125))
    stored = world.store.table("actuals").to_pandas()
    assert stored.y.to_list() == [10.0, 15.0, 0.0]
    assert list(stored.valid_time.dt.hour) == [0, 1, 2]
    assert list(stored.available_at - stored.valid_time) == [pd.Timedelta("1h")] * 3


def test_a_register_rolls_over_and_is_counted(world: World) -> None:
    report = world.ingest(REGISTER, hours(9990, 9998, 5, 12))
    assert world.stored().to_list() == [8.0, 7.0, 7.0]
    assert checks(report)["rollover"] == 1


def test_at_a_reset_nothing_is_made_up(world: World) -> None:
    report = world.ingest(REGISTER, hours(100, 110, 0, 3))
    np.testing.assert_array_equal(world.stored().to_list(), [10.0, np.nan, 3.0])
    assert checks(report)["reset"] == 1


def test_a_gap_within_a_register_loses_the_hours_and_not_their_energy(world: World) -> None:
    frame = hours(0, 10, 20, 30, 40, 50).drop(index=2)
    report = world.ingest(REGISTER, frame)
    np.testing.assert_array_equal(world.stored().to_list(), [10.0, np.nan, np.nan, 10.0, 10.0])
    assert checks(report)["incomplete"] == 2
    world.ingest("[fleet]\nfreq = '5h'\n" + REGISTER, frame.assign(unique_id="b"))
    assert world.store.table("actuals", assets=["b"]).to_pandas().y.to_list() == [50.0]


def test_a_register_of_quarters_becomes_power_of_hours(world: World) -> None:
    """40 kWh in the first hour are a mean of 0.04 MW."""
    (world.folder / "assets.csv").write_text("asset_id,unit\na,MW\n")
    readings = np.cumsum([0, 5, 15, 10, 10, 1, 1, 1, 1])
    rows(quarters("2024-06-01", 9), readings).to_parquet(world.folder / "data.parquet")
    world.ingest("[assets]\npath = 'assets.csv'\n" + REGISTER + "path = 'data.parquet'\nstep = '15min'\n")
    np.testing.assert_allclose(world.stored().to_list(), [0.04, 0.004])


@settings(max_examples=80, deadline=None)
@given(
    steps=st.lists(st.integers(0, 400), min_size=2, max_size=60),
    first=st.integers(0, 999),
)
def test_what_a_register_counted_sums_to_the_last_minus_the_first_reading(steps: list[int], first: int) -> None:
    true = first + np.concatenate([[0], np.cumsum(steps)]).astype(float)
    amounts, rolled, reset = differences(true % 1000, digits=3)
    assert amounts.sum() == true[-1] - true[0]
    assert rolled.sum() == true[-1] // 1000 - true[0] // 1000
    assert not reset.any()
    times = np.arange(len(true), dtype=np.int64) * HOUR
    found = run(times, true % 1000, Meter(kind="register", digits=3), "1h", "UTC")
    assert found.values[0].sum() == true[-1] - true[0]


# -- local days side by side -----------------------------------------------------------------------------------------


def day_file(folder: Path, first: str, days: int, columns: int, freq: str = "15min") -> pd.Series:
    """A CSV with a row for each local day of Paris; and what it holds, by instant."""
    starts = pd.date_range(first, periods=days + 1, freq="D", tz=PARIS)
    times = pd.date_range(starts[0], starts[-1], freq=freq, inclusive="left")
    values = pd.Series(np.arange(len(times)) + 1.0, index=times)
    lines = ["meter,day," + ",".join(f"v{n + 1}" for n in range(columns))]
    for day, some in values.groupby(values.index.date):
        cells = [f"{value:g}" for value in some] + [""] * (columns - len(some))
        lines.append(f"a,{day}," + ",".join(cells))
    (folder / "days.csv").write_text("\n".join(lines) + "\n")
    return values


DAYS = (
    "[fleet]\nfreq = '15min'\ntimezone = 'Europe/Paris'\n"
    "[data]\npath = 'days.csv'\nasset = 'meter'\ntime = 'day'\nlayout = 'days'\n"
)


@pytest.mark.parametrize(("first", "steps"), [("2024-03-30", 92), ("2024-10-26", 100), ("2024-06-01", 96)])
def test_the_columns_of_a_day_are_its_steps_one_after_another(world: World, first: str, steps: int) -> None:
    values = day_file(world.folder, first, 3, 100)
    world.ingest(DAYS)
    assert len(world.stored()) == 192 + steps
    assert list(world.stored().index) == list(values.index.tz_convert("UTC"))
    assert world.stored().to_list() == values.to_list()


def test_a_day_with_more_values_than_steps_is_refused(world: World) -> None:
    (world.folder / "days.csv").write_text(
        "meter,day," + ",".join(f"v{n}" for n in range(24)) + "\na,2024-03-31," + ",".join("1" * 24) + "\n"
    )
    with pytest.raises(SeriesInvalid, match="asset a on 2024-03-31: 24 values, and the day has 23 steps"):
        world.ingest(DAYS.replace("15min", "1h"))
    day_file(world.folder, "2024-10-27", 1, 25, "h")
    text = (world.folder / "days.csv").read_text().replace(",v25", "").replace(",25\n", "\n")
    (world.folder / "days.csv").write_text(text)
    with pytest.raises(SeriesInvalid, match="24 columns, and the day has 25 steps"):
        world.ingest(DAYS.replace("15min", "1h"))


@pytest.mark.parametrize(("rule", "hour"), [("first", "00:00"), ("second", "01:00")])
def test_columns_called_by_the_clock_follow_the_rule_of_the_repeated_hour(world: World, rule: str, hour: str) -> None:
    names = [f"{n:02}:00" for n in range(24)]
    lines = ["meter,day," + ",".join(names)]
    lines.append("a,2024-03-31," + ",".join("" if n == 2 else str(n) for n in range(24)))
    lines.append("a,2024-10-27," + ",".join(str(n) for n in range(24)))
    (world.folder / "days.csv").write_text("\n".join(lines) + "\n")
    text = DAYS.replace("15min", "1h")
    with pytest.raises(SeriesInvalid, match="1 in an hour that the clock shows twice"):
        world.ingest(text)
    report = world.ingest(text + f"ambiguous = '{rule}'\n")
    assert checks(report)["ambiguous"] == 1
    stored = world.stored()
    assert len(stored) == 23 + 24
    assert stored[pd.Timestamp(f"2024-10-27T{hour}Z")] == 2.0
    assert stored[pd.Timestamp("2024-03-31T01:00Z")] == 3.0


def test_a_value_in_the_hour_that_the_clock_skips_is_a_bad_row(world: World) -> None:
    names = ",".join(f"{n:02}:00" for n in range(24))
    (world.folder / "days.csv").write_text(f"meter,day,{names}\na,2024-03-31,{','.join('1' * 24)}\n")
    with pytest.raises(SeriesInvalid, match="1 at a local time that the clock skipped"):
        world.ingest(DAYS.replace("15min", "1h"))


def test_a_field_of_a_day_that_is_no_number_is_named(world: World) -> None:
    (world.folder / "days.csv").write_text("meter,day,v1,v2\na,2024-06-01,1,much\n")
    with pytest.raises(SeriesInvalid, match="value much, asset a on 2024-06-01"):
        world.ingest(DAYS.replace("15min", "12h"))


# -- real data -------------------------------------------------------------------------------------------------------


@real
def test_the_quarters_of_the_steel_plant_become_hours_of_the_same_energy(world: World) -> None:
    """The plant counts kWh in quarters that are stamped with their ends; a year of hours holds all of them."""
    text = (
        f"[data]\npath = '{DATA}/steel_plant_15min.parquet'\nlabel = 'end'\ntimezone = 'Asia/Seoul'\n"
        "unit = 'kWh'\nstep = '15min'\n"
    )
    world.ingest(text)
    raw = pd.read_parquet(DATA / "steel_plant_15min.parquet")
    stored = world.stored()
    assert len(stored) == 8_760
    assert stored.sum() == pytest.approx(raw.y.astype(float).sum(), rel=1e-12)
    first = raw.sort_values("ds").y.to_numpy(dtype=float)[:4].sum()
    assert stored.iloc[0] == pytest.approx(first, rel=1e-12)
