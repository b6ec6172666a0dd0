"""What the ledger of decisions may say: nothing that did not happen, nothing that an older state of affairs gave."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from fleet import Fleet
from fleet.errors import ConfigInvalid
from store.clock import FixedClock
from tests.walks.small import fleet_in, hourly

ASSETS = tuple(f"site-{number}" for number in range(4))
CONFIG = """
[fleet]
name = "decisions"
horizon = 24
seasons = [24]

[recipes.far]
adapter = "seasonal_naive"
season = 120

[recipes.mine]
adapter = "MODELS:Mine"

[train]
workers = 1
fallback = ["far"]

[backtest]
origins = 2

[promotion]
min_points = 24
margin = 0.0
"""
# Repeats yesterday; `far`, which repeats what is five days old, cannot keep up with series that drift.
MINE = """
import numpy as np


class Mine:
    def fit(self, y, X, task):
        BROKEN
        self.name = task.static["asset_id"]
        return self

    def predict(self, y, X, task):
        last = y.to_numpy()[-24:]
        return task.frame(np.resize(last, task.horizon) )

    SAVE

    def load(self, blob):
        return self
"""
KEEPS = "def save(self):\n        return ('mine of ' + self.name).encode()"


def model(*, broken: str = "pass", save: str = KEEPS) -> str:
    return MINE.replace("BROKEN", broken).replace("SAVE", save)


def later(fleet: Fleet) -> None:
    assert isinstance(fleet.clock, FixedClock)
    fleet.clock.advance(hours=1)


def test_a_recipe_that_begins_to_fail_is_not_judged_by_its_past(tmp_path: Path) -> None:
    with fleet_in(tmp_path / "fleet", CONFIG, model()) as fleet:
        fleet.ingest(hourly(ASSETS, 20))
        fleet.train(promote=True)
        later(fleet)
        assert {row["recipe"] for row in fleet.leaderboard().rows() if row["missing"]} == set()
    with fleet_in(tmp_path / "fleet", CONFIG, model(broken="raise ValueError('broken today')")) as fleet:
        later(fleet)
        later(fleet)
        report = fleet.train(promote=True)
        assert report.failed == 0
        assert [(group.recipe, group.count) for group in report.failures] == [("mine", len(ASSETS))]
        board = {row["recipe"]: (row["assets"], row["missing"]) for row in fleet.leaderboard().rows()}
        assert board == {"far": (len(ASSETS), 0), "mine": (0, len(ASSETS))}
        assert set(fleet.store.table("champions")["recipe"].to_pylist()) == {"far"}


def test_a_model_that_cannot_be_kept_is_refused_before_it_is_chosen(tmp_path: Path) -> None:
    locked = model(broken="self.lock = __import__('threading').Lock()", save="pass")
    with fleet_in(tmp_path / "fleet", CONFIG, locked) as fleet:
        fleet.ingest(hourly(ASSETS, 20))
        report = fleet.train(promote=True)
        assert (report.ok, report.failed) == (len(ASSETS), 0)
        assert [group.cause for group in report.failures] == ["unpicklable"]
        assert set(fleet.store.table("champions")["recipe"].to_pylist()) == {"far"}


def test_a_fit_that_fails_promotes_nobody_and_is_written_down_as_such(tmp_path: Path) -> None:
    judged_only = "if len(y) == 20 * 24: raise ValueError('the newest window is too much')"
    with fleet_in(tmp_path / "fleet", CONFIG, model(broken=judged_only)) as fleet:
        fleet.ingest(hourly(ASSETS, 20))
        report = fleet.train(promote=True)
        decisions = fleet.store.table("decisions").to_pylist()
        unfit = {row["asset_id"] for row in decisions if row["verdict"] == "not_fitted"}
        assert unfit
        assert report.failed == len(unfit)
        assert unfit.isdisjoint(fleet.store.table("champions")["asset_id"].to_pylist())


def test_a_damaged_blob_costs_its_own_asset(tmp_path: Path) -> None:
    with fleet_in(tmp_path / "fleet", CONFIG, model()) as fleet:
        fleet.ingest(hourly(ASSETS, 20))
        fleet.train(promote=True)
        champions = fleet.store.table("champions").to_pylist()
        victim = next(row["asset_id"] for row in champions if row["recipe"] == "mine").encode()
        for pack in (fleet.store.path / "packs").iterdir():
            pack.chmod(0o644)
            pack.write_bytes(pack.read_bytes().replace(b"mine of " + victim, b"nine of " + victim))
        report = fleet.forecast()
        assert (report.ok, report.fell_back, report.failed) == (len(ASSETS) - 1, 1, 0)
        assert report.failures[0].asset_id == victim.decode()


def test_an_asset_silent_for_longer_than_the_window_is_given_the_level_of_its_peers(tmp_path: Path) -> None:
    history = hourly(ASSETS, 20)
    silent = (history.unique_id == "site-1") & (history.ds >= history.ds.min() + pd.Timedelta(days=5))
    config = CONFIG.replace("[train]", '[train]\nwindow = "10d"')
    with fleet_in(tmp_path / "fleet", config, model()) as fleet:
        fleet.ingest(history[~silent])
        fleet.train(promote=True)
        report = fleet.forecast(issue_time=(history.ds.max() + pd.Timedelta(hours=1)).to_pydatetime())
        assert (report.ok, report.fell_back, report.failed) == (len(ASSETS) - 1, 1, 0)
        rows = fleet.store.table("forecasts", where={"role": "fallback"})
        assert (set(rows["asset_id"].to_pylist()), rows.num_rows) == ({"site-1"}, 24)


def test_what_a_model_prints_never_reaches_the_data(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for workers in (1, 2):
        with fleet_in(tmp_path / f"fleet-{workers}", CONFIG, model(broken="print('HELLO')")) as fleet:
            fleet.ingest(hourly(ASSETS, 20))
            fleet.train(promote=True, workers=workers)
        out, err = capfd.readouterr()
        assert "HELLO" not in out
        assert "HELLO" in err


def test_an_early_issue_does_not_blank_the_scale_of_the_rest(tmp_path: Path) -> None:
    history = hourly(ASSETS, 22)
    end = history.ds.min() + pd.Timedelta(days=20)
    with fleet_in(tmp_path / "fleet", CONFIG, model()) as fleet:
        fleet.ingest(history[history.ds < end])
        fleet.train(promote=True)
        fleet.forecast()
        later(fleet)
        fleet.forecast(issue_time=(end - pd.Timedelta(days=15)).to_pydatetime())
        fleet.ingest(history)
        fleet.score()
        rows = fleet.leaderboard(role="live", metrics=["mae", "mase_24"]).rows()
        assert rows
        assert all(row["mase_24"] is not None for row in rows)


def test_naming_no_recipe_is_refused(tmp_path: Path) -> None:
    with fleet_in(tmp_path / "fleet", CONFIG, model()) as fleet:
        fleet.ingest(hourly(ASSETS, 20))
        with pytest.raises(ConfigInvalid, match="no recipe is named"):
            fleet.train(recipes=[])
