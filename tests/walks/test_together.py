"""Models that take many assets at once, for a group or one each; and what every asset has of its own all the same."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fleet import Fleet
from tests.walks.small import fleet_in, hourly, without_ids

pytestmark = pytest.mark.slow  # groups of real models

ASSETS = [f"a{number}" for number in range(6)]
CONFIG = """
[fleet]
name = "together"
horizon = 24
seasons = [24]
quantiles = [0.1, 0.9]
[recipes.shared]
{recipe}
[recipes.naive]
adapter = "seasonal_naive"
season = 24
[train]
workers = 1
fallback = ["naive"]
[backtest]
origins = 3
[promotion]
min_points = 24
"""
TREES = """
adapter = "lightgbm"
scope = "global"
rounds = 15
params = { num_leaves = 7 }
"""
MODELS = '''
"""The level of an asset, and of a group that may have a bad day."""
from pathlib import Path

import numpy as np


class Fitted:
    def __init__(self, level):
        self.level = level

    def predict(self, y, X, task):
        return task.frame(np.full(task.horizon, self.level))

    def save(self):
        return repr(self.level).encode()


class Each:
    """Vectorised: it notes how many it was given at once."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def fit(self, y, X, task):
        if y.iloc[-1] > 900:
            raise ValueError("too high for me")
        return Fitted(float(np.nanmean(y)))

    def fit_many(self, questions):
        with open(self.folder / "calls", "a") as file:
            file.write(f"{len(questions)}\\n")
        return [self.fit(*question) for question in questions]

    def predict_many(self, fitted, questions):
        return [model.predict(*question) for model, question in zip(fitted, questions)]

    def load(self, blob):
        return Fitted(float(blob))


class Of(Each):
    """Global, by region; a region that the file names cannot be learnt from."""

    scope = "global"
    group = "region"

    def fit_many(self, questions):
        regions = {question.task.static["region"] for question in questions}
        with open(self.folder / "fits", "a") as file:
            file.write(f"{sorted(regions)} {len(questions)}\\n")
        if (self.folder / "bad").exists() and (self.folder / "bad").read_text() in regions:
            raise ArithmeticError("a bad day")
        model = Fitted(float(np.mean([question.y.mean() for question in questions])))
        return [model for _ in questions]
