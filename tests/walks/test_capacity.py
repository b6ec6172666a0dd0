"""A dated capacity: every error is divided by what the plant could do then, whoever does the scoring."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.walks.small import BEGIN, fleet_in, hourly

CONFIG = """
[fleet]
name = "capacity"
horizon = 24
seasons = [24]

[assets]
path = "assets.csv"
asset = "plant"
valid_from = "since"
valid_to = "until"

[recipes.day]
adapter = "seasonal_naive"
season = 24

[backtest]
origins = 4

[promotion]
min_points = 24
"""


def test_nmae_cap_divides_by_the_capacity_at_valid_time(tmp_path: Path) -> None:
    days = 20
    change = BEGIN + pd.Timedelta(days=days - 2)
    with fleet_in(tmp_path / "fleet", CONFIG) as fleet:
        (tmp_path / "fleet" / "assets.csv").write_text(
            f"plant,capacity,since,until\np,10,2020-01-01T00:00Z,{change.isoformat()}\np,40,{change.isoformat()},\n"
        )
        history = hourly(["p"], days + 1)
        end = BEGIN + pd.Timedelta(days=days)
        fleet.ingest()
        fleet.ingest(history[history.ds < end])
        fleet.train(promote=True)
        fleet.forecast()
        fleet.ingest(history)
        fleet.score()
        for role in ("backtest", "live"):
            (row,) = fleet.leaderboard(role=role, metrics=["nmae_cap"]).rows()
            rows = fleet.store.sql(
                "select f.mean, a.y, f.valid_time from forecasts f join actuals a using (asset_id, valid_time) "
                f"where f.role {'=' if role == 'backtest' else '<>'} 'backtest'"
            ).df()
            capacity = (rows.valid_time >= change).map({True: 40.0, False: 10.0})
            assert row["nmae_cap"] == pytest.approx(((rows["mean"] - rows.y).abs() / capacity).mean(), rel=1e-12)
