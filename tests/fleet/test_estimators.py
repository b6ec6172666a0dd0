"""Regressors by their import path: made for the fleet, kept without a pickle, and nothing else is made."""

from __future__ import annotations

import numpy as np
import pytest

from fleet.errors import AdapterMissing, ConfigInvalid, Unsaveable, VersionMismatch
from fleet.estimators import Trained, check_path, kind_of, nested, regressor

RANDOM = np.random.default_rng(2)
X = RANDOM.normal(size=(200, 3))
Y = X @ np.array([1.0, -2.0, 0.5]) + RANDOM.normal(0, 0.1, 200)


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("lightgbm.LGBMRegressor", {"n_estimators": 20, "num_leaves": 7}),
        ("sklearn.linear_model.Ridge", {"alpha": 0.1}),
        ("sklearn.linear_model.Lasso", {"alpha": 0.01}),
    ],
)
def test_a_regressor_comes_back_from_its_bytes(path: str, params: dict[str, object]) -> None:
    trained = Trained(model=regressor(path, params, 7).fit(X, Y))
    again = Trained.from_bytes(trained.save())
    np.testing.assert_array_equal(again.predict(X), trained.predict(X))
    np.testing.assert_array_equal(Trained.from_bytes(again.save()).predict(X), trained.predict(X))


def test_it_has_one_thread_and_the_fleet_s_seed_unless_the_recipe_has_one() -> None:
    for path in ("sklearn.ensemble.RandomForestRegressor", "lightgbm.LGBMRegressor"):
        made = regressor(path, {}, 7)
        assert (made.n_jobs, made.random_state) == (1, 7)
        assert regressor(path, {"random_state": 3}, 7).random_state == 3


def test_what_has_learnt_is_not_taught_again() -> None:
    from sklearn.base import clone

    trained = Trained(model=regressor("sklearn.linear_model.Ridge", {}, 7).fit(X, Y))
    before = trained.predict(X)
    assert clone(trained) is trained
    np.testing.assert_array_equal(trained.fit(X, -Y).predict(X), before)


def test_one_of_another_release_is_fitted_again() -> None:
    blob = Trained(model=regressor("sklearn.linear_model.Ridge", {}, 7).fit(X, Y)).save()
    version = blob.index(b'"version":"') + len(b'"version":"')
    old = blob[:version] + b"0" + blob[version + 1 :]
    with pytest.raises(VersionMismatch, match="fits it again"):
        Trained.from_bytes(old)


def test_what_skops_does_not_know_is_not_kept_in_its_form() -> None:
    forest = regressor("sklearn.ensemble.RandomForestRegressor", {"n_estimators": 2}, 7).fit(X, Y)
    with pytest.raises(Unsaveable, match="Tree"):
        Trained(model=forest).save()


@pytest.mark.parametrize("path", ["subprocess.Popen", "sklearn.base.clone", "fleet.task.Task", "builtins.eval"])
def test_nothing_but_an_estimator_is_made(path: str) -> None:
    with pytest.raises(ConfigInvalid):
        regressor(path, {}, 7)
    with pytest.raises(ConfigInvalid):
        nested({"path": path})
    with pytest.raises(ConfigInvalid):
        nested([["a step", {"path": path}]])


def test_a_table_with_a_path_is_an_estimator_and_a_pair_is_a_step() -> None:
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import Pipeline

    ridge = {"path": "sklearn.linear_model.Ridge", "params": {"alpha": 2.0}}
    steps = nested([["scale", {"path": "sklearn.preprocessing.StandardScaler"}], ["fit", ridge]])
    assert [type(step).__name__ for step in steps] == ["tuple", "tuple"]
    assert Pipeline(steps).fit(X, Y).named_steps["fit"].alpha == 2.0
    deep = nested({"path": "sklearn.ensemble.BaggingRegressor", "params": {"estimator": ridge}})
    assert isinstance(deep.estimator, Ridge)
    assert deep.n_jobs == 1
    assert nested({"order": [1, 0, 1], "name": ["a", "b"]}) == {"order": [1, 0, 1], "name": ["a", "b"]}


def test_a_path_is_checked_before_anything_is_imported() -> None:
    for path in ("Ridge", "sklearn.", "a b.c d", ""):
        with pytest.raises(ConfigInvalid, match="import path"):
            check_path(path, "regressor", {})
    with pytest.raises(ConfigInvalid, match="one thread"):
        check_path("sklearn.linear_model.Ridge", "regressor", {"n_jobs": 4})


def test_a_path_that_leads_nowhere_says_what_to_type() -> None:
    with pytest.raises(AdapterMissing) as caught:
        kind_of("a_library_that_is_nowhere.Model")
    assert caught.value.hint == "pip install a_library_that_is_nowhere"
    with pytest.raises(AdapterMissing) as caught:
        kind_of("sklearn.linear_model.Rigde")
    assert "spelt" in caught.value.hint
    with pytest.raises(ConfigInvalid, match="alhpa"):
        regressor("sklearn.linear_model.Ridge", {"alhpa": 1.0}, 7)
