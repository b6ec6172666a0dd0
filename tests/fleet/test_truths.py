"""Laws of late and revised readings: what a forecast is scored against is the first reading or the one in force."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from fleet import Fleet
from store.clock import FixedClock
from tests.walks.small import NOW, fleet_in, hourly

BEGIN = pd.Timestamp("2024-03-01", tz="UTC")
DAYS = 10
END = BEGIN + pd.Timedelta(days=DAYS)
CONFIG = """
[fleet]
horizon = 4
seasons = [24]
[data]
truth = "{truth}"
[recipes.level]
adapter = "MODELS:level"
[train]
workers = 1
[backtest]
origins = 2
[promotion]
min_points = 1
"""
LEVEL = "def level(y, X, task):\n    return [10.0] * task.horizon\n"


def arrived(*values: float) -> pd.DataFrame:
    """The readings of the first hours of the forecast."""
    times = pd.date_range(END, periods=len(values), freq="h")
    return pd.DataFrame({"unique_id": "a", "ds": times, "y": values})


def later(fleet: Fleet, days: int) -> Fleet:
    fleet.clock = FixedClock(NOW + timedelta(days=days))
    return fleet


def scored(fleet: Fleet) -> dict[str, tuple[int, float]]:
    rows = fleet.store.sql(
        "select truth, sum(n)::int as n, sum(sum_abs_e) as e from scores where role = 'champion' group by truth"
    ).rows()
    return {row["truth"]: (row["n"], row["e"]) for row in rows}


def issued(folder: Path, truth: str) -> Fleet:
    """Every forecast is 10; the first readings are 11, missing, 13."""
    fleet = fleet_in(folder, CONFIG.format(truth=truth), LEVEL)
    fleet.ingest(hourly(("a",), DAYS, begin=BEGIN))
    fleet.train(promote=True)
    assert fleet.forecast().ok == 1
    later(fleet, 1).ingest(arrived(11.0, float("nan"), 13.0))
    fleet.score()
    return fleet


def test_a_revision_changes_the_latest_score_and_not_the_first(tmp_path: Path) -> None:
    with issued(tmp_path / "fleet", "first") as fleet:
        assert scored(fleet) == {"latest": (2, 4.0), "first": (2, 4.0)}
        later(fleet, 2).ingest(arrived(15.0, 12.0, 13.0, 14.0))
        fleet.score()
        # 5 + 2 + 3 + 4; the first reading of the second hour is the one that came late
        assert scored(fleet) == {"latest": (4, 14.0), "first": (4, 10.0)}
        later(fleet, 3).ingest(arrived(10.0, 10.0, 10.0, 10.0))
        fleet.score()
        assert scored(fleet) == {"latest": (4, 0.0), "first": (4, 10.0)}
        (row,) = fleet.leaderboard(role="live", metrics=["mae"]).rows()
        assert row["mae"] == pytest.approx(2.5)
        (row,) = fleet.leaderboard(role="backtest", metrics=["mae"]).rows()
        assert row["n"] == 8


def test_without_being_asked_only_the_latest_reading_counts(tmp_path: Path) -> None:
    with issued(tmp_path / "fleet", "latest") as fleet:
        assert scored(fleet) == {"latest": (2, 4.0)}
        (row,) = fleet.leaderboard(role="live", metrics=["mae"]).rows()
        assert row["mae"] == pytest.approx(2.0)


def test_the_first_reading_can_be_asked_for_later(tmp_path: Path) -> None:
    with issued(tmp_path / "fleet", "latest") as fleet:
        later(fleet, 2).ingest(arrived(15.0, 12.0))
        fleet.score()
    path = tmp_path / "fleet" / "fleet.toml"
    path.write_text(path.read_text().replace('truth = "latest"', 'truth = "first"'))
    with Fleet.open(path, clock=FixedClock(NOW + timedelta(days=3))) as fleet:
        fleet.score()
        assert scored(fleet) == {"latest": (3, 10.0), "first": (3, 6.0)}
        fleet.score()
        assert scored(fleet) == {"latest": (3, 10.0), "first": (3, 6.0)}


def test_a_backtest_is_scored_again_when_what_it_was_judged_by_is_revised(tmp_path: Path) -> None:
    ask = "select sum(n)::int as n, sum(sum_abs_e) as e from scores where role = 'backtest' and truth = 'latest'"
    with fleet_in(tmp_path / "fleet", CONFIG.format(truth="first"), LEVEL) as fleet:
        history = hourly(("a", "b"), DAYS, begin=BEGIN)
        fleet.ingest(history)
        fleet.backtest()
        before = fleet.store.sql(ask).rows()
        # its cells came with it
        assert fleet.score().ok == 0
        assert fleet.store.snapshot().mark("score") is None
        revised = history[history["unique_id"] == "a"].tail(1)
        later(fleet, 1).ingest(revised.assign(y=1000.0))
        report = fleet.score()
        assert (report.ok, report.skipped) == (1, 1)
        (was,) = before
        error = 990.0 - abs(revised["y"].iloc[0] - 10.0)
        assert fleet.store.sql(ask).rows() == [{"n": was["n"], "e": pytest.approx(was["e"] + error)}]
        later(fleet, 2).ingest(revised.assign(y=float("nan")))
        fleet.score()
        assert fleet.store.sql(ask).rows()[0]["n"] == was["n"] - 1
        fleet.backtest(force=True)
        assert fleet.score().ok == 0


def test_a_backtest_that_did_not_see_a_revision_is_scored_again_after_it(tmp_path: Path) -> None:
    """The revision came while the backtest ran, and was scored before the backtest was there."""
    with fleet_in(tmp_path / "fleet", CONFIG.format(truth="latest"), LEVEL) as fleet:
        history = hourly(("a",), DAYS, begin=BEGIN)
        fleet.ingest(history)
        fleet.train(promote=True)
        fleet.forecast()
        old = fleet.store.snapshot().id
        later(fleet, 1).ingest(pd.concat([history.tail(1).assign(y=1000.0), arrived(11.0)]))
        fleet.score()
        run = "0" * 26
        at = pd.Timestamp(history["ds"].iloc[-1]).to_pydatetime()
        transaction = fleet.store.begin()
        told = {"asset_id": "a", "product": "default", "recipe": "level", "recipe_hash": "h"}
        transaction.insert("runs", [{**told, "run_id": run, "kind": "backtest", "status": "ok", "data_version": old}])
        row = {**told, "run_id": run, "version_id": run, "role": "backtest", "issue_time": at, "valid_time": at}
        transaction.insert("forecasts", [{**row, "step": 1, "mean": 10.0}])
        transaction.commit()
        assert fleet.score().ok == 1
        asked = f"select n, sum_abs_e as e from scores where version_id = '{run}'"
        assert fleet.store.sql(asked).rows() == [{"n": 1, "e": 990.0}]
