"""Models that take many assets at once, through the fleet and by their library alone.

    python -m tests.bench many [--model ets gbm] [--series 414] [--trees 100] [--pairs 3]

M4 hourly without its test hours, forecast 48 hours ahead; each side is one script that fits and forecasts, timed from
its start to its end, taking turns. ``ets``: AutoETS of season 24; the fleet trains without judging and forecasts on two
workers, the peer is StatsForecast on two jobs. ``gbm``: one LightGBM on the lags of all series; the peer is mlforecast
with the same regressor, of one thread. The store with the readings is there before. The last line of a model tells how
far the two forecasts lie apart, in units of the forecast.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.bench.pairs import COMMAND, Side, in_turns, ratios, timed
from tests.bench.train import write_series

HORIZON = 48
LAGS = (1, 2, 24, 25, 168, 169)
LEAVES = 31
LIMITS = {"ets": 1.15, "gbm": 1.2}
CONFIG = f"""[fleet]
name = "bench"
store = "bench.store"
freq = "1h"
horizon = {HORIZON}
seasons = [24, 168]
[data]
path = "series.parquet"
[train]
workers = 2
timeout = "10min"
[recipes.ets]
adapter = "statsforecast"
model = "AutoETS"
season = 24
[recipes.gbm]
adapter = "mlforecast"
scope = "global"
lags = {[*LAGS]}
calendar = []
params = {{ n_estimators = TREES, num_leaves = {LEAVES} }}
"""


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench many")
    parser.add_argument("--model", nargs="+", choices=list(LIMITS), default=list(LIMITS))
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--series", type=int, default=414)
    parser.add_argument("--trees", type=int, default=100, help="of gbm")
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_series(folder / "series.parquet", asked.series)
        (folder / "fleet.toml").write_text(CONFIG.replace("TREES", str(asked.trees)))
        timed([COMMAND, "ingest"], folder)
        shutil.move(folder / "bench.store", folder / "ingested.store")
        for model in asked.model:
            compare(model, folder, asked.pairs, {"series": asked.series, "trees": asked.trees})


def compare(model: str, folder: Path, pairs: int, size: Mapping[str, int]) -> None:
    """One model through the fleet beside its library alone."""

    def tell(side: str, figures: Mapping[str, float]) -> None:
        print(json.dumps({"bench": "many", "model": model, **size, "side": side, **figures}), flush=True)

    def ready() -> None:
        shutil.rmtree(folder / "bench.store", ignore_errors=True)
        shutil.copytree(folder / "ingested.store", folder / "bench.store")

    bench = [sys.executable, "-m", "tests.bench.many", model, str(folder), str(size["trees"])]
    sides = {
        "tsfleet": Side(command=[*bench, "fleet"], folder=Path.cwd(), ready=ready, told=lambda: blobs(folder)),
        "library": Side(command=[*bench, "library"], folder=Path.cwd()),
    }
    figures = in_turns(sides, pairs, tell)
    tell("tsfleet / library", ratios(figures["tsfleet"], figures["library"]) | {"limit": LIMITS[model]})
    tell("difference", difference(folder))


def blobs(folder: Path) -> dict[str, float]:
    """How many versions the store holds, and how many blobs they name."""
    text = "select count(*) as versions, count(distinct sha256) as blobs from versions"
    done = subprocess.run([COMMAND, "sql", text, "--json"], cwd=folder, capture_output=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)[0]
    return found


def difference(folder: Path) -> dict[str, float]:
    """The largest difference of two forecasts of the same step, in units of the forecast."""
    import pandas as pd

    text = "select asset_id, step, mean from forecasts where role = 'champion' order by asset_id, step"
    done = subprocess.run([COMMAND, "sql", text, "--json"], cwd=folder, capture_output=True, check=True)
    ours = pd.DataFrame(json.loads(done.stdout)).set_index(["asset_id", "step"])["mean"]
    theirs = pd.read_parquet(folder / "library.parquet").set_index(["asset_id", "step"])["mean"].loc[ours.index]
    apart = (ours - theirs).abs() / theirs.abs().clip(lower=1e-9)
    return {"forecasts": len(ours), "missing": len(theirs) - len(ours), "largest_relative": float(apart.max())}


# ------------------------------------------------------------------------------------------------------------ the sides


def by_fleet(model: str, folder: Path, _trees: int) -> None:
    """Fit, put in charge, forecast, in one script as the peer is one; a single model needs no second process."""
    from fleet import Fleet

    fleet = Fleet.open(folder / "fleet.toml")
    workers = 2 if model == "ets" else 1
    fleet.train(recipes=[model], judge=False, workers=workers)
    fleet.promote(model)
    fleet.forecast(workers=workers)


def by_library(model: str, folder: Path, trees: int) -> None:
    """Read, fit, forecast, write."""
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    import pandas as pd

    # In the order of their names, as the fleet has them: of so many rows LightGBM draws a sample by their places.
    table = pd.read_parquet(folder / "series.parquet").sort_values(["unique_id", "ds"]).reset_index(drop=True)
    if model == "ets":
        from statsforecast import StatsForecast
        from statsforecast.models import AutoETS

        table["ds"] = table["ds"].dt.tz_localize(None)
        found = StatsForecast(models=[AutoETS(season_length=24, alias="mean")], freq="h", n_jobs=2).forecast(
            df=table, h=HORIZON
        )
    else:
        from lightgbm import LGBMRegressor
        from mlforecast import MLForecast

        table["ds"] = table.groupby("unique_id").cumcount()
        regressor = LGBMRegressor(
            n_estimators=trees,
            num_leaves=LEAVES,
            n_jobs=1,
            random_state=0,
            verbosity=-1,
            deterministic=True,
            force_row_wise=True,
        )
        made = MLForecast(models={"mean": regressor}, freq=1, lags=list(LAGS), num_threads=1)
        found = made.fit(table, static_features=[]).predict(HORIZON)
    found["step"] = found.groupby("unique_id").cumcount() + 1
    found.rename(columns={"unique_id": "asset_id"}).to_parquet(folder / "library.parquet")


SIDES = {"fleet": by_fleet, "library": by_library}

if __name__ == "__main__":
    SIDES[sys.argv[4]](sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
