"""Holt-Winters and ETS: fitted by the library, carried forward by `recursion`.

The blob holds the smoothing parameters and the state after the last reading: level, trend and one season. A later
history is filtered from there with the same parameters; one that does not continue it starts from the shape that was
learnt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist
from typing import Any, Self

import numpy as np
import pandas as pd

from fleet.adapters.statsmodels.recursion import (
    Smoothing,
    State,
    advanced,
    forecast,
    relative_variance,
    restarted,
)
from fleet.alignment import Aligned, align, filled
from fleet.errors import FitFailed, TooShort
from fleet.task import FloatArray, Task

KINDS = ("add", "mul", "additive", "multiplicative")
HOLT_WINTERS = {"trend": "add", "damped_trend": True, "seasonal": "add"}
HOLT_WINTERS_MODEL = ("trend", "damped_trend", "seasonal", "initialization_method", "bounds")
HOLT_WINTERS_FIT = (
    "smoothing_level",
    "smoothing_trend",
    "smoothing_seasonal",
    "damping_trend",
    "method",
    "minimize_kwargs",
    "use_brute",
)
ETS = {"error": "add", "trend": "add", "damped_trend": True, "seasonal": "add"}
ETS_MODEL = ("error", "trend", "damped_trend", "seasonal", "initialization_method", "bounds")
ETS_FIT = ("maxiter",)


@dataclass(frozen=True, kw_only=True)
class Smoothed:
    """A fitted smoothing.

    Args:
        rule: the parameters.
        state: after the last reading of what it was fitted to, or filtered over since.
        last: place of that reading on the grid of `fleet.alignment`.
        clock: what places count.
        season: steps of a season; 1 for none.
        variance: of the one-step error; None where a normal interval would be wrong.
    """

    rule: Smoothing
    state: State
    last: int
    clock: str
    season: int
    variance: float | None = None

    def predict(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> pd.DataFrame:
        """The level, trend and season after the newest reading, carried on."""
        history = align(y, task, self.season)
        mean = forecast(self.state_after(history), history.ahead, self.rule)
        if self.variance is None or not task.quantiles:
            return task.frame(mean)
        deviation = np.sqrt(self.variance * relative_variance(history.ahead, self.season, self.rule))
        return task.frame(mean, {q: mean + NormalDist().inv_cdf(q) * deviation for q in task.quantiles})

    def state_after(self, history: Aligned) -> State:
        """The state at the end of a history, filtered with the parameters as they are."""
        fresh = history.after(self.last, self.clock, gap=2 * self.season)
        if fresh is not None:
            return advanced(self.state, fresh.tolist(), self.rule)
        start = restarted(self.state, history.first - self.last - 1, history.values, self.rule)
        return advanced(start, history.values.tolist(), self.rule)

    def as_dict(self) -> dict[str, Any]:
        """The model as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Self:
        """The model from what `as_dict` gave."""
        state = State(**{**found["state"], "season": tuple(found["state"]["season"])})
        return cls(**{**found, "rule": Smoothing(**found["rule"]), "state": state})

    def params(self) -> dict[str, float]:
        """The smoothing parameters."""
        return {name: float(getattr(self.rule, name)) for name in ("alpha", "beta", "gamma", "phi")}


def fit_holt_winters(y: pd.Series[float], task: Task, season: int, options: Mapping[str, Any]) -> Smoothed:
    """Holt-Winters by squared error, as the library fits it."""
    from statsmodels.tsa.holtwinters import ExponentialSmoothing

    model_options, fit_options, season = _split({**HOLT_WINTERS, **options}, HOLT_WINTERS_MODEL, season)
    history, values = _complete(y, task, season)
    periods = {"seasonal_periods": season} if model_options["seasonal"] else {}
    fitted = ExponentialSmoothing(values, **periods, **model_options).fit(**fit_options)
    found = fitted.params
    alpha = float(found["smoothing_level"])
    rule = Smoothing(
        trend=_kind(model_options["trend"]),
        seasonal=_kind(model_options["seasonal"]),
        alpha=alpha,
        beta=alpha * float(found["smoothing_trend"]) if model_options["trend"] else 0.0,
        gamma=float(found["smoothing_seasonal"]) if model_options["seasonal"] else 0.0,
        phi=float(found["damping_trend"]) if model_options["damped_trend"] else 1.0,
    )
    # Not fitted.forecast: release 0.15 forgets the newest seasonal term there (statsmodels issue 9538), the state does
    # not. test_the_library_forgets_the_newest_seasonal_term fails when this remark may go.
    state = State(
        level=float(fitted.level[-1]),
        trend=float(fitted.trend[-1]) if rule.trend else _no_trend(rule),
        season=tuple(fitted.season[-season:].tolist()) if rule.seasonal else (),
    )
    return _checked(Smoothed(rule=rule, state=state, last=history.last, clock=history.clock, season=season))


