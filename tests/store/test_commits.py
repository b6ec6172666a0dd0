"""A commit is visible whole or not at all, once, whatever form its rows came in."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from store import Commit, FixedClock, Store, StoreError
from store.errors import CommitConflict, NotFound, SchemaMismatch
from tests.store.rows import HOUR, START, insert, reading, readings, replace, values


def run_row(name: str, **more: object) -> dict[str, object]:
    return {"run_id": name, "asset_id": "a", "recipe": "r", "status": "ok", **more}


def test_nothing_shows_before_the_commit(store: Store) -> None:
    txn = store.begin()
    txn.insert("runs", [run_row("1")])
    txn.insert("actuals", readings(10, 1_000))
    assert store.head() == 0
    assert store.table("runs").num_rows == store.table("actuals").num_rows == 0
    done = txn.commit()
    assert (done.snapshot, store.head()) == (1, 1)
    assert done.written == {"runs": 1, "actuals": 10_000}
    assert store.table("runs").num_rows == 1
    assert store.table("actuals").num_rows == 10_000


def test_a_snapshot_does_not_see_later_commits(store: Store) -> None:
    insert(store, "actuals", [reading("a", 0, 1.0)])
    before = store.snapshot()
    insert(store, "actuals", [reading("a", 1, 2.0)])
    insert(store, "actuals", readings(6, 1_000))
    assert values(before) == [1.0]
    assert before.sql("select count(*) as n from actuals").rows() == [{"n": 1}]
    assert values(store) == [1.0, 2.0]


def test_at_an_instant_is_the_newest_snapshot_by_then(store: Store, clock: FixedClock) -> None:
    noon = clock.now()
    for hour in range(3):
        insert(store, "actuals", [reading("a", hour, float(hour))])
        clock.advance(hours=1)
    assert store.at(noon - timedelta(seconds=1)).id == 0
    assert store.at(noon + timedelta(minutes=90)).id == 2
    assert values(store.at(2)) == [0.0, 1.0]
    with pytest.raises(NotFound):
        store.at(4)
    with pytest.raises(NotFound):
        store.at(noon.replace(tzinfo=None))


def test_a_refused_row_leaves_the_store_as_it_was(store: Store) -> None:
    txn = store.begin()
    with pytest.raises(SchemaMismatch):
        txn.insert("runs", [run_row("1", colour="red")])
    assert txn.commit().written == {}
    assert store.head() == 0


def test_a_commit_of_nothing_makes_no_snapshot(store: Store) -> None:
    insert(store, "actuals", [reading("a", 0, 1.0)])
    assert replace(store, "actuals", [reading("a", 0, 1.0)]).snapshot == 1
    assert store.begin().commit().snapshot == store.head() == 1


def test_a_transaction_ends_with_its_commit(store: Store) -> None:
    txn = store.begin()
    txn.insert("runs", [run_row("1")])
    txn.commit()
    for act in (txn.commit, lambda: txn.insert("runs", [run_row("2")])):
        with pytest.raises(StoreError):
            act()
    gone = store.begin()
    gone.insert("runs", [run_row("3")])
    gone.abort()
    assert store.table("runs").num_rows == 1


@pytest.mark.parametrize("rows", [[run_row("1")], pa.Table.from_pylist([run_row("1")])], ids=["mappings", "arrow"])
def test_a_repeated_commit_id_is_harmless_and_another_payload_is_refused(store: Store, rows: Any) -> None:
    def commit(more: float) -> Commit:
        txn = store.begin(commit_id="forecast/2024-06-01/0/7")
        txn.insert("runs", rows)
        txn.put_blobs([b"model"])
        txn.insert("metrics", [{"run_id": "1", "name": "mae", "value": more}])
        return txn.commit()

    first, again = commit(1.0), commit(1.0)
    assert (first.repeated, again.repeated) == (False, True)
    assert (first.snapshot, first.at, first.written) == (again.snapshot, again.at, again.written)
    assert store.committed("forecast/2024-06-01/0/7") == 1
    assert store.committed("another") is None
    with pytest.raises(CommitConflict):
        commit(2.0)
    assert store.table("metrics").num_rows == 1


def test_marks_belong_to_their_commit(store: Store) -> None:
    for value in ("1", "2"):
        txn = store.begin()
        txn.mark("scored", value)
        txn.commit()
    assert store.at(1).mark("scored") == "1"
    assert store.snapshot().mark("scored") == "2"
    assert store.at(0).mark("scored") is None


def test_promotion_compares_and_sets(store: Store) -> None:
    def promote(asset: str, version: str, expected: str | None) -> Commit:
        txn = store.begin()
        row = {"asset_id": asset, "product": "default", "version_id": version, "since": START}
        txn.promote([row], [expected], [{"asset_id": asset, "product": "default", "verdict": "promoted"}])
        return txn.commit()

    assert promote("a", "v1", None).conflicts == ()
    lost = promote("a", "v2", None)
    assert [(c.asset_id, c.expected, c.found) for c in lost.conflicts] == [("a", None, "v1")]
    assert lost.written == {"decisions": 1}
    assert promote("a", "v3", "v1").conflicts == ()
    assert store.table("champions", columns=["version_id"]).to_pylist() == [{"version_id": "v3"}]
    assert store.at(1).table("champions", columns=["version_id"]).to_pylist() == [{"version_id": "v1"}]
    verdicts = store.sql("select verdict from decisions__v order by _v").rows()
    assert [row["verdict"] for row in verdicts] == ["promoted", "conflict", "promoted"]


def test_a_conflict_keeps_the_rest_of_a_bulk_promotion(store: Store) -> None:
    def promote(versions: dict[str, str], expected: list[str | None]) -> Commit:
        txn = store.begin()
        keys = [{"asset_id": asset, "product": "default"} for asset in versions]
        champions = [{**key, "version_id": version} for key, version in zip(keys, versions.values(), strict=True)]
        txn.promote(champions, expected, [{**key, "verdict": "promoted"} for key in keys])
        return txn.commit()

    promote({"b": "v0"}, [None])
    done = promote({"a": "v1", "b": "v1", "c": "v1"}, [None, None, None])
    assert [c.asset_id for c in done.conflicts] == ["b"]
    rows = store.table("champions", columns=["asset_id", "version_id"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [("a", "v1"), ("b", "v0"), ("c", "v1")]


def test_champions_change_by_promotion_only(store: Store) -> None:
    with pytest.raises(StoreError):
        store.begin().replace("champions", [{"asset_id": "a", "product": "default"}])


def test_large_batches_become_segments_and_small_ones_stay_hot(store: Store) -> None:
    insert(store, "actuals", readings(4, 1_000))
    assert (store.info().segments, store.info().hot["actuals"]) == (0, 4_000)
    insert(store, "actuals", readings(5, 1_000, first=10))
    assert (store.info().segments, store.info().hot["actuals"]) == (1, 4_000)
    assert store.table("actuals").num_rows == store.info().tables["actuals"] == 9_000


def test_unsorted_rows_come_back_sorted(store: Store) -> None:
    rows = readings(8, 1_000)
    shuffled = rows.take(pa.array(np.random.default_rng(1).permutation(rows.num_rows)))
    insert(store, "actuals", shuffled)
    found = store.table("actuals", columns=rows.column_names)
    assert found.cast(rows.schema).equals(rows)


def test_a_bulk_insert_is_spooled_and_split_between_assets(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.segments.SPLIT_ROWS", 2_500)
    monkeypatch.setattr("store.writing.SPOOL_ROWS", 5_000)
    txn = store.begin()
    for first in range(0, 20, 5):
        txn.insert("actuals", readings(5, 1_000, first=first))
    assert txn.commit().written == {"actuals": 20_000}
    spans = [(str(s.min_asset), str(s.max_asset)) for s in store._catalog.state(["actuals"]).segments["actuals"]]
    assert len(spans) == 12
    assert all(before[1] < after[0] for before, after in pairwise(spans))
    assert store.table("actuals", assets=["asset-00007"]).num_rows == 1_000


def test_auto_flush_keeps_hot_tables_small(store: Store) -> None:
    for turn in range(6):
        insert(store, "actuals", readings(4, 1_000, first=turn * 4))
    assert store.info().hot["actuals"] < 20_000
    assert store.table("actuals").num_rows == 24_000
    assert store.head() == 6


def test_rows_carry_the_commit_that_stored_them(store: Store) -> None:
    insert(store, "actuals", [reading("a", 0, 1.0)])
    insert(store, "actuals", readings(6, 1_000))
    store.flush()
    insert(store, "actuals", [reading("a", 2, 3.0)])
    counts = store.sql("select _v, count(*) as n from actuals__v group by 1 order by 1").rows()
    assert [(row["_v"], row["n"]) for row in counts] == [(1, 1), (2, 6_000), (3, 1)]
    assert store.table("actuals", assets=["a"], columns=["_v", "valid_time"]).to_pylist() == [
        {"_v": 1, "valid_time": START},
        {"_v": 3, "valid_time": START + HOUR * 2},
    ]
