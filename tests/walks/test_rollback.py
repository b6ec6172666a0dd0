"""Going back: which version comes in force, what the ledger says of it, and how long a person's word holds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from fleet import Fleet
from fleet.errors import ConfigInvalid, NothingSelected
from fleet.outcome import Progress
from store.clock import FixedClock
from store.errors import NotFound
from tests.walks.small import NOW, copy_of, fleet_in, hourly

ASSETS = ("site-0", "site-1", "site-2")
CONFIG = """
[fleet]
name = "back"
horizon = 24
seasons = [24]

[recipes.day]
adapter = "seasonal_naive"
season = 24

[recipes.five]
adapter = "seasonal_naive"
season = 120

[recipes.week]
adapter = "seasonal_naive"
season = 168

[train]
workers = 1
fallback = ["day"]

[backtest]
origins = 2

[promotion]
min_points = 24
margin = 0.0
"""


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every recipe fitted on every asset; nobody in force."""
    with fleet_in(tmp_path_factory.mktemp("rollback") / "fleet", CONFIG) as made:
        made.ingest(hourly(ASSETS, 20))
        made.train(judge=False)
        return made.config.folder


@pytest.fixture
def fleet(fitted: Path, tmp_path: Path) -> Iterator[Fleet]:
    """An hour after that."""
    with copy_of(fitted, tmp_path / "fleet", NOW + timedelta(hours=1)) as made:
        yield made


def later(fleet: Fleet) -> None:
    assert isinstance(fleet.clock, FixedClock)
    fleet.clock.advance(hours=1)


def in_force(fleet: Fleet) -> dict[str, str]:
    return {row["asset_id"]: row["recipe"] for row in fleet.store.table("champions").to_pylist()}


def promoted(fleet: Fleet, *recipes: str) -> None:
    """One after the other, an hour apart."""
    for recipe in recipes:
        fleet.promote(recipe)
        later(fleet)


def everywhere(recipe: str) -> dict[str, str]:
    return dict.fromkeys(ASSETS, recipe)


def test_each_step_back_is_one_further_until_there_is_none(fleet: Fleet) -> None:
    promoted(fleet, "week", "five", "day")
    for recipe in ("five", "week"):
        report = fleet.rollback(reason="too high", actor="ann")
        assert (report.ok, report.failed, report.retry) == (len(ASSETS), 0, "")
        assert in_force(fleet) == everywhere(recipe)
        later(fleet)
    report = fleet.rollback()
    assert (report.failed, report.ok) == (len(ASSETS), 0)
    assert "no champion before" in report.failures[0].error
    assert in_force(fleet) == everywhere("week")


def test_the_ledger_says_who_went_back_from_what_to_what_and_why(fleet: Fleet) -> None:
    promoted(fleet, "week", "day")
    fleet.rollback(select="site-1", reason="too high", actor="ann")
    last = max(fleet.store.table("decisions").to_pylist(), key=lambda row: row["decided_at"])
    assert {name: last[name] for name in ("asset_id", "champion", "challenger", "verdict", "reason", "actor")} == {
        "asset_id": "site-1",
        "champion": "day",
        "challenger": "week",
        "verdict": "rolled_back",
        "reason": "too high",
        "actor": "ann",
    }
    assert in_force(fleet) == everywhere("day") | {"site-1": "week"}


def test_a_time_undoes_what_came_after_it_and_leaves_the_rest_alone(fleet: Fleet) -> None:
    promoted(fleet, "week")
    moment, snapshot = fleet.clock.now() - timedelta(minutes=1), fleet.store.head()
    fleet.promote("five", select=["site-0", "site-1"])
    later(fleet)
    fleet.promote("day", select=["site-0"])
    later(fleet)
    report = fleet.rollback(since=moment)
    assert (report.ok, report.skipped) == (2, 1)
    assert in_force(fleet) == everywhere("week")
    later(fleet)
    promoted(fleet, "day")
    assert fleet.rollback(since=snapshot, where="asset_id <> 'site-2'").ok == 2
    assert in_force(fleet) == everywhere("week") | {"site-2": "day"}


def test_an_asset_without_a_champion_then_is_an_outcome(fleet: Fleet) -> None:
    moment = fleet.clock.now()
    later(fleet)
    promoted(fleet, "week")
    report = fleet.rollback(since=moment)
    assert (report.failed, report.failures[0].cause) == (len(ASSETS), "no_data")
    assert in_force(fleet) == everywhere("week")