def fit_ets(y: pd.Series[float], task: Task, season: int, options: Mapping[str, Any]) -> Smoothed:
    """ETS by likelihood, as the library fits it."""
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    model_options, fit_options, season = _split({**ETS, **options}, ETS_MODEL, season)
    history, values = _complete(y, task, season)
    periods = {"seasonal_periods": season} if model_options["seasonal"] else {}
    model = ETSModel(values, **periods, **model_options)
    # Parameters alone: the library's result object differentiates the likelihood twice, for standard errors.
    params = model.fit(disp=False, return_params=True, **fit_options)
    found = dict(zip(model.param_names, params.tolist(), strict=True))
    one_step, states = model.smooth(params, return_raw=True)
    seasonal = _kind(model_options["seasonal"])
    alpha, gamma = found["smoothing_level"], found.get("smoothing_seasonal", 0.0)
    rule = Smoothing(
        trend=_kind(model_options["trend"]),
        seasonal=seasonal,
        alpha=alpha,
        beta=found.get("smoothing_trend", 0.0),
        gamma=gamma / (1 - alpha) if seasonal == "mul" else gamma,
        phi=found.get("damping_trend", 1.0),
        after_level=seasonal == "mul",
    )
    state = State(
        level=float(states[-1, 0]),
        trend=float(states[-1, 1]) if rule.trend else _no_trend(rule),
        season=tuple(states[-season:, -1].tolist()) if rule.seasonal else (),
    )
    additive = "mul" not in (_kind(model_options["error"]), rule.trend, rule.seasonal)
    variance = float(np.mean((values - one_step) ** 2)) if additive else None
    fitted = Smoothed(rule=rule, state=state, last=history.last, clock=history.clock, season=season, variance=variance)
    return _checked(fitted)


def _split(
    options: Mapping[str, Any], of_model: tuple[str, ...], season: int
) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Options of the model and of its fit; the season is 1 when the model has none, and the other way round."""
    model = {name: value for name, value in options.items() if name in of_model}
    of_fit = {name: value for name, value in options.items() if name not in of_model}
    if season <= 1:
        model["seasonal"] = None
    model["damped_trend"] = bool(model["trend"] and model["damped_trend"])
    if model.get("bounds"):
        model["bounds"] = {name: tuple(bound) for name, bound in model["bounds"].items()}
    return model, of_fit, season if model["seasonal"] else 1


def _complete(y: pd.Series[float], task: Task, season: int) -> tuple[Aligned, FloatArray]:
    history = align(y, task, season)
    needed = max(10 + 2 * (season // 2), 2 * season)
    readings = int(np.isfinite(history.values).sum())
    if readings < needed:
        raise TooShort(f"smoothing with a season of {season} steps needs {needed} readings, has {readings}")
    return history, filled(history.values, season)


def _kind(option: str | None) -> Any:
    return option[:3] if option else None


def _no_trend(rule: Smoothing) -> float:
    return 1.0 if rule.trend == "mul" else 0.0


def _checked(fitted: Smoothed) -> Smoothed:
    found = [*fitted.params().values(), fitted.state.level, fitted.state.trend, *fitted.state.season]
    if not np.isfinite(found).all():
        raise FitFailed(f"the smoothing did not converge: {fitted.params()}, level {fitted.state.level}")
    return replace(fitted)
