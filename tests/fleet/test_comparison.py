"""Paired comparison, worked out by hand on a store of a few points.

Hours are counted from the midnight at which 2024-03-01 begins; actuals are 10 everywhere, so that a forecast of 13 has
an error of 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from fleet import cells, rows
from fleet.comparison import Sums, compared, measured
from fleet.leaderboard import Leaderboard, leaderboard, worst
from fleet.metrics import parse
from fleet.rows import Block
from store import Store

HOUR = 3_600_000_000
MIDNIGHT = datetime(2024, 3, 1, tzinfo=UTC)
START = int(MIDNIGHT.timestamp()) * 1_000_000
ACTUAL = 10.0

Points = Mapping[tuple[int, int], float]


class Past:
    """A store that is told what was forecast; actuals of `ACTUAL` come with the points."""

    def __init__(self, store: Store, tz: str = "UTC") -> None:
        self.store, self.tz = store, tz
        self._known: set[tuple[str, int]] = set()

    def forecast(
        self,
        asset: str,
        recipe: str,
        points: Points,
        *,
        version: str = "v1",
        recipe_hash: str | None = None,
        role: str = "backtest",
        foresight: bool = False,
        q10: float | None = None,
        actuals: Mapping[int, float] | None = None,
        capacity: float | None = None,
    ) -> None:
        """One evaluation: (hour of issue, hour of validity) to the mean."""
        issue, valid = (np.array([pair[place] for pair in points], dtype=np.int64) for place in (0, 1))
        truth = np.array([(actuals or {}).get(hour, ACTUAL) for hour in valid.tolist()])
        block = Block(
            asset_id=asset,
            product="default",
            recipe=recipe,
            recipe_hash=recipe_hash or f"hash of {recipe}",
            version_id=f"{recipe} {version}" if role == "backtest" else version,
            run_id="",
            role=role,
            quality="ok",
            tz=self.tz,
            issue_time=START + issue * HOUR,
            valid_time=START + valid * HOUR,
            step=valid - issue + 1,
            mean=np.array(list(points.values())),
            quantiles={} if q10 is None else {0.1: np.full(len(points), q10), 0.9: np.full(len(points), -q10)},
            foresight=foresight,
            capacity=None if capacity is None else np.full(len(points), capacity),
            truth=truth,
            truth_version=np.ones(len(points), dtype=np.int64),
        )
        table = rows.forecasts([block])
        transaction = self.store.begin()
        transaction.insert("forecasts", table)
        levels = () if q10 is None else (0.1, 0.9)
        transaction.insert("scores", cells.score_cells(rows.judged([block], table), levels=levels))
        new = dict(zip(valid.tolist(), truth.tolist(), strict=True))
        transaction.insert(
            "actuals", [self._actual(asset, h, y) for h, y in new.items() if (asset, h) not in self._known]
        )
        self._known |= {(asset, hour) for hour in new}
        transaction.commit()

    def _actual(self, asset: str, hour: int, y: float) -> dict[str, object]:
        at = MIDNIGHT + timedelta(hours=hour)
        return {"asset_id": asset, "valid_time": at, "y": y, "available_at": at + timedelta(hours=1)}

    def scale(self, asset: str, hour: float, scale_abs: float | None, scale_sq: float | None = None) -> None:
        origin = MIDNIGHT + timedelta(hours=hour)
        row = {"asset_id": asset, "product": "default", "origin": origin, "season": 24}
        transaction = self.store.begin()
        transaction.replace("scales", [row | {"scale_abs": scale_abs, "scale_sq": scale_sq}])
        transaction.commit()

    def sums(self, *recipes: str, **options: object) -> Sums:
        return compared(self.store.snapshot(), role="backtest", recipes=recipes, **options)

    def values(self, metric: str, *recipes: str, **options: object) -> dict[tuple[str, str], float]:
        """(asset, recipe) to the metric."""
        sums = self.sums(*recipes, **options)
        found = measured(self.store.snapshot(), sums, parse(metric)).tolist()
        return dict(zip(zip(sums.asset, sums.recipe, strict=True), found, strict=True))

    def board(self, *recipes: str, metrics: Sequence[str] = ("mae",), **options: object) -> Leaderboard:
        return leaderboard(self.store.snapshot(), recipes=recipes, metrics=metrics, sort_by=metrics[0], **options)


@pytest.fixture
def past(tmp_path: Path) -> Iterator[Past]:
    with Store.open(tmp_path / "s.store") as store:
        yield Past(store)


def day(issue: int, *means: float) -> dict[tuple[int, int], float]:
    """An issue and its steps, one hour after the other."""
    return {(issue, issue + step): mean for step, mean in enumerate(means)}


def by_recipe(board: Leaderboard) -> dict[str, Mapping[str, object]]:
    return {str(row["recipe"]): row for row in board.rows()}


# -- pairing -------------------------------------------------------------------------------------------------------


def test_recipes_are_compared_on_the_points_that_both_have(past: Past) -> None:
    """Of `a`, the second origin must not count: `b` was not judged there. (1 + 3) / 2 beside (2 + 2) / 2."""
    past.forecast("x", "a", day(0, 11, 13) | day(24, 10, 10))
    past.forecast("x", "b", day(0, 12, 12))
    assert past.values("mae", "a", "b") == {("x", "a"): 2.0, ("x", "b"): 2.0}
    assert past.sums("a", "b").columns["n"].tolist() == [2.0, 2.0]
    assert past.values("mae", "a") == {("x", "a"): 1.0}


def test_a_gap_inside_a_cell_is_paired_point_by_point(past: Past) -> None:
    """Hours 1 to 5 are one cell; `b` lacks hour 2 of it, and has hour 5, which `a` lacks."""
    past.forecast("x", "a", {(0, 1): 11, (0, 2): 19, (0, 3): 12})
    past.forecast("x", "b", {(0, 1): 13, (0, 3): 13, (0, 5): 10})
    assert past.values("mae", "a", "b") == {("x", "a"): 1.5, ("x", "b"): 3.0}


def test_equal_valid_times_of_other_issues_are_no_pair(past: Past) -> None:
    past.forecast("x", "a", {(0, 5): 11, (1, 5): 14})
    past.forecast("x", "b", {(0, 5): 12, (2, 5): 18})
    assert past.values("mae", "a", "b") == {("x", "a"): 1.0, ("x", "b"): 2.0}


def test_gaps_of_three_recipes_leave_what_all_three_have(past: Past) -> None:
    past.forecast("x", "a", day(0, 11, 11, 11))
    past.forecast("x", "b", {(0, 0): 12, (0, 1): 12})
    past.forecast("x", "c", {(0, 1): 13, (0, 2): 13})
    assert past.values("mae", "a", "b", "c") == {("x", "a"): 1.0, ("x", "b"): 2.0, ("x", "c"): 3.0}
    assert past.sums("a", "b", "c").columns["n"].tolist() == [1.0, 1.0, 1.0]


def test_an_uneven_asset_changes_nothing_for_an_even_one(past: Past) -> None:
    for asset in ("even", "uneven"):
        past.forecast(asset, "a", day(0, 11, 13))
    past.forecast("even", "b", day(0, 12, 10))
    past.forecast("uneven", "b", {(0, 0): 12})
    assert past.values("mae", "a", "b") == {
        ("even", "a"): 2.0,
        ("even", "b"): 1.0,
        ("uneven", "a"): 1.0,
        ("uneven", "b"): 2.0,
    }


def test_an_asset_that_a_recipe_was_not_judged_on_is_missing_and_counts_for_none(past: Past) -> None:
    """`b` fails on the hard asset; that must not flatter it."""
    past.forecast("easy", "a", day(0, 11))
    past.forecast("easy", "b", day(0, 12))
    past.forecast("hard", "a", day(0, 30))
    board = by_recipe(past.board("a", "b"))
    assert [(row["mae"], row["assets"], row["n"], row["missing"]) for row in (board["a"], board["b"])] == [
        (1.0, 1, 1, 0),
        (2.0, 1, 1, 1),
    ]
    assert past.board("a", "b").paired


def test_for_a_decision_each_asset_pairs_the_recipes_it_has(past: Past) -> None:
    past.forecast("easy", "a", day(0, 11))
    past.forecast("easy", "b", day(0, 12))
    past.forecast("hard", "a", day(0, 30))
    assert past.values("mae", "a", "b", across="asset") == {
        ("easy", "a"): 1.0,
        ("easy", "b"): 2.0,
        ("hard", "a"): 20.0,
    }


def test_recipes_without_an_asset_in_common_stand_alone_and_that_is_told(past: Past) -> None:
    past.forecast("x", "a", day(0, 11))
    past.forecast("y", "b", day(0, 13))
    board = past.board("a", "b")
    assert not board.paired
    assert {name: (row["mae"], row["missing"]) for name, row in by_recipe(board).items()} == {
        "a": (1.0, 1),
        "b": (3.0, 1),
    }


def test_an_asset_without_a_point_in_common_is_missing_from_both(past: Past) -> None:
    past.forecast("x", "a", day(0, 11))
    past.forecast("x", "b", day(0, 12))
    past.forecast("apart", "a", day(0, 11))
    past.forecast("apart", "b", day(24, 12))
    board = by_recipe(past.board("a", "b"))
    assert [(row["assets"], row["missing"]) for row in board.values()] == [(1, 1), (1, 1)]


def test_a_recipe_that_failed_everywhere_has_a_row_that_says_so(past: Past) -> None:
    for asset in ("x", "y"):
        past.forecast(asset, "a", day(0, 11))
    rows = past.board("a", "b").rows()
    assert [(row["recipe"], row["assets"], row["missing"], row["mae"]) for row in rows] == [
        ("a", 2, 0, 1.0),
        ("b", 0, 2, None),
    ]


def test_nothing_judged_is_an_empty_board(past: Past) -> None:
    assert past.board("a", "b").rows() == []
    past.forecast("x", "a", day(0, 11))
    assert past.board("b").rows() == []
    assert past.values("mase_24", "b") == {}


# -- which evaluation ----------------------------------------------------------------------------------------------


def test_only_the_newest_evaluation_of_an_asset_counts(past: Past) -> None:
    past.forecast("x", "a", day(0, 90) | day(24, 90), version="v1")
    past.forecast("x", "a", day(24, 11), version="v2")
    past.forecast("y", "a", day(0, 12), version="v1")
    assert past.values("mae", "a") == {("x", "a"): 1.0, ("y", "a"): 2.0}


def test_only_the_newest_definition_of_a_recipe_counts(past: Past) -> None:
    past.forecast("x", "a", day(0, 19), version="v1", recipe_hash="old")
    past.forecast("x", "a", day(0, 11), version="v3", recipe_hash="new")
    past.forecast("y", "a", day(0, 19), version="v2", recipe_hash="old")
    assert past.values("mae", "a") == {("x", "a"): 1.0}
    # The same definition under another name is in force there, and still out of date here.
    past.forecast("y", "b", day(0, 12), version="v4", recipe_hash="old")
    assert past.values("mae", "a") == {("x", "a"): 1.0}
    assert past.values("mae", "a", "b", across="asset") == {("x", "a"): 1.0, ("y", "b"): 2.0}


def test_live_rows_and_backtests_never_mix(past: Past) -> None:
    past.forecast("x", "a", day(0, 12), role="backtest")
    past.forecast("x", "a", day(24, 11), role="champion")
    past.forecast("x", "b", day(48, 15), role="fallback")
    assert past.values("mae", "a") == {("x", "a"): 2.0}
    live = by_recipe(past.board("a", "b", role="live"))
    assert {name: row["mae"] for name, row in live.items()} == {"a": 1.0, "b": 5.0}


# -- windows, leads, groups ----------------------------------------------------------------------------------------


def test_days_are_half_open_and_local_in_cells_and_in_points_alike(tmp_path: Path) -> None:
    """In New York hours 3 and 4 of 1 March (UTC) are of 29 February; one asset is paired by cells, one by points."""
    with Store.open(tmp_path / "s.store") as store:
        past = Past(store, tz="America/New_York")
        points = {(0, 3): 11, (0, 4): 11, (0, 5): 14, (0, 28): 14, (0, 29): 19}
        for asset in ("even", "uneven"):
            past.forecast(asset, "a", points)
            past.forecast(asset, "b", points if asset == "even" else points | {(1, 5): 12})
        zones = dict.fromkeys(("even", "uneven"), "America/New_York")
        window = {"since": date(2024, 3, 1), "until": date(2024, 3, 2), "assets": zones}
        assert set(past.values("mae", "a", "b", **window).values()) == {4.0}
        assert past.sums("a", "b", **window).columns["n"].tolist() == [2.0] * 4
        before = {"until": date(2024, 3, 1), "assets": zones}
        assert set(past.values("mae", "a", "b", **before).values()) == {1.0}


def test_by_lead_each_bucket_stands_for_itself(past: Past) -> None:
    past.forecast("x", "a", {(0, 0): 11, (0, 1): 12, (0, 5): 14, (0, 6): 15, (0, 30): 16})
    board = past.board("a", by="lead").rows()
    assert [(row["lead"], row["n"], row["mae"]) for row in board] == [
        ("0-1h", 1, 1.0),
        ("1-6h", 2, 3.0),
        ("6-24h", 1, 5.0),
        ("1-2d", 1, 6.0),
    ]


def test_averages_over_assets_and_over_points(past: Past) -> None:
    """Assets of 1, 1 and 4 points with mae 1, 2 and 9: mean 4, median 2, over all points 39 / 6."""
    past.forecast("x", "a", day(0, 11))
    past.forecast("y", "a", day(0, 12))
    past.forecast("z", "a", day(0, 19, 19, 19, 19))
    found = {average: past.board("a", average=average).rows()[0]["mae"] for average in ("mean", "median", "micro")}
    assert found == {"mean": 4.0, "median": 2.0, "micro": 6.5}


def test_groups_are_averaged_each_by_itself(past: Past) -> None:
    for asset, mean in (("x", 11), ("y", 13), ("z", 15)):
        past.forecast(asset, "a", day(0, mean))
    groups = {"x": "north", "y": "north", "z": "south"}
    board = past.board("a", by="region", groups=groups).rows()
    assert [(row["region"], row["assets"], row["mae"]) for row in board] == [("north", 2, 2.0), ("south", 1, 5.0)]
    alone = past.board("a", assets={"y": "UTC"}).rows()
    assert [(row["assets"], row["mae"]) for row in alone] == [(1, 3.0)]


# -- metrics -------------------------------------------------------------------------------------------------------


def test_skill_is_against_the_baseline_on_the_same_points(past: Past) -> None:
    """On the points in common the baseline errs by 4 and 4, the recipe by 1 and 3; its third point is not counted."""
    past.forecast("x", "base", day(0, 14, 14))
    past.forecast("x", "a", day(0, 11, 13, 90))
    assert past.values("skill_base", "a", "base") == {("x", "a"): 0.5, ("x", "base"): 0.0}
    board = by_recipe(past.board("a", "base", metrics=["skill_base"]))
    assert list(board) == ["a", "base"]


def test_skill_without_its_baseline_is_undefined(past: Past) -> None:
    past.forecast("x", "a", day(0, 11))
    row = past.board("a", metrics=["skill_base"]).rows()[0]
    assert (row["skill_base"], row["undefined"]) == (None, 1)


def test_mase_and_rmsse_divide_by_the_scale_known_at_the_first_issue(past: Past) -> None:
    """Errors 1 and 7 after the first issue at hour 24: mae 4, mse 25; the scale then is 2 and 4."""
    past.scale("x", 0, 100.0, 100.0)
    past.scale("x", 24, 2.0, 4.0)
    past.scale("x", 25, 50.0, 50.0)
    past.scale("x", 48, 50.0, 50.0)
    past.forecast("x", "a", day(24, 11) | day(48, 17))
    assert past.values("mase_24", "a") == {("x", "a"): 2.0}
    assert past.values("rmsse_24", "a") == {("x", "a"): 2.5}
    late = {"since": date(2024, 3, 3)}
    assert past.values("mase_24", "a", **late) == {("x", "a"): 3.5}


def test_other_evaluations_do_not_change_a_scale(past: Past) -> None:
    past.scale("x", 24, 2.0)
    past.forecast("x", "a", day(24, 14), version="v2")
    before = past.values("mase_24", "a")
    past.forecast("x", "b", day(0, 14))
    past.forecast("x", "a", day(0, 14), version="v1")
    past.scale("x", 0, 9.0)
    past.scale("x", 30, 7.0)
    assert past.values("mase_24", "a") == before == {("x", "a"): 2.0}


def test_paired_recipes_are_divided_by_one_scale(past: Past) -> None:
    past.scale("x", 0, 2.0)
    past.scale("x", 24, 5.0)
    past.forecast("x", "a", day(0, 90) | day(24, 14))
    past.forecast("x", "b", day(24, 18))
    assert past.values("mase_24", "a", "b") == {("x", "a"): 2.0, ("x", "b"): 4.0}


def test_an_undefined_metric_is_left_out_of_the_average_and_counted(past: Past) -> None:
    past.scale("x", 0, 2.0)
    past.scale("constant", 0, 0.0)
    past.scale("short", 0, None)
    for asset in ("x", "constant", "short", "unscaled"):
        past.forecast(asset, "a", day(0, 14))
    row = past.board("a", metrics=["mase_24", "mae"]).rows()[0]
    assert (row["mase_24"], row["undefined"], row["assets"], row["mae"]) == (2.0, 3, 4, 4.0)
    zeros = dict.fromkeys(range(2), 0.0)
    past.forecast("zero", "b", day(0, 1, 1), actuals=zeros)
    row = past.board("b", metrics=["wape"]).rows()[0]
    assert (row["wape"], row["undefined"]) == (None, 1)


def test_points_in_common_carry_quantiles_and_capacity(past: Past) -> None:
    """q10 = 8 and q90 = -8 around nothing: pinball of q10 at 10 is 0.1 * 2 = 0.2 on every point."""
    transaction = past.store.begin()
    transaction.insert("assets", [{"asset_id": "x", "state": "active", "capacity": 20.0}])
    transaction.commit()
    past.forecast("x", "a", day(0, 11, 13), q10=8.0, capacity=20.0)
    past.forecast("x", "b", day(0, 12), q10=9.0, capacity=20.0)
    pinball = past.values("pinball_q10", "a", "b")
    assert pinball == pytest.approx({("x", "a"): 0.2, ("x", "b"): 0.1})
    assert past.values("nmae_cap", "a", "b") == {("x", "a"): 0.05, ("x", "b"): 0.1}


def test_a_recipe_without_quantiles_has_no_pinball_and_keeps_its_mae(past: Past) -> None:
    past.forecast("x", "a", day(0, 11), q10=8.0)
    past.forecast("x", "b", day(0, 12))
    found = past.values("mean_pinball", "a", "b")
    assert math.isfinite(found["x", "a"])
    assert math.isnan(found["x", "b"])
    assert past.values("mae", "a", "b") == {("x", "a"): 1.0, ("x", "b"): 2.0}


def test_who_saw_the_future_is_flagged_however_it_is_paired(past: Past) -> None:
    past.forecast("x", "a", day(0, 11, 12), foresight=True)
    past.forecast("x", "b", day(0, 12), foresight=False)
    past.forecast("y", "a", day(0, 11))
    past.forecast("y", "b", day(0, 12))
    flags = {name: row["perfect_foresight"] for name, row in by_recipe(past.board("a", "b")).items()}
    assert flags == {"a": True, "b": False}
    sums = past.sums("a", "b")
    named = dict(zip(zip(sums.asset, sums.recipe, strict=True), sums.foresight.tolist(), strict=True))
    assert named == {("x", "a"): True, ("x", "b"): False, ("y", "a"): False, ("y", "b"): False}


def test_a_flag_on_any_cell_is_a_flag_on_the_sum(past: Past) -> None:
    past.forecast("x", "a", day(0, 11), role="champion", version="v1", foresight=False)
    past.forecast("x", "a", day(24, 11), role="champion", version="v2", foresight=True)
    assert past.board("a", role="live").rows()[0]["perfect_foresight"] is True


# -- order ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "best_first"),
    [("mae", ["b", "c", "a"]), ("bias", ["c", "b", "a"]), ("coverage_80", ["c", "b", "a"])],
)
def test_the_best_comes_first_whatever_best_means(past: Past, metric: str, best_first: list[str]) -> None:
    """Nine actuals of 10 and one of 30. MAE: 9.2, 3, 3.6; bias: 7, -3, 0; covered: none, all and nine of ten."""
    actuals = {hour: 30.0 if hour == 9 else ACTUAL for hour in range(10)}
    for recipe, mean, q10 in (("a", 19.0, -5.0), ("b", 9.0, -40.0), ("c", 12.0, -20.0)):
        past.forecast("x", recipe, day(0, *[mean] * 10), q10=q10, actuals=actuals)
    assert [row["recipe"] for row in past.board("a", "b", "c", metrics=[metric]).rows()] == best_first


def test_an_undefined_figure_comes_last(past: Past) -> None:
    past.forecast("x", "a", day(0, 11), q10=8.0)
    past.forecast("x", "b", day(0, 10))
    board = past.board("a", "b", metrics=["mean_pinball"]).rows()
    assert [row["recipe"] for row in board] == ["a", "b"]


def test_the_worst_assets_are_those_of_the_recipe_in_charge(past: Past) -> None:
    for asset, a, b in (("x", 11, 19), ("y", 15, 12), ("z", 13, 14)):
        past.forecast(asset, "a", day(0, a))
        past.forecast(asset, "b", day(0, b))
    found = worst(
        past.store.snapshot(),
        recipes=["a", "b"],
        metric="mae",
        role="backtest",
        champions={"x": "b", "y": "b"},
        n=2,
    )
    assert [(row["asset_id"], row["recipe"], row["mae"]) for row in found] == [("x", "b", 9.0), ("z", "a", 3.0)]
