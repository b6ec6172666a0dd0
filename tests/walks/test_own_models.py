"""Models of the user's own, from the fit to the forecast: kept with their code, opened only by who may."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fleet import Fleet
from fleet.adapters.naive import SeasonalNaive
from fleet.artefacts import Header, read, sealed
from fleet.config import RecipeConfig
from fleet.errors import BadOutput, ConfigInvalid, Unsaveable
from fleet.keys import Keyring
from fleet.outcome import Report
from fleet.recipes import recipe_of
from fleet.task import Task
from store.clock import FixedClock
from store.ids import new_id
from tests.walks.small import BEGIN, copy_of, fleet_in

LEVELS = {"a": 10.0, "b": 20.0}
DAYS = 12

CONFIG = """
[fleet]
horizon = 24
seasons = [24]
trust_pickles = TRUST

[recipes.day]
adapter = "seasonal_naive"
season = 24

[recipes.mine]
adapter = "MODELS:Mine"
STEPS

[train]
workers = 1
fallback = ["day"]

[backtest]
origins = 2

[promotion]
min_points = 1
margin = 0.0
"""

# Learns the level; it has no form of its own. What it forecasts is FACTOR times what it learnt.
MINE = """
import numpy as np


class Mine:
    def fit(self, y, X, task):
        return Learnt(float(y.mean()))


class Learnt:
    def __init__(self, level):
        self.level = level

    def predict(self, y, X, task):
        return task.frame(np.full(task.horizon, FACTOR * self.level))
"""


def flat() -> pd.DataFrame:
    """Two assets that never change, so that every number can be told in advance."""
    times = pd.date_range(BEGIN, periods=24 * DAYS, freq="h", unit="us")
    return pd.concat([pd.DataFrame({"unique_id": name, "ds": times, "y": y}) for name, y in LEVELS.items()])


def made(folder: Path, models: str = MINE, *, factor: float = 2, trust: bool = True, steps: str = "") -> Fleet:
    config = CONFIG.replace("TRUST", str(trust).lower()).replace("STEPS", steps)
    return fleet_in(folder, config, models.replace("FACTOR", f"{factor:g}"))


def again(fleet: Fleet, *, trust: bool) -> Fleet:
    """The same fleet as another process opens it."""
    return Fleet.open(fleet.config.file, clock=fleet.clock, trust_pickles=trust)


def later(fleet: Fleet) -> None:
    assert isinstance(fleet.clock, FixedClock)
    fleet.clock.advance(hours=1)


def in_charge(fleet: Fleet, recipe: str = "mine") -> Fleet:
    """Fit one recipe on every asset and put it in charge."""
    fleet.ingest(flat())
    report = fleet.train(recipes=[recipe], judge=False)
    assert report.clean, report.failures
    assert fleet.promote(recipe).ok == len(LEVELS)
    return fleet


@pytest.fixture(scope="module")
def charged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fleet in which `mine` is in charge of every asset."""
    with in_charge(made(tmp_path_factory.mktemp("own") / "fleet")) as fleet:
        return fleet.config.folder


def issued(fleet: Fleet) -> dict[str, tuple[str, float]]:
    """Forecast anew; by asset the recipe that issued it and the one value of its steps."""
    later(fleet)
    fleet.forecast(reissue=True)
    rows = fleet.store.sql(
        "select asset_id, recipe, min(mean) as low, max(mean) as high from (select * from forecasts"
        " where role in ('champion', 'fallback') qualify created_at = max(created_at) over (partition by asset_id))"
        " group by all"
    ).rows()
    assert all(row["low"] == row["high"] for row in rows)
    return {row["asset_id"]: (row["recipe"], row["low"]) for row in rows}


def report_of(fleet: Fleet) -> Report:
    later(fleet)
    return fleet.forecast(reissue=True)


def codes(fleet: Fleet) -> dict[str, tuple[str, str | None, str | None]]:
    """By asset (status, error_code, cause) in the last forecast."""
    rows = fleet.store.sql(
        "select asset_id, status, error_code, cause from outcomes where job = 'py:forecast'"
        " qualify slot = max(slot) over ()"
    ).rows()
    return {row["asset_id"]: (row["status"], row["error_code"], row["cause"]) for row in rows}


