"""mlforecast: any regressor on lags and rolling windows, one step ahead, fed with its own forecasts.

The library's intervals are conformal, as are those that the fleet adds to a recipe without quantiles, so it gives none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from fleet.counted import Counted, quiet
from fleet.errors import AdapterMissing, ConfigInvalid, CovariateMissing
from fleet.estimators import Trained, regressor
from fleet.forecaster import Fitted, Question, Scoped
from fleet.outcome import Failed, attempt, failure_of
from fleet.recursive import ROWS, Learnt, Recursive, blob_of, from_blob
from fleet.task import FloatArray, Task

_STATS = {"mean": "RollingMean", "std": "RollingStd", "min": "RollingMin", "max": "RollingMax"}


@dataclass(frozen=True, kw_only=True)
class MLForecast(Recursive, Scoped):
    """A regressor under mlforecast; the options are those of `Recursive`.

    With ``scope = "global"`` one regressor learns from many assets, from their readings as they are.

    Args:
        differences: steps over which the series is differenced first, one after the other.
    """

    differences: tuple[int, ...] = ()

    library: ClassVar[str] = "mlforecast"
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        Recursive.__post_init__(self)
        Scoped.__post_init__(self)
        if any(lag < 1 for lag in self.differences):
            raise ConfigInvalid("differences are steps into the past, from 1 up")

    def fit(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> MLForecastFitted:
        history, learnt = self.learning(y, X, task)
        return self._fitted([history], learnt, task)

    def _fitted(self, histories: Sequence[Counted], learnt: Learnt, task: Task) -> MLForecastFitted:
        with quiet("mlforecast"):
            made = self.pipeline(regressor(self.regressor, self.params, task.seed), learnt)
            made.fit(_long(histories), static_features=[], validate_data=False)
        return MLForecastFitted(adapter=self, learnt=learnt, model=Trained(model=made.models_["mean"]))

    def fit_many(self, questions: Sequence[Question]) -> list[Fitted | Failed]:
        found = [attempt(self.learning, *question) for question in questions]
        held = [one for one in found if not isinstance(one, Failed)]
        if not held:
            return [one for one in found if isinstance(one, Failed)]
        learnt = Counter(learnt for _, learnt in held).most_common(1)[0][0]
        model = self._fitted([history for history, mine in held if mine == learnt], learnt, questions[0].task)
        return [
            one if isinstance(one, Failed) else model if one[1] == learnt else failure_of(_stranger(one[1], learnt))
            for one in found
        ]

    def predict_many(self, fitted: Sequence[Fitted], questions: Sequence[Question]) -> list[pd.DataFrame | Failed]:
        found: dict[int, pd.DataFrame | Failed] = {}
        for model in {id(one): one for one in fitted}.values():
            assert isinstance(model, MLForecastFitted)
            mine = {place: question for place, question in enumerate(questions) if fitted[place] is model}
            found |= model.predicted(mine)
        return [found[place] for place in range(len(questions))]

    def load(self, blob: bytes) -> MLForecastFitted:
        learnt, model = from_blob(blob)
        return MLForecastFitted(adapter=self, learnt=learnt, model=model)

    def import_library(self) -> None:
        _library()
        super().import_library()

    def reach(self, lags: tuple[int, ...]) -> int:
        return super().reach(lags) + sum(self.differences)

    def pipeline(self, model: Any, learnt: Learnt) -> Any:
        """The library's own object around a regressor."""
        library = _library()
        rolled = [getattr(library.lag_transforms, _STATS[stat])(window_size=steps) for steps, stat in self.windows]
        first = [library.target_transforms.Differences(list(self.differences))] if self.differences else None
        return library.MLForecast(
            models={"mean": model},
            freq=1,
            lags=list(learnt.lags),
            lag_transforms={1: rolled} if rolled else None,
            target_transforms=first,
            num_threads=1,
        )


@dataclass(frozen=True, kw_only=True)
class MLForecastFitted:
    """A regressor that has learnt."""

    adapter: MLForecast
    learnt: Learnt
    model: Trained

    def predict(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> pd.DataFrame:
        history = self._history(y, X, task)
        return task.frame(history.at_target(self._ahead([history])[0]))

    def predicted(self, questions: Mapping[int, Question]) -> dict[int, pd.DataFrame | Failed]:
        """The forecasts of questions, by their keys; the regressor is asked at once for all that are as long."""
        found: dict[int, pd.DataFrame | Failed] = {}
        asked: dict[int, dict[int, Counted]] = {}
        for place, question in questions.items():
            history = attempt(self._history, *question)
            if isinstance(history, Failed):
                found[place] = history
            else:
                asked.setdefault(history.farthest, {})[place] = history
        for histories in asked.values():
            mine = list(histories.values())
            told = self._ahead(mine) if self.model.by_row else [self._ahead([history])[0] for history in mine]
            for (place, history), mean in zip(histories.items(), told, strict=True):
                found[place] = questions[place].task.frame(history.at_target(mean))
        return found

    def _history(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> Counted:
        history = self.adapter.asked(self.learnt, y, X, task)
        # All that the features look at; the same for one asset as among others, to the last bit.
        newest = self.adapter.reach(self.learnt.lags) + ROWS
        return history.newest(newest) if self.adapter.scope == "global" else history

    def _ahead(self, histories: Sequence[Counted]) -> FloatArray:
        """(histories, farthest) of what the regressor says of the steps after each; all are equally far."""
        with quiet("mlforecast"):
            made = self.adapter.pipeline(self.model, self.learnt)
            made.preprocess(_long(histories), static_features=[], validate_data=False)
            made.models_ = {"mean": self.model}
            ahead = _long(histories, ahead=True) if histories[0].columns else None
            found = made.predict(histories[0].farthest, X_df=ahead)
        values: FloatArray = np.asarray(found["mean"].to_numpy(), dtype=np.float64).reshape(len(histories), -1)
        return values

    def save(self) -> bytes:
        return blob_of(self.learnt, self.model)


def _long(histories: Sequence[Counted], *, ahead: bool = False) -> pd.DataFrame:
    """The histories, or what is known of the steps after each, one after the other in the long form of the library."""
    parts: dict[str, list[Any]] = {name: [] for name in ("unique_id", "ds", *([] if ahead else ["y"]))}
    for number, history in enumerate(histories):
        steps = slice(history.steps, None) if ahead else slice(None, history.steps)
        place = np.arange(history.first, history.first + history.steps + history.farthest)[steps]
        columns = {"unique_id": np.full(len(place), number), "ds": place, **({} if ahead else {"y": history.values})}
        for name, column in {**columns, **{key: values[steps] for key, values in history.columns.items()}}.items():
            parts.setdefault(name, []).append(column)
    return pd.DataFrame(
        {name: column[0] if len(column) == 1 else np.concatenate(column) for name, column in parts.items()}
    )


def _stranger(mine: Learnt, learnt: Learnt) -> CovariateMissing:
    names, its = (", ".join(one.covariates) or "none" for one in (learnt, mine))
    return CovariateMissing(f"its group learns from the covariates {names}, of this asset there are {its}")


def _library() -> Any:
    try:
        with quiet():
            import mlforecast
            import mlforecast.lag_transforms
            import mlforecast.target_transforms
    except (ImportError, OSError) as error:
        raise AdapterMissing(
            f"mlforecast cannot be imported: {error}", hint="pip install 'tsfleet[adapters]'"
        ) from error
    return mlforecast
