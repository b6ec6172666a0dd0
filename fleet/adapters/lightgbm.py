"""Gradient-boosted trees of LightGBM on lags, calendar and covariates: the mean, and one model for each quantile.

One direct model serves all steps of the horizon (see `fleet.features`). A lag without a reading is read one cycle further
back (a day, or a week), at fit and at predict alike, because trees that never saw a missing value would take it for zero;
a forecast that would still have to is refused. The blob holds the models' text and the names of their columns.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from fleet import calendar, features
from fleet.alignment import steps_after
from fleet.errors import AdapterMissing, ConfigInvalid, FleetError, PredictFailed, TooShort
from fleet.forecaster import readings
from fleet.task import FloatArray, Task

if TYPE_CHECKING:
    import lightgbm

MIN_ROWS = 20
_TRIES = 4
_DEFAULTS = {"num_leaves": 31, "learning_rate": 0.1}
# Two threads took eleven times the CPU of one on small tables; workers are the parallelism here.
_FIXED = {"num_threads": 1, "deterministic": True, "force_row_wise": True, "verbosity": -1}


@dataclass(frozen=True, kw_only=True)
class LightGBM:
    """Boosted trees on features of the history, the calendar and the covariates.

    Args:
        lags: of the series, in steps; by default the task's seasons, one step more, and twice the first.
        rolling: windows such as ``mean_24``; by default the mean of the first season.
        calendar: features of the local clock.
        country: ISO code for the calendar feature ``holiday``.
        covariate_lags: of every covariate, in steps; 0 is the step itself, or the newest cycle known of what is only observed.
        rounds: trees of each model.
        params: LightGBM's own parameters, by its names.
    """

    lags: tuple[int, ...] | None = None
    rolling: tuple[str, ...] | None = None
    calendar: tuple[str, ...] = ("hour", "dayofweek")
    country: str | None = None
    covariate_lags: tuple[int, ...] = (0,)
    rounds: int = 100
    params: dict[str, Any] = field(default_factory=dict)

    library: ClassVar[str] = "lightgbm"
    codec: ClassVar[str] = "lightgbm-text"
    revision: ClassVar[int] = 1
    light: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ConfigInvalid(f"rounds is a number of trees from 1 up, got {self.rounds}")
        fixed = [name for name in self.params if name in (*_FIXED, "seed")]
        if fixed:
            raise ConfigInvalid(f"params.{fixed[0]} is set by the fleet: one thread and the fleet's seed, for equal results")
        self._features(())

    @property
    def uses_covariates(self) -> bool:
        return True

    def fit(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> LightGBMFitted:
        readings(y)
        farthest = int(steps_after(y.index[-1], task)[-1])
        wanted = self._features(task.seasons)
        moved = tuple(dict.fromkeys(features.known_lag(lag, farthest, task.freq) for lag in wanted.lags))
        longest = max([farthest, *moved])
        columns = Columns(
            features=features.Features(
                lags=moved,
                rolling=wanted.rolling,
                calendar=wanted.calendar,
                country=wanted.country,
                covariate_lags=wanted.covariate_lags,
            ),
            farthest=farthest,
            covariates=tuple(str(name) for name in X.columns) if X is not None else (),
            past=features.past_only(y, X),
        )
        learnt = np.flatnonzero(np.isfinite(y.to_numpy()[longest:])) + longest
        if len(learnt) < MIN_ROWS:
            raise TooShort(
                f"boosting needs {longest + MIN_ROWS} steps of history, {MIN_ROWS} of them readings behind the longest "
                f"lag of {longest}; of {len(y)} steps {len(learnt)} are"
            )
        table = columns.table(y, X, pd.DatetimeIndex(y.index[learnt]), task, reach=farthest)
        texts = _trained(table, y.to_numpy()[learnt], self.rounds, self.params, task)
        whole = tuple(str(name) for name in table.columns if table[name].notna().all())
        return LightGBMFitted(columns=columns, whole=whole, texts=texts)

    def load(self, blob: bytes) -> LightGBMFitted:
        return LightGBMFitted.from_bytes(blob)

    def import_library(self) -> None:
        _library()

    def _features(self, seasons: tuple[int, ...]) -> features.Features:
        season = seasons[0] if seasons else 1
        lags = sorted({lag for s in seasons for lag in (s, s + 1)} | {2 * season}) if seasons else [1, 2, 3]
        rolling = (f"mean_{season}",) if season > 1 else ()
        return features.Features(
            lags=tuple(lags) if self.lags is None else self.lags,
            rolling=rolling if self.rolling is None else self.rolling,
            calendar=self.calendar,
            country=self.country,
            covariate_lags=self.covariate_lags,
        )


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What the trees see: the features of `fleet.features`, with lags bridged where a reading is missing.

    Args:
        features: which, their lags moved to what every step of the horizon knows.
        farthest: steps from the last known step to the end of a typical target.
        covariates: columns of X at fit.
        past: those of them that end with the history.
    """

    features: features.Features
    farthest: int
    covariates: tuple[str, ...]
    past: tuple[str, ...]

    def table(
        self, y: pd.Series[float], X: pd.DataFrame | None, at: pd.DatetimeIndex, task: Task, *, reach: int
    ) -> pd.DataFrame:
        """One row for each step; ``reach`` is how far the last of them lies behind the last known step."""
        absent = [name for name in self.covariates if X is None or name not in X.columns]
        if absent:
            raise PredictFailed(f"the covariates {', '.join(absent)} are not known at the issue time")
        seen = X[list(self.covariates)] if X is not None and self.covariates else None

        def designed(farthest: int) -> pd.DataFrame:
            return features.design(
                y, seen, at, self.features, farthest=farthest, freq=task.freq, tz=task.tz, past=self.past
            )

        table = designed(self.farthest)
        later = designed(reach) if reach > self.farthest and self.features.rolling else None
        for name in self.features.rolling if later is not None else ():
            table[name] = table[name].fillna(later[name])
        for lag in self.features.lags:
            _bridge(table, f"lag_{lag}", y, lag, task)
        for name in self.past if seen is not None else ():
            for lag in self.features.covariate_lags:
                moved = features.known_lag(lag, self.farthest, task.freq)
                _bridge(table, f"x_{name}_lag_{moved}", seen[name], moved, task)
        return table


