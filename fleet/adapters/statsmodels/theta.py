"""Theta: half a trend line, half a smoothed level, on a history without its season.

The level after the newest reading is filtered with the parameters as they are; slope, smoothing and season stay as they
were fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from fleet.adapters.statsmodels.recursion import Smoothing, State, advanced, restarted, seasoned
from fleet.alignment import align, filled
from fleet.errors import FitFailed, TooShort
from fleet.task import FloatArray, Task

MODEL = ("deseasonalize", "use_test", "method", "difference")
FORECAST = ("theta",)


@dataclass(frozen=True, kw_only=True)
class Theta:
    """A fitted Theta model.

    Args:
        rule: weight of the level, and how the season joins.
        state: level and season after the last reading.
        slope: of the trend line, per step.
        weight: of the slope in the forecast: 1/2 for the classic theta of 2.
        first: place of the first step it was fitted to.
        last: place of the last.
        clock: what places count.
        season: steps of a season; 1 for none.
    """

    rule: Smoothing
    state: State
    slope: float
    weight: float
    first: int
    last: int
    clock: str
    season: int

    def predict(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> pd.DataFrame:
        """The level after the newest reading and a part of the slope, with the season."""
        history = align(y, task, self.season)
        fresh = history.after(self.last, self.clock, gap=2 * self.season)
        if fresh is not None:
            state, steps = advanced(self.state, fresh.tolist(), self.rule), history.last - self.first + 1
        else:
            start = restarted(self.state, history.first - self.last - 1, history.values, self.rule)
            state, steps = advanced(start, history.values.tolist(), self.rule), len(history.values)
        alpha = self.rule.alpha
        lag = 1 / alpha - (1 - alpha) ** steps / alpha if alpha > 0 else 0.0
        plain: FloatArray = state.level + self.weight * self.slope * (history.ahead.astype(np.float64) - 1.0 + lag)
        return task.frame(seasoned(plain, state, history.ahead, self.rule))

    def as_dict(self) -> dict[str, Any]:
        """The model as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Self:
        """The model from what `as_dict` gave."""
        state = State(**{**found["state"], "season": tuple(found["state"]["season"])})
        return cls(**{**found, "rule": Smoothing(**found["rule"]), "state": state})

    def params(self) -> dict[str, float]:
        """The library's two parameters."""
        return {"b0": self.slope, "alpha": self.rule.alpha}


def fit_theta(y: pd.Series[float], task: Task, season: int, options: Mapping[str, Any]) -> Theta:
    """Theta by least squares and smoothing, as the library fits it."""
    from statsmodels.tsa.forecasting.theta import ThetaModel

    history = align(y, task, season)
    needed = max(2 * season, 4)
    readings = int(np.isfinite(history.values).sum())
    if readings < needed:
        raise TooShort(f"theta with a season of {season} steps needs {needed} readings, the history holds {readings}")
    values = filled(history.values, season)
    of_model = {name: value for name, value in options.items() if name in MODEL}
    if season == 1:
        of_model["deseasonalize"] = False
    model = ThetaModel(values, period=season, **of_model)
    fitted = model.fit()
    parts = fitted.forecast_components(season)
    seasonal = season > 1 and bool(model.deseasonalize)
    rule = Smoothing(
        alpha=float(fitted.params["alpha"]),
        seasonal=("mul" if model.method.startswith("mul") else "add") if seasonal else None,
    )
    state = State(
        level=float(np.asarray(parts["ses"])[0]),
        trend=0.0,
        season=tuple(np.asarray(parts["seasonal"]).tolist()) if seasonal else (),
    )
    theta = float(options.get("theta", 2.0))
    # The library finds no line through a flat series: its constant column is dropped beside a second constant.
    slope = 0.0 if _flat_without_season(values, state, rule) else float(fitted.params["b0"])
    if not np.isfinite([slope, rule.alpha, state.level, *state.season]).all():
        raise FitFailed(f"theta did not converge: slope {slope}, alpha {rule.alpha}, level {state.level}")
    return Theta(
        rule=rule,
        state=state,
        slope=slope,
        weight=(theta - 1) / theta,
        first=history.first,
        last=history.last,
        clock=history.clock,
        season=season,
    )


def _flat_without_season(values: FloatArray, state: State, rule: Smoothing) -> bool:
    if not state.season:
        return bool(np.ptp(values) == 0)
    terms = np.array(state.season)[(np.arange(len(values)) - len(values)) % len(state.season)]
    plain = values / terms if rule.seasonal == "mul" else values - terms
    return bool(np.ptp(plain) <= 1e-12 * np.abs(values).max())
