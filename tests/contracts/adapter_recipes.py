"""What each adapter promises: the recipes that the contract suite runs over."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

RIDGE = {"path": "sklearn.linear_model.Ridge"}
SMALL_TREES = {"n_estimators": 40, "num_leaves": 7}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What one adapter promises.

    Args:
        seasonal: it repeats the shape of the local day.
        quantiles: it has them of its own.
        covariates: it regresses on what is known ahead.
        needs: at least this many readings; TooShort below.
        loose: how far from the truth its mean may be, in units of the daily swing.
        covers: of the readings lie between its q10 and q90, at least.
        repeatable: equal models are equal bytes; not so in an archive with the time of its writing in it.
        many: takes many assets at once with the scope that it is built with.
        pooled: has scope "global" too.
    """

    adapter: str
    options: dict[str, Any] = field(default_factory=dict)
    seasonal: bool = True
    quantiles: bool = False
    covariates: bool = False
    needs: int = 24
    loose: float = 0.15
    covers: float = 0.4
    repeatable: bool = True
    many: bool = False
    pooled: bool = False


CORE = {
    "naive": Recipe(adapter="naive", seasonal=False, needs=1),
    "mean": Recipe(adapter="mean", seasonal=False, needs=1),
    "seasonal_naive": Recipe(adapter="seasonal_naive"),
    "weekly_naive": Recipe(adapter="seasonal_naive", options={"season": 168}, needs=168),
    "holt_winters": Recipe(adapter="statsmodels", options={"model": "holt_winters", "params": {"use_brute": False}}),
    "ets": Recipe(
        adapter="statsmodels", options={"model": "ets", "params": {"trend": None, "maxiter": 60}}, quantiles=True
    ),
    "theta": Recipe(adapter="statsmodels", options={"model": "theta"}),
    "autoreg": Recipe(adapter="statsmodels", options={"model": "autoreg"}, quantiles=True, covariates=True, loose=0.3),
    "sarimax": Recipe(
        adapter="statsmodels",
        options={"model": "sarimax", "params": {"order": [1, 0, 0], "seasonal_order": [1, 0, 0], "maxiter": 20}},
        quantiles=True,
        covariates=True,
        loose=0.3,
    ),
    "lightgbm": Recipe(
        adapter="lightgbm",
        options={"rounds": 40, "params": {"num_leaves": 7}},
        quantiles=True,
        covariates=True,
        needs=189,
        pooled=True,
    ),
    "ridge": Recipe(adapter="sklearn", covariates=True, needs=189, loose=0.3, repeatable=False),
}
EXTRA = {
    "statsforecast_ets": Recipe(
        adapter="statsforecast",
        options={"model": "AutoETS", "params": {"model": "ANA"}},
        quantiles=True,
        needs=25,
        many=True,
    ),
    "statsforecast_arima": Recipe(
        adapter="statsforecast",
        options={"model": "ARIMA", "params": {"order": [1, 0, 0], "seasonal_order": [1, 0, 0]}},
        quantiles=True,
        covariates=True,
        needs=25,
        loose=0.3,
        many=True,
    ),
    "statsforecast_mstl": Recipe(
        adapter="statsforecast",
        options={"model": "MSTL"},
        quantiles=True,
        needs=337,
        loose=0.2,
        covers=0.2,
        many=True,
    ),
    "statsforecast_naive": Recipe(
        adapter="statsforecast",
        options={"model": "SeasonalNaive"},
        quantiles=True,
        needs=25,
        many=True,
    ),
    "statsforecast_croston": Recipe(
        adapter="statsforecast",
        options={"model": "CrostonClassic"},
        seasonal=False,
        needs=25,
        many=True,
    ),
    "statsforecast_level": Recipe(
        adapter="statsforecast",
        options={"model": "SimpleExponentialSmoothing", "params": {"alpha": 0.2}},
        seasonal=False,
        needs=25,
        many=True,
    ),
    "mlforecast_lightgbm": Recipe(
        adapter="mlforecast", options={"params": SMALL_TREES}, covariates=True, needs=189, loose=0.2, pooled=True
    ),
    "mlforecast_ridge": Recipe(
        adapter="mlforecast",
        options={"regressor": "sklearn.linear_model.Ridge", "rolling": ["mean_24"], "differences": [24]},
        covariates=True,
        needs=213,
        loose=0.3,
        repeatable=False,
        pooled=True,
    ),
    "skforecast_ridge": Recipe(
        adapter="skforecast",
        options={"regressor": "sklearn.linear_model.Ridge", "draws": 50},
        quantiles=True,
        covariates=True,
        needs=189,
        loose=0.3,
        repeatable=False,
    ),
    "skforecast_lightgbm": Recipe(
        adapter="skforecast",
        options={"params": SMALL_TREES, "rolling": ["mean_24", "std_24"], "draws": 20},
        quantiles=True,
        covariates=True,
        needs=189,
        loose=0.2,
    ),
    "sktime_naive": Recipe(
        adapter="sktime",
        options={"forecaster": "sktime.forecasting.naive.NaiveForecaster"},
        quantiles=True,
        needs=49,
    ),
    "sktime_reduced": Recipe(
        adapter="sktime",
        options={
            "forecaster": "sktime.forecasting.compose.RecursiveTabularRegressionForecaster",
            "params": {"estimator": RIDGE, "window_length": 25},
        },
        covariates=True,
        needs=49,
        loose=0.3,
    ),
    "sktime_pipeline": Recipe(
        adapter="sktime",
        options={
            "forecaster": "sktime.forecasting.compose.TransformedTargetForecaster",
            "params": {
                "steps": [
                    ["season", {"path": "sktime.transformations.detrend.Deseasonalizer", "params": {"sp": 24}}],
                    [
                        "rest",
                        {
                            "path": "sktime.forecasting.compose.RecursiveTabularRegressionForecaster",
                            "params": {"estimator": RIDGE, "window_length": 5},
                        },
                    ],
                ]
            },
        },
        covariates=True,
        needs=49,
        loose=0.3,
    ),
    "sktime_theta": Recipe(
        adapter="sktime",
        options={"forecaster": "sktime.forecasting.theta.ThetaForecaster", "fresh": "refit"},
        quantiles=True,
        needs=49,
    ),
    "darts_linear": Recipe(
        adapter="darts",
        options={"model": "LinearRegressionModel", "params": {"likelihood": "quantile", "alpha": 0.0}, "draws": 100},
        quantiles=True,
        covariates=True,
        needs=189,
        loose=0.3,
    ),
    "darts_lightgbm": Recipe(
        adapter="darts",
        options={"model": "LightGBMModel", "params": SMALL_TREES},
        covariates=True,
        needs=189,
        loose=0.3,
    ),
    "darts_theta": Recipe(adapter="darts", options={"model": "FourTheta", "fresh": "refit"}, needs=25),
}
EVERY = {**CORE, **EXTRA}


def _is_here(recipe: Recipe) -> bool:
    """Whether its library is installed: those of the extra `adapters` need not be, but where all are asked for."""
    extra = any(recipe is one for one in EXTRA.values())
    return not extra or os.environ.get("TSFLEET_TEST_ADAPTERS") == "all" or find_spec(recipe.adapter) is not None


RECIPES = {name: recipe for name, recipe in EVERY.items() if _is_here(recipe)}
