"""Two hundred assets, ten of them fatal to their model in ten ways: ten outcomes, and a forecast for every one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from store import Store
from tests.walks.faulty import FAULTS, faulty_fleet

ROOT = Path(__file__).resolve().parents[2]
GOOD = 190


def environment(folder: Path) -> dict[str, str]:
    """This one's, with a key for what is pickled that is nobody's."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "TSFLEET_KEY_FILE": str(folder.parent / "key")}


def tsfleet(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs.cli", *words],
        check=False,
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=300,
    )


@dataclass
class Walk:
    """The store, and what each command said, after ingest, train and forecast."""

    store: Store
    done: dict[str, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    folder = tmp_path_factory.mktemp("isolation") / "fleet"
    faulty_fleet(folder, GOOD, tuple(FAULTS), train='backoff = "0s"')
    done = {verb: tsfleet(folder, verb) for verb in ("ingest", "train", "forecast")}
    with Store.open(folder / "faulty.store") as store:
        yield Walk(store, done)


def outcomes(store: Store, job: str) -> list[tuple[str, str, str | None]]:
    rows = store.sql("select asset_id, status, cause from outcomes where job = $job", {"job": job}).rows()
    return sorted((row["asset_id"], row["status"], row["cause"]) for row in rows)


def expected() -> list[tuple[str, str, str | None]]:
    good: list[tuple[str, str, str | None]] = [(f"good-{number:03d}", "ok", None) for number in range(GOOD)]
    return sorted([*good, *((name, "fell_back", cause) for name, cause in FAULTS.items())])


def test_ten_faults_are_ten_outcomes_with_their_causes(walk: Walk) -> None:
    done = walk.done["train"]
    assert outcomes(walk.store, "cli:train") == expected()
    assert done.returncode == 1, done.stderr
    assert "200 assets, ok 190, fell back 10" in done.stderr
    assert "Traceback" not in done.stderr


def test_each_fault_has_one_failed_run_that_says_why(walk: Walk) -> None:
    rows = walk.store.runs("status = 'failed'").to_dict("records")
    errors = {row["asset_id"]: row["error"] for row in rows}
    assert sorted(row["asset_id"] for row in rows) == sorted(FAULTS)
    assert errors["exit"] == "the worker process died (exit code 7)"
    assert errors["segfault"] == "the worker process died (SIGSEGV)"
    assert errors["kill"] == "the worker process died (SIGKILL)"
    assert errors["hang"] == "not done within 2 s ([train] timeout)"
    assert errors["hog"].endswith("its worker may take 300 MB ([train] memory)")


def test_every_asset_has_a_forecast_of_its_champion_or_of_its_fallback(walk: Walk) -> None:
    done = walk.done["forecast"]
    assert done.returncode == 1, done.stderr
    assert outcomes(walk.store, "cli:forecast") == expected()
    rows = walk.store.sql(
        "select asset_id, recipe, role, count(*) as n from published where isfinite(mean) group by all"
    ).rows()
    assert Counter((row["recipe"], row["role"], row["n"]) for row in rows) == {
        ("moody", "champion", 24): GOOD,
        ("daily_naive", "fallback", 24): len(FAULTS) - 1,
        ("last_resort", "fallback", 24): 1,  # half a day of readings is too little for yesterday's
    }


SCRIPT = """
from fleet import Fleet
with Fleet.open("fleet.toml") as fleet:
    print("begun")
    fleet.ingest()
    report = fleet.train(promote=True)
    print(report.ok, report.fell_back, [str(group.cause) for group in report.failures])
"""


@pytest.mark.parametrize("how", ["file", "standard input"])
def test_a_script_needs_no_main_guard_and_runs_once(tmp_path: Path, how: str) -> None:
    faulty_fleet(tmp_path, 3, ("exit",), train='backoff = "0s"')
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py" if how == "file" else "-"],
        check=False,
        cwd=tmp_path,
        env=environment(tmp_path),
        input=None if how == "file" else SCRIPT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout == "begun\n3 1 ['crashed']\n", done.stderr
    assert done.stderr == ""
