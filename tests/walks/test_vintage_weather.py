"""Real weather forecasts with their issue times: what they are worth, and what knowing the future would pretend."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from fleet import Fleet
from tests.walks.small import fleet_in

DATA = Path(os.environ.get("TSFLEET_TEST_DATA", "/nonexistent"))
real = pytest.mark.skipif(not DATA.is_dir(), reason="TSFLEET_TEST_DATA is not set to the folder of real data")

CONFIG = """
[fleet]
horizon = 48
seasons = [24]

[data]
path = "{data}/gefcom2012_wind_power.parquet"
timezone = "UTC"
{covariates}
[recipes.gbm]
adapter = "lightgbm"
lags = [48]
calendar = ["hour"]

[train]
workers = 1

[backtest]
origins = 21
stride = "36h"
"""
WEATHER = """
[[covariates]]
sql = "select unique_id, issued, ds, u, v, ws from '{data}/gefcom2012_wind_nwp.parquet' {which}"
asset = "unique_id"
columns = ["u", "v", "ws"]
timezone = "UTC"
known = "future"
"""
NEWEST = "where u is not null qualify row_number() over (partition by unique_id, ds order by issued desc) = 1"


def judged(folder: Path, covariates: str) -> tuple[float, bool, Fleet]:
    """The error over the farms, and whether it is flagged."""
    fleet = fleet_in(folder, CONFIG.format(data=DATA, covariates=covariates))
    fleet.ingest()
    assert fleet.backtest().ok == 7
    (row,) = fleet.leaderboard(metrics=["mae"]).rows()
    assert row["n"] == 7 * 21 * 48 - absent(fleet)
    return row["mae"], row["perfect_foresight"], fleet


def absent(fleet: Fleet) -> int:
    """Steps that were forecast and have no reading; the power is missing in blocks of 48 hours."""
    query = """select count(*) as n from forecasts f anti join actuals a
               on a.asset_id = f.asset_id and a.valid_time = f.valid_time where f.role = 'backtest'"""
    return int(fleet.store.sql(query).rows()[0]["n"])


@real
@pytest.mark.slow
def test_weather_as_it_was_known_helps_and_weather_from_the_future_is_flagged(tmp_path: Path) -> None:
    without, flag, fleet = judged(tmp_path / "without", "")
    fleet.close()
    assert not flag
    known, flag, fleet = judged(tmp_path / "known", WEATHER.format(data=DATA, which="") + 'available_at = "issued"\n')
    with fleet:
        assert not flag
        for tags in fleet.store.table("runs")["tags"].to_pylist():
            told = json.loads(tags)["vintages"]
            last = fleet.store.sql("select max(issue_time) as t from forecasts").rows()[0]["t"]
            assert {pd.Timestamp(at) <= last for at in told.values()} == {True}
    future, flag, fleet = judged(tmp_path / "future", WEATHER.format(data=DATA, which=NEWEST))
    fleet.close()
    assert flag
    print(f"MAE without weather {without:.4f}, as it was known {known:.4f}, from the future {future:.4f}")
    assert future < known < 0.75 * without
