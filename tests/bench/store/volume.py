"""Forecasts at real volume: 900 assets, an issue every quarter of an hour, 192 steps each, while questions run.

Each issue is one commit, as ``fleet.ledger`` makes it: ``replace`` of the forecasts (mean and three quantiles, all
digits random), an outcome per asset, the job's row. The clock is at the issue time, so upkeep by itself is what it
would be in life; each simulated midnight ``Store.upkeep`` runs once. Meanwhile another process asks for one asset's
newest fan chart, over and over with a short pause, and counts answers that are not whole issues.

Told of each day, and at the end of all: rows per second (issuing alone, and with upkeep), bytes a row, write
amplification (every byte that the writing process handed to the system, spills and catalog included, over the bytes
that are there in the end), the most segments of a partition, the newest fan chart of an asset and those of its last
day, and the verb ``score`` for the last day: seconds, and the peak memory of its process. There is no peer here: the
limits are absolute.

A day is 16.6 million rows and 0.6 GB; ten take 6 GB, twice that while upkeep runs.

``python -m tests.bench store volume [--days 1] [--assets 900] [--issues 96]``
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store import FixedClock, Store
from store.files import folder_bytes
from tests.bench.store.lines import judged, peak_mb, tell, timed

if TYPE_CHECKING:
    import pyarrow as pa

MOST_AMPLIFICATION, MOST_SEGMENTS = 4.0, 20
STEPS = 192
QUARTER = timedelta(minutes=15)
START = datetime(2024, 6, 1, tzinfo=UTC)
PAUSE_S = 0.2
FANS = 15
DEADLINE_S = 60
MOST_SCORE_MB = 1_000
CONFIG = """
[fleet]
name = "volume"
store = "volume.store"
freq = "15min"
horizon = 192
quantiles = [0.1, 0.5, 0.9]
[recipes.gbm]
adapter = "seasonal_naive"
season = 96
"""


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench store volume")
    parser.add_argument("--days", type=int, default=1)
    parser.add_argument("--assets", type=int, default=900)
    parser.add_argument("--issues", type=int, default=96, help="a day")
    asked, _ = parser.parse_known_args(words)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "volume.store"
        clock = FixedClock(START)
        with Store.open(path, clock=clock) as store:
            issue(store, clock, Days(asked.days, asked.assets, asked.issues))
        figures = in_a_process("fan", path, asked.assets)
        tell("volume", figure="newest fan chart", **figures)
        figures = in_a_process("score", path, asked.assets)
        tell("volume", figure="score of the last day", **figures)


class Days:
    """How much is issued."""

    def __init__(self, days: int, assets: int, issues: int) -> None:
        self.days, self.assets, self.issues = days, assets, issues
        self.rows_a_day = assets * issues * STEPS


def asset(number: int) -> str:
    return f"plant-{number:04d}"


def issue(store: Store, clock: FixedClock, asked: Days) -> None:
    """Issue day after day, and tell what that cost."""
    began_bytes = written_bytes()
    issuing = tending = 0.0
    commits: list[float] = []
    with asking(store.path) as reader:
        for day in range(asked.days):
            for number in range(asked.issues):
                at = START + timedelta(days=day) + number * QUARTER
                clock.set(at)
                rows = forecasts(at, asked.assets)
                commits.append(timed(lambda at=at, rows=rows: commit(store, at, rows, asked.assets)))
            clock.set(START + timedelta(days=day + 1))
            issuing, upkeep_s = sum(commits), timed(store.upkeep)
            tending += upkeep_s
            rows_now, held = (day + 1) * asked.rows_a_day, segment_bytes(store)
            info = store.info()
            tell(
                "volume", figure="day", day=day + 1, rows=rows_now, rows_per_s=rows_now / issuing,
                rows_per_s_with_upkeep=rows_now / (issuing + tending), upkeep_s=upkeep_s, bytes_a_row=held / rows_now,
                commit_median_ms=1_000 * statistics.median(commits), commit_worst_ms=1_000 * max(commits),
                segments=info.levels["forecasts"], fullest=info.fullest.get("forecasts", 0),
            )  # fmt: skip
    waits, torn = reader
    store.upkeep(grace=timedelta(0))
    written, left = written_bytes() - began_bytes, folder_bytes(store.path)
    amplification = written / left
    tell(
        "volume", figure="write amplification", written_mb=written / 1e6, left_mb=left / 1e6,
        **judged(amplification, MOST_AMPLIFICATION),
    )  # fmt: skip
    tell(
        "volume", figure="segments per partition", limit=MOST_SEGMENTS, most=info.fullest.get("forecasts", 0),
        within=info.fullest.get("forecasts", 0) <= MOST_SEGMENTS,
    )  # fmt: skip
    tell(
        "volume", figure="questions meanwhile", questions=len(waits), torn=torn,
        median_ms=statistics.median(waits), worst_ms=max(waits),
    )  # fmt: skip


def forecasts(at: datetime, assets: int) -> pa.Table:
    """The rows of one issue, asset by asset, as `fleet.rows` gives them."""
    import numpy as np
    import pyarrow as pa

    from store.clock import to_micros

    chance = np.random.default_rng(to_micros(at) % (1 << 32))
    rows = assets * STEPS
    micros, quarter = to_micros(at), QUARTER // timedelta(microseconds=1)
    step = np.tile(np.arange(1, STEPS + 1), assets)
    level = np.repeat(chance.uniform(100, 5_000, assets), STEPS)
    mean = level * (1 + 0.3 * np.sin(step * (2 * np.pi / 96))) + chance.normal(0, 20, rows)
    utc = pa.timestamp("us", "UTC")
    each = pa.array(np.repeat(np.arange(assets), STEPS))
    return pa.table(
        {
            "asset_id": pa.array([asset(number) for number in range(assets)]).take(each),
            "product": pa.repeat("default", rows),
            "recipe": pa.repeat("gbm", rows),
            "recipe_hash": pa.repeat("4f" * 8, rows),
            "version_id": pa.array([f"{number:026d}" for number in range(assets)]).take(each),
            "run_id": pa.array([f"{number:026d}" for number in range(assets)]).take(each),
            "role": pa.repeat("champion", rows),
            "quality": pa.repeat("ok", rows),
            "issue_time": pa.repeat(pa.scalar(micros, pa.int64()), rows).cast(utc),
            "valid_time": pa.array(micros + (step - 1) * quarter).cast(utc),
            "step": step,
            "mean": mean,
            **{f"q{level}": mean + chance.normal(shift, 5, rows) for level, shift in ((10, -40), (50, 0), (90, 40))},
            "created_at": pa.repeat(pa.scalar(micros, pa.int64()), rows).cast(utc),
        }
    )


def commit(store: Store, at: datetime, rows: pa.Table, assets: int) -> None:
    transaction = store.begin(note="forecast")
    transaction.replace("forecasts", rows)
    common = {"job": "forecast", "slot": at, "status": "ok"}
    transaction.insert("outcomes", [common | {"asset_id": asset(one), "recipe": "gbm"} for one in range(assets)])
    transaction.replace("job_runs", [common | {"attempt": 1, "started_at": at, "ended_at": at, "assets": assets}])
    transaction.commit()


def segment_bytes(store: Store) -> int:
    return sum(one.bytes for one in store._catalog.segments("forecasts"))


def written_bytes() -> int:
    """What this process has handed to the system to write."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return int(dict(line.split(": ") for line in lines)["wchar"])


