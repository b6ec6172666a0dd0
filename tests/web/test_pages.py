"""Pages and figures: what they show, that a name is text in them, that no more is shown than may be."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from fleet import Fleet
from jobs.web import Settings
from jobs.web.app import ROUTERS
from jobs.web.desk import Needs
from jobs.web.render import PAGES
from tests.jobs.conftest import make_fleet
from tests.web.conftest import NASTY, Client, served

EVERY = (*(address for address, _ in PAGES), "/asset?id=north-1", "/leaderboard?by=asset", "/login")
FIGURES = (
    *("leaderboard", "distribution", "errors", "calibration", "extremes", "fan", "life", "spread", "density", "worst"),
    *("changed", "course", "worsened", "timeline", "durations", "alerts"),
)


@pytest.mark.parametrize("path", EVERY)
def test_a_page_says_where_it_is_and_holds_no_script_or_style_of_its_own(ask: Client, path: str) -> None:
    found = ask(path, accept="text/html")
    assert found.status == 200, found.text
    assert "<html lang" in found.text
    assert "<h1>" in found.text
    assert re.findall(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=\"|javascript:", found.text) == []
    sources = re.findall(r"(?:src|href|action)=\"([^\"]*)\"", found.text)
    assert sources
    assert [one for one in sources if not one.startswith(("/", "?", "#"))] == []


@pytest.mark.parametrize(
    "path", ["/", "/assets", "/runs?limit=1", f"/asset?id={quote(NASTY)}", f"/assets?q={quote(NASTY)}"]
)
def test_a_name_is_text_wherever_it_stands(ask: Client, path: str) -> None:
    found = ask(path, accept="text/html").text
    assert "<img" not in found
    if path != "/" and "runs" not in path:
        assert html.escape(NASTY) in found


def test_a_name_is_text_in_what_is_reflected(ask: Client) -> None:
    for path in ("/login?next=", "/sql?q=", "/leaderboard?by=", "/assets?kind=", "/asset?id=", "/assets?sort=", "/"):
        found = ask(path + quote('"><script>alert(1)</script>'), accept="text/html")
        assert "<script>alert" not in found.text, path


@pytest.mark.parametrize("name", FIGURES)
def test_behind_every_figure_is_a_table(ask: Client, name: str) -> None:
    query = "?asset=north-1" if name in ("fan", "life") else ""
    made = json.loads(ask(f"/figures/{name}.json{query}").body)
    assert made["layout"]["title"]["text"]
    if not made["data"]:  # this fleet has no quantiles, no alert, three days of scores, and the figures say so
        said = made["layout"]["annotations"][0]["text"]
        assert said.startswith({
            "calibration": "no forecast", "alerts": "no alert was open", "changed": "no asset has scores in both",
            "worsened": "no asset is worse",
        }[name])  # fmt: skip
        return
    assert "<table>" in ask(f"/figures/{name}.html{query}").text
    lines = ask(f"/figures/{name}.csv{query}").text.splitlines()
    assert len(lines) > 1


def test_a_name_is_text_in_a_figure(ask: Client) -> None:
    found = ask(f"/figures/fan.json?asset={quote(NASTY)}").text
    assert "<img" not in found
    assert "\\u003cimg" not in found


def test_a_figure_that_is_not_there_is_told(ask: Client) -> None:
    assert ask("/figures/nothing.json").status == 404
    assert ask("/figures/fan.json?asset=nobody").status == 404
    assert ask("/figures/fan.json?asset=north-1&issue=2001-01-01T00:00Z").status == 404
    assert ask("/figures/fan.xml?asset=north-1").status == 400


def test_the_table_of_assets_is_searched_narrowed_and_sorted_in_the_store(ask: Client) -> None:
    def ids(query: str) -> list[str]:
        return re.findall(r'<td><a href="/asset\?id=([^"]+)"', ask(f"/assets?{query}").text)

    assert ids("sort=asset_id") == [quote(NASTY, safe=""), "north-1", "north-2", "south-1"]
    assert ids("sort=-asset_id&region=north") == ["north-2", "north-1"]
    assert ids("q=SOUTH") == ["south-1"]
    assert ids("page=2") == []
    assert ask("/assets?sort=nonsense").status == 400
    assert ask("/assets?sort=asset_id;drop").status == 400


def test_a_token_for_some_assets_sees_no_page_of_another(ask: Client) -> None:
    token = ask.token("read", assets=("north-*",))
    assert ask("/asset?id=south-1", token=token).status == 404
    assert ask("/figures/fan.json?asset=south-1", token=token).status == 404
    for path in (
        "/assets", "/runs", "/leaderboard?by=asset", "/degradation?verdict=all",
        "/figures/extremes.html", "/figures/distribution.html",
    ):  # fmt: skip
        found = ask(path, token=token)
        assert found.status == 200
        assert "south" not in found.text, path
    assert "north-1" in ask("/asset?id=north-1", token=token).text


def test_an_empty_store_has_pages(tmp_path: Path) -> None:
    make_fleet(tmp_path / "f")
    with Fleet.open(tmp_path / "f" / "fleet.toml") as fleet, served(fleet) as ask:
        for path in (*(address for address, _ in PAGES), "/api/v1/assets", "/api/v1/leaderboard", "/metrics"):
            assert ask(path, accept="*/*").status == 200, path
        for name in FIGURES:
            if name in ("fan", "life"):
                continue
            assert ask(f"/figures/{name}.json").status == 200, name


def test_every_route_says_which_scope_it_needs() -> None:
    """What is open to everybody is named here, and nothing else is."""

    def needs(dependant: Dependant) -> bool:
        return isinstance(dependant.call, Needs) or any(needs(one) for one in dependant.dependencies)

    routes = [one for router in ROUTERS for one in router.routes if isinstance(one, APIRoute)]
    assert len(routes) > 25
    free = {one.path for one in routes if not needs(one.dependant)}
    assert free == {"/login", "/logout", "/static/{tag}/{name}", "/healthz", "/readyz"}


def test_plotly_comes_from_the_installed_package_and_stays(ask: Client) -> None:
    (path,) = re.findall(r'data-plotly="([^"]+)"', ask("/login").text)
    found = ask(path, accept_encoding="gzip")
    assert "immutable" in found.headers["cache-control"]
    assert found.headers["content-encoding"] == "gzip"
    assert ask(path.replace("/static/", "/static/0")).status == 404


def test_the_description_of_rest_needs_no_more_than_reading(serving: Callable[[Settings], Client]) -> None:
    ask = serving(Settings(port=0, require_token=True))
    for path in ("/", "/assets", "/figures/errors.json", "/api/v1/assets", "/metrics", "/sql", "/about"):
        assert ask(path).status == 401, path
    assert ask("/healthz").status == 200
