"""Schedulers, their runs and their ends as real processes: every slot has its effect once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from store import Store
from store.errors import NotFound

pytestmark = pytest.mark.slow  # real schedulers and their deaths

CONFIG = """
[fleet]
name = "real"
store = "real.store"
horizon = 24

[data]
path = "none.parquet"
"""
#: Leaves a row when it begins and one when it ends; while the file `gate` is there it waits in between.
KIND = """
import os, time
from pathlib import Path
from threading import Event
from jobs.work import Done

HERE = Path(__file__).parent


def run(work):
    (HERE / f"at_work_{os.getpid()}").touch()
    while (HERE / "gate").exists():
        Event().wait(0.05)
    commit = work.fleet.store.begin(commit_id=work.commit_id(0))
    slot = work.slot.isoformat()
    commit.insert("alerts", [{"alert_id": f"{work.name} {slot} {work.revision}", "rule": f"{slot} {work.revision}"}])
    commit.commit()
    return Done(status="ok")
"""
DEADLINE_S = 120.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "real_kind.py").write_text(KIND, encoding="utf-8")
    with Store.open(tmp_path / "real.store"):
        pass
    return tmp_path


def configured(folder: Path, jobs: str) -> None:
    (folder / "fleet.toml").write_text(CONFIG + jobs, encoding="utf-8")


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "jobs.cli", "jobs", *words]


@contextlib.contextmanager
def scheduler(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    log = (folder / "log.txt").open("ab")
    process = subprocess.Popen(command("start"), cwd=folder, stderr=log, stdout=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        log.close()


def until(holds: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + DEADLINE_S
    while not (found := holds()):
        assert time.monotonic() < end, what
        time.sleep(0.05)  # between two looks at what other processes do
    return found


def asked(folder: Path, query: str) -> list[dict[str, Any]]:
    with contextlib.suppress(NotFound), Store.open(folder / "real.store", read_only=True, create=False) as store:
        return [dict(row) for row in store.sql(query).rows()]
    return []


def workers(folder: Path) -> list[int]:
    return [int(path.name.rpartition("_")[2]) for path in folder.glob("at_work_*")]


EVERY_SECOND = '[jobs.a]\nkind = "real_kind:run"\nevery = "1s"\ncatch_up = "all"\ncatch_up_limit = 1000\n'
ONCE = '[jobs.a]\nkind = "real_kind:run"\nevery = "3650d"\n'


def test_a_run_killed_in_the_middle_is_finished_once_and_by_hand_the_same(folder: Path) -> None:
    configured(folder, ONCE)
    (folder / "gate").touch()
    first = subprocess.Popen(command("run", "a"), cwd=folder, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    until(lambda: workers(folder), "the run did not begin")
    second = subprocess.run(command("run", "a"), cwd=folder, capture_output=True, text=True, check=False)
    assert second.returncode == 2
    assert "is at work" in second.stderr
    first.kill()
    first.wait()
    assert subprocess.run(command("health"), cwd=folder, capture_output=True, check=False).returncode == 1
    (folder / "gate").unlink()
    done = subprocess.run(command("run", "a", "--json"), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["status"] == "ok"
    assert subprocess.run(command("run", "a"), cwd=folder, capture_output=True, check=False).returncode == 0
    assert [row["attempt"] for row in asked(folder, "select attempt from job_runs")] == [2]
    assert len(asked(folder, "select * from alerts")) == 1
    again = subprocess.run(command("run", "a", "--again"), cwd=folder, capture_output=True, check=False)
    assert again.returncode == 0
    assert asked(folder, "select revision, status from job_runs") == [{"revision": 1, "status": "ok"}]
    assert len(asked(folder, "select * from alerts")) == 2
    assert subprocess.run(command("health"), cwd=folder, capture_output=True, check=False).returncode == 0


def test_a_scheduler_that_is_told_to_end_lets_its_run_end_and_the_next_goes_on(folder: Path) -> None:
    configured(folder, EVERY_SECOND)
    (folder / "gate").touch()
    with scheduler(folder) as process:
        until(lambda: workers(folder), "no run began")
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
    assert {row["status"] for row in asked(folder, "select status from job_runs")} == {"interrupted"}
    (folder / "gate").unlink()
    with scheduler(folder):
        until(lambda: len(asked(folder, "select * from alerts")) >= 2, "nobody went on")
    found = asked(folder, "select rule, count(*) as n from alerts group by rule having n > 1")
    assert found == []


def test_a_cancelled_run_ends_and_its_scheduler_goes_on_with_later_slots(folder: Path) -> None:
    configured(folder, EVERY_SECOND)
    (folder / "gate").touch()
    with scheduler(folder) as process:
        (worker,) = until(lambda: workers(folder), "no run began")
        done = subprocess.run(command("cancel", "a"), cwd=folder, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        until(lambda: not Path(f"/proc/{worker}").exists(), "the run did not end")
        (folder / "gate").unlink()
        until(lambda: asked(folder, "select * from alerts"), "no later slot was run")
        assert process.poll() is None
    (first, *_) = asked(folder, "select slot, status from job_runs order by slot")
    assert first["status"] == "cancelled"
    assert asked(folder, f"select * from alerts where rule like '{first['slot'].isoformat()}%'") == []


def test_a_run_that_takes_too_long_is_ended_and_has_failed(folder: Path) -> None:
    configured(folder, EVERY_SECOND + 'timeout = "2s"\n')
    (folder / "gate").touch()
    with scheduler(folder):
        failed = "select error from job_runs where status = 'failed'"
        (row, *_) = until(lambda: asked(folder, failed), "it was not ended")
        assert "timeout = 2s" in row["error"]
    assert asked(folder, "select * from alerts") == []


@pytest.mark.slow
def test_two_schedulers_killed_again_and_again_run_each_slot_once(folder: Path) -> None:
    configured(folder, EVERY_SECOND)
    spent = []
    for turn in range(3):
        with scheduler(folder) as one, scheduler(folder) as two:
            known = len(asked(folder, "select * from alerts"))
            until(lambda known=known: len(asked(folder, "select * from alerts")) >= known + 3, "nothing ran")
            one.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            known = len(asked(folder, "select * from alerts"))
            until(lambda known=known: len(asked(folder, "select * from alerts")) > known, "nobody took over")
            spent.append(time.monotonic() - killed)
            if turn % 2:
                for pid in workers(folder):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            two.send_signal(signal.SIGKILL)
    doubled = asked(folder, "select rule, count(*) as n from alerts group by rule having n > 1")
    slots = asked(folder, "select slot, status from job_runs where status = 'ok' order by slot")
    gaps = [(b["slot"] - a["slot"]).total_seconds() for a, b in pairwise(slots)]
    print(f"effects {len(slots)}, doubled {len(doubled)}, takeover {[round(one, 1) for one in spent]} s")
    assert doubled == []
    assert set(gaps) == {1.0}, "a slot was lost"