# ------------------------------------------------------------------------------------------ in processes of their own


class asking:  # noqa: N801 - reads as a word: with asking(path)
    """Another process that asks while the block runs; its waits in ms and the torn answers are there afterwards."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: list[Any] = []

    def __enter__(self) -> list[Any]:
        command = [sys.executable, "-m", __spec__.name, "ask", str(self._path), "0"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self._found

    def __exit__(self, *_: object) -> None:
        told, _ = self._process.communicate("\n", timeout=DEADLINE_S)
        self._found.extend(json.loads(told))


def in_a_process(what: str, path: Path, assets: int) -> dict[str, Any]:
    command = [sys.executable, "-m", __spec__.name, what, str(path), str(assets)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{what} exited {done.returncode}: {done.stderr[-2_000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def ask(store: Store) -> list[Any]:
    """Ask for fan charts until somebody says that it is enough."""
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
    waits, torn = [], 0
    while not stop.wait(PAUSE_S):
        number = len(waits) % 7
        began = time.perf_counter()
        torn += len(fan(store, asset(number), newest(store))) % STEPS != 0
        waits.append(1_000 * (time.perf_counter() - began))
    return [waits, torn]


def newest(store: Store) -> datetime:
    """The newest issue, as the newest commit tells it: its clock stood at the issue time."""
    return store.committed_at(store.head()) if store.head() else START


def fan(store: Store, one: str, since: datetime) -> pa.Table:
    columns = ["valid_time", "mean", "q10", "q50", "q90"] if store.head() else ["valid_time", "mean"]
    return store.table("published", assets=[one], since=since, columns=columns)


def fans(store: Store, assets: int) -> dict[str, Any]:
    """One asset's newest fan chart: its last issue, and the history of issues of its last day."""
    (row,) = store.sql("select max(slot) as at from job_runs").arrow().to_pylist()
    assert len(fan(store, asset(0), row["at"])) == STEPS
    found: dict[str, Any] = {}
    for name, since in (("newest", row["at"]), ("day", row["at"] - timedelta(days=1) + QUARTER)):
        waits = [timed(lambda one=one, since=since: fan(store, asset(one * 53 % assets), since)) for one in range(FANS)]
        found |= {f"{name}_median_ms": 1_000 * statistics.median(waits), f"{name}_worst_ms": 1_000 * max(waits)}
    return found


