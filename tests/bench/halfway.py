"""A scheduled forecast of a large fleet, killed half way and run again: what is there twice, what is lost, how long.

``python -m tests.bench halfway [--assets 10000]``. The run is the command, as a timer starts it; it is killed with -9
with all its children when half of the rows are committed, and the same slot is run again. Beside it stands an unbroken
run in a copy of the same fleet: what is published has to be the same. Exit code 1 when it is not.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from store import Store
from tests.bench.cycle import COMMAND, CONFIG, STEPS, series

HORIZON = 24
JOB = """
[jobs.issue]
kind = "forecast"
every = "1h"
catch_up = "last"
"""
SLOT = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=STEPS)
#: The table has no key: a row that was written twice is there twice.
STORED = "select count(*) as n from forecasts where role = 'champion'"
PUBLISHED = "select asset_id, product, issue_time, valid_time, mean from published order by all"
KEYS = "select count(*) as n from (select distinct asset_id, product, issue_time, valid_time from published)"
LOOK_S = 0.02


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench halfway")
    parser.add_argument("--assets", type=int, default=10_000)
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        figures = walked(Path(folder), asked.assets)
    print(json.dumps({"bench": "halfway", **figures}))
    sys.exit(int(bool(figures["doubled"] or figures["lost"] or figures["other_than_unbroken"])))


def walked(folder: Path, assets: int) -> dict[str, int | float]:
    """The figures of one death."""
    broken, whole = folder / "broken", folder / "whole"
    broken.mkdir()
    series(broken / "series.parquet", assets)
    (broken / "fleet.toml").write_text(CONFIG + JOB, encoding="utf-8")
    for verb in ("ingest", "train"):
        subprocess.run([COMMAND, verb], cwd=broken, check=True, capture_output=True)
    shutil.copytree(broken, whole)
    began = time.monotonic()
    there = _killed(broken, assets * HORIZON // 2)
    first_s = time.monotonic() - began
    second_s, unbroken_s = _run(broken), _run(whole)
    found, expected = _published(broken), _published(whole)
    with Store.open(broken / "cycle.store", read_only=True, create=False) as store:
        stored, keys = (int(store.sql(query).rows()[0]["n"]) for query in (STORED, KEYS))
    return {
        "assets": assets,
        "rows_expected": assets * HORIZON,
        "rows_when_killed": there,
        "rows_published": found.num_rows,
        "rows_stored": stored,
        "doubled": max(stored, found.num_rows) - keys,
        "lost": assets * HORIZON - keys,
        "other_than_unbroken": int(not found.equals(expected)),
        "until_killed_s": round(first_s, 2),
        "again_s": round(second_s, 2),
        "unbroken_s": round(unbroken_s, 2),
    }


def _command() -> list[str]:
    return [str(COMMAND), "jobs", "run", "issue", "--slot", SLOT.isoformat()]


def _killed(folder: Path, rows: int) -> int:
    """Kill the run when so many rows are committed; how many there are then."""
    process = subprocess.Popen(
        _command(), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        with Store.open(folder / "cycle.store", read_only=True, create=False) as store:
            while process.poll() is None and _stored(store) < rows:
                time.sleep(LOOK_S)
            if process.poll() is not None:
                sys.exit("the run ended before half of it was seen: take more assets")
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return _stored(store)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _stored(store: Store) -> int:
    return int(store.sql(STORED).rows()[0]["n"])


def _run(folder: Path) -> float:
    began = time.monotonic()
    subprocess.run(_command(), cwd=folder, check=True, capture_output=True)
    return time.monotonic() - began


def _published(folder: Path) -> pa.Table:
    with Store.open(folder / "cycle.store", read_only=True, create=False) as store:
        return store.sql(PUBLISHED).arrow()
