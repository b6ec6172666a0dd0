"""A fleet whose every error is known by hand, for cards and figures.

The reading of UTC hour h on day d is d x (h + 1) / 10 for asset a, twice that for b. Yesterday's value is then off by
(h + 1) / 10, last week's by seven times that. All in New York, five hours behind, in January.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from fleet import Fleet
from tests.walks.small import fleet_in

HOSTILE = "<img src=x onerror=alert(1)>"
ASSETS = {"a": 1.0, "b": 2.0, HOSTILE: 3.0}
TZ = "America/New_York"
BEGIN = pd.Timestamp("2024-01-01", tz="UTC")
DAYS = 16
END = BEGIN + pd.Timedelta(days=DAYS)
NOW = datetime(2024, 2, 1, tzinfo=UTC)
ORIGINS = 3
#: of the readings of asset a: three in a row on day 13, one on day 14, and one between two missing ones
MISSING = (12 * 24 + 5, 12 * 24 + 6, 12 * 24 + 7, 13 * 24 + 10, 13 * 24 + 12)

CONFIG = """
[fleet]
name = "known <b>by hand</b>"
timezone = "America/New_York"
horizon = 24
seasons = [24]
quantiles = [0.1, 0.5, 0.9]

[recipes.day]
adapter = "seasonal_naive"
season = 24

[recipes.week]
adapter = "seasonal_naive"
season = 168

[recipes.spread]
adapter = "MODELS:Band"

[train]
workers = 1
fallback = ["week"]

[backtest]
origins = 3

[promotion]
min_points = 24
margin = 0.0
"""

MODELS = '''
"""Yesterday's value and one more and one less; it stops working on the day after the data."""
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Band:
    def fit(self, y, X, task):
        return self

    def load(self, blob):
        return self

    def save(self):
        return b"nothing"

    def predict(self, y, X, task):
        if task.target[0] >= pd.Timestamp("2024-01-17", tz="UTC"):
            raise RuntimeError("<script>no more</script>")
        mean = y.reindex(task.target - pd.Timedelta(days=1)).ffill().to_numpy()
        return task.frame(mean, {0.1: mean - 1, 0.5: mean, 0.9: mean + 1})
'''


def readings(first: int, last: int, *, gaps: bool = True) -> pd.DataFrame:
    """The days from one to before another, counted from 0."""
    hours = np.arange(24 * first, 24 * last)
    frames = []
    for name, scale in ASSETS.items():
        y = scale * (hours // 24) * (hours % 24 + 1) / 10
        frame = pd.DataFrame({"unique_id": name, "ds": BEGIN + pd.to_timedelta(hours, unit="h"), "y": y})
        frames.append(frame[~np.isin(hours, MISSING)] if gaps and name == "a" else frame)
    return pd.concat(frames, ignore_index=True)


def world_in(folder: Path, *, gaps: bool = False, issued: bool = True) -> Fleet:
    """The fleet judged, trained, its next day forecast and scored.

    Args:
        gaps: asset a lacks the readings of `MISSING`.
        issued: also forecast and score; `spread`, which is in charge of b, fails there and falls back.
    """
    fleet = fleet_in(folder, CONFIG, MODELS, NOW)
    fleet.ingest(readings(0, DAYS, gaps=gaps))
    register = [{"asset_id": name, "kind": "k<1>", "unit": "MW", "state": "active"} for name in ASSETS]
    transaction = fleet.store.begin()
    transaction.replace("assets", [{**row, "valid_from": datetime(1970, 1, 1, tzinfo=UTC)} for row in register])
    transaction.commit()
    fleet.train(promote=True)
    if issued:
        fleet.train(recipes=["spread"], judge=False)
        fleet.promote("spread", select=["b"])
        fleet.forecast()
        fleet.ingest(readings(DAYS, DAYS + 1))
        fleet.score()
    return fleet
