"""Rows that come straight from the segments are those that DuckDB hands over, in the same order and types."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from store import Store
from store.errors import Damaged
from store.selecting import FEW, Selection
from store.straight import straight
from tests.store.rows import HOUR, START, insert, replace

ASSETS = [f"site-{number:03d}" for number in range(2 * FEW)]
MANY = ASSETS[: FEW + 1]


def actuals(assets: list[str], start: int, count: int, value: float = 1.0) -> pa.Table:
    rows = [
        {
            "asset_id": asset,
            "valid_time": START + step * HOUR,
            "y": None if step % 7 == 3 else value + place + step,
            "available_at": START + (step + 1) * HOUR,
        }
        for place, asset in enumerate(assets)
        for step in range(start, start + count)
    ]
    return pa.Table.from_pylist(rows)


def both(store: Store, name: str, **asked: Any) -> tuple[pa.Table | None, pa.Table]:
    """What comes straight from the segments, if it does, and what DuckDB says."""
    snapshot, answers = store.snapshot(), {}

    def ask(asking: Any) -> None:
        from store.planning import needed
        from store.schema import VIEWS

        wanted = {"assets": None, "since": None, "until": None, "columns": None, "where": None} | asked
        plan = asking.plan(needed([name]), snapshot.id)
        selection, question = Selection(plan, VIEWS[name], **wanted), asking.engine.cursor()
        answers["straight"] = straight(selection, question)
        answers["duck"] = question.arrow(selection.sql(question))

    snapshot._reader.answer(ask)
    return answers["straight"], answers["duck"]


def same(store: Store, name: str, **asked: Any) -> pa.Table:
    found, expected = both(store, name, **asked)
    assert found is not None, "DuckDB would have answered alone"
    assert found.cast(expected.schema).equals(expected)
    assert found.schema.types == expected.schema.types
    return found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "s.store")


def test_assets_of_one_segment_come_as_they_lie(store: Store) -> None:
    insert(store, "actuals", actuals(ASSETS, 0, 50))
    rows = same(store, "actuals_all", columns=["asset_id", "valid_time", "y", "available_at", "_v"])
    assert rows.num_rows == 50 * len(ASSETS)
    assert same(store, "actuals", assets=MANY).column_names == [
        "asset_id", "valid_time", "y", "available_at", "quality"
    ]  # fmt: skip


def test_only_the_assets_and_hours_asked_for_come(store: Store) -> None:
    insert(store, "actuals", actuals(ASSETS, 0, 50))
    odd = [*ASSETS[::2], "unknown"]
    rows = same(store, "actuals_all", assets=[*odd, *MANY], since=START + 10 * HOUR, until=START + 12 * HOUR)
    assert rows.num_rows == 2 * len(set(MANY) | set(ASSETS[::2]))


def test_segments_of_later_hours_are_brought_together_by_asset(store: Store) -> None:
    insert(store, "actuals", actuals(ASSETS, 0, 50))
    insert(store, "actuals", actuals(ASSETS, 50, 50))
    insert(store, "actuals", actuals(ASSETS, 100, 3))  # hot
    rows = same(store, "actuals_all", columns=["y", "_v", "asset_id"])
    assert rows.num_rows == 103 * len(ASSETS)
    assert rows["asset_id"].to_pylist() == sorted(rows["asset_id"].to_pylist())


def test_what_is_later_than_the_snapshot_or_was_replaced_is_left_to_duckdb(store: Store) -> None:
    insert(store, "actuals", actuals(ASSETS, 0, 50))
    before = store.snapshot()
    insert(store, "actuals", actuals(ASSETS, 50, 50))
    assert before.table("actuals_all", assets=MANY).num_rows == 50 * len(MANY)
    replace(store, "actuals", actuals(ASSETS, 0, 50, value=5.0))
    assert both(store, "actuals")[0] is None
    assert store.snapshot().table("actuals", assets=MANY)["y"][0].as_py() == 5.0


def test_few_assets_and_tables_with_another_order_are_left_to_duckdb(store: Store) -> None:
    insert(store, "actuals", actuals(ASSETS, 0, 50))
    assert both(store, "actuals_all", assets=ASSETS[:FEW])[0] is None
    assert both(store, "runs")[0] is None
    assert both(store, "published")[0] is None


def test_quantiles_that_only_some_segments_have_are_null_in_the_others(store: Store) -> None:
    def issued(day: int, **more: float) -> list[dict[str, Any]]:
        issue = START + timedelta(days=day)
        facts = {"product": "default", "recipe": "r", "recipe_hash": "h", "version_id": "v", "run_id": "x"}
        times = [{"issue_time": issue, "valid_time": issue + step * HOUR, "step": step + 1} for step in range(48)]
        return [
            {"asset_id": asset, **facts, "role": "champion", **at, "mean": 1.0, **more}
            for asset in ASSETS
            for at in times
        ]

    insert(store, "forecasts", pa.Table.from_pylist(issued(0)))
    insert(store, "forecasts", pa.Table.from_pylist(issued(9, q10=0.5)))
    rows = same(store, "forecasts")
    assert rows["q10"].null_count == rows.num_rows // 2


def test_a_segment_that_does_not_read_is_damage(store: Store) -> None:
    insert(store, "actuals", actuals(ASSETS, 0, 50))
    (file,) = (store.path / "segments" / "actuals").glob("*.parquet")
    held = bytearray(file.read_bytes())
    held[len(held) // 2] ^= 0xFF
    file.write_bytes(held)
    with pytest.raises(Damaged, match=file.name):
        store.snapshot().table("actuals_all", columns=["asset_id", "valid_time", "y", "available_at", "_v"])
