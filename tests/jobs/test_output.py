"""Where the output goes may be narrow, full or closed: that is one line, and no bug."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.cli.exits import Exit
from jobs.cli.main import run
from tests.walks.small import fleet_in, hourly

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
[fleet]
horizon = 24
seasons = [24]

[data]
path = "readings.parquet"

[recipes.day]
adapter = "seasonal_naive"
season = 24
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("output") / "fleet"
    home.mkdir()
    hourly(("plain", "häuser …"), 5).to_parquet(home / "readings.parquet")
    with fleet_in(home, CONFIG) as fleet:
        fleet.ingest()
    return home


def typed(folder: Path, words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """A line of a shell; `tsfleet` in it is this tree's."""
    line = words.replace("tsfleet", f"'{sys.executable}' -m jobs.cli")
    return subprocess.run(
        ["sh", "-c", line], check=False, cwd=folder, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), **more},
    )  # fmt: skip


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("words", ["status", "status --json", "sql 'select * from actuals' --json"])
def test_a_full_disk_loses_the_output_and_says_so(folder: Path, words: str) -> None:
    done = typed(folder, f"tsfleet {words} > /dev/full")
    assert done.returncode == 5
    assert done.stderr.splitlines() == [
        "tsfleet: the output cannot be written: No space left on device",
        "  hint: what the command did is done; send its output elsewhere",
    ]


@pytest.mark.parametrize("words", ["tsfleet status >&-", "tsfleet status >&- 2>&-", "tsfleet nothing 2>&-"])
def test_closed_streams_lead_nowhere(folder: Path, words: str) -> None:
    assert typed(folder, words).returncode == (2 if "nothing" in words else 0)


def test_a_narrow_encoding_shows_what_it_lacks_as_an_escape(folder: Path) -> None:
    done = typed(folder, "tsfleet sql 'select distinct asset_id from actuals order by 1'", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert r"h\xe4user \u2026" in done.stdout


def test_an_instant_beyond_the_calendar_is_a_question_put_wrongly(folder: Path) -> None:
    done = typed(folder, "tsfleet sql \"select timestamptz 'infinity' as x\"")
    assert done.returncode == 2
    assert done.stderr.startswith("tsfleet: an instant of the answer lies beyond the years 1 to 9999\n")


@pytest.mark.parametrize("words", ["train", "backtest", "forecast", "score", "promote day", "store flush"])
def test_only_ingest_makes_a_store(
    folder: Path, tmp_path: Path, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fleet.toml").write_text((folder / "fleet.toml").read_text())
    assert run([*words.split(), "--config", str(tmp_path)]) == Exit.USAGE
    assert "tsfleet ingest" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["fleet.toml"]
