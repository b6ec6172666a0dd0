"""Statistical models of statsmodels, one asset at a time: Holt-Winters, ETS, SARIMAX, autoregression, Theta.

The library fits; a forecast keeps its parameters as they are and filters the fresh history with them. Models count
steps on the wall clock of the asset when their season is whole days, so the morning peak stays where it is when clocks
change. NaN is bridged for the fit where the library takes none (all but SARIMAX); a forecast treats it as no news.
"""

from __future__ import annotations

import json
import math
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import pandas as pd

from fleet.adapters.statsmodels import autoreg, exponential, sarimax, theta
from fleet.errors import AdapterMissing, ConfigInvalid, FleetError
from fleet.forecaster import readings
from fleet.task import Task

Name = Literal["holt_winters", "ets", "sarimax", "autoreg", "theta"]
Core: TypeAlias = exponential.Smoothed | theta.Theta | autoreg.Autoregression | sarimax.Filtered

ACCEPTED: dict[str, tuple[str, ...]] = {
    "holt_winters": exponential.HOLT_WINTERS_MODEL + exponential.HOLT_WINTERS_FIT,
    "ets": exponential.ETS_MODEL + exponential.ETS_FIT,
    "sarimax": sarimax.MODEL + sarimax.FIT,
    "autoreg": autoreg.MODEL,
    "theta": theta.MODEL + theta.FORECAST,
}
# TOML has no null: where the library's None is a choice of its own, "none" says it.
MAY_BE_NONE: dict[str, tuple[str, ...]] = {
    "holt_winters": ("trend", "seasonal"),
    "ets": ("trend", "seasonal"),
    "sarimax": ("trend",),
}
_CLASSES: dict[str, type[Core]] = {
    "holt_winters": exponential.Smoothed,
    "ets": exponential.Smoothed,
    "sarimax": sarimax.Filtered,
    "autoreg": autoreg.Autoregression,
    "theta": theta.Theta,
}


@dataclass(frozen=True, kw_only=True)
class Statsmodels:
    """A model of statsmodels by name. A sarimax or autoreg regresses on the covariates that are known ahead.

    Args:
        model: which one.
        season: steps of a season; the task's main season when absent, 1 for none.
        params: arguments of the library's model and of its fit, by the library's names; ``"none"`` is None where None
            means something: no trend, no season.

    >>> Statsmodels(model="ets", params={"trend": "none"}).options["trend"] is None
    True
    """

    model: Name
    season: int | None = None
    params: dict[str, Any] = field(default_factory=dict)

    library: ClassVar[str] = "statsmodels"
    codec: ClassVar[str] = "statsmodels-json"
    revision: ClassVar[int] = 1
    light: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.season is not None and self.season < 1:
            raise ConfigInvalid(f"season is a number of steps from 1 up, got {self.season}")
        accepted = ACCEPTED[self.model]
        unknown = [name for name in self.params if name not in accepted]
        if unknown:
            raise ConfigInvalid(f"params.{unknown[0]}: unknown to {self.model}; accepted: {', '.join(accepted)}")
        if self.model in ("holt_winters", "ets"):
            for name in ("trend", "seasonal"):
                kind = self.options.get(name)
                if kind is not None and kind not in exponential.KINDS:
                    kinds = ", ".join((*exponential.KINDS, "none"))
                    raise ConfigInvalid(f"params.{name} = {kind!r}: unknown to {self.model}; accepted: {kinds}")

    @property
    def uses_covariates(self) -> bool:
        return self.model in ("sarimax", "autoreg")

    @property
    def options(self) -> dict[str, Any]:
        """The params as the library takes them."""
        nullable = MAY_BE_NONE.get(self.model, ())
        return {name: None if name in nullable and value == "none" else value for name, value in self.params.items()}

    def fit(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> StatsmodelsFitted:
        readings(y)
        season = self.season or (task.seasons[0] if task.seasons else 1)
        with quiet():
            match self.model:
                case "holt_winters":
                    core: Core = exponential.fit_holt_winters(y, task, season, self.options)
                case "ets":
                    core = exponential.fit_ets(y, task, season, self.options)
                case "theta":
                    core = theta.fit_theta(y, task, season, self.options)
                case "autoreg":
                    core = autoreg.fit_autoreg(y, X, task, season, self.options)
                case "sarimax":
                    core = sarimax.fit_sarimax(y, X, task, season, self.options)
        return StatsmodelsFitted(model=self.model, core=core)

    def load(self, blob: bytes) -> StatsmodelsFitted:
        found = json.loads(zlib.decompress(blob))
        if found["format"] != 1:
            raise FleetError(f"the model was written in format {found['format']}, this release reads 1")
        return StatsmodelsFitted(model=found["model"], core=_CLASSES[found["model"]].from_dict(found["core"]))

    def import_library(self) -> None:
        try:
            import statsmodels.tsa.api  # noqa: F401
        except (ImportError, OSError) as error:
            raise AdapterMissing(f"statsmodels cannot be imported: {error}", hint="pip install statsmodels") from error


@dataclass(frozen=True, kw_only=True)
class StatsmodelsFitted:
    """A fitted model of statsmodels: parameters and the state after the last reading."""

    model: Name
    core: Core

    def predict(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> pd.DataFrame:
        readings(y)
        with quiet():
            return self.core.predict(y, X, task)

    def save(self) -> bytes:
        text = json.dumps({"format": 1, "model": self.model, "core": self.core.as_dict()}, separators=(",", ":"))
        return zlib.compress(text.encode(), 6)

    def params(self) -> Mapping[str, float]:
        return {name: value for name, value in self.core.params().items() if math.isfinite(value)}


@contextmanager
def quiet() -> Iterator[None]:
    """The library warns of what the runner checks anyway: a flat series, a search that ended early."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield
