"""--failed, --stale, --force and --dry-run as typed, rollback, and how far a command says that it is."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from fleet.outcome import Progress
from jobs.cli import progress
from jobs.cli.exits import Exit
from tests.jobs.typed import Typed


@pytest.fixture
def typed(folder: Path, capsys: pytest.CaptureFixture[str]) -> Typed:
    return Typed(capsys)


def head(typed: Typed) -> int:
    return int(typed.json("store", "info")["head"])


def two_readings(folder: Path) -> None:
    """An asset that is too young for every recipe."""
    times = pd.date_range("2024-03-28", periods=2, freq="h", tz="UTC")
    pd.DataFrame({"unique_id": "tiny", "ds": times, "y": 1.0}).to_parquet(folder / "data" / "tiny.parquet")


def test_what_fails_is_summed_up_by_cause_with_the_command_that_retries_it(folder: Path, typed: Typed) -> None:
    two_readings(folder)
    typed("ingest")
    typed("train", code=Exit.PARTLY)
    assert "too_short" in typed.out
    assert "tiny" in typed.out
    assert typed.err.splitlines()[-1] == "retry: tsfleet train --failed"
    report = typed.json("train", "--failed", code=Exit.PARTLY)
    assert (report["assets"], report["fell_back"], report["retry"]) == (1, 1, "tsfleet train --failed")
    assert typed.json("forecast", code=Exit.PARTLY)["retry"] == "tsfleet forecast --failed"


def test_nothing_due_is_exit_0_and_says_so(fed: Typed) -> None:
    fed("train")
    fed("forecast")
    before = head(fed)
    for words, says in {
        ("train", "--failed"): "train: nothing is due: no asset failed or fell back the last time",
        ("train", "--stale"): "train: nothing is due: no champion is stale",
        ("train", "--failed", "--stale"): "the last time, no champion is stale",
        ("backtest", "--failed"): "backtest: nothing is due",
        ("forecast", "--failed"): "forecast: nothing is due",
    }.items():
        fed(*words)
        assert says in fed.err
        assert fed.json(*words)["assets"] == 0
    assert head(fed) == before


def test_a_selection_that_matches_nothing_is_exit_3_whatever_is_due(fed: Typed) -> None:
    fed("train", "--failed", "--select", "west-*", code=Exit.NOTHING_SELECTED)
    fed("train", "--dry-run", "--where", "region = 'west'", code=Exit.NOTHING_SELECTED)
    fed("train", "--where", "", code=Exit.USAGE)
    assert "where is empty" in fed.err


def test_a_dry_run_tells_and_writes_nothing(folder: Path, fed: Typed) -> None:
    before = head(fed)
    assert fed.json("train", "--dry-run") == [
        {"act": "judge", "recipe": "day", "assets": 3},
        {"act": "judge", "recipe": "week", "assets": 3},
        {"act": "fit", "recipe": None, "assets": 3},
    ]
    fed("train", "--dry-run")
    assert "3 of 3 assets; nothing was written" in fed.err
    assert fed.json("forecast", "--dry-run") == [{"act": "issue", "recipe": None, "assets": 3}]
    assert fed.json("backtest", "--dry-run", "--recipes", "day") == [{"act": "judge", "recipe": "day", "assets": 3}]
    assert head(fed) == before
    fed("train")
    assert fed.json("train", "--dry-run") == []
    assert len(fed.json("train", "--dry-run", "--force")) == 3


def test_a_dry_run_makes_no_store(folder: Path, typed: Typed) -> None:
    typed("train", "--dry-run", code=Exit.USAGE)
    assert "tsfleet ingest" in typed.err
    assert not (folder / "small.store").exists()


def test_force_does_again_what_is_unchanged(fed: Typed) -> None:
    fed("train")
    assert fed.json("train")["skipped"] == 3
    assert fed.json("train", "--force")["rows"]["runs"] == 9


def test_rollback_by_hand_is_an_outcome_per_asset(typed: Typed) -> None:
    for words in (("ingest",), ("train", "--no-judge"), ("promote", "day")):
        typed(*words)
    now = typed.json("sql", "select max(since) as at from champions")[0]["at"]
    typed("promote", "week", "--select", "north-*")
    report = typed.json("rollback", "--reason", "too high", code=Exit.PARTLY)
    assert (report["ok"], report["failed"]) == (2, 1)
    assert report["failures"][0]["asset_id"] == "south-1"
    recipes = typed.json("sql", "select distinct recipe from champions")
    assert recipes == [{"recipe": "day"}]
    assert typed.json("sql", "select count(*) as n from decisions where verdict = 'rolled_back'") == [{"n": 2}]
    typed("promote", "week")
    assert typed.json("rollback", "--since", now)["ok"] == 3
    typed("rollback", "--since", "yesterday", code=Exit.USAGE)
    typed("rollback", "--to", "nothing", code=Exit.USAGE)
    assert "there is no version" in typed.err


# -- how far it is -------------------------------------------------------------------------------------------------


def test_a_command_that_takes_long_says_so_before_its_first_asset(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.01)
    end, heard = time.monotonic() + 20, ""
    with progress.shown("train") as show:
        assert show is not None
        while "reading" not in heard and time.monotonic() < end:
            threading.Event().wait(0.01)
            heard += capsys.readouterr().err
        show(Progress(done=30, total=90, ok=28, failed=2, seconds=10.0, doing="fitting"))
        while "fitting" not in heard and time.monotonic() < end:
            threading.Event().wait(0.01)
            heard += capsys.readouterr().err
    assert "train: reading, 0 s" in heard
    assert "train: fitting, 30 of 90  ok 28, failed 2  3.0/s, 20 s left" in heard


def test_on_a_terminal_a_bar_is_drawn_and_taken_away(folder: Path, fed: Typed) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "jobs.cli", "backtest"]
    process = subprocess.Popen(command, stderr=theirs, stdout=subprocess.DEVNULL, env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    drawn = b""
    while True:
        try:
            read = os.read(ours, 65536)
        except OSError:  # Linux tells so that the other side is closed
            break
        if not read:
            break
        drawn += read
    os.close(ours)
    assert process.wait() == 0
    text = drawn.decode()
    assert "backtest: judging" in text
    assert "3/3" in text
    assert "backtest: 3 assets, ok 3" in text.splitlines()[-1]
