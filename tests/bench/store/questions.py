"""Questions over many metric rows: ``python -m tests.bench store questions [--rows 50_000_000 --assets 10_000]``.

Three hold the same rows, and take turns at the same questions:

- ours: a store, filled by fifty inserts in the order in which runs end, then upkeep; asked by
  ``store.sql`` over the views and by ``store.table``
- the peer: one Parquet file a month, sorted by asset, name and time over the whole month, written by DuckDB with our
  compression and our row groups; asked by DuckDB as it comes, with the files as a glob; ``ratio`` is to this one, and
  ``limit`` holds for it. ``--peer-cache`` lets it keep Parquet footers between questions, as the store does
- native: one DuckDB file, its table sorted as a whole, opened for reading

Ten metrics of 10,000 assets over 18 months by five recipes of three libraries. All answers come as Arrow tables, and
they are compared: equal rows, doubles to nine digits, for sums run in any order.

Cold is the first question of a new process, from before the import of store or duckdb to the answer, with the files
taken out of the page cache (``posix_fadvise``; what a disk or a host below keeps stays). Warm is the median of the
rounds in one process a side, question by question in turn. ``cpu_ms`` is processor time of the same runs: on a machine
that others use too it tells more than ``ratio``, which is of wall times.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    import pyarrow as pa

SIDES = ("ours", "peer", "native")
LIMIT = 1.25
NAMES = ("bias", "coverage_80", "mae", "mase_24", "mean_pinball", "nmae_cap", "rmse", "smape", "wape", "winkler_80")
RECIPES = (
    ("daily_naive", "tsfleet"), ("ets", "statsmodels"), ("gbm", "lightgbm"), ("gbm_wide", "lightgbm"),
    ("weekly_naive", "tsfleet"),
)  # fmt: skip
FIRST, MONTHS_18 = datetime(2024, 1, 1, tzinfo=UTC), timedelta(days=548)
END = FIRST + MONTHS_18
COMMITS = 50
MEMORY = "4GB"
DEADLINE_S = 600
_HOUR = 3_600_000_000


def now() -> tuple[float, float]:
    """Wall and processor seconds of this process."""
    return time.perf_counter(), time.process_time()


#: When this process had its own imports behind it.
BEGAN = now()


class Question(NamedTuple):
    """One question in SQL; ``table`` says how the store is asked without SQL, where that is a way to ask it."""

    sql: str
    params: Mapping[str, Any]
    table: Mapping[str, Any] | None = None
    rounds: int = 15


def questions(assets: int) -> dict[str, Question]:
    one = asset_id(assets // 3)
    some = [asset_id(assets * i // 7) for i in range(7)]
    listed = ", ".join(f"'{name}'" for name in some)
    columns = "run_id, asset_id, recipe, library, name, step, time, value"
    since = END - timedelta(days=60)
    return {
        "worst 20 over 30 days": Question(
            "SELECT asset_id, avg(value) AS mae, count(*) AS n FROM metrics WHERE name = 'mae' AND time >= $since "
            "GROUP BY asset_id ORDER BY mae DESC, asset_id LIMIT 20",
            {"since": END - timedelta(days=30)},
        ),
        "leaderboard over 90 days": Question(
            "SELECT recipe, library, avg(value) AS mae, count(DISTINCT asset_id) AS assets, count(*) AS n FROM metrics "
            "WHERE name = 'mae' AND time >= $since GROUP BY recipe, library ORDER BY mae",
            {"since": END - timedelta(days=90)},
        ),
        "quantiles over 12 weeks": Question(
            "SELECT time_bucket(INTERVAL 7 DAY, time) AS week, quantile_cont(value, 0.1) AS p10, "
            "quantile_cont(value, 0.5) AS p50, quantile_cont(value, 0.9) AS p90 FROM metrics "
            "WHERE name = 'rmse' AND time >= $since AND time < $until GROUP BY week ORDER BY week",
            {"since": END - timedelta(weeks=13), "until": END - timedelta(weeks=1)},
        ),
        "history of one asset": Question(
            "SELECT name, time, recipe, value FROM metrics WHERE asset_id = $asset ORDER BY name, time", {"asset": one}
        ),
        "history of one asset, table": Question(
            f"SELECT {columns} FROM metrics WHERE asset_id = '{one}' ORDER BY asset_id, name, time", {},
            {"assets": [one]},
        ),
        "history of seven assets over 60 days, table": Question(
            f"SELECT {columns} FROM metrics WHERE asset_id IN ({listed}) AND time >= $since "
            "ORDER BY asset_id, name, time",
            {"since": since}, {"assets": some, "since": since},
        ),
        "count": Question("SELECT count(*) AS n FROM metrics", {}),
    }  # fmt: skip


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench store questions")
    parser.add_argument("--rows", type=int, default=50_000_000)
    parser.add_argument("--assets", type=int, default=10_000)
    parser.add_argument("--colds", type=int, default=3, help="new processes a side and question")
    parser.add_argument("--peer-cache", action="store_true", help="let the peer keep Parquet footers")
    parser.add_argument("--keep", type=Path, help="a folder in which the three are kept, and found the next time")
    asked, _ = parser.parse_known_args(words)
    folder = asked.keep or Path(tempfile.mkdtemp(prefix="questions-"))
    try:
        make(folder, asked.rows, asked.assets)
        measure(folder, asked.assets, asked.colds, peer_cache=asked.peer_cache)
    finally:
        if asked.keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def tell(**figure: object) -> None:
    print(json.dumps({"bench": "store questions", **figure}), flush=True)


# ---------------------------------------------------------------------------------------------------------- the rows


def asset_id(number: int) -> str:
    return f"plant-{number:06d}"


def batches(rows: int, assets: int) -> Iterator[pa.Table]:
    """The rows in the order in which runs end: round by round, asset by asset, the ten metrics of a run together."""
    import numpy as np
    import pyarrow as pa

    random = np.random.default_rng(0)
    rounds = max(1, rows // (assets * len(NAMES)))
    together = max(1, rounds // COMMITS)
    level = random.lognormal(2, 0.7, assets)
    scale = np.array([0.1, 0.8, 1, 0.9, 0.7, 0.05, 1.4, 0.2, 0.15, 5])
    ids = pa.array([asset_id(number) for number in range(assets)])
    names = pa.array(NAMES)
    recipes, libraries = pa.array([r for r, _ in RECIPES]), pa.array([library for _, library in RECIPES])
    step = int(MONTHS_18 / timedelta(hours=1) * _HOUR) // rounds
    first = int(FIRST.timestamp()) * 1_000_000
    for start in range(0, rounds, together):
        here = min(together, rounds - start)
        runs = here * assets
        codes = np.arange(runs) // assets + start
        ended = first + codes * step + random.integers(0, min(step, _HOUR), runs)
        recipe = random.integers(0, len(RECIPES), runs)
        names_of_runs = pa.array([f"01j{start:06x}{number:017x}" for number in range(runs)])
        values = (level * random.lognormal(0, 0.3, (here, assets))).reshape(runs, 1) * scale
        many = np.repeat(np.arange(runs, dtype=np.int32), len(NAMES))

        def coded(
            codes: np.ndarray[Any, Any], texts: pa.Array, many: np.ndarray[Any, Any] = many
        ) -> pa.DictionaryArray:
            return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)[many]), texts)

        yield pa.table({
            "run_id": pa.DictionaryArray.from_arrays(pa.array(many), names_of_runs),
            "asset_id": coded(np.tile(np.arange(assets), here), ids),
            "recipe": coded(recipe, recipes),
            "library": coded(recipe, libraries),
            "name": pa.DictionaryArray.from_arrays(
                pa.array(np.tile(np.arange(len(NAMES), dtype=np.int32), runs)), names
            ),
            "step": pa.array(np.zeros(len(many), dtype=np.int64)),
            "time": pa.array(ended[many], pa.timestamp("us", "UTC")),
            "value": pa.array(values.ravel() * random.lognormal(0, 0.1, len(many))),
        })  # fmt: skip


def make(folder: Path, rows: int, assets: int) -> None:
    """The three of them, unless they are there. Ours first: the others are copied from what it answers."""
    from store import Store

    whole = folder / "whole"
    if whole.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with Store.open(folder / "bench.store") as store:
        for batch in batches(rows, assets):
            with_ours = store.begin()
            with_ours.insert("metrics", batch)
            with_ours.commit()
        filled = time.monotonic()
        report = store.upkeep(grace=timedelta(0))
        info = store.info()
    tell(
        what="filling ours", rows=info.tables["metrics"], seconds=round(filled - began, 1),
        upkeep_s=round(report.seconds, 1), levels=info.levels["metrics"], fullest=info.fullest.get("metrics"),
        mb=megabytes(folder / "bench.store"),
    )  # fmt: skip
    began = time.monotonic()
    copy(folder, assets)
    tell(
        what="copies", seconds=round(time.monotonic() - began, 1), parquet_mb=megabytes(folder / "parquet"),
        files=len(list((folder / "parquet").iterdir())), native_mb=megabytes(folder / "native.duckdb"),
    )  # fmt: skip
    whole.touch()


def copy(folder: Path, assets: int) -> None:
    """Hand-sorted monthly Parquet and a native file of the same rows, by DuckDB alone."""
    import duckdb

    (folder / "parquet").mkdir(exist_ok=True)
    ours = f"read_parquet('{folder}/bench.store/segments/metrics/*.parquet', union_by_name = true)"
    named = "run_id, asset_id, recipe, library, name, step, time, value"
    (folder / "native.duckdb").unlink(missing_ok=True)
    with duckdb.connect(str(folder / "native.duckdb")) as connection:
        connection.execute(f"SET TimeZone = 'UTC'; SET memory_limit = '{MEMORY}'; SET threads = 2")
        connection.execute("SET GLOBAL preserve_insertion_order = true")
        months = [(FIRST.year * 12 + i) for i in range(18 + 1)]
        connection.execute(f"CREATE TABLE metrics AS SELECT {named} FROM {ours} LIMIT 0")
        for month in months:
            since, until = (f"TIMESTAMPTZ '{at // 12:04d}-{at % 12 + 1:02d}-01'" for at in (month, month + 1))
            rows = f"SELECT {named} FROM {ours} WHERE time >= {since} AND time < {until} ORDER BY asset_id, name, time"
            if connection.sql(f"SELECT count(*) FROM {ours} WHERE time >= {since} AND time < {until}").fetchall()[0][0]:
                file = folder / "parquet" / f"{month // 12:04d}-{month % 12 + 1:02d}.parquet"
                connection.execute(
                    f"COPY ({rows}) TO '{file}' "
                    "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE 122880)"
                )
                connection.execute(f"INSERT INTO metrics SELECT * FROM '{file}'")


def megabytes(path: Path) -> float:
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return round(sum(one.stat().st_size for one in files) / 1e6, 1)


# ------------------------------------------------------------------------------------------------------- the turns


def measure(folder: Path, assets: int, colds: int, *, peer_cache: bool) -> None:
    asked = questions(assets)
    runs: dict[tuple[str, str, str], list[Mapping[str, float]]] = {}
    for side in SIDES:  # modules are compiled before anything is counted
        with Worker(folder, side, assets, peer_cache) as worker:
            worker.ask(next(iter(asked)))
            worker.ask(next(name for name, question in asked.items() if question.table is not None))
    for _ in range(colds):
        for name in asked:
            for side in SIDES:
                forget(folder)
                with Worker(folder, side, assets, peer_cache) as worker:
                    runs.setdefault(("cold", name, side), []).append(worker.ask(name))
    workers = {side: Worker(folder, side, assets, peer_cache) for side in SIDES}
    try:
        for name, question in asked.items():
            told = {side: [worker.ask(name) for _ in range(2)][-1] for side, worker in workers.items()}
            for side in SIDES[1:]:
                if not alike(told["ours"]["answer"], told[side]["answer"]):
                    sys.exit(f"{name}: {side} answers otherwise: {told['ours']['answer']} {told[side]['answer']}")
            for _ in range(question.rounds):
                for side, worker in workers.items():
                    runs.setdefault(("warm", name, side), []).append(worker.ask(name))
            for kind in ("warm", "cold") if colds else ("warm",):
                of_kind = {side: runs[kind, name, side] for side in SIDES}
                ms, cpu = ({side: median(each, key) for side, each in of_kind.items()} for key in ("ms", "cpu_ms"))
                tell(
                    question=name, kind=kind, ours_ms=ms["ours"], peer_ms=ms["peer"],
                    ratio=round(ms["ours"] / ms["peer"], 2), native_ms=ms["native"], limit=LIMIT,
                    cpu_ms=cpu, cpu_ratio=round(cpu["ours"] / cpu["peer"], 2), peer_cache=peer_cache,
                    rows=told["ours"]["rows"], load=round(os.getloadavg()[0], 1),
                )  # fmt: skip
    finally:
        for worker in workers.values():
            worker.close()


def median(runs: Sequence[Mapping[str, float]], key: str) -> float:
    return round(statistics.median(run[key] for run in runs), 1)


def forget(folder: Path) -> None:
    """Ask the kernel to drop the pages of these files; they are on the disk already."""
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(handle)


def alike(mine: list[list[Any]], other: list[list[Any]]) -> bool:
    if len(mine) != len(other):
        return False
    for left, right in zip(mine, other, strict=True):
        for a, b in zip(left, right, strict=True):
            close = isinstance(a, float) and isinstance(b, float) and abs(a - b) <= 1e-9 * max(abs(a), abs(b))
            if a != b and not close:
                return False
    return True


class Worker:
    """One side in a process of its own; it is told the name of a question and answers with a line."""

    def __init__(self, folder: Path, side: str, assets: int, peer_cache: bool) -> None:
        words = [sys.executable, "-m", __name__, side, str(folder), str(assets), str(int(peer_cache))]
        # Compiled modules are kept for either side alike, whatever is set here or was kept before.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment | {"PYTHONPYCACHEPREFIX": str(folder / "compiled")},
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, name: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{name}: the process ended with {self._process.wait(DEADLINE_S)}")
        told: dict[str, Any] = json.loads(line)
        return told

    def close(self) -> None:
        self._process.communicate(timeout=DEADLINE_S)


# ------------------------------------------------------------------------------------------- in a process of its own


def work(side: str, folder: Path, assets: int, *, peer_cache: bool) -> None:
    asked = questions(assets)
    ask: Callable[[Question], pa.Table] | None = None
    for line in sys.stdin:
        question = asked[line.strip()]
        began = now()
        if ask is None:
            ask = asker(side, folder, peer_cache=peer_cache)
            began = BEGAN
        answer = ask(question)
        wall, cpu = (1_000 * (end - start) for start, end in zip(began, now(), strict=True))
        told = {"ms": wall, "cpu_ms": cpu, "rows": answer.num_rows, "answer": summary(answer)}
        print(json.dumps(told), flush=True)


def asker(side: str, folder: Path, *, peer_cache: bool) -> Callable[[Question], pa.Table]:
    if side == "ours":
        from store import Store

        store = Store.open(folder / "bench.store", create=False)

        def ours(question: Question) -> pa.Table:
            if question.table is not None:
                return store.table("metrics", **question.table)
            return store.sql(question.sql, dict(question.params) or None).arrow()

        return ours
    import duckdb

    if side == "native":
        connection = duckdb.connect(str(folder / "native.duckdb"), read_only=True)
    else:
        connection = duckdb.connect()
        connection.execute(f"CREATE VIEW metrics AS SELECT * FROM read_parquet('{folder}/parquet/*.parquet')")
        if peer_cache:
            connection.execute("SET parquet_metadata_cache = true")
    connection.execute("SET TimeZone = 'UTC'")
    return lambda question: connection.sql(question.sql, params=dict(question.params) or None).to_arrow_table()


def summary(answer: pa.Table) -> list[list[Any]]:
    """What two answers are compared by: all of a small one; of a large one first, last, and a sum a column."""
    rows = [list(row.values()) for row in answer.slice(0, 50).to_pylist()] if answer.num_rows <= 50 else []
    if not rows:
        import pyarrow.compute as pc

        ends = [*answer.slice(0, 3).to_pylist(), *answer.slice(answer.num_rows - 3).to_pylist()]
        texts = [pc.binary_length(c) if str(c.type) == "string" else c for c in answer.columns]
        sums = [pc.sum(c).as_py() if str(c.type) in ("int32", "int64", "double") else None for c in texts]
        rows = [sums, *(list(row.values()) for row in ends)]
    return [[str(value) if isinstance(value, datetime) else value for value in row] for row in rows]


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), peer_cache=sys.argv[4] == "1")
