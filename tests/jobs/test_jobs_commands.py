"""`tsfleet jobs`: what is typed by hand goes the way of the scheduler."""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from jobs.cli.exits import Exit
from jobs.cli.main import run
from store import Store

CONFIG = """
[fleet]
name = "typed"
store = "typed.store"
horizon = 24
[data]
path = "none.parquet"
[jobs.a]
kind = "MODULE:run"
cron = "0 3 * * *"
[jobs.b]
kind = "MODULE:run"
after = "a"
[jobs.broken]
kind = "nowhere:run"
every = "1d"
"""
KIND = """
from jobs.work import Done


def run(work):
    return Done(status="ok", assets=2, ok=2)
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    module = f"typed_{blake2b(str(tmp_path).encode(), digest_size=6).hexdigest()}"
    (tmp_path / f"{module}.py").write_text(KIND, encoding="utf-8")
    (tmp_path / "fleet.toml").write_text(CONFIG.replace("MODULE", module), encoding="utf-8")
    Store.open(tmp_path / "typed.store").close()
    return str(tmp_path / "fleet.toml")


def typed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any, str]:
    code = run(["jobs", *words, "--json"])
    told = capsys.readouterr()
    return code, json.loads(told.out) if told.out else None, told.err


def test_a_slot_is_run_once_and_anew_on_purpose(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("run", "a", "--slot", "2024-06-10T03:00Z", "-c", config)
    code, found, _ = typed(capsys, *words)
    assert (code, found[0]["status"], found[0]["ok"]) == (Exit.OK, "ok", 2)
    code, found, said = typed(capsys, *words)
    assert (code, found) == (Exit.OK, None)
    assert "--again" in said
    typed(capsys, *words, "--again")
    _, shown, _ = typed(capsys, "show", "a", "-c", config)
    assert [(row["slot"], row["revision"], row["status"]) for row in shown] == [("2024-06-10T03:00:00Z", 1, "ok")]


def test_a_backfill_runs_what_is_not_done(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    stretch = ("--from", "2024-06-01T00:00Z", "--to", "2024-06-04T03:00Z", "-c", config)
    typed(capsys, "run", "a", "--slot", "2024-06-02T03:00Z", "-c", config)
    _, planned, _ = typed(capsys, "backfill", "a", *stretch, "--dry-run")
    assert [row["slot"][:10] for row in planned] == ["2024-06-01", "2024-06-02", "2024-06-03", "2024-06-04"]
    assert run(["jobs", "backfill", "a", *stretch]) == Exit.OK
    capsys.readouterr()
    _, shown, _ = typed(capsys, "show", "a", "-c", config)
    assert [(row["slot"][8:10], row["revision"], row["attempt"]) for row in shown] == [
        ("04", 0, 1), ("03", 0, 1), ("02", 0, 1), ("01", 0, 1),
    ]  # fmt: skip
    assert run(["jobs", "backfill", "b", *stretch]) == Exit.USAGE


def test_a_kind_that_cannot_be_loaded_is_a_failed_run_with_its_reason(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found, _ = typed(capsys, "run", "broken", "-c", config)
    assert (code, found[0]["status"]) == (Exit.PARTLY, "failed")
    assert "nowhere:run" in found[0]["error"]
    assert "forecast" in found[0]["error"]  # what is accepted
    code, told, _ = typed(capsys, "health", "-c", config)
    assert code == Exit.PARTLY
    assert {row["job"]: row["state"] for row in told} == {"a": "new", "b": "new", "broken": "failed"}
    assert typed(capsys, "ls", "-c", config)[0] == Exit.OK


def test_what_has_failed_is_gone_on_with(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    typed(capsys, "run", "broken", "-c", config)
    path = Path(config)
    module = next(path.parent.glob("typed_*.py")).stem
    path.write_text(path.read_text(encoding="utf-8").replace("nowhere:run", f"{module}:run"), encoding="utf-8")
    code, found, _ = typed(capsys, "resume", "broken", "-c", config)
    assert (code, found[0]["status"]) == (Exit.OK, "ok")
    assert typed(capsys, "cancel", "broken", "-c", config)[0] == Exit.OK
    assert [row["attempt"] for row in typed(capsys, "show", "broken", "-c", config)[1]] == [2]


def test_the_next_slots_come_in_their_order(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, found, _ = typed(capsys, "next", "-n", "4", "-c", config)
    assert len(found) == 4
    assert [row["slot"] for row in found] == sorted(row["slot"] for row in found)
    assert {row["job"] for row in found} == {"a", "broken"}


def test_a_job_that_is_not_there_is_named_with_the_nearest(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["jobs", "run", "brokn", "-c", config]) == Exit.USAGE
    assert "broken" in capsys.readouterr().err
