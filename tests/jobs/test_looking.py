"""The commands that look: status, runs, worst, leaderboard, sql. They write nothing, and say where there is nothing."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from jobs.cli.exits import Exit
from jobs.cli.main import run
from tests.jobs.conftest import make_fleet
from tests.jobs.typed import Typed


@pytest.fixture
def typed(folder: Path, capsys: pytest.CaptureFixture[str]) -> Typed:
    return Typed(capsys)


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fleet of three that went well and one that is too young for every recipe."""
    folder = make_fleet(tmp_path_factory.mktemp("looking") / "small")
    times = pd.date_range("2024-03-28", periods=2, freq="h", tz="UTC")
    pd.DataFrame({"unique_id": "tiny", "ds": times, "y": 1.0}).to_parquet(folder / "data" / "tiny.parquet")
    for verb, code in {"ingest": Exit.OK, "train": Exit.PARTLY, "forecast": Exit.PARTLY}.items():
        assert run([verb, "--config", str(folder)]) == code
    return folder


@pytest.fixture
def judged(issued: Path, folder: Path, typed: Typed) -> Typed:
    """A copy of it, and the folder we are in."""
    shutil.copytree(issued, folder, dirs_exist_ok=True)
    return typed


def test_status_tells_states_causes_and_jobs(judged: Typed) -> None:
    found = judged.json("status")
    assert (found["assets"], found["champions"], found["stale"], found["fell_back"]) == (4, 3, 1, 1)
    assert sum(found["recipes"].values()) == 3
    assert found["states"] == {"train": {"ok": 3, "fell_back": 1}, "forecast": {"ok": 3, "fell_back": 1}}
    why = {row["verb"]: (row["cause"], row["assets"], row["asset_id"]) for row in found["failures"]}
    assert why == {"train": ("too_short", 1, "tiny"), "forecast": ("too_short", 1, "tiny")}
    assert [(job["job"], job["status"], job["ok"]) for job in found["jobs"]] == [
        ("cli:forecast", "ok", 3),
        ("cli:train", "ok", 3),
    ]
    assert found["killed"] == []
    assert found["newest_issue"] == "2024-03-29T00:00:00Z"
    judged("status")
    assert len(judged.out.splitlines()) <= 30
    for words in ("4, 3 with a champion, 1 stale", "last train", "ok 3, fell back 1", "too_short", "cli:forecast"):
        assert words in judged.out
    assert judged.err.splitlines()[-1] == "retry: tsfleet train --failed, tsfleet forecast --failed"


def test_a_fallback_of_long_ago_is_no_state_of_today(judged: Typed, folder: Path) -> None:
    times = pd.date_range("2024-03-01", periods=28 * 24, freq="h", tz="UTC")
    pd.DataFrame({"unique_id": "tiny", "ds": times, "y": range(len(times))}).to_parquet(folder / "data/tiny.parquet")
    for words in (("ingest",), ("train",), ("forecast", "--reissue")):
        judged(*words)
    assert judged.json("status")["fell_back"] == 0


def test_status_before_anything_was_done(fed: Typed) -> None:
    found = fed.json("status")
    assert (found["assets"], found["champions"], found["stale"], found["jobs"]) == (3, 0, 3, [])
    fed("status")
    assert "none yet" in fed.out


def test_runs_are_listed_newest_first_and_by_what_is_asked(judged: Typed) -> None:
    every = judged.json("runs", "-n", "100")
    assert len(every) == judged.json("sql", "select count(*) as n from runs")[0]["n"]
    assert [row["started_at"] for row in every] == sorted((row["started_at"] for row in every), reverse=True)
    assert len(judged.json("runs", "--limit", "2")) == 2
    failed = judged.json("runs", "--status", "failed")
    assert {(row["asset_id"], row["error_code"]) for row in failed} == {("tiny", "too-short")}
    north = judged.json("runs", "--select", "north-*", "--recipe", "week", "--kind", "backtest")
    assert {row["asset_id"] for row in north} == {"north-1", "north-2"}
    assert {(row["recipe"], row["kind"]) for row in north} == {("week", "backtest")}
    south = judged.json("runs", "--where", "region = 'south'", "-n", "100")
    assert {row["asset_id"] for row in south} == {"south-1"}
    judged("runs", "--status", "failed")
    assert "tiny" in judged.out
    judged("runs", "--select", "tiny", "--kind", "train")
    assert judged.err == "no such run\n"
    judged("runs", "--select", "west-*", code=Exit.NOTHING_SELECTED)
    judged("runs", "-n", "0", code=Exit.USAGE)
    judged("runs", "--where", "regoin = 'x'", code=Exit.USAGE)


def test_boards_are_cut_by_a_selection(judged: Typed) -> None:
    assert {row["assets"] for row in judged.json("leaderboard", "--select", "north-*")} == {2}
    assert {row["asset_id"] for row in judged.json("worst", "--where", "capacity > 20")} == {"south-1"}
    for verb in ("leaderboard", "worst"):
        judged(verb, "--select", "west-*", code=Exit.NOTHING_SELECTED)
        judged(verb, "--where", "", code=Exit.USAGE)


def test_a_time_without_scores_is_said_and_an_empty_one_refused(judged: Typed) -> None:
    judged("leaderboard", "--from", "2030-01-01")
    assert judged.err == "no backtest score lies in that time; there are some from 2024-03-26 to 2024-03-28\n"
    for words in (("--from", "2024-03-28", "--to", "2024-03-27"), ("--from", "2024-03-28", "--to", "2024-03-28")):
        judged("leaderboard", *words, code=Exit.USAGE)
    assert judged.json("leaderboard", "--from", "2024-03-28", "--to", "2024-03-29")


@pytest.mark.parametrize("n", ["0", "-3"])
def test_fewer_than_one_of_the_worst_is_refused(judged: Typed, n: str) -> None:
    judged("worst", "-n", n, code=Exit.USAGE)


def test_a_minus_sign_reads_the_question_from_stdin(judged: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("select count(*) as n\nfrom champions\n"))
    assert judged.json("sql", "-") == [{"n": 3}]


LOOKS = (("leaderboard",), ("worst",), ("status",), ("runs",), ("sql", "select 1 as a"), ("store", "info"))


@pytest.mark.parametrize("words", LOOKS, ids=" ".join)
def test_looking_writes_nothing_and_makes_no_store(folder: Path, typed: Typed, words: tuple[str, ...]) -> None:
    typed(*words, code=Exit.USAGE)
    assert "tsfleet ingest" in typed.err
    assert not (folder / "small.store").exists()
    typed("ingest")
    typed("train")
    store = folder / "small.store"
    before = contents(store)
    typed(*words)
    assert contents(store) == before


def contents(store: Path) -> dict[Path, bytes]:
    """Every file; SQLite's reader leaves an empty log and an index beside the catalog, which say nothing."""
    found = (path for path in store.rglob("*") if path.is_file() and not path.name.endswith(("-wal", "-shm")))
    return {path: path.read_bytes() for path in found}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_store_that_may_only_be_read_can_be_looked_at(folder: Path, judged: Typed) -> None:
    for path in (folder / "small.store").rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    judged("status")
