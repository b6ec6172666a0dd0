"""Rows that the tests of the store share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from store import Commit, Store

START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def reading(
    asset: str, hour: int, y: float | None, *, known: int | None = None, quality: str | None = None
) -> dict[str, Any]:
    """One row of actuals; ``known`` is the hour at which it became available."""
    at = START + HOUR * hour
    return {
        "asset_id": asset,
        "valid_time": at,
        "y": y,
        "available_at": START + HOUR * (hour + 1 if known is None else known),
        "quality": quality,
    }


def readings(assets: int, hours: int, *, first: int = 0, seed: int = 0) -> pa.Table:
    """A sorted Arrow table of actuals."""
    count = assets * hours
    micros = int(START.timestamp()) * 1_000_000 + np.tile(np.arange(hours), assets) * 3_600_000_000
    ids = [f"asset-{first + i:05d}" for i in range(assets)]
    return pa.table(
        {
            "asset_id": pa.array(ids).take(pa.array(np.repeat(np.arange(assets), hours))),
            "valid_time": pa.array(micros, pa.timestamp("us", "UTC")),
            "y": np.random.default_rng(seed).normal(size=count),
            "available_at": pa.array(micros + 3_600_000_000, pa.timestamp("us", "UTC")),
        }
    )


def insert(store: Store, table: str, rows: pa.Table | Sequence[Mapping[str, Any]]) -> Commit:
    """One commit that inserts."""
    txn = store.begin()
    txn.insert(table, rows)
    return txn.commit()


def replace(store: Store, table: str, rows: pa.Table | Sequence[Mapping[str, Any]]) -> Commit:
    """One commit that replaces."""
    txn = store.begin()
    txn.replace(table, rows)
    return txn.commit()


def values(store: Any, asset: str = "a") -> list[float | None]:
    """The readings in force of one asset, in order."""
    found: list[float | None] = store.table("actuals", assets=[asset], columns=["y"]).column("y").to_pylist()
    return found