@dataclass(frozen=True, kw_only=True)
class LightGBMFitted:
    """Trained trees as text, read when first asked.

    Args:
        columns: what they see.
        whole: columns that never missed a value in training.
        texts: LightGBM's own format, by ``mean`` or the level of a quantile.
    """

    columns: Columns
    whole: tuple[str, ...]
    texts: dict[str, str]

    def predict(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> pd.DataFrame:
        readings(y)
        reach = int(steps_after(y.index[-1], task)[-1])
        table = self.columns.table(y, X, task.target, task, reach=reach)
        for name in self.whole:
            missing = int(table[name].isna().sum())
            if missing and name.startswith("x_"):
                raise PredictFailed(f"the covariate column {name} is not known for {missing} of {task.horizon} steps")
            if missing:
                raise TooShort(f"{name} needs a reading for {missing} of {task.horizon} steps, {len(y)} steps hold none")
        rows = table.to_numpy()
        asked = [q for q in task.quantiles if str(q) in self.texts]
        return task.frame(self._values("mean", rows), {q: self._values(str(q), rows) for q in asked})

    def _values(self, name: str, rows: FloatArray) -> FloatArray:
        found: FloatArray = np.asarray(self._boosters[name].predict(rows, num_threads=1), dtype=np.float64)
        return found

    @cached_property
    def _boosters(self) -> Mapping[str, lightgbm.Booster]:
        library = _library()
        return {name: library.Booster(model_str=text) for name, text in self.texts.items()}

    def save(self) -> bytes:
        kept = {
            "format": 1,
            "features": {name: getattr(self.columns.features, name) for name in features.Features.__slots__},
            "farthest": self.columns.farthest,
            "covariates": self.columns.covariates,
            "past": self.columns.past,
            "whole": self.whole,
            "models": self.texts,
        }
        return zlib.compress(json.dumps(kept, separators=(",", ":")).encode(), 6)

    @classmethod
    def from_bytes(cls, blob: bytes) -> LightGBMFitted:
        """The model from what `save` gave."""
        kept = json.loads(zlib.decompress(blob))
        if kept["format"] != 1:
            raise FleetError(f"the model was written in format {kept['format']}, this release reads 1")
        wanted = {name: tuple(v) if isinstance(v, list) else v for name, v in kept["features"].items()}
        columns = Columns(
            features=features.Features(**wanted),
            farthest=kept["farthest"],
            covariates=tuple(kept["covariates"]),
            past=tuple(kept["past"]),
        )
        return cls(columns=columns, whole=tuple(kept["whole"]), texts=kept["models"])


def _trained(
    table: pd.DataFrame, y: FloatArray, rounds: int, params: Mapping[str, Any], task: Task
) -> dict[str, str]:
    """The models' text by ``mean`` or level; they share one table, binned once."""
    library = _library()
    common = {**_DEFAULTS, **params, **_FIXED, "seed": task.seed}
    data = library.Dataset(table.to_numpy(), label=y, params=common, free_raw_data=False)
    objectives: dict[str, dict[str, Any]] = {"mean": {"objective": "regression", **common}}
    for level in task.quantiles:
        objectives[str(level)] = {**common, "objective": "quantile", "alpha": level}
    return {
        name: library.train(wanted, data, num_boost_round=rounds).model_to_string(num_iteration=-1)
        for name, wanted in objectives.items()
    }


def _bridge(table: pd.DataFrame, name: str, series: pd.Series[float], lag: int, task: Task) -> None:
    """Put the reading of the same time one cycle or a few further back where a lag has none."""
    column = table[name].to_numpy()
    values, times = series.to_numpy(dtype=np.float64), pd.DatetimeIndex(series.index)
    for _ in range(_TRIES):
        empty = np.flatnonzero(np.isnan(column))
        if not len(empty):
            return
        lag = features.known_lag(lag, lag + 1, task.freq)
        at = pd.DatetimeIndex(table.index[empty])
        column = column.copy()
        column[empty] = calendar.lagged(values, times, at, lag, task.freq, task.tz)
        table[name] = column


def _library() -> Any:
    try:
        import lightgbm
    except ImportError as error:
        raise AdapterMissing(f"lightgbm cannot be imported: {error}", hint="pip install lightgbm") from error
    except OSError as error:
        raise AdapterMissing(
            f"lightgbm cannot be loaded: {error}",
            hint="it needs the system's OpenMP: apt-get install libgomp1 (Debian, Ubuntu), brew install libomp (macOS)",
        ) from error
    return lightgbm
