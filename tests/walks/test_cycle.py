"""What one cycle of the main job leaves behind, against pandas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.walks.cycles import ASSETS, END, TZ, Done, data, errors, everything
from tests.walks.small import counts

# -- what a cycle leaves behind ------------------------------------------------------------------------------------


def test_every_asset_is_judged_trained_and_forecast(done: Done) -> None:
    assert {name: (report.ok, report.clean) for name, report in done.reports.items()} == dict.fromkeys(
        ("backtest", "train", "forecast", "score"), (len(ASSETS), True)
    )
    rows = counts(done.fleet.store)
    assert rows["runs"] == len(ASSETS) * (3 + 1)
    assert rows["versions"] == rows["champions"] == rows["decisions"] == len(ASSETS)
    assert rows["forecasts"] == len(ASSETS) * 24 * (3 * 4 + 1)
    assert rows["outcomes"] == len(ASSETS) * 4


def test_backtests_stand_on_the_last_days_that_have_actuals_at_the_same_local_time(done: Done) -> None:
    frame = done.frame("forecasts").query("role == 'backtest'")
    issues = sorted(frame["issue_time"].dt.tz_convert(TZ).unique())
    assert issues == [END - pd.Timedelta(days=number) for number in (4, 3, 2, 1)]
    assert (frame["valid_time"] == frame["issue_time"] + pd.to_timedelta(frame["step"] - 1, unit="h")).all()


def test_a_rule_says_in_the_backtest_what_it_would_have_said_in_life(done: Done) -> None:
    """`day` at a step is the actual of 24 hours before; no clock changes inside the origins' days."""
    frame = done.frame("forecasts").query("role == 'backtest' and recipe == 'day'")
    actuals = data(30).set_index(["unique_id", "ds"])["y"]
    before = frame["valid_time"] - pd.Timedelta(hours=24)
    expected = actuals.loc[list(zip(frame["asset_id"], before, strict=True))].to_numpy()
    np.testing.assert_array_equal(frame["mean"].to_numpy(), expected)


def test_the_champion_is_the_recipe_with_the_lowest_error(done: Done) -> None:
    judged = errors(done.frame("forecasts").query("role == 'backtest'"), data(30))
    best = judged.groupby(["asset_id", "recipe"])["size"].mean().unstack().idxmin(axis=1)
    champions = done.frame("champions").set_index("asset_id")["recipe"]
    assert champions.to_dict() == best.to_dict()
    assert set(best) == {"day", "week", "level"}, "a fleet on which one recipe wins everywhere shows nothing"


def test_decisions_say_by_how_much(done: Done) -> None:
    judged = errors(done.frame("forecasts").query("role == 'backtest'"), data(30))
    mae = judged.groupby(["asset_id", "recipe"])["size"].mean()
    for row in done.fleet.store.table("decisions").to_pylist():
        assert (row["verdict"], row["champion"], row["metric"], row["n"]) == ("promoted", None, "mae", 4 * 24)
        assert row["challenger_value"] == pytest.approx(mae[row["asset_id"], row["challenger"]], rel=1e-9)


def test_issued_forecasts_name_the_version_that_made_them(done: Done) -> None:
    issued = done.frame("forecasts").query("role != 'backtest'")
    assert len(issued) == len(ASSETS) * 24
    assert set(issued["role"]) == {"champion"}
    assert (issued["issue_time"] == END).all()
    versions = done.frame("versions").set_index("version_id")
    for column in ("asset_id", "recipe", "recipe_hash", "run_id"):
        assert (issued[column].to_numpy() == versions.loc[issued["version_id"], column].to_numpy()).all()


def test_quantiles_come_from_the_model_or_from_its_errors_and_say_so(done: Done) -> None:
    frame = done.frame("forecasts")
    own, there = frame["recipe"] == "level", frame[["q10", "q50", "q90"]].notna()
    assert (there.all(axis=1) == there.any(axis=1)).all()
    assert there.loc[own].all(axis=None)
    assert (there["q10"] & ~own == frame["quality"].str.contains("conformal")).all()
    of_others = frame[~own & (frame["role"] == "backtest")].sort_values("issue_time")
    # Four origins a day apart: only the last has the errors of three before it.
    days = of_others.groupby(["asset_id", "recipe", "issue_time"])["q10"].count().groupby(["asset_id", "recipe"])
    assert {tuple(counts > 0) for _, counts in days} == {(False, False, False, True)}


# -- scores against pandas -----------------------------------------------------------------------------------------


