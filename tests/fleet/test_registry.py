"""Names and options to forecasters, and the identity of a recipe."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fleet.adapters.naive import Rule, SeasonalNaive
from fleet.artefacts import CODECS
from fleet.config import RecipeConfig
from fleet.errors import AdapterMissing, ConfigInvalid
from fleet.forecaster import Adapter
from fleet.recipes import recipe_of
from fleet.registry import ADAPTERS, build, library_of, library_version, recipe_hash
from fleet.task import Task
from tests.contracts.adapter_recipes import EVERY, EXTRA


@pytest.mark.parametrize(
    ("adapter", "options", "message"),
    [
        ("seasnal_naive", {}, 'unknown adapter; did you mean "seasonal_naive"? accepted: darts, lightgbm, mean'),
        ("seasonal_naive", {"saeson": 24}, 'saeson: unknown option; did you mean "season"? accepted: season'),
        ("naive", {"season": 24}, "season: unknown option; accepted: none"),
        ("seasonal_naive", {"season": "24"}, "season: Input should be a valid integer, got '24'"),
        ("seasonal_naive", {"season": True}, "got True"),
        ("seasonal_naive", {"season": 0}, "season is a number of steps from 1 up, got 0"),
        ("lightgbm", {"lags": [24, "x"]}, "lags[1]: Input should be a valid integer"),
        ("statsmodels", {}, "model: Field required"),
        ("statsmodels", {"model": "prophet"}, "model: Input should be 'holt_winters', 'ets'"),
        ("statsmodels", {"model": "ets", "params": {"x": 1}}, "params.x: unknown to ets"),
    ],
)
def test_what_is_wrong_is_said_with_the_nearest_right(adapter: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        build(adapter, options)
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_a_list_of_toml_is_a_tuple_and_forecasters_travel_between_processes() -> None:
    for adapter, options in {"lightgbm": {"lags": [24, 48]}, "statsmodels": {"model": "ets"}, "naive": {}}.items():
        made = build(adapter, options)
        assert isinstance(made, Adapter)
        assert pickle.loads(pickle.dumps(made)) == made  # noqa: S301  our own bytes
    assert build("lightgbm", {"lags": [24, 48]}).lags == (24, 48)


def test_a_hash_is_of_what_the_options_mean_and_of_the_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = recipe_hash("seasonal_naive", {})
    assert plain == recipe_hash("seasonal_naive", {"season": None})
    assert plain != recipe_hash("seasonal_naive", {"season": 24})
    assert len(plain) == 16
    assert recipe_hash("lightgbm", {"lags": [24]}) == recipe_hash("lightgbm", {"lags": (24,)})
    monkeypatch.setattr(SeasonalNaive, "revision", Rule.revision + 1)
    assert recipe_hash("seasonal_naive", {}) != plain


def test_a_plain_function_and_a_class_are_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
def flat(y, X, task, level=1.0):
    return [level] * task.horizon

class Half:
    def __init__(self, factor=0.5):
        self.factor = factor
    def fit(self, y, X, task):
        return self
    def predict(self, y, X, task):
        return task.frame(y.to_numpy()[-task.horizon:] * self.factor)

class Nothing:
    pass
"""
    (tmp_path / "my_models.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    index = pd.date_range("2024-01-01", periods=4, freq="h", tz="UTC")
    y, task = pd.Series(np.arange(3.0), index=index[:3]), Task(target=index[3:], freq="1h")
    flat = build("my_models:flat", {"level": 7.0})
    assert isinstance(flat, Adapter)
    assert flat.fit(y, None, task).predict(y, None, task)["mean"].to_list() == [7]
    assert build("my_models:Half", {}).fit(y, None, task).predict(y, None, task)["mean"].to_list() == [1]
    for adapter, options in {"my_models:flat": {"levl": 1}, "my_models:Half": {"fctor": 2}}.items():
        with pytest.raises(ConfigInvalid, match="unknown option; did you mean"):
            build(adapter, options)
    with pytest.raises(ConfigInvalid, match="no method fit"):
        build("my_models:Nothing", {})
    with pytest.raises(ConfigInvalid, match="has no attribute 'flt'"):
        build("my_models:flt", {})
    with pytest.raises(AdapterMissing, match="my_modls"):
        build("my_modls:flat", {})
    before = recipe_hash("my_models:flat", {})
    (tmp_path / "my_models.py").write_text(code + "\n# another line\n")
    assert recipe_hash("my_models:flat", {}) != before
    assert library_version(flat) == ""


def test_versions_are_those_of_the_libraries() -> None:
    assert library_version(build("lightgbm", {})).split(".")[0].isdecimal()
    assert library_version(build("statsmodels", {"model": "ets"})).startswith("0.")


def test_any_regressor_counts_with_the_distribution_it_is_from() -> None:
    for estimator, library in (
        ("sklearn.linear_model.Ridge", "scikit-learn"),
        ("lightgbm.LGBMRegressor", "lightgbm"),
        ("a_library_that_is_nowhere.Regressor", "scikit-learn"),
    ):
        made = build("sklearn", {"estimator": estimator})
        assert library_of(made) == library
        assert library_version(made) == version(library)


def test_every_adapter_is_kept_in_a_form_that_is_known() -> None:
    for recipe in EVERY.values():
        made = build(recipe.adapter, recipe.options)
        assert isinstance(made, Adapter)
        assert not CODECS[made.codec].code


def test_an_adapter_between_functions_of_a_user_is_what_it_was(tmp_path: Path) -> None:
    (tmp_path / "rules.py").write_text("def clean(y, X, task):\n    return y, X\n")
    for adapter, options in {
        "lightgbm": {"calendar": ["holiday"], "country": "FR"},
        "seasonal_naive": {"season": 24},
        "statsmodels": {"model": "ets"},
    }.items():
        asked = RecipeConfig(name="mine", adapter=adapter, options=options)
        plain, between = recipe_of(asked, tmp_path), recipe_of(replace(asked, before="rules:clean"), tmp_path)
        for name in ("library", "library_version", "learns", "sees_any", "adapter"):
            assert getattr(between, name) == getattr(plain, name)
        for name in ("codec", "uses_covariates", "calendar"):
            assert getattr(between.forecaster, name, ()) == getattr(plain.forecaster, name, ())
        assert isinstance(between.forecaster, Adapter)
        assert not between.light, "what a user wrote can hang"
        assert pickle.loads(pickle.dumps(between)) == between  # noqa: S301  our own bytes


def test_adapters_are_built_without_their_libraries() -> None:
    recipes = [(recipe.adapter, recipe.options) for recipe in EVERY.values()]
    libraries = ["statsmodels", "lightgbm", "scipy", "sklearn", *{recipe.adapter for recipe in EXTRA.values()}]
    code = (
        "import sys; from fleet.registry import recipe_hash\n"
        f"for adapter, options in {recipes!r}: recipe_hash(adapter, options)\n"
        f"heavy = [m for m in {libraries!r} if m in sys.modules]\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(ADAPTERS) >= {"naive", "seasonal_naive", "mean", "statsmodels", "lightgbm"}


def test_a_module_that_does_not_read_is_told_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "crooked.py").write_text("def model(:\n    pass\n")
    (tmp_path / "hungry.py").write_text("import a_library_that_is_nowhere\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigInvalid, match=r"in line 1 of .*crooked\.py"):
        build("crooked:model", {})
    with pytest.raises(AdapterMissing) as caught:
        build("hungry:model", {})
    assert caught.value.hint == "pip install a_library_that_is_nowhere"
