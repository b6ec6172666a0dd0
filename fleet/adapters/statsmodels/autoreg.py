"""Autoregression on chosen lags, with trend, seasonal dummies and covariates, fitted by the library.

The blob holds the coefficients alone; a forecast needs as many of the newest readings as the longest lag reaches back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Self

import numpy as np
import pandas as pd

from fleet.alignment import Aligned, align, filled
from fleet.errors import FitFailed, TooShort
from fleet.regressors import known_ahead, regressors
from fleet.task import FloatArray, Task

MODEL = ("lags", "trend", "seasonal")


@dataclass(frozen=True, kw_only=True)
class Autoregression:
    """A fitted autoregression.

    Args:
        lags: steps back.
        weights: (lags,) of the readings there.
        constant: with ``trend`` and ``trend_squared`` per step since ``first``.
        dummies: (season,) added by the step of the season, counted from ``first``; empty for none.
        covariates: names of the columns, and what one unit of each adds.
        variance: of the one-step error.
        first: place of the first step it was fitted to.
        season: steps of a season; 1 for none.
    """

    lags: tuple[int, ...]
    weights: tuple[float, ...]
    constant: float
    trend: float
    trend_squared: float
    dummies: tuple[float, ...]
    covariates: dict[str, float]
    variance: float
    first: int
    season: int

    def predict(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> pd.DataFrame:
        """Step by step from the newest readings; a missing one among them is bridged first."""
        history = align(y, task, self.season)
        reach = max(self.lags, default=0)
        if len(history.values) < reach:
            raise TooShort(f"the longest lag is {reach} steps, the history holds {len(history.values)}")
        values = filled(history.values, self.season)[len(history.values) - reach :].tolist()
        for outside in self._outside(history, X, task):
            values.append(outside + sum(w * values[-lag] for lag, w in zip(self.lags, self.weights, strict=True)))
        mean = np.array(values[reach:])[history.ahead - 1]
        if not task.quantiles:
            return task.frame(mean)
        deviation = np.sqrt(self.variance * self._relative_variance(int(history.ahead.max()))[history.ahead - 1])
        return task.frame(mean, {q: mean + NormalDist().inv_cdf(q) * deviation for q in task.quantiles})

    def _outside(self, history: Aligned, X: pd.DataFrame | None, task: Task) -> list[float]:
        """What each step gets that no lag gives: constant, trend, season, covariates."""
        steps = int(history.ahead.max())
        since = history.last + 1
        count = np.arange(since, since + steps) - self.first
        total = self.constant + self.trend * (count + 1.0) + self.trend_squared * (count + 1.0) ** 2
        if self.dummies:
            total = total + np.array(self.dummies)[count % self.season]
        if self.covariates:
            names = list(self.covariates)
            rows = regressors(X, names, history, task, self.season, since=since, until=since + steps - 1)
            total = total + rows @ np.array([self.covariates[name] for name in names])
        return [float(value) for value in total]

    def _relative_variance(self, steps: int) -> FloatArray:
        """(steps,) sums of squares of what one surprise adds to each step after it."""
        weights = dict(zip(self.lags, self.weights, strict=True))
        effect = [1.0]
        for step in range(1, steps):
            effect.append(sum(weight * effect[step - lag] for lag, weight in weights.items() if lag <= step))
        return np.cumsum(np.square(effect))

    def as_dict(self) -> dict[str, Any]:
        """The model as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Self:
        """The model from what `as_dict` gave."""
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}
        return cls(**values)

    def params(self) -> dict[str, float]:
        """Weights of lags and covariates."""
        return {**{f"lag_{lag}": w for lag, w in zip(self.lags, self.weights, strict=True)}, **self.covariates}


def fit_autoreg(
    y: pd.Series[float],
    X: pd.DataFrame | None,
    task: Task,
    season: int,
    options: Mapping[str, Any],
) -> Autoregression:
    """Autoregression by least squares, as the library fits it; the lags 1, 2, a season and one more by default."""
    from statsmodels.tsa.ar_model import AutoReg

    history = align(y, task, season)
    covariates = known_ahead(X, history, task, season)
    wanted = options.get("lags", (1, 2, season, season + 1) if season > 2 else (1, 2))
    lags = tuple(range(1, wanted + 1)) if isinstance(wanted, int) else tuple(sorted(set(wanted)))
    needed = 2 * max(lags, default=0) + len(lags) + (season if options.get("seasonal") else 0) + len(covariates) + 2
    readings = int(np.isfinite(history.values).sum())
    if readings < needed:
        raise TooShort(f"an autoregression on lags to {max(lags, default=0)} needs {needed} readings, has {readings}")
    past = None
    if covariates:
        past = regressors(X, covariates, history, task, season, since=history.first, until=history.last)
    model = AutoReg(
        filled(history.values, season),
        lags=list(lags),
        trend=options.get("trend", "c"),
        seasonal=bool(options.get("seasonal", False)),
        period=season if options.get("seasonal") else None,
        exog=past,
    )
    fitted = model.fit()
    found = dict(zip(model.exog_names, np.asarray(fitted.params).tolist(), strict=True))
    if not np.isfinite(list(found.values())).all():
        raise FitFailed("the autoregression has no solution: its coefficients are not finite")
    names = list(found)
    return Autoregression(
        lags=lags,
        weights=tuple(found[f"y.L{lag}"] for lag in lags),
        constant=found.get("const", 0.0),
        trend=found.get("trend", 0.0),
        trend_squared=found.get("trend_squared", 0.0),
        dummies=tuple(found.get(f"s({k + 1},{season})", 0.0) for k in range(season)) if options.get("seasonal") else (),
        covariates={name: found[names[len(names) - len(covariates) + k]] for k, name in enumerate(covariates)},
        variance=float(fitted.sigma2),
        first=history.first,
        season=season,
    )
