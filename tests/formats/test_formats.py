"""Stores written by each format, kept as they were: opened, read and written for ever, on a copy."""

from __future__ import annotations

import json
import shutil
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from store import FixedClock, Store
from store.catalog import FORMAT
from store.errors import CommitConflict, FormatTooNew
from tests.formats.__main__ import main
from tests.formats.asking import asked
from tests.store.rows import START, insert, reading, readings, replace, values

HERE = Path(__file__).parent
KEPT = sorted(path.parent for path in HERE.glob("v*/expected.json"))


@pytest.fixture(params=KEPT, ids=lambda path: path.name)
def kept(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture
def expected(kept: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((kept / "expected.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture
def copy(kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kept / "store", tmp_path / "s"))


def opened(path: Path) -> Store:
    return Store.open(path, create=False, clock=FixedClock(START + timedelta(days=300)))


def as_told(store: Store, expected: dict[str, Any]) -> dict[str, Any]:
    """The answers of then, asked now."""
    now: dict[str, Any] = json.loads(json.dumps(asked(store, expected["columns"], expected["head"])))
    return now


def test_this_release_has_kept_a_store_of_its_format() -> None:
    assert f"v{FORMAT}" in {path.name for path in KEPT}


def test_what_is_kept_is_small_and_needs_no_log(kept: Path) -> None:
    files = [path for path in kept.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 500_000
    assert not [path for path in files if path.name.endswith(("-wal", "-shm", ".tmp", "lock"))]


def test_a_kept_store_answers_as_it_did(copy: Path, expected: dict[str, Any]) -> None:
    with Store.open(copy, create=False, read_only=True) as store:
        assert as_told(store, expected) == expected


def test_a_kept_store_is_written_tidied_and_still_answers_as_it_did(copy: Path, expected: dict[str, Any]) -> None:
    head = expected["head"]
    with opened(copy) as store:
        assert replace(store, "actuals", [reading("plant-é", 0, 1.5, known=9_500)]).snapshot == head + 1
        insert(store, "actuals", readings(2, 3_000))
        insert(store, "alerts", [{"alert_id": "new"}])
        txn = store.begin()
        txn.insert("forecasts", [])
        (sha,) = txn.put_blobs([b"another model"])
        txn.commit()
        assert as_told(store, expected) == expected
        store.upkeep(fold_after=timedelta(days=1_000), grace=timedelta(0))
        assert as_told(store, expected) == expected
    with opened(copy) as store:
        assert as_told(store, expected) == expected
        assert values(store, "plant-é")[0] == 1.5
        assert store.blob(sha) == b"another model"
        assert store.verify().ok


def test_a_commit_that_a_kept_store_has_is_not_done_twice(copy: Path, expected: dict[str, Any]) -> None:
    with opened(copy) as store:
        txn = store.begin(commit_id="job/0")
        txn.insert("alerts", [{"alert_id": "other"}])
        with pytest.raises(CommitConflict):
            txn.commit()
        assert store.committed("job/0") == expected["commit ids"][0]


def test_a_kept_store_is_backed_up_as_it_is(copy: Path, expected: dict[str, Any], tmp_path: Path) -> None:
    with Store.open(copy, create=False, read_only=True) as store:
        store.backup(tmp_path / "backup")
    with Store.open(tmp_path / "backup", create=False, read_only=True) as store:
        assert as_told(store, expected)["views"] == expected["views"]


@pytest.mark.parametrize("read_only", [True, False])
def test_a_store_of_the_next_format_is_refused_and_left_alone(copy: Path, read_only: bool) -> None:
    connection = sqlite3.connect(copy / "catalog.sqlite")
    connection.execute("UPDATE meta SET value = ? WHERE key = 'format'", (str(FORMAT + 1),))
    connection.commit()
    connection.close()
    before = (copy / "catalog.sqlite").read_bytes()
    with pytest.raises(FormatTooNew) as caught:
        Store.open(copy, read_only=read_only)
    assert str(FORMAT + 1) in caught.value.message
    assert caught.value.hint
    assert (copy / "catalog.sqlite").read_bytes() == before


def test_what_is_kept_is_never_made_anew(kept: Path) -> None:
    before = {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()}
    for words in ([kept.name], []):
        with pytest.raises(SystemExit, match="usage"):
            main(words)
    assert {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()} == before