def versions(fleet: Fleet, recipe: str = "mine") -> list[dict[str, Any]]:
    return fleet.store.sql(
        "select v.*, r.tags, r.params from versions v join runs r using (run_id) where v.recipe = $recipe"
        " order by v.asset_id, v.version_id",
        {"recipe": recipe},
    ).rows()


def module_of(fleet: Fleet) -> Path:
    return next(fleet.config.folder.glob("models_*.py"))


CHAMPION = {name: ("mine", 2 * level) for name, level in LEVELS.items()}
STOOD_IN = {name: ("day", level) for name, level in LEVELS.items()}
UNTRUSTED = dict.fromkeys(LEVELS, ("fell_back", "untrusted", "exception"))

# -- pickles -------------------------------------------------------------------------------------------------------


def test_a_model_without_a_form_of_its_own_is_kept_as_a_signed_pickle(charged: Path, tmp_path: Path) -> None:
    with copy_of(charged, tmp_path / "fleet") as fleet:
        assert issued(fleet) == CHAMPION
        for version in versions(fleet):
            blob = fleet.store.blob(version["sha256"])
            header, _ = read(blob)
            assert header is not None
            assert (version["codec"], version["trusted"], version["bytes"]) == ("cloudpickle", False, len(blob))
            assert (header.codec, header.recipe_hash) == ("cloudpickle", version["recipe_hash"])
            assert len(header.mac) == 64
        key = Path(os.environ["XDG_CONFIG_HOME"], "tsfleet", "key").read_bytes()
        everything = repr(fleet) + repr(fleet.keyring) + repr(versions(fleet)) + repr(fleet.config)
        assert key.hex() not in everything
        assert repr(key) not in everything


def test_where_pickles_are_not_trusted_the_fallback_stands_in_and_says_why(charged: Path, tmp_path: Path) -> None:
    with copy_of(charged, tmp_path / "fleet") as whole, again(whole, trust=False) as fleet:
        assert issued(fleet) == STOOD_IN
        assert codes(fleet) == UNTRUSTED
        (group,) = report_of(fleet).failures
        assert (group.cause, group.count) == ("exception", 2)
        assert group.error == "the model is kept as a pickle, which runs only where [fleet] trust_pickles = true"
        with again(fleet, trust=True) as trusting:
            assert issued(trusting) == CHAMPION


def test_a_pickle_that_nobody_may_open_is_refused_before_it_is_judged_or_fitted(tmp_path: Path) -> None:
    """Else it would win, be promoted, and fall back for ever."""
    with made(tmp_path / "fleet", trust=False) as fleet:
        fleet.ingest(flat())
        judged = fleet.backtest(recipes=["mine"])
        fitted = fleet.train(recipes=["mine"], judge=False)
        assert (judged.failed, fitted.failed) == (len(LEVELS), len(LEVELS))
        for report in (judged, fitted):
            (group,) = report.failures
            assert group.count == len(LEVELS)
            assert "[fleet] trust_pickles = true" in group.error
        assert fleet.train(promote=True).failed == 0
        assert {row["recipe"] for row in fleet.store.sql("select recipe from champions").rows()} == {"day"}


