"""What changes between two cycles: readings that are revised or taken back, definitions, a challenger named alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fleet import Fleet
from tests.walks.cycles import ASSETS, CONFIG, END, LEVEL, Done, copied, cycle, data, errors, later, next_day
from tests.walks.small import NOW, fleet_in, without_ids


@pytest.fixture
def fleet(done: Done, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet of its own after one cycle."""
    with copied(done, tmp_path / "own") as made:
        yield made


# -- revisions -----------------------------------------------------------------------------------------------------


def test_a_revised_actual_recomputes_its_cells_and_no_others(fleet: Fleet, tmp_path: Path) -> None:
    cells = "select asset_id, day, lead_bucket, _v from scores__v where role = 'champion' order by all"
    before = fleet.store.sql(cells).df()
    revised = next_day()
    at = (revised["unique_id"] == ASSETS[3]) & (revised["ds"] == END + pd.Timedelta(hours=7))
    revised.loc[at, "y"] += 5.0
    fleet.ingest(revised)
    later(fleet)
    report = fleet.score()
    assert (report.ok, report.skipped) == (1, len(ASSETS) - 1)
    after = fleet.store.sql(cells).df()
    touched = after[after["_v"] != before["_v"]]
    assert set(zip(touched["asset_id"], touched["day"].astype(str), strict=True)) == {(ASSETS[3], "2024-03-31")}
    assert len(touched) == 3
    with fleet_in(tmp_path / "scratch", CONFIG, LEVEL) as scratch:
        cycle(scratch, actuals=revised)
        for name in ("scores", "forecasts"):
            assert without_ids(fleet.store, name) == without_ids(scratch.store, name)


def test_an_actual_that_is_taken_back_leaves_its_cell(fleet: Fleet) -> None:
    """Of the cell `0-1h` its only point is taken back, of `1-6h` one of five."""
    revised = next_day()
    gone = (revised["unique_id"] == ASSETS[3]) & revised["ds"].isin([END, END + pd.Timedelta(hours=2)])
    revised.loc[gone, "y"] = np.nan
    fleet.ingest(revised)
    later(fleet)
    fleet.score()
    rows = fleet.store.sql(
        "select lead_bucket, n from scores where role = 'champion' and asset_id = $asset order by lead_bucket",
        {"asset": ASSETS[3]},
    ).rows()
    assert [row["n"] for row in rows if row["lead_bucket"] == "1-6h"] == [4]
    assert sum(row["n"] for row in rows) == 22
    live = fleet.leaderboard(role="live", by="lead", select=[ASSETS[3]], metrics=["mae"]).rows()
    assert {row["lead"]: row["n"] for row in live if row["mae"] is not None} == {"1-6h": 4, "6-24h": 18}


# -- definitions that change ---------------------------------------------------------------------------------------


def test_a_definition_that_comes_back_is_judged_again(tmp_path: Path) -> None:
    """The board shows what the file says now: two origins, then three, then two again."""
    shown = []
    for number, origins in enumerate((2, 3, 2, 2)):
        config = CONFIG.replace("origins = 4", f"origins = {origins}")
        at = NOW + timedelta(hours=number)
        with fleet_in(tmp_path / "fleet", config, LEVEL, at=at) as fleet:
            if not shown:
                fleet.ingest(data(30))
            report = fleet.backtest(recipes=["day", "week"])
            shown.append((report.ok, {row["n"] for row in fleet.leaderboard().rows() if row["assets"]}))
    n = len(ASSETS)
    assert shown == [(n, {2 * 24 * n}), (n, {3 * 24 * n}), (n, {2 * 24 * n}), (0, {2 * 24 * n})]


def test_forecasts_carry_the_definition_of_their_version(tmp_path: Path) -> None:
    """A word more in the module's file makes another definition; versions trained before keep theirs."""
    with fleet_in(tmp_path / "fleet", CONFIG, LEVEL + "# by hash") as fleet:
        fleet.ingest(data(30))
        fleet.train(promote=True)
        module = next((tmp_path / "fleet").glob("models_*.py"))
        module.write_text(module.read_text() + "\n# another comment\n")
        fleet.forecast()
        wrong = fleet.store.sql(
            "select f.recipe from forecasts f join versions v using (version_id)"
            " where f.role = 'champion' and f.recipe_hash <> v.recipe_hash"
        ).rows()
        assert wrong == []
        assert "level" in fleet.store.table("published")["recipe"].to_pylist()


def test_a_champion_whose_module_is_gone_falls_back_alone(tmp_path: Path) -> None:
    with fleet_in(tmp_path / "fleet", CONFIG, LEVEL + "# soon gone") as fleet:
        fleet.ingest(data(30))
        fleet.train(promote=True)
        champions = {row["asset_id"]: row["recipe"] for row in fleet.store.table("champions").to_pylist()}
    module = next((tmp_path / "fleet").glob("models_*.py"))
    module.unlink()
    rest = CONFIG.replace('[recipes.level]\nadapter = "MODELS:Level"\nwindow = 48\n', "")
    with fleet_in(tmp_path / "fleet", rest) as fleet:
        report = fleet.forecast()
        orphans = [asset for asset, recipe in champions.items() if recipe == "level"]
        assert (report.fell_back, report.ok, report.failed) == (len(orphans), len(ASSETS) - len(orphans), 0)
        assert [(group.cause, group.count) for group in report.failures] == [("exception", len(orphans))]
        assert "was taken away since this version was trained" in report.failures[0].error
        # In life the board shows who stood in, although nobody named it a candidate.
        fleet.ingest(next_day())
        later(fleet)
        fleet.score()
        board = {row["recipe"]: row["assets"] for row in fleet.leaderboard(role="live").rows()}
        assert board["day"] == len(orphans) + sum(recipe == "day" for recipe in champions.values())


def test_the_board_of_live_forecasts_shows_the_last_resort(tmp_path: Path) -> None:
    with fleet_in(tmp_path / "fleet", CONFIG.replace('fallback = ["day"]', "fallback = []"), LEVEL) as fleet:
        fleet.ingest(data(30))
        assert fleet.forecast().fell_back == len(ASSETS)
        fleet.ingest(next_day())
        later(fleet)
        fleet.score()
        assert [(row["recipe"], row["assets"]) for row in fleet.leaderboard(role="live").rows()] == [
            ("last_resort", len(ASSETS))
        ]
        assert len(fleet.worst(3, role="live")) == 3


# -- a champion is not displaced unheard ---------------------------------------------------------------------------


def test_training_one_recipe_weighs_it_against_the_champion(tmp_path: Path) -> None:
    """`week` is judged last and named alone; where the champion is better it must stay."""
    fleet = fleet_in(tmp_path / "own", CONFIG, LEVEL)
    fleet.ingest(data(30))
    fleet.train(recipes=["day", "level"], promote=True)
    before = dict(fleet.store.sql("select asset_id, recipe from champions").df().to_numpy().tolist())
    later(fleet)
    fleet.train(recipes=["week"], promote=True)
    after = dict(fleet.store.sql("select asset_id, recipe from champions").df().to_numpy().tolist())
    judged = errors(fleet.store.table("forecasts").to_pandas().query("role == 'backtest'"), data(30))
    mae = judged.groupby(["asset_id", "recipe"])["size"].mean()
    for asset in ASSETS:
        held = mae[asset, before[asset]]
        assert after[asset] == ("week" if 1 - mae[asset, "week"] / held > 0.02 else before[asset])
    assert set(before.values()) == {"day", "level"}
    assert set(after.values()) == {"day", "level", "week"}
