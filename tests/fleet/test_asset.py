"""A fleet as a collection of assets, and an asset's answers: the rows of its views, at one snapshot, by local time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest

from fleet import Fleet
from fleet.errors import AssetUnknown, ConfigInvalid
from tests.fleet.small_world import ASSETS, BEGIN, DAYS, END, HOSTILE, TZ, world_in
from tests.walks.small import hourly


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with world_in(tmp_path_factory.mktemp("world")) as made:
        yield made


def test_a_fleet_is_the_collection_of_its_assets(fleet: Fleet) -> None:
    assert list(fleet) == sorted(ASSETS)
    assert len(fleet) == len(ASSETS)
    assert "a" in fleet
    assert "c" not in fleet
    assert 3 not in fleet
    assert "\n" not in fleet  # no id at all


def test_an_unknown_id_names_those_it_may_be(fleet: Fleet) -> None:
    with pytest.raises(KeyError, match=r"there is no asset 'A'; did you mean 'a'"):
        fleet["A"]
    with pytest.raises(AssetUnknown):
        fleet["a\n"]
    assert fleet[HOSTILE].id == HOSTILE


def test_facts_are_the_register_without_what_is_not_known(fleet: Fleet) -> None:
    assert fleet["a"].facts == {"asset_id": "a", "kind": "k<1>", "unit": "MW", "state": "active"}
    assert fleet["a"].config.timezone == TZ


def test_the_champion_is_the_recipe_in_charge(fleet: Fleet) -> None:
    assert {name: fleet[name].champion for name in fleet} == {"a": "day", "b": "spread", HOSTILE: "day"}


def test_its_rows_are_those_of_the_views(fleet: Fleet) -> None:
    b = fleet["b"]
    assert len(b.actuals()) == 24 * (DAYS + 1)
    assert b.actuals().df()["y"].iloc[-1] == pytest.approx(2 * 16 * 2.4)
    assert set(b.forecasts(role="live").arrow()["recipe"].to_pylist()) == {"week"}  # spread fell back
    assert len(b.forecasts(role="backtest", recipe="day")) == 3 * 24
    assert {row["kind"] for row in b.runs().rows()} == {"backtest", "train"}
    assert {row["role"] for row in b.scores("live").rows()} == {"fallback"}
    assert [row["verdict"] for row in b.decisions().rows()] == ["promoted", "promoted"]
    assert "fell_back" in b.outcomes().arrow()["status"].to_pylist()


@pytest.mark.parametrize(
    ("since", "rows"),
    [
        ("2d", 48),
        (END.to_pydatetime(), 24),
        ("2024-01-17T00:00Z", 24),
        ("2024-01-16", 24 * 2 - 5),  # local midnight of the 16th is 05:00 in UTC, the readings end on the 17th
        (date(2024, 1, 16), 24 * 2 - 5),
        (None, 24 * (DAYS + 1)),
    ],
)
def test_since_is_an_instant_a_local_day_or_a_length_back(
    fleet: Fleet, since: datetime | str | None, rows: int
) -> None:
    assert len(fleet["a"].actuals(since)) == rows


def test_until_is_not_included(fleet: Fleet) -> None:
    first_day = fleet["a"].actuals(until=BEGIN + timedelta(days=1))
    assert len(first_day) == 24


@pytest.mark.parametrize("since", [datetime(2024, 1, 1), "2024-01-01T00:00", "soon", "7 moons"])  # noqa: DTZ001  naive on purpose
def test_a_moment_that_says_too_little_is_refused(fleet: Fleet, since: datetime | str) -> None:
    with pytest.raises(ConfigInvalid):
        fleet["a"].actuals(since)


def test_an_asset_sees_what_is_committed_after_it_was_taken(tmp_path_factory: pytest.TempPathFactory) -> None:
    with world_in(tmp_path_factory.mktemp("later"), issued=False) as fleet:
        asset = fleet["a"]
        before = len(asset.actuals())
        more = hourly(["a"], 1, begin=pd.Timestamp("2024-01-17", tz="UTC"))
        fleet.ingest(more)
        assert len(asset.actuals()) == before + 24
        assert asset.actuals(datetime(2024, 1, 17, tzinfo=UTC)).df()["y"].tolist() == more["y"].tolist()
