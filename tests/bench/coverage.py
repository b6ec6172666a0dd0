"""How often the readings lie inside the 80 % intervals that were judged: nominal against observed, on real data.

    python -m tests.bench coverage [--data cambridge|eia] [--assets 12] [--origins 28] [--recipes week,ridge,...]

Day-ahead forecasts of hourly series, one model each, fitted once before the first origin. A recipe without quantiles of
its own gets them from its earlier origins, so its first ones are not counted; all recipes stand for the same points.
One line a recipe, beside the width of the intervals, their Winkler score and the mean pinball loss; ``--by-origin``
also tells how the share changes with the number of origins that an interval was made of.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fleet import Fleet

FILES = {
    "cambridge": ("cambridge_electricity_2018_2022.parquet", "Europe/London", "2021-11-01", "2022-11-30"),
    "eia": ("eia_demand_2020_2024.parquet", "UTC", "2023-06-01", "2024-06-30"),
}
RECIPES = {
    "week": 'adapter = "seasonal_naive"\nseason = 168',
    "ridge": 'adapter = "sklearn"\nestimator = "sklearn.linear_model.Ridge"\nlags = [24, 48, 168]\n'
    'calendar = ["hour", "dayofweek"]',
    "theta": 'adapter = "statsmodels"\nmodel = "theta"',
    "autoreg": 'adapter = "statsmodels"\nmodel = "autoreg"',
    "holt_winters": 'adapter = "statsmodels"\nmodel = "holt_winters"\nseason = 24',
    "gbm": 'adapter = "lightgbm"\nlags = [24, 48, 168]\ncalendar = ["hour", "dayofweek"]\nrounds = 60',
    "autoets": 'adapter = "statsforecast"\nmodel = "AutoETS"',
}
CONFIG = """[fleet]
name = "coverage"
store = "coverage.store"
timezone = "{zone}"
horizon = 24
seasons = [24, 168]
quantiles = [0.1, 0.5, 0.9]
[data]
path = "series.parquet"
[train]
workers = 2
[backtest]
origins = {origins}
"""
METRICS = ("coverage_80", "width_80", "winkler_80", "mean_pinball", "mae")
BY_ORIGIN = """
with judged as (
    select f.recipe, f.asset_id, f.issue_time, (a.y between f.q10 and f.q90)::int as inside,
           f.quality like '%conformal%' as conformal
    from forecasts f join actuals a using (asset_id, valid_time)
    where f.role = 'backtest' and f.q10 is not null and isfinite(a.y)
), numbered as (select *, dense_rank() over (partition by asset_id order by issue_time) as origin from judged)
select recipe, any_value(conformal) as conformal, origin, count(*) as n, avg(inside) as coverage
from numbered group by recipe, origin order by recipe, origin
"""


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench coverage")
    parser.add_argument("--data", choices=sorted(FILES), default="cambridge")
    parser.add_argument("--assets", type=int, default=12)
    parser.add_argument("--origins", type=int, default=28)
    parser.add_argument("--recipes", default="week,ridge,theta,autoreg,gbm")
    parser.add_argument("--by-origin", action="store_true")
    asked = parser.parse_args(words)
    file, zone, first, last = FILES[asked.data]
    with tempfile.TemporaryDirectory() as folder:
        series(Path(os.environ["TSFLEET_TEST_DATA"]) / file, Path(folder) / "series.parquet", asked.assets, first, last)
        recipes = "".join(f"[recipes.{name}]\n{RECIPES[name]}\n" for name in asked.recipes.split(","))
        text = CONFIG.format(zone=zone, origins=asked.origins) + recipes
        (Path(folder) / "fleet.toml").write_text(text)
        with Fleet.open(Path(folder) / "fleet.toml") as fleet:
            fleet.ingest()
            report = fleet.backtest()
            about = {"bench": "coverage", "data": asked.data, "assets": asked.assets, "origins": asked.origins}
            conformal = "select distinct recipe from forecasts where quality like '%conformal%'"
            ours = {row["recipe"] for row in fleet.store.sql(conformal).rows()}
            for row in fleet.leaderboard(metrics=METRICS).rows():
                figures = {name: row[name] and round(row[name], 4) for name in METRICS}
                kind = "conformal" if row["recipe"] in ours else "native"
                print(
                    json.dumps({**about, "recipe": row["recipe"], "kind": kind, "nominal": 0.8, **figures}), flush=True
                )
            if report.failed:
                print(json.dumps({**about, "failed": [f"{f.recipe}: {f.cause}" for f in report.failures]}))
            for row in fleet.store.sql(BY_ORIGIN).rows() if asked.by_origin else ():
                print(json.dumps({**about, **row, "coverage": round(row["coverage"], 3)}))


def series(source: Path, target: Path, count: int, first: str, last: str) -> None:
    """The last year of so many series, spread over the list of them, that have readings to the end of it."""
    table = pq.read_table(source, columns=["unique_id", "ds", "y"])
    since, until = (pa.scalar(f"{day}T00:00:00Z").cast(table["ds"].type) for day in (first, last))
    table = table.filter(pc.and_(pc.greater_equal(table["ds"], since), pc.less(table["ds"], until)))
    table = table.filter(pc.is_finite(table["y"]))
    counted = table.group_by("unique_id").aggregate([("ds", "count")]).sort_by("unique_id")
    whole = counted.filter(pc.greater(counted["ds_count"], 0.98 * pc.max(counted["ds_count"]).as_py()))
    names = whole["unique_id"].to_pylist()
    chosen = names[:: max(1, len(names) // count)][:count]
    pq.write_table(table.filter(pc.is_in(table["unique_id"], pa.array(chosen))), target)
