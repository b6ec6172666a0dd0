"""The LightGBM adapter against the bare library, and what it does where the library would guess."""

from __future__ import annotations

import json
import sys
import zlib
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest

from fleet import calendar, features
from fleet.adapters.lightgbm import LightGBM, text_of
from fleet.errors import AdapterMissing, ConfigInvalid, CovariateMissing, FleetError, TooShort
from fleet.task import Task

SMALL = {"num_leaves": 7, "min_data_in_leaf": 5}


def series(days: int = 20, tz: str = "UTC", start: str = "2024-03-10") -> pd.Series:
    local = pd.date_range(start, periods=days * 24, freq="h", tz=tz)
    random = np.random.default_rng(2)
    values = (
        50 + 10 * np.sin(2 * np.pi * local.hour / 24) - 5 * (local.day_of_week > 4) + random.normal(0, 0.5, len(local))
    )
    return pd.Series(values.to_numpy(), index=local.tz_convert("UTC").as_unit("us"))


def task_after(y: pd.Series, steps: int = 24, gap: int = 0, **more: Any) -> Task:
    first = y.index[-1] + pd.Timedelta(hours=1 + gap)
    target = pd.date_range(first, periods=steps, freq="h", unit="us")
    return Task(target=target, freq="1h", seasons=(24,), **more)


def covariates(y: pd.Series, steps: int = 24) -> pd.DataFrame:
    index = y.index.append(task_after(y, steps).target)
    random = np.random.default_rng(4)
    return pd.DataFrame({"temp": random.normal(size=len(index)), "wind": random.normal(size=len(index))}, index=index)


def test_the_numbers_are_the_library_s() -> None:
    y = series()
    X = covariates(y)
    task = task_after(y, quantiles=(0.1, 0.9), seed=3)
    model = LightGBM(lags=(24, 48), rolling=("mean_24",), calendar=("hour",), rounds=20, params=SMALL)
    ours = model.fit(y, X, task).predict(y, X, task)

    wanted = features.Features(lags=(24, 48), rolling=("mean_24",), calendar=("hour",))
    asked = {"farthest": 24, "freq": "1h", "tz": "UTC"}
    table, rows = (
        np.column_stack([*features.design(y, X, calendar.micros(at), wanted, **asked).values()])
        for at in (y.index[48:], task.target)
    )
    common = {"learning_rate": 0.1, "num_threads": 1, "deterministic": True, "force_row_wise": True, "verbosity": -1}
    for column, objective in {
        "mean": {"objective": "regression"},
        "q10": {"objective": "quantile", "alpha": 0.1},
        "q90": {"objective": "quantile", "alpha": 0.9},
    }.items():
        data = lightgbm.Dataset(table, label=y.to_numpy()[48:])
        bare = lightgbm.train({**common, **SMALL, **objective, "seed": 3}, data, num_boost_round=20)
        np.testing.assert_array_equal(ours[column], bare.predict(rows))


FORMS = {
    "plain": {},
    "linear leaves": {"linear_tree": True},
    "dropped trees": {"boosting": "dart"},
    "averaged": {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.7},
    "a link": {"objective": "poisson"},
}


@pytest.mark.parametrize("form", FORMS)
def test_what_is_left_out_of_the_text_changes_no_forecast_and_no_importance(form: str) -> None:
    y = series()
    task = task_after(y)
    model = LightGBM(rounds=12, params={**SMALL, **FORMS[form]}).fit(y, None, task)
    rows = model.columns.asked(y, None, task)
    trained = model.models["mean"]
    assert isinstance(trained, lightgbm.Booster)
    text = text_of(trained)
    assert len(text) < 0.9 * len(trained.model_to_string())
    kept = lightgbm.Booster(model_str=text)
    np.testing.assert_array_equal(kept.predict(rows), trained.predict(rows))
    for kind in ("split", "gain"):
        np.testing.assert_allclose(kept.feature_importance(kind), trained.feature_importance(kind), rtol=1e-4)


def test_a_model_of_the_first_format_forecasts_as_it_did() -> None:
    y = series()
    task = task_after(y, quantiles=(0.5,))
    model = LightGBM(rounds=12, params=SMALL).fit(y, None, task)
    texts = {name: trained.model_to_string() for name, trained in model.models.items()}
    kept = {"format": 1, "columns": model.columns.as_json(), "models": texts}
    old = LightGBM().load(zlib.compress(json.dumps(kept).encode()))
    pd.testing.assert_frame_equal(old.predict(y, None, task), model.predict(y, None, task), check_exact=True)
    assert LightGBM().load(old.save()).columns == model.columns
    with pytest.raises(FleetError, match="format 7"):
        LightGBM().load(zlib.compress(json.dumps({**kept, "format": 7}).encode()))


