"""Any model of statsforecast by its name: AutoETS, AutoARIMA, AutoTheta, AutoCES, MSTL, the naive and sparse ones.

What is kept is what the library's `forward` reads of a fitted model: parameters as JSON, no reading. A forecast applies
them to the fresh history. Models without `forward` (averages, Croston's, MFLES, TBATS) keep nothing, and a forecast
fits them to the history it is shown, with the settings of the recipe.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from fleet.counted import Counted, Wanted, counted, main_season, quiet
from fleet.errors import AdapterMissing, ConfigInvalid, FleetError
from fleet.forecaster import Fitted, Question
from fleet.outcome import Failed, attempt
from fleet.task import Task

_OURS = ("season_length", "alias", "prediction_intervals")
_REGRESS = ("AutoARIMA", "ARIMA", "MSTL", "MFLES")
_SEVERAL = ("MSTL", "AutoTBATS", "TBATS", "MFLES", "AutoMFLES")
# What `forward` reads of `model_`, by the class that a model is of or derives from.
_READ = {
    "AutoETS": ("m", "components", "par", "n_params"),
    "AutoCES": ("m", "seasontype", "par", "distribution"),
    "AutoTheta": ("m", "modeltype", "par"),
    "AutoARIMA": ("arma", "coef", "lambda", "sigma2"),
    "ARIMA": ("arma", "coef", "lambda", "sigma2"),
}


@dataclass(frozen=True, kw_only=True)
class StatsForecast:
    """A model of statsforecast. Those of ARIMA's kind regress on the covariates that are known ahead.

    Args:
        model: name of a class of statsforecast.models.
        season: steps of a season; the task's seasons when absent: all for a model that takes several, else the first.
        params: arguments of the class, by the library's names.
    """

    model: str
    season: int | None = None
    params: dict[str, Any] = field(default_factory=dict)

    library: ClassVar[str] = "statsforecast"
    codec: ClassVar[str] = "statsforecast-json"
    revision: ClassVar[int] = 1
    light: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.model.isidentifier():
            raise ConfigInvalid(f'model = "{self.model}": accepted: a class of statsforecast.models, such as AutoETS')
        if self.season is not None and self.season < 1:
            raise ConfigInvalid(f"season is a number of steps from 1 up, got {self.season}")
        ours = [name for name in self.params if name in _OURS]
        if ours:
            raise ConfigInvalid(f"params.{ours[0]} is set by the fleet; a season of its own is `season`")

    @property
    def uses_covariates(self) -> bool:
        return self.model in _REGRESS

    def fit(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> StatsForecastFitted:
        model, seasons = self._model(task)
        wanted = Wanted(season=main_season(self.season, task), covariates=None if _regresses(model) else ())
        enough = max(seasons) * (2 if len(seasons) > 1 else 1) + 1
        history = counted(y, X, task, wanted, at_least=enough)
        with quiet():
            model.fit(history.values, history.past())
            state = _state(model)
            intervals = not isinstance(attempt(model.predict, 1, _first_row(history), [80]), Failed)
            if intervals and state is None:  # then `forecast` is asked, and of some it has none
                few = history.values[-2 * max(seasons) - 1 :]
                intervals = not isinstance(attempt(model.new().forecast, y=few, h=1, level=[80]), Failed)
        return StatsForecastFitted(
            adapter=self,
            learnt={
                "seasons": seasons,
                "season": wanted.season,
                "covariates": list(history.covariates),
                "first": history.first,
                "intervals": intervals,
                "state": state,
            },
        )

    def fit_many(self, questions: Sequence[Question]) -> list[Fitted | Failed]:
        with quiet():
            return [attempt(self.fit, *question) for question in questions]

    def predict_many(self, fitted: Sequence[Fitted], questions: Sequence[Question]) -> list[pd.DataFrame | Failed]:
        with quiet():
            return [attempt(model.predict, *asked) for model, asked in zip(fitted, questions, strict=True)]

    def load(self, blob: bytes) -> StatsForecastFitted:
        found = json.loads(blob)
        if found["format"] != 1:
            raise FleetError(f"the model was written in format {found['format']}, this release reads 1")
        return StatsForecastFitted(adapter=self, learnt=found["learnt"])

    def import_library(self) -> None:
        _models()

    def made(self, seasons: list[int]) -> Any:
        """The library's model, not fitted."""
        models = _models()
        kind = getattr(models, self.model, None)
        if not (inspect.isclass(kind) and issubclass(kind, models._TS)):  # noqa: SLF001  what all its models derive from
            raise ConfigInvalid(f'model = "{self.model}": statsforecast.models has no model of this name')
        given = dict(self.params)
        if "season_length" in inspect.signature(kind).parameters:
            given["season_length"] = seasons if self.model in _SEVERAL else seasons[0]
        try:
            return kind(**given)
        except TypeError as error:
            raise ConfigInvalid(f"{self.model}: {error}") from error

    def _model(self, task: Task) -> tuple[Any, list[int]]:
        several = self.model in _SEVERAL and self.season is None and task.seasons
        seasons = sorted(task.seasons) if several else [main_season(self.season, task)]
        return self.made(seasons), seasons


