"""Damage, a full disk, a disk that fails: told in the store's own words, and nothing acknowledged is lost."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from store import Store
from store.errors import Damaged, NoSpace, StoreError
from tests.bench.flips import flipped
from tests.store.rows import insert, reading, readings, values
from tests.store.test_processes import finish, start


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, *, leave: int = 0) -> Path:
    """Fill a disk up, but for so many bytes."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4_096)
        except OSError:
            file.truncate(max(file.tell() - leave, 0))
    return filler


def temporary(path: Path) -> list[Path]:
    return list(path.rglob("*.tmp"))


# ------------------------------------------------------------------------------------------------ a damaged segment


def spoilt(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[:] = data[:-40] + bytes(40)
    path.write_bytes(data)


def shortened(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("harm", [Path.unlink, spoilt, shortened])
def test_a_question_that_meets_a_damaged_segment_names_file_table_months_and_assets(
    store: Store, harm: Callable[[Path], object]
) -> None:
    insert(store, "actuals", readings(6, 1_000))
    (path,) = (store.path / "segments" / "actuals").iterdir()
    harm(path)
    for ask in (lambda: store.table("actuals"), lambda: store.sql("select sum(y) from actuals").rows()):
        with pytest.raises(Damaged) as caught:
            ask()
        told = caught.value.message
        assert all(word in told for word in (path.name, "actuals", "2024-01 to 2024-02", "asset-00000 to asset-00005"))
        assert "skip_damaged" in caught.value.hint


def test_a_question_with_a_mistake_is_no_damage(store: Store) -> None:
    insert(store, "actuals", readings(6, 1_000))
    for query in (
        "select nothing from actuals",
        "select cast(asset_id as integer) from actuals",
        "select max( from runs",
    ):
        with pytest.raises(StoreError) as caught:
            store.sql(query).rows()
        assert caught.value.code == "query-invalid"


def test_the_rest_is_read_on_request_and_the_answer_says_what_is_missing(store: Store) -> None:
    insert(store, "actuals", readings(6, 1_000))
    insert(store, "actuals", readings(6, 1_000, first=50))
    insert(store, "actuals", [reading("a", 0, 1.0)])
    damaged = next(iter((store.path / "segments" / "actuals").iterdir()))
    spoilt(damaged)
    with Store.open(store.path, skip_damaged=True) as rest:
        found = rest.sql("select count(*) as n from actuals")
        assert found.rows() == [{"n": 6_001}]
        (missing,) = found.missing
        assert (missing.path, missing.rows) == (damaged, 6_000)
        assert damaged.name in repr(found)
        rows = rest.table("actuals")
        assert rows.num_rows == 6_001
        assert damaged.name in rows.schema.metadata[b"missing"].decode()
        assert rest.sql("select count(*) as n from runs").missing == ()
        assert rest.read_only


def test_a_bit_that_no_parquet_reader_sees_is_left_out_too(store: Store) -> None:
    insert(store, "actuals", readings(6, 1_000))
    (path,) = (store.path / "segments" / "actuals").iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with Store.open(store.path, skip_damaged=True) as rest:
        assert rest.table("actuals").num_rows == 0


# --------------------------------------------------------------------------------------------------------- catalog


def garbage(path: Path) -> None:
    path.write_bytes(b"garbage" * 2_000)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: 3 * 4_096 + 100])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [garbage, truncated, emptied, Path.unlink])
@pytest.mark.parametrize("read_only", [True, False])
def test_a_catalog_that_is_not_whole_is_damage_and_is_not_made_anew(
    store: Store, harm: Callable[[Path], object], read_only: bool
) -> None:
    insert(store, "actuals", readings(6, 1_000))
    store.close()
    catalog = store.path / "catalog.sqlite"
    harm(catalog)
    before = catalog.read_bytes() if catalog.exists() else None
    with pytest.raises(StoreError) as caught, Store.open(store.path, read_only=read_only) as opened:
        opened.table("actuals")
    assert caught.value.code in ("damaged", "not-found" if read_only else "damaged")
    assert (catalog.read_bytes() if catalog.exists() else None) == before


# --------------------------------------------------------------------------------------------------------- full disk


def test_a_disk_that_is_full_while_a_segment_is_written(small_disk: Path) -> None:
    with Store.open(small_disk / "s") as store:
        insert(store, "actuals", [reading("a", 0, 1.0)])
        filler = fill(small_disk, leave=64 << 10)
        with pytest.raises(NoSpace) as caught:
            insert(store, "actuals", readings(30, 5_000))
        assert "segments/actuals" in caught.value.message
        assert caught.value.hint
        assert temporary(store.path) == []
        filler.unlink()
        insert(store, "actuals", readings(6, 1_000))
    with Store.open(small_disk / "s") as store:
        assert store.table("actuals").num_rows == 6_001
        assert store.verify().ok


def test_a_disk_that_is_full_while_a_pack_is_written(small_disk: Path) -> None:
    with Store.open(small_disk / "s") as store:
        insert(store, "actuals", [reading("a", 0, 1.0)])
        filler = fill(small_disk, leave=64 << 10)
        with pytest.raises(NoSpace):
            store.begin().put_blobs([bytes(300_000)])
        assert temporary(store.path) == []
        filler.unlink()
        txn = store.begin()
        (sha,) = txn.put_blobs([bytes(300_000)])
        txn.commit()
        assert store.blob(sha) == bytes(300_000)


