from __future__ import annotations

from pathlib import Path

import pytest

from fleet.config import load
from jobs.cli.exits import Exit
from jobs.cli.main import run
from jobs.cli.template import fleet_toml


@pytest.mark.parametrize("freq", ["10min", "15min", "30min", "1h", "1D", "1W", "1MS"])
def test_the_file_that_init_writes_loads(tmp_path: Path, freq: str) -> None:
    made = tmp_path / "fleet.toml"
    made.write_text(
        fleet_toml(
            name='a "b" \\', data="m/*.csv", asset="id", time="at", target="kWh", freq=freq, timezone="Europe/Oslo"
        ),
        encoding="utf-8",
    )
    config = load(made)
    assert (config.fleet.name, config.fleet.freq, config.data.target) == ('a "b" \\', freq, "kWh")
    assert set(config.recipes) >= {"weekly_naive", "gbm"}


def test_init_makes_the_folder_and_never_overwrites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "north"
    assert run(["init", str(folder), "--freq", "15min", "--timezone", "Europe/Oslo"]) == Exit.OK
    assert load(folder).fleet.name == "north"
    (folder / "fleet.toml").write_text("mine", encoding="utf-8")
    assert run(["init", str(folder)]) == Exit.USAGE
    assert (folder / "fleet.toml").read_text(encoding="utf-8") == "mine"
    assert "exists" in capsys.readouterr().err


def test_init_writes_nothing_that_would_not_load(tmp_path: Path) -> None:
    assert run(["init", str(tmp_path / "x"), "--timezone", "Mars/Olympus"]) == Exit.USAGE
    assert not (tmp_path / "x" / "fleet.toml").exists()
