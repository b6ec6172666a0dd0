"""The table that a tabular model learns from and is asked with: the same columns at fit and at predict.

One direct model serves all steps of the horizon (see `fleet.features`). A lag without a reading is read one cycle
further back (a day, or a week), at fit and at predict alike. A column that was whole in training has to be whole when
asked, because a model that never saw a missing value would make something up for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Self

import numpy as np
import pandas as pd

from fleet import calendar, features
from fleet.alignment import steps_after
from fleet.errors import CovariateMissing, TooShort
from fleet.forecaster import readings
from fleet.task import FloatArray, IntArray, Task

MIN_ROWS = 20
_TRIES = 4


@dataclass(frozen=True, kw_only=True)
class Tabular:
    """The options that every model on a table of features shares; its adapter is a subclass with those of its own.

    Args:
        lags: of the series, in steps; by default the task's seasons, one step more, and twice the first.
        rolling: windows such as ``mean_24``; by default the mean of the first season.
        calendar: features of the local clock.
        country: ISO code for the calendar feature ``holiday``.
        covariate_lags: of every covariate, in steps; 0 is the step itself, or the newest day known of what is observed.

    >>> Tabular().features_for((24,)).lags
    (24, 25, 48)
    """

    lags: tuple[int, ...] | None = None
    rolling: tuple[str, ...] | None = None
    calendar: tuple[str, ...] = ("hour", "dayofweek")
    country: str | None = None
    covariate_lags: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        self.features_for(())

    @property
    def uses_covariates(self) -> bool:
        return True

    def features_for(self, seasons: tuple[int, ...]) -> features.Features:
        """The features of the recipe; what it leaves open follows the seasons."""
        season = seasons[0] if seasons else 1
        usual = sorted({lag for s in seasons for lag in (s, s + 1)} | {2 * season}) if seasons else [1, 2, 3]
        smooth = (f"mean_{season}",) if season > 1 else ()
        return features.Features(
            lags=tuple(usual) if self.lags is None else self.lags,
            rolling=smooth if self.rolling is None else self.rolling,
            calendar=self.calendar,
            country=self.country,
            covariate_lags=self.covariate_lags,
        )


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What the model sees: the features of `fleet.features`, with lags bridged where a reading is missing.

    Args:
        features: which, their lags moved to what every step of the horizon knows.
        farthest: steps from the last known step to the end of a typical target.
        covariates: columns of X at fit.
        past: those of them that end with the history.
        whole: columns of the table that never missed a value in training.
    """

    features: features.Features
    farthest: int
    covariates: tuple[str, ...]
    past: tuple[str, ...]
    whole: tuple[str, ...] = ()

    def table(
        self, y: pd.Series[float], X: pd.DataFrame | None, at: IntArray, task: Task, *, reach: int
    ) -> dict[str, FloatArray]:
        """The columns, one value for each step.

        Args:
            at: the steps, UTC microseconds.
            reach: how far the last of them lies behind the last known step.
        """
        seen = self._seen(X)
        step = {"freq": task.freq, "tz": task.tz}
        found = features.design(y, seen, at, self.features, farthest=self.farthest, past=self.past, **step)
        if reach > self.farthest and self.features.rolling:
            windows = features.Features(rolling=self.features.rolling)
            later = features.design(y, None, at, windows, farthest=reach, **step)
            for name, column in later.items():
                found[name] = np.where(np.isnan(found[name]), column, found[name])
        times, values = features.instants_of(y), _floats(y)
        for lag in self.features.lags:
            _bridge(found, f"lag_{lag}", values, times, at, lag, task)
        if seen is not None and self.past:
            times = features.instants_of(seen)
            for name in self.past:
                values = _floats(seen[name])
                for lag in self.features.covariate_lags:
                    moved = features.known_lag(lag, self.farthest, task.freq)
                    _bridge(found, f"x_{name}_lag_{moved}", values, times, at, moved, task)
        return found

    def _seen(self, X: pd.DataFrame | None) -> pd.DataFrame | None:
        if not self.covariates:
            return None
        absent = [name for name in self.covariates if X is None or name not in X.columns]
        if X is None or absent:
            raise CovariateMissing(f"the covariates {', '.join(absent)} are not known at the issue time")
        return X[list(self.covariates)]

    def asked(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> FloatArray:
        """(horizon, columns) the table of a task's target; refused where a column lacks what training never lacked."""
        readings(y)
        reach = int(steps_after(y.index[-1], task)[-1])
        found = self.table(y, X, calendar.micros(task.target), task, reach=reach)
        table = _side_by_side(found, task.horizon)
        missing = np.isnan(table).sum(axis=0)
        for name, count in zip(found, missing.tolist(), strict=True):
            if not count or name not in self.whole:
                continue
            if name.startswith("x_"):
                raise CovariateMissing(f"the column {name} is not known for {count} of {task.horizon} steps")
            raise TooShort(f"{name} lacks a reading for {count} of {task.horizon} steps in {len(y)} of history")
        return table

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {
            "features": {name: getattr(self.features, name) for name in features.Features.__slots__},
            "farthest": self.farthest,
            "covariates": self.covariates,
            "past": self.past,
            "whole": self.whole,
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """The columns that `as_json` told."""
        wanted = {n: tuple(v) if isinstance(v, list) else v for n, v in kept["features"].items()}
        return cls(
            features=_features(**wanted),
            farthest=kept["farthest"],
            covariates=tuple(kept["covariates"]),
            past=tuple(kept["past"]),
            whole=tuple(kept["whole"]),
        )


@lru_cache(maxsize=256)
def _features(**wanted: Any) -> features.Features:
    """Features checked once, for all models that share them."""
    return features.Features(**wanted)


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """What a model is fitted to: (rows, columns) and (rows,) of the steps that have a reading."""

    columns: Columns
    table: FloatArray
    values: FloatArray


def lessons(
    y: pd.Series[float],
    X: pd.DataFrame | None,
    task: Task,
    wanted: features.Features,
    *,
    gaps: bool,
    farthest: int | None = None,
) -> Lessons:
    """The training table of a history.

    Args:
        wanted: features as the recipe writes them; lags are moved back to what every step of the horizon knows.
        gaps: whether the model takes NaN; otherwise rows with one are left out.
        farthest: steps from the last known step to the end of the target, where those of another history count.
    """
    readings(y)
    farthest = farthest_of(y, task) if farthest is None else farthest
    moved = tuple(dict.fromkeys(features.known_lag(lag, farthest, task.freq) for lag in wanted.lags))
    longest = max([farthest, *moved])
    columns = Columns(
        features=replace(wanted, lags=moved),
        farthest=farthest,
        covariates=tuple(str(name) for name in X.columns) if X is not None else (),
        past=features.past_only(y, X),
    )
    values = _floats(y)
    learnt = np.flatnonzero(np.isfinite(values[longest:])) + longest
    found = columns.table(y, X, features.instants_of(y)[learnt], task, reach=farthest)
    table = _side_by_side(found, len(learnt))
    missing = np.isnan(table)
    if not gaps:
        kept = ~missing.any(axis=1)
        table, learnt, missing = np.asfortranarray(table[kept]), learnt[kept], missing[kept]
    if len(learnt) < MIN_ROWS:
        raise TooShort(
            f"learning needs {longest + MIN_ROWS} steps of history, {MIN_ROWS} of them readings behind the longest "
            f"lag of {longest}; of {len(y)} steps {len(learnt)} are"
        )
    lacking = missing.sum(axis=0).tolist()
    whole = tuple(name for name, count in zip(found, lacking, strict=True) if not count)
    return Lessons(columns=replace(columns, whole=whole), table=table, values=values[learnt])


def farthest_of(y: pd.Series[float], task: Task) -> int:
    """Steps from the last known step to the end of the target."""
    return int(steps_after(y.index[-1], task)[-1])


def joined(parts: Sequence[Lessons]) -> Lessons:
    """The lessons of several histories, one after the other; their tables have the same columns."""
    whole = set(parts[0].columns.whole).intersection(*(part.columns.whole for part in parts))
    columns = replace(parts[0].columns, whole=tuple(name for name in parts[0].columns.whole if name in whole))
    table = np.empty((sum(map(len, (part.table for part in parts))), parts[0].table.shape[1]), order="F")
    np.concatenate([part.table for part in parts], out=table)
    return Lessons(columns=columns, table=table, values=np.concatenate([part.values for part in parts]))


def _floats(series: pd.Series[float]) -> FloatArray:
    return np.asarray(series.to_numpy(), dtype=np.float64)


def _side_by_side(columns: Mapping[str, FloatArray], rows: int) -> FloatArray:
    """(rows, columns) in the order of memory that the libraries take without a copy: column by column."""
    table = np.empty((rows, len(columns)), order="F")
    for place, column in enumerate(columns.values()):
        table[:, place] = column
    return table


def _bridge(
    columns: dict[str, FloatArray], name: str, values: FloatArray, times: IntArray, at: IntArray, lag: int, task: Task
) -> None:
    """Put the reading of the same time one cycle or a few further back where a lag has none."""
    column = columns[name]
    for _ in range(_TRIES):
        empty = np.flatnonzero(np.isnan(column))
        if not len(empty):
            return
        lag = features.known_lag(lag, lag + 1, task.freq)
        column = column.copy()
        column[empty] = calendar.lagged_micros(values, times, at[empty], lag, task.freq, task.tz)
        columns[name] = column
