"""One suite over every adapter: fitted once, it forecasts later issues, on the local clock, in any process.

The clock of Paris goes forward on 2024-03-31 between the fit and most of the issues. What an adapter cannot do is
a law as well: what it does instead. Adapters whose library is not installed are left out; the extra `adapters`
installs all, and `TSFLEET_TEST_ADAPTERS=all` leaves out none.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from fleet import calendar
from fleet.errors import AdapterMissing, CovariateMissing, NoData, TooShort
from fleet.forecaster import Adapter, Fitted, Many, Question, scope_of
from fleet.metrics import quantile_column
from fleet.outcome import Cause, Failed
from fleet.own import Kept, kept
from fleet.registry import ADAPTERS, build, recipe_hash
from fleet.task import Task
from tests.contracts.adapter_recipes import EVERY, EXTRA, RECIPES

TZ = "Europe/Paris"
LEVELS = (0.1, 0.5, 0.9)
LEARNT_UNTIL = pd.Timestamp("2024-03-27", tz=TZ).tz_convert("UTC")
ISSUE = pd.Timestamp("2024-04-02", tz=TZ).tz_convert("UTC")
HORIZON = 24


everywhere = pytest.mark.parametrize("name", list(RECIPES))


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """As in a worker: on a busy machine two threads make a Kalman filter of small matrices five times as slow."""
    with threadpool_limits(1):
        yield


@cache
def world(first: str = "2024-03-01", last: str = "2024-04-08") -> tuple[pd.Series, pd.DataFrame]:
    """A load that follows the local day and the temperature, hour by hour, through the change of clocks."""
    times = pd.date_range(first, last, freq="h", tz=TZ).tz_convert("UTC").as_unit("us")
    random = np.random.default_rng(1)
    temp = pd.Series(random.normal(0, 1, len(times)), index=times).rolling(24, min_periods=1).mean().to_numpy()
    values = shape(times) + 3 * temp + random.normal(0, 0.4, len(times))
    return pd.Series(values, index=times), pd.DataFrame({"temp": temp}, index=times)


def shape(times: pd.DatetimeIndex) -> np.ndarray:
    """A day with an edge: night, day from 8 to 20 on the clock of Paris."""
    hour = times.tz_convert(TZ).hour
    return np.where((hour >= 8) & (hour < 20), 60.0, 40.0)


def question(
    issue: pd.Timestamp, *, gap: int = 0, quantiles: tuple[float, ...] = LEVELS, with_x: bool = False
) -> tuple[pd.Series, pd.DataFrame | None, Task]:
    """History through the issue less a gap, covariates through the target, the target of a day."""
    y, X = world()
    target = pd.date_range(issue, periods=HORIZON, freq="h", tz="UTC", unit="us")
    task = Task(target=target, freq="1h", tz=TZ, seasons=(24, 168), quantiles=quantiles, seed=7)
    known = y[y.index < issue - pd.Timedelta(hours=gap)]
    return known, X[X.index <= target[-1]] if with_x else None, task


def adapter_of(name: str) -> Adapter:
    recipe = RECIPES[name]
    made = build(recipe.adapter, recipe.options)
    assert isinstance(made, Adapter)
    return made


@cache
def fitted(name: str, *, with_x: bool = False) -> Fitted:
    return adapter_of(name).fit(*question(LEARNT_UNTIL, with_x=with_x))


def bytes_of(name: str, model: Fitted, y: pd.Series) -> Kept:
    return kept(adapter_of(name), model, y)


def checked(frame: pd.DataFrame, task: Task, name: str) -> np.ndarray:
    """The mean of a forecast whose form is right."""
    assert frame.index.equals(task.target)
    wanted = ["mean"] + ([quantile_column(q) for q in task.quantiles] if RECIPES[name].quantiles else [])
    assert list(frame.columns) == wanted
    assert np.isfinite(frame.to_numpy()).all()
    assert (frame.dtypes == np.float64).all()
    return frame["mean"].to_numpy()


def test_every_adapter_is_in_the_suite() -> None:
    assert {recipe.adapter for recipe in EVERY.values()} == set(ADAPTERS)


@pytest.mark.parametrize("adapter", sorted({recipe.adapter for recipe in EXTRA.values()}))
def test_an_adapter_without_its_library_says_what_to_type(adapter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = next(build(recipe.adapter, recipe.options) for recipe in EXTRA.values() if recipe.adapter == adapter)
    for module in [adapter, *(name for name in sys.modules if name.startswith(f"{adapter}."))]:
        monkeypatch.setitem(sys.modules, module, None)
    assert isinstance(made, Adapter)
    for act in (made.import_library, lambda: made.fit(*question(LEARNT_UNTIL))):
        with pytest.raises(AdapterMissing) as caught:
            act()
        assert "tsfleet[adapters]" in caught.value.hint


@everywhere
@pytest.mark.parametrize("with_x", [False, True])
def test_a_model_forecasts_six_days_later_from_fresh_history(name: str, with_x: bool) -> None:
    model, (y, X, task) = fitted(name, with_x=with_x), question(ISSUE, with_x=with_x)
    before = y.copy(), None if X is None else X.copy()
    mean = checked(model.predict(y, X, task), task, name)
    pd.testing.assert_series_equal(y, before[0])
    assert X is None or X.equals(before[1])
    truth = world()[0][task.target].to_numpy()
    assert np.abs(mean - truth).mean() < 20 * (RECIPES[name].loose if RECIPES[name].seasonal else 0.8)


@everywhere
def test_fresh_history_matters(name: str) -> None:
    y, _, task = question(ISSUE)
    shifted = y.copy()
    shifted[y.index >= LEARNT_UNTIL - pd.Timedelta("2D")] += 10
    moved = fitted(name).predict(shifted, None, task)["mean"] - fitted(name).predict(y, None, task)["mean"]
    assert moved.mean() > 1


@everywhere
@pytest.mark.parametrize("gap", [0, 2, 48])
def test_a_trailing_gap_is_bridged_on_the_local_clock(name: str, gap: int) -> None:
    for day in ("2024-03-31", "2024-04-01", "2024-04-02"):
        y, _, task = question(pd.Timestamp(day, tz=TZ).tz_convert("UTC"), gap=gap)
        mean = checked(fitted(name).predict(y, None, task), task, name)
        if not RECIPES[name].seasonal:
            assert np.ptp(mean) == 0, "what has no shape is flat"
            continue
        off = [np.abs(mean - shape(task.target + pd.Timedelta(hours=hours))).mean() for hours in (0, -1, 1)]
        assert off[0] == min(off), f"an hour off on {day}"
        assert off[0] < 20 * RECIPES[name].loose * (1 if gap < 48 else 1.5)


@everywhere
def test_quantiles_are_in_order_and_hold_about_what_they_say(name: str) -> None:
    y, X, task = question(ISSUE, with_x=True)
    frame = fitted(name, with_x=True).predict(y, X, task)
    if not RECIPES[name].quantiles:
        assert list(frame.columns) == ["mean"], "what has none leaves them to the fleet"
        return
    assert (frame["q10"] <= frame["q90"]).mean() > 0.9
    truth = world()[0][task.target]
    assert ((frame["q10"] <= truth) & (truth <= frame["q90"])).mean() >= RECIPES[name].covers
    assert list(fitted(name, with_x=True).predict(y, X, replace(task, quantiles=())).columns) == ["mean"]


@everywhere
def test_a_history_that_begins_later_than_the_learnt_one_serves_as_well(name: str) -> None:
    """As a window of fixed length does that moves on from day to day; seven hours, so that no season begins with it."""
    y, _, task = question(ISSUE)
    whole, later = (fitted(name).predict(part, None, task) for part in (y, y[9 * 24 + 7 :]))
    mean = checked(later, task, name)
    assert np.abs(mean - whole["mean"]).mean() < 20 * RECIPES[name].loose


DAYS = {"2024-03-31": 23, "2024-04-02": 24, "2024-10-27": 25}


@everywhere
@pytest.mark.parametrize(("day", "hours"), DAYS.items())
def test_a_delivery_day_has_as_many_hours_as_its_clock(name: str, day: str, hours: int) -> None:
    """Issued at 11:00 of the day before, by a model of March, in October too."""
    midnight = pd.Timestamp(day, tz=TZ)
    spring = midnight.month < 6
    y, _ = world() if spring else world("2024-10-01", "2024-10-30")
    target = calendar.delivery_day(midnight.tz_convert("UTC") - pd.Timedelta("13h"), 1, "1h", TZ)
    task = Task(target=target, freq="1h", tz=TZ, seasons=(24, 168), quantiles=LEVELS, seed=7)
    known = y[y.index < midnight.tz_convert("UTC") - pd.Timedelta("13h")]
    mean = checked(fitted(name).predict(known, None, task), task, name)
    assert len(mean) == hours
    if RECIPES[name].seasonal:
        assert np.abs(mean - y[target].to_numpy()).mean() < 20 * RECIPES[name].loose * 1.5
    else:
        assert np.ptp(mean) == 0


@everywhere
def test_a_covariate_that_is_not_known_is_missed_by_name_or_was_never_used(name: str) -> None:
    y, X, task = question(ISSUE, with_x=True)
    assert X is not None
    unknown = X.copy()
    unknown.loc[unknown.index >= task.target[3], "temp"] = np.nan
    model = fitted(name, with_x=True)
    if RECIPES[name].covariates:
        for given in (None, unknown):
            with pytest.raises(CovariateMissing, match="temp"):
                model.predict(y, given, task)
    else:
        pd.testing.assert_frame_equal(model.predict(y, unknown, task), model.predict(y, X, task))


CHILD = """
import json, sys
from pathlib import Path
import numpy as np
from fleet.own import restored
from fleet.registry import build
from tests.contracts.test_adapters import ISSUE, question
folder = Path(sys.argv[1])
for name, (adapter, options, codec) in json.loads((folder / "recipes.json").read_text()).items():
    for with_x in (False, True):
        model = restored(build(adapter, options), codec, (folder / f"{name}-{with_x}.blob").read_bytes())
        np.save(folder / f"{name}-{with_x}.npy", model.predict(*question(ISSUE, with_x=with_x)).to_numpy())
