"""Verify finds what changed on disk, says whom it concerns, and finds nothing where nothing did."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from store import FixedClock, Store
from store.catalog import sums
from store.errors import Damaged
from store.merging import FAN_IN
from store.verifying import Verification
from tests.store.rows import START, insert, reading, readings, replace, values


def written(store: Store) -> None:
    """Something in every part of a store: segments, a pack, hot rows, champions, marks, dynamic columns, commit ids."""
    insert(store, "actuals", readings(6, 1_000))
    insert(store, "actuals", [reading("hot-a", 0, 1.0), reading("hot-b", 900, 2.0)])
    replace(store, "actuals", [reading("hot-a", 0, 1.5, known=3)])
    txn = store.begin(commit_id="first", note="a note")
    (sha,) = txn.put_blobs([b"a model" * 100])
    txn.insert("versions", [{"version_id": "v1", "asset_id": "plant-7", "sha256": sha}])
    champion = {"asset_id": "plant-7", "product": "default", "version_id": "v1"}
    txn.promote([champion], [None], [{"asset_id": "plant-7", "product": "default", "verdict": "first"}])
    row = {"asset_id": "a", "product": "p", "role": "champion", "issue_time": START, "valid_time": START, "step": 1}
    txn.insert("forecasts", [{**row, "mean": 1.0, "q10": 0.5, "q90": 1.5}])
    txn.mark("seen", "12")
    txn.commit()


def altered(store: Store, statement: str, *params: object) -> Verification:
    """What verify finds after somebody changed the catalog by hand."""
    path = store.path
    store.close()
    connection = sqlite3.connect(path / "catalog.sqlite")
    with connection:
        assert connection.execute(statement, params).rowcount
    connection.close()
    with Store.open(path, read_only=True) as opened:
        return opened.verify()


def flipped(path: Path, at: int = -1) -> bytes:
    """Change one bit of a file; its bytes as they were."""
    raw = path.read_bytes()
    data = bytearray(raw)
    data[at] ^= 4
    path.write_bytes(data)
    return raw


def test_a_sound_store_is_found_sound(store: Store) -> None:
    assert store.verify().ok
    written(store)
    found = store.verify()
    assert found.damages == ()
    assert (found.segments, found.packs, found.digests) == (1, 1, True)
    assert found.bytes == sum(
        p.stat().st_size for kind in ("segments", "packs") for p in (store.path / kind).rglob("*.*")
    )


def test_digests_follow_everything_that_upkeep_does(store: Store, clock: FixedClock) -> None:
    for turn in range(FAN_IN + 1):
        written_once = [{"alert_id": str(i), "text": str(turn)} for i in range(3)]
        replace(store, "alerts", written_once)
        insert(store, "actuals", readings(6, 1_000, first=10 * turn))
        txn = store.begin(commit_id=f"turn {turn}")
        txn.mark("seen", str(turn))
        champion = {"asset_id": "a", "product": "p", "version_id": f"v{turn}"}
        txn.promote([champion], [f"v{turn - 1}" if turn else None], [])
        txn.commit()
        assert store.verify().damages == ()
    clock.advance(hours=1)
    assert store.info().retired == FAN_IN
    assert store.flush()
    assert store.verify().damages == ()
    clock.advance(days=2)
    assert store.upkeep(fold_after=timedelta(0), grace=timedelta(0)).collected
    assert store.verify().damages == ()
    clock.advance(days=500)
    store.expire(clock.now() - timedelta(days=1))
    assert store.verify().damages == ()


def test_a_flipped_bit_in_a_segment_is_told_with_table_months_and_assets(store: Store) -> None:
    insert(store, "actuals", readings(6, 1_000))
    (path,) = (store.path / "segments" / "actuals").iterdir()
    raw = flipped(path, 100)
    (damage,) = store.verify().damages
    assert (damage.path, damage.table, damage.rows) == (path, "actuals", 6_000)
    assert (damage.assets, damage.between) == (("asset-00000", "asset-00005"), True)
    assert (damage.since, damage.until) == (START, START + timedelta(hours=999))
    assert all(word in str(damage) for word in (path.name, "actuals", "2024-01 to 2024-02", "asset-00000", "6,000"))
    path.write_bytes(raw)
    assert store.verify().ok


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-9]), flipped])
def test_a_harmed_pack_is_told_with_the_assets_whose_models_it_holds(
    store: Store, harm: Callable[[Path], object]
) -> None:
    written(store)
    (path,) = (store.path / "packs").iterdir()
    harm(path)
    (damage,) = store.verify().damages
    assert (damage.path, damage.assets) == (path, ("plant-7",))


def test_a_changed_hot_row_is_told_with_its_commit_and_asset(store: Store) -> None:
    insert(store, "actuals", [reading("a", 0, 1.0)])
    insert(store, "actuals", [reading("b", 900, 2.0), reading("c", 901, 2.0)])
    found = altered(store, "UPDATE hot_actuals SET y = '3.0' WHERE asset_id = 'b'")
    (damage,) = found.damages
    assert (damage.table, damage.assets, damage.rows) == ("actuals", ("b", "c"), 2)
    assert damage.since == START + timedelta(hours=900)
    assert "commit 2" in damage.what


CHANGES = [
    ("UPDATE hot_forecasts SET q10 = '0.25'", "forecasts"),
    ("DELETE FROM hot_versions", "versions"),
    ("UPDATE hot_actuals__replaced SET valid_time = valid_time + 1", "actuals__replaced"),
    ("INSERT INTO hot_alerts (_n, alert_id) VALUES (1, 'x')", "alerts"),
    ("UPDATE snapshots SET at = at + 1 WHERE id = 2", ""),
    ("UPDATE snapshots SET note = 'another' WHERE id = 4", ""),
    ("UPDATE commits SET payload = x'00'", ""),
    ("UPDATE segments SET max_time = max_time - 1", ""),
    ("DELETE FROM segments", ""),
    ("UPDATE blobs SET start = start + 1", ""),
    ("UPDATE champions SET version_id = 'v2'", ""),
    ("UPDATE marks SET value = '13'", ""),
    ("DELETE FROM dynamic_columns WHERE name = 'q10'", ""),
    ("UPDATE tables SET touched = touched + 9 WHERE name = 'versions'", "versions"),
    ("UPDATE tables SET touched = 1 WHERE name = 'versions'", "versions"),
    ("UPDATE tables SET hot = 0 WHERE name = 'actuals'", "actuals"),
    ("UPDATE tables SET name = 'actualz' WHERE name = 'actuals'", ""),
    ("UPDATE meta SET value = '1' WHERE key = 'created_at'", ""),
    ("UPDATE sums SET sum = sum + 1 WHERE tbl = 'packs'", ""),
    ("DELETE FROM sums WHERE tbl = 'packs'", ""),
    ("UPDATE hot_batches SET rows = rows + 1 WHERE tbl = 'versions'", "versions"),
]


@pytest.mark.parametrize(("statement", "table"), CHANGES, ids=[one[0][:40] for one in CHANGES])
def test_whatever_changes_in_the_catalog_is_found(store: Store, statement: str, table: str) -> None:
    written(store)
    damages = altered(store, statement).damages
    assert table in {damage.table for damage in damages}
    assert all(damage.path.name == "catalog.sqlite" for damage in damages if damage.table in ("", table))


def test_later_commits_do_not_hide_a_change(store: Store) -> None:
    written(store)
    assert not altered(store, "UPDATE champions SET version_id = 'v2'").ok
    with Store.open(store.path) as opened:
        txn = opened.begin()
        champion = {"asset_id": "plant-7", "product": "default", "version_id": "v3"}
        assert txn.promote([champion], ["v2"], []) is None
        txn.commit()
        assert not opened.verify().ok


def test_damaged_rows_are_not_moved_into_files_that_would_look_sound(store: Store) -> None:
    insert(store, "actuals", [reading("a", 0, 1.0)])
    altered(store, "UPDATE hot_actuals SET y = '3.0'")
    with Store.open(store.path) as opened:
        with pytest.raises(Damaged, match="commit 1"):
            opened.flush()
        assert opened.info().hot["actuals"] == 1


def test_damaged_segments_are_not_merged(store: Store) -> None:
    for turn in range(FAN_IN - 1):
        insert(store, "actuals", readings(6, 1_000, first=10 * turn))
    path = next(iter((store.path / "segments" / "actuals").iterdir()))
    raw = flipped(path, 200)
    insert(store, "actuals", readings(6, 1_000, first=10 * FAN_IN))
    with pytest.raises(Damaged, match=path.name):
        store.upkeep()
    assert store.info().levels["actuals"] == {0: FAN_IN}
    path.write_bytes(raw)
    store.upkeep()
    assert store.info().levels["actuals"] == {2: 1}


def test_a_catalog_of_an_earlier_release_gets_its_digests_when_it_is_written(store: Store, clock: FixedClock) -> None:
    written(store)
    store.close()
    connection = sqlite3.connect(store.path / "catalog.sqlite")
    connection.executescript("DROP TABLE sums; DROP TABLE hot_batches;")
    connection.close()
    with Store.open(store.path, read_only=True) as looking:
        found = looking.verify()
        assert (found.ok, found.digests) == (True, False)
    with Store.open(store.path, clock=clock) as opened:
        insert(opened, "actuals", [reading("a", 1, 2.0)])
        assert (opened.verify().ok, opened.verify().digests) == (True, True)
    assert not altered(opened, "UPDATE hot_actuals SET y = '3.0' WHERE asset_id = 'hot-b'").ok


def test_every_table_of_the_catalog_is_summed_or_digested(store: Store) -> None:
    connection = sqlite3.connect(store.path / "catalog.sqlite")
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    rest = {name for name in names if not name.startswith("hot_")}
    assert rest - {"sums", "tables"} == set(sums.SUMMED)


def test_verify_tells_how_far_it_is_and_goes_on_beside_a_writer(store: Store) -> None:
    seen: list[tuple[int, int]] = []
    insert(store, "actuals", readings(6, 1_000))
    insert(store, "metrics", [{"run_id": "1", "name": "m", "value": 1.0}])
    store.flush()

    def write_on(done: int, total: int) -> None:
        seen.append((done, total))
        insert(store, "actuals", [reading("a", len(seen), 1.0)])

    assert store.verify(write_on).ok
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1]
    assert len(values(store)) == 2
