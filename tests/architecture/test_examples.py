"""The Python and SQL that the README shows run, on the demo's folder with its two fastest recipes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

from jobs.cli.exits import Exit
from jobs.cli.main import run
from jobs.demo import ISSUE_TIME, deliver, lay_out
from tests.architecture.test_documents import blocks


def without(config: str, recipes: tuple[str, ...]) -> str:
    """A configuration without some recipes."""
    for name in recipes:
        config = re.sub(rf"^\[recipes\.{name}\].*?(?=^\[)", "", config, flags=re.MULTILINE | re.DOTALL)
    return config


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds a finished tsfleet-demo, of a few buildings."""
    from fleet import Fleet

    home = tmp_path_factory.mktemp("reader")
    folder = home / "tsfleet-demo"
    lay_out(folder)
    config = (folder / "fleet.toml").read_text(encoding="utf-8")
    (folder / "fleet.toml").write_text(without(config, ("theta", "ridge", "gbm")), encoding="utf-8")
    with Fleet.open(folder / "fleet.toml") as fleet:
        fleet.ingest()
        some = ("b1*", "b20")
        fleet.train(select=some, promote=True, workers=1)
        fleet.forecast(select=some, issue_time=ISSUE_TIME, workers=1)
        deliver(folder)
        fleet.ingest()
        fleet.score()
    return home


def test_the_notebook_examples_run(
    demo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(demo)
    shown = [block for block in blocks("README.md", "python") if "models.py" not in block]
    assert shown
    for block in shown:
        exec(compile(block, "README.md", "exec"), {})  # noqa: S102  # the point of the test
    assert "my-idea" in capsys.readouterr().out


def test_the_questions_are_answered(
    demo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(demo / "tsfleet-demo")
    lines = [
        line for block in blocks("README.md", "sh") for line in block.splitlines() if line.startswith("tsfleet sql")
    ]
    assert len(lines) >= 4
    for line in lines:
        assert run(shlex.split(line, comments=True)[1:]) == Exit.OK, capsys.readouterr().err
        assert "no rows" not in capsys.readouterr().err, line


def test_the_model_of_ones_own_forecasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fleet.task import Task

    (block,) = (block for block in blocks("README.md", "python") if "models.py" in block)
    made: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), made)  # noqa: S102  # the point of the test
    hours = pd.date_range("2024-01-01", periods=72, freq="h", tz="UTC")
    y = pd.Series([float(hour) for hour in hours.hour], index=hours)
    target = pd.date_range(hours[-1] + pd.Timedelta("1h"), periods=24, freq="h")
    forecast = made["typical_hour"](y, None, Task(target=target, freq="1h"))  # type: ignore[operator]
    assert forecast["mean"].tolist() == [float(hour) for hour in target.hour]


def test_the_first_steps_with_own_data_are_commands_that_parse() -> None:
    """Each option that the README types exists."""
    from jobs.cli.main import app

    lines = [line for block in blocks("README.md", "sh") for line in block.splitlines() if line.startswith("tsfleet ")]
    for line in lines:
        for command in re.split(r"&&", line):
            words = shlex.split(command, comments=True)[1:]
            app.parse_args(words, exit_on_error=False, print_error=False)
