"""Any regressor of scikit-learn, or one that speaks its language, on lags, calendar and covariates.

Named by its import path and built with `params`. It is kept by skops, which writes no code; an estimator of a kind that
skops does not know to be harmless is refused when it is saved, not when it is needed.
"""

from __future__ import annotations

import importlib
import json
import zlib
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from fleet.errors import AdapterMissing, ConfigInvalid, FleetError, Unsaveable
from fleet.tabular import Columns, Tabular, lessons
from fleet.task import Task


@dataclass(frozen=True, kw_only=True)
class Sklearn(Tabular):
    """A regressor on features of the history, the calendar and the covariates; those options are `Tabular`'s.

    Args:
        estimator: import path of a class with fit and predict.
        params: the estimator's own, by its names; ``random_state`` is the fleet's seed where it takes one.
    """

    estimator: str = "sklearn.linear_model.Ridge"
    params: dict[str, Any] = field(default_factory=dict)

    library: ClassVar[str] = "scikit-learn"
    codec: ClassVar[str] = "skops"
    revision: ClassVar[int] = 1
    light: ClassVar[bool] = False

    def __post_init__(self) -> None:
        module, _, name = self.estimator.rpartition(".")
        if not module or not name.isidentifier():
            raise ConfigInvalid(f'estimator = "{self.estimator}": accepted: an import path such as {Sklearn.estimator}')
        super().__post_init__()

    def fit(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> SklearnFitted:
        kind = self._kind()
        given = lessons(y, X, task, self.features_for(task.seasons), gaps=False)
        try:
            model = kind(**self.params)
        except TypeError as error:
            raise ConfigInvalid(f"{self.estimator}: {error}") from error
        if "random_state" in model.get_params() and "random_state" not in self.params:
            model.set_params(random_state=task.seed)
        model.fit(given.table, given.values)
        return SklearnFitted(columns=given.columns, model=model)

    def load(self, blob: bytes) -> SklearnFitted:
        return SklearnFitted.from_bytes(blob)

    def import_library(self) -> None:
        self._kind()

    def _kind(self) -> Any:
        module, _, name = self.estimator.rpartition(".")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, OSError, AttributeError) as error:
            raise AdapterMissing(
                f"{self.estimator} cannot be imported: {error}", hint=f"pip install {module.partition('.')[0]}"
            ) from error


@dataclass(frozen=True, kw_only=True)
class SklearnFitted:
    """A fitted regressor and what it sees."""

    columns: Columns
    model: Any

    def predict(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> pd.DataFrame:
        rows = self.columns.asked(y, X, task)
        return task.frame(np.asarray(self.model.predict(rows), dtype=np.float64))

    def save(self) -> bytes:
        from skops import io

        model = io.dumps(self.model)
        strange = io.get_untrusted_types(data=model)
        if strange:
            raise Unsaveable(f"skops does not know {', '.join(strange)} to be harmless, so the model cannot be kept")
        head = json.dumps({"format": 1, "columns": self.columns.as_json()}, separators=(",", ":")).encode()
        return len(head).to_bytes(4, "big") + head + zlib.compress(model, 6)

    @classmethod
    def from_bytes(cls, blob: bytes) -> SklearnFitted:
        """The model from what `save` gave."""
        from skops import io

        size = int.from_bytes(blob[:4], "big")
        kept = json.loads(blob[4 : 4 + size])
        if kept["format"] != 1:
            raise FleetError(f"the model was written in format {kept['format']}, this release reads 1")
        model = io.loads(zlib.decompress(blob[4 + size :]), trusted=[])
        return cls(columns=Columns.from_json(kept["columns"]), model=model)
