"""A batch forecast of many champions beside a bare loop over two spawned processes that loads and predicts.

    python -m tests.bench forecast [--assets 10000] [--pairs 5] [--hours 600] [--rounds 100]

The fleet is drawn from a seed, trained and promoted by the installed command; each side is then timed from the start
of its command to its end, taking turns. The fleet reads its champions, loads, predicts, checks and commits. The peer
builds the same features with the same function (`fleet.tabular`), loads each model by ``Booster(model_str=...)`` from a
file of its own, predicts, and keeps nothing: once from the text that the library writes (``library_text``: 200 models
fitted for it, used in turn), once from the shorter text that the fleet keeps (``kept_text``). At the end a forecast is
killed half way, workers and all, and done again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.pairs import COMMAND, Side, in_turns, ratios, timed

if TYPE_CHECKING:
    from fleet.tabular import Columns

HORIZON = 24
LAGS = (24, 25, 48, 72, 168)
WINDOWS = ("mean_24", "mean_168")
CALENDAR = ("hour", "dayofweek")
DISTINCT = 200
CHUNK = 100
CONFIG = """[fleet]
name = "bench"
store = "bench.store"
horizon = 24
seasons = [24]
[data]
path = "series.parquet"
[train]
workers = 2
[recipes.gbm]
adapter = "lightgbm"
lags = {lags}
rolling = {rolling}
calendar = {calendar}
rounds = {rounds}
params = {{ num_leaves = 31 }}
"""
PEERS = ("library_text", "kept_text")


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench forecast")
    parser.add_argument("--assets", type=int, default=10_000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--hours", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=100)
    asked = parser.parse_args(words)

    def tell(side: str, figures: Mapping[str, float]) -> None:
        print(json.dumps({"bench": "forecast", "assets": asked.assets, "side": side, **figures}), flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        told = folder / "bare"
        prepare(folder, asked.assets, asked.hours, asked.rounds, tell)
        sides = {
            "tsfleet": Side(
                command=[COMMAND, "forecast"],
                folder=folder,
                ready=lambda: fresh(folder),
                told=lambda: {"issued": count(folder, "count(distinct asset_id)")},
            )
        }
        for peer in PEERS:
            command = [sys.executable, "-m", "tests.bench.forecast", str(folder), peer]
            sides[peer] = Side(command=command, folder=Path.cwd(), told=lambda: json.loads(told.read_text()))
        figures = in_turns(sides, asked.pairs, tell)
        for peer in PEERS:
            tell(f"tsfleet / {peer}", ratios(figures["tsfleet"], figures[peer]))
        tell("tsfleet, memory", watched(folder))
        tell("tsfleet, killed", killed(folder, asked.assets))


# ------------------------------------------------------------------------------------------------------------ the fleet


def prepare(folder: Path, assets: int, hours: int, rounds: int, tell: Any) -> None:
    """A trained fleet in ``trained.store``, and the models' texts for the peers."""
    from tests.bench.cycle import series

    series(folder / "series.parquet", assets, hours)
    named = {"lags": [*LAGS], "rolling": [*WINDOWS], "calendar": [*CALENDAR], "rounds": rounds}
    (folder / "fleet.toml").write_text(CONFIG.format(**named))
    for verb in (["ingest"], ["train", "--no-judge"], ["promote", "gbm"]):
        tell(f"tsfleet {verb[0]}", timed([COMMAND, *verb], folder))
    shutil.move(folder / "bench.store", folder / "trained.store")
    write_texts(folder, rounds)


def fresh(folder: Path) -> None:
    """The trained store again; what is never written to (packs, segments) is linked, not copied."""
    shutil.rmtree(folder / "bench.store", ignore_errors=True)
    shutil.copytree(folder / "trained.store", folder / "bench.store", copy_function=_linked)


def _linked(source: str, target: str) -> None:
    if source.endswith((".pack", ".parquet")):
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def count(folder: Path, what: str) -> float:
    words = ["sql", f"select {what} as n from forecasts", "--json"]
    done = subprocess.run([COMMAND, *words], cwd=folder, capture_output=True, check=True)
    return float(json.loads(done.stdout)[0]["n"])


