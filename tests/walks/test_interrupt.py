"""Ctrl-C on the command line: the first finishes what is in hand, the second ends at once; the next run completes it.

The model of the asset `gate` says that it has begun by opening one pipe, and goes on when the other one is opened: the
test knows where the command is without waiting for time to pass.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.cli.exits import Exit
from jobs.cli.main import run
from store import Store
from tests.walks.small import fleet_in, hourly

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0
ASSETS = ("a-first", "gate", *(f"z-{number:02d}" for number in range(40)))

CONFIG = """
[fleet]
horizon = 24
seasons = [24]

[data]
path = "readings.parquet"

[recipes.gated]
adapter = "MODELS:Gated"

[train]
workers = {workers}
timeout = "600s"
fallback = ["daily_naive"]
"""

GATED = """
import os
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Gated:
    def fit(self, y, X, task):
        if task.static["asset_id"] == "gate" and (HERE / "begun").exists():
            os.close(os.open(HERE / "begun", os.O_WRONLY))
            os.close(os.open(HERE / "go", os.O_RDONLY))
        return Fitted()

    def load(self, blob):
        return Fitted()


class Fitted:
    def save(self):
        return b"x"

    def predict(self, y, X, task):
        return task.frame(y.to_numpy()[-24:])
"""


@pytest.fixture(params=[1, 2])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A fleet with its data ingested, for one worker or two."""
    home = tmp_path / "fleet"
    home.mkdir()
    hourly(ASSETS, 5).to_parquet(home / "readings.parquet")
    with fleet_in(home, CONFIG.format(workers=request.param), GATED) as fleet:
        fleet.ingest()
    return home


def begun(folder: Path) -> subprocess.Popen[str]:
    """`tsfleet train --no-judge` at the moment when the gate's fit begins."""
    for name in ("begun", "go"):
        os.mkfifo(folder / name)
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", "train", "--no-judge"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    os.close(os.open(folder / "begun", os.O_RDONLY))
    return process


def press(process: subprocess.Popen[str]) -> None:
    """What a terminal does on Ctrl-C: a signal to every process of the group."""
    os.killpg(process.pid, signal.SIGINT)


def end(process: subprocess.Popen[str]) -> None:
    """What `kill` and a service manager do: a signal to the process alone."""
    process.terminate()


def fitted(folder: Path) -> list[str]:
    with Store.open(folder / "fleet.store") as store:
        return sorted(store.sql("select asset_id from versions").arrow()["asset_id"].to_pylist())


def complete(folder: Path) -> None:
    """The same command once more, in this process: it fits what is missing."""
    for name in ("begun", "go"):
        (folder / name).unlink()
    assert run(["train", "--no-judge", "--workers", "1", "--config", str(folder)]) == Exit.OK
    assert fitted(folder) == sorted(ASSETS)


@pytest.mark.parametrize("ask", [press, end])
def test_the_first_finishes_what_is_in_hand_and_says_how_to_go_on(
    folder: Path, ask: Callable[[subprocess.Popen[str]], None]
) -> None:
    with begun(folder) as process:
        ask(process)
        assert process.stderr is not None
        said = [process.stderr.readline() for _ in range(2)]
        assert said[-1] == "tsfleet: stops after what is in hand; once more stops at once\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        os.close(os.open(folder / "go", os.O_WRONLY))
        _, said = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert said.count("interrupted: ") == 1
    assert "Traceback" not in said
    assert "gate" in fitted(folder)
    assert len(fitted(folder)) < len(ASSETS)
    complete(folder)


def test_the_second_ends_at_once(folder: Path) -> None:
    with begun(folder) as process:
        press(process)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        press(process)
        _, said = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert said.count("interrupted: ") == 1
    assert "Traceback" not in said
    assert "gate" not in fitted(folder)
    complete(folder)
