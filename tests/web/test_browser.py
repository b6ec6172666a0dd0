"""Pages in a real browser: nothing from elsewhere, a silent console, what axe finds, the URL as the only memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from fastapi.routing import APIRoute

from fleet import Fleet
from jobs.web.app import ROUTERS
from tests.jobs.conftest import make_fleet
from tests.web import browser
from tests.web.conftest import NASTY, Client, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(browser.missing()) and not browser.needed(), reason=browser.missing() or "-"),
]
THEMES = ("light", "dark")
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
#: No pages: what programs ask, and what pages are made of.
OTHERS = ("/api/", "/figures/", "/static/", "/healthz", "/readyz", "/metrics", "/logout")
#: What a page that is about one thing is asked with.
ABOUT = {"/asset": f"?id={quote(NASTY)}"}
#: How grave a finding of axe has to be.
GRAVE = ("serious", "critical")


def pages() -> tuple[str, ...]:
    """Every page that the application has, a later one too."""
    found = [one for router in ROUTERS for one in router.routes if isinstance(one, APIRoute) and "GET" in one.methods]
    paths = dict.fromkeys(one.path for one in found if not one.path.startswith(OTHERS))
    return tuple(path + ABOUT.get(path, "") for path in paths)


class Seen:
    """A page with its ears open: whom it asked, what its console told."""

    def __init__(self, page: Page, client: Client) -> None:
        self.page, self._client = page, client
        self.hosts: set[str] = set()
        self.said: list[str] = []
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        page.on("console", lambda line: self.said.append(line.text) if line.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("dialog", lambda dialog: (self.said.append(f"dialog {dialog.message}"), dialog.dismiss()))

    @property
    def home(self) -> str:
        return f"127.0.0.1:{self._client.port}"

    def go(self, address: str) -> Page:
        """The page once all its figures are drawn."""
        answer = self.page.goto(f"http://{self.home}{address}")
        assert answer is not None
        assert answer.status == 200, (address, answer.text()[:300])
        browser.drawn(self.page)
        return self.page


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    assert not browser.missing(), browser.missing()
    with browser.chromium() as started:
        yield started


@contextmanager
def looking(chromium: Browser, client: Client, *, theme: Any = "light", size: Any = None) -> Iterator[Seen]:
    """Somebody who looks, with nothing kept."""
    context = chromium.new_context(color_scheme=theme, viewport=size or DESK)
    context.set_default_timeout(60_000)
    try:
        yield Seen(context.new_page(), client)
    finally:
        context.close()


@pytest.fixture
def see(chromium: Browser, ask: Client) -> Iterator[Seen]:
    with looking(chromium, ask) as seen:
        yield seen


def grave(page: Page) -> list[str]:
    """What axe finds that keeps somebody from using a page."""
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")["violations"]
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in found
        if one["impact"] in GRAVE
        for node in one["nodes"][:3]
    ]


@pytest.mark.parametrize("address", pages())
def test_a_page_asks_no_other_host_and_its_console_is_silent(see: Seen, address: str) -> None:
    see.go(address)
    assert see.hosts == {see.home}
    assert see.said == []


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("address", pages())
def test_nothing_grave_keeps_anybody_from_using_a_page(
    chromium: Browser, ask: Client, address: str, theme: str
) -> None:
    with looking(chromium, ask, theme=theme) as seen:
        assert grave(seen.go(address)) == []


@pytest.mark.parametrize("address", pages())
def test_a_page_fits_a_phone(chromium: Browser, ask: Client, address: str) -> None:
    with looking(chromium, ask, size=PHONE) as seen:
        page = seen.go(address)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]


def test_back_and_reload_keep_every_filter(see: Seen) -> None:
    page = see.go("/assets")
    page.fill("input[name=q]", "NORTH")
    page.press("input[name=q]", "Enter")
    page.wait_for_url("**/assets?*q=NORTH*")
    page.select_option("select[name=region]", "north")  # asks at once
    page.wait_for_url("**region=north*")

    def state() -> tuple[object, ...]:
        asked = parse_qs(urlsplit(page.url).query)
        names = [one.inner_text() for one in page.query_selector_all("tbody td:first-child a")]
        return asked["q"], asked["region"], page.input_value("input[name=q]"), names

    kept = state()
    assert kept == (["NORTH"], ["north"], "NORTH", kept[3])
    assert sorted(kept[3]) == ["north-1", "north-2"]
    page.reload()
    assert state() == kept
    page.click("tbody td:first-child a")
    page.wait_for_url("**/asset?id=*")
    page.go_back()
    assert state() == kept


def test_a_name_is_text_in_every_page_and_figure(see: Seen) -> None:
    for address in ("/assets", f"/asset?id={quote(NASTY)}", "/", "/leaderboard?by=asset", "/runs"):
        page = see.go(address)
        assert page.query_selector_all("img[src='x']") == [], address
    assert see.said == []  # a script of a name would open a dialog


def test_the_theme_is_chosen_and_kept(see: Seen) -> None:
    page = see.go("/about")
    light = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    dark = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert dark != light
    see.go("/")
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == dark


def test_all_is_reached_by_keys_and_shows_where_it_is(see: Seen) -> None:
    page = see.go("/assets")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.activeElement.id") == "main"
    page.keyboard.press("/")
    assert page.evaluate("() => document.activeElement.name") == "q"


def test_the_table_behind_a_figure_opens_in_its_place(see: Seen) -> None:
    page = see.go("/")
    page.click("details[data-table] summary")
    page.wait_for_selector("details[data-table] table")
    assert see.said == []


def test_an_empty_store_has_quiet_pages(chromium: Browser, tmp_path: Path) -> None:
    make_fleet(tmp_path / "f")
    with (
        Fleet.open(tmp_path / "f" / "fleet.toml") as fleet,
        served(fleet) as client,
        looking(chromium, client) as seen,
    ):
        for address in pages():
            if not address.startswith("/asset?"):
                assert grave(seen.go(address)) == [], address
        assert seen.said == []


def test_one_asset_is_a_fleet(chromium: Browser, tmp_path: Path) -> None:
    make_fleet(tmp_path / "f")
    with Fleet.open(tmp_path / "f" / "fleet.toml") as fleet:
        fleet.ingest()
        fleet.backtest(select=["north-1"])
        with served(fleet) as client, looking(chromium, client) as seen:
            for address in pages():
                if not address.startswith("/asset?"):
                    seen.go(address)
            seen.go("/asset?id=north-1")
            assert seen.said == []
