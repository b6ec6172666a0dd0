"""Every verb through the command line, on a small fleet: exit codes, JSON, what stands where."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from jobs.cli.exits import Exit
from jobs.cli.main import run
from tests.jobs.typed import Typed


@pytest.fixture
def typed(folder: Path, capsys: pytest.CaptureFixture[str]) -> Typed:
    return Typed(capsys)


def test_the_main_job_from_readings_to_scores(folder: Path, typed: Typed) -> None:
    history = pd.read_parquet("data/history.parquet")
    last_day = history.ds >= pd.Timestamp("2024-03-28", tz="UTC")
    history[~last_day].to_parquet("data/history.parquet")
    typed("ingest")
    assert typed.json("backtest")["ok"] == 3
    assert typed.json("train")["ok"] == 3
    board = typed.json("leaderboard", "--metrics", "mae,mase_24")
    assert {row["recipe"] for row in board} == {"day", "week"}
    assert all(row["assets"] == 3 and row["mae"] > 0 for row in board)
    assert typed.json("forecast")["ok"] == 3
    issued = typed.json(
        "sql", "select asset_id, issue_time, count(*) as n from forecasts where role = 'champion' group by all"
    )
    assert {(row["issue_time"], row["n"]) for row in issued} == {("2024-03-28T00:00:00Z", 24)}
    history[last_day].to_parquet("data/last.parquet")
    typed("ingest")
    typed("score")
    live = typed.json("leaderboard", "--role", "live")
    assert sum(row["assets"] for row in live) >= 3
    assert len(typed.json("worst", "-n", "2")) == 2
    assert typed.json("status")


def test_somebody_elses_forecasts_come_from_a_file(fed: Typed, tmp_path: Path) -> None:
    history = pd.read_parquet("data/history.parquet")
    history.rename(columns={"y": "mean"}).assign(issue_time=history.ds.min()).to_csv(tmp_path / "vendor.csv")
    told = fed.json("ingest", "--forecasts", str(tmp_path / "vendor.csv"), "--called", "meteo")
    assert told["written"] == {"forecasts": len(history)}
    assert "external:meteo" in told["notes"][0]
    fed("score")
    (row,) = fed.json("leaderboard", "--role", "live", "--metrics", "mae")
    assert (row["recipe"], row["mae"]) == ("external:meteo", 0.0)


def test_a_second_run_changes_nothing(typed: Typed) -> None:
    for verb in ("ingest", "train", "forecast", "score"):
        typed(verb)
    tables = ("actuals", "runs", "versions", "forecasts", "scores", "champions")
    question = "select " + ", ".join(f"(select count(*) from {table}) as {table}" for table in tables)
    before = typed.json("sql", question)
    for verb in ("ingest", "train", "forecast", "score"):
        typed(verb)
    assert typed.json("sql", question) == before


def test_a_selection_that_matches_nothing_is_exit_3(fed: Typed) -> None:
    for words in (("--select", "west-*"), ("--where", "region = 'west'")):
        fed("train", *words, code=Exit.NOTHING_SELECTED)
        assert len(fed.err.splitlines()) <= 2


def test_a_selection_is_by_glob_and_by_sql(fed: Typed) -> None:
    assert fed.json("backtest", "--select", "north-*")["assets"] == 2
    assert fed.json("backtest", "--select", "north-1", "--select", "south-1", "--where", "capacity > 20")["assets"] == 1


def test_a_condition_that_is_no_sql_is_one_line(fed: Typed) -> None:
    fed("train", "--where", "regoin = 'x'", code=Exit.USAGE)
    assert "regoin" in fed.err
    assert "Traceback" not in fed.err


def test_a_failed_asset_is_exit_1_and_named(folder: Path, typed: Typed) -> None:
    """Two readings are too few for every recipe that looks a day back."""
    short = pd.DataFrame(
        {"unique_id": "tiny", "ds": pd.date_range("2024-03-28", periods=2, freq="h", tz="UTC"), "y": 1.0}
    )
    short.to_parquet("data/tiny.parquet")
    typed("ingest")
    report = typed.json("train", code=Exit.PARTLY)
    assert report["failed"] + report["fell_back"] + report["skipped"] >= 1
    assert any(group["asset_id"] == "tiny" for group in report["failures"])


@pytest.mark.parametrize("text", ["2024-03-20", "yesterday", "2024-03-20T00:00"])
def test_an_issue_time_without_an_offset_is_refused(fed: Typed, text: str) -> None:
    fed("forecast", "--issue-time", text, code=Exit.USAGE)
    assert "--issue-time" in fed.err


def test_an_unknown_metric_names_the_nearest(fed: Typed) -> None:
    fed("backtest")
    fed("leaderboard", "--metrics", "rmes", code=Exit.USAGE)
    assert "rmse" in fed.err


def test_promote_by_hand_is_in_the_ledger(typed: Typed) -> None:
    for words in (("ingest",), ("train",), ("train", "--recipes", "week", "--no-judge")):
        typed(*words)
    typed("promote", "week", "--select", "north-1", "--reason", "meter was replaced")
    champion = typed.json("sql", "select recipe from champions where asset_id = 'north-1'")
    assert champion == [{"recipe": "week"}]
    assert (
        typed.json("sql", "select count(*) as n from decisions where reason like '%meter was replaced%'")[0]["n"] == 1
    )


def test_a_question_is_answered_as_it_was_at_a_snapshot(fed: Typed) -> None:
    head = fed.json("store", "info")["head"]
    fed("backtest")
    assert fed.json("sql", "select count(*) as n from scores", "--at", str(head)) == [{"n": 0}]
    assert fed.json("sql", "select count(*) as n from scores")[0]["n"] > 0


def test_a_question_that_is_no_sql_is_one_line(fed: Typed) -> None:
    fed("sql", "selekt 1", code=Exit.USAGE)
    assert "Traceback" not in fed.err


def test_config_show_tells_where_a_value_comes_from(folder: Path, typed: Typed) -> None:
    with (folder / "fleet.toml").open("a", encoding="utf-8") as file:
        file.write('\n[overrides."region=north".train]\nwindow = "20d"\n')
    typed("ingest")
    rows = {row["key"]: row for row in typed.json("config", "show", "north-1")}
    window = next(row for key, row in rows.items() if key.endswith("window"))
    assert "region=north" in window["from"]
    south = {row["key"]: row for row in typed.json("config", "show", "south-1")}
    assert not any("region=north" in row["from"] for row in south.values())
    typed("config", "show", "nowhere", code=Exit.USAGE)


def test_store_info_and_flush(fed: Typed) -> None:
    info = fed.json("store", "info")
    assert info["tables"]["actuals"] == 3 * 28 * 24
    fed("store", "flush")
    assert sum(fed.json("store", "info")["hot"].values()) == 0
    fed("store", "info")
    assert "actuals" in fed.out


def test_doctor_sees_adapters_and_the_fleet(fed: Typed) -> None:
    rows = {row["what"]: row for row in fed.json("doctor")}
    assert rows["adapter lightgbm"]["ok"]
    assert "small" in rows["fleet"]["found"]
    assert rows["recipe week"]["found"].startswith("seasonal_naive: tsfleet")
    assert "snapshot" in rows["store"]["found"]
    assert "rows" in rows["store"]["found"]


def test_doctor_makes_no_store(folder: Path, typed: Typed) -> None:
    rows = {row["what"]: row for row in typed.json("doctor")}
    assert rows["store"]["do"] == "tsfleet ingest"
    assert not (folder / "small.store").exists()


def test_doctor_ends_with_1_where_a_recipe_cannot_run(folder: Path, typed: Typed) -> None:
    with (folder / "fleet.toml").open("a", encoding="utf-8") as file:
        file.write('\n[recipes.mine]\nadapter = "a_file_of_nobody:Model"\n')
    rows = {row["what"]: row for row in typed.json("doctor", code=Exit.PARTLY)}
    assert not rows["recipe mine"]["ok"]
    assert "fleet.toml" in rows["recipe mine"]["do"]
    assert rows["recipe day"]["ok"]


def test_doctor_minds_a_missing_library_only_where_a_recipe_wants_it(
    folder: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "darts", None)
    rows = {row["what"]: row for row in typed.json("doctor")}
    assert rows["adapter darts"]["ok"]
    assert rows["adapter darts"]["do"] == "pip install 'tsfleet[adapters]'"
    with (folder / "fleet.toml").open("a", encoding="utf-8") as file:
        file.write('\n[recipes.other]\nadapter = "darts"\n')
    rows = {row["what"]: row for row in typed.json("doctor", code=Exit.PARTLY)}
    assert rows["recipe other"]["do"] == "pip install 'tsfleet[adapters]'"


def test_doctor_says_what_is_wrong_with_the_fleet_here(folder: Path, typed: Typed) -> None:
    (folder / "fleet.toml").write_text("[fleet]\nhorizn = 24\n", encoding="utf-8")
    typed("doctor", code=Exit.PARTLY)
    assert "horizon" in typed.out


def test_a_typo_in_the_configuration_is_one_line_with_the_nearest_key(folder: Path, typed: Typed) -> None:
    text = (folder / "fleet.toml").read_text(encoding="utf-8")
    (folder / "fleet.toml").write_text(text.replace("[train]", '[train]\ntiemout = "60s"'), encoding="utf-8")
    typed("ingest", code=Exit.USAGE)
    assert "tiemout" in typed.err
    assert "timeout" in typed.err
    assert not (folder / "small.store").exists()


@pytest.mark.slow
def test_a_store_that_another_holds_is_exit_4(folder: Path, fed: Typed) -> None:
    """The lock is the writers' flock on one file: held here, the command gives up and says so."""
    lock = next(path for path in (folder / "small.store").iterdir() if "lock" in path.name)
    with lock.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = subprocess.run(
            [sys.executable, "-m", "jobs.cli", "train"], capture_output=True, text=True, check=False, timeout=120
        )
    assert done.returncode == Exit.LOCKED, done.stderr


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(folder: Path, typed: Typed) -> None:
    """A model that presses Ctrl-C itself, so that no clock decides when."""
    (folder / "pressing.py").write_text(
        "import os, signal, pandas as pd\n"
        "def press(y, X, task):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return pd.DataFrame({'mean': 1.0}, index=task.target)\n",
        encoding="utf-8",
    )
    with (folder / "fleet.toml").open("a", encoding="utf-8") as file:
        file.write('\n[recipes.press]\nadapter = "pressing:press"\n')
    typed("ingest")
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli", "backtest", "--workers", "1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        env={**os.environ},
    )
    assert done.returncode == Exit.INTERRUPTED, done.stderr
    assert "interrupted" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_real_command_speaks_on_the_right_streams(typed: Typed) -> None:
    command = [sys.executable, "-m", "jobs.cli"]
    subprocess.run([*command, "ingest"], check=True, capture_output=True)
    done = subprocess.run([*command, "backtest", "--json"], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout)["ok"] == 3
    assert done.stderr == ""
    done = subprocess.run([*command, "leaderboard"], check=True, capture_output=True, text=True)
    assert "mae" in done.stdout


def test_doctor_finds_nothing_wrong_where_there_is_no_fleet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TSFLEET_CONFIG", raising=False)
    assert run(["doctor"]) == Exit.OK
    assert "tsfleet init" in capsys.readouterr().out