@pytest.mark.parametrize(
    "text", ["def Mine(:", "1 / 0", "import sys; sys.exit(3)", "print('hello'); import nowhere_to_be_found"]
)
def test_a_module_that_does_not_run_costs_its_own_recipe(
    text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with made(tmp_path / "fleet", text) as fleet:
        fleet.ingest(flat())
        report = fleet.train(promote=True)
        assert (report.ok, report.failed) == (len(LEVELS), 0)
        assert [(group.recipe, group.count) for group in report.failures] == [("mine", len(LEVELS))]
        assert {row["recipe"] for row in fleet.store.sql("select recipe from champions").rows()} == {"day"}
    assert "hello" not in capfd.readouterr().out


def test_where_there_is_no_place_for_a_key_a_pickle_is_refused_and_the_place_is_named(tmp_path: Path) -> None:
    with made(tmp_path / "fleet") as fleet:
        fleet.ingest(flat())
        keyless = Fleet(fleet.config, fleet.store, fleet.clock, keyring=Keyring(None))
        (group,) = keyless.train(recipes=["mine"], judge=False).failures
        assert "TSFLEET_KEY_FILE" in group.error


def test_a_pickle_signed_with_another_key_is_not_opened_and_fitted_again(charged: Path, tmp_path: Path) -> None:
    with copy_of(charged, tmp_path / "fleet") as fleet:
        theirs = Fleet(fleet.config, fleet.store, fleet.clock, keyring=Keyring(tmp_path / "theirs"))
        assert issued(theirs) == STOOD_IN
        assert codes(theirs) == UNTRUSTED
        (group,) = report_of(theirs).failures
        assert group.error == (
            "the model is kept as a pickle, signed with another key than yours; `tsfleet train` fits it again"
        )
        assert theirs.train(recipes=["mine"], judge=False).ok == len(LEVELS)
        later(theirs)
        assert theirs.train(recipes=["mine"], judge=False).skipped == len(LEVELS)
        theirs.promote("mine")
        assert issued(theirs) == CHAMPION


def test_a_pickle_in_which_one_bit_changed_is_damaged(charged: Path, tmp_path: Path) -> None:
    with copy_of(charged, tmp_path / "fleet") as fleet:
        changed = versions(fleet)[0]
        blob = fleet.store.blob(changed["sha256"])
        (pack,) = (path for path in (fleet.store.path / "packs").iterdir() if blob in path.read_bytes())
        data = bytearray(pack.read_bytes())
        data[data.index(blob) + len(blob) // 2] ^= 4
        pack.write_bytes(data)
        assert issued(fleet) == CHAMPION | {"a": STOOD_IN["a"]}
        assert codes(fleet) == {"a": ("fell_back", "damaged", "exception"), "b": ("ok", None, None)}


def put(fleet: Fleet, version: Mapping[str, Any], blob: bytes) -> None:
    """A version more, with this blob, in charge of its asset."""
    transaction = fleet.store.begin()
    (sha256,) = transaction.put_blobs([blob])
    names = ("asset_id", "product", "recipe", "recipe_hash", "run_id", "codec", "trusted")
    row = {name: version[name] for name in names} | {
        "version_id": new_id(), "sha256": sha256, "bytes": len(blob), "created_at": fleet.clock.now()
    }  # fmt: skip
    transaction.insert("versions", [row])
    transaction.commit()
    fleet.promote("mine", select=[version["asset_id"]])


def rewritten(blob: bytes, fleet: Fleet, change: Callable[[Header], Header]) -> bytes:
    """The blob with another header, signed anew with the user's own key where it was signed."""
    header, payload = read(blob)
    assert header is not None
    return sealed(change(replace(header, mac="")), payload, fleet.keyring.sign if header.mac else None)


def test_a_pickle_of_another_python_is_refused_with_both_versions(charged: Path, tmp_path: Path) -> None:
    with copy_of(charged, tmp_path / "fleet") as fleet:
        version = versions(fleet)[0]
        blob = rewritten(fleet.store.blob(version["sha256"]), fleet, lambda header: replace(header, python="3.10"))
        put(fleet, version, blob)
        assert issued(fleet) == CHAMPION | {"a": STOOD_IN["a"]}
        assert codes(fleet)["a"] == ("fell_back", "version-mismatch", "exception")
        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        assert report_of(fleet).failures[0].error == (
            f"the model was pickled by Python 3.10, and this is Python {here}; `tsfleet train` fits it again"
        )


@pytest.mark.parametrize(
    ("held", "said"),
    [("__import__('threading').Lock()", "cannot be pickled"), ("[y.to_numpy()[20:]]", "holds its training data")],
)
def test_a_model_that_cannot_be_kept_is_refused_before_it_is_judged(held: str, said: str, tmp_path: Path) -> None:
    models = MINE.replace("Learnt(float(y.mean()))", f"Learnt((y.mean(), {held}))")
    with made(tmp_path / "fleet", models.replace("* self.level", "* self.level[0]")) as fleet:
        rhythm = flat()
        rhythm["y"] += rhythm["ds"].dt.hour * 0.1
        fleet.ingest(rhythm)
        (group,) = fleet.backtest(recipes=["mine"]).failures
        assert (group.cause, group.count) == ("unpicklable", 2)
        assert said in group.error


def test_cleaned_training_data_are_training_data_too(tmp_path: Path) -> None:
    models = MINE.replace("Learnt(float(y.mean()))", "Learnt((y.mean(), y))").replace("* self.level", "* self.level[0]")
    code = models + "def step(y, X, task): return y * 1.5 + y.index.hour, X"
    with made(tmp_path / "fleet", code, steps='before = "MODELS:step"') as fleet:
        fleet.ingest(flat())
        (group,) = fleet.backtest(recipes=["mine"]).failures
        assert "holds its training data" in group.error


# -- code ----------------------------------------------------------------------------------------------------------


def test_a_version_runs_with_the_code_it_was_judged_with(charged: Path, tmp_path: Path) -> None:
    with copy_of(charged, tmp_path / "fleet") as fleet:
        module = module_of(fleet)
        module.write_text(MINE.replace("FACTOR", "3"))
        assert issued(fleet) == CHAMPION, "the code from then"
        with again(fleet, trust=False) as doubting:
            assert issued(doubting) == STOOD_IN
            assert codes(doubting) == UNTRUSTED
            (group,) = report_of(doubting).failures
            assert group.error == (
                f"{module.name} changed since this version was trained; the code from then is in the store, "
                "which runs only where [fleet] trust_pickles = true"
            )
        module.unlink()
        assert issued(fleet) == CHAMPION
        later(fleet)
        assert fleet.forecast(reissue=True, workers=2).ok == len(LEVELS), "in other processes too"
        module.write_text(MINE.replace("FACTOR", "3"))
        later(fleet)
        assert fleet.train(recipes=["mine"], judge=False).ok == len(LEVELS)
        fleet.promote("mine")
        assert issued(fleet) == {name: ("mine", 3 * level) for name, level in LEVELS.items()}


FORMED = MINE.replace(
    "    def fit(self, y, X, task):",
    """    def load(self, blob):
        return Learnt(float(blob))

    def fit(self, y, X, task):""",
).replace("    def predict(", "    def save(self):\n        return str(self.level).encode()\n\n    def predict(")


def test_a_model_with_a_form_of_its_own_needs_no_trust_while_its_code_is_the_same(tmp_path: Path) -> None:
    with in_charge(made(tmp_path / "fleet", FORMED, trust=False)) as fleet:
        assert issued(fleet) == CHAMPION
        assert {(version["codec"], version["trusted"]) for version in versions(fleet)} == {("own", True)}
        module = module_of(fleet)
        module.write_text(module.read_text() + "\n# a comment is no other program\n")
        assert issued(fleet) == CHAMPION
        module.write_text(module.read_text().replace("2 * self", "3 * self"))
        assert issued(fleet) == STOOD_IN
        assert codes(fleet) == UNTRUSTED
        with again(fleet, trust=True) as trusting:
            assert issued(trusting) == CHAMPION
            theirs = Fleet(trusting.config, trusting.store, trusting.clock, keyring=Keyring(tmp_path / "theirs"))
            assert issued(theirs) == STOOD_IN, "the code is not signed by who would run it"


def test_a_helper_that_changes_makes_another_recipe(tmp_path: Path) -> None:
    helped = "from helper import FACTOR as factor\n" + FORMED.replace("FACTOR * self", "factor * self")
    folder = tmp_path / "fleet"
    folder.mkdir()
    (folder / "helper.py").write_text("FACTOR = 2\n")
    with in_charge(fleet_in(folder, CONFIG.replace("TRUST", "true").replace("STEPS", ""), helped)) as fleet:
        (folder / "helper.py").write_text("FACTOR = 5\n")
        assert issued(fleet) == CHAMPION
        later(fleet)
        assert fleet.train(recipes=["mine"], judge=False).ok == len(LEVELS)
        fleet.promote("mine")
        assert issued(fleet) == {name: ("mine", 5 * level) for name, level in LEVELS.items()}
        assert len({version["recipe_hash"] for version in versions(fleet)}) == 2


def test_the_code_of_a_recipe_is_stored_once_and_signed_with_its_first_versions(tmp_path: Path) -> None:
    with in_charge(made(tmp_path / "fleet", FORMED)) as fleet:
        later(fleet)
        fleet.train(recipes=["mine"], judge=False, force=True)
        (sha256,) = {json.loads(version["tags"])["code"] for version in versions(fleet)}
        header, payload = read(fleet.store.blob(sha256))
        assert header is not None
        assert (header.codec, len(header.mac)) == ("source", 64)
        assert header.recipe_hash == versions(fleet)[0]["recipe_hash"]
        module = module_of(fleet)
        assert json.loads(payload)["files"] == {module.name: module.read_text()}
        packs = [path.read_bytes() for path in (fleet.store.path / "packs").iterdir()]
        assert sum(pack.count(payload) for pack in packs) == 1
        assert len(packs) == 1, "models that are equal are stored once, in one pack with their code"


def test_a_library_of_another_release_is_refused_with_both_versions(tmp_path: Path) -> None:
    """A native form of a newer release; the asset falls back, and training fits it again."""
    config = CONFIG.replace("TRUST", "false").replace('"MODELS:Mine"\nSTEPS', '"sklearn"\nlags = [24]\ncalendar = []')
    with in_charge(fleet_in(tmp_path / "fleet", config)) as fleet:
        version = versions(fleet)[0]
        assert (version["codec"], version["trusted"]) == ("skops", True)
        blob = fleet.store.blob(version["sha256"])
        put(fleet, version, rewritten(blob, fleet, lambda header: replace(header, library_version="1.2.1")))
        report = report_of(fleet)
        assert (report.ok, report.fell_back) == (1, 1)
        from sklearn import __version__

        assert report.failures[0].error == (
            f"the model was written by scikit-learn 1.2.1, and {__version__} is installed; "
            "`tsfleet train` fits it again"
        )
        assert codes(fleet)["a"] == ("fell_back", "version-mismatch", "exception")


def test_options_that_changed_need_the_signature_of_who_trained(tmp_path: Path) -> None:
    """Today's code runs with the options from then, which come from the store; another key cannot vouch for them."""
    code = (
        FORMED.replace("FACTOR * self", "self")
        .replace("    def load(", "    def __init__(self, lift=0.0):\n        self.lift = lift\n\n    def load(")
        .replace("y.mean()", "y.mean() + self.lift")
    )
    with in_charge(made(tmp_path / "fleet", code, trust=False, steps="lift = 5.0")) as fleet:
        expected = {name: ("mine", level + 5) for name, level in LEVELS.items()}
        file = fleet.config.file
        file.write_text(file.read_text().replace("lift = 5.0", "lift = 6.0"))
        with again(fleet, trust=False) as changed:
            assert issued(changed) == expected
            theirs = Fleet(changed.config, changed.store, changed.clock, keyring=Keyring(tmp_path / "theirs"))
            assert issued(theirs) == STOOD_IN
            assert "the options of mine changed since" in report_of(theirs).failures[0].error


def test_a_row_of_the_store_names_no_code_to_be_run(tmp_path: Path) -> None:
    """Whoever can write rows could else have any class of any module called with arguments of their own."""
    proof = tmp_path / "proof"
    evil = json.dumps({"adapter": "subprocess:Popen", "args": ["touch", str(proof)]}, sort_keys=True)
    with in_charge(made(tmp_path / "fleet", FORMED, trust=False)) as fleet:
        for tags in (None, versions(fleet)[0]["tags"]):
            runs = fleet.store.sql("select * from runs where kind = 'train'").rows()
            transaction = fleet.store.begin()
            transaction.replace("runs", [row | {"params": evil, "tags": tags} for row in runs])
            transaction.commit()
            assert issued(fleet) == STOOD_IN
            assert codes(fleet) == UNTRUSTED
        assert not proof.exists()


def test_without_a_key_all_goes_on_and_what_is_not_signed_is_told(tmp_path: Path) -> None:
    with made(tmp_path / "fleet", FORMED) as fleet:
        fleet.ingest(flat())
        keyless = Fleet(fleet.config, fleet.store, fleet.clock, keyring=Keyring(None))
        report = keyless.train(recipes=["mine"], judge=False)
        assert report.clean
        assert any("no signature: this user has no home folder" in note for note in report.notes)
        fleet.promote("mine")
        assert issued(keyless) == CHAMPION, "today's code needs no signature"
        module_of(fleet).write_text(FORMED.replace("FACTOR", "3"))
        assert issued(keyless) == STOOD_IN
        assert "without a signature" in report_of(keyless).failures[0].error


def test_a_library_that_is_not_there_is_the_outcome_of_its_recipe_alone(tmp_path: Path) -> None:
    with made(tmp_path / "fleet", "import a_library_that_is_nowhere\n" + MINE) as fleet:
        fleet.ingest(flat())
        report = fleet.train(promote=True)
        (group,) = report.failures
        assert (report.ok, group.cause, group.recipe, group.count) == (2, "adapter_missing", "mine", 2)
        assert issued(fleet) == {name: ("day", level) for name, level in LEVELS.items()}
        assert codes(fleet) == dict.fromkeys(LEVELS, ("ok", None, None))


def test_a_module_that_no_longer_reads_stops_no_forecast(charged: Path, tmp_path: Path) -> None:
    """Neither of the champions, whose code is stored, nor of those that it would stand in for."""
    with copy_of(charged, tmp_path / "fleet") as fleet:
        file = fleet.config.file
        file.write_text(file.read_text().replace('fallback = ["day"]', 'fallback = ["mine", "day"]'))
        module_of(fleet).write_text("def broken(:\n")
        with again(fleet, trust=True) as trusting:
            assert issued(trusting) == CHAMPION
            fleet.promote("day")
            assert fleet.train(recipes=["day"], judge=False).clean
            fleet.promote("day")
        with again(fleet, trust=False) as doubting:
            assert issued(doubting) == STOOD_IN


# -- before and after ----------------------------------------------------------------------------------------------

RULES = """
def half(y, X, task):
    y[y > 15] = 15.0            # in place: it is given a copy
    return y / 2, X


def capped(forecast, task):
    return forecast.clip(upper=4.0 + task.horizon / 24) * 10
"""


def test_functions_around_a_model_see_the_history_first_and_the_forecast_last(tmp_path: Path) -> None:
    """a: 10 -> 5 -> 2 x 5 = 10; b: 20 -> 15 -> 7.5 -> 15; capped at 5 -> 50. The naive rule: 5 and 7.5 -> 5."""
    steps = 'before = "MODELS:half"\nafter = "MODELS:capped"\n'
    naive = (
        f'\n[recipes.plain]\nadapter = "naive"\n{steps}\n[recipes.clean]\nadapter = "naive"\nbefore = "MODELS:half"\n'
    )
    config = CONFIG.replace("TRUST", "true").replace("STEPS", steps + naive)
    expected = {"mine": {"a": 50.0, "b": 50.0}, "plain": {"a": 50.0, "b": 50.0}, "clean": {"a": 5.0, "b": 7.5}}
    with fleet_in(tmp_path / "fleet", config, MINE.replace("FACTOR", "2") + RULES) as fleet:
        fleet.ingest(flat())
        assert fleet.backtest().clean
        rows = fleet.store.sql(
            "select recipe, asset_id, min(mean) low, max(mean) high from forecasts group by all"
        ).rows()
        judged = {recipe: {} for recipe in (*expected, "day")}
        for row in rows:
            assert row["low"] == row["high"]
            judged[row["recipe"]][row["asset_id"]] = row["low"]
        assert judged == expected | {"day": LEVELS}, "a step of one recipe changes the history of no other"
        for recipe, values in expected.items():
            in_charge(fleet, recipe)
            assert issued(fleet) == {name: (recipe, value) for name, value in values.items()}
        params = json.loads(versions(fleet, "plain")[0]["params"])
        module = module_of(fleet).stem
        assert params == {"adapter": "naive", "before": f"{module}:half", "after": f"{module}:capped"}


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def step(y, X, task): return y[1:], X", "before: step returned a history on other instants"),
        ("def step(y, X, task): return y", "before: step returned Series, not (y, X)"),
        (
            "def step(y, X, task): return y.astype(str) + 'x', X",
            "before: step returned a history that holds no numbers",
        ),
        ("def step(y, X, task): return y, y.to_frame()", "before: step returned covariates on other instants"),
        ("def step(forecast, task): pass", "after: step returned NoneType, not the forecast"),
    ],
)
def test_a_function_that_breaks_the_rules_is_told_by_its_name(code: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "rules.py").write_text(code)
    where = {"before" if "(y" in code else "after": "rules:step"}
    forecaster = recipe_of(RecipeConfig(name="mine", adapter="naive", options={}, **where), tmp_path).forecaster
    y = flat().query("unique_id == 'a'").set_index("ds")["y"].tz_convert("UTC")
    task = Task(target=pd.date_range(y.index[-1] + pd.Timedelta("1h"), periods=24, freq="h"), freq="1h")
    with pytest.raises(BadOutput) as caught:
        forecaster.fit(y, None, task).predict(y, None, task)
    assert said in caught.value.message


