"""Fitting a fleet beside a bare pool of two spawned processes that fits the same models and keeps nothing.

    python -m tests.bench train [--model gbm|holt_winters ...] [--pairs 5] [--series 414]

The fleet is M4 hourly (from the folder that TSFLEET_TEST_DATA names; drawn from a seed where it is unset). Both sides
read the same Parquet file or its store, run one thread per process, and are timed from the start of the command to its
end, taking turns. LightGBM: 100 rounds, 31 leaves, ten features, which the peer builds either with `fleet.tabular`, as
the fleet does, or as slices of a NumPy array. Neither side predicts; the fleet also writes its models into the store.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.bench.pairs import COMMAND, Side, in_turns, ratios, timed

HORIZON = 48
LAGS = (48, 49, 72, 96, 120, 168)
WINDOWS = (24, 168)
CHUNK = 4
LIGHTGBM = {
    "objective": "regression", "num_leaves": 31, "learning_rate": 0.1, "num_threads": 1, "deterministic": True,
    "force_row_wise": True, "verbosity": -1, "seed": 0,
}  # fmt: skip
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
[recipes.gbm]
adapter = "lightgbm"
lags = {[*LAGS]}
rolling = {[f"mean_{window}" for window in WINDOWS]}
calendar = ["hour", "dayofweek"]
rounds = 100
params = {{ num_leaves = 31 }}
[recipes.holt_winters]
adapter = "statsmodels"
model = "holt_winters"
season = 24
"""
PEERS = {"gbm": ("gbm_same_features", "gbm_numpy"), "holt_winters": ("holt_winters",)}

