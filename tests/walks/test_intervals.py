"""Intervals out of past errors, in a whole fleet: no leak, the same again, told apart, and fairly compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fleet import Fleet
from fleet.intervals import margins
from tests.walks.small import fleet_in, hourly

pytestmark = pytest.mark.slow  # the whole cycle again and again

ASSETS = ("a", "b", "c")
LEVELS = (0.1, 0.5, 0.9)
NAMES = ["q10", "q50", "q90"]
DAYS = 30
CONFIG = """
[fleet]
quantiles = [0.1, 0.5, 0.9]
horizon = 24
seasons = [24]

[recipes.day]
adapter = "seasonal_naive"
season = 24

[recipes.lines]
adapter = "sklearn"
estimator = "sklearn.linear_model.Ridge"
lags = [24, 48]

[recipes.spread]
adapter = "MODELS:Spread"

[train]
workers = 1
fallback = ["day", "mean"]

[backtest]
first = "2024-03-10T00:00Z"
origins = ORIGINS
stride = "STRIDE"

[promotion]
min_points = 24
"""
SPREAD = '''
"""The last day again; where its name says so, with ends that cross."""
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Spread:
    def fit(self, y, X, task):
        return self

    def predict(self, y, X, task):
        mean = y.to_numpy()[-24:]
        return task.frame(mean, {0.1: mean + 1, 0.5: mean, 0.9: mean - 1})

    def save(self):
        return b""

    def load(self, blob):
        return self
'''


def made(folder: Path, *, origins: int = 8, stride: str = "24h", more: str = "") -> Fleet:
    config = CONFIG.replace("ORIGINS", str(origins)).replace("STRIDE", stride)
    fleet = fleet_in(folder, config + more, SPREAD)
    fleet.ingest(hourly(ASSETS, DAYS))
    return fleet


def rows_of(fleet: Fleet, role: str) -> pd.DataFrame:
    query = f"select * from forecasts where role = '{role}' order by asset_id, recipe, issue_time, valid_time"
    return fleet.store.sql(query).df()


def expected(judged: pd.DataFrame, issue: pd.Timestamp) -> np.ndarray | None:
    """(levels, steps) margins from the rows of one asset and recipe whose readings had ended by an issue."""
    known = judged[judged["issue_time"] < issue]
    ended = known["valid_time"] + pd.Timedelta(hours=1) <= issue
    known = known.assign(error=(known["y"] - known["mean"]).where(ended))
    return margins(known.pivot_table("error", "issue_time", "step", dropna=False).to_numpy(), LEVELS)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    fleet = made(tmp_path_factory.mktemp("judged"))
    assert fleet.backtest().ok == len(ASSETS)
    return fleet


def with_truth(fleet: Fleet) -> pd.DataFrame:
    actuals = hourly(ASSETS, DAYS).rename(columns={"unique_id": "asset_id", "ds": "valid_time"})
    return rows_of(fleet, "backtest").merge(actuals, on=["asset_id", "valid_time"])


def test_each_origin_has_its_intervals_from_what_the_ones_before_it_missed(judged: Fleet) -> None:
    frame = with_truth(judged)
    for (asset, recipe), mine in frame[frame["recipe"] != "spread"].groupby(["asset_id", "recipe"]):
        for issue, rows in mine.groupby("issue_time"):
            table = expected(mine, issue)
            if table is None:
                assert rows[NAMES].isna().all(axis=None)
                assert set(rows["quality"]) == {"ok"}
                continue
            assert set(rows["quality"]) == {"conformal"}
            wanted = rows["mean"].to_numpy()[:, None] + table.T
            np.testing.assert_allclose(rows[NAMES].to_numpy(), wanted, rtol=1e-12, err_msg=f"{asset} {recipe} {issue}")
    counts = frame[frame["recipe"] == "day"].groupby("issue_time")["q10"].count()
    assert (counts > 0).tolist() == [False] * 3 + [True] * 5


def test_ends_that_cross_are_put_in_order_and_the_model_keeps_its_own(judged: Fleet) -> None:
    mine = rows_of(judged, "backtest").query("recipe == 'spread'")
    assert set(mine["quality"]) == {"crossing_repaired"}
    assert np.allclose(mine["q90"] - mine["q10"], 2)
    assert np.allclose(mine["q50"], mine["mean"])


def test_later_origins_and_later_data_change_no_earlier_interval(judged: Fleet, tmp_path: Path) -> None:
    config = CONFIG.replace("ORIGINS", "5").replace("STRIDE", "24h")
    shorter = fleet_in(tmp_path, config, SPREAD)
    shorter.ingest(hourly(ASSETS, 15))
    shorter.backtest()
    mine, theirs = rows_of(shorter, "backtest"), rows_of(judged, "backtest")
    theirs = theirs[theirs["issue_time"] <= mine["issue_time"].max()].reset_index(drop=True)
    assert mine["q10"].notna().any()
    columns = ["asset_id", "recipe", "issue_time", "valid_time", "mean", *NAMES, "quality"]
    pd.testing.assert_frame_equal(mine[columns], theirs[columns])


def test_a_second_run_judges_nothing(judged: Fleet) -> None:
    assert judged.backtest().skipped == len(ASSETS)


def test_what_is_issued_has_the_intervals_of_its_own_recipe_and_reissued_the_same(tmp_path: Path) -> None:
    fleet = made(tmp_path)
    fleet.train(promote=True)
    for recipe, assets in (("lines", ["a", "b"]), ("day", ["c"])):
        fleet.train(recipes=[recipe], judge=False)
        fleet.promote(recipe, select=assets)
    fleet.forecast()
    issued, judged = rows_of(fleet, "champion"), with_truth(fleet)
    assert set(issued["recipe"]) == {"lines", "day"}
    assert set(issued["quality"]) == {"conformal"}
    for (asset, recipe), rows in issued.groupby(["asset_id", "recipe"]):
        mine = judged[(judged["asset_id"] == asset) & (judged["recipe"] == recipe)]
        table = expected(mine, issued["issue_time"].max())
        assert table is not None
        np.testing.assert_allclose(rows[NAMES].to_numpy(), rows["mean"].to_numpy()[:, None] + table.T, rtol=1e-12)
    fleet.close()
    with Fleet.open(tmp_path / "fleet.toml") as again:
        again.forecast(reissue=True)
        columns = [name for name in issued if name != "created_at"]
        pd.testing.assert_frame_equal(rows_of(again, "champion")[columns], issued[columns])


def test_an_issue_of_the_past_knows_only_the_errors_of_its_time(tmp_path: Path) -> None:
    fleet = made(tmp_path)
    fleet.backtest(recipes=["day"])
    # The eight origins are those of the 10th to the 17th; on the 15th the errors of five of them are known.
    for day, there in ((12, False), (15, True)):
        fleet.forecast(issue_time=pd.Timestamp(f"2024-03-{day}T00:00Z").to_pydatetime())
        issued, judged = rows_of(fleet, "fallback"), with_truth(fleet)
        issued = issued[issued["issue_time"] == pd.Timestamp(f"2024-03-{day}", tz="UTC")]
        assert set(issued["recipe"]) == {"day"}
        assert set(issued["quality"]) == {"conformal+fallback" if there else "fallback"}
        for asset, rows in issued.groupby("asset_id"):
            table = expected(judged[judged["asset_id"] == asset], issued["issue_time"].max())
            assert (table is not None) == there
            if table is not None:
                np.testing.assert_allclose(rows[NAMES].to_numpy(), rows["mean"].to_numpy()[:, None] + table.T)


@pytest.mark.parametrize("stride", ["24h", "6h"])
def test_recipes_are_compared_where_all_of_them_have_intervals(tmp_path: Path, stride: str) -> None:
    """Six hours apart the points with and without intervals lie in the same cells."""
    fleet = made(tmp_path, origins=12, stride=stride)
    fleet.backtest()
    board = fleet.leaderboard(metrics=["coverage_80", "winkler_80", "mean_pinball", "mae"]).df().set_index("recipe")
    frame = with_truth(fleet)
    frame["e"] = (frame["y"] - frame["mean"]).abs()
    complete = frame.groupby(["asset_id", "issue_time", "valid_time"])["q10"].transform(lambda q: q.notna().all())
    shared = frame[complete].copy()
    assert 0 < len(shared) < len(frame)
    shared["covered"] = shared["y"].between(shared["q10"], shared["q90"]).astype(float)
    outside = (shared["q10"] - shared["y"]).clip(lower=0) + (shared["y"] - shared["q90"]).clip(lower=0)
    shared["winkler"] = shared["q90"] - shared["q10"] + 2 / 0.2 * outside
    short = {level: shared["y"] - shared[name] for level, name in zip(LEVELS, NAMES, strict=True)}
    losses = [np.maximum(level * under, (level - 1) * under) for level, under in short.items()]
    shared["pinball"] = np.mean(losses, axis=0)
    means = shared.groupby(["recipe", "asset_id"])[["covered", "winkler", "pinball"]].mean().groupby("recipe").mean()
    means["mae"] = frame.groupby(["recipe", "asset_id"])["e"].mean().groupby("recipe").mean()
    found = board.loc[means.index, ["coverage_80", "winkler_80", "mean_pinball", "mae"]]
    np.testing.assert_allclose(found.to_numpy(dtype=float), means.to_numpy(), rtol=1e-9)
    assert (board["undefined"] == 0).all()


def test_recipes_are_promoted_by_their_pinball(tmp_path: Path) -> None:
    fleet = made(tmp_path, more='metric = "mean_pinball"\n')
    fleet.train(promote=True)
    decided = fleet.store.sql("select * from decisions order by asset_id").df()
    board = fleet.leaderboard(metrics=["mean_pinball"], by="asset").df()
    best = board.sort_values("mean_pinball").groupby("asset").first()
    assert decided["challenger"].tolist() == best["recipe"].tolist()
    assert decided["challenger_value"].tolist() == pytest.approx(best["mean_pinball"].tolist())
    assert set(decided["n"]) == {5 * 24}  # of eight days those with intervals


def test_without_quantiles_in_the_configuration_there_are_none(tmp_path: Path) -> None:
    config = CONFIG.replace("ORIGINS", "5").replace("STRIDE", "24h").replace("quantiles = [0.1, 0.5, 0.9]", "")
    fleet = fleet_in(tmp_path, config.replace('[recipes.spread]\nadapter = "MODELS:Spread"\n', ""), SPREAD)
    fleet.ingest(hourly(ASSETS, DAYS))
    fleet.train(promote=True)
    fleet.forecast()
    names = set(rows_of(fleet, "backtest")) | set(fleet.store.sql("select * from scores limit 1").df())
    assert not {name for name in names if name.startswith(("q0", "q1", "q5", "q9", "n_q", "pinball"))}