def test_what_a_function_makes_of_a_forecast_is_checked_like_any(tmp_path: Path) -> None:
    code = "def step(forecast, task): return forecast * float('nan')"
    with made(tmp_path / "fleet", MINE + code, steps='after = "MODELS:step"') as fleet:
        fleet.ingest(flat())
        (group,) = fleet.backtest(recipes=["mine"]).failures
        assert (group.cause, group.count) == ("bad_output", 2)


def test_missing_readings_may_be_made_by_a_function(tmp_path: Path) -> None:
    code = "def step(y, X, task):\n    y[y > 15] = float('nan')\n    return y, X\n"
    config = CONFIG.replace("TRUST", "true").replace('"MODELS:Mine"\nSTEPS', '"naive"\nbefore = "MODELS:step"')
    with fleet_in(tmp_path / "fleet", config, code) as fleet:
        fleet.ingest(flat())
        report = fleet.backtest(recipes=["mine"])
        assert (report.ok, report.failed) == (1, 1)
        assert report.failures[0].cause == "no_data"


# -- notebooks -----------------------------------------------------------------------------------------------------


def scaled(y: pd.Series, X: pd.DataFrame | None, task: Task) -> np.ndarray:
    return np.full(task.horizon, 2 * y.mean())


class Halves:
    """Learns in place and returns itself, as estimators do."""

    def __init__(self, factor: float = 0.5) -> None:
        self.factor = factor

    def fit(self, y: pd.Series, X: pd.DataFrame | None, task: Task) -> Halves:
        self.level = float(y.mean())
        return self

    def predict(self, y: pd.Series, X: pd.DataFrame | None, task: Task) -> pd.DataFrame:
        return task.frame(np.full(task.horizon, self.factor * self.level))