CELL = ["asset_id", "recipe", "version_id", "role", "day", "lead_bucket"]


def recomputed(forecasts: pd.DataFrame, actuals: pd.DataFrame) -> pd.DataFrame:
    """The cells by pandas, one definition after the other."""
    frame = errors(forecasts, actuals)
    frame["day"] = frame["valid_time"].dt.tz_convert(TZ).dt.date
    hours = (frame["valid_time"] - frame["issue_time"]) / pd.Timedelta(hours=1)
    labels = ["0-1h", "1-6h", "6-24h", "1-2d", "2-7d", "7d+"]
    frame["lead_bucket"] = pd.cut(hours, [-1, 1, 6, 24, 48, 168, 1e9], right=False, labels=labels).astype(str)
    y, mean = frame["y"], frame["mean"]
    frame["n"] = 1.0
    frame["sum_e"], frame["sum_abs_e"], frame["sum_sq_e"], frame["sum_abs_y"] = (
        frame["e"],
        frame["size"],
        frame["e"] ** 2,
        y.abs(),
    )
    frame["sum_smape"] = 2 * frame["size"] / (y.abs() + mean.abs())
    for level in (10, 50, 90):
        short = y - frame[f"q{level}"]
        frame[f"pinball_sum_q{level}"] = np.maximum(level / 100 * short, (level / 100 - 1) * short)
    inside = (y >= frame["q10"]) & (y <= frame["q90"])
    frame["covered_80"] = inside.astype(float).where(frame["q10"].notna())
    frame["width_sum_80"] = frame["q90"] - frame["q10"]
    outside = (frame["q10"] - y).clip(lower=0) + (y - frame["q90"]).clip(lower=0)
    frame["winkler_sum_80"] = frame["width_sum_80"] + 2 / 0.2 * outside
    sums = [name for name in frame if name == "n" or "sum_" in name or name.startswith("covered")]
    return frame.groupby(CELL)[sums].sum(min_count=1).sort_index()


def same_cells(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    found = found.set_index(CELL)[expected.columns].astype(float).sort_index()
    pd.testing.assert_frame_equal(found, expected.astype(float), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("role", ["backtest", "champion"])
def test_scores_are_what_pandas_makes_of_forecasts_and_actuals(done: Done, role: str) -> None:
    forecasts, scores = (frame[frame["role"] == role] for frame in (done.frame("forecasts"), done.frame("scores")))
    expected = recomputed(forecasts, everything())
    assert expected["n"].sum() == len(forecasts) > 0
    same_cells(scores, expected)


@pytest.mark.parametrize("role", ["backtest", "live"])
def test_the_leaderboard_is_what_pandas_makes_of_them(done: Done, role: str) -> None:
    frame = errors(done.frame("forecasts"), everything())
    frame = frame[(frame["role"] == "backtest") == (role == "backtest")]
    by_asset = frame.groupby(["recipe", "asset_id"])["size"].mean()
    scale = done.frame("scales").query("season == 24")
    origin = END - pd.Timedelta(days=4 if role == "backtest" else 0)
    scale = scale[scale["origin"] == origin].set_index("asset_id")["scale_abs"]
    mase = by_asset / scale.reindex(by_asset.index, level="asset_id")
    board = done.fleet.leaderboard(role=role, metrics=["mae", "mase_24"]).rows()
    assert [row["recipe"] for row in board] == by_asset.groupby("recipe").mean().sort_values().index.to_list()
    for row in board:
        assert row["mae"] == pytest.approx(by_asset[row["recipe"]].mean(), rel=1e-9)
        assert row["mase_24"] == pytest.approx(mase[row["recipe"]].mean(), rel=1e-9)
        assert row["n"] == (frame["recipe"] == row["recipe"]).sum()
        assert row["undefined"] == 0


def test_the_scale_is_the_seasonal_step_of_all_history_before_the_first_origin(done: Done) -> None:
    scales = done.frame("scales").set_index(["asset_id", "origin", "season"])
    for asset in ASSETS[:3]:
        for origin in (END - pd.Timedelta(days=4), END):
            y = data(30).query("unique_id == @asset and ds < @origin")["y"]
            step = y.diff(24).dropna()
            row = scales.loc[(asset, origin.tz_convert("UTC"), 24)]
            assert row["scale_abs"] == pytest.approx(step.abs().mean(), rel=1e-12)
            assert row["scale_sq"] == pytest.approx((step**2).mean(), rel=1e-12)
