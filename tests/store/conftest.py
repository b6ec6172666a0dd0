"""A fresh store a test, with a clock that stands still."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from store import FixedClock, Store
from tests.store.planted import fill


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2024, 6, 1, tzinfo=UTC))


@pytest.fixture
def store(tmp_path: Path, clock: FixedClock) -> Iterator[Store]:
    with Store.open(tmp_path / "grid.store", clock=clock) as opened:
        yield opened


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Traces at every level: merged, flushed, of single commits, hot."""
    path = tmp_path_factory.mktemp("erasing") / "grid.store"
    with Store.open(path, clock=FixedClock(datetime(2024, 6, 1, tzinfo=UTC))) as store:
        fill(store)
    return path


@pytest.fixture
def planted(template: Path, tmp_path: Path, clock: FixedClock) -> Iterator[Store]:
    with Store.open(shutil.copytree(template, tmp_path / "planted.store"), clock=clock) as store:
        yield store
