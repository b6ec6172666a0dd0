"""Many readers at once, each asking one page or figure after the other on a connection of its own."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Mapping

import numpy as np

from tests.bench.web.asking import named, pages
from tests.bench.web.server import Server, get, spread_ms, told


def crowd(server: Server, readers: int, seconds: float, size: Mapping[str, int]) -> None:
    """Ask for some seconds; requests a second, waits, what was no answer."""
    import gzip

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
    addresses = []
    for page in pages():
        body = get(connection, page)[1]
        addresses += [page, *named(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)]
    connection.close()
    waits: list[float] = []
    errors: list[str] = []
    lock = threading.Lock()
    end = time.perf_counter() + seconds

    def read(number: int) -> None:
        chance, mine, wrong = np.random.default_rng(number), [], []
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        while time.perf_counter() < end:
            path, began = addresses[chance.integers(len(addresses))], time.perf_counter()
            try:
                status, _ = get(connection, path)
                if status != 200:
                    wrong.append(f"{status} {path}")
            except OSError as error:
                wrong.append(f"{type(error).__name__} {path}")
                connection.close()
            mine.append(time.perf_counter() - began)
        connection.close()
        with lock:
            waits.extend(mine)
            errors.extend(wrong)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told(
        "crowd", **size, readers=readers, requests_per_s=len(waits) / seconds, **spread_ms(waits), errors=len(errors),
        first_errors=errors[:3], within=not errors,
    )  # fmt: skip
