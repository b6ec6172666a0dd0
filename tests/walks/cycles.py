"""One turn of the main job on a small fleet: judge, decide, train, forecast, and score when the next day has come.

Fourteen assets of thirty days in Paris; the day that is held back is the one on which the clocks go forward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fleet import Fleet
from fleet.outcome import Report
from store.clock import FixedClock
from tests.walks.small import copy_of, hourly

TZ = "Europe/Paris"
BEGIN = pd.Timestamp("2024-03-01", tz=TZ)
END = BEGIN + pd.Timedelta(days=30)
ASSETS = tuple(f"plant-{number:02d}" for number in range(14))

CONFIG = """
[fleet]
name = "cycle"
timezone = "Europe/Paris"
horizon = 24
seasons = [24, 168]
quantiles = [0.1, 0.5, 0.9]
seed = 11

[recipes.day]
adapter = "seasonal_naive"
season = 24

[recipes.week]
adapter = "seasonal_naive"
season = 168

[recipes.level]
adapter = "MODELS:Level"
window = 48

[train]
workers = 1
fallback = ["day"]

[backtest]
origins = 4

[promotion]
min_points = 24
"""

LEVEL = '''
"""A user's own model: the level of the last days, spread by what was seen, shaken by the seed."""
import json
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Level:
    window: int = 24

    def fit(self, y, X, task):
        known = y.to_numpy()[np.isfinite(y.to_numpy())][-self.window :]
        return Learnt(self.window, float(known.std()), float(np.random.default_rng(task.seed).normal()))

    def load(self, blob):
        return Learnt(**json.loads(blob))


@dataclass(frozen=True)
class Learnt:
    window: int
    spread: float
    shake: float

    def save(self):
        return json.dumps(asdict(self)).encode()

    def predict(self, y, X, task):
        known = y.to_numpy()[np.isfinite(y.to_numpy())][-self.window :]
        mean = np.full(task.horizon, known.mean() + 0.1 * self.shake)
        return task.frame(mean, {q: mean + (q - 0.5) * 2 * self.spread for q in task.quantiles})
'''

DETERMINISTIC = ("forecasts", "scores", "scales", "runs", "metrics", "versions", "champions", "decisions")


def data(days: int) -> pd.DataFrame:
    return hourly(ASSETS, days, begin=BEGIN)


def next_day() -> pd.DataFrame:
    """What arrives a day later: the whole window again, as a daily export would have it."""
    frame = data(32)
    return frame[(frame["ds"] >= END - pd.Timedelta(days=3)) & (frame["ds"] < END + pd.Timedelta(hours=24))]


def everything() -> pd.DataFrame:
    """All actuals of a cycle."""
    return pd.concat([data(30), next_day()]).drop_duplicates(["unique_id", "ds"])


def later(fleet: Fleet) -> None:
    assert isinstance(fleet.clock, FixedClock)
    fleet.clock.advance(hours=1)


def cycle(fleet: Fleet, *, actuals: pd.DataFrame | None = None, workers: int | None = None) -> dict[str, Report]:
    """Thirty days in, a forecast out, the next day in, scores out."""
    fleet.ingest(data(30))
    reports = {}
    verbs: dict[str, Callable[[], Report]] = {
        "backtest": lambda: fleet.backtest(workers=workers),
        "train": lambda: fleet.train(promote=True, workers=workers),
        "forecast": lambda: fleet.forecast(workers=workers),
        "score": fleet.score,
    }
    for name, verb in verbs.items():
        if name == "score":
            fleet.ingest(next_day() if actuals is None else actuals)
        later(fleet)
        reports[name] = verb()
    return reports


@dataclass(frozen=True)
class Done:
    """A fleet after one cycle, with what its verbs reported; it is looked at and left as it is."""

    fleet: Fleet
    reports: dict[str, Report]

    def frame(self, table: str) -> pd.DataFrame:
        return self.fleet.store.table(table).to_pandas()


def copied(done: Done, folder: Path) -> Fleet:
    """A fleet of one's own in the state after one cycle, at the hour when that ended."""
    return copy_of(done.fleet.config.folder, folder, done.fleet.clock.now())


def errors(forecasts: pd.DataFrame, actuals: pd.DataFrame) -> pd.DataFrame:
    """Every forecast beside its actual."""
    frame = forecasts.merge(
        actuals.rename(columns={"unique_id": "asset_id", "ds": "valid_time"}), on=["asset_id", "valid_time"]
    )
    frame["e"] = frame["mean"] - frame["y"]
    frame["size"] = frame["e"].abs()
    return frame
