"""The newest metrics: ``python -m tests.bench store latest [--rows N] [--runs N] [--mlflow-python PATH]``.

(a) "The latest metric of every asset" over ``--runs`` runs with 10 metrics each, one run an asset: here, and through
the MLflow client with its SQLite store, by ``search_runs`` in pages of the most that it allows, newest first. MLflow is
no dependency: PATH is a Python of another environment that has it; without it that half is skipped, aloud.

(b) ``latest`` over ``--rows`` metrics of 10,000 assets, 5 names each, written in bulk as the scoring of two years would
be, after one upkeep; then with a tail of small commits that nobody tidied. Warm is the median of many answers of one
open store, cold the first answer of a new process. Beside it a query written by hand for DuckDB over one sorted Parquet
file a month, in a warm connection.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ASSETS, NAMES, BATCH = 10_000, 5, 2_000_000
START = datetime(2023, 1, 1, tzinfo=UTC)
MOST_MS = 15.0
DEADLINE_S = 1_800
ASK = {
    "all": "select * from latest",
    "one_name": "select asset_id, value from latest where name = 'm1'",
    "one_asset": "select * from latest where asset_id = 'plant-00077'",
}
COLD = """
import sys, time
from store import Store
began = time.perf_counter()
with Store.open(sys.argv[1], read_only=True) as store:
    store.sql(sys.argv[2]).arrow()
    print(1_000 * (time.perf_counter() - began))
"""


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench store latest")
    parser.add_argument("--rows", type=int, default=50_000_000)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--mlflow-python", type=Path)
    asked, _ = parser.parse_known_args(words)
    with tempfile.TemporaryDirectory() as name:
        of_every_asset(Path(name), asked.runs, asked.mlflow_python)
    with tempfile.TemporaryDirectory() as name:
        over_many(Path(name), asked.rows)


def say(**figure: Any) -> None:
    print(json.dumps({"bench": "latest", **figure}), flush=True)


def timed(ask: Callable[[], Any], times: int) -> dict[str, float]:
    """Median and best milliseconds, and the processor's."""
    walls, cpus = [], []
    for _ in range(times):
        wall, cpu = time.perf_counter(), time.process_time()
        ask()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return {
        "ms": round(1_000 * statistics.median(walls), 2),
        "best_ms": round(1_000 * min(walls), 2),
        "cpu_ms": round(1_000 * statistics.median(cpus), 2),
    }


# ------------------------------------------------------------------------------------------------ beside MLflow


def of_every_asset(folder: Path, runs: int, python: Path | None) -> None:
    from store import Store

    with Store.open(folder / "s") as store:
        with store.batch() as batch:
            for i in range(runs):
                with batch.run(asset=f"plant-{i:05d}", recipe="gbm") as run:
                    run.log_metrics({f"m{k}": float(i + k) for k in range(10)})
        asks = {"one metric of every asset": "select asset_id, value from latest where name = 'm1'"}
        asks["every metric of every asset"] = "select * from latest"
        for state in ("as_logged", "after_upkeep"):
            if state == "after_upkeep":
                store.upkeep()
            for question, ask in asks.items():
                figure = timed(lambda ask=ask: store.sql(ask).arrow(), 15)
                say(question=question, runs=runs, state=state, **figure)
    if python is None:
        say(peer="mlflow", skipped="no --mlflow-python was given")
        return
    done = subprocess.run(
        [str(python), "-P", __file__, str(runs)], cwd=folder, capture_output=True, text=True, check=False,
        timeout=DEADLINE_S,
        env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "GIT_PYTHON_REFRESH": "quiet"},
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"mlflow exited {done.returncode}: {done.stderr[-2_000:]}")
    say(peer="mlflow", question="one metric of every asset", runs=runs, **json.loads(done.stdout.splitlines()[-1]))


def by_mlflow(runs: int) -> None:
    """In a process of its own: log as many runs, and ask for the newest ``m1`` of every asset."""
    import mlflow
    from mlflow.entities import Metric, Param, RunTag

    mlflow.set_tracking_uri(f"sqlite:///{Path.cwd()}/mlflow.db")
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("bench")
    for i in range(runs):
        run_id = client.create_run(experiment).info.run_id
        now = int(time.time() * 1_000)
        metrics = [Metric(f"m{k}", float(i + k), now, 0) for k in range(10)]
        client.log_batch(run_id, metrics, [Param("recipe", "gbm")], [RunTag("asset", f"plant-{i:05d}")])

    def ask() -> int:
        newest: dict[str, float] = {}
        token = None
        while True:
            page = client.search_runs(
                [experiment], max_results=50_000, order_by=["attributes.start_time DESC"], page_token=token
            )
            for run in page:
                newest.setdefault(run.data.tags["asset"], run.data.metrics["m1"])
            token = page.token
            if not token:
                return len(newest)

    assert ask() == runs
    print(json.dumps({"mlflow": mlflow.__version__, **timed(ask, 5)}))


# ------------------------------------------------------------------------------------------------- over many rows


