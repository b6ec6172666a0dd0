"""mlforecast: any regressor on lags and rolling windows, one step ahead, fed with its own forecasts.

The library's intervals are conformal, as are those that the fleet adds to a recipe without quantiles, so it gives none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from fleet.counted import Counted, quiet
from fleet.errors import AdapterMissing, ConfigInvalid
from fleet.estimators import Trained, regressor
from fleet.recursive import Learnt, Recursive, blob_of, from_blob
from fleet.task import Task

_STATS = {"mean": "RollingMean", "std": "RollingStd", "min": "RollingMin", "max": "RollingMax"}


@dataclass(frozen=True, kw_only=True)
class MLForecast(Recursive):
    """A regressor under mlforecast; the options are those of `Recursive`.

    Args:
        differences: steps over which the series is differenced first, one after the other.
    """

    differences: tuple[int, ...] = ()

    library: ClassVar[str] = "mlforecast"
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(lag < 1 for lag in self.differences):
            raise ConfigInvalid("differences are steps into the past, from 1 up")

    def fit(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> MLForecastFitted:
        history, learnt = self.learning(y, X, task)
        with quiet("mlforecast"):
            made = self.pipeline(regressor(self.regressor, self.params, task.seed), learnt)
            made.fit(_frame(history), static_features=[], validate_data=False)
        return MLForecastFitted(adapter=self, learnt=learnt, model=Trained(model=made.models_["mean"]))

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
        history = self.adapter.asked(self.learnt, y, X, task)
        with quiet("mlforecast"):
            made = self.adapter.pipeline(self.model, self.learnt)
            made.preprocess(_frame(history), static_features=[], validate_data=False)
            made.models_ = {"mean": self.model}
            ahead = _frame(history, ahead=True) if history.columns else None
            found = made.predict(history.farthest, X_df=ahead)
        return task.frame(history.at_target(found["mean"]))

    def save(self) -> bytes:
        return blob_of(self.learnt, self.model)


def _frame(history: Counted, *, ahead: bool = False) -> pd.DataFrame:
    """The history, or what is known of the steps after it, in the long form of the library."""
    steps = slice(history.steps, None) if ahead else slice(None, history.steps)
    place = np.arange(history.first, history.first + history.steps + history.farthest)[steps]
    columns: dict[str, Any] = {"unique_id": np.zeros(len(place), dtype=np.int64), "ds": place}
    if not ahead:
        columns["y"] = history.values
    return pd.DataFrame({**columns, **{name: column[steps] for name, column in history.columns.items()}})


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