def test_a_version_is_put_back_on_its_own_asset(fleet: Fleet) -> None:
    promoted(fleet, "day")
    versions = fleet.store.table("versions", assets=["site-1"], where={"recipe": "five"}).to_pylist()
    assert fleet.rollback(to=versions[0]["version_id"]).assets == 1
    assert in_force(fleet) == everywhere("day") | {"site-1": "five"}
    with pytest.raises(NothingSelected, match="site-1"):
        fleet.rollback(to=versions[0]["version_id"], select="site-2")
    with pytest.raises(NotFound):
        fleet.rollback(to="nothing")
    with pytest.raises(ConfigInvalid):
        fleet.rollback(to=versions[0]["version_id"], since=NOW)


def test_what_is_in_force_already_is_left_alone_and_nothing_is_written(fleet: Fleet) -> None:
    promoted(fleet, "day")
    head = fleet.store.head()
    report = fleet.rollback(since=fleet.clock.now())
    assert (report.skipped, fleet.store.head()) == (len(ASSETS), head)
    assert fleet.promote("day").skipped == len(ASSETS)
    assert fleet.store.head() == head


def test_a_word_by_hand_holds_until_the_asset_is_judged_anew(fleet: Fleet) -> None:
    fleet.train(promote=True)
    later(fleet)
    decided = in_force(fleet)
    other = {asset: "week" if recipe != "week" else "five" for asset, recipe in decided.items()}
    for asset, recipe in other.items():
        fleet.promote(recipe, select=asset)
        later(fleet)
    head = fleet.store.head()
    report = fleet.train(promote=True)
    assert (report.skipped, fleet.store.head(), in_force(fleet)) == (len(ASSETS), head, other)
    fleet.ingest(hourly(ASSETS, 21))
    later(fleet)
    assert fleet.train(promote=True).ok == len(ASSETS)
    judged = {row["asset_id"]: row["challenger"] for row in fleet.store.table("decisions").to_pylist()
              if row["decided_at"] == fleet.clock.now() and row["verdict"] == "promoted"}  # fmt: skip
    assert in_force(fleet) == other | judged
    assert judged, "a fleet on which the hand was right everywhere shows nothing"


@pytest.mark.parametrize("verb", ["train", "promote", "rollback"])
def test_who_is_overtaken_has_an_outcome_that_says_so(fleet: Fleet, tmp_path: Path, verb: str) -> None:
    """Between what the verb saw and what it writes another changes one of the champions."""
    promoted(fleet, "week", "five")
    fleet.ingest(hourly(ASSETS, 21))
    with fleet_in(tmp_path / "fleet", CONFIG, at=fleet.clock.now()) as other:
        overtaking = Overtaking(other)
        if verb == "train":
            report = fleet.train(promote=True, progress=overtaking.when_fitting)
        else:
            fleet.clock = overtaking
            report = fleet.promote("day") if verb == "promote" else fleet.rollback()
    assert (report.ok, report.failed) == (len(ASSETS) - 1, 1)
    assert [(group.cause, group.asset_id) for group in report.failures] == [("cancelled", "site-1")]
    rows = fleet.store.sql(
        "select asset_id, status, error_code from outcomes where slot = $slot", {"slot": report.slot}
    )
    assert {row["asset_id"]: (row["status"], row["error_code"]) for row in rows.rows()} == {
        "site-0": ("ok", None),
        "site-1": ("failed", "conflict"),
        "site-2": ("ok", None),
    }
    assert in_force(fleet)["site-1"] == "week"
    verdicts = [row["verdict"] for row in fleet.store.table("decisions", assets=["site-1"]).to_pylist()]
    assert verdicts.count("conflict") == 1


class Overtaking(FixedClock):
    """Another user, who promotes `week` on site-1 in the middle of a verb, once.

    A verb looks at its clock when it begins, when it opens its book, and when it has seen who is in force.
    """

    def __init__(self, other: Fleet) -> None:
        super().__init__(other.clock.now())
        self.other, self.asked, self.done = other, 0, False

    def now(self) -> datetime:
        self.asked += 1
        if self.asked == 3:
            self.promote()
        return super().now()

    def when_fitting(self, progress: Progress) -> None:
        if progress.doing == "fitting":
            self.promote()

    def promote(self) -> None:
        if not self.done:
            self.done = True
            self.other.promote("week", select="site-1")
