"""A fresh store a test, with a clock that stands still."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from store import FixedClock, Store


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2024, 6, 1, tzinfo=UTC))


@pytest.fixture
def store(tmp_path: Path, clock: FixedClock) -> Iterator[Store]:
    with Store.open(tmp_path / "grid.store", clock=clock) as opened:
        yield opened
