"""Pages in Chromium: when something is painted, and when all figures in sight are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.bench.web.asking import pages
from tests.bench.web.server import Server, told

READY_MS = {"cold": 2_000.0, "warm": 1_000.0}
#: Figures that are in sight and not drawn yet.
WAITING = """() => [...document.querySelectorAll('[data-figure]')].every((one) => {
  const box = one.getBoundingClientRect();
  return box.top > innerHeight || one.dataset.drawn || one.querySelector('.warn'); })"""
PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"


def browse(server: Server, size: Mapping[str, int], rounds: int = 5) -> None:
    """Each page with an empty cache, then with a full one; the median of some rounds."""
    from tests.web.browser import chromium

    for address in pages():
        found: dict[str, list[tuple[float, float]]] = {"cold": [], "warm": []}
        for _ in range(rounds):
            with chromium() as browser:
                page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
                for times in found.values():
                    times.append(_seen(page, server.address + address))
        for state, seen in found.items():
            paint, ready = (sorted(column)[len(seen) // 2] for column in zip(*seen, strict=True))
            told(
                f"browser {address}", **size, state=state, first_paint_ms=paint, ready_ms=ready,
                limit_ms=READY_MS[state], within=ready <= READY_MS[state],
            )  # fmt: skip


def _seen(page: Any, address: str) -> tuple[float, float]:
    page.goto(address)
    page.wait_for_function(WAITING, timeout=60_000)
    ready = page.evaluate("() => performance.now()")
    return page.evaluate(PAINT) or ready, ready
