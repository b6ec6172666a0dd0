"""What the command says of a line that does not hold: one line, a hint, and exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.cli.exits import Exit
from jobs.cli.main import app, run

COMMANDS = {
    *("adjust", "alerts", "backtest", "config", "deliver", "demo", "doctor", "forecast", "ingest", "init"),
    *("jobs", "leaderboard", "promote", "rollback", "runs", "score", "sql", "status", "store", "train", "ui", "worst"),
}


def test_the_commands_are_these() -> None:
    assert {name for name in app if not name.startswith("-")} == COMMANDS


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = {
        "adjust": ["adjust", "add"],
        "alerts": ["alerts", "ls"],
        "config": ["config", "show"],
        "deliver": ["deliver", "send"],
        "jobs": ["jobs", "run"],
        "store": ["store", "info"],
        "ui": ["ui", "token", "add"],
    }.get(command, [command])
    assert run([*words, "--help"]) == Exit.OK
    out = capsys.readouterr().out
    assert "For example" in out
    assert f"tsfleet {' '.join(words)}" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trian"], "train"),
        (["train", "--forse"], "--force"),
        (["leaderboard", "--role", "past"], "backtest"),
        (["worst", "-n", "many"], "many"),
        (["promote"], "RECIPE"),
        (["sql"], "QUERY"),
        (["config"], "show"),
    ],
)
def test_a_wrong_line_is_one_line_and_a_hint(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == (Exit.OK if words == ["config"] else Exit.USAGE)
    out = capsys.readouterr()
    assert says.lower() in (out.err + out.out).lower()
    if words != ["config"]:
        assert len(out.err.splitlines()) == 2
        assert "Traceback" not in out.err


def test_no_fleet_here_is_a_usage_error_that_names_init(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TSFLEET_CONFIG", raising=False)
    assert run(["train"]) == Exit.USAGE
    assert "tsfleet init" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


BROKEN = """
import sys
from jobs.cli import main
def broken(words):
    raise ZeroDivisionError("x")
main.run = broken
main.main()
"""


@pytest.mark.parametrize("words", [(), ("--debug",)], ids=["plain", "debug"])
def test_an_error_nobody_foresaw_is_one_line_and_exit_70(tmp_path: Path, words: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", BROKEN, *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == Exit.BUG
    assert "ZeroDivisionError" in done.stderr
    assert ("Traceback" in done.stderr) is bool(words)


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m jobs.cli --help | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 0
    assert done.stderr == ""
