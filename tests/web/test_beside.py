"""Runs beside each other, and the table of assets: what differs is marked, days are drawn, all rows can be taken."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from fleet import Fleet
from fleet.questions.beside import beside
from tests.web.conftest import NASTY, Client, served

OWN = (
    {"params": {"lags": 24, "tree": {"leaves": 31}}, "metrics": {"mae": 3.0, "own": 1.0, "skill_day": 0.2}},
    {"params": {"lags": 48, "tree": {"leaves": 31}}, "metrics": {"mae": 2.0, "own": 2.0, "skill_day": 0.3}},
    {"params": {"lags": 24, NASTY: True}, "metrics": {"mae": float("nan")}},
)


@pytest.fixture(scope="module")
def tracked(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, list[str]]]:
    folder = tmp_path_factory.mktemp("beside") / "f"
    shutil.copytree(built, folder)
    with Fleet.open(folder / "fleet.toml") as fleet:
        ids = []
        for asset, one in zip(("north-1", "north-1", "south-1"), OWN, strict=True):
            with fleet.store.run(asset=asset, recipe="own", params=one["params"]) as run:
                run.log_metrics(one["metrics"])
            ids.append(run.id)
        with served(fleet) as client:
            yield client, ids


def path(*ids: str, **more: str) -> str:
    return "/runs/compare?" + "&".join([*(f"run={one}" for one in ids), *(f"{k}={v}" for k, v in more.items())])


def lines(text: str) -> dict[str, tuple[bool, list[str]]]:
    """By name: whether a line is marked as differing, and its cells."""
    found = {}
    for mark, body in re.findall(r"<tr( class=\"differs\")?><th scope=\"row\">(.*?)</tr>", text, re.DOTALL):
        name, _, rest = body.partition("</th>")
        cells = [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<td[^>]*>(.*?)</td>", rest, re.DOTALL)]
        found[re.sub(r"<.*", "", name).strip()] = (bool(mark), cells)
    return found


def test_what_differs_is_marked_and_the_lowest_error_too(tracked: tuple[Client, list[str]]) -> None:
    ask, ids = tracked
    seen = lines(ask(path(*ids[:2])).text)
    assert seen["lags"] == (True, ["24", "48"])
    assert seen["tree.leaves"] == (False, ["31", "31"])
    assert seen["mae"] == (True, ["3", "2 ★"])
    assert seen["skill_day"] == (True, ["0.2", "0.3 ★"])
    assert seen["own"] == (True, ["1", "2"])  # nobody says which way is better
    assert seen["asset_id"] == (False, ["north-1", "north-1"])


def test_columns_stand_in_the_order_of_the_address_and_what_is_alike_can_be_left_out(
    tracked: tuple[Client, list[str]],
) -> None:
    ask, ids = tracked
    assert lines(ask(path(*ids[1::-1])).text)["lags"] == (True, ["48", "24"])
    seen = lines(ask(path(*ids[:2], differing="true")).text)
    assert "tree.leaves" not in seen
    assert "lags" in seen


def test_what_a_run_lacks_is_a_dash_and_no_best(tracked: tuple[Client, list[str]]) -> None:
    ask, ids = tracked
    found = ask(path(*ids)).text
    seen = lines(found)
    assert seen["own"] == (True, ["1", "2", "–"])
    assert seen["mae"] == (True, ["3", "2 ★", "–"])
    assert "<img" not in found


def test_runs_that_are_not_there_or_not_to_be_seen_are_absent(tracked: tuple[Client, list[str]]) -> None:
    ask, ids = tracked
    assert "No such run: nobody" in ask(path(ids[0], "nobody")).text
    assert ask("/runs/compare").status == 200
    found = ask(path(*ids), token=ask.token("read", assets=("north-*",))).text
    assert f"No such run: {ids[2]}" in found
    assert "south-1" not in found
    assert ask(path(*["x"] * 13)).status == 400


def test_the_choice_stands_in_the_address_of_the_list(tracked: tuple[Client, list[str]]) -> None:
    ask, ids = tracked
    found = ask(f"/runs?recipe=day&run={ids[0]}").text
    assert re.search(rf'<input type="checkbox" name="run" value="{ids[0]}" checked>', found)
    found = ask(f"/runs?recipe=own&run={ids[0]}").text
    assert found.count(f'value="{ids[0]}"') == 2  # kept by the filter, ticked in its line
    assert found.count(" checked") == 1


def test_a_value_is_the_last_that_was_logged(tmp_path: Path) -> None:
    from store import Store

    with Store.open(tmp_path / "s") as store:
        with store.run(recipe="own") as run:
            for step, value in ((1, 5.0), (3, 1.0), (2, 9.0)):
                run.log_metrics({"mae": value}, step=step)
        (line,) = beside(store.snapshot(), [run.id]).metrics
        assert (line.name, line.values, line.differs) == ("mae", (1.0,), False)


def test_every_asset_of_the_page_has_its_days_drawn(ask: Client) -> None:
    found = ask("/assets").text
    assert found.count("<svg") == 3  # the fourth has no readings
    assert "–" in found.split(quote(NASTY, safe=""))[1].split("</tr>")[0]


def test_facets_count_among_what_else_is_asked_for(ask: Client) -> None:
    text = ask("/assets?region=north").text
    assert "north (2)" in text
    assert "south (2)" in text  # what would come, were it chosen instead
    assert "north (1)" in ask("/assets?q=1").text


@pytest.mark.parametrize("form", ["csv", "json", "parquet", "arrow"])
def test_all_rows_of_the_table_can_be_taken(ask: Client, form: str) -> None:
    found = ask(f"/assets?region=north&sort=-asset_id&format={form}")
    assert found.status == 200
    if form == "csv":
        lines = found.text.splitlines()
        assert [line.split(",")[0] for line in lines] == ['"asset_id"', '"north-2"', '"north-1"']
    if form == "json":
        assert [row["asset_id"] for row in found.json["rows"]] == ["north-2", "north-1"]
