"""The whole path against published and independently computed scores, on the real sets they were computed on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from fleet import Fleet

CONFIG = """
[fleet]
name = "published"
store = "published.store"
horizon = {horizon}
seasons = [24, 168]
[data]
path = "series.parquet"
[recipes.naive]
adapter = "naive"
[recipes.day]
adapter = "seasonal_naive"
season = 24
[recipes.week]
adapter = "seasonal_naive"
season = 168
[backtest]
origins = {origins}
stride = "{horizon}h"
first = "{first}"
"""


@dataclass(frozen=True)
class Published:
    """Scores of a set, as means over its series."""

    horizon: int
    origins: int
    first: str
    assets: int
    scores: dict[str, dict[str, float]]


M4 = Published(
    horizon=48,
    origins=1,
    first="2020-01-01T00:00Z",
    assets=414,
    # Makridakis et al. (2020), M4 hourly: Naive and sNaive.
    scores={"naive": {"smape": 0.43003, "mase_24": 11.608}, "day": {"smape": 0.13912, "mase_24": 1.193}},
)
EIA = Published(
    horizon=24,
    origins=7,
    first="2024-06-10T00:00Z",
    assets=118,
    scores={"day": {"wape": 0.07106873, "mase_24": 1.193734}, "week": {"wape": 0.09429028, "mase_24": 1.574166}},
)
CAMBRIDGE = Published(
    horizon=24,
    origins=7,
    first="2022-11-14T00:00Z",
    assets=76,
    scores={"day": {"wape": 0.1425606, "mase_24": 1.186119}, "week": {"wape": 0.1034408, "mase_24": 0.8865834}},
)


def test_m4_hourly_gives_the_published_scores(test_data: Path, tmp_path: Path) -> None:
    series = pd.read_parquet(test_data / "m4_hourly.parquet")
    last = series[series.split == "train"].groupby("unique_id").ds.max()
    hours = series.ds - series.unique_id.map(last) - 1
    series["ds"] = pd.Timestamp("2020-01-01", tz="UTC") + pd.to_timedelta(hours, unit="h")
    assert_agrees(series, M4, tmp_path, tolerance=2e-4)  # published to three decimals


@pytest.mark.slow
def test_regional_demand_gives_the_reference_scores(test_data: Path, tmp_path: Path) -> None:
    series = pd.read_parquet(test_data / "eia_demand_2020_2024.parquet")
    series["y"] = series.y_repaired.fillna(series.y)
    series = series[(series.unique_id != "AEC") & (series.ds < pd.Timestamp("2024-06-17", tz="UTC"))]
    assert_agrees(series, EIA, tmp_path, tolerance=1e-4)


@pytest.mark.slow
def test_buildings_give_the_reference_scores(test_data: Path, tmp_path: Path) -> None:
    series = pd.read_parquet(test_data / "cambridge_electricity_2018_2022.parquet")
    since, until = pd.Timestamp("2021-01-01", tz="UTC"), pd.Timestamp("2022-11-21", tz="UTC")
    series = series[(series.ds >= since) & (series.ds < until)]
    by_building = series.groupby("unique_id", observed=True).y
    recent = series[series.ds >= pd.Timestamp("2022-11-07", tz="UTC")].groupby("unique_id", observed=True).y
    count = by_building.count()
    share = by_building.apply(lambda y: (y <= 0).mean())
    dark = recent.apply(lambda y: (y <= 0).any())
    kept = [i for i in count.index if count[i] == count.max() and share[i] < 0.02 and not dark.get(i, True)]
    assert_agrees(series[series.unique_id.isin(kept)], CAMBRIDGE, tmp_path, tolerance=1e-4)


def assert_agrees(series: pd.DataFrame, published: Published, folder: Path, *, tolerance: float) -> None:
    series[["unique_id", "ds", "y"]].to_parquet(folder / "series.parquet")
    settings = {"horizon": published.horizon, "origins": published.origins, "first": published.first}
    (folder / "fleet.toml").write_text(CONFIG.format(**settings))
    metrics = sorted({name for scores in published.scores.values() for name in scores})
    with Fleet.open(folder) as fleet:
        fleet.ingest()
        assert fleet.backtest(recipes=list(published.scores)).ok == published.assets
        rows = {row["recipe"]: row for row in fleet.leaderboard(metrics=metrics).rows()}
    for recipe, scores in published.scores.items():
        assert rows[recipe]["assets"] == published.assets
        for name, value in scores.items():
            assert rows[recipe][name] == pytest.approx(value, rel=tolerance), (recipe, name)