@pytest.mark.parametrize(
    ("model", "factor"), [(scaled, 2), (Halves, 0.5), (Halves(3), 3), (lambda y, *_: y.to_numpy()[-24:] * 4, 4)]
)
def test_a_function_a_class_and_an_instance_are_candidates(model: Any, factor: float, tmp_path: Path) -> None:
    with made(tmp_path / "fleet") as fleet:
        fleet.add("idea", model)
        in_charge(fleet, "idea")
        expected = {name: ("idea", factor * level) for name, level in LEVELS.items()}
        assert issued(fleet) == expected
        assert fleet.backtest().clean
        assert {row["recipe"] for row in fleet.leaderboard().rows()} == {"day", "mine", "idea"}


def test_another_process_forecasts_with_what_a_notebook_defined_where_it_is_trusted(tmp_path: Path) -> None:
    with made(tmp_path / "fleet") as fleet:
        fleet.add("idea", Halves(3))
        in_charge(fleet, "idea")
        expected = {name: ("idea", 3 * level) for name, level in LEVELS.items()}
        assert issued(fleet) == expected
        with again(fleet, trust=True) as elsewhere:
            assert issued(elsewhere) == expected, "a process that never saw the definition"
        with again(fleet, trust=False) as doubting:
            assert issued(doubting) == STOOD_IN
            assert codes(doubting) == UNTRUSTED
            (group,) = report_of(doubting).failures
            assert group.error.startswith("the definition of idea is kept as a pickle, which runs only where")


