"""Killed with kill -9, started again: nothing is lost, nothing is done twice, and nobody can tell afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest

from fleet import Fleet
from store import Store
from tests.walks.small import hourly, without_ids

ASSETS = tuple(f"site-{number:02d}" for number in range(36))
CONFIG = """
[fleet]
name = "resume"
store = "resume.store"
horizon = 24
seasons = [24]

[data]
path = "history.parquet"

[recipes.day]
adapter = "seasonal_naive"
season = 24

[recipes.slow]
adapter = "slow_model:Slow"

[train]
workers = 1
fallback = ["day", "slow"]

[backtest]
origins = 2

[promotion]
min_points = 24
"""
# Busy as a model is; what it says depends on the readings alone. While the file `gate` names the number of readings
# that it is given, one asset waits, so that there is a middle to be killed in, on however fast a machine.
SLOW = """
from pathlib import Path
from threading import Event

import numpy as np

GATE = Path(__file__).parent / "gate"


class Slow:
    def fit(self, y, X, task):
        if task.static["asset_id"] == "site-30" and GATE.exists() and GATE.read_text() == str(len(y)):
            Event().wait(600)
        matrix = np.cos(np.arange(160.0 * 160.0)).reshape(160, 160)
        for _ in range(10):
            np.linalg.svd(matrix)
        self.level = float(y.to_numpy()[-48:].mean())
        return self

    def predict(self, y, X, task):
        return task.frame(np.full(task.horizon, self.level))

    def save(self):
        return np.float64(self.level).tobytes()

    def load(self, blob):
        self.level = float(np.frombuffer(blob)[0])
        return self
"""
# Behind the asset that the file `gate` names every model is slow, so that there is a middle on however fast a machine.
# They do not stop: what is finished is committed when the next comes in.
HELD = """
from pathlib import Path
from threading import Event

GATE = Path(__file__).parent / "gate"


def held(y, X, task):
    if GATE.exists() and task.static["asset_id"] > GATE.read_text():
        Event().wait(0.5)
    return y, X
"""
TABLES = ("runs", "versions", "champions", "decisions", "forecasts", "scores", "scales", "metrics")
DEADLINE_S = 180.0


def laid_out(folder: Path, history: pd.DataFrame, config: str) -> Path:
    """A fleet's folder with its data ingested."""
    folder.mkdir()
    (folder / "slow_model.py").write_text(SLOW, encoding="utf-8")
    (folder / "held.py").write_text(HELD, encoding="utf-8")
    (folder / "fleet.toml").write_text(config, encoding="utf-8")
    history.to_parquet(folder / "history.parquet")
    with Fleet.open(folder / "fleet.toml") as fleet:
        fleet.ingest()
    return folder


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "jobs.cli", *words]