@dataclass(frozen=True, kw_only=True)
class StatsForecastFitted:
    """What a model of statsforecast learnt, as JSON can hold it."""

    adapter: StatsForecast
    learnt: dict[str, Any]

    def predict(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> pd.DataFrame:
        told = self.learnt
        wanted = Wanted(season=told["season"], covariates=tuple(told["covariates"]))
        longest = max(told["seasons"])
        history = counted(y, X, task, wanted, at_least=longest + 1)
        # The states that `forward` begins with are those of the first step of the history it was fitted to.
        if history.steps > 2 * longest:
            history = history.since(told["first"], longest)
        else:
            history = history.back_to(history.first - (history.first - told["first"]) % longest, longest)
        model = self.adapter.made(told["seasons"])
        levels = sorted({_level(q) for q in task.quantiles if q != 0.5}) if told["intervals"] else []
        asked: dict[str, Any] = {"level": levels} if levels else {}
        with quiet():
            if told["state"] is not None:
                _restore(model, told["state"])
            call = model.forward if told["state"] is not None else model.forecast
            found = call(y=history.values, h=history.farthest, X=history.past(), X_future=history.future(), **asked)
        mean = history.at_target(found["mean"])
        if not told["intervals"]:
            return task.frame(mean)
        columns = {q: "mean" if q == 0.5 else f"{'lo' if q < 0.5 else 'hi'}-{_level(q)}" for q in task.quantiles}
        return task.frame(mean, {q: history.at_target(found[name]) for q, name in columns.items()})

    def save(self) -> bytes:
        return json.dumps({"format": 1, "learnt": self.learnt}, separators=(",", ":")).encode()

    def params(self) -> Mapping[str, float]:
        state = (self.learnt["state"] or {}).get("coef", {})
        return {name: float(value) for name, value in state.items()}


def _level(quantile: float) -> float:
    """The central interval that a quantile is a border of, in percent."""
    return round(abs(2 * quantile - 1) * 100, 9)


def _regresses(model: Any) -> bool:
    inner = getattr(model, "trend_forecaster", None)
    return bool(model.uses_exog or (inner is not None and inner.uses_exog))


def _state(model: Any) -> dict[str, Any] | None:
    """What `forward` needs, as JSON; None where there is no `forward`, or it does what `forecast` does."""
    inner = getattr(model, "trend_forecaster", None)
    if inner is not None:
        state = _state(inner)
        return None if state is None else {"trend_forecaster": state}
    names = next((_READ[kind.__name__] for kind in type(model).__mro__ if kind.__name__ in _READ), None)
    if names is None:
        return None
    state = {name: _plain(model.model_[name]) for name in names if name in model.model_}
    if "arma" in state and model.model_["xreg"] is not None:
        # Of the regressors `forward` reads the number, and of a drift, which is the first, how it grows.
        state["xreg"] = _plain(model.model_["xreg"][:3])
        state["x"] = [0.0] * 3
    return state


def _restore(model: Any, state: Mapping[str, Any]) -> None:
    if "trend_forecaster" in state:
        model.trend_forecaster = model.trend_forecaster.new()
        _restore(model.trend_forecaster, state["trend_forecaster"])
        return
    found = {name: np.array(value) if isinstance(value, list) else value for name, value in state.items()}
    if "arma" in found:
        found = {"xreg": None, **found, "arma": tuple(state["arma"])}
    model.model_ = {"fit": None, **found}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, np.ndarray | tuple | list):
        return np.asarray(value).tolist()
    return value.item() if isinstance(value, np.generic) else value


def _models() -> Any:
    try:
        with quiet():
            from statsforecast import models
    except (ImportError, OSError) as error:
        raise AdapterMissing(
            f"statsforecast cannot be imported: {error}", hint="pip install 'tsfleet[adapters]'"
        ) from error
    return models


def _first_row(history: Counted) -> Any:
    future = history.future()
    return None if future is None else future[:1]