def test_a_lag_without_a_reading_is_read_a_day_further_back() -> None:
    y = series()
    task = task_after(y)
    model = LightGBM(lags=(24,), rolling=(), calendar=(), rounds=20, params=SMALL).fit(y, None, task)
    for gap in (0, 2, 24, 48):
        known = y[: len(y) - gap]
        mean = model.predict(known, None, task)["mean"]
        for place, time in enumerate(task.target):
            at = time
            while at > known.index[-1]:
                at -= pd.Timedelta("24h")
            copied = y.copy()
            copied.iloc[-24 + place] = known[at]
            assert mean.iloc[place] == model.predict(copied, None, task)["mean"].iloc[place]


def test_the_day_of_the_change_is_forecast_from_the_same_local_hours() -> None:
    y = series(days=21, tz="Europe/Paris")
    task = Task(target=task_after(y, 23).target, freq="1h", tz="Europe/Paris", seasons=(24,))
    assert str(task.target[0].tz_convert("Europe/Paris").date()) == "2024-03-31"
    mean = LightGBM(rounds=30, params=SMALL).fit(y, None, task).predict(y, None, task)["mean"]
    truth = 45 + 10 * np.sin(2 * np.pi * task.target.tz_convert("Europe/Paris").hour / 24)
    assert np.abs(mean.to_numpy() - truth).max() < 4


def test_an_observed_covariate_is_only_seen_as_far_as_it_is_known() -> None:
    y = series()
    X = covariates(y)
    task = task_after(y)
    X.loc[task.target, "wind"] = np.nan
    model = LightGBM(rounds=5, params=SMALL).fit(y, X, task)
    assert model.columns.past == ("wind",)
    assert "x_temp" in model.columns.whole
    assert any(name.startswith("x_wind_lag_") for name in model.columns.whole)
    assert "x_wind" not in model.columns.whole
    model.predict(y, X, task)
    X.loc[task.target[5], "temp"] = np.nan
    with pytest.raises(CovariateMissing, match="x_temp is not known for 1 of 24"):
        model.predict(y, X, task)
    with pytest.raises(CovariateMissing, match="temp, wind"):
        model.predict(y, None, task)


def test_only_the_quantiles_it_learnt_are_given() -> None:
    y = series()
    model = LightGBM(rounds=5, params=SMALL).fit(y, None, task_after(y, quantiles=(0.25,)))
    assert list(model.predict(y, None, task_after(y, quantiles=(0.1, 0.25))).columns) == ["mean", "q25"]


def test_a_flat_series_and_a_negative_one_are_forecast() -> None:
    y = series() * 0 - 3
    assert LightGBM(rounds=5).fit(y, None, task_after(y)).predict(y, None, task_after(y))["mean"].to_list() == [-3] * 24


def test_too_short_says_what_is_needed() -> None:
    y = series(days=2)
    with pytest.raises(TooShort, match=r"needs 68 steps of history.* of 48 steps 0 are"):
        LightGBM(rounds=5).fit(y, None, task_after(y))
    long = series()
    model = LightGBM(rounds=5).fit(long, None, task_after(long))
    with pytest.raises(TooShort, match=r"lag_\d+ lacks a reading"):
        model.predict(long[-6:], None, task_after(long))


def test_options_are_checked_at_birth() -> None:
    with pytest.raises(ConfigInvalid, match="num_threads"):
        LightGBM(params={"num_threads": 4})
    with pytest.raises(ConfigInvalid, match="XX"):
        LightGBM(calendar=("hour", "holiday"), country="XX")
    with pytest.raises(ConfigInvalid, match="hours"):
        LightGBM(calendar=("hours",))
    with pytest.raises(ConfigInvalid, match="rounds"):
        LightGBM(rounds=0)


def test_a_library_that_cannot_be_imported_is_named_with_the_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(AdapterMissing) as caught:
        LightGBM().import_library()
    assert caught.value.code == "adapter-missing"
    assert caught.value.hint == "pip install lightgbm"


def test_a_missing_system_library_is_named_with_the_line_to_type(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "raise OSError('libgomp.so.1: cannot open shared object file: No such file or directory')"
    (tmp_path / "lightgbm.py").write_text(line)
    monkeypatch.delitem(sys.modules, "lightgbm")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AdapterMissing, match=r"libgomp\.so\.1") as caught:
        LightGBM().import_library()
    assert "apt-get install libgomp1" in caught.value.hint
