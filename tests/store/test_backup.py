"""A backup of a live store opens, holds one commit's state and is whole; what cannot be whole is not there."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from store import FixedClock, Store
from store.errors import AlreadyExists, Damaged, NotFound, StoreError
from store.merging import FAN_IN
from tests.store.rows import insert, reading, readings, values
from tests.store.test_processes import WRITER, finish, start, whole_commits
from tests.store.test_verify import flipped, written


def names(path: Path) -> set[str]:
    return {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}


def rows(store: Store) -> list[list[dict[str, object]]]:
    views = ("actuals", "actuals_all", "versions", "forecasts", "champions_all")
    return [store.sql(f"select * from {name}__v order by all").rows() for name in views]


def test_a_backup_opens_and_answers_as_the_store_did(store: Store, tmp_path: Path) -> None:
    written(store)
    sha = store.table("versions", columns=["sha256"]).column("sha256")[0].as_py()
    done = store.backup(tmp_path / "kept" / "today")
    assert (done.snapshot, done.linked) == (store.head(), 0)
    assert done.bytes == sum(p.stat().st_size for p in done.path.rglob("*") if p.is_file())
    assert done.files == len(names(done.path)) == 3
    before = rows(store)
    insert(store, "actuals", [reading("later", 0, 1.0)])
    with Store.open(done.path) as kept:
        assert rows(kept) == before
        assert kept.blob(sha) == store.blob(sha)
        assert kept.at(1).table("actuals").num_rows == 6_000
        assert kept.verify().ok
        insert(kept, "actuals", [reading("own", 0, 1.0)])
        assert kept.verify().ok
    assert values(store, "own") == []


def test_a_backup_goes_only_where_nothing_is(store: Store, tmp_path: Path) -> None:
    insert(store, "actuals", [reading("a", 0, 1.0)])
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    store.backup(tmp_path / "empty")
    for place in (tmp_path / "full", tmp_path / "empty", tmp_path / "full" / "thesis.tex"):
        with pytest.raises(AlreadyExists):
            store.backup(place)
    with pytest.raises(StoreError):
        store.backup(store.path / "within")
    with pytest.raises(NotFound):
        store.backup(tmp_path / "new", previous=tmp_path / "none")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "full", "grid.store"]


def test_a_second_backup_shares_what_the_first_has_and_what_is_still_whole(store: Store, tmp_path: Path) -> None:
    insert(store, "actuals", readings(6, 1_000))
    insert(store, "actuals", readings(6, 1_000, first=10))
    store.backup(tmp_path / "one")
    insert(store, "actuals", readings(6, 1_000, first=20))
    flipped(min((tmp_path / "one" / "segments" / "actuals").iterdir()), 50)
    done = store.backup(tmp_path / "two", previous=tmp_path / "one")
    assert (done.files, done.linked) == (4, 1)
    with Store.open(tmp_path / "two", read_only=True) as kept:
        assert kept.table("actuals").num_rows == 18_000
        assert kept.verify().ok


@pytest.mark.parametrize("what", ["segments", "packs", "missing", "catalog"])
def test_a_damaged_store_is_not_backed_up_as_if_it_were_whole(store: Store, tmp_path: Path, what: str) -> None:
    written(store)
    if what == "catalog":
        store.close()
        data = bytearray((store.path / "catalog.sqlite").read_bytes())
        place = data.index(b"a note")
        data[place] ^= 1
        (store.path / "catalog.sqlite").write_bytes(data)
    else:
        path = next(p for p in (store.path / ("packs" if what == "packs" else "segments")).rglob("*.*"))
        path.unlink() if what == "missing" else flipped(path, 40)
    with Store.open(store.path, read_only=True) as opened, pytest.raises(Damaged):
        opened.backup(tmp_path / "kept")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["grid.store"]


def test_restore_is_a_verified_copy_back(store: Store, tmp_path: Path) -> None:
    written(store)
    before = rows(store)
    store.backup(tmp_path / "kept")
    with pytest.raises(AlreadyExists):
        Store.restore(tmp_path / "kept", store.path)
    store.close()
    store.path.rename(tmp_path / "broken")
    done = Store.restore(tmp_path / "kept", store.path)
    assert (done.path, done.files) == (store.path, 3)
    with Store.open(store.path) as back:
        assert rows(back) == before
        assert insert(back, "actuals", [reading("a", 5, 1.0)]).snapshot == done.snapshot + 1
    flipped(next((tmp_path / "kept" / "packs").iterdir()), 30)
    with pytest.raises(Damaged):
        Store.restore(tmp_path / "kept", tmp_path / "again")
    with pytest.raises(NotFound):
        Store.restore(tmp_path / "nothing", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_upkeep_deletes_nothing_that_a_backup_is_copying(
    store: Store, clock: FixedClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A merge and a collection run between the backup's reading of the catalog and its first copy."""
    from store import backing

    for turn in range(FAN_IN - 1):
        insert(store, "actuals", readings(6, 1_000, first=10 * turn))
    named = backing._named
    with Store.open(store.path, clock=clock) as other:

        def tidied(source: Path, folder: Path) -> object:
            found = named(source, folder)
            insert(other, "actuals", readings(6, 1_000, first=500))
            assert other.upkeep(grace=timedelta(0)).collected == 0
            assert other.info().retired == FAN_IN
            return found

        monkeypatch.setattr(backing, "_named", tidied)
        done = store.backup(tmp_path / "kept")
        assert other.upkeep(grace=timedelta(0)).collected == FAN_IN
    with Store.open(done.path, read_only=True) as kept:
        assert kept.table("actuals").num_rows == 6_000 * (FAN_IN - 1)
        assert kept.verify().ok


