"""Real buildings: a weather feed stops for forty of them while two others truly decay. How many alerts, and which."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fleet import Fleet
from fleet.config import JobSection
from jobs.work import Work
from jobs.work.alert import run
from tests.walks.small import fleet_in

DATA = Path(os.environ.get("TSFLEET_TEST_DATA", "/nonexistent"))
real = pytest.mark.skipif(not DATA.is_dir(), reason="TSFLEET_TEST_DATA is not set to the folder of real data")

NOW = datetime(2022, 11, 21, tzinfo=UTC)
FIRST_ISSUE = NOW - timedelta(days=28)
STOPPED = NOW - timedelta(days=4)
CHANGED = NOW - timedelta(days=7)
NORTH, SOUTH = 40, 12

CONFIG = """
[fleet]
name = "campus"
timezone = "Europe/London"
horizon = 24
seasons = [24, 168]

[assets]
path = "assets.csv"

[[covariates]]
name = "weather"
path = "weather.parquet"
series = "station"
columns = ["temp"]
known = "future"

[recipes.weather]
adapter = "sklearn"
lags = [24, 48, 168]
calendar = ["hour", "dayofweek"]

[train]
workers = 1
window = "90d"
fallback = ["weekly_naive"]

[[alerts]]
name = "decay"
kind = "metric"
metric = "mae"
change = 1.0
history = "21d"

[[alerts]]
name = "silent"
kind = "readings"
after = "12h"

[[alerts]]
name = "weather late"
kind = "inputs"
after = "12h"

[[alerts]]
name = "failing"
kind = "outcomes"
"""


def sound_buildings() -> pd.DataFrame:
    """Readings of the buildings that have all of them in these months, hardly a zero and none lately."""
    table = pd.read_parquet(DATA / "cambridge_electricity_2018_2022.parquet", columns=["unique_id", "ds", "y"])
    span = (table.ds >= FIRST_ISSUE - timedelta(days=120)) & (table.ds < NOW)
    table = table[span]
    by = table.groupby("unique_id").y
    whole = by.count() == by.count().max()
    alive = (table.y == 0).groupby(table.unique_id).sum() == 0
    names = sorted(whole.index[whole & alive])[: NORTH + SOUTH]
    assert len(names) == NORTH + SOUTH
    return table[table.unique_id.isin(names)].sort_values(["unique_id", "ds"]).astype({"y": "float64"})


def campus(folder: Path, readings: pd.DataFrame) -> Fleet:
    """Forty buildings at the station north, the rest at south; both give what the one real station measured."""
    folder.mkdir()
    names = sorted(readings.unique_id.unique())
    stations = ["north"] * NORTH + ["south"] * SOUTH
    pd.DataFrame({"asset_id": names, "station": stations}).to_csv(folder / "assets.csv", index=False)
    weather = pd.read_parquet(DATA / "cambridge_weather_2018_2022.parquet")
    column = next(name for name in weather.columns if name.startswith("temp"))
    weather = weather[["ds", column]].rename(columns={column: "temp"}).dropna()
    weather = weather[(weather.ds >= readings.ds.min()) & (weather.ds < NOW + timedelta(days=2))]
    north = weather[weather.ds < STOPPED].assign(station="north")
    pd.concat([north, weather.assign(station="south")]).to_parquet(folder / "weather.parquet")
    return fleet_in(folder, CONFIG, at=NOW)


@real
@pytest.mark.slow
def test_a_feed_that_stops_for_forty_buildings_and_two_that_decay_are_two_causes(tmp_path: Path) -> None:
    """The two work every other day from the change on: nothing is missing, and no model knows."""
    readings = sound_buildings()
    names = sorted(readings.unique_id.unique())
    decaying = names[NORTH + 3], names[NORTH + 7]
    late = readings.unique_id.isin(decaying) & (readings.ds >= CHANGED)
    other_day = (readings.ds - pd.Timestamp(CHANGED)).dt.days % 2 == 0
    readings.loc[late, "y"] *= np.where(other_day[late], 0.4, 2.0)

    with campus(tmp_path / "campus", readings) as fleet:
        fleet.ingest(readings[readings.ds < FIRST_ISSUE])
        fleet.ingest()
        fleet.train(recipes=["weather"], judge=False)
        fleet.promote("weather")
        fleet.ingest(readings[readings.ds >= FIRST_ISSUE])
        for day in range(28):
            fleet.forecast(issue_time=FIRST_ISSUE + timedelta(days=day))
        fleet.score()
        section = JobSection(every="1h")
        done = run(
            Work(fleet=fleet, name="alert", kind="alert", slot=NOW, revision=0, section=section, clock=fleet.clock)
        )
        print("", *done.notes, sep="\n")
        found = {row["cause"]: row for row in fleet.store.sql("select * from alerts").rows()}
        assert {cause: row["assets"] for cause, row in found.items()} == {
            "inputs of north of weather": NORTH,
            "decay: mae grew by 100% or more in 7 days": 2,
        }
        members = fleet.store.sql("select distinct asset_id from alert_assets where rule = 'decay'").rows()
        assert set(decaying) <= {row["asset_id"] for row in members}
