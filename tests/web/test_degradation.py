"""The Degradation page: a fleet whose errors are written by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.jobs.watched import Watched, steady
from tests.web.conftest import NASTY, Client, served
from tests.web.test_attic import cells

DAYS = 40


@pytest.fixture(scope="module")
def decayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Ten assets: one twice as far off for a week, one worse for ten days, one better, one new."""
    names = [f"p{k}" for k in range(9)]
    world = Watched(tmp_path_factory.mktemp("decayed") / "f", assets={name: {} for name in (*names, NASTY)})
    errors = {name: steady(DAYS, seed=k) for k, name in enumerate(world.assets)}
    errors[NASTY][-7:] = [2 * error for error in errors[NASTY][-7:]]
    errors["p1"][-10:] = [1.6 * error for error in errors["p1"][-10:]]
    errors["p2"][-7:] = [0.5 * error for error in errors["p2"][-7:]]
    errors["p3"] = errors["p3"][-2:]
    world.scores(errors)
    with served(world.fleet) as client:
        yield client
    world.fleet.close()


def listed(ask: Client, query: str = "") -> list[list[str]]:
    return cells(ask(f"/degradation?{query}").text, "Assets")


def test_the_worst_come_first_with_the_day_on_which_it_began(decayed: Client) -> None:
    rows = listed(decayed)
    assert [(row[0], row[1], row[3]) for row in rows] == [
        ("&lt;img src=x onerror=alert(1)&gt;", "ridge", "2024-06-03"),
        ("p1", "ridge", "2024-05-31"),
    ]
    assert [90 < int(rows[0][2].removesuffix(" %")) < 110, rows[0][8]] == [True, "7 + 28"]


def test_verdicts_are_asked_for_one_by_one(decayed: Client) -> None:
    assert [row[0] for row in listed(decayed, "verdict=better")] == ["p2"]
    assert [row[0] for row in listed(decayed, "verdict=unknown")] == ["p3"]
    assert len(listed(decayed, "verdict=all")) == 10
    assert [row[0] for row in listed(decayed, "verdict=all&sort=asset_id&q=P")][:2] == ["p0", "p1"]
    assert [row[0] for row in listed(decayed, "effect=0.9")] == ["&lt;img src=x onerror=alert(1)&gt;"]
    # A week earlier nothing had happened yet but to the asset whose ten days begin then.
    assert listed(decayed, "until=2024-05-30")[0] == ["no such asset"]


def test_what_does_not_hold_is_refused(decayed: Client) -> None:
    for query in ("recent=0", "recent=31", "history=2", "effect=0", "effect=x", "until=soon", "sort=x", "verdict=x"):
        assert decayed(f"/degradation?{query}").status == 400, query


def test_the_csv_has_every_asset_of_the_verdict(decayed: Client) -> None:
    lines = decayed("/degradation?verdict=all&format=csv").text.splitlines()
    assert len(lines) == 11
    assert lines[0].startswith('"asset_id","recipe","verdict","now","before","change"')


def test_a_name_is_text_in_the_table_its_pictures_and_its_figures(decayed: Client) -> None:
    text = decayed("/degradation").text
    assert "<img" not in text
    assert len(re.findall(r"<svg", text)) == 2
    for name in ("changed", "course", "worsened"):
        made = decayed(f"/figures/{name}.json")
        assert json.loads(made.body)["data"], name
        assert "<img" not in made.text
        assert "u003cimg" not in made.text


def test_the_windows_of_a_figure_are_those_of_the_page(decayed: Client) -> None:
    found = json.loads(decayed("/figures/course.json?recent=3&history=14").body)
    assert len(found["data"][-1]["x"]) == 17