def test_backups_beside_writers_hold_whole_commits_only(tmp_path: Path) -> None:
    path = tmp_path / "s"
    Store.open(path).close()
    writers = [start(WRITER, path, name, 15) for name in ("one", "two")]
    kept = []
    with Store.open(path, read_only=True) as looking:
        while any(writer.poll() is None for writer in writers):
            kept.append(looking.backup(tmp_path / f"kept-{len(kept)}"))
        acknowledged = {line for writer in writers for line in finish(writer).split()}
        kept.append(looking.backup(tmp_path / "last"))
    assert len(kept) > 2
    for one in kept[:: max(len(kept) // 5, 1)]:
        with Store.open(one.path, read_only=True) as backup:
            assert backup.head() == one.snapshot
            assert whole_commits(backup) <= acknowledged
    with Store.open(tmp_path / "last", read_only=True) as backup:
        assert whole_commits(backup) == acknowledged


# ----------------------------------------------------------------------------------------------------------- export


def test_an_export_is_read_by_pandas_and_duckdb_without_us(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.exporting.FILE_ROWS", 2_500)
    monkeypatch.setattr("store.exporting.ROW_GROUP", 1_000)
    written(store)
    done = store.export(tmp_path / "plain")
    assert done.rows["actuals"] == store.table("actuals").num_rows
    files = sorted((tmp_path / "plain" / "actuals").iterdir())
    assert len(files) == 3
    frame = pd.concat([pd.read_parquet(file) for file in files])
    assert frame.y.tolist() == store.table("actuals").column("y").to_pylist()
    pattern = str(tmp_path / "plain" / "actuals_all" / "*.parquet")
    found = duckdb.sql(f"select count(*), sum(y) from '{pattern}'").fetchall()
    assert found[0][0] == 6_003
    told = json.loads((tmp_path / "plain" / "export.json").read_text())
    assert told["snapshot"] == store.head()
    assert told["views"]["actuals"]["files"] == [f"actuals/{file.name}" for file in files]
    assert told["views"]["forecasts"]["columns"]["q10"] == "double"
    empty = pd.read_parquet(tmp_path / "plain" / "alerts")
    assert (len(empty), "severity" in empty.columns) == (0, True)


def test_an_export_may_name_views_and_a_snapshot(store: Store, tmp_path: Path) -> None:
    first = insert(store, "actuals", [reading("a", 0, 1.0)]).snapshot
    insert(store, "actuals", [reading("a", 1, 2.0)])
    done = store.export(tmp_path / "plain", ["actuals"], at=first)
    assert (done.rows, done.files, done.snapshot) == ({"actuals": 1}, 1, first)
    assert sorted(p.name for p in (tmp_path / "plain").iterdir()) == ["actuals", "export.json"]
    with pytest.raises(NotFound):
        store.export(tmp_path / "other", ["nothing"])
    with pytest.raises(AlreadyExists):
        store.export(tmp_path / "plain")
    assert not (tmp_path / "other").exists()
