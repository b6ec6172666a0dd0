"""Keyed tables are last-write-wins in commit order, wherever the rows lie; a revision keeps what it revised."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from store import FixedClock, Store
from store.errors import SchemaMismatch
from tests.store.rows import HOUR, START, insert, reading, readings, replace, values


def cell(asset: str, n: int, **more: object) -> dict[str, object]:
    return {
        "asset_id": asset, "product": "default", "recipe": "r", "recipe_hash": "h", "version_id": None, "role": "x",
        "truth": "latest", "perfect_foresight": False, "day": date(2024, 1, 1), "lead_bucket": "0-1h", "n": n, **more,
    }  # fmt: skip


@pytest.mark.parametrize("flushed", ["never", "between", "after"])
@pytest.mark.parametrize("old", [1, 6_000], ids=["hot", "segment"])
@pytest.mark.parametrize("new", [1, 6_000], ids=["few", "many"])
def test_the_last_write_wins_across_hot_rows_and_segments(store: Store, old: int, new: int, flushed: str) -> None:
    insert(store, "scores", [cell(f"a{i}", 1) for i in range(old)])
    if flushed == "between":
        store.flush()
    done = replace(store, "scores", [cell(f"a{i}", 2) for i in range(new)])
    assert done.written == {"scores": new}
    if flushed == "after":
        store.flush()
    expected = {1: max(old - new, 0), 2: new}
    ask = "select n, count(*) as cells from scores group by n"
    assert {r["n"]: r["cells"] for r in store.sql(ask).rows()} == {n: c for n, c in expected.items() if c}
    assert store.at(1).sql(ask).rows() == [{"n": 1, "cells": old}]


def test_a_nullable_part_of_a_key_equals_itself(store: Store) -> None:
    insert(store, "scores", [cell("a", 1), cell("a", 1, version_id="v")])
    replace(store, "scores", [cell("a", 2)])
    found = store.sql("select version_id, n from scores order by version_id nulls first").rows()
    assert [tuple(row.values()) for row in found] == [(None, 2), ("v", 1)]


def test_of_equal_keys_in_one_replacement_the_last_counts(store: Store) -> None:
    txn = store.begin()
    txn.insert("scores", [cell("a", 0)])
    txn.replace("scores", [cell("a", 1), cell("b", 1), cell("a", 2)])
    txn.replace("scores", [cell("b", 3)])
    assert txn.commit().written == {"scores": 2}
    assert {r["asset_id"]: r["n"] for r in store.sql("select asset_id, n from scores").rows()} == {"a": 2, "b": 3}


def test_a_table_without_key_cannot_be_replaced(store: Store) -> None:
    with pytest.raises(SchemaMismatch):
        store.begin().replace("metrics", [{"run_id": "1", "name": "mae", "value": 1.0}])


def test_an_identical_row_is_no_revision(store: Store) -> None:
    rows = [
        reading("a", 0, 1.0),
        reading("a", 1, float("nan")),
        reading("a", 2, None),
        reading("a", 3, 4.0, quality="x"),
    ]
    assert replace(store, "actuals", rows).written == {"actuals": 4}
    assert replace(store, "actuals", rows).written == {"actuals": 0}
    later = [reading("a", 0, 1.0, known=30), reading("a", 3, 4.0, quality="y")]
    assert replace(store, "actuals", later).written == {"actuals": 1}
    store.flush()
    assert replace(store, "actuals", rows[:3]).written == {"actuals": 0}
    assert store.table("actuals_all").num_rows == 5


def test_identical_bulk_rows_are_no_revisions(store: Store) -> None:
    rows = readings(8, 1_000)
    insert(store, "actuals", rows)
    assert replace(store, "actuals", rows).written == {"actuals": 0}
    changed = rows.set_column(2, "y", pa.array([0.0] * rows.num_rows))
    assert replace(store, "actuals", changed).written == {"actuals": 8_000}
    assert store.table("actuals").column("y").unique().to_pylist() == [0.0]
    assert store.table("actuals_all").num_rows == 16_000
    assert store.at(1).table("actuals", columns=["y"]).column("y").to_pylist() == rows.column("y").to_pylist()


def test_a_value_that_returns_is_a_revision_again(store: Store) -> None:
    for y in (1.0, 2.0, 1.0):
        replace(store, "actuals", [reading("a", 0, y)])
    assert values(store) == [1.0]
    assert [values(store.at(s)) for s in (1, 2, 3)] == [[1.0], [2.0], [1.0]]
    assert store.table("actuals_all").num_rows == 3


def test_the_newest_vintage_wins_even_when_it_came_first(store: Store) -> None:
    replace(store, "actuals", [reading("a", 0, 2.0, known=5)])
    replace(store, "actuals", [reading("a", 0, 1.0, known=1)])
    assert values(store) == [2.0]
    vintages = store.table("actuals_all", columns=["y"]).column("y").to_pylist()
    assert vintages == [1.0, 2.0]
    replace(store, "actuals", [reading("a", 0, 3.0, known=5)])
    assert values(store) == [3.0]


@pytest.mark.parametrize("count", [1, 6_000])
def test_several_vintages_in_one_insert(store: Store, count: int) -> None:
    rows = []
    for i in range(count):
        asset = f"a{i:05d}"
        rows += [reading(asset, 0, 2.0, known=5), reading(asset, 0, 1.0, known=1), reading(asset, 1, 7.0)]
    insert(store, "actuals", rows)
    assert values(store, "a00000") == [2.0, 7.0]
    assert store.table("actuals").num_rows == 2 * count
    assert store.table("actuals_all").num_rows == 3 * count


def test_covariates_show_the_newest_vintage_and_keep_all(store: Store) -> None:
    def forecast(known: int, value: float) -> dict[str, object]:
        return {
            "series_id": "s", "name": "temp", "valid_time": START + HOUR * 9, "available_at": START + HOUR * known,
            "value": value,
        }  # fmt: skip

    replace(store, "covariates", [forecast(2, 2.0), forecast(1, 1.0)])
    replace(store, "covariates", [forecast(3, 2.0), forecast(0, 0.0)])
    assert store.table("covariates", columns=["value"]).to_pylist() == [{"value": 2.0}]
    assert store.table("covariates_all", columns=["value"]).column("value").to_pylist() == [0.0, 1.0, 2.0]
    assert store.table("covariates_all", assets=["t"]).num_rows == 0


def test_a_flush_changes_no_answer_of_any_snapshot(store: Store) -> None:
    for y in (1.0, 2.0):
        replace(store, "actuals", [reading(asset, h, y + h) for asset in ("a", "b") for h in range(3)])
        insert(store, "metrics", [{"run_id": "1", "asset_id": "a", "name": "mae", "value": y}])
        replace(store, "scores", [cell("a", int(y))])
    kept = store.at(3)
    snapshots = range(store.head() + 1)
    names = ("actuals", "actuals_all", "metrics", "scores")

    def everything() -> list[list[dict[str, object]]]:
        return [store.at(s).table(name).to_pylist() for s in snapshots for name in names]

    before = everything()
    moved = store.flush()
    assert moved["actuals"] == 12
    assert sum(store.info().hot.values()) == 0
    assert everything() == before
    assert values(kept) == values(store.at(3))
    assert store.head() == max(snapshots)
    assert store.flush() == {}


def test_writers_of_the_same_keys_at_once_leave_one_row_a_key(store: Store) -> None:
    failures = []

    def write(turn: int) -> None:
        try:
            with Store.open(store.path) as own:
                for step in range(5):
                    replace(own, "actuals", [reading("a", h, float(turn * 10 + step), known=h) for h in range(4)])
                    replace(own, "scores", [cell("a", turn)])
        except BaseException as error:  # noqa: BLE001 a thread's failure must reach the test
            failures.append(error)

    threads = [threading.Thread(target=write, args=(turn,)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(values(store)) == 4
    assert store.table("scores").num_rows == 1
    newest = store.sql("select y from actuals_all__v where valid_time = $t order by _v desc limit 1", {"t": START})
    assert values(store)[0] == newest.rows()[0]["y"]


class Meddler(FixedClock):
    """A clock that, each time it is asked while it has something to do, lets another writer commit first."""

    acts: list[Callable[[], object]]

    def now(self) -> datetime:
        if getattr(self, "acts", None):
            self.acts.pop()()
        return super().now()


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 6_000])
def test_a_look_up_that_another_commit_made_stale_is_done_again(tmp_path: Path, times: int, count: int) -> None:
    clock = Meddler(START)
    with Store.open(tmp_path / "s", clock=clock) as mine, Store.open(tmp_path / "s") as others:
        rows = [reading(f"a{i:04d}", 0, 1.0) for i in range(count)]
        meant = [reading(f"a{i:04d}", 0, 2.0) for i in range(count)]
        clock.acts = [partial(meddle, others, rows, float(y)) for y in range(times)]
        assert replace(mine, "actuals", meant).snapshot == times + 1
        assert mine.table("actuals", columns=["y"]).column("y").to_pylist() == [2.0] * count
        assert mine.table("actuals_all").num_rows == (times + 1) * count


def meddle(store: Store, rows: list[dict[str, Any]], y: float) -> None:
    replace(store, "actuals", [row | {"y": -y} for row in rows])


def test_the_register_shows_what_is_in_force(store: Store, clock: FixedClock) -> None:
    def dated(capacity: float, year: int | None, until: int | None) -> dict[str, object]:
        return {
            "asset_id": "a", "capacity": capacity,
            "valid_from": None if year is None else datetime(year, 1, 1, tzinfo=UTC),
            "valid_to": None if until is None else datetime(until, 1, 1, tzinfo=UTC),
        }  # fmt: skip

    replace(store, "assets", [dated(1.0, None, 2024), dated(2.0, 2024, 2026), dated(3.0, 2026, None)])
    assert store.table("assets", columns=["capacity"]).to_pylist() == [{"capacity": 2.0}]
    assert "valid_from" not in store.table("assets").column_names
    assert store.table("assets_all").num_rows == 3
    clock.set(datetime(2030, 1, 1, tzinfo=UTC))
    assert store.sql("select capacity from assets").rows() == [{"capacity": 3.0}]
    replace(store, "assets", [dated(4.0, None, 2024)])
    assert store.table("assets_all", columns=["capacity"]).column("capacity").to_pylist() == [2.0, 3.0, 4.0]
