"""Gradient-boosted trees of LightGBM on lags, calendar and covariates: the mean, and one model for each quantile.

One direct model serves all steps of the horizon (see `fleet.tabular`); trees take a missing value as it is, where
training had some. The blob holds the models' text and what columns they see.
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

from fleet.errors import AdapterMissing, ConfigInvalid, FleetError
from fleet.features import Features
from fleet.tabular import Columns, Lessons, features_of, lessons
from fleet.task import FloatArray, Task

if TYPE_CHECKING:
    import lightgbm

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
        covariate_lags: of every covariate, in steps; 0 is the step itself, or the newest day known of what is observed.
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
            raise ConfigInvalid(f"params.{fixed[0]} is set by the fleet: one thread, its seed, equal results")
        self._features(())

    @property
    def uses_covariates(self) -> bool:
        return True

    def fit(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> LightGBMFitted:
        given = lessons(y, X, task, self._features(task.seasons), gaps=True)
        return LightGBMFitted(columns=given.columns, texts=_trained(given, self.rounds, self.params, task))

    def load(self, blob: bytes) -> LightGBMFitted:
        return LightGBMFitted.from_bytes(blob)

    def import_library(self) -> None:
        _library()

    def _features(self, seasons: tuple[int, ...]) -> Features:
        return features_of(
            seasons,
            lags=self.lags,
            rolling=self.rolling,
            calendar=self.calendar,
            country=self.country,
            covariate_lags=self.covariate_lags,
        )


@dataclass(frozen=True, kw_only=True)
class LightGBMFitted:
    """Trained trees as text, read when first asked.

    Args:
        columns: what they see.
        texts: LightGBM's own format, by ``mean`` or the level of a quantile.
    """

    columns: Columns
    texts: dict[str, str]

    def predict(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> pd.DataFrame:
        rows = self.columns.asked(y, X, task)
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
        kept = {"format": 1, "columns": self.columns.as_json(), "models": self.texts}
        return zlib.compress(json.dumps(kept, separators=(",", ":")).encode(), 6)

    @classmethod
    def from_bytes(cls, blob: bytes) -> LightGBMFitted:
        """The model from what `save` gave."""
        kept = json.loads(zlib.decompress(blob))
        if kept["format"] != 1:
            raise FleetError(f"the model was written in format {kept['format']}, this release reads 1")
        return cls(columns=Columns.from_json(kept["columns"]), texts=kept["models"])


def _trained(given: Lessons, rounds: int, params: Mapping[str, Any], task: Task) -> dict[str, str]:
    """The models' text by ``mean`` or level; they share one table, binned once."""
    library = _library()
    common = {**_DEFAULTS, **params, **_FIXED, "seed": task.seed}
    data = library.Dataset(given.table, label=given.values, params=common, free_raw_data=False)
    objectives: dict[str, dict[str, Any]] = {"mean": {"objective": "regression", **common}}
    for level in task.quantiles:
        objectives[str(level)] = {**common, "objective": "quantile", "alpha": level}
    return {
        name: library.train(wanted, data, num_boost_round=rounds).model_to_string(num_iteration=-1)
        for name, wanted in objectives.items()
    }


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
