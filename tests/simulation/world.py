"""The fleet of the simulation on disk: its configuration, its team's own code, and the feed that writes beside it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from tests.simulation.story import STATIONS, TIMINGS, ZONE, Story, readings, weather

KIND = {
    "dayahead": "forecast",
    "deliver_day": "deliver",
    **dict.fromkeys(("own", "night_once", "night_twice", "night_skip"), "own:run"),
}
MORE = {
    "ingest": 'retries = 3\nbackoff = "2min"',
    "forecast": 'product = "default"',
    "dayahead": 'product = "day_ahead"\nretries = 1',
    "deliver": 'options = { deliveries = ["desk"] }',
    "deliver_day": 'options = { deliveries = ["market"] }',
    "alert": "",
}
CONFIG = """
[fleet]
name = "simulated"
store = "simulated.store"
timezone = "Europe/Berlin"
freq = "1h"
seasons = [24, 168]
quantiles = [0.1, 0.9]

[assets]
path = "assets.csv"

[data]
path = "feed/*.parquet"
available_at = "known"

[[covariates]]
name = "weather"
path = "weather/*.parquet"
series = "station"
columns = ["temp"]
known = "future"
available_at = "known"

[products.default]
horizon = 24

[products.day_ahead]
issue = "11:30"
target = "tomorrow"
gate = "12:00"
budget = "10min"
recipes = ["level"]

[recipes.day]
adapter = "seasonal_naive"
season = 24

[recipes.ridge]
adapter = "sklearn"
lags = [24, 48, 168]
calendar = ["hour", "dayofweek"]

[recipes.level]
adapter = "own:Level"

[train]
workers = 1
window = "28d"
recipes = ["day", "ridge"]
fallback = ["day", "weekly_naive"]

[backtest]
origins = 5

[promotion]
min_points = 24

[deliveries.desk]
path = "out/desk/{issue}-{number}.csv"
product = "default"

[deliveries.market]
path = "out/market/{date}-{number}.csv"
product = "day_ahead"
layout = "local-day"

[channels.desk]
kind = "log"
file = "alerts.log"

[[alerts]]
name = "silent"
kind = "readings"
after = "6h"

[[alerts]]
name = "weather"
kind = "inputs"
after = "3h"

[[alerts]]
name = "fallbacks"
kind = "outcomes"

[[alerts]]
name = "jobs"
kind = "jobs"
after = "2d"

[[alerts]]
name = "worse"
kind = "metric"
metric = "wape"
change = 0.5
"""
#: The team's own kind leaves one row a run. Its model says the mean of a day; it can be slow, and it can fail.
OWN = """
from datetime import datetime
from pathlib import Path

import numpy as np

from jobs.work import Done

HERE = Path(__file__).parent


def run(work):
    commit = work.fleet.store.begin(commit_id=work.commit_id(0))
    row = {"run_id": work.name, "name": work.slot.isoformat(), "value": float(work.revision), "time": work.clock.now()}
    commit.insert("metrics", [row])
    commit.commit()
    return Done(status="ok")


class Level:
    def fit(self, y, X, task):
        return self

    def save(self):
        return b"level"

    @classmethod
    def load(cls, blob):
        return cls()

    def predict(self, y, X, task):
        asset = task.static["asset_id"]
        if (HERE / "sick").exists() and (HERE / "sick").read_text() == asset:
            raise ValueError("no level today")
        slow = HERE / "slow"
        if slow.exists() and slow.read_text().split()[0] == asset:
            until = datetime.fromisoformat(slow.read_text().split()[1])
            now = HERE / "now"
            if datetime.fromisoformat(now.read_text()) < until:
                beside = now.with_suffix(".new")
                beside.write_text(until.isoformat())
                beside.replace(now)
        level = float(np.nanmean(y.to_numpy()[-24:])) if len(y) else 0.0
        return task.frame(np.full(task.horizon, level))
"""


class FileClock:
    """Shows what a file says; every process of the simulation looks there."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def set(self, at: datetime) -> None:
        beside = self._path.with_suffix(".new")
        beside.write_text(at.astimezone(UTC).isoformat(), encoding="utf-8")
        beside.replace(self._path)

    def now(self) -> datetime:
        return datetime.fromisoformat(self._path.read_text(encoding="utf-8"))


def configured() -> str:
    """The text of fleet.toml with all its jobs; whatever was missed is caught up, and all of it."""
    parts = [CONFIG]
    for name, timing in TIMINGS.items():
        parts += [f"\n[jobs.{name}]", f'kind = "{KIND.get(name, name)}"', timing.toml, MORE.get(name, "")]
        parts += ['catch_up = "all"', "catch_up_limit = 1000"]
    return "\n".join(parts) + "\n"


class World:
    """What lies in the folder, and how it changes with the time."""

    def __init__(self, folder: Path, story: Story) -> None:
        self.folder, self.story = folder, story
        for name in ("feed", "weather"):
            (folder / name).mkdir(parents=True)
        (folder / "own.py").write_text(OWN, encoding="utf-8")
        self.config = folder / "fleet.toml"
        self.config.write_text(configured(), encoding="utf-8")
        lines = ["asset_id,kind,capacity,unit,station"]
        for number, asset in enumerate(story.assets):
            lines.append(f"{asset},{'pv' if number % 2 else 'load'},{100 + number},kW,{STATIONS[number % 2]}")
        (folder / "assets.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.clock = FileClock(folder / "now")
        self.clock.set(story.begin)
        self.readings, self.weather = readings(story), weather(story)
        self._told: dict[str, int] = {}
        self.pass_to(story.begin)

    def pass_to(self, now: datetime) -> None:
        """What the world has done by then."""
        self._tell("feed", self.readings, now)
        self._tell("weather", self.weather, now)
        broken = any(one.kind == "broken" and one.start <= now < one.stop_before for one in self.story.spans)
        torn = self.folder / "feed" / "torn.parquet"
        torn.write_bytes(b"PAR1 and then nothing") if broken else torn.unlink(missing_ok=True)
        day = now.astimezone(ZONE)
        gate = day.replace(hour=11, minute=52, second=0, microsecond=0)
        slow, sick = self.folder / "slow", self.folder / "sick"
        whom = self.story.slow.get(day.date())
        due = gate.replace(minute=30) <= day < gate
        slow.write_text(f"{whom} {gate.astimezone(UTC).isoformat()}") if whom and due else slow.unlink(missing_ok=True)
        ill = self.story.sick.get(day.date())
        sick.write_text(ill) if ill else sick.unlink(missing_ok=True)

    def _tell(self, name: str, table: pd.DataFrame, now: datetime) -> None:
        """Write what is known by now into the file of its day; the days before the story are one file."""
        count = int(table["known"].searchsorted(pd.Timestamp(now), side="right"))
        before = self._told.get(name, 0)
        if count == before:
            return
        fresh = table.iloc[before:count]
        for day in fresh["known"].clip(lower=pd.Timestamp(self.story.begin)).dt.date.unique():
            path = self.folder / name / f"{day}.parquet"
            mine = table.iloc[:count]
            mine = mine[mine["known"].clip(lower=pd.Timestamp(self.story.begin)).dt.date == day]
            beside = path.with_suffix(".new")
            mine.to_parquet(beside, index=False)
            beside.replace(path)
        self._told[name] = count
