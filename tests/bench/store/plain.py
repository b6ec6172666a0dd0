"""The peer of small commits: the same rows in a SQLite database of one's own, under the same kind of lock file.

One table for runs and one for metrics, with the columns of the store's, an integer primary key, and an index on the
id of a run, which every tracker has. WAL and synchronous=FULL: one fsync a commit, as here. The rows come ready to
bind, so the peer converts and checks nothing, and it keeps no snapshots, no digests and no counts.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from store.clock import to_micros
from store.lock import WriterLock
from store.rows import to_json
from store.schema import TABLES

METRICS = 10
PARAMS = 10
_START = datetime(2024, 6, 1, tzinfo=UTC)


class Work(NamedTuple):
    """What one small commit says: one run with its parameters, and its metrics."""

    run: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]


def work(seed: int, count: int, *, writer: int = 0) -> list[Work]:
    """Runs as they come out of a training, each with 10 parameters and 10 metrics."""
    chance = random.Random(seed)  # noqa: S311 - rows to write, nothing secret
    made = []
    for number in range(count):
        run_id, asset = f"{writer:04d}-{number:021d}", f"plant-{chance.randrange(900):04d}"
        at = _START + timedelta(seconds=number)
        about = {"run_id": run_id, "asset_id": asset, "recipe": "gbm", "library": "lightgbm"}
        run = {
            **about, "product": "default", "recipe_hash": "4f" * 8, "library_version": "4.7.0", "kind": "train",
            "status": "ok", "started_at": at, "ended_at": at + timedelta(seconds=2), "duration_s": 2.0,
            "params": {f"p{k}": chance.random() for k in range(PARAMS)}, "batch_id": f"writer-{writer}",
        }  # fmt: skip
        metrics = [{**about, "name": f"m{k}", "step": 0, "time": at, "value": chance.random()} for k in range(METRICS)]
        made.append(Work(run, metrics))
    return made


class Bound(NamedTuple):
    """The same, ready to bind."""

    run: tuple[Any, ...]
    metrics: list[tuple[Any, ...]]


def bound(one: Work) -> Bound:
    run = _row("runs", {**one.run, "params": to_json(one.run["params"])})
    return Bound(run, [_row("metrics", row) for row in one.metrics])


def _row(table: str, row: Mapping[str, Any]) -> tuple[Any, ...]:
    values = (row.get(name) for name in TABLES[table].names)
    return tuple(to_micros(value) if isinstance(value, datetime) else value for value in values)


class Plain:
    """The database, opened by one process."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._lock = WriterLock(folder / "lock")
        self._connection = sqlite3.connect(folder / "plain.sqlite", isolation_level=None, timeout=60)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        with self._lock.held():
            for name in ("runs", "metrics"):
                columns = ", ".join(TABLES[name].names)
                self._connection.execute(f"CREATE TABLE IF NOT EXISTS {name} (_n INTEGER PRIMARY KEY, {columns})")
            self._connection.execute("CREATE INDEX IF NOT EXISTS by_run ON runs (run_id)")
        self._statements = {name: _insert(name) for name in ("runs", "metrics")}

    def commit(self, one: Bound) -> None:
        with self._lock.held():
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute(self._statements["runs"], one.run)
            self._connection.executemany(self._statements["metrics"], one.metrics)
            self._connection.execute("COMMIT")

    def counts(self) -> tuple[int, int]:
        """Runs and metrics, of one snapshot."""
        ask = "SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM metrics)"
        runs, metrics = self._connection.execute(ask).fetchone()
        return runs, metrics

    def metrics_by_run(self) -> dict[str, int]:
        ask = "SELECT run_id, count(name) FROM runs JOIN metrics USING (run_id) GROUP BY run_id"
        return dict(self._connection.execute(ask))

    def close(self) -> None:
        with self._lock.held():
            self._connection.close()
        self._lock.close()


def _insert(table: str) -> str:
    names = TABLES[table].names
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
