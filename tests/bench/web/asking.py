"""Every page and every figure that the pages name, asked one after the other as a reader does."""

from __future__ import annotations

import html
import http.client
import re
import time
from collections.abc import Iterator, Mapping

from jobs.web.render import PAGES
from tests.bench.web.server import Server, get, spread_ms, told
from tests.bench.web.stock import asset

LIMITS = {"page": 150.0, "figure": 300.0}


def pages() -> tuple[str, ...]:
    return (*(address for address, _ in PAGES), f"/asset?id={asset(13)}")


def named(page: bytes) -> Iterator[str]:
    """The figures of a page."""
    for found in re.finditer(r'data-figure="([^"]+)"', page.decode()):
        yield html.unescape(found[1])


def ask_everything(server: Server, when: str, rounds: int, size: Mapping[str, int]) -> None:
    """Each address several times in turn, so that commits of a training fall between."""
    import gzip

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
    waits: dict[tuple[str, str], list[float]] = {}
    spent: dict[tuple[str, str], list[float]] = {}
    sizes: dict[tuple[str, str], int] = {}

    def ask(kind: str, path: str) -> bytes:
        before, began = server.cpu_s(), time.perf_counter()
        status, body = get(connection, path)
        took = time.perf_counter() - began
        if status != 200:
            told(f"{kind} {path}", when=when, status=status)
        waits.setdefault((kind, path), []).append(took)
        spent.setdefault((kind, path), []).append(server.cpu_s() - before)
        sizes[kind, path] = len(body)
        return gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body

    for _ in range(rounds):
        for page in pages():
            for figure in dict.fromkeys(named(ask("page", page))):
                ask("figure", figure)
    for key, seconds in waits.items():
        kind, path = key
        first = {"first_ms": 1_000 * seconds[0]}
        again = spread_ms(seconds[1:] or seconds)
        cpu = sorted(spent[key])
        told(
            f"{kind} {path}", when=when, **size, **first, **again, cpu_median_ms=1_000 * cpu[len(cpu) // 2],
            cpu_first_ms=1_000 * spent[key][0], kb=sizes[key] / 1e3, limit_ms=LIMITS[kind],
            within=again["p95_ms"] <= LIMITS[kind],
        )  # fmt: skip
    told("memory", when=when, **size, peak_mb=server.peak_mb(), cpu_s=server.cpu_s())
    connection.close()
