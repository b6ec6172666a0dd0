"""Who is due: the failed, the stale, and nobody else; and what a verb would do, told without doing it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from fleet import Fleet
from fleet.errors import ConfigInvalid
from fleet.outcome import Report
from store.clock import FixedClock
from tests.walks.small import BEGIN, counts, fleet_in, hourly

ASSETS = tuple(f"site-{number}" for number in range(4))
CONFIG = """
[fleet]
name = "due"
horizon = 24
seasons = [24]

[recipes.far]
adapter = "seasonal_naive"
season = 120

[recipes.mine]
adapter = "MODELS:Mine"

[train]
workers = 1
stale_after = "2d"
fallback = ["far"]

[backtest]
origins = 2

[promotion]
min_points = 24
margin = 0.0
"""
# Repeats yesterday, which beats what is five days old on the series that drift.
MINE = """
import numpy as np


class Mine:
    def fit(self, y, X, task):
        FIT
        return self

    def predict(self, y, X, task):
        PREDICT
        return task.frame(np.resize(y.to_numpy()[-24:], task.horizon))

    def save(self):
        return b"mine"

    def load(self, blob):
        return self
"""
#: site-0 drifts, and `mine` is its best recipe by far.
NEWEST_ONLY = "if len(y) == 20 * 24 and task.static['asset_id'] == 'site-0': raise ValueError('too much')"
LIVE_ONLY = "if task.target[0].day == 21 and task.static['asset_id'] == 'site-0': raise ValueError('not today')"


def model(*, fit: str = "pass", predict: str = "pass") -> str:
    return MINE.replace("FIT", fit).replace("PREDICT", predict)


def made(folder: Path, models: str | None = None) -> Fleet:
    return fleet_in(folder, CONFIG, model() if models is None else models)


def later(fleet: Fleet, hours: float = 1) -> None:
    assert isinstance(fleet.clock, FixedClock)
    fleet.clock.advance(hours=hours)


def touched(fleet: Fleet, report: Report) -> dict[str, str]:
    """Asset to its status in a job."""
    rows = fleet.store.sql("select asset_id, status from outcomes where slot = $slot", {"slot": report.slot}).rows()
    return {row["asset_id"]: row["status"] for row in rows}


# -- the failed ----------------------------------------------------------------------------------------------------


def test_the_failed_of_the_last_training_are_trained_again_and_then_nobody_is(tmp_path: Path) -> None:
    with made(tmp_path / "fleet", model(fit=NEWEST_ONLY)) as fleet:
        fleet.ingest(hourly(ASSETS, 20))
        report = fleet.train(promote=True)
        assert (report.failed, report.ok) == (1, 3)
        assert report.retry == "fleet.train(failed=True)"
    with made(tmp_path / "fleet") as fleet:
        later(fleet)
        later(fleet)
        mended = fleet.train(promote=True, failed=True)
        assert (mended.ok, mended.assets, mended.retry) == (1, 1, "")
        assert touched(fleet, mended) == {"site-0": "ok"}
        later(fleet)
        before = fleet.store.head()
        again = fleet.train(promote=True, failed=True)
        assert (again.assets, again.clean) == (0, True)
        assert "nothing is due" in again.notes[0]
        assert fleet.store.head() == before


def test_an_asset_that_is_in_order_without_any_work_has_not_failed_any_more(tmp_path: Path) -> None:
    """It was overtaken by hand: nothing is left to fit, yet its last word must not stay a failure."""
    with made(tmp_path / "fleet") as fleet:
        fleet.ingest(hourly(ASSETS, 20))
        fleet.train(recipes=["far"], judge=False)
        later(fleet)

        def overtaken(progress: object) -> None:
            if getattr(progress, "doing", "") == "fitting" and fleet.store.table("champions").num_rows == 0:
                with made(tmp_path / "fleet") as other:
                    later(other, 2)
                    other.promote("far", select=["site-0"])

        report = fleet.train(promote=True, progress=overtaken)
        assert (report.ok, report.failed) == (3, 1)
        assert [(group.cause, group.asset_id) for group in report.failures] == [("cancelled", "site-0")]
        later(fleet, 3)
        again = fleet.train(promote=True, failed=True)
        assert (again.assets, again.ok) == (1, 1)
        assert fleet.train(promote=True, failed=True).assets == 0


def test_a_recipe_that_failed_to_be_judged_makes_its_asset_due_for_judging(tmp_path: Path) -> None:
    broken = "if task.static['asset_id'] in ('site-1', 'site-2'): raise ValueError('broken')"
    with made(tmp_path / "fleet", model(fit=broken)) as fleet:
        fleet.ingest(hourly(ASSETS, 20))
        # Another recipe takes over, so the training itself is well; the judgement of `mine` is not.
        assert fleet.train(promote=True).clean
        assert fleet.train(promote=True, failed=True).assets == 0
        later(fleet)
        report = fleet.backtest(failed=True)
        assert (report.assets, report.failed) == (2, 2)
    with made(tmp_path / "fleet") as fleet:
        later(fleet)
        later(fleet)
        assert fleet.backtest(failed=True, select="site-1").ok == 1
        assert fleet.backtest(failed=True).assets == 1
        assert fleet.backtest(failed=True).assets == 0


def test_a_forecast_that_fell_back_is_issued_again_and_what_stood_in_is_kept(tmp_path: Path) -> None:
    with made(tmp_path / "fleet", model(predict=LIVE_ONLY)) as fleet:
        fleet.ingest(hourly(ASSETS, 20))
        fleet.train(promote=True)
        later(fleet)
        report = fleet.forecast()
        assert (report.ok, report.fell_back) == (3, 1)
        assert report.retry == "fleet.forecast(failed=True)"
        later(fleet)
        # Without a cure the retry falls back again, and leaves as many rows as there were.
        rows = counts(fleet.store)["forecasts"]
        assert fleet.forecast(failed=True).fell_back == 1
        assert counts(fleet.store)["forecasts"] == rows
    with made(tmp_path / "fleet") as fleet:
        later(fleet, 3)
        fleet.train(promote=True)
        later(fleet)
        report = fleet.forecast(failed=True)
        assert (report.assets, report.ok) == (1, 1)
        roles = fleet.store.sql("select role, count(*) as n from forecasts where asset_id = 'site-0' "
                                "and role <> 'backtest' group by role").rows()  # fmt: skip
        assert {row["role"]: row["n"] for row in roles} == {"champion": 24, "fallback": 24}
        published = fleet.store.table("published", assets=["site-0"])
        assert set(published["role"].to_pylist()) == {"champion"}
        assert fleet.forecast(failed=True).assets == 0


# -- the stale -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("days", "due"), [(20, 0), (21, 0), (22, 4), (30, 4)])
def test_a_champion_is_stale_when_its_training_ended_that_long_before_the_newest_reading(
    tmp_path: Path, days: int, due: int
) -> None:
    with made(tmp_path / "fleet") as fleet:
        fleet.ingest(hourly(ASSETS, 20))
        fleet.train(promote=True)
        fleet.ingest(hourly(ASSETS, days))
        later(fleet)
        assert fleet.status()["stale"] == due
        report = fleet.train(promote=True, stale=True)
        assert (report.assets, report.ok) == (due, due)
        later(fleet)
        assert fleet.status()["stale"] == 0
        assert fleet.train(promote=True, stale=True).assets == 0


def test_an_asset_without_a_champion_is_stale_and_only_the_stale_are_touched(tmp_path: Path) -> None:
    with made(tmp_path / "fleet") as fleet:
        fleet.ingest(hourly(ASSETS, 20))
        fleet.train(promote=True, select=ASSETS[:2])
        # One of the two gets three days more, so it is stale as well.
        history = hourly(ASSETS, 23)
        fleet.ingest(history[(history["unique_id"] == "site-0") | (history["ds"] < BEGIN + pd.Timedelta(days=20))])
        later(fleet)
        report = fleet.train(promote=True, stale=True)
        assert touched(fleet, report) == {"site-0": "ok", "site-2": "ok", "site-3": "ok"}


def test_failed_and_stale_are_both_due_and_a_selection_cuts_them(tmp_path: Path) -> None:
    with made(tmp_path / "fleet", model(fit=NEWEST_ONLY)) as fleet:
        fleet.ingest(hourly(ASSETS, 20))
        fleet.train(promote=True, select=["site-0", "site-1"])
        later(fleet)
        # site-0 failed, site-2 and site-3 have no champion, site-1 is well.
        planned = fleet.train(promote=True, failed=True, stale=True, dry_run=True)
        assert planned.assets == 3
        assert fleet.train(promote=True, failed=True, stale=True, select="site-[01]", dry_run=True).assets == 1


# -- told and not done ---------------------------------------------------------------------------------------------


def said(report: Report) -> dict[tuple[str, str | None], int]:
    assert report.planned is not None
    return {(row.act, row.recipe): row.assets for row in report.planned}


def test_what_is_told_is_what_is_done(tmp_path: Path) -> None:
    """Of the store and of the plan: a read-only fleet tells, another does, and the runs are the ones that were told."""
    with made(tmp_path / "fleet") as fleet:
        fleet.ingest(hourly(ASSETS, 20))
        fleet.backtest(recipes=["far"])
        head = fleet.store.head()
        with Fleet.open(tmp_path / "fleet" / "fleet.toml", read_only=True, clock=fleet.clock) as looking:
            train, backtest = looking.train(promote=True, dry_run=True), looking.backtest(dry_run=True)
            ready = looking.forecast(dry_run=True)
            fits = looking.train(judge=False, recipes=["mine"], dry_run=True)
        assert fleet.store.head() == head
        assert said(backtest) == {("judge", "mine"): 4}
        assert said(train) == {("judge", "mine"): 4, ("fit", None): 4}
        assert said(fits) == {("fit", "mine"): 4}
        assert said(ready) == {("issue", None): 4}
        assert (train.assets, train.skipped, train.rows) == (4, 0, {})
        later(fleet)
        fleet.train(promote=True)
        runs = Counter((row["kind"], row["recipe"]) for row in fleet.store.table("runs").to_pylist())
        assert runs["backtest", "mine"] == 4
        assert sum(number for (kind, _), number in runs.items() if kind == "train") == 4
        later(fleet)
        champions = Counter(fleet.store.table("champions")["recipe"].to_pylist())
        assert said(fleet.forecast(dry_run=True)) == {("issue", recipe): n for recipe, n in champions.items()}
        fleet.forecast()
        for nothing in (
            fleet.forecast(dry_run=True), fleet.train(promote=True, dry_run=True), fleet.backtest(dry_run=True)
        ):  # fmt: skip
            assert (said(nothing), nothing.skipped, nothing.assets) == ({}, 4, 4)
        assert said(fleet.forecast(reissue=True, dry_run=True)) == {("issue", r): n for r, n in champions.items()}
        assert said(fleet.backtest(force=True, dry_run=True)) == {("judge", "far"): 4, ("judge", "mine"): 4}


def test_fits_whose_judging_is_done_are_told_by_name(tmp_path: Path) -> None:
    with made(tmp_path / "fleet") as fleet:
        fleet.ingest(hourly(ASSETS, 20))
        fleet.backtest()
        later(fleet)
        planned = said(fleet.train(promote=True, dry_run=True))
        fleet.train(promote=True)
        runs = Counter(row["recipe"] for row in fleet.store.table("runs", where={"kind": "train"}).to_pylist())
        assert planned == {("fit", recipe): number for recipe, number in runs.items()}
        assert len(runs) == 2


# -- which assets --------------------------------------------------------------------------------------------------


def test_one_text_is_one_glob_and_an_empty_condition_is_refused(tmp_path: Path) -> None:
    with made(tmp_path / "fleet") as fleet:
        fleet.ingest(hourly(ASSETS, 20))
        assert fleet.backtest(select="site-1", recipes=["far"]).assets == 1
        for verb in (fleet.backtest, fleet.train, fleet.forecast, fleet.leaderboard, fleet.worst):
            with pytest.raises(ConfigInvalid, match="where is empty"):
                verb(where=" ")


def test_an_asset_without_readings_is_forecast_with_the_newest_of_the_fleet_although_it_is_alone(
    tmp_path: Path,
) -> None:
    register = tmp_path / "fleet" / "assets.csv"
    register.parent.mkdir()
    register.write_text("asset_id\n" + "\n".join([*ASSETS, "empty"]) + "\n", encoding="utf-8")
    hourly(ASSETS, 20).to_parquet(tmp_path / "fleet" / "history.parquet")
    config = CONFIG + '\n[data]\npath = "history.parquet"\n\n[assets]\npath = "assets.csv"\n'
    with fleet_in(tmp_path / "fleet", config, model()) as fleet:
        fleet.ingest()
        fleet.train(promote=True)
        later(fleet)
        assert fleet.forecast(select="empty").fell_back == 1
        later(fleet)
        assert fleet.forecast(failed=True).fell_back == 1
        issues = fleet.store.sql("select distinct issue_time from forecasts where asset_id = 'empty'").rows()
        assert [row["issue_time"] for row in issues] == [BEGIN + pd.Timedelta(days=20)]


# -- what mase divides by ------------------------------------------------------------------------------------------


def test_older_history_renews_the_scale_and_makes_nothing_due(tmp_path: Path) -> None:
    config = CONFIG.replace("[train]", '[train]\nwindow = "10d"').replace("seasons = [24]", "seasons = [24, 168]")
    history = hourly(ASSETS, 30)
    with fleet_in(tmp_path / "late", config, model()) as fleet:
        fleet.ingest(history[history["ds"] >= BEGIN + pd.Timedelta(days=15)])
        fleet.train(promote=True)
        before = counts(fleet.store)
        fleet.ingest(history)
        later(fleet)
        report = fleet.train(promote=True)
        assert (report.ok, report.skipped) == (0, len(ASSETS))
        after = counts(fleet.store)
        for table in ("runs", "versions", "forecasts", "scores", "decisions", "scales"):
            assert after[table] == before[table], table
        late = fleet.store.table("scales")
        later(fleet)
        head = fleet.store.head()
        fleet.train(promote=True)
        assert fleet.store.head() == head
    with fleet_in(tmp_path / "whole", config, model()) as fleet:
        fleet.ingest(history)
        fleet.train(promote=True)
        assert fleet.store.table("scales").equals(late)


def test_a_board_says_how_many_assets_were_judged_on_readings_that_were_revised_since(tmp_path: Path) -> None:
    with made(tmp_path / "fleet") as fleet:
        history = hourly(ASSETS, 22)
        known = history[history["ds"] < BEGIN + pd.Timedelta(days=20)]
        fleet.ingest(known)
        fleet.backtest()
        assert fleet.leaderboard().outdated == 0
        later(fleet)
        fleet.ingest(history)
        assert fleet.leaderboard().outdated == 0, "what came after the judged days revises nothing"
        revised = known[(known["unique_id"] != "site-2") & (known["ds"] == known["ds"].max())].assign(y=0.0)
        fleet.ingest(revised)
        assert fleet.leaderboard().outdated == 3
        assert fleet.leaderboard(select="site-[12]").outdated == 1
        later(fleet)
        fleet.backtest()
        assert fleet.leaderboard().outdated == 0