'''


def own(folder: Path, name: str) -> str:
    return f'adapter = "MODELS:{name}"\nfolder = "{folder}"'


def world(folder: Path, recipe: str, models: str = "", *, data: pd.DataFrame | None = None) -> Fleet:
    """Six assets in two regions."""
    fleet = fleet_in(folder, CONFIG.format(recipe=recipe), models)
    fleet.ingest(hourly(ASSETS, 20) if data is None else data)
    since, transaction = datetime(1970, 1, 1, tzinfo=UTC), fleet.store.begin()
    regions = ((name, "north" if number < 4 else "south") for number, name in enumerate(ASSETS))
    rows = [{"asset_id": name, "region": r, "state": "active", "valid_from": since} for name, r in regions]
    transaction.replace("assets", rows)
    transaction.commit()
    return fleet


def blobs(fleet: Fleet, recipe: str = "shared") -> dict[str, str]:
    """By asset the hash of its newest version."""
    rows = fleet.store.sql("select asset_id, sha256 from versions where recipe = $r order by version_id", {"r": recipe})
    return {row["asset_id"]: row["sha256"] for row in rows.rows()}


def statuses(fleet: Fleet, job: str) -> dict[str, str]:
    """By asset its outcome in the last job of this name."""
    last = "slot = (select max(slot) from outcomes where job = $job)"
    text = f"select asset_id, status from outcomes where job = $job and {last}"
    return {row["asset_id"]: row["status"] for row in fleet.store.sql(text, {"job": job}).rows()}


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def test_each_asset_has_its_run_version_outcome_and_scores_of_one_blob(tmp_path: Path) -> None:
    fleet = world(tmp_path, TREES)
    assert fleet.backtest(recipes=["shared"]).ok == len(ASSETS)
    assert fleet.train(recipes=["shared"], judge=False).ok == len(ASSETS)
    found = blobs(fleet)
    assert sorted(found) == ASSETS
    assert len(set(found.values())) == 1
    for kind in ("backtest", "train"):
        runs = fleet.store.sql("select asset_id, status from runs where kind = $kind", {"kind": kind}).rows()
        assert sorted((row["asset_id"], row["status"]) for row in runs) == [(name, "ok") for name in ASSETS]
    scored = fleet.store.sql("select asset_id, sum(n) as n from scores group by asset_id").rows()
    assert {row["asset_id"]: row["n"] for row in scored} == dict.fromkeys(ASSETS, 72)
    assert statuses(fleet, "py:backtest") == dict.fromkeys(ASSETS, "ok")
    fleet.promote("shared")
    assert fleet.forecast().ok == len(ASSETS)
    issued = fleet.store.sql(
        "select asset_id, avg(mean) as mean from forecasts where role = 'champion' group by 1"
    ).rows()
    levels = hourly(ASSETS, 20).groupby("unique_id")["y"].mean()
    for row in issued:
        assert row["mean"] == pytest.approx(levels[row["asset_id"]], rel=0.35), "in its own unit"


def test_what_is_trained_is_left_alone_and_a_new_reading_makes_its_group_due(
    tmp_path: Path,
) -> None:
    fleet = world(tmp_path, own(tmp_path, "Of"), MODELS)
    fleet.train(recipes=["shared"], judge=False)
    assert lines(tmp_path / "fits") == ["['north'] 4", "['south'] 2"]
    assert fleet.train(recipes=["shared"], judge=False).skipped == len(ASSETS)
    assert fleet.train(recipes=["shared"], judge=False, dry_run=True).planned == ()
    more = hourly(ASSETS, 21).groupby("unique_id").nth(20 * 24)
    fleet.ingest(more[more["unique_id"].isin(["a4", "a5"])])
    before = blobs(fleet)
    planned = fleet.train(recipes=["shared"], judge=False, dry_run=True).planned
    assert planned is not None
    assert [(one.act, one.recipe, one.assets) for one in planned] == [("fit", "shared", 2)]
    report = fleet.train(recipes=["shared"], judge=False)
    assert (report.ok, report.skipped) == (2, 4)
    assert lines(tmp_path / "fits")[2:] == ["['south'] 2"]
    assert {name for name, blob in blobs(fleet).items() if blob != before[name]} == {"a4", "a5"}


def test_one_asset_that_is_selected_gets_the_model_that_all_would_get(tmp_path: Path) -> None:
    alone, whole = (world(tmp_path / name, TREES) for name in ("alone", "whole"))
    assert alone.train(recipes=["shared"], judge=False, select=["a2"]).ok == 1
    whole.train(recipes=["shared"], judge=False)
    assert blobs(alone) == {"a2": blobs(whole)["a2"]}
    report = alone.train(recipes=["shared"], judge=False)
    assert (report.ok, report.skipped) == (5, 1)
    assert blobs(alone) == blobs(whole)


def test_a_group_that_fails_is_each_asset_s_failure_and_the_next_run_does_only_it(tmp_path: Path) -> None:
    fleet = world(tmp_path, own(tmp_path, "Of"), MODELS)
    (tmp_path / "bad").write_text("south")
    report = fleet.train(recipes=["shared"], judge=False)
    assert (report.ok, report.failed) == (4, 2)
    assert [(group.cause, group.count) for group in report.failures] == [("exception", 2)]
    assert sorted(blobs(fleet)) == ASSETS[:4]
    (tmp_path / "bad").unlink()
    assert fleet.train(recipes=["shared"], judge=False, failed=True).ok == 2
    assert lines(tmp_path / "fits")[-1] == "['south'] 2"
    assert fleet.train(recipes=["shared"], judge=False).skipped == len(ASSETS)


def test_an_asset_too_short_to_learn_from_fails_alone(tmp_path: Path) -> None:
    data = hourly(ASSETS, 20)
    short = (data["unique_id"] == "a3") & (data["ds"] < data["ds"].max() - pd.Timedelta("20h"))
    fleet = world(tmp_path, TREES, data=data[~short])
    for verb in (lambda: fleet.backtest(recipes=["shared"]), lambda: fleet.train(recipes=["shared"], judge=False)):
        report = verb()
        assert (report.ok, report.failed) == (5, 1)
        assert [(group.asset_id, group.cause) for group in report.failures] == [("a3", "too_short")]


def test_the_decision_is_each_asset_s_own_and_its_champion_issues(tmp_path: Path) -> None:
    fleet = world(tmp_path, TREES)
    report = fleet.train(promote=True)
    assert report.clean
    assert report.ok == len(ASSETS)
    champions = {row["recipe"] for row in fleet.store.sql("select recipe from champions").rows()}
    assert champions == {"shared", "naive"}, "the one is best here, the other there"
    assert fleet.train(promote=True).skipped == len(ASSETS)
    assert fleet.forecast().ok == len(ASSETS)


@pytest.mark.slow
def test_the_rows_are_the_same_with_any_number_of_workers(tmp_path: Path) -> None:
    one, two = (world(tmp_path / str(workers), TREES) for workers in (1, 2))
    for fleet, workers in ((one, 1), (two, 2)):
        fleet.train(promote=True, workers=workers)
        fleet.forecast(workers=workers)
    for table in ("forecasts", "scores", "champions"):
        assert without_ids(one.store, table) == without_ids(two.store, table)
    assert blobs(one) == blobs(two)


def test_no_model_knows_more_than_the_issues_that_it_serves(tmp_path: Path) -> None:
    """a1 is three hours late and a2 ten days."""
    data = hourly(ASSETS, 30)
    ends = {"a1": pd.Timedelta("3h"), "a2": pd.Timedelta("10D")}
    last = data["ds"].max()
    late = np.logical_or.reduce([(data["unique_id"] == name) & (data["ds"] > last - by) for name, by in ends.items()])
    fleet = world(tmp_path, TREES, data=data[~late])
    assert fleet.backtest(recipes=["shared"]).clean
    fleet.train(recipes=["shared"], judge=False)
    runs = fleet.store.sql("select asset_id, kind, train_end from runs").rows()
    ends_at = {(row["asset_id"], row["kind"]): pd.Timestamp(row["train_end"]) for row in runs}
    for name in ASSETS:
        seen = last - ends.get(name, ends["a1"])
        assert ends_at[name, "train"] == seen.tz_convert("UTC")
    first = fleet.store.sql("select asset_id, min(issue_time) as at from forecasts group by 1").rows()
    assert all(ends_at[row["asset_id"], "backtest"] < pd.Timestamp(row["at"]) for row in first)
    found = blobs(fleet)
    assert found["a1"] == found["a0"]
    assert found["a2"] != found["a0"]
    fleet.promote("shared")
    assert fleet.forecast().ok == len(ASSETS), "every version may issue at the end of its asset's data"


def test_a_vectorised_model_is_given_many_and_says_what_it_says_one_by_one(tmp_path: Path) -> None:
    singly = MODELS.replace("def fit_many", "def not_many")
    many, single = (
        world(tmp_path / "many", own(tmp_path / "many", "Each"), MODELS),
        world(tmp_path / "single", own(tmp_path / "single", "Each"), singly),
    )
    for fleet in (many, single):
        fleet.backtest(recipes=["shared"])
        fleet.train(recipes=["shared"], judge=False)
        fleet.promote("shared")
        fleet.forecast()
    assert max(map(int, lines(tmp_path / "many" / "calls"))) > 1
    assert lines(tmp_path / "single" / "calls") == []
    text = "select asset_id, role, issue_time, valid_time, mean from forecasts order by all"
    assert many.store.sql(text).rows() == single.store.sql(text).rows()


def test_where_a_vectorised_call_fails_the_assets_are_asked_one_by_one(tmp_path: Path) -> None:
    data = hourly(ASSETS, 20)
    high = (data["unique_id"] == "a1") & (data["ds"] == data["ds"].max())
    fleet = world(tmp_path, own(tmp_path, "Each"), MODELS, data=data.assign(y=data["y"].mask(high, 1000.0)))
    report = fleet.train(recipes=["shared"], judge=False)
    assert (report.ok, report.failed) == (5, 1)
    assert [(group.asset_id, group.cause) for group in report.failures] == [("a1", "exception")]


def test_days_of_another_clock_are_in_one_group(tmp_path: Path) -> None:
    """Zones differ, the step does not; what learns together is told apart by the step."""
    fleet = world(tmp_path, TREES)
    text = (tmp_path / "fleet.toml").read_text()
    (tmp_path / "fleet.toml").write_text(text + '\n[overrides."asset=a3".fleet]\ntimezone = "Asia/Tokyo"\n')
    fleet = Fleet.open(tmp_path / "fleet.toml", clock=fleet.clock)
    fleet.train(recipes=["shared"], judge=False)
    assert len(set(blobs(fleet).values())) == 1