def batches(rows: int) -> Iterator[tuple[Any, Any]]:
    """(runs, metrics) of one bulk commit after the other: every asset has a new run in each, with many steps."""
    import numpy as np
    import pyarrow as pa

    dice = np.random.default_rng(0)
    ids = pa.array([f"plant-{i:05d}" for i in range(ASSETS)])
    names = pa.array([f"m{k}" for k in range(NAMES)])
    turns = max(1, round(rows / BATCH))
    span = timedelta(days=730) / turns
    for turn in range(turns):
        count = rows // turns
        steps = max(1, count // (ASSETS * NAMES))
        begun = int((START + turn * span).timestamp() * 1e6)
        times = begun + (np.arange(steps) * (span // steps // timedelta(microseconds=1)))
        runs = pa.array([f"{turn:04d}{i:022d}" for i in range(ASSETS)])
        of_asset = pa.array(np.repeat(np.arange(ASSETS), NAMES * steps))
        size = len(of_asset)
        metrics = pa.table(
            {
                "run_id": runs.take(of_asset),
                "asset_id": ids.take(of_asset),
                "recipe": pa.array(["gbm"]).take(pa.array(np.zeros(size, dtype=np.int64))),
                "library": pa.array(["lightgbm"]).take(pa.array(np.zeros(size, dtype=np.int64))),
                "name": names.take(pa.array(np.tile(np.repeat(np.arange(NAMES), steps), ASSETS))),
                "step": np.tile(np.arange(steps), ASSETS * NAMES),
                "time": pa.array(np.tile(times, ASSETS * NAMES), pa.timestamp("us", "UTC")),
                "value": dice.normal(size=size),
            }
        )
        told = {"run_id": runs, "asset_id": ids, "product": ["default"] * ASSETS, "recipe": ["gbm"] * ASSETS}
        yield pa.table(told | {"status": ["ok"] * ASSETS}), metrics


def over_many(folder: Path, rows: int) -> None:
    import duckdb

    from store import Store

    written = 0
    with Store.open(folder / "s") as store:
        began = time.perf_counter()
        for runs, metrics in batches(rows):
            txn = store.begin()
            txn.insert("runs", runs)
            txn.insert("metrics", metrics)
            txn.commit()
            written += metrics.num_rows
        say(rows=written, bulk_s=round(time.perf_counter() - began, 1), derived=dict(store.info().derived))
        full = timed(lambda: store.sql("select count(*) from latest").arrow(), 1)
        say(rows=written, question="asked of all metrics", **full)
        done = store.upkeep()
        info = store.info()
        say(rows=written, upkeep_s=round(done.seconds, 1), segments=dict(info.levels["metrics"]))
        answers(store, rows=written, state="after_upkeep")
        for i in range(200):
            with store.run(asset=f"plant-{i:05d}", recipe="gbm") as run:
                run.log_metrics({f"m{k}": float(k) for k in range(NAMES)})
        answers(store, rows=written, state="200 runs later", few=True)
        began = time.perf_counter()
        store.upkeep()
        say(rows=written, question="upkeep after 200 runs", s=round(time.perf_counter() - began, 2))
    by_hand(folder, written, duckdb.connect())


def answers(store: Any, *, few: bool = False, **told: Any) -> None:
    for name, ask in ASK.items():
        assert store.sql(ask).arrow().num_rows
        say(**told, question=name, **timed(lambda ask=ask: store.sql(ask).arrow(), 5 if few else 25), most_ms=MOST_MS)
    say(**told, question="table", **timed(lambda: store.table("latest"), 5 if few else 25))
    cold = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", COLD, str(store.path), ASK["all"]], capture_output=True, text=True, check=True,
            cwd=Path(__file__).resolve().parents[3],
        )  # fmt: skip
        cold.append(float(done.stdout))
    say(**told, question="all", cold_ms=round(statistics.median(cold), 1))


def by_hand(folder: Path, rows: int, connection: Any) -> None:
    """The same question as somebody would write it who keeps sorted Parquet files, one a month."""
    connection.execute("SET TimeZone = 'UTC'")
    months = folder / "months"
    months.mkdir()
    connection.execute(
        "CREATE VIEW m AS SELECT run_id, asset_id, recipe, library, name, step, time, value, "
        "strftime(make_timestamp(epoch_us(time)), '%Y-%m') AS month "
        f"FROM read_parquet('{folder}/s/segments/metrics/*.parquet') "
        f"WHERE time < TIMESTAMPTZ '{START + timedelta(days=740)}'"
    )
    for (month,) in connection.execute("SELECT DISTINCT month FROM m ORDER BY month").fetchall():
        connection.execute(
            f"COPY (SELECT * EXCLUDE (month) FROM m WHERE month = '{month}' ORDER BY asset_id, name, time) "
            f"TO '{months}/{month}.parquet' (COMPRESSION zstd)"
        )
    source = f"read_parquet('{months}/*.parquet')"
    ask = f"SELECT asset_id, recipe, name, arg_max(value, time) AS value, max(time) AS time FROM {source} GROUP BY ALL"
    say(rows=rows, question="all", peer="duckdb by hand", **timed(lambda: connection.sql(ask).to_arrow_table(), 2))


if __name__ == "__main__":
    by_mlflow(int(sys.argv[1]))
