"""Laws of the questions that `score` asks: which cells are stale, and what a forecast is measured by."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fleet.scoring import OPEN, STALE, rows_against
from store import FixedClock, Store
from store.clock import EPOCH

T = datetime(2024, 1, 1, tzinfo=UTC)
CLOCKS = pa.table({"asset_id": ["a", "b"], "tz": ["Europe/Paris", "UTC"]})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store.open(tmp_path / "s.store", clock=FixedClock(T))
    yield made
    made.close()


def add(store: Store, table: str, rows: list[dict[str, Any]]) -> None:
    transaction = store.begin()
    transaction.replace(table, rows)
    transaction.commit()


def forecast(asset: str, hours: int, issue: datetime = T, role: str = "champion") -> dict[str, Any]:
    at = {"asset_id": asset, "product": "default", "recipe": "x", "recipe_hash": "h", "version_id": "v", "role": role}
    return at | {"issue_time": issue, "valid_time": issue + timedelta(hours=hours), "step": hours + 1, "mean": 1.0}


def actual(asset: str, hours: int, y: float | None = 2.0) -> dict[str, Any]:
    at = T + timedelta(hours=hours)
    return {"asset_id": asset, "valid_time": at, "y": y, "available_at": at + timedelta(hours=1)}


def stale(store: Store, seen: int) -> set[tuple[str, str]]:
    rows = store.snapshot().sql(STALE, {"seen": seen}, {"clocks": CLOCKS}).rows()
    found = [(row["asset_id"], row["day"].isoformat()) for row in rows]
    assert len(found) == len(set(found))
    return set(found)


def test_a_cell_is_stale_when_an_actual_or_a_forecast_in_it_is_new(store: Store) -> None:
    add(store, "forecasts", [forecast("a", 0), forecast("a", 23), forecast("b", 0), forecast("b", 1, role="backtest")])
    add(store, "actuals", [actual("a", 0), actual("b", 1), actual("c", 0)])
    assert stale(store, 0) == {("a", "2024-01-01")}
    seen = store.head()
    assert stale(store, seen) == set()
    add(store, "actuals", [actual("a", 23), actual("b", 0, None)])
    # 23:00 UTC is the next day in Paris; an actual that was taken back empties its cell.
    assert stale(store, seen) == {("a", "2024-01-02"), ("b", "2024-01-01")}
    seen = store.head()
    add(store, "forecasts", [forecast("b", 0) | {"mean": 3.0}, forecast("a", 23) | {"mean": 3.0}])
    assert stale(store, seen) == {("a", "2024-01-02")}


def test_capacity_is_that_of_the_valid_time(store: Store) -> None:
    register: list[dict[str, Any]] = [
        {"asset_id": "a", "capacity": 5.0, "valid_from": EPOCH},
        {"asset_id": "a", "capacity": 9.0, "valid_from": T + timedelta(hours=1), "valid_to": T + timedelta(hours=2)},
        {"asset_id": "b", "capacity": 7.0, "valid_from": T + timedelta(hours=1)},
    ]
    add(store, "assets", register)
    add(store, "forecasts", [forecast(asset, hours) for asset in "ab" for hours in range(3)])
    add(store, "actuals", [actual(asset, hours) for asset in "ab" for hours in range(3)])
    snapshot = store.snapshot()
    days = snapshot.sql(STALE, {"seen": 0}, {"clocks": CLOCKS}).arrow()
    asked = {"truth": "latest", "scored": []}
    rows = snapshot.sql(rows_against("latest"), asked, {"clocks": CLOCKS, "stale": days}).rows()
    assert [row["capacity"] for row in rows] == [5.0, 9.0, 5.0, None, 7.0, 7.0]


def test_only_new_forecasts_are_counted_as_open(store: Store) -> None:
    late = T + timedelta(days=30)
    add(store, "forecasts", [forecast("a", 0), forecast("a", 0, late), forecast("a", 1, late - timedelta(days=7))])
    assert store.snapshot().sql(OPEN).rows() == [{"n": 2}]
    add(store, "actuals", [actual("a", 30 * 24), actual("a", 23 * 24 + 1, None)])
    assert store.snapshot().sql(OPEN).rows() == [{"n": 1}]