def test_functions_around_an_object_go_with_it(tmp_path: Path) -> None:
    with made(tmp_path / "fleet") as fleet:
        fleet.add("idea", Halves(), before=lambda y, X, _: (y + 2, X), after=lambda forecast, _: forecast - 1)
        in_charge(fleet, "idea")
        expected = {name: ("idea", (level + 2) / 2 - 1) for name, level in LEVELS.items()}
        assert issued(fleet) == expected
        with again(fleet, trust=True) as elsewhere:
            assert issued(elsewhere) == expected


def test_what_lies_beside_the_configuration_goes_with_an_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Imported in a notebook as any module; the process that forecasts does not find it any more."""
    with made(tmp_path / "fleet") as fleet:
        module = tmp_path / "fleet" / "ideas_of_mine.py"
        module.write_text("LIFT = 1.0\n\n\ndef lifted(y, X, task):\n    return [y.mean() + LIFT] * task.horizon\n")
        monkeypatch.syspath_prepend(module.parent)
        fleet.add("idea", importlib.import_module("ideas_of_mine").lifted)
        in_charge(fleet, "idea")
        assert issued(fleet) == {name: ("idea", level + 1) for name, level in LEVELS.items()}
        module.unlink()
        done = subprocess.run(
            [sys.executable, "-c", ELSEWHERE, str(fleet.config.file)],
            text=True,
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        )
        assert json.loads(done.stdout) == [level + 1 for level in LEVELS.values()]


def test_an_equal_definition_is_the_same_recipe_and_another_one_takes_its_place(tmp_path: Path) -> None:
    with made(tmp_path / "fleet") as fleet:
        fleet.ingest(flat())
        fleet.add("idea", Halves(0.5))
        assert fleet.backtest(recipes=["idea"]).ok == 2
        for model, ok in ((Halves(0.5), 0), (Halves(0.6), 2)):
            later(fleet)
            fleet.add("idea", model)
            assert fleet.backtest(recipes=["idea"]).ok == ok
        assert [*fleet.config.recipes].count("idea") == 1


def test_an_adapter_of_the_house_is_a_recipe_like_any_other(tmp_path: Path) -> None:
    with made(tmp_path / "fleet", trust=False) as fleet:
        fleet.add("week", SeasonalNaive(season=168))
        in_charge(fleet, "week")
        with again(fleet, trust=False) as elsewhere:
            assert issued(elsewhere) == {name: ("week", level) for name, level in LEVELS.items()}


def test_a_name_that_cannot_be_had_is_refused(tmp_path: Path) -> None:
    with made(tmp_path / "fleet") as fleet:
        for name in ("mine", "naive", "last_resort", "a,b", " ", "x\n", ""):
            with pytest.raises(ConfigInvalid):
                fleet.add(name, scaled)


def test_what_is_no_model_is_refused_when_it_is_added(tmp_path: Path) -> None:
    with made(tmp_path / "fleet") as fleet:
        with pytest.raises(ConfigInvalid, match="int has no method fit"):
            fleet.add("idea", 3)
        with pytest.raises(ConfigInvalid, match="before: a str is given"):
            fleet.add("idea", scaled, before="models:clean")  # type: ignore[arg-type]
        with pytest.raises(ConfigInvalid, match="no covariate 'wind'"):
            fleet.add("idea", scaled, covariates=["wind"])
        held = Halves()
        held.rows = (row for row in "abc")  # type: ignore[attr-defined]
        with pytest.raises(Unsaveable, match="Halves cannot be pickled"):
            fleet.add("idea", held)


SCRIPT = """
import sys
from dataclasses import dataclass
import numpy as np
from fleet import Fleet

