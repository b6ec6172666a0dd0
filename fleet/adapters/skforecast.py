"""skforecast: any regressor on lags and rolling windows, recursive, with quantiles by bootstrapping its residuals.

A forecast builds the library's forecaster around the trained regressor and shows it the newest history, whose residuals
under that regressor are what the quantiles are drawn from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from fleet.counted import quiet
from fleet.errors import AdapterMissing, ConfigInvalid
from fleet.estimators import Trained, regressor
from fleet.recursive import ROWS, Learnt, Recursive, blob_of, from_blob
from fleet.task import Task

_RESIDUALS = 2_000


@dataclass(frozen=True, kw_only=True)
class Skforecast(Recursive):
    """A regressor under skforecast's ForecasterRecursive; the options are those of `Recursive`, and two more.

    Args:
        differentiation: how often the series is differenced first; 0 for not at all.
        draws: bootstrapped paths that the quantiles are taken from.
    """

    differentiation: int = 0
    draws: int = 250

    library: ClassVar[str] = "skforecast"
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draws < 1 or self.differentiation < 0:
            raise ConfigInvalid(f"draws = {self.draws}, differentiation = {self.differentiation}: from 1, from 0 up")

    def fit(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> SkforecastFitted:
        history, learnt = self.learning(y, X, task)
        with quiet("skforecast"):
            made = self.forecaster(regressor(self.regressor, self.params, task.seed), learnt)
            made.fit(history.series(), exog=history.beside(), store_last_window=False)
        return SkforecastFitted(adapter=self, learnt=learnt, model=Trained(model=made.estimator))

    def load(self, blob: bytes) -> SkforecastFitted:
        learnt, model = from_blob(blob)
        return SkforecastFitted(adapter=self, learnt=learnt, model=model)

    def import_library(self) -> None:
        _library()
        super().import_library()

    def reach(self, lags: tuple[int, ...]) -> int:
        return super().reach(lags) + self.differentiation

    def forecaster(self, model: Any, learnt: Learnt) -> Any:
        """The library's own object around a regressor."""
        library = _library()
        rolling = None
        if self.windows:
            stats, sizes = [stat for _, stat in self.windows], [steps for steps, _ in self.windows]
            rolling = library.preprocessing.RollingFeatures(stats=stats, window_sizes=sizes)
        return library.recursive.ForecasterRecursive(
            estimator=model,
            lags=list(learnt.lags) or None,
            window_features=rolling,
            differentiation=self.differentiation or None,
            categorical_features=None,
        )


@dataclass(frozen=True, kw_only=True)
class SkforecastFitted:
    """A regressor that has learnt."""

    adapter: Skforecast
    learnt: Learnt
    model: Trained

    def predict(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> pd.DataFrame:
        mine = self.adapter
        whole = mine.asked(self.learnt, y, X, task)
        history = whole.newest(mine.reach(self.learnt.lags) + (_RESIDUALS if task.quantiles else ROWS))
        ahead = history.beside(ahead=True)
        steps = history.farthest
        with quiet("skforecast"):
            made = mine.forecaster(self.model, self.learnt)
            made.fit(
                history.series(),
                exog=history.beside(),
                store_in_sample_residuals=bool(task.quantiles),
                random_state=task.seed,
            )
            mean = history.at_target(made.predict(steps, exog=ahead))
            if not task.quantiles:
                return task.frame(mean)
            levels = list(task.quantiles)
            drawn = made.predict_quantiles(
                steps, exog=ahead, quantiles=levels, n_boot=mine.draws, random_state=task.seed
            ).to_numpy()
        return task.frame(mean, {q: history.at_target(drawn[:, at]) for at, q in enumerate(levels)})

    def save(self) -> bytes:
        return blob_of(self.learnt, self.model)


def _library() -> Any:
    try:
        with quiet():
            import skforecast
            import skforecast.preprocessing
            import skforecast.recursive
    except (ImportError, OSError) as error:
        raise AdapterMissing(
            f"skforecast cannot be imported: {error}", hint="pip install 'tsfleet[adapters]'"
        ) from error
    return skforecast