def test_a_disk_that_is_full_at_the_commit_loses_nothing_acknowledged(small_disk: Path) -> None:
    acknowledged = []
    with Store.open(small_disk / "s") as store:
        insert(store, "actuals", [reading("a", 0, 0.0)])
        acknowledged.append(0.0)
        filler = fill(small_disk, leave=96 << 10)
        with pytest.raises(NoSpace) as caught:  # noqa: PT012 the commit that does not fit is one of these
            for turn in range(1, 1_000):
                insert(store, "actuals", [reading("a", turn, float(turn))])
                acknowledged.append(float(turn))
        assert "catalog.sqlite" in caught.value.message
        assert len(acknowledged) > 1
        assert values(store) == acknowledged
    with Store.open(small_disk / "s") as store:
        assert values(store) == acknowledged
        filler.unlink()
        insert(store, "actuals", [reading("b", 0, 1.0)])
        assert (values(store), values(store, "b")) == (acknowledged, [1.0])
        assert store.verify().ok


def test_upkeep_on_a_full_disk_changes_nothing_and_is_done_when_there_is_room(small_disk: Path) -> None:
    with Store.open(small_disk / "s") as store:
        for turn in range(8):
            insert(store, "actuals", readings(6, 1_000, first=10 * turn))
        insert(store, "metrics", [{"run_id": f"r{turn}", "name": "m", "value": float(turn)} for turn in range(200)])
        before = store.table("actuals"), store.table("metrics")
        filler = fill(small_disk, leave=8 << 10)
        with pytest.raises(NoSpace) as caught:
            store.upkeep(grace=timedelta(0))
        assert caught.value.hint
        assert (store.table("actuals"), store.table("metrics")) == before
        assert temporary(store.path) == []
        filler.unlink()
        assert store.upkeep(grace=timedelta(0)).flushed == {"metrics": 200}
        assert (store.table("actuals"), store.table("metrics")) == before
        assert store.verify().ok


def test_however_little_room_there_is_what_is_acknowledged_is_stored(small_disk: Path) -> None:
    acknowledged = [0.0]
    with Store.open(small_disk / "s") as store:
        insert(store, "actuals", [reading("a", 0, 0.0)])
    for turn in range(1, 30):  # each opening, commit and close with 4 kB more, the checkpoint among them
        filler = fill(small_disk, leave=4_096 * turn)
        with suppress(NoSpace), Store.open(small_disk / "s") as store:
            insert(store, "actuals", [reading("a", turn, float(turn))])
            acknowledged.append(float(turn))
        filler.unlink()
        with Store.open(small_disk / "s") as store:
            assert values(store) == acknowledged
    assert 1 < len(acknowledged) < 30
    with Store.open(small_disk / "s") as store:
        assert store.verify().ok


def test_a_store_cannot_be_made_on_a_full_disk_and_can_be_when_there_is_room(small_disk: Path) -> None:
    filler = fill(small_disk, leave=20 << 10)
    with pytest.raises(NoSpace):
        Store.open(small_disk / "s")
    filler.unlink()
    with Store.open(small_disk / "s") as store:
        insert(store, "actuals", [reading("a", 0, 1.0)])


# ------------------------------------------------------------------------------------------------------- failing disk

FAILING = """
    import errno, os, stat, sys
    from store import Store
    from store.errors import WriteFailed
    from tests.store.rows import insert, reading, readings
    path, what = sys.argv[1], sys.argv[2]
    real = os.fsync
    def fsync(handle):
        kind = "folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file"
        if kind == what:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(handle)
    with Store.open(path) as store:
        insert(store, "actuals", [reading("a", 0, 1.0)])
        for warm in ("segments/actuals", "packs"):
            (store.path / warm).mkdir(parents=True)
        os.fsync = fsync
        for act in (lambda: insert(store, "actuals", readings(6, 1_000)), lambda: store.begin().put_blobs([b"model"])):
            try:
                act()
            except WriteFailed as error:
                print(error.code, error.hint != "")
        os.fsync = real
        insert(store, "actuals", [reading("a", 1, 2.0)])
"""


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_disk_that_does_not_confirm_a_write_stores_nothing_of_it(tmp_path: Path, what: str) -> None:
    told = finish(start(FAILING, tmp_path / "s", what))
    assert told.split("\n")[:2] == ["write-failed True"] * 2
    with Store.open(tmp_path / "s") as store:
        assert values(store) == [1.0, 2.0]
        assert store.table("actuals").num_rows == 2
        assert (store.info().segments, store.info().packs) == (0, 0)
        assert [p for p in store.path.rglob("*") if p.suffix in (".tmp", ".parquet", ".pack")] == []
        assert store.verify().ok


# ------------------------------------------------------------------------------------------------------------- flips


@pytest.mark.slow
def test_no_flipped_bit_goes_unnoticed(tmp_path: Path) -> None:
    counted = flipped(tmp_path / "s", 300, seed=1)
    assert {kind: counts["wrong"] + counts["blobs_wrong"] for kind, counts in counted.items()} == dict.fromkeys(
        counted, 0
    )
    assert {kind: counts["raw"] for kind, counts in counted.items()} == dict.fromkeys(counted, 0)
    for kind in ("segments", "packs"):
        assert counted[kind]["found"] == 100
    assert counted["catalog"]["found"] > 80


def test_a_few_flipped_bits_are_noticed(tmp_path: Path) -> None:
    counted = flipped(tmp_path / "s", 12, seed=2)
    assert sum(counts["wrong"] + counts["blobs_wrong"] for counts in counted.values()) == 0
    assert sum(counts["found"] for counts in counted.values()) >= 8
