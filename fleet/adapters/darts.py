"""Any model of Darts by its name, as far as it does without torch.

There are two ways to the fresh history, and the recipe says which. With ``fresh = "series"`` the fitted model is shown
it as ``predict(series=...)``, which its regressions understand; another is refused when it is fitted. With
``fresh = "refit"`` every forecast fits the model to the history it is shown, with the settings of the recipe, and
nothing is kept but these. A fitted model has no form but a pickle, from which the readings are taken out.
"""

from __future__ import annotations

import copy
import inspect
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from fleet.counted import Counted, Wanted, counted, main_season, quiet
from fleet.errors import AdapterMissing, ConfigInvalid, FitFailed, FleetError, Unsaveable
from fleet.estimators import nested
from fleet.task import FloatArray, Task

_LOGGERS = ("darts", "darts.models", "darts.timeseries")
_SEASON = ("seasonal_periods", "seasonality_period", "season_length", "K")
_ROWS = 20
_TRAINING = ("training_series", "past_covariate_series", "future_covariate_series")


@dataclass(frozen=True, kw_only=True)
class Darts:
    """A model of Darts.

    Args:
        model: name of a class of darts.models.
        params: its arguments; a table with ``path`` and ``params`` is an estimator. The season, the fleet's seed and,
            for regressions, the lags of the seasons and of the step itself in the covariates, are set where they are
            absent. ``likelihood = "quantile"`` gives a regression the fleet's quantiles.
        season: steps of a season; the task's main season when absent, 1 for none.
        draws: sampled paths that the quantiles are taken from.
        fresh: how a forecast comes to the fresh history.
    """

    model: str = "LinearRegressionModel"
    params: dict[str, Any] = field(default_factory=dict)
    season: int | None = None
    draws: int = 200
    fresh: Literal["series", "refit"] = "series"

    library: ClassVar[str] = "darts"
    codec: ClassVar[str] = "settings"
    revision: ClassVar[int] = 1
    light: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.model.isidentifier():
            raise ConfigInvalid(f'model = "{self.model}": accepted: a class of darts.models, such as ARIMA')
        if self.season is not None and self.season < 1:
            raise ConfigInvalid(f"season is a number of steps from 1 up, got {self.season}")

    @property
    def uses_covariates(self) -> bool:
        return True

    def fit(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> DartsFitted:
        season = main_season(self.season, task)
        with quiet(*_LOGGERS):
            first = self.made(task, covariates=False)
            takes = first.supports_future_covariates or hasattr(first, "lags")
            enough = max(first.min_train_series_length + _ROWS, season + 1)
            wanted = Wanted(season=season, covariates=None if takes else ())
            history = counted(y, X, task, wanted, at_least=enough)
            told = {"season": season, "covariates": list(history.covariates), "enough": enough}
            if self.fresh == "refit":
                self.taught(history, task)
                return DartsFitted(adapter=self, learnt=told, model=None)
            if not isinstance(first, _base(_library(), "Global")):
                raise FitFailed(
                    f"{self.model} forecasts only the history it was fitted to, or cannot be kept without it",
                    hint='with fresh = "refit" every forecast fits it to the fresh history',
                )
            made = self.taught(history, task)
            for name in _TRAINING:
                setattr(made, name, None)
        return DartsFitted(adapter=self, learnt=told, model=made)

    def load(self, blob: bytes) -> DartsFitted:
        found = json.loads(blob)
        if found["format"] != 1:
            raise FleetError(f"the model was written in format {found['format']}, this release reads 1")
        return DartsFitted(adapter=self, learnt=found["learnt"], model=None)

    def import_library(self) -> None:
        library = _library()
        with quiet(*_LOGGERS), _no_fonts_kept():
            getattr(library.models, self.model, None)

    def made(self, task: Task, *, covariates: bool) -> Any:
        """The library's model, not fitted."""
        library = _library()
        try:
            with _no_fonts_kept():
                kind = getattr(library.models, self.model)
        except AttributeError as error:
            raise ConfigInvalid(f'model = "{self.model}": darts.models has no model of this name') from error
        except ImportError as error:
            raise AdapterMissing(f"{self.model}: {error}", hint="does it need torch?") from error
        if not (inspect.isclass(kind) and issubclass(kind, _base(library))):
            raise AdapterMissing(f"{self.model} is no model that this Darts can use", hint="does it need torch?")
        try:
            return kind(**self._arguments(kind, task, covariates=covariates))
        except (TypeError, ValueError) as error:
            raise ConfigInvalid(f"{self.model}: {error}") from error

    def _arguments(self, kind: Any, task: Task, *, covariates: bool) -> dict[str, Any]:
        takes = inspect.signature(kind.__init__).parameters  # that of the class is its metaclass's
        given = {name: nested(value) for name, value in self.params.items()}
        for name in _SEASON:
            if name in takes:
                given.setdefault(name, main_season(self.season, task))
        if "random_state" in takes:
            given.setdefault("random_state", task.seed)
        if "lags" in takes:
            seasons = [season for season in task.seasons if season > 1]
            given.setdefault("lags", sorted(-lag for lag in {1, 2, *seasons, *(season + 1 for season in seasons)}))
        if covariates and "lags_future_covariates" in takes:
            given.setdefault("lags_future_covariates", [0])
        if given.get("likelihood") == "quantile":
            given.setdefault("quantiles", sorted({*task.quantiles, *(round(1 - q, 9) for q in task.quantiles), 0.5}))
        if self.model.startswith("LightGBM"):
            given.update(n_jobs=1, verbose=-1)
        return given

    def taught(self, history: Counted, task: Task) -> Any:
        """The library's model, fitted."""
        made = self.made(task, covariates=bool(history.columns))
        beside = {"future_covariates": _beside(history)} if history.columns else {}
        return made.fit(_series(history), **beside)


@dataclass(frozen=True, kw_only=True)
class DartsFitted:
    """A model of Darts.

    Args:
        learnt: season, covariates, and the steps it needs.
        model: as fitted, without the readings; None where each forecast fits it.
    """

    adapter: Darts
    learnt: dict[str, Any]
    model: Any

    def predict(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> pd.DataFrame:
        told = self.learnt
        wanted = Wanted(season=told["season"], covariates=tuple(told["covariates"]))
        history = counted(y, X, task, wanted, at_least=told["enough"])
        asked: dict[str, Any] = {"n": history.farthest}
        if history.columns:
            asked["future_covariates"] = _beside(history)
        with quiet(*_LOGGERS):
            if self.model is None:
                made = self.adapter.taught(history, task)
            else:
                made, asked["series"] = copy.deepcopy(self.model), _series(history)
            if not made.supports_probabilistic_prediction:
                return task.frame(history.at_target(made.predict(**asked).values()))
            if made.likelihood is None and not task.quantiles:
                return task.frame(history.at_target(made.predict(**asked).values()))
            asked["random_state"] = task.seed
            drawn: FloatArray = made.predict(**asked, num_samples=self.adapter.draws).all_values()[:, 0, :]
            mean = drawn.mean(axis=1) if made.likelihood is not None else made.predict(**asked).values()
        return task.frame(
            history.at_target(mean),
            {q: history.at_target(np.quantile(drawn, q, axis=1)) for q in task.quantiles},
        )

    def save(self) -> bytes:
        if self.model is not None:
            raise Unsaveable(f"{self.adapter.model} has no form of its own when it is fitted once")
        return json.dumps({"format": 1, "learnt": self.learnt}, separators=(",", ":")).encode()


def _series(history: Counted) -> Any:
    return _library().TimeSeries.from_times_and_values(history.index(), history.values)


def _beside(history: Counted) -> Any:
    """Covariates from the first step of the history to the last that is asked."""
    places = pd.RangeIndex(history.first, history.first + history.steps + history.farthest)
    table = np.column_stack(list(history.columns.values()))
    return _library().TimeSeries.from_times_and_values(places, table, columns=list(history.columns))


@contextmanager
def _no_fonts_kept() -> Iterator[None]:
    """Some models import matplotlib, which then writes a list of fonts for whoever never used it here before."""
    homes = (".config/matplotlib", ".cache/matplotlib", ".matplotlib")
    known = "MPLCONFIGDIR" in os.environ or any((Path.home() / place).exists() for place in homes)
    if known or "matplotlib" in sys.modules:
        yield
        return
    with TemporaryDirectory() as place:
        os.environ["MPLCONFIGDIR"] = place
        try:
            yield
        finally:
            del os.environ["MPLCONFIGDIR"]


def _base(library: Any, prefix: str = "") -> Any:
    return getattr(library.models.forecasting.forecasting_model, f"{prefix}ForecastingModel")


def _library() -> Any:
    try:
        with quiet():
            import darts
            import darts.models
            import darts.models.forecasting.forecasting_model
    except (ImportError, OSError) as error:
        raise AdapterMissing(f"darts cannot be imported: {error}", hint="pip install 'tsfleet[adapters]'") from error
    return darts
