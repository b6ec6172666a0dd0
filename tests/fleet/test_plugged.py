"""Adapters of other distributions: found by their entry points, held to the same rules, never in the way of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fleet.config import parse
from fleet.config.candidates import RecipeConfig
from fleet.errors import AdapterMissing, ConfigInvalid, ModelBroken
from fleet.forecaster import Adapter
from fleet.own import Own, kept, restored
from fleet.recipes import Gone, recipe_of
from fleet.registry import adapter_of, build, library_version, recipe_hash
from fleet.task import Task

MODULE = '''
from dataclasses import dataclass
from typing import ClassVar

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Level:
    """The mean of the newest steps, times a factor."""

    factor: float = 1.0
    library: ClassVar[str] = "level-models"
    codec: ClassVar[str] = "level-bytes"
    revision: ClassVar[int] = 1
    light: ClassVar[bool] = False

    @property
    def uses_covariates(self):
        return False

    def fit(self, y, X, task):
        return Fitted(float(np.nanmean(y)) * self.factor)

    def load(self, blob):
        return Fitted(float(blob))

    def import_library(self):
        return None


class Fitted:
    def __init__(self, level):
        self.level = level

    def predict(self, y, X, task):
        return task.frame(np.full(task.horizon, self.level))

    def save(self):
        return repr(self.level).encode()


class Bare:
    """No adapter."""
'''


def install(folder: Path, distribution: str, offers: dict[str, str], modules: dict[str, str]) -> Path:
    """A distribution as pip would lay it out."""
    folder.mkdir(exist_ok=True)
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    info = folder / f"{distribution.replace('-', '_')}-1.2.3.dist-info"
    info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2.3\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    lines = "\n".join(f"{name} = {place}" for name, place in offers.items())
    (info / "entry_points.txt").write_text(f"[tsfleet.adapters]\n{lines}\n", encoding="utf-8")
    return folder


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    offers = {"level": "level_models:Level", "naive": "level_models:Level", "bare": "level_models:Bare"}
    offers |= {"gone": "level_gone:Level", "absent": "level_models:Absent"}
    modules = {"level_models": MODULE, "level_gone": "import a_library_that_is_nowhere\n"}
    folder = install(tmp_path / "site", "level-models", offers, modules)
    monkeypatch.syspath_prepend(str(folder))
    for name in modules:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return folder


def question() -> tuple[pd.Series, None, Task]:
    times = pd.date_range("2024-01-01", periods=30, freq="h", tz="UTC", unit="us")
    return pd.Series(np.arange(24.0), index=times[:24]), None, Task(target=times[24:], freq="1h")


def test_an_installed_distribution_brings_its_adapter(site: Path) -> None:
    made = build("level", {"factor": 2.0})
    assert isinstance(made, Adapter)
    assert not isinstance(made, Own), "it is installed, as ours are: its text need not be kept"
    fitted = made.fit(*question())
    again = restored(made, kept(made, fitted, question()[0]).codec, kept(made, fitted, question()[0]).payload)
    assert again.predict(*question())["mean"].to_list() == [23.0] * 6
    assert library_version(made) == "1.2.3"
    assert adapter_of(made) == "level"


def test_its_options_and_its_revision_are_in_the_hash(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = recipe_hash("level", {})
    assert plain == recipe_hash("level", {"factor": 1.0})
    assert plain != recipe_hash("level", {"factor": 2.0})
    monkeypatch.setattr(sys.modules["level_models"].Level, "revision", 2)
    assert recipe_hash("level", {}) != plain


def test_its_options_are_checked_and_its_name_is_known(site: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r'did you mean "factor"'):
        build("level", {"facter": 2.0})
    with pytest.raises(ConfigInvalid, match=r'did you mean "level"'):
        build("levl", {})


def test_an_adapter_of_ours_is_not_replaced(site: Path) -> None:
    assert type(build("naive", {})).__module__ == "fleet.adapters.naive"


def test_what_is_no_adapter_or_does_not_load_costs_its_own_recipe_only(site: Path) -> None:
    with pytest.raises(ModelBroken, match="lacks library, codec"):
        build("bare", {})
    with pytest.raises(ConfigInvalid, match="no attribute 'Absent'"):
        build("absent", {})
    with pytest.raises(AdapterMissing) as caught:
        build("gone", {})
    assert caught.value.hint == "pip install a_library_that_is_nowhere"
    text = (
        '[fleet]\nname = "x"\nstore = "x.store"\nfreq = "1h"\nhorizon = 6\n[data]\npath = "x.parquet"\n'
        '[recipes.one]\nadapter = "gone"\n[recipes.two]\nadapter = "bare"\n[recipes.three]\nadapter = "level"\n'
    )
    found = parse(text, site / "fleet.toml")
    made = {name: recipe_of(found.recipe(name)).forecaster for name in ("one", "two", "three")}
    assert [isinstance(forecaster, Gone) for forecaster in made.values()] == [True, True, False]
    assert isinstance(recipe_of(RecipeConfig(name="one", adapter="gone", options={})).forecaster, Gone)


def test_a_name_that_two_distributions_offer_is_of_neither(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = install(site.parent / "other", "rival-models", {"level": "rival:Level"}, {"rival": MODULE})
    monkeypatch.syspath_prepend(str(other))
    with pytest.raises(ConfigInvalid, match=r"(level-models and rival|rival-models and level)-models both offer"):
        build("level", {})


def test_the_doctor_lists_it(site: Path, tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(site)])}
    command = [sys.executable, "-m", "jobs.cli", "doctor", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    rows = {row["what"]: row for row in json.loads(done.stdout)}
    assert rows["adapter level of level-models"]["found"] == "level-models 1.2.3"
    assert not rows["adapter gone of level-models"]["ok"]
    assert "ours" in rows["adapter naive of level-models"]["found"]