def typed(folder: Path, *words: str) -> dict[str, object]:
    """The JSON of a command that went well."""
    done = subprocess.run([*command(*words), "--json"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def killed(folder: Path, words: Sequence[str], enough: Callable[[Store], bool]) -> None:
    """Start a command and kill its process, driver alone, once the store says that enough is committed."""
    process = subprocess.Popen(
        command(*words), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ
    )
    end = time.monotonic() + DEADLINE_S
    try:
        with Store.open(folder / "resume.store", read_only=True, create=False) as store:
            while not enough(store):
                assert time.monotonic() < end, "nothing was committed in time"
                with contextlib.suppress(subprocess.TimeoutExpired):
                    assert process.wait(0.1) is None, "it ended before it could be killed"
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL


def rows(store: Store, table: str, where: str = "true") -> int:
    return int(store.sql(f"select count(*) as n from {table} where {where}").rows()[0]["n"])


def everything(folder: Path) -> dict[str, list[str]]:
    with Store.open(folder / "resume.store", read_only=True, create=False) as store:
        return {table: without_ids(store, table) for table in TABLES}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What an undisturbed training and forecast leave behind."""
    folder = laid_out(tmp_path_factory.mktemp("whole") / "fleet", hourly(ASSETS, 20), CONFIG)
    typed(folder, "train")
    typed(folder, "forecast")
    return everything(folder)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "readings"), [("backtest", 18 * 24), ("train", 20 * 24)])
def test_a_killed_training_is_completed_by_the_next(
    tmp_path: Path, whole: dict[str, list[str]], kind: str, readings: int
) -> None:
    folder = laid_out(tmp_path / "fleet", hourly(ASSETS, 20), CONFIG)
    (folder / "gate").write_text(str(readings), encoding="utf-8")
    killed(folder, ["train"], lambda store: rows(store, "runs", f"kind = '{kind}'") >= 3)
    (folder / "gate").unlink()
    with Store.open(folder / "resume.store", read_only=True, create=False) as store:
        before = {name: rows(store, name) for name in ("runs", "versions", "champions")}
        assert 0 < before["runs"] < len(whole["runs"])
        # A version is there with its champion or not at all.
        assert before["champions"] <= before["versions"]
        assert store.sql("select job, status from job_runs").rows() == [{"job": "cli:train", "status": "running"}]
    status = typed(folder, "status")
    assert [job["status"] for job in status["jobs"]] == ["killed"]  # type: ignore[attr-defined]  # a list of jobs
    report = typed(folder, "train")
    for name, count in before.items():
        assert count + report["rows"][name] == len(whole[name]), name  # type: ignore[index]  # rows by table
    typed(folder, "forecast")
    assert everything(folder) == whole
    with Store.open(folder / "resume.store", read_only=True, create=False) as store:
        jobs = store.sql("select job, status, ended_at is not null as ended from job_runs order by slot").rows()
        assert [(row["job"], row["status"], row["ended"]) for row in jobs] == [
            ("cli:train", "killed", True),
            ("cli:train", "ok", True),
            ("cli:forecast", "ok", True),
        ]
    assert list((folder / "resume.store" / "working").iterdir()) == []


def test_a_job_at_work_is_not_taken_for_dead(tmp_path: Path) -> None:
    folder = laid_out(tmp_path / "fleet", hourly(ASSETS, 20), CONFIG)
    (folder / "gate").write_text(str(18 * 24), encoding="utf-8")
    seen = []

    def look(store: Store) -> bool:
        found = store.sql("select status from job_runs").rows()
        if found:
            with Fleet.open(folder / "fleet.toml", read_only=True) as fleet:
                seen.append(fleet.status()["jobs"][0]["status"])
        return bool(found)

    killed(folder, ["train"], look)
    assert seen == ["running"]
    with Fleet.open(folder / "fleet.toml", read_only=True) as fleet:
        assert fleet.status()["jobs"][0]["status"] == "killed"


@pytest.mark.slow
def test_a_killed_training_of_the_m4_hourly_set_fits_each_series_once(test_data: Path, tmp_path: Path) -> None:
    series = pd.read_parquet(test_data / "m4_hourly.parquet")
    last_train = series[series.split == "train"].groupby("unique_id").ds.max()
    hours = pd.to_timedelta(series.ds - series.unique_id.map(last_train) - 1, unit="h")
    series["ds"] = pd.Timestamp("2020-01-01", tz="UTC") + hours
    config = CONFIG.replace("horizon = 24", "horizon = 48").replace(
        '[recipes.slow]\nadapter = "slow_model:Slow"',
        '[recipes.slow]\nadapter = "lightgbm"\nlags = [48, 72, 168]\ncalendar = ["hour"]\nrounds = 100\n'
        'before = "held:held"',
    )
    config = config.replace("workers = 1", "workers = 2")
    folder = laid_out(tmp_path / "killed", series, config)
    (folder / "gate").write_text(sorted(series.unique_id.unique())[199], encoding="utf-8")
    killed(folder, ["train", "--no-judge", "--recipes", "slow"], lambda store: rows(store, "versions") >= 100)
    (folder / "gate").unlink()
    with Store.open(folder / "resume.store", read_only=True, create=False) as store:
        before = rows(store, "versions")
    assert 100 <= before <= 300
    report = typed(folder, "train", "--no-judge", "--recipes", "slow")
    assert before + report["rows"]["versions"] == 414  # type: ignore[index]  # rows by table
    assert (report["ok"], report["skipped"]) == (414 - before, before)
    twin = laid_out(tmp_path / "whole", series, config)
    typed(twin, "train", "--no-judge", "--recipes", "slow")
    for one in (folder, twin):
        typed(one, "promote", "slow")
        typed(one, "forecast")
    assert everything(folder) == everything(twin)
