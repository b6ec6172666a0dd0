"""`tsfleet store upkeep` and `expire`: what they do, told as rows or as JSON; no answer changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.cli.exits import Exit
from tests.jobs.test_verbs import Typed


@pytest.fixture
def typed(folder: Path, capsys: pytest.CaptureFixture[str]) -> Typed:
    return Typed(capsys)


def test_upkeep_by_hand_tidies_and_says_so(typed: Typed) -> None:
    typed("ingest")
    before = typed.json("sql", "select count(*) as n, sum(y) as y from actuals")
    done = typed.json("store", "upkeep")
    assert set(done) == {"flushed", "merged", "folded", "collected", "freed", "bytes", "seconds"}
    assert sum(done["flushed"].values()) > 0
    assert typed.json("sql", "select count(*) as n, sum(y) as y from actuals") == before
    info = typed.json("store", "info")
    assert sum(info["hot"].values()) == 0
    assert info["levels"]["actuals"]
    assert (info["oldest"], info["readers"]) == (0, 0)
    typed("store", "upkeep")
    assert "flushed 0 rows" in typed.err


def test_expire_ends_what_is_older_and_refuses_what_is_no_time(typed: Typed) -> None:
    typed("ingest")
    typed("store", "expire", "--before", "yesterday", code=Exit.USAGE)
    typed("store", "expire", "--before", "2000-01-01T00:00Z", code=Exit.USAGE)
    before = typed.json("sql", "select count(*) as n from actuals")
    typed("store", "expire", "--before", "2999-01-01T00:00Z")
    assert typed.json("store", "info")["oldest"] == typed.json("store", "info")["head"]
    assert typed.json("sql", "select count(*) as n from actuals") == before


def test_verify_exits_with_what_it_found(typed: Typed, folder: Path) -> None:
    typed("ingest")
    typed("store", "upkeep")
    found = typed.json("store", "verify")
    assert (found["ok"], found["damages"], found["digests"]) == (True, [], True)
    assert found["segments"] > 0
    typed("store", "verify")
    assert "all is as it was written" in typed.err
    segment = next((folder / "small.store" / "segments" / "actuals").iterdir())
    data = bytearray(segment.read_bytes())
    data[100] ^= 1
    segment.write_bytes(data)
    found = typed.json("store", "verify", code=Exit.PARTLY)
    (damage,) = found["damages"]
    assert (damage["file"], damage["table"]) == (str(segment), "actuals")
    assert damage["from"].startswith("2024-")
    assert len(damage["assets"]) == 2
    typed("store", "verify", code=Exit.PARTLY)
    assert "restore" in typed.err


def test_backup_restore_and_export(typed: Typed, folder: Path, tmp_path: Path) -> None:
    typed("ingest")
    before = typed.json("sql", "select count(*) as n, sum(y) as y from actuals")
    kept, again = str(tmp_path / "kept"), str(tmp_path / "again")
    done = typed.json("store", "backup", kept)
    assert done["bytes"] > 0
    assert done["seconds"] > 0
    assert done["linked"] == 0
    typed("store", "backup", kept, code=Exit.USAGE)
    typed("store", "backup", again, "--previous", kept)
    (folder / "small.store").rename(folder / "broken")
    typed("store", "restore", kept, "small.store")
    assert typed.json("sql", "select count(*) as n, sum(y) as y from actuals") == before
    told = typed.json("store", "export", str(tmp_path / "plain"), "--tables", "actuals,assets")
    assert told["rows"]["actuals"] == before[0]["n"]
    typed("store", "export", str(tmp_path / "plain"), code=Exit.USAGE)
    typed("store", "export", str(tmp_path / "other"), "--tables", "nothing", code=Exit.USAGE)
