"""SARIMAX in state-space form: fitted by the library, filtered on from the state after the last reading.

The blob holds the parameters and that state with its uncertainty, a vector and a matrix as large as the longest lag. A
later history is filtered from there; one that does not continue it is filtered whole, from the library's own start. A
missing reading is missing to the filter as well, so nothing is bridged, and the target is a run of missing readings.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Self

import numpy as np
import pandas as pd

from fleet.alignment import align
from fleet.errors import FitFailed, TooShort
from fleet.regressors import known_ahead, regressors
from fleet.task import FloatArray, Task

MODEL = (
    "order",
    "seasonal_order",
    "trend",
    "enforce_stationarity",
    "enforce_invertibility",
    "measurement_error",
    "hamilton_representation",
)
FIT = ("method", "maxiter")


@dataclass(frozen=True, kw_only=True)
class Filtered:
    """A fitted SARIMAX.

    Args:
        options: the library's arguments.
        covariates: columns that the regression uses.
        values: (parameters,) in the library's order.
        names: of the parameters.
        state: (states,) expected for the step after the last reading, base64 of float64.
        spread: (states, states) its covariance, likewise.
        first: place of the first step it was fitted to.
        last: place of the last.
        clock: what places count.
        season: steps of a season; 1 for none.
    """

    options: dict[str, Any]
    covariates: tuple[str, ...]
    values: tuple[float, ...]
    names: tuple[str, ...]
    state: str
    spread: str
    first: int
    last: int
    clock: str
    season: int

    def predict(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> pd.DataFrame:
        """Filtered over what is new, then over the target as a run of missing readings."""
        from statsmodels.tsa.statespace.initialization import Initialization

        history = align(y, task, self.season)
        fresh = history.after(self.last, self.clock, gap=2 * self.season)
        begin = self.last + 1 if fresh is not None else history.first
        steps = int(history.ahead.max())
        series = np.concatenate([history.values if fresh is None else fresh, np.full(steps, np.nan)])
        rows = None
        if self.covariates:
            end = begin + len(series) - 1
            rows = regressors(X, self.covariates, history, task, self.season, since=begin, until=end)
        model = _model(series, rows, self.options, trend_offset=begin - self.first + 1, validate_specification=False)
        if fresh is not None:
            state = _unpacked(self.state)
            spread = _unpacked(self.spread).reshape(len(state), len(state))
            model.ssm.initialization = Initialization(len(state), "known", constant=state, stationary_cov=spread)
            model.loglikelihood_burn = 0
        found = model.filter(np.array(self.values), cov_type="none").filter_results
        at = len(series) - steps + history.ahead - 1
        mean = found.forecasts[0][at]
        deviation = np.sqrt(found.forecasts_error_cov[0, 0][at])
        return task.frame(mean, {q: mean + NormalDist().inv_cdf(q) * deviation for q in task.quantiles})

    def as_dict(self) -> dict[str, Any]:
        """The model as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Self:
        """The model from what `as_dict` gave."""
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}
        return cls(**values)

    def params(self) -> dict[str, float]:
        """The library's parameters, by its names."""
        return dict(zip(self.names, self.values, strict=True))


def fit_sarimax(
    y: pd.Series[float],
    X: pd.DataFrame | None,
    task: Task,
    season: int,
    options: Mapping[str, Any],
) -> Filtered:
    """SARIMAX by likelihood, as the library fits it; (1, 0, 1) with a seasonal (1, 0, 1) by default."""
    history = align(y, task, season)
    covariates = known_ahead(X, history, task, season)
    of_model = _specified({name: value for name, value in options.items() if name in MODEL}, season)
    order, seasonal = of_model["order"], of_model["seasonal_order"]
    needed = 2 * (_reach(order) + seasonal[3] * _reach(seasonal)) + len(covariates) + 3
    readings = int(np.isfinite(history.values).sum())
    if readings < needed:
        raise TooShort(f"SARIMAX {order} x {seasonal} needs {needed} readings, the history holds {readings}")
    past = None
    if covariates:
        past = regressors(X, covariates, history, task, season, since=history.first, until=history.last)
    model = _model(history.values, past, of_model)
    fit_options = {name: value for name, value in options.items() if name in FIT}
    fitted = model.fit(disp=False, cov_type="none", **fit_options)
    if not np.isfinite(fitted.params).all():
        raise FitFailed(f"SARIMAX {order} x {seasonal} did not converge: its parameters are {fitted.params.tolist()}")
    return Filtered(
        options=of_model,
        covariates=covariates,
        values=tuple(float(value) for value in fitted.params),
        names=tuple(model.param_names),
        state=_packed(fitted.predicted_state[:, -1]),
        spread=_packed(fitted.predicted_state_cov[:, :, -1]),
        first=history.first,
        last=history.last,
        clock=history.clock,
        season=season,
    )


def _specified(options: dict[str, Any], season: int) -> dict[str, Any]:
    """Options with both orders as the library wants them; three seasonal numbers get the season as their fourth."""
    order = tuple(options.get("order", (1, 0, 1)))
    seasonal = tuple(options.get("seasonal_order", (1, 0, 1) if season > 1 else (0, 0, 0)))
    length = seasonal[3] if len(seasonal) > 3 else season
    uses = length > 1 and any(seasonal[:3])
    return {**options, "order": order, "seasonal_order": (*seasonal[:3], length) if uses else (0, 0, 0, 0)}


def _reach(order: tuple[Any, ...]) -> int:
    """Steps that an order looks back: the longest lag plus what differencing takes."""
    # An order is a number of lags, or a list of 0 and 1 that says which lags are used.
    lags = [len(part) if isinstance(part, list) else int(part) for part in (order[0], order[2])]
    return max(lags) + int(order[1])


def _model(series: FloatArray, rows: FloatArray | None, options: Mapping[str, Any], **more: Any) -> Any:
    from statsmodels.tsa.statespace.sarimax import SARIMAX

    return SARIMAX(series, exog=rows, **options, **more)


def _packed(values: FloatArray) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f8").tobytes()).decode()


def _unpacked(text: str) -> FloatArray:
    return np.frombuffer(base64.b64decode(text), dtype="<f8").astype(np.float64)