def watched(folder: Path) -> Mapping[str, float]:
    """The peak memory of the driver, and of it and its workers together; what processes share is shared out."""
    from tests.bench.cycle import Peak

    fresh(folder)
    process = subprocess.Popen([COMMAND, "forecast"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    everyone, driver, tick = Peak(process.pid), 0, threading.Event()
    while process.poll() is None:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        driver = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), driver)
        tick.wait(0.05)
    everyone.stop()
    return {"peak_mb": everyone.bytes // 2**20, "driver_peak_mb": driver // 1024}


def killed(folder: Path, assets: int) -> Mapping[str, float]:
    """A forecast that is killed (SIGKILL, the driver and its workers) when half of it is committed, and done again."""
    from store import Store

    fresh(folder)
    process = subprocess.Popen(
        [COMMAND, "forecast"], cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    tick = threading.Event()
    with Store.open(folder / "bench.store", read_only=True) as store:
        while process.poll() is None and store.info().tables.get("forecasts", 0) < assets * HORIZON // 2:
            tick.wait(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = count(folder, "count(*)")
    again = timed([COMMAND, "forecast"], folder)
    rows, keys = count(folder, "count(*)"), count(folder, "count(distinct (asset_id, issue_time, valid_time))")
    return {
        "committed_before": before / HORIZON, "issued_after": rows / HORIZON - before / HORIZON,
        "rows": rows, "rows_doubled": rows - keys, "rows_missing": assets * HORIZON - keys, **again,
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- the peer


def write_texts(folder: Path, rounds: int) -> None:
    """One file a model: as the fleet keeps it, and as the library writes it."""
    import lightgbm

    from fleet.adapters.lightgbm import LightGBM
    from fleet.artefacts import read
    from fleet.tabular import lessons
    from store import Store

    for peer in PEERS:
        (folder / peer).mkdir()
    wanted = LightGBM(lags=LAGS, rolling=WINDOWS, calendar=CALENDAR)
    with Store.open(folder / "trained.store", read_only=True) as store:
        hashes = [row["sha256"] for row in store.sql("select sha256 from versions order by asset_id").rows()]
        for number, digest in enumerate(hashes):
            models = wanted.load(read(store.blob(digest))[1]).models
            (folder / "kept_text" / f"{number}.txt").write_text(str(models["mean"]))
    series = [one for chunk in chunks(folder) for one in chunk]
    for number in range(min(DISTINCT, len(series))):
        y, task = question(*series[number][1:])
        given = lessons(y, None, task, wanted.features_for((24,)), gaps=True)
        params = {"objective": "regression", "num_leaves": 31, "num_threads": 1, "verbosity": -1, "seed": 0}
        model = lightgbm.train(params, lightgbm.Dataset(given.table, label=given.values), num_boost_round=rounds)
        (folder / "library_text" / f"{number}.txt").write_text(model.model_to_string())
    for number in range(DISTINCT, len(series)):
        shutil.copy(folder / "library_text" / f"{number % DISTINCT}.txt", folder / "library_text" / f"{number}.txt")


def chunks(folder: Path) -> Iterator[list[tuple[int, int, Any]]]:
    """(place, first hour since 1970, values) of every asset, in chunks."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "series.parquet")
    hours = table["ds"].cast(pa.timestamp("us", "UTC")).cast("int64").to_numpy() // 3_600_000_000
    values = table["y"].to_numpy()
    size = int(hours.max() - hours.min()) + 1  # every asset has all of them
    starts = range(0, len(values), size)
    series = [(number, int(hours[start]), values[start : start + size]) for number, start in enumerate(starts)]
    for start in range(0, len(series), CHUNK):
        yield series[start : start + CHUNK]


def question(first: int, values: Any) -> tuple[Any, Any]:
    """An asset's history and its task."""
    import numpy as np
    import pandas as pd

    from fleet.calendar import from_micros
    from fleet.task import Task

    times = from_micros((first + np.arange(len(values) + HORIZON, dtype=np.int64)) * 3_600_000_000)
    task = Task(target=times[len(values) :], freq="1h", seasons=(24,))
    return pd.Series(values, index=times[: len(values)]), task


def columns() -> Columns:
    from fleet.features import Features
    from fleet.tabular import Columns

    features = Features(lags=LAGS, rolling=WINDOWS, calendar=CALENDAR)
    return Columns(features=features, farthest=HORIZON, covariates=(), past=())


def predicted(folder: Path, series: Sequence[tuple[int, int, Any]]) -> int:
    """The peer's work: one chunk, in a spawned process."""
    import lightgbm

    seen = columns()
    for number, first, values in series:
        y, task = question(first, values)
        model = lightgbm.Booster(model_str=(folder / f"{number}.txt").read_text())
        model.predict(seen.asked(y, None, task), num_threads=1)
    return len(series)


def bare(folder: Path, peer: str) -> None:
    """The whole peer."""
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        work = [pool.submit(predicted, folder / peer, chunk) for chunk in chunks(folder)]
        issued = sum(one.result() for one in work)
    (folder / "bare").write_text(json.dumps({"issued": issued}))


if __name__ == "__main__":
    bare(Path(sys.argv[1]), sys.argv[2])