Series = tuple[int, Any]  # the first hour, counted from 1970, and the values


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench train")
    parser.add_argument("--model", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--series", type=int, default=414)
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_series(folder / "series.parquet", asked.series)
        (folder / "fleet.toml").write_text(CONFIG)
        timed([COMMAND, "ingest"], folder)
        shutil.move(folder / "bench.store", folder / "ingested.store")
        for model in asked.model:
            compare(model, folder, asked.pairs)


def compare(model: str, folder: Path, pairs: int) -> None:
    """One model of the fleet beside its peers."""

    def tell(side: str, figures: Mapping[str, float]) -> None:
        print(json.dumps({"bench": "train", "model": model, "side": side, **figures}), flush=True)

    def ready() -> None:
        shutil.rmtree(folder / "bench.store", ignore_errors=True)
        shutil.copytree(folder / "ingested.store", folder / "bench.store")

    fit = [COMMAND, "train", "--no-judge", "--recipes", model]
    sides = {"tsfleet": Side(command=fit, folder=folder, ready=ready, told=lambda: stored_fits(folder))}
    for peer in PEERS[model]:
        command = [sys.executable, "-m", "tests.bench.train", peer, str(folder)]
        sides[peer] = Side(command=command, folder=Path.cwd(), told=lambda: json.loads((folder / "bare").read_text()))
    figures = in_turns(sides, pairs, tell)
    for peer in PEERS[model]:
        tell(f"tsfleet / {peer}", ratios(figures["tsfleet"], figures[peer]))


def stored_fits(folder: Path) -> Mapping[str, float]:
    words = ["sql", "select count(*) as fits, sum(bytes) as bytes from versions", "--json"]
    done = subprocess.run([COMMAND, *words], cwd=folder, capture_output=True, check=True)
    found: Mapping[str, float] = json.loads(done.stdout)[0]
    return found


def write_series(path: Path, count: int) -> None:
    """M4 hourly without its test hours, the last training hour at 2020-01-01; a drawn fleet where it is not at hand."""
    import numpy as np
    import pandas as pd

    home = os.environ.get("TSFLEET_TEST_DATA")
    if home:
        table = pd.read_parquet(Path(home) / "m4_hourly.parquet")
        table = table[table["split"] == "train"]
        chosen = list(dict.fromkeys(table["unique_id"]))[:count]
        table = table[table["unique_id"].isin(chosen)]
        last = table["unique_id"].map(table.groupby("unique_id")["ds"].max())
        table["ds"] = pd.Timestamp("2020-01-01", tz="UTC") + pd.to_timedelta(table["ds"] - last - 1, unit="h")
    else:
        random, hours = np.random.default_rng(0), np.arange(850)
        shape = 10 + 3 * np.sin(2 * np.pi * hours / 24)
        values = random.uniform(0.5, 50, (count, 1)) * (shape + random.normal(0, 0.5, (count, len(hours))))
        times = pd.Timestamp("2019-11-20", tz="UTC") + pd.to_timedelta(hours, unit="h")
        ids = np.repeat([f"H{number}" for number in range(count)], len(hours))
        table = pd.DataFrame({"unique_id": ids, "ds": np.tile(times, count), "y": values.ravel()})
    table[["unique_id", "ds", "y"]].to_parquet(path)


# ------------------------------------------------------------------------------------------------------------ the peers


def bare(name: str, folder: Path) -> None:
    """The whole peer: read, cut into chunks, fit in two spawned processes, tell how many."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    table = pq.read_table(folder / "series.parquet")
    ids = table["unique_id"].combine_chunks().dictionary_encode()
    codes = (ids.chunk(0) if hasattr(ids, "num_chunks") else ids).indices.to_numpy()
    starts = [0, *((codes[1:] != codes[:-1]).nonzero()[0] + 1).tolist(), len(codes)]
    hours = table["ds"].cast(pa.timestamp("us", "UTC")).cast("int64").to_numpy() // 3_600_000_000
    values = table["y"].to_numpy()
    series = [(int(hours[a]), values[a:b]) for a, b in pairwise(starts)]
    chunks = [series[start : start + CHUNK] for start in range(0, len(series), CHUNK)]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        fits = sum(pool.map(FITS[name], chunks))
    (folder / "bare").write_text(json.dumps({"fits": fits}))


def gbm_same_features(series: Sequence[Series]) -> int:
    import pandas as pd

    from fleet.calendar import from_micros
    from fleet.features import Features
    from fleet.tabular import lessons
    from fleet.task import Task

    wanted = Features(lags=LAGS, rolling=tuple(f"mean_{w}" for w in WINDOWS), calendar=("hour", "dayofweek"))
    for first, values in series:
        times = from_micros((first + _arange(len(values) + HORIZON)) * 3_600_000_000)
        task = Task(target=times[len(values) :], freq="1h", seasons=(24, 168))
        given = lessons(pd.Series(values, index=times[: len(values)]), None, task, wanted, gaps=True)
        _boosted(given.table, given.values)
    return len(series)


def gbm_numpy(series: Sequence[Series]) -> int:
    import numpy as np

    for first, values in series:
        longest, hours = max(LAGS), first + _arange(len(values))
        columns = [values[longest - lag : len(values) - lag] for lag in LAGS]
        summed, ends = np.concatenate([[0.0], np.cumsum(values)]), np.arange(longest, len(values)) - HORIZON + 1
        for window in WINDOWS:
            begins = np.maximum(ends - window, 0)
            columns.append((summed[ends] - summed[begins]) / (ends - begins))
        columns += [hours[longest:] % 24, (hours[longest:] // 24 + 3) % 7]
        _boosted(np.column_stack(columns), values[longest:])
    return len(series)


def holt_winters(series: Sequence[Series]) -> int:
    from statsmodels.tsa.holtwinters import ExponentialSmoothing

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _, values in series:
            ExponentialSmoothing(values, trend="add", damped_trend=True, seasonal="add", seasonal_periods=24).fit()
    return len(series)


def _boosted(table: Any, values: Any) -> None:
    import lightgbm

    lightgbm.train(LIGHTGBM, lightgbm.Dataset(table, label=values, params=LIGHTGBM), num_boost_round=100)


def _arange(count: int) -> Any:
    import numpy as np

    return np.arange(count, dtype=np.int64)


FITS = {function.__name__: function for function in (gbm_same_features, gbm_numpy, holt_winters)}

if __name__ == "__main__":
    bare(sys.argv[1], Path(sys.argv[2]))
