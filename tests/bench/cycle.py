"""The whole cycle over many small assets: ingest, backtest one origin, train, forecast, by the installed command.

Cost per asset has to stay flat from a thousand assets to tens of thousands. Synthetic, seeded, made on the spot.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

COMMAND = Path(sys.executable).parent / "tsfleet"
STEPS = 1_000
CONFIG = """[fleet]
name = "cycle"
store = "cycle.store"
horizon = 24
seasons = [24]
[data]
path = "series.parquet"
[recipes.daily]
adapter = "seasonal_naive"
season = 24
[backtest]
origins = 1
"""
VERBS = (("ingest",), ("backtest",), ("train",), ("forecast",))


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench cycle")
    parser.add_argument("--assets", type=int, nargs="+", default=[1_000, 10_000])
    for count in parser.parse_args(words).assets:
        with tempfile.TemporaryDirectory() as folder:
            series(Path(folder) / "series.parquet", count)
            (Path(folder) / "fleet.toml").write_text(CONFIG)
            total = 0.0
            for verb in VERBS:
                figure = measured([str(COMMAND), *verb], Path(folder))
                total += figure["cpu_s"]
                figure["cpu_ms_per_asset"] = round(1000 * figure["cpu_s"] / count, 3)
                print(json.dumps({"bench": "cycle", "assets": count, "verb": verb[0], **figure}), flush=True)
            per_asset = round(1000 * total / count, 3)
            print(json.dumps({"bench": "cycle", "assets": count, "verb": "all", "cpu_ms_per_asset": per_asset}))


def series(path: Path, count: int, steps: int = STEPS) -> None:
    """Daily shape, level and noise of `count` assets, hour by hour."""
    random = np.random.default_rng(0)
    times = np.datetime64("2024-01-01T00", "us") + np.arange(steps) * np.timedelta64(3_600_000_000, "us")
    shape = 10 + 3 * np.sin(2 * np.pi * np.arange(steps) / 24)
    with pq.ParquetWriter(path, pa.schema([("unique_id", pa.string()), ("ds", UTC), ("y", pa.float64())])) as writer:
        for start in range(0, count, 1_000):
            ids = [f"asset-{number:06d}" for number in range(start, min(start + 1_000, count))]
            level = random.uniform(0.5, 50, len(ids))[:, None]
            values = level * shape + level * random.normal(0, 0.5, (len(ids), steps))
            rows = {
                "unique_id": pa.array(np.repeat(np.array(ids, dtype=object), steps), pa.string()),
                "ds": pa.array(np.tile(times, len(ids))).cast(UTC),
                "y": pa.array(values.ravel()),
            }
            writer.write_table(pa.table(rows))


UTC = pa.timestamp("us", "UTC")


def measured(command: list[str], folder: Path) -> dict[str, float]:
    """Wall and CPU seconds of a command with all its children, and the peak of their summed resident memory."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    peak = Peak(process.pid)
    out, err = process.communicate()
    wall = time.monotonic() - started
    peak.stop()
    if process.returncode:
        sys.exit(f"{' '.join(command)} exited {process.returncode}: {(err or out).decode()[-500:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2), "peak_mb": round(peak.bytes / 2**20)}


class Peak:
    """Samples the proportional memory of a process and its descendants until stopped (Linux)."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._pid, self._done = pid, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self.bytes = max(self.bytes, sum(map(_resident, _tree(self._pid))))


def _tree(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        try:
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        except OSError:  # it ended meanwhile
            continue
    return found


def _resident(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
