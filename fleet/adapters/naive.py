"""Rules that repeat the past: the last reading, the mean, the same time a season ago.

They learn nothing, so a fitted rule is the rule itself and its blob is empty. They are the baselines and the last line
of every fallback chain, and run for ten thousand assets in a second: arithmetic on positions, no pandas alignment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import pandas as pd

from fleet import calendar
from fleet.alignment import clock_changes, follows_local_days, steps_ahead
from fleet.errors import ConfigInvalid, NoData, TooShort
from fleet.forecaster import readings
from fleet.task import FloatArray, IntArray, Task


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What all rules have in common: no library, no state."""

    library: ClassVar[str] = "tsfleet"
    codec: ClassVar[str] = "none"
    revision: ClassVar[int] = 1
    light: ClassVar[bool] = True

    @property
    def uses_covariates(self) -> bool:
        return False

    def load(self, blob: bytes) -> Self:
        return self

    def save(self) -> bytes:
        return b""

    def import_library(self) -> None:
        return None


@dataclass(frozen=True, kw_only=True)
class Naive(Rule):
    """The last reading, for every step."""

    def fit(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> Self:
        readings(y)
        return self

    def predict(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> pd.DataFrame:
        values = readings(y)
        last = values[-1] if np.isfinite(values[-1]) else values[np.isfinite(values)][-1]
        return task.frame(np.full(task.horizon, last))


@dataclass(frozen=True, kw_only=True)
class Mean(Rule):
    """The mean of the newest readings, for every step; of its peers while an asset has no reading of its own.

    Args:
        window: steps before the end of the history that count; all when absent.
    """

    window: int | None = None

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 1:
            raise ConfigInvalid(f"window is a number of steps from 1 up, got {self.window}")

    def fit(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> Self:
        self._level(y, task)
        return self

    def predict(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> pd.DataFrame:
        return task.frame(np.full(task.horizon, self._level(y, task)))

    def _level(self, y: pd.Series[float], task: Task) -> float:
        values = y.to_numpy()[-self.window if self.window else 0 :]
        known = values[np.isfinite(values)]
        if known.size:
            return float(known.mean())
        peers = task.static.get("peer_mean")
        if isinstance(peers, int | float) and np.isfinite(peers):
            return float(peers)
        raise NoData(f"none of the last {len(values)} steps holds a reading, and no peer_mean is given")


@dataclass(frozen=True, kw_only=True)
class SeasonalNaive(Rule):
    """The last reading at the same local time whole seasons before; a missing one is looked for further back.

    Args:
        season: steps of a season; the task's main season when absent.
    """

    season: int | None = None

    def __post_init__(self) -> None:
        if self.season is not None and self.season < 1:
            raise ConfigInvalid(f"season is a number of steps from 1 up, got {self.season}")

    def fit(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> Self:
        readings(y, at_least=self._season(task))
        return self

    def predict(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> pd.DataFrame:
        season = self._season(task)
        values = readings(y)
        times = y.index if isinstance(y.index, pd.DatetimeIndex) else pd.DatetimeIndex(y.index)
        ahead = steps_ahead(int(calendar.micros(times)[-1]), task)
        if follows_local_days(season, task) and clock_changes(times[_reach(values, season)], task):
            mean = same_local_time(values, times, season, ahead, task)
        else:
            mean = last_known_by_phase(values, season)[(ahead - 1) % season]
        missing = int(np.isnan(mean).sum())
        if missing:
            raise TooShort(
                f"a season of {season} steps needs a reading for each of them; the {len(values)} steps of history "
                f"hold none for {missing} of the {task.horizon} to forecast"
            )
        return task.frame(mean)

    def _season(self, task: Task) -> int:
        if self.season is not None:
            return self.season
        if not task.seasons:
            raise ConfigInvalid("seasonal_naive needs `season`, or `seasons` for the fleet")
        return task.seasons[0]


def _reach(values: FloatArray, season: int) -> int:
    """The first step that a forecast may copy: one season back, or anywhere when readings are missing there."""
    return len(values) - season if len(values) > season and np.isfinite(values[-season:]).all() else 0


def last_known_by_phase(values: FloatArray, season: int) -> FloatArray:
    """The newest reading of each step of the season, the step right after the history first.

    Returns:
        (season,) readings; NaN where the history holds none. Cost: one season, or one pass when readings are missing.

    >>> last_known_by_phase(np.array([1.0, 2.0, 3.0, 4.0, np.nan]), 3)
    array([3., 4., 2.])
    """
    recent = values[-season:]
    if len(recent) == season and np.isfinite(recent).all():
        return recent
    rows = -(-len(values) // season)
    table = np.full(rows * season, np.nan)
    table[table.size - len(values) :] = values
    table = table.reshape(rows, season)[::-1]
    known = np.isfinite(table)
    newest = table[known.argmax(axis=0), np.arange(season)]
    return np.where(known.any(axis=0), newest, np.nan)


def same_local_time(
    values: FloatArray, times: pd.DatetimeIndex, season: int, ahead: IntArray, task: Task
) -> FloatArray:
    """For each target the newest reading at its local time, whole seasons before; NaN where there is none."""
    step = int(calendar.step_seconds(task.freq)) * 1_000_000
    begin, target = int(calendar.micros(times[:1])[0]), calendar.micros(task.target)
    known_until = int(np.flatnonzero(np.isfinite(values))[-1])
    # One season less than counting steps says: the day of the autumn change is an hour longer than a day.
    seasons_back = max(1, int(ahead[0] + len(values) - 1 - known_until - 1) // season)
    found = np.full(task.horizon, np.nan)
    open_steps = np.arange(task.horizon)
    while open_steps.size:
        at = calendar.back_micros(target[open_steps], seasons_back * season, task.freq, task.tz)
        position = (at - begin) // step
        open_steps, position = open_steps[position >= 0], position[position >= 0]
        reached = position < len(values)
        found[open_steps[reached]] = values[position[reached]]
        open_steps = open_steps[~np.isfinite(found[open_steps])]
        seasons_back += 1
    return np.where(np.isfinite(found), found, np.nan)
