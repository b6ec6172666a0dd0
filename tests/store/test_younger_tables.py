"""A folder that an earlier release made lacks what was declared since: it reads as empty, and comes when one writes."""

from __future__ import annotations

import dataclasses
import sqlite3
from pathlib import Path

import pytest

from store import Store
from store.schema import FILED, STORED, TABLES
from tests.store.rows import START, insert, replace

RUN = {"job": "train", "slot": START, "status": "ok", "attempt": 1}


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A store with rows, of a release that knew neither alerts nor the revision of a job's run."""
    slim = dataclasses.replace(
        TABLES["job_runs"], columns=tuple(one for one in TABLES["job_runs"].columns if one.name != "revision")
    )
    with pytest.MonkeyPatch.context() as patch:
        for tables in (TABLES, STORED, FILED):
            for name in ("alerts", "alerts__replaced"):
                patch.delitem(tables, name, raising=False)
            patch.setitem(tables, "job_runs", slim)
        with Store.open(tmp_path / "s") as store:
            replace(store, "job_runs", [RUN])
            replace(store, "job_runs", [RUN | {"status": "failed"}])
    return tmp_path / "s"


def hot_tables(path: Path) -> set[str]:
    connection = sqlite3.connect(path / "catalog.sqlite")
    try:
        return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'hot%'")}
    finally:
        connection.close()


def test_a_reader_sees_an_empty_table_and_an_empty_column_and_changes_nothing(older: Path) -> None:
    with Store.open(older, read_only=True) as store:
        assert store.sql("select * from alerts").rows() == []
        assert store.sql("select status, revision from job_runs").rows() == [{"status": "failed", "revision": None}]
        assert store.info().tables["alerts"] == 0
        assert store.verify().ok
        store.backup(older.parent / "copy")
    assert "hot_alerts" not in hot_tables(older)
    with Store.open(older.parent / "copy", read_only=True) as store:
        assert store.table("job_runs").num_rows == 1


def test_the_first_commit_adds_what_is_lacking_and_the_rest_stays(older: Path) -> None:
    with Store.open(older) as store:
        replace(store, "job_runs", [RUN | {"status": "ok", "revision": 2, "slot": START.replace(year=2025)}])
        insert(store, "alerts", [{"alert_id": "a1", "text": "late"}])
        found = store.sql("select status, revision from job_runs order by slot").rows()
        assert found == [{"status": "failed", "revision": None}, {"status": "ok", "revision": 2}]
        assert store.sql("select alert_id from alerts").rows() == [{"alert_id": "a1"}]
        assert store.verify().ok
        store.upkeep()
        assert store.sql("select status, revision from job_runs order by slot").rows() == found
    assert "hot_alerts" in hot_tables(older)
    with Store.open(older) as store:
        assert store.verify().ok


def test_upkeep_of_an_older_folder_that_nobody_wrote_to_moves_its_rows(older: Path) -> None:
    with Store.open(older) as store:
        assert store.flush() == {"job_runs": 2, "job_runs__replaced": 1}
        assert store.sql("select status, revision from job_runs").rows() == [{"status": "failed", "revision": None}]


def test_what_is_added_does_not_hide_that_a_table_was_lost(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store:
        replace(store, "job_runs", [RUN])
    connection = sqlite3.connect(tmp_path / "s" / "catalog.sqlite")
    connection.execute("DROP TABLE hot_alerts")
    connection.commit()
    connection.close()
    with Store.open(tmp_path / "s") as store:
        assert not store.verify().ok
        replace(store, "job_runs", [RUN | {"attempt": 2}])
        assert "hot_alerts" in hot_tables(tmp_path / "s")
        assert not store.verify().ok
