"""Leaderboards of six recipes from four libraries on real demand: ``python -m tests.bench boards [eia cambridge]``.

Seven daily issues of a day, fitted once before the first, in June 2024 for the regions of EIA and in November 2022 for
the buildings of Cambridge; the sets as the notes beside the data say, read from ``TSFLEET_TEST_DATA``. A line a recipe,
best mean absolute scaled error first, and what the installed command took to judge them all on two workers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

COMMAND = Path(sys.executable).parent / "tsfleet"
METRICS = ("mae", "wape", "mase_24", "mase_168", "bias", "skill_weekly")
CONFIG = """[fleet]
name = "board"
store = "board.store"
freq = "1h"
horizon = 24
seasons = [24, 168]
[data]
path = "series.parquet"
[train]
workers = 2
window = "{window}"
[backtest]
origins = 7
stride = "24h"
first = "{first}"

[recipes.daily]
adapter = "seasonal_naive"
season = 24
[recipes.weekly]
adapter = "seasonal_naive"
season = 168
[recipes.ridge]
adapter = "sklearn"
estimator = "sklearn.linear_model.Ridge"
lags = [24, 25, 48, 72, 168]
rolling = ["mean_24", "mean_168"]
calendar = ["hour", "dayofweek"]
[recipes.gbm]
adapter = "lightgbm"
lags = [24, 25, 48, 72, 168]
rolling = ["mean_24", "mean_168"]
calendar = ["hour", "dayofweek"]
params = {{ num_leaves = 31 }}
[recipes.autoreg]
adapter = "statsmodels"
model = "autoreg"
[recipes.theta]
adapter = "statsmodels"
model = "theta"
"""


def main(words: list[str]) -> None:
    sets: dict[str, Callable[[Path], tuple[pd.DataFrame, datetime]]] = {"eia": eia, "cambridge": cambridge}
    parser = argparse.ArgumentParser(prog="python -m tests.bench boards")
    parser.add_argument("sets", nargs="*", default=list(sets), choices=[*sets, []])
    parser.add_argument("--window", default="365d")
    asked = parser.parse_args(words)
    if "TSFLEET_TEST_DATA" not in os.environ:
        sys.exit("TSFLEET_TEST_DATA is not set: it names the folder of the real data")
    for name in asked.sets:
        series, first = sets[name](Path(os.environ["TSFLEET_TEST_DATA"]))
        with tempfile.TemporaryDirectory() as folder:
            series[["unique_id", "ds", "y"]].to_parquet(Path(folder) / "series.parquet")
            (Path(folder) / "fleet.toml").write_text(CONFIG.format(window=asked.window, first=first.isoformat()))
            board(name, Path(folder))


def eia(data: Path) -> tuple[pd.DataFrame, datetime]:
    """Hourly demand of 118 regions, the publisher's repairs in the place of what they repair."""
    rows = pd.read_parquet(data / "eia_demand_2020_2024.parquet")
    rows["y"] = rows["y_repaired"].fillna(rows["y"])
    kept = (rows["unique_id"] != "AEC") & (rows["ds"] < pd.Timestamp("2024-06-17", tz="UTC"))
    return rows[kept], datetime(2024, 6, 10, tzinfo=UTC)


def cambridge(data: Path) -> tuple[pd.DataFrame, datetime]:
    """Hourly electricity of the 76 buildings whose readings are complete and hardly ever zero."""
    rows = pd.read_parquet(data / "cambridge_electricity_2018_2022.parquet")
    since, until = (pd.Timestamp(day, tz="UTC") for day in ("2021-01-01", "2022-11-21"))
    rows = rows[(rows["ds"] >= since) & (rows["ds"] < until)]
    zero = rows["y"] <= 0
    of_building = rows["unique_id"].astype(str)
    count, share = rows["y"].groupby(of_building).count(), zero.groupby(of_building).mean()
    late = zero & (rows["ds"] >= pd.Timestamp("2022-11-07", tz="UTC"))
    kept = count.index[(count == count.max()) & (share < 0.02) & ~late.groupby(of_building).any()]
    return rows[of_building.isin(kept)], datetime(2022, 11, 14, tzinfo=UTC)


def board(name: str, folder: Path) -> None:
    """Ingest, judge, and print the board."""

    def tsfleet(*words: str) -> str:
        done = subprocess.run([str(COMMAND), *words], check=False, cwd=folder, capture_output=True, text=True)
        if done.returncode not in (0, 1):
            sys.exit(f"tsfleet {' '.join(words)} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        return done.stdout

    tsfleet("ingest")
    began = time.monotonic()
    tsfleet("backtest")
    seconds = round(time.monotonic() - began, 1)
    rows = json.loads(tsfleet("leaderboard", "--metrics", ",".join(METRICS), "--json"))
    for row in sorted(rows, key=lambda row: float(row["mase_24"])):
        told = {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
        print(json.dumps({"bench": "boards", "set": name, **told, "seconds": seconds}), flush=True)
