"""The statsmodels adapter against the bare library: nothing missing, no clock changing, the numbers are its own."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from statsmodels.tsa.ar_model import AutoReg
from statsmodels.tsa.exponential_smoothing.ets import ETSModel
from statsmodels.tsa.forecasting.theta import ThetaModel
from statsmodels.tsa.holtwinters import ExponentialSmoothing
from statsmodels.tsa.statespace.sarimax import SARIMAX
from threadpoolctl import threadpool_limits

from fleet.adapters.statsmodels import ACCEPTED, Statsmodels
from fleet.adapters.statsmodels.recursion import Smoothing, State, advanced
from fleet.errors import ConfigInvalid, CovariateMissing, TooShort
from fleet.forecaster import Saves
from fleet.task import Task

SEASON = 6
STEPS = 120
AHEAD = 14


@pytest.fixture(autouse=True)
def _the_library_may_warn() -> Iterator[None]:
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def series(steps: int = STEPS, *, positive: bool = True, seed: int = 3) -> pd.Series:
    random = np.random.default_rng(seed)
    place = np.arange(steps)
    values = 60 + 0.05 * place + 8 * np.sin(2 * np.pi * place / SEASON) + random.normal(0, 1.5, steps).cumsum() * 0.3
    values += random.normal(0, 1, steps)
    index = pd.date_range("2024-01-01", periods=steps, freq="h", tz="UTC", unit="us")
    return pd.Series(values if positive else values - 60, index=index)


def task_after(y: pd.Series, steps: int = AHEAD, **more: Any) -> Task:
    target = pd.date_range(y.index[-1] + pd.Timedelta("1h"), periods=steps, freq="h", tz="UTC", unit="us")
    return Task(target=target, freq="1h", seasons=(SEASON,), **more)


def temperatures(y: pd.Series) -> pd.DataFrame:
    index = y.index.append(task_after(y).target)
    return pd.DataFrame({"temp": np.random.default_rng(0).normal(size=len(index))}, index=index)


def forecast(
    y: pd.Series, model: str, params: dict[str, Any], X: pd.DataFrame | None = None, **more: Any
) -> pd.DataFrame:
    task = task_after(y, **more)
    return Statsmodels(model=model, params=params).fit(y, X, task).predict(y, X, task)


SMOOTHINGS = [
    {"trend": "add", "damped_trend": True, "seasonal": "add"},
    {"trend": "add", "damped_trend": False, "seasonal": "mul"},
    {"trend": "mul", "damped_trend": False, "seasonal": "add"},
    {"trend": "mul", "damped_trend": True, "seasonal": "mul"},
    {"trend": None, "damped_trend": False, "seasonal": "add"},
    {"trend": "add", "damped_trend": False, "seasonal": None},
]


@pytest.mark.parametrize("options", SMOOTHINGS)
def test_holt_winters_is_the_library_s(options: dict[str, Any]) -> None:
    y = series()
    bare = ExponentialSmoothing(y.to_numpy(), seasonal_periods=SEASON, **options).fit()
    ours = forecast(y, "holt_winters", options)["mean"].to_numpy()
    assert ours[0] == pytest.approx(bare.fittedfcast[-1], rel=1e-9)
    # forecast() filters again, from parameters whose initial trend is divided by the damping, which a ratio is not.
    if options["trend"] != "mul" or not options["damped_trend"]:
        stale = (np.arange(1, AHEAD + 1) % SEASON == 0) & (options["seasonal"] is not None)
        np.testing.assert_allclose(ours[~stale], bare.forecast(AHEAD)[~stale], rtol=1e-9)


def test_the_library_forgets_the_newest_seasonal_term() -> None:
    known = {"initialization_method": "known", "initial_level": 0.0, "initial_seasonal": [1.1, 3.1, 2.1]}
    model = ExponentialSmoothing(np.array([1.0, 3.0, 2.0]), seasonal="add", seasonal_periods=3, **known)
    fitted = model.fit(smoothing_level=0.5, smoothing_seasonal=0.5, optimized=False)
    right = fitted.level[-1] + fitted.season[-1]
    assert fitted.forecast(3)[-1] != pytest.approx(right), "statsmodels mended issue 9538: compare every step above"


@pytest.mark.parametrize("error", ["add", "mul"])
@pytest.mark.parametrize("options", SMOOTHINGS)
def test_ets_is_the_library_s(options: dict[str, Any], error: str) -> None:
    y = series()
    model = ETSModel(y, error=error, seasonal_periods=SEASON, **options)
    bare = model.fit(disp=False, maxiter=300)
    ours = forecast(y, "ets", {"error": error, "maxiter": 300, **options}, quantiles=(0.1, 0.5, 0.9))
    np.testing.assert_allclose(ours["mean"], bare.forecast(AHEAD), rtol=1e-9)
    if "mul" in (error, options["trend"], options["seasonal"]):
        assert list(ours.columns) == ["mean"]
    else:
        interval = bare.get_prediction(start=STEPS, end=STEPS + AHEAD - 1).pred_int(alpha=0.2).to_numpy()
        np.testing.assert_allclose(ours[["q10", "q90"]], interval, rtol=1e-9)


@pytest.mark.parametrize("options", SMOOTHINGS)
def test_a_filtered_state_is_the_library_s(options: dict[str, Any]) -> None:
    y = series(200)
    model = ETSModel(y.to_numpy(), error="add", seasonal_periods=SEASON, **options)
    start = [
        0.3,
        *[0.05] * bool(options["trend"]),
        *[0.2] * bool(options["seasonal"]),
        *[0.9] * options["damped_trend"],
    ]
    params = np.array(start + model.start_params[len(start) :].tolist())
    _, states = model.smooth(params, return_raw=True)
    trend, seasonal = options["trend"], options["seasonal"]
    found = dict(zip(model.param_names, params, strict=True))
    rule = Smoothing(
        trend=trend,
        seasonal=seasonal,
        alpha=0.3,
        beta=0.05 if trend else 0.0,
        gamma={None: 0.0, "add": 0.2, "mul": 0.2 / 0.7}[seasonal],
        phi=0.9 if options["damped_trend"] else 1.0,
        after_level=seasonal == "mul",
    )
    cut = 150
    state = State(
        level=states[cut - 1, 0],
        trend=states[cut - 1, 1] if trend else 0.0,
        season=tuple(states[cut - SEASON : cut, -1]) if seasonal else (),
    )
    assert found["smoothing_level"] == 0.3
    after = advanced(state, y.to_numpy()[cut:].tolist(), rule)
    assert after.level == pytest.approx(states[-1, 0], rel=1e-9)
    if trend:
        assert after.trend == pytest.approx(states[-1, 1], rel=1e-9)
    if seasonal:
        np.testing.assert_allclose(after.season, states[-SEASON:, -1], rtol=1e-9)


@pytest.mark.parametrize(
    "options", [{}, {"deseasonalize": False}, {"method": "add", "use_test": False}, {"theta": 3.0}]
)
def test_theta_is_the_library_s(options: dict[str, Any]) -> None:
    y = series()
    theta = options.get("theta", 2.0)
    model = {name: value for name, value in options.items() if name != "theta"}
    bare = ThetaModel(y.to_numpy(), period=SEASON, **model).fit().forecast(AHEAD, theta=theta)
    np.testing.assert_allclose(forecast(y, "theta", options)["mean"], bare, rtol=1e-9)


def test_theta_goes_on_with_the_level_as_its_smoothing_says() -> None:
    y = series(160)
    task = task_after(y[:120])
    fitted = Statsmodels(model="theta", params={"deseasonalize": False}).fit(y[:120], None, task)
    alpha, slope = fitted.params()["alpha"], fitted.params()["b0"]
    level = y.iloc[0]
    for value in y:
        level += alpha * (value - level)
    wanted = level + slope / 2 * (np.arange(AHEAD) + 1 / alpha - (1 - alpha) ** 160 / alpha)
    np.testing.assert_allclose(fitted.predict(y, None, task_after(y))["mean"], wanted, rtol=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {"lags": 3},
        {"lags": [1, SEASON], "trend": "ct"},
        {"lags": [1, 2], "trend": "n", "seasonal": True},
        {"lags": 2, "trend": "ctt"},
    ],
)
@pytest.mark.parametrize("with_covariate", [False, True])
def test_autoreg_is_the_library_s(options: dict[str, Any], with_covariate: bool) -> None:
    y = series()
    X = temperatures(y) if with_covariate else None
    seasonal = {"seasonal": True, "period": SEASON} if options.get("seasonal") else {}
    past, future = (None, None) if X is None else (X.to_numpy()[:STEPS], X.to_numpy()[STEPS:])
    model = AutoReg(y.to_numpy(), lags=options["lags"], trend=options.get("trend", "c"), exog=past, **seasonal)
    bare = model.fit().get_prediction(STEPS, STEPS + AHEAD - 1, exog_oos=future)
    ours = forecast(y, "autoreg", options, X, quantiles=(0.05, 0.95))
    np.testing.assert_allclose(ours["mean"], bare.predicted_mean, rtol=1e-7)
    np.testing.assert_allclose(ours[["q05", "q95"]], bare.conf_int(alpha=0.1), rtol=1e-7)


@pytest.mark.parametrize(
    "options",
    [
        {"order": [1, 0, 1], "seasonal_order": [0, 0, 0]},
        {"order": [1, 1, 0], "seasonal_order": [0, 0, 0], "trend": "t"},
        {"order": [1, 0, 0], "seasonal_order": [0, 1, 1], "maxiter": 30},
    ],
)
@pytest.mark.parametrize("with_covariate", [False, True])
def test_sarimax_is_the_library_s_and_goes_on_as_if_it_had_filtered_all(
    options: dict[str, Any], with_covariate: bool
) -> None:
    y = series(150)
    X = temperatures(y) if with_covariate else None
    rows = None if X is None else X.to_numpy()
    named = {
        "order": tuple(options["order"]),
        "seasonal_order": (*options["seasonal_order"], SEASON if any(options["seasonal_order"]) else 0),
        "trend": options.get("trend"),
    }
    learnt = y[:STEPS]
    past = None if rows is None else rows[:STEPS]
    bare = SARIMAX(learnt.to_numpy(), exog=past, **named).fit(disp=False, maxiter=options.get("maxiter", 50))
    fitted = Statsmodels(model="sarimax", params=options).fit(learnt, X, task_after(learnt))

    def check(history: pd.Series, results: Any) -> None:
        ours = fitted.predict(history, X, task_after(history, quantiles=(0.1, 0.9)))
        future = None if rows is None else rows[len(history) : len(history) + AHEAD]
        theirs = results.get_forecast(AHEAD, exog=future)
        np.testing.assert_allclose(ours["mean"], theirs.predicted_mean, rtol=1e-7)
        np.testing.assert_allclose(ours[["q10", "q90"]], theirs.conf_int(alpha=0.2), rtol=1e-6)

    check(learnt, bare)
    whole = SARIMAX(y.to_numpy(), exog=None if rows is None else rows[: len(y)], **named).filter(bare.params)
    check(y, whole)


def test_a_history_that_does_not_continue_the_learnt_one_is_filtered_from_its_own_start() -> None:
    y = series(400)
    learnt, later = y[:120], y[300:]
    for model in ACCEPTED:
        params = {"maxiter": 20} if model in ("ets", "sarimax") else {}
        fitted = Statsmodels(model=model, params=params).fit(learnt, None, task_after(learnt))
        mean = fitted.predict(later, None, task_after(later))["mean"].to_numpy()
        assert np.abs(mean - later.to_numpy()[-2 * SEASON :].mean()).max() < 35, model


def test_a_reading_that_is_missing_is_no_news() -> None:
    y = series()
    holed = y.copy()
    holed.iloc[-5:-2] = np.nan
    for model in ("holt_winters", "ets", "theta"):
        fitted = Statsmodels(model=model).fit(y[:100], None, task_after(y[:100]))
        first = fitted.predict(holed[:-5], None, task_after(holed[:-5]))["mean"].iloc[3]
        gap = fitted.predict(holed[:-2], None, task_after(holed[:-2]))["mean"].iloc[0]
        assert gap == pytest.approx(first, rel=1e-9), model


def test_a_covariate_unknown_ahead_is_left_out_and_one_missing_later_is_named() -> None:
    y = series()
    X = temperatures(y).assign(wind=1.0)
    X.loc[task_after(y).target, "wind"] = np.nan
    fitted = Statsmodels(model="autoreg", params={"lags": 2}).fit(y, X, task_after(y))
    assert "temp" in fitted.params()
    assert "wind" not in fitted.params()
    X.loc[task_after(y).target[3], "temp"] = np.nan
    with pytest.raises(CovariateMissing, match="temp is not known for 1 of 14"):
        fitted.predict(y, X, task_after(y))
    with pytest.raises(CovariateMissing, match="temp"):
        fitted.predict(y, None, task_after(y))


@pytest.mark.parametrize("model", list(ACCEPTED))
def test_a_flat_history_is_forecast_flat(model: str) -> None:
    for level in (0.0, 7.0):
        y = pd.Series(level, index=series().index)
        mean = forecast(y, model, {})["mean"]
        np.testing.assert_allclose(mean, level, atol=1e-3)


def test_a_flat_history_with_a_season_has_no_trend() -> None:
    y = pd.Series(np.tile([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 20) - 3, index=series().index)
    np.testing.assert_allclose(forecast(y, "theta", {})["mean"][:6], y[:6].to_numpy(), atol=1e-9)


@pytest.mark.parametrize("model", list(ACCEPTED))
def test_too_short_says_how_much_is_needed(model: str) -> None:
    with pytest.raises(TooShort, match=r"needs \d+ readings.* (has|holds) 3"):
        forecast(series(3), model, {})


def test_options_are_checked_at_birth() -> None:
    with pytest.raises(ConfigInvalid, match=r"params\.oder: unknown to sarimax; accepted: order"):
        Statsmodels(model="sarimax", params={"oder": [1, 0, 0]})
    with pytest.raises(ConfigInvalid, match="season"):
        Statsmodels(model="ets", season=0)


def test_none_can_be_said_where_there_is_no_null() -> None:
    y = series()
    said, meant = ({"trend": word, "seasonal": word} for word in ("none", None))
    for model in ("holt_winters", "ets"):
        pd.testing.assert_frame_equal(forecast(y, model, said), forecast(y, model, meant), check_exact=True)
    said, meant = ({"order": [1, 0, 0], "seasonal_order": [0, 0, 0], "trend": word} for word in ("none", None))
    pd.testing.assert_frame_equal(forecast(y, "sarimax", said), forecast(y, "sarimax", meant), check_exact=True)
    with pytest.raises(ConfigInvalid, match=r"params\.trend = 'nine': unknown to ets; accepted: add, mul,.* none"):
        Statsmodels(model="ets", params={"trend": "nine"})


def test_blobs_are_small_and_do_not_grow_with_the_history() -> None:
    for model in ACCEPTED:
        params = {"maxiter": 5} if model in ("ets", "sarimax") else {}
        sizes = []
        for steps in (120, 480):
            y = series(steps)
            fitted = Statsmodels(model=model, params=params).fit(y, None, task_after(y))
            assert isinstance(fitted, Saves)
            sizes.append(len(fitted.save()))
        assert sizes[1] < 1.2 * sizes[0] + 64, model
        assert max(sizes) < 4000, model
