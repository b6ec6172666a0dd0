"""`latest`: what counts as the newest, when it is derived, and that nothing but time is lost when that file is."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from store import FixedClock, Store
from store.errors import Damaged
from tests.store.rows import HOUR, START, insert, replace

AT_ONCE = timedelta(0)


@pytest.fixture(autouse=True)
def few_rows_are_many() -> Iterator[None]:
    with patch("store.deriving.FEW_ROWS", 3), patch("store.writing.SEGMENT_ROWS", 4):
        yield


def metric(run: str, value: float | None, at: int | None = 0, **more: Any) -> dict[str, Any]:
    """One metric; ``at`` is the hour of its time."""
    time = None if at is None else START + HOUR * at
    return {"run_id": run, "asset_id": "a", "recipe": "r", "name": "mae", "time": time, "value": value, **more}


def newest(store: Any, **where: str) -> list[tuple[str | None, float | None, str]]:
    """(product, value, run) of each row."""
    rows = store.table("latest", where=where).to_pylist()
    return [(row["product"], row["value"], row["run_id"]) for row in rows]


def derived(store: Store) -> Path:
    (segment,) = store._catalog.segments("latest")
    return store.path / "segments" / "latest" / f"{segment.id}.parquet"


def upto(store: Store) -> int | None:
    return store.info().derived.get("latest")


def used(store: Store) -> int | None:
    """The snapshot up to which a question now trusts what was derived."""

    def ask(asking: Any) -> int | None:
        found: int | None = asking.plan(["latest", "metrics", "runs", "runs__replaced"], None).derived
        return found

    return store._reader.answer(ask)


def some(store: Store) -> None:
    """Two runs, the second of them the newer, and what is derived from them."""
    insert(store, "runs", [{"run_id": "1", "product": "p"}, {"run_id": "2", "product": "p"}])
    insert(store, "metrics", [metric("1", 1.0, 1), metric("1", 1.5, 2), metric("2", 2.0, 3)])
    store.upkeep()
    assert (upto(store), newest(store)) == (2, [("p", 2.0, "2")])


@pytest.mark.parametrize("kept", [False, True])
def test_the_newest_is_of_the_latest_time_then_the_highest_step_then_committed_last(store: Store, kept: bool) -> None:
    given = [
        ([metric("1", 1.0, None, step=9), metric("1", 2.0, 5)], 2.0),
        ([metric("2", 3.0, 4, step=9)], 2.0),
        ([metric("2", 4.0, 5, step=0)], 4.0),
        ([metric("1", 5.0, 5, step=0)], 5.0),
        ([metric("1", None, 6)], None),
        ([metric("1", math.inf, 7)], math.inf),
        ([metric("3", 7.0, 8, step=1), metric("4", 8.0, 8, step=1), metric("3", 9.0, 8, step=1)], 8.0),
    ]
    for rows, expected in given:
        insert(store, "metrics", rows)
        if kept:
            store.upkeep()
        assert [value for _, value, _ in newest(store)] == [expected]
    insert(store, "metrics", [metric("1", math.nan, 9)])
    assert math.isnan(newest(store)[0][1] or 0.0)


def test_a_missing_asset_recipe_or_product_is_a_key_of_its_own(store: Store) -> None:
    insert(store, "runs", [{"run_id": "1", "product": "p"}, {"run_id": "2"}])
    rows = [metric("1", 1.0), metric("1", 2.0, asset_id=None), metric("2", 3.0, recipe=None), metric("2", 4.0)]
    insert(store, "metrics", [*rows, metric("unknown", 5.0, 1)])
    expected = {("p", 1.0, "1"), ("p", 2.0, "1"), (None, 3.0, "2"), (None, 5.0, "unknown")}
    assert set(newest(store)) == expected
    store.upkeep()
    assert upto(store) == 2
    assert set(newest(store)) == expected
    assert set(newest(store.at(1))) == set()


def test_a_run_that_is_told_after_its_metrics_takes_them_along(store: Store) -> None:
    insert(store, "metrics", [metric("1", 1.0, 1), metric("2", 2.0, 2), metric("2", 2.5, 1)])
    store.upkeep()
    assert newest(store) == [(None, 2.0, "2")]
    insert(store, "runs", [{"run_id": "2", "product": "p"}])
    assert newest(store) == [("p", 2.0, "2"), (None, 1.0, "1")]
    assert used(store) == 1
    store.upkeep()
    assert newest(store) == [("p", 2.0, "2"), (None, 1.0, "1")]
    assert newest(store.at(1)) == [(None, 2.0, "2")]


def test_a_run_that_gets_another_product_is_asked_of_all_metrics(store: Store, clock: FixedClock) -> None:
    some(store)
    replace(store, "runs", [{"run_id": "2", "product": "p", "status": "ok"}])
    assert used(store) == 2
    replace(store, "runs", [{"run_id": "2", "product": "q"}])
    assert used(store) is None
    assert newest(store) == [("p", 1.5, "1"), ("q", 2.0, "2")]
    assert newest(store.at(3)) == [("p", 2.0, "2")]
    store.upkeep()
    assert used(store) == 4
    assert newest(store) == [("p", 1.5, "1"), ("q", 2.0, "2")]


def test_a_merge_keeps_the_row_of_a_run_that_tells_of_another_product(store: Store, clock: FixedClock) -> None:
    """As a rule what is derived is brought up to date before runs are folded; here it cannot be, over a lost file."""
    some(store)
    insert(store, "metrics", [metric("1", 0.5, 0)])
    with patch("store.deriving.FEW_ROWS", 1_000):
        insert(store, "metrics", [metric("1", 0.0, 0)] * 4)
        replace(store, "runs", [{"run_id": "2", "product": "q"}])
        clock.advance(days=2)
        insert(store, "runs", [{"run_id": f"other-{i}"} for i in range(4)])
    path = store.path / "segments" / "metrics" / f"{store._catalog.segments('metrics')[-1].id}.parquet"
    away = path.rename(store.path.parent / "away")
    with patch("store.merging.FAN_IN", 2), pytest.raises(Damaged):
        store.upkeep()
    away.rename(path)
    assert min(store.info().levels["runs"]) > 1
    assert (upto(store), newest(store)) == (2, [("p", 1.5, "1"), ("q", 2.0, "2")])
    assert store.upkeep().folded["runs"] == 1
    assert newest(store) == [("p", 1.5, "1"), ("q", 2.0, "2")]


def test_deleted_runs_stay_as_their_metrics_do(store: Store) -> None:
    with store.run(asset="a", recipe="r", product="p") as run:
        run.log_metrics({"mae": 1.0, "loss": 2.0, "bias": 3.0})
    store.upkeep()
    before = store.table("latest")
    store.delete_run(run)
    assert store.table("latest").equals(before)
    store.restore_run(run)
    assert store.table("latest").equals(before)


@pytest.mark.parametrize("harm", ["gone", "cut", "flipped"])
@pytest.mark.parametrize("looked", [False, True])
@pytest.mark.parametrize("behind", [False, True])
def test_damage_of_what_is_derived_costs_time_only(store: Store, harm: str, looked: bool, behind: bool) -> None:
    some(store)
    if behind:
        insert(store, "metrics", [metric("1", 0.5, 0)])
    if not looked:
        store.close()
        store = Store.open(store.path)
    path = derived(store)
    raw = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(raw[:-9] if harm == "cut" else bytes([*raw[:-1], raw[-1] ^ 4]))
    assert newest(store) == [("p", 2.0, "2")]
    (damage,) = store.verify().damages
    assert (damage.path, damage.table, damage.assets) == (path, "latest", ("a",))
    with Store.open(store.path, skip_damaged=True) as looking:
        answer = looking.sql("select value from latest")
        assert (answer.rows(), answer.missing) == ([{"value": 2.0}], ())
    insert(store, "metrics", [metric("1", 3.0, 9)])
    store.upkeep()
    assert store.verify().ok
    assert (upto(store), newest(store)) == (3 + behind, [("p", 3.0, "1")])
    store.close()


def test_nothing_is_derived_from_damaged_metrics(store: Store) -> None:
    with patch("store.deriving.FEW_ROWS", 1_000):
        insert(store, "metrics", [metric("1", float(i), i) for i in range(5)])
    (path,) = (store.path / "segments" / "metrics").iterdir()
    raw = path.read_bytes()
    path.write_bytes(bytes([*raw[:40], raw[40] ^ 4, *raw[41:]]))
    store.upkeep()
    assert upto(store) is None
    path.write_bytes(raw)
    store.upkeep()
    assert newest(store) == [(None, 4.0, "1")]


def test_commits_derive_by_themselves_when_much_has_come(store: Store) -> None:
    insert(store, "metrics", [metric("1", 1.0, 1), metric("1", 2.0, 2)])
    assert upto(store) is None
    insert(store, "metrics", [metric(str(i), float(i), i) for i in range(4)])
    assert upto(store) == 2
    insert(store, "metrics", [metric("1", 9.0, 9)])
    assert upto(store) == 2
    assert [value for _, value, _ in newest(store)] == [9.0]


def test_a_merge_does_not_mix_what_is_derived_with_what_is_not(store: Store) -> None:
    some(store)
    with patch("store.merging.FAN_IN", 2), patch("store.deriving.FEW_ROWS", 1_000):
        for turn in range(4):
            insert(store, "metrics", [metric("1", float(turn), 10 + turn, step=i) for i in range(4)])
            since = upto(store) or 0
            held = store._catalog.segments("metrics")
            assert all(one.max_v <= since for one in held if one.level > 1)
    assert any(one.level > 1 for one in held)
    assert newest(store) == [("p", 3.0, "1")]


def test_what_is_derived_comes_along_in_a_backup_and_old_files_of_it_go(
    store: Store, tmp_path: Path, clock: FixedClock
) -> None:
    some(store)
    old = derived(store)
    store.backup(tmp_path / "copy")
    with Store.open(tmp_path / "copy") as copy:
        assert copy.verify().ok
        assert (used(copy), newest(copy)) == (2, [("p", 2.0, "2")])
    insert(store, "metrics", [metric("1", 3.0, 9)])
    store.upkeep(grace=AT_ONCE)
    assert not old.exists()
    assert derived(store).exists()


def test_a_store_from_before_there_was_latest_answers_and_gets_it(store: Store) -> None:
    insert(store, "metrics", [metric("1", 1.0, 1), metric("1", 2.0, 2), metric("2", 0.5, 0)])
    path = store.path
    store.close()
    connection = sqlite3.connect(path / "catalog.sqlite")
    assert connection.execute("SELECT count(*) FROM tables WHERE name = 'latest'").fetchone() == (0,)
    connection.close()
    with Store.open(path, read_only=True) as looking:
        assert newest(looking) == [(None, 2.0, "1")]
    with Store.open(path) as opened:
        opened.upkeep()
        assert (upto(opened), opened.verify().damages) == (1, ())
        assert newest(opened) == [(None, 2.0, "1")]


def test_a_text_that_says_latest_is_no_question_about_it(store: Store) -> None:
    from store.planning import names_in

    assert names_in("select * from scores where truth = 'latest'") == ["scores"]
    assert names_in("select * from latest") == ["latest"]


def test_the_time_of_a_row_can_be_bounded_after_it_was_found(store: Store) -> None:
    some(store)
    late: datetime = START + HOUR * 4
    assert store.table("latest", since=late).num_rows == 0
    assert store.table("latest", until=late).num_rows == 1
    assert store.table("latest", until=START + HOUR * 3).num_rows == 0, (
        "the newest is not before, an older one does not count"
    )


def test_damaged_metrics_are_told_where_they_have_to_be_asked(store: Store) -> None:
    some(store)
    insert(store, "metrics", [metric("1", 9.0, 9)] * 4)
    for path in (store.path / "segments" / "metrics").iterdir():
        path.unlink()
    assert newest(store) == [("p", 9.0, "1")]
    derived(store).unlink()
    with Store.open(store.path) as opened, pytest.raises(Damaged, match="parquet of metrics"):
        newest(opened)
