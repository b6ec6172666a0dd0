"""A folder that cannot be written: read where that is possible, told at once where it is not."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from store import Store
from store.errors import ReadOnly
from store.files import is_local
from tests.store.rows import insert, reading, readings, values
from tests.store.test_processes import finish, start


def mounted(*command: str) -> None:
    try:
        done = subprocess.run(["mount", *command], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def seen(store: Store, tmp_path: Path) -> Iterator[Path]:
    """The folder of a store through a mount that cannot be written; it holds one segment, a blob and hot rows."""
    insert(store, "actuals", readings(6, 1_000))
    insert(store, "actuals", [reading("a", 0, 1.0)])
    txn = store.begin()
    txn.put_blobs([b"model"])
    txn.commit()
    place = tmp_path / "seen"
    place.mkdir()
    mounted("--bind", str(tmp_path), str(place))
    try:
        mounted("-o", "remount,ro,bind", str(place))
        yield place / store.path.name
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def log_of(store: Store) -> Path:
    return store.path / "catalog.sqlite-wal"


def test_a_quiet_store_is_read_where_nothing_can_be_written(store: Store, seen: Path) -> None:
    head = store.head()
    store.close()
    assert not log_of(store).exists()
    with Store.open(seen, read_only=True) as looking:
        assert looking.head() == head
        assert values(looking) == [1.0]
        assert looking.table("actuals").num_rows == 6_001
        assert looking.sql("select count(*) as n from actuals").rows() == [{"n": 6_001}]
        assert looking.info().readers == 0
        assert looking.verify().ok


def test_opening_it_for_writing_is_refused_at_once(store: Store, seen: Path) -> None:
    store.close()
    with pytest.raises(ReadOnly) as caught:
        Store.open(seen)
    assert "read_only=True" in caught.value.hint
    with pytest.raises(ReadOnly):
        Store.open(seen.parent / "another")


def test_a_live_store_is_read_through_its_log(store: Store, seen: Path) -> None:
    with Store.open(seen, read_only=True) as looking:
        assert values(looking) == [1.0]
        insert(store, "actuals", [reading("a", 1, 2.0)])
        assert values(looking) == [1.0, 2.0]


def test_a_reader_sees_that_a_quiet_store_was_written_again(store: Store, seen: Path) -> None:
    store.close()
    with Store.open(seen, read_only=True) as looking:
        assert values(looking) == [1.0]
        with Store.open(store.path) as owner:
            insert(owner, "actuals", [reading("a", 1, 2.0)])
            assert values(looking) == [1.0, 2.0]
        insert_closed(store.path)
        assert values(looking) == [1.0, 2.0, 3.0]


def insert_closed(path: Path) -> None:
    with Store.open(path) as owner:
        insert(owner, "actuals", [reading("a", 2, 3.0)])


def test_a_log_that_nobody_took_in_is_told(store: Store, seen: Path) -> None:
    insert(store, "actuals", [reading("a", 1, 2.0)])
    shutil.copytree(store.path, store.path.parent / "killed")
    (store.path.parent / "killed" / "catalog.sqlite-shm").unlink()
    with pytest.raises(ReadOnly) as caught:
        Store.open(seen.parent / "killed", read_only=True)
    assert "log" in caught.value.message
    assert "copy" in caught.value.hint


def test_a_backup_on_a_disk_that_cannot_be_written_is_restored(store: Store, seen: Path, tmp_path: Path) -> None:
    store.backup(tmp_path / "kept")
    done = Store.restore(seen.parent / "kept", tmp_path / "back")
    with Store.open(done.path) as back:
        assert back.table("actuals").num_rows == 6_001
        insert(back, "actuals", [reading("a", 1, 2.0)])
        assert values(back) == [1.0, 2.0]


OTHER_USER = """
    import importlib, os, pkgutil, sys
    import duckdb, pyarrow, hashlib, encodings.idna, zoneinfo
    import store
    for room in pkgutil.iter_modules(store.__path__, "store."):  # the other user may not read where this code is
        importlib.import_module(room.name)
    from store import Store
    from store.errors import ReadOnly
    from tests.store.rows import values
    path = sys.argv[1]
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    try:
        Store.open(path)
    except ReadOnly as error:
        print(error.code)
    with Store.open(path, read_only=True) as store:
        print(values(store), store.verify().ok)
"""


def test_another_users_store_is_read_and_not_written(tmp_path_factory: pytest.TempPathFactory) -> None:
    if os.geteuid():
        pytest.skip("only root can become another user")
    home = Path(os.environ.get("TMPDIR", "/tmp")) / f"tsfleet-other-user-{os.getpid()}"  # noqa: S108 pytest's is closed
    home.mkdir()
    try:
        with Store.open(home / "s") as store:
            insert(store, "actuals", [reading("a", 0, 1.0)])
            assert finish(start(OTHER_USER, home / "s")).split("\n")[:2] == ["read-only", "[1.0] True"]
        assert finish(start(OTHER_USER, home / "s")).split("\n")[:2] == ["read-only", "[1.0] True"]
    finally:
        shutil.rmtree(home)


# ------------------------------------------------------------------------------------------------------------ network


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A disk that the table of mounts calls an NFS."""
    place = tmp_path / "remote"
    place.mkdir()
    mounted("-t", "tmpfs", "-o", "size=20m", "tmpfs", str(place))
    try:
        device = place.stat().st_dev
        line = f"36 25 {os.major(device)}:{os.minor(device)} / {place} rw,noatime shared:1 - nfs4 host:/x rw\n"
        (tmp_path / "mountinfo").write_text("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + line)
        with Store.open(place / "s") as store:
            insert(store, "actuals", [reading("a", 0, 1.0)])
        monkeypatch.setattr("store.files.MOUNTS", tmp_path / "mountinfo")
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_store_on_a_network_is_read_when_quiet_and_never_written(remote: Path) -> None:
    assert not is_local(remote)
    with Store.open(remote / "s", read_only=True) as looking:
        assert values(looking) == [1.0]
    for path in (remote / "s", remote / "new"):
        with pytest.raises(ReadOnly, match="network"):
            insert(Store.open(path), "actuals", [reading("a", 1, 2.0)])
    (remote / "s" / "catalog.sqlite-wal").write_bytes(b"a log")
    with pytest.raises(ReadOnly, match="network"):
        Store.open(remote / "s", read_only=True)