"""


def test_another_process_loads_the_same_model_and_nothing_is_said_or_written(tmp_path: Path) -> None:
    recipes, work, home = {}, tmp_path / "work", tmp_path / "home"
    work.mkdir()
    home.mkdir()
    for name in RECIPES:
        for with_x in (False, True):
            made = bytes_of(name, fitted(name, with_x=with_x), question(LEARNT_UNTIL)[0])
            (tmp_path / f"{name}-{with_x}.blob").write_bytes(made.payload)
        recipes[name] = (RECIPES[name].adapter, RECIPES[name].options, made.codec)
    (tmp_path / "recipes.json").write_text(json.dumps(recipes))
    root = Path(__file__).resolve().parents[2]
    kept_out = ("XDG_", "MPLCONFIGDIR", "NUMBA_", "PYTHONPATH", "COV_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(kept_out)}
    environment.update(PYTHONPATH=str(root), HOME=str(home))
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=work, env=environment)
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")
    assert [*work.rglob("*"), *home.rglob("*")] == []
    for name in RECIPES:
        for with_x in (False, True):
            here = fitted(name, with_x=with_x).predict(*question(ISSUE, with_x=with_x)).to_numpy()
            np.testing.assert_array_equal(np.load(tmp_path / f"{name}-{with_x}.npy"), here, err_msg=name)


@everywhere
def test_the_same_seed_gives_the_same_model(name: str) -> None:
    y, X, task = question(LEARNT_UNTIL)
    again, first = adapter_of(name).fit(y, X, task), fitted(name)
    pd.testing.assert_frame_equal(again.predict(*question(ISSUE)), first.predict(*question(ISSUE)), check_exact=True)
    if RECIPES[name].repeatable:
        assert bytes_of(name, again, y) == bytes_of(name, first, y)


@everywhere
def test_a_short_history_is_too_short_and_says_so(name: str) -> None:
    y, _, task = question(LEARNT_UNTIL)
    if RECIPES[name].needs == 1:
        checked(adapter_of(name).fit(y[-1:], None, task).predict(y[-1:], None, task), task, name)
        return
    for length in (3, RECIPES[name].needs - 1):
        with pytest.raises(TooShort, match=r"needs \d+ .* \d+"):
            adapter_of(name).fit(y[-length:], None, task)


@everywhere
def test_a_history_without_a_reading_is_no_data(name: str) -> None:
    y, _, task = question(LEARNT_UNTIL)
    for nothing in (y * np.nan, y[:0]):
        with pytest.raises(NoData):
            adapter_of(name).fit(nothing, None, task)
    with pytest.raises(NoData):
        fitted(name).predict(y * np.nan, None, task)


@everywhere
def test_missing_readings_inside_the_history_are_bridged(name: str) -> None:
    y, X, task = question(LEARNT_UNTIL, with_x=RECIPES[name].covariates)
    random = np.random.default_rng(5)
    holed = y.mask(random.random(len(y)) < 0.15)
    holed.iloc[-90:-70] = np.nan
    holed.iloc[[0, -1, -2]] = np.nan
    model = adapter_of(name).fit(holed, X, task)
    mean = checked(model.predict(holed, X, task), task, name)
    truth = world()[0][task.target].to_numpy()
    assert np.abs(mean - truth).mean() < 20 * (RECIPES[name].loose * 1.5 if RECIPES[name].seasonal else 0.8)


@everywhere
def test_a_blob_does_not_grow_with_the_history(name: str) -> None:
    y, X, task = question(LEARNT_UNTIL, with_x=True)
    sizes = []
    for days in (16, 26):
        learnt = y[-days * 24 :]
        sizes.append(len(bytes_of(name, adapter_of(name).fit(learnt, X, task), learnt).payload))
    assert sizes[1] <= 1.6 * sizes[0] + 100


@everywhere
def test_a_recipe_s_hash_is_the_same_in_any_order_and_changes_with_an_option(name: str) -> None:
    recipe = RECIPES[name]
    options = dict(reversed(recipe.options.items()))
    assert recipe_hash(recipe.adapter, options) == recipe_hash(recipe.adapter, recipe.options)
    hashes = [recipe_hash(other.adapter, other.options) for other in RECIPES.values()]
    assert len(set(hashes)) == len(hashes)


def questions(issue: pd.Timestamp, *, with_x: bool) -> list[Question]:
    """The same world at four sizes, one of them too short to learn from."""
    y, X, task = question(issue, with_x=with_x)
    sizes = [Question(y * size, X, task) for size in (1.0, 3.0, 0.5)]
    return [*sizes[:2], Question(y[-3:], X, task), sizes[2]]


def of_size(told: list[object]) -> list[pd.DataFrame]:
    """The forecasts; the third asset has none, and says why."""
    assert isinstance(told[2], Failed)
    assert told[2].cause is Cause.TOO_SHORT
    found = [one for one in told if isinstance(one, pd.DataFrame)]
    assert len(found) == 3
    return found


@everywhere
def test_many_at_once_are_what_they_are_one_by_one(name: str) -> None:
    adapter, with_x = adapter_of(name), RECIPES[name].covariates
    assert scope_of(adapter) == ("many" if RECIPES[name].many else "asset")
    if not RECIPES[name].many:
        return
    assert isinstance(adapter, Many)
    models = list(adapter.fit_many(questions(LEARNT_UNTIL, with_x=with_x)))
    assert isinstance(models[2], Failed)
    models[2] = models[0]
    frames = of_size(list(adapter.predict_many(models, questions(ISSUE, with_x=with_x))))
    asked = [questions(at, with_x=with_x) for at in (LEARNT_UNTIL, ISSUE)]
    for frame, place in zip(frames, (0, 1, 3), strict=True):
        alone = adapter_of(name).fit(*asked[0][place]).predict(*asked[1][place])
        pd.testing.assert_frame_equal(frame, alone, check_exact=True)


@pytest.mark.parametrize("name", [name for name in RECIPES if RECIPES[name].pooled])
def test_one_model_for_many_assets_serves_each_in_its_own_size_and_from_its_bytes(name: str) -> None:
    adapter = build(RECIPES[name].adapter, {**RECIPES[name].options, "scope": "global"})
    assert isinstance(adapter, Many)
    assert scope_of(adapter) == "global"
    with_x = RECIPES[name].covariates
    learnt = questions(LEARNT_UNTIL, with_x=with_x)
    models = list(adapter.fit_many(learnt))
    assert isinstance(models[2], Failed)
    assert models[0] is models[1] is models[3], "one for all that could be learnt from"
    assert isinstance(adapter, Adapter)
    blob = kept(adapter, models[0], learnt[0].y)
    again = adapter.load(blob.payload)
    asked = questions(ISSUE, with_x=with_x)
    frames = of_size(list(adapter.predict_many([again] * 4, asked)))
    for frame, size, place in zip(frames, (1.0, 3.0, 0.5), (0, 1, 3), strict=True):
        mean = checked(frame, asked[place].task, name)
        assert np.abs(mean - size * world()[0][frame.index]).mean() < size * 20 * RECIPES[name].loose * 1.5
        pd.testing.assert_frame_equal(frame, again.predict(*asked[place]), check_exact=True)


@pytest.mark.parametrize("name", [name for name in RECIPES if RECIPES[name].pooled])
def test_an_option_that_came_later_changes_no_hash_where_it_is_left_out(name: str) -> None:
    recipe = RECIPES[name]
    plain = recipe_hash(recipe.adapter, recipe.options)
    assert recipe_hash(recipe.adapter, {**recipe.options, "scope": "asset"}) == plain
    assert recipe_hash(recipe.adapter, {**recipe.options, "scope": "global"}) != plain
