"""The table that a tabular model learns from and is asked with: the same columns at fit and at predict.

One direct model serves all steps of the horizon (see `fleet.features`). A lag without a reading is read one cycle
further back (a day, or a week), at fit and at predict alike. A column that was whole in training has to be whole when
asked, because a model that never saw a missing value would make something up for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd

from fleet import calendar, features
from fleet.alignment import steps_after
from fleet.errors import CovariateMissing, TooShort
from fleet.forecaster import readings
from fleet.task import FloatArray, Task

MIN_ROWS = 20
_TRIES = 4


def features_of(
    task_seasons: tuple[int, ...],
    *,
    lags: tuple[int, ...] | None,
    rolling: tuple[str, ...] | None,
    calendar: tuple[str, ...],
    country: str | None,
    covariate_lags: tuple[int, ...],
) -> features.Features:
    """The features of a recipe; what it leaves open follows the seasons.

    >>> features_of((24,), lags=None, rolling=None, calendar=(), country=None, covariate_lags=(0,)).lags
    (24, 25, 48)
    """
    season = task_seasons[0] if task_seasons else 1
    usual = sorted({lag for s in task_seasons for lag in (s, s + 1)} | {2 * season}) if task_seasons else [1, 2, 3]
    smooth = (f"mean_{season}",) if season > 1 else ()
    return features.Features(
        lags=tuple(usual) if lags is None else lags,
        rolling=smooth if rolling is None else rolling,
        calendar=calendar,
        country=country,
        covariate_lags=covariate_lags,
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
        self, y: pd.Series[float], X: pd.DataFrame | None, at: pd.DatetimeIndex, task: Task, *, reach: int
    ) -> pd.DataFrame:
        """One row for each step; ``reach`` is how far the last of them lies behind the last known step."""
        seen = self._seen(X)

        def designed(farthest: int) -> pd.DataFrame:
            return features.design(
                y, seen, at, self.features, farthest=farthest, freq=task.freq, tz=task.tz, past=self.past
            )

        table = designed(self.farthest)
        if reach > self.farthest and self.features.rolling:
            later = designed(reach)
            for name in self.features.rolling:
                table[name] = table[name].fillna(later[name])
        for lag in self.features.lags:
            _bridge(table, f"lag_{lag}", y, lag, task)
        if seen is not None:
            for name in self.past:
                for lag in self.features.covariate_lags:
                    moved = features.known_lag(lag, self.farthest, task.freq)
                    _bridge(table, f"x_{name}_lag_{moved}", seen[name], moved, task)
        return table

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
        table = self.table(y, X, task.target, task, reach=reach)
        for name in self.whole:
            missing = int(table[name].isna().sum())
            if missing and name.startswith("x_"):
                raise CovariateMissing(f"the column {name} is not known for {missing} of {task.horizon} steps")
            if missing:
                raise TooShort(f"{name} lacks a reading for {missing} of {task.horizon} steps in {len(y)} of history")
        return np.asarray(table.to_numpy(), dtype=np.float64)

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
        wanted: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in kept["features"].items()}
        return cls(
            features=features.Features(**wanted),
            farthest=kept["farthest"],
            covariates=tuple(kept["covariates"]),
            past=tuple(kept["past"]),
            whole=tuple(kept["whole"]),
        )


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """What a model is fitted to: (rows, columns) and (rows,) of the steps that have a reading."""

    columns: Columns
    table: FloatArray
    values: FloatArray


def lessons(
    y: pd.Series[float], X: pd.DataFrame | None, task: Task, wanted: features.Features, *, gaps: bool
) -> Lessons:
    """The training table of a history.

    Args:
        wanted: features as the recipe writes them; lags are moved back to what every step of the horizon knows.
        gaps: whether the model takes NaN; otherwise rows with one are left out.
    """
    readings(y)
    farthest = int(steps_after(y.index[-1], task)[-1])
    moved = tuple(dict.fromkeys(features.known_lag(lag, farthest, task.freq) for lag in wanted.lags))
    longest = max([farthest, *moved])
    columns = Columns(
        features=replace(wanted, lags=moved),
        farthest=farthest,
        covariates=tuple(str(name) for name in X.columns) if X is not None else (),
        past=features.past_only(y, X),
    )
    values = np.asarray(y.to_numpy(), dtype=np.float64)
    learnt = np.flatnonzero(np.isfinite(values[longest:])) + longest
    table = columns.table(y, X, pd.DatetimeIndex(y.index[learnt]), task, reach=farthest)
    if not gaps:
        kept = table.notna().all(axis=1).to_numpy()
        table, learnt = table[kept], learnt[kept]
    if len(learnt) < MIN_ROWS:
        raise TooShort(
            f"learning needs {longest + MIN_ROWS} steps of history, {MIN_ROWS} of them readings behind the longest "
            f"lag of {longest}; of {len(y)} steps {len(learnt)} are"
        )
    whole = tuple(str(name) for name in table.columns if table[name].notna().all())
    return Lessons(
        columns=replace(columns, whole=whole),
        table=np.asarray(table.to_numpy(), dtype=np.float64),
        values=values[learnt],
    )


def _bridge(table: pd.DataFrame, name: str, series: pd.Series[float], lag: int, task: Task) -> None:
    """Put the reading of the same time one cycle or a few further back where a lag has none."""
    column = table[name].to_numpy()
    values, times = np.asarray(series.to_numpy(), dtype=np.float64), pd.DatetimeIndex(series.index)
    for _ in range(_TRIES):
        empty = np.flatnonzero(np.isnan(column))
        if not len(empty):
            return
        lag = features.known_lag(lag, lag + 1, task.freq)
        at = pd.DatetimeIndex(table.index[empty])
        column = column.copy()
        column[empty] = calendar.lagged(values, times, at, lag, task.freq, task.tz)
        table[name] = column