LIFT = 0.25

class Lifted:
    def fit(self, y, X, task):
        self.level = y.mean() + LIFT
        return self
    def predict(self, y, X, task):
        return task.frame(np.full(task.horizon, self.level))

def doubled(forecast, task):
    return forecast * 2

def main():
    with Fleet.open(sys.argv[1]) as fleet:
        fleet.add("idea", Lifted(), after=doubled)
        report = fleet.train(recipes=["idea"], judge=False, workers=2)
        assert report.ok == 2, report
        fleet.promote("idea")
        report = fleet.forecast(workers=2)
        assert report.ok == 2, report
        rows = fleet.store.sql("select asset_id, max(mean) v from published group by all order by 1").rows()
        print([row["v"] for row in rows])

if __name__ == "__main__":
    main()
"""
ELSEWHERE = """
import sys
from fleet import Fleet
with Fleet.open(sys.argv[1]) as fleet:
    fleet.forecast(workers=2, reissue=True)
    rows = fleet.store.sql("select asset_id, max(mean) v from published where role = 'champion' group by all").rows()
    print(sorted(row["v"] for row in rows))
"""


@pytest.mark.parametrize("way", ["input", pytest.param("file", marks=pytest.mark.slow)])
def test_what_a_script_or_the_standard_input_defines_reaches_the_workers(way: str, tmp_path: Path) -> None:
    """Two workers; then a process that knows nothing of it forecasts with it."""
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    with made(tmp_path / "fleet") as fleet:
        fleet.ingest(flat())
        file = str(fleet.config.file)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script) if way == "file" else "-", file]
    text = None if way == "file" else SCRIPT
    done = subprocess.run(command, input=text, text=True, capture_output=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    values = done.stdout.strip()
    assert json.loads(values) == [2 * (level + 0.25) for level in LEVELS.values()]
    command = [sys.executable, "-c", ELSEWHERE, file]
    done = subprocess.run(command, text=True, capture_output=True, check=True, env=environment)
    assert done.stdout.strip() == values
