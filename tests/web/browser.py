"""A real browser: the system's Chromium by its path, driven by Playwright, which downloads nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
#: Set where a missing browser is a failure, as in `.ci/run`.
NEEDED = "TSFLEET_NEEDS_CHROMIUM"


def executable() -> str | None:
    """Where the browser is."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def missing() -> str:
    """What lacks for tests in a browser; empty where nothing does."""
    if find_spec("playwright") is None:
        return "playwright is not installed: pip install -e '.[test]'"
    return "" if executable() else f"none of {', '.join(NAMES)} is installed"


def needed() -> bool:
    return bool(os.environ.get(NEEDED))


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser while the block runs, with nothing kept of another."""
    from playwright.sync_api import sync_playwright

    # Debian's has a sandbox of its own that root cannot use; its pages come from this machine alone.
    arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=executable(), headless=True, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


def drawn(page: Page) -> None:
    """Wait until every figure is drawn or says why not; they are drawn when they come into sight."""
    for place in page.query_selector_all("[data-figure]"):
        place.scroll_into_view_if_needed()
        page.wait_for_function("one => one.dataset.drawn || one.querySelector('.warn')", arg=place)
    page.evaluate("scrollTo(0, 0)")
