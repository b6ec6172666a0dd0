"""Somebody else's forecast as a recipe: at each issue the newest one known by then, step by step.

It learns nothing and computes nothing. What it hands on stands in X under the recipe's own name, with the issue times
that were told with it, so a backtest sees of it what life would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import pandas as pd

from fleet.errors import CovariateMissing
from fleet.metrics import quantile_column
from fleet.task import Task


@dataclass(frozen=True, kw_only=True)
class External:
    """The forecasts of one source.

    Args:
        name: of the source, as ``[[forecasts]]`` calls it.
    """

    name: str

    library: ClassVar[str] = "tsfleet"
    codec: ClassVar[str] = "none"
    revision: ClassVar[int] = 1
    light: ClassVar[bool] = True

    @property
    def uses_covariates(self) -> bool:
        return True

    def fit(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> Self:
        return self

    def predict(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> pd.DataFrame:
        stem = f"external:{self.name}:"
        if X is None or stem + "mean" not in X.columns:
            raise CovariateMissing(f"there is no forecast of {self.name} for this asset")
        known = X.reindex(task.target)
        mean = known[stem + "mean"].to_numpy(dtype=np.float64)
        lacking = int(np.isnan(mean).sum())
        if lacking:
            raise CovariateMissing(f"the forecast of {self.name} is not known for {lacking} of {task.horizon} steps")
        names = {level: stem + quantile_column(level) for level in task.quantiles}
        if not all(name in known.columns and bool(known[name].notna().all()) for name in names.values()):
            return task.frame(mean)
        return task.frame(mean, {level: known[name].to_numpy(dtype=np.float64) for level, name in names.items()})

    def load(self, blob: bytes) -> Self:
        return self

    def save(self) -> bytes:
        return b""

    def import_library(self) -> None:
        return None
