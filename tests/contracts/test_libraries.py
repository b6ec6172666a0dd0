"""What adapters of the extra `adapters` make of their libraries: the same numbers, and a refusal where one cannot.

Each library is its own oracle: called by hand, the way its documents show.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fleet.counted import quiet
from fleet.errors import AdapterMissing, ConfigInvalid, FitFailed
from fleet.forecaster import Adapter
from fleet.registry import OPTIONAL, build
from fleet.task import Task

if os.environ.get("TSFLEET_TEST_ADAPTERS") != "all" and not all(find_spec(name) for name in OPTIONAL):
    pytest.skip("needs pip install -e '.[test,adapters]'", allow_module_level=True)

STEPS = 24
TIMES = pd.date_range("2024-01-01", periods=600 + STEPS, freq="h", tz="UTC", unit="us")


def series() -> pd.Series:
    random = np.random.default_rng(3)
    at = np.arange(600)
    values = 100 + 0.02 * at + 10 * np.sin(at * 2 * np.pi / 24) + 4 * np.cos(at * 2 * np.pi / 168)
    return pd.Series(values + random.normal(0, 1, 600), index=TIMES[:600])


def task(quantiles: tuple[float, ...] = (), *, ahead: int = STEPS) -> Task:
    target = pd.date_range(TIMES[600], periods=ahead, freq="h", tz="UTC", unit="us")
    return Task(target=target, freq="1h", seasons=(24, 168), quantiles=quantiles, seed=7)


def long(y: pd.Series) -> pd.DataFrame:
    return pd.DataFrame({"unique_id": "a", "ds": y.index.tz_localize(None), "y": y.to_numpy()})


def adapter(name: str, **options: Any) -> Adapter:
    made = build(name, options)
    assert isinstance(made, Adapter)
    return made


def forecast(made: Adapter, quantiles: tuple[float, ...] = ()) -> pd.DataFrame:
    return made.fit(series(), None, task(quantiles)).predict(series(), None, task(quantiles))


@pytest.mark.parametrize(
    ("model", "options"),
    [("AutoETS", {}), ("AutoTheta", {}), ("AutoCES", {}), ("SeasonalNaive", {}), ("ARIMA", {"order": [1, 0, 1]})],
)
def test_statsforecast_gives_what_statsforecast_gives(model: str, options: dict[str, Any]) -> None:
    from statsforecast import StatsForecast, models

    kind = getattr(models, model)(season_length=24, **{k: tuple(v) for k, v in options.items()})
    with quiet():
        wanted = StatsForecast(models=[kind], freq="h", n_jobs=1).forecast(df=long(series()), h=STEPS, level=[80])
    found = forecast(adapter("statsforecast", model=model, params=options), (0.1, 0.9))
    by_hand = wanted.drop(columns=["unique_id", "ds"]).to_numpy()  # the mean, the lower and the upper end
    np.testing.assert_allclose(found.to_numpy(), by_hand, rtol=1e-6)


def test_statsforecast_sees_every_season_where_a_model_takes_several() -> None:
    from statsforecast.models import MSTL

    with quiet():
        wanted = MSTL(season_length=[24, 168]).fit(series().to_numpy()).predict(h=STEPS)["mean"]
    np.testing.assert_allclose(forecast(adapter("statsforecast", model="MSTL"))["mean"], wanted, rtol=1e-6)


def test_mlforecast_gives_what_mlforecast_gives() -> None:
    import lightgbm
    from mlforecast import MLForecast
    from mlforecast.lag_transforms import RollingMean

    params = {"n_estimators": 30, "num_leaves": 7}
    model = lightgbm.LGBMRegressor(**params, verbosity=-1, n_jobs=1, random_state=7)
    lags = [1, 2, 24, 25, 168, 169]
    by_hand = MLForecast(models={"m": model}, freq="h", lags=lags, lag_transforms={1: [RollingMean(24)]})
    with quiet():
        wanted = by_hand.fit(long(series()), static_features=[]).predict(STEPS)["m"]
    found = forecast(adapter("mlforecast", params=params, rolling=["mean_24"], calendar=[]))["mean"]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_skforecast_gives_what_skforecast_gives() -> None:
    from skforecast.recursive import ForecasterRecursive
    from sklearn.linear_model import Ridge

    by_hand = ForecasterRecursive(estimator=Ridge(random_state=7), lags=[1, 2, 24, 25, 168, 169])
    with quiet():
        by_hand.fit(series().tz_localize(None).asfreq("h"))
        wanted = by_hand.predict(STEPS)
    found = forecast(adapter("skforecast", regressor="sklearn.linear_model.Ridge", calendar=[]))["mean"]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_sktime_gives_what_sktime_gives() -> None:
    from sktime.forecasting.theta import ThetaForecaster

    with quiet():
        wanted = ThetaForecaster(sp=24).fit(series().reset_index(drop=True)).predict(fh=range(1, STEPS + 1))
    found = forecast(adapter("sktime", forecaster="sktime.forecasting.theta.ThetaForecaster", fresh="refit"))["mean"]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_darts_gives_what_darts_gives() -> None:
    from darts import TimeSeries
    from darts.models import LinearRegressionModel

    by_hand = LinearRegressionModel(lags=[-169, -168, -25, -24, -2, -1])
    wanted = by_hand.fit(TimeSeries.from_values(series().to_numpy())).predict(STEPS).values().ravel()
    np.testing.assert_allclose(forecast(adapter("darts"))["mean"], wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sktime", {"forecaster": "sktime.forecasting.theta.ThetaForecaster"}),
        ("sktime", {"forecaster": "sktime.forecasting.trend.STLForecaster"}),
        ("darts", {"model": "FourTheta"}),
        ("darts", {"model": "ARIMA", "params": {"p": 1, "q": 0}}),
    ],
)
def test_what_cannot_come_to_fresh_history_is_refused_when_it_is_fitted(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(FitFailed) as caught:
        adapter(name, **options).fit(series(), None, task())
    assert 'fresh = "refit"' in caught.value.hint
    assert len(forecast(adapter(name, **options, fresh="refit"))) == STEPS


def test_a_direct_strategy_forecasts_as_far_as_it_was_fitted_for() -> None:
    direct = {
        "forecaster": "sktime.forecasting.compose.DirectTabularRegressionForecaster",
        "params": {"estimator": {"path": "sklearn.linear_model.Ridge"}, "window_length": 25},
    }
    fitted = adapter("sktime", **direct).fit(series(), None, task())
    assert len(fitted.predict(series(), None, task())) == STEPS
    with pytest.raises(FitFailed, match=r"24 steps.*cannot forecast 30"):
        fitted.predict(series(), None, task(ahead=30))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sktime", {"forecaster": "subprocess.Popen"}),
        ("sktime", {"params": {"strategy": {"path": "subprocess.Popen"}}}),
        ("mlforecast", {"regressor": "subprocess.Popen"}),
        ("skforecast", {"regressor": "subprocess.Popen"}),
        ("statsforecast", {"model": "ConformalIntervals"}),
        ("statsforecast", {"model": "NoSuchModel"}),
        ("statsforecast", {"model": "AutoETS", "params": {"modle": "ANN"}}),
        ("darts", {"model": "NoSuchModel"}),
        ("darts", {"model": "LinearRegressionModel", "params": {"lags": "many"}}),
    ],
)
def test_only_a_model_of_the_library_is_made(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigInvalid):
        adapter(name, **options).fit(series(), None, task())


def test_darts_with_torch_is_another_installation() -> None:
    with pytest.raises(AdapterMissing) as caught:
        adapter("darts", model="NBEATSModel").fit(series(), None, task())
    assert "torch" in caught.value.hint


def test_a_regressor_that_is_not_there_is_missing_by_name() -> None:
    with pytest.raises(AdapterMissing) as caught:
        adapter("mlforecast", regressor="a_library_that_is_nowhere.Model").fit(series(), None, task())
    assert caught.value.hint == "pip install a_library_that_is_nowhere"
