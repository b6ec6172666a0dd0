"""A small fleet on disk, as a user would have it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fleet import Fleet
from tests.jobs.typed import Typed

CONFIG = """
[fleet]
name = "small"
store = "small.store"
timezone = "UTC"
freq = "1h"
horizon = 24
seasons = [24, 168]

[data]
path = "data/*.parquet"

[assets]
path = "assets.csv"

[recipes.day]
adapter = "seasonal_naive"
season = 24

[recipes.week]
adapter = "seasonal_naive"
season = 168

[train]
workers = 1
fallback = ["day"]

[backtest]
origins = 3

[promotion]
min_points = 24
"""


def make_fleet(folder: Path) -> Path:
    """Three plants of four weeks: a daily rhythm, a weekly one, noise."""
    random = np.random.default_rng(7)
    times = pd.date_range("2024-03-01", periods=28 * 24, freq="h", tz="UTC")
    frames = []
    for number, name in enumerate(("north-1", "north-2", "south-1")):
        daily = 10 + 3 * np.sin(np.arange(len(times)) * 2 * np.pi / 24)
        weekend = np.where(times.day_of_week >= 5, -4.0 * number, 0.0)
        frames.append(
            pd.DataFrame({"unique_id": name, "ds": times, "y": daily + weekend + random.normal(0, 0.3, len(times))})
        )
    (folder / "data").mkdir(parents=True)
    pd.concat(frames).to_parquet(folder / "data" / "history.parquet")
    (folder / "assets.csv").write_text(
        "asset_id,region,capacity\nnorth-1,north,20\nnorth-2,north,20\nsouth-1,south,30\n", encoding="utf-8"
    )
    (folder / "fleet.toml").write_text(CONFIG, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the small fleet with its readings; tests copy it."""
    with Fleet.open(make_fleet(tmp_path_factory.mktemp("stored") / "small") / "fleet.toml") as fleet:
        fleet.ingest()
        return fleet.store.path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a small fleet, and the one we are in."""
    made = make_fleet(tmp_path / "small")
    monkeypatch.chdir(made)
    monkeypatch.delenv("TSFLEET_CONFIG", raising=False)
    return made


@pytest.fixture
def fed(stored: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> Typed:
    """A command line in the folder of a small fleet whose readings are stored."""
    shutil.copytree(stored, folder / stored.name)
    return Typed(capsys)
