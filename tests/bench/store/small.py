"""Many small commits, and a million runs of which some were rewritten: what questions cost before upkeep and after.

- 3,000 commits of 1 run with 10 metrics while nothing flushes; then the first question (all runs and metrics counted)
  of a store opened anew, before ``Store.upkeep`` and after it. The libraries are loaded before the clock starts.
- 1,000,000 runs in 20 commits, 5,000 of them replaced one commit later; then, warm, ``select count(*) from runs`` and
  ``store.runs(where=..., limit=100)``. Each is asked 15 times; the limit is for the median. Beside it stands DuckDB
  over one hand-sorted Parquet file of the runs in force.

``python -m tests.bench store small [--commits 3000] [--runs 1000000]``
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from store import Store
from tests.bench.store.commit import log
from tests.bench.store.lines import cpu, tell, timed
from tests.bench.store.plain import METRICS, work

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

LIMIT_MS = 60.0
COMMITS, REPLACED = 20, 5_000
TIMES = 15
COUNT = "select count(*) from runs"
WHERE = "recipe = 'gbm' and duration_s > 9.99"


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench store small")
    parser.add_argument("--commits", type=int, default=3_000)
    parser.add_argument("--runs", type=int, default=1_000_000)
    asked, _ = parser.parse_known_args(words)
    with tempfile.TemporaryDirectory() as name:
        commits(Path(name), asked.commits)
        million(Path(name), asked.runs)


# ------------------------------------------------------------------------------------------------------ many commits


def commits(folder: Path, count: int) -> None:
    warm(folder)
    path = folder / "small.store"
    with Store.open(path) as store:
        for one in work(5, count):
            log(store, one, upkeep=False)
    tell("small", figure=f"{count} small commits", state="without upkeep", **first_question(path, count))
    with Store.open(path) as store:
        upkeep_s = timed(store.upkeep)
    told = first_question(path, count)
    tell("small", figure=f"{count} small commits", state="after upkeep", upkeep_s=upkeep_s, **told)


def warm(folder: Path) -> None:
    """Load the libraries."""
    with Store.open(folder / "warm.store") as store:
        log(store, work(0, 1)[0])
        store.flush()
        store.sql(COUNT).arrow()


def first_question(path: Path, count: int) -> dict[str, float]:
    """Milliseconds from opening to the answer, on the wall and of the processor, and of the same question once more."""

    def ask(store: Store) -> None:
        query = "SELECT (SELECT count(*) FROM runs) AS runs, (SELECT count(*) FROM metrics) AS metrics"
        (row,) = store.sql(query).rows()
        assert row == {"runs": count, "metrics": METRICS * count}, row

    def open_and_ask() -> None:
        nonlocal store
        store = Store.open(path)
        ask(store)

    store: Store
    first, first_cpu = cpu(open_and_ask)
    again, again_cpu = cpu(partial(ask, store))
    store.close()
    seconds = {"first_ms": first, "first_cpu_ms": first_cpu, "again_ms": again, "again_cpu_ms": again_cpu}
    return {name: 1_000 * value for name, value in seconds.items()}


# ------------------------------------------------------------------------------------------------------ a million runs


def million(folder: Path, count: int) -> None:
    import duckdb
    import pyarrow.parquet as pq

    path = folder / "million.store"
    with Store.open(path) as store:
        for first in range(0, count, count // COMMITS):
            transaction = store.begin()
            transaction.insert("runs", runs(first, min(count // COMMITS, count - first)))
            transaction.commit()
        transaction = store.begin()
        transaction.replace("runs", runs(0, count, status="ok", every=count // REPLACED))
        replacing = timed(transaction.commit)
        plain = folder / "runs.parquet"
        pq.write_table(store.table("runs"), plain, row_group_size=122_880, compression="zstd")
        for state in ("as committed", "after upkeep"):
            if state == "after upkeep":
                store.upkeep(fold_after=timedelta(0))
            info = store.info()
            counted = median(lambda: answers(store.sql(COUNT).rows(), count))
            searched = median(lambda: store.runs(where=WHERE, limit=100))
            with duckdb.connect() as bare:
                bare.execute(f"create view runs as select * from read_parquet('{plain}')")
                bare.execute("set TimeZone = 'UTC'")
                bare_count = median(partial(bare_rows, bare))
                bare_search = median(partial(bare_table, bare))
            about = {"state": state, "runs": count, "segments": info.levels["runs"], "replace_s": replacing}
            for figure, mine, theirs in (("count", counted, bare_count), ("search", searched, bare_search)):
                said = {**mine, "limit_ms": LIMIT_MS, "within": mine["ms"] <= LIMIT_MS}
                tell("small", figure=figure, **about, **said, **{f"duckdb_{name}": v for name, v in theirs.items()})


def bare_rows(bare: duckdb.DuckDBPyConnection) -> list[tuple[int]]:
    return bare.sql(COUNT).fetchall()


def bare_table(bare: duckdb.DuckDBPyConnection) -> pa.Table:
    return bare.sql(
        f"select * from runs where {WHERE} order by started_at desc, run_id desc limit 100"
    ).to_arrow_table()


def median(act: Callable[[], object]) -> dict[str, float]:
    """Milliseconds of the median of several, on the wall and of the processor, after one that does not count."""
    act()
    walls, spent = zip(*(cpu(act) for _ in range(TIMES)), strict=True)
    return {"ms": 1_000 * statistics.median(walls), "cpu_ms": 1_000 * statistics.median(spent)}


def answers(rows: list[dict[str, int]], count: int) -> None:
    (row,) = rows
    assert list(row.values()) == [count], row


def runs(first: int, count: int, *, status: str = "running", every: int = 1) -> pa.Table:
    """Runs of 10,000 assets one after the other in time; the same number is the same run."""
    import numpy as np
    import pyarrow as pa

    numbers = np.arange(first, first + count, every)
    started = 1_704_067_200_000_000 + numbers * 30_000_000
    assets = pa.array([f"plant-{number:05d}" for number in range(10_000)])
    recipes = pa.array(["gbm", "theta", "weekly_naive", "daily_naive"])
    hundred = numbers % 100
    params = pa.array([f'{{"lags":48,"rate":0.05,"seed":{number}}}' for number in range(100)])
    return pa.table(
        {
            "run_id": pa.array([f"{number:026d}" for number in numbers]),
            "asset_id": assets.take(pa.array(numbers * 7_919 % 10_000)),
            "product": pa.repeat("default", len(numbers)),
            "recipe": recipes.take(pa.array(numbers % 4)),
            "library": pa.repeat("lightgbm", len(numbers)),
            "kind": pa.repeat("train", len(numbers)),
            "status": pa.repeat(status, len(numbers)),
            "started_at": pa.array(started, pa.timestamp("us", "UTC")),
            "ended_at": pa.array(started + 2_000_000, pa.timestamp("us", "UTC")),
            "duration_s": np.random.default_rng(first).uniform(0, 10, len(numbers)),
            "params": params.take(pa.array(hundred)),
        }
    )
