"""Any forecaster of sktime by its import path.

There are two ways to the fresh history, and the recipe says which. With ``fresh = "update"`` the fitted forecaster
takes it in by the library's ``update(update_params=False)``; one that does not react to it is refused when it is
fitted. With ``fresh = "refit"`` every forecast fits the forecaster to the history it is shown, with the settings of the
recipe, and nothing is kept but these. A fitted forecaster has no form but a pickle, from which the readings are taken
out.
"""

from __future__ import annotations

import copy
import inspect
import json
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from fleet.counted import Counted, Wanted, counted, main_season, quiet
from fleet.errors import AdapterMissing, ConfigInvalid, FitFailed, FleetError, TooShort, Unsaveable
from fleet.estimators import check_path, kind_of, nested
from fleet.outcome import Failed, attempt
from fleet.pickles import pickled_model, readings_held
from fleet.task import FloatArray, Task

_BASE = "sktime.forecasting.base:BaseForecaster"
_FEWEST = 10


@dataclass(frozen=True, kw_only=True)
class Sktime:
    """A forecaster of sktime.

    Args:
        forecaster: import path of its class.
        params: its arguments; a table with ``path`` and ``params`` is an estimator inside of it. ``sp`` and
            ``random_state`` are the season and the fleet's seed where it takes them.
        season: steps of a season; the task's main season when absent, 1 for none.
        fresh: how a forecast comes to the fresh history.
    """

    forecaster: str = "sktime.forecasting.naive.NaiveForecaster"
    params: dict[str, Any] = field(default_factory=dict)
    season: int | None = None
    fresh: Literal["update", "refit"] = "update"

    library: ClassVar[str] = "sktime"
    codec: ClassVar[str] = "settings"
    revision: ClassVar[int] = 1
    light: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_path(self.forecaster, "forecaster", self.params)
        if self.season is not None and self.season < 1:
            raise ConfigInvalid(f"season is a number of steps from 1 up, got {self.season}")

    @property
    def uses_covariates(self) -> bool:
        return True

    def fit(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> SktimeFitted:
        season = main_season(self.season, task)
        with quiet("sktime"):
            made = self.made(season, task.seed)
            takes = made.get_tag("capability:exogenous", tag_value_default=False, raise_error=False)
            history = counted(y, X, task, Wanted(season=season, covariates=None if takes else ()), at_least=_FEWEST)
            self.taught(made, history, season)
            if self.fresh == "update":
                _forget(made, [history.values, *history.columns.values()])
                self._check_that_it_can_be_kept(made, y)
                self._check_that_it_listens(made, history)
            told = {
                "season": season,
                "covariates": list(history.covariates),
                "first": history.first,
                "steps": history.farthest,
            }
        return SktimeFitted(adapter=self, learnt=told, model=made if self.fresh == "update" else None)

    def load(self, blob: bytes) -> SktimeFitted:
        found = json.loads(blob)
        if found["format"] != 1:
            raise FleetError(f"the model was written in format {found['format']}, this release reads 1")
        return SktimeFitted(adapter=self, learnt=found["learnt"], model=None)

    def import_library(self) -> None:
        try:
            with quiet():
                import sktime.forecasting.base  # noqa: F401
        except (ImportError, OSError) as error:
            raise AdapterMissing(
                f"sktime cannot be imported: {error}", hint="pip install 'tsfleet[adapters]'"
            ) from error
        kind_of(self.forecaster)

    def made(self, season: int, seed: int) -> Any:
        """The library's forecaster, not fitted."""
        self.import_library()
        kind = kind_of(self.forecaster, _BASE)
        takes = inspect.signature(kind).parameters
        given = {name: nested(value) for name, value in self.params.items()}
        for name, value in (("sp", season), ("random_state", seed)):
            if name in takes:
                given.setdefault(name, value)
        try:
            made = kind(**given)
        except (TypeError, ModuleNotFoundError) as error:
            wrong = ConfigInvalid if isinstance(error, TypeError) else AdapterMissing
            raise wrong(f"{self.forecaster}: {error}") from error
        return made.set_config(warnings="off", remember_data=False)

    def taught(self, made: Any, history: Counted, season: int) -> None:
        """Fit a forecaster in place.

        Raises:
            TooShort: it failed on a history of less than two seasons.
        """
        steps = list(range(1, history.farthest + 1))
        enough = max(2 * season, _FEWEST) + 1
        if history.steps < enough:
            raise TooShort(f"{self.forecaster} needs {enough} steps of history and has {history.steps}")
        made.fit(history.series(), X=history.beside(), fh=steps)

    def _check_that_it_can_be_kept(self, made: Any, y: pd.Series[float]) -> None:
        try:
            pickled_model(made, shown=(y,))
        except Unsaveable as error:
            raise FitFailed(
                f"{self.forecaster} cannot be kept: {error.message}",
                hint='with fresh = "refit" every forecast fits it to the fresh history',
            ) from error

    def _check_that_it_listens(self, made: Any, history: Counted) -> None:
        moved = Counted(
            values=history.values + 10 * (1 + np.abs(history.values).max()),
            first=history.first,
            ahead=history.ahead,
            covariates=history.covariates,
            columns=history.columns,
        )
        one, other = (_said(_updated(made, seen), seen) for seen in (history, moved))
        if np.allclose(one, other):
            raise FitFailed(
                f"{self.forecaster} does not react to fresh readings unless it is fitted again",
                hint='with fresh = "refit" every forecast fits it to the fresh history',
            )


@dataclass(frozen=True, kw_only=True)
class SktimeFitted:
    """A forecaster of sktime.

    Args:
        learnt: season, covariates, the place of the first reading, the steps ahead.
        model: as fitted, without the readings; None where each forecast fits it.
    """

    adapter: Sktime
    learnt: dict[str, Any]
    model: Any

    def predict(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> pd.DataFrame:
        told = self.learnt
        wanted = Wanted(season=told["season"], covariates=tuple(told["covariates"]))
        history = counted(y, X, task, wanted, at_least=_FEWEST)
        with quiet("sktime"):
            if self.model is None:
                made = self.adapter.made(told["season"], task.seed)
                self.adapter.taught(made, history, told["season"])
            else:
                if self.model.get_tag("requires-fh-in-fit") and history.farthest != told["steps"]:
                    raise FitFailed(
                        f"{self.adapter.forecaster} was fitted for {told['steps']} steps after the last reading and "
                        f"cannot forecast {history.farthest}",
                        hint='use a recursive strategy, or fresh = "refit"',
                    )
                history = history.back_to(told["first"], told["season"])
                made = _updated(self.model, history)
            mean = history.at_target(_said(made, history))
            found = _quantiles(made, history, task.quantiles)
        return task.frame(mean, {q: history.at_target(values) for q, values in found.items()})

    def save(self) -> bytes:
        if self.model is not None:
            raise Unsaveable(f"{self.adapter.forecaster} has no form of its own when it is fitted once")
        return json.dumps({"format": 1, "learnt": self.learnt}, separators=(",", ":")).encode()


def _updated(made: Any, history: Counted) -> Any:
    return copy.deepcopy(made).update(history.series(), X=history.beside(), update_params=False)


def _said(made: Any, history: Counted) -> FloatArray:
    found = made.predict(fh=list(range(1, history.farthest + 1)), X=history.beside(ahead=True))
    return np.asarray(found, dtype=np.float64).reshape(-1)


def _quantiles(made: Any, history: Counted, levels: tuple[float, ...]) -> dict[float, FloatArray]:
    """What the forecaster has of them; nothing where it says that it has none."""
    if not levels or not made.get_tag("capability:pred_int"):
        return {}
    steps = list(range(1, history.farthest + 1))
    found = attempt(made.predict_quantiles, fh=steps, X=history.beside(ahead=True), alpha=list(levels))
    if isinstance(found, Failed):  # some say that they have them and do not
        return {}
    return {q: found.to_numpy()[:, at] for at, q in enumerate(levels)}


def _forget(thing: Any, shown: list[FloatArray]) -> None:
    """Take what was shown out of a fitted forecaster and of those inside it; the fresh history brings it again."""
    for name, value in list(vars(thing).items()):
        if isinstance(value, pd.Series | pd.DataFrame):
            columns = value.to_frame().select_dtypes("number") if isinstance(value, pd.Series) else value
            held = np.asfortranarray(columns.to_numpy(dtype=np.float64, na_value=np.nan)).tobytes("F")
            if len(value) == len(shown[0]) or any(readings_held(held, values) for values in shown):
                setattr(thing, name, value.iloc[:1])  # where the season is counted from
            continue
        for part in _inside(value):
            if type(part).__module__.partition(".")[0] in ("sktime", "skbase") and hasattr(part, "__dict__"):
                _forget(part, shown)


def _inside(value: Any) -> list[Any]:
    """The objects of a list, tuple or dict, flat; else the object itself."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [part for item in value for part in _inside(item)]
    return [value]
