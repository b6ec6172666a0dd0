"""The Asset page along time: who was in charge when, when it learnt, which days have no score, what it looks at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from fleet import questions
from tests.jobs.watched import NOW, Watched, steady
from tests.web.conftest import NASTY, Client, served
from tests.web.test_attic import cells

DAYS = 20


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """An asset whose champion changed ten days ago, and another that was judged only."""
    made = Watched(tmp_path_factory.mktemp("life") / "f", assets={"a": {}, NASTY: {}, "judged": {}})
    made.readings(days=DAYS)
    made.scores({"a": steady(DAYS), NASTY: steady(DAYS)})
    made.scores({"a": [5.0, 6.0]}, role={"a": "fallback"}, end=NOW.date() - timedelta(days=DAYS + 1))
    made.scores({"judged": [1.0, 2.0]}, role={"judged": "backtest"})
    at = NOW - timedelta(days=10)
    change = {"asset_id": "a", "product": "default"}
    for recipe, version, before, since in (
        ("naive", "v2", "v-a", at), ("naive", "v3", "v2", at + timedelta(days=5)), (NASTY, "v4", "v3", NOW),
    ):  # fmt: skip
        transaction = made.fleet.store.begin()
        row = {**change, "recipe": recipe, "version_id": version, "since": since}
        transaction.promote([row], [before], [])
        transaction.commit()
    run = {**change, "recipe": "naive", "kind": "train", "started_at": NOW}
    made.write("runs", [
        {**run, "run_id": "r1", "status": "ok", "train_end": at},
        {**run, "run_id": "r2", "status": "failed", "train_end": at},
        {**run, "run_id": "r3", "status": "ok", "kind": "backtest", "train_end": at},
        {**run, "run_id": "r4", "status": "ok", "train_end": NOW - timedelta(days=200)},
    ])  # fmt: skip
    transaction = made.fleet.store.begin()
    transaction.insert("versions", [
        {"version_id": one, "asset_id": "a", "product": "default", "recipe": "naive", "codec": "json", "trusted": True}
        for one in ("v2", "v3", "v4")
    ])  # fmt: skip
    transaction.commit()
    made.weather({"north": NOW, "south": NOW - timedelta(days=30)})
    made.links({"a": "north", NASTY: "south"})
    yield made
    made.fleet.close()


@pytest.fixture(scope="module")
def ask(world: Watched) -> Iterator[Client]:
    with served(world.fleet) as client:
        yield client


def lived(world: Watched, asset: str = "a", **more: Any) -> questions.Life:
    return questions.life(world.fleet.store.snapshot(), asset, metric="mae", **more)


def test_a_line_stands_for_each_recipe_and_role_and_breaks_where_nothing_was_scored(world: Watched) -> None:
    seen = lived(world)
    assert (seen.role, len(seen.days)) == ("live", DAYS + 3)
    assert seen.days[-1] == NOW.date() - timedelta(days=1)
    assert list(seen.lines) == ["ridge", "ridge (fallback)"]
    assert seen.lines["ridge (fallback)"][:3].tolist()[:2] == [5.0, 6.0]
    assert np.isnan(seen.lines["ridge (fallback)"][2:]).all()
    assert np.isnan(seen.lines["ridge"][:3]).all()
    assert seen.lines["ridge"][3:].tolist() == pytest.approx(steady(DAYS))


def test_another_recipe_in_charge_is_a_change_and_another_version_is_none(world: Watched) -> None:
    changes = lived(world).in_charge
    assert [recipe for _, recipe in changes] == ["ridge", "naive", NASTY]
    assert changes[1][0] == NOW - timedelta(days=10)


def test_only_trainings_that_went_well_taught_something(world: Watched) -> None:
    assert lived(world).learnt == (
        (NOW - timedelta(days=200), "naive"),
        (NOW - timedelta(days=10), "naive"),
    )


def test_what_was_judged_is_shown_where_nothing_was_issued(world: Watched) -> None:
    seen = lived(world, "judged")
    assert (seen.role, seen.days[0]) == ("backtest", NOW.date() - timedelta(days=2))
    assert seen.lines["ridge"].tolist() == [1.0, 2.0]
    assert lived(world, "judged", role="live").days == ()
    assert lived(world, role="backtest").days == ()
    assert isinstance(seen.days[0], date)


def test_the_figure_has_the_marks_in_its_table_and_tells_of_those_outside(ask: Client) -> None:
    made = json.loads(ask("/figures/life.json?asset=a").body)
    assert "2 marks lie outside" not in json.dumps(made)
    assert "3 marks lie outside" in json.dumps(made)  # the first and the last in charge, and one learnt long ago
    assert "<img" not in json.dumps(made)
    text = ask("/figures/life.csv?asset=a").text
    assert [text.count("comes into charge"), text.count("learnt until then")] == [1, 1]


def test_versions_say_which_is_in_charge(ask: Client) -> None:
    rows = cells(ask("/asset?id=a").text, "Versions")
    assert [(row[6], row[2]) for row in rows] == [("v4", "yes"), ("v3", "–"), ("v2", "–")]


def test_what_an_asset_looks_at_is_told_with_how_new_it_is(ask: Client, world: Watched) -> None:
    rows = cells(ask("/asset?id=a").text, "What it looks at")
    assert [(row[0], row[1], row[4], row[7]) for row in rows] == [
        ("temp", "north", "337", "2024-06-09 23:00 UTC"),
        ("wind", "north", "337", "2024-06-09 23:00 UTC"),
    ]
    (temp, _) = questions.inputs(world.fleet.store.snapshot(), NASTY)
    assert (temp["n"], temp["newest_valid"]) == (None, None)  # nothing of the last fortnight, and not none of it well
    assert questions.inputs(world.fleet.store.snapshot(), "judged") == []