def score(path: Path, assets: int) -> dict[str, Any]:
    """The verb ``score`` for the last day, from its first question to its last commit; the day before was scored.

    Two of its questions again afterwards, so that their seconds are told apart.
    """
    from fleet import Fleet, scoring
    from fleet.passes import Pass

    (path.parent / "fleet.toml").write_text(CONFIG, encoding="utf-8")
    with Fleet.open(path.parent / "fleet.toml") as fleet:
        store = fleet.store
        (row,) = store.sql("select max(slot) as at from job_runs").arrow().to_pylist()
        day = row["at"].replace(hour=0, minute=0)
        happened(store, day - timedelta(days=1), assets)
        fleet.score()
        seen = int(store.snapshot().mark("score") or 0)
        ingest_s = timed(lambda: happened(store, day, assets))
        before_mb, cpu = peak_mb(), time.process_time()
        began = time.perf_counter()
        report = fleet.score()
        seconds, cpu, peak = time.perf_counter() - began, time.process_time() - cpu, peak_mb()
        assert report.ok == assets, report
        snapshot, clocks = store.snapshot(), scoring.clocks_of(fleet.population())
        now = Pass(truth="latest", seen=seen, at=snapshot.id)
        waiting_s = timed(lambda: scoring.not_yet_scorable(snapshot))
        stale_s = timed(lambda: scoring.stale_days(snapshot, clocks, now))
        asked = "select sum(n)::bigint as points, count(*) as cells from scores where day = $day"
        (sums,) = store.sql(asked, {"day": day.date()}).rows()
    return {
        "seconds": seconds, "cpu_s": cpu, "waiting_s": waiting_s, "stale_s": stale_s, "ingest_s": ingest_s, **sums,
        "points_per_s": sums["points"] / seconds, "before_mb": before_mb, "peak_mb": peak, "limit_mb": MOST_SCORE_MB,
        "within": peak <= MOST_SCORE_MB,
    }  # fmt: skip


def happened(store: Store, day: datetime, assets: int) -> None:
    """A day of actuals, all at once."""
    import numpy as np
    import pyarrow as pa

    utc, times = pa.timestamp("us", "UTC"), [day + number * QUARTER for number in range(96)]
    rows = assets * len(times)
    transaction = store.begin()
    transaction.replace("assets", [{"asset_id": asset(one), "freq": "15min"} for one in range(assets)])
    transaction.replace(
        "actuals",
        pa.table(
            {
                "asset_id": pa.array([asset(one) for one in range(assets) for _ in times]),
                "valid_time": pa.array(times * assets, utc),
                "y": np.random.default_rng(day.day).uniform(100, 5_000, rows),
                "available_at": pa.repeat(pa.scalar(day + timedelta(days=1), utc), rows),
            }
        ),
    )
    transaction.commit()


def alone(words: Sequence[str]) -> None:
    what, path, assets = words[0], words[1], int(words[2])
    if what == "score":
        print(json.dumps(score(Path(path), assets)))
        return
    with Store.open(path) as store:
        found = ask(store) if what == "ask" else fans(store, assets)
    print(json.dumps(found))


if __name__ == "__main__":
    alone(sys.argv[1:])
