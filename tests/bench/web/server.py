"""The server that is measured, the training that commits beside it, and how a figure is told."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

#: A server that is not ready by then never will be.
MOST_S = 120.0
COMMAND = Path(sys.executable).parent / "tsfleet"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """The command at work.

    Args:
        ready_s: from its start until it says that it is ready.
    """

    port: int
    pid: int
    ready_s: float

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cpu_s(self) -> float:
        """Processor seconds so far, of all its threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def peak_mb(self) -> float:
        lines = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1_024


def get(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    """One request as a browser makes it; the body as it came."""
    connection.request("GET", path, headers={"accept": "text/html,*/*", "accept-encoding": "gzip"})
    answer = connection.getresponse()
    return answer.status, answer.read()


@contextmanager
def serving(config: Path) -> Iterator[Server]:
    """`tsfleet ui` while the block runs."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [COMMAND, "ui", "--port", "0", "--config", str(config)], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        port = urlsplit(next(word for word in line.split() if word.startswith("http://"))).port
        assert port is not None
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        while get(connection, "/readyz")[0] != 200:
            assert time.perf_counter() - began < MOST_S
            time.sleep(0.05)
        connection.close()
        yield Server(port, process.pid, time.perf_counter() - began)
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def training(folder: Path, assets: int, days: int, *, every: timedelta) -> Iterator[dict[str, Any]]:
    """Another process that commits the judgements of fifty assets at a time; its commits are counted afterwards."""
    command = [sys.executable, "-m", "tests.bench.web.server", str(folder), str(assets), str(days)]
    command.append(str(every.total_seconds()))
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = {}
    try:
        yield found
    finally:
        out, _ = process.communicate("\n", timeout=600)
        found.update(json.loads(out.splitlines()[-1]))


def train(folder: Path, assets: int, days: int, every_s: float) -> None:
    """Commit until somebody says that it is enough."""
    import threading

    import numpy as np

    from store import Store
    from tests.bench.web.stock import RECIPES, START, judged

    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
    commits, took = 0, 0.0
    with Store.open(folder / "many.store") as store:
        while not stop.wait(every_s):
            recipe, first = commits % len(RECIPES), 50 * (commits // len(RECIPES)) % assets
            transaction = store.begin(note="train")
            began = time.perf_counter()
            numbers = np.arange(first, min(first + 50, assets))
            again = int(time.time()) % 1_000_000  # judgements of a later run of the bench sort behind
            for name, table in judged(recipe, numbers, days, START + timedelta(days=days), again).items():
                transaction.insert(name, table)
            transaction.commit()
            commits, took = commits + 1, took + time.perf_counter() - began
    print(json.dumps({"commits": commits, "mean_commit_s": took / max(1, commits)}))


def told(figure: str, **figures: Any) -> None:
    """Print one line."""
    shown = {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in figures.items()}
    print(json.dumps({"bench": "web", "figure": figure, **shown, "load": round(os.getloadavg()[0], 1)}), flush=True)


def spread_ms(seconds: list[float]) -> Mapping[str, float]:
    """Median, 95th percentile and worst of waits."""
    ordered = sorted(1_000 * one for one in seconds)
    return {
        "median_ms": ordered[len(ordered) // 2],
        "p95_ms": ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))],
        "worst_ms": ordered[-1],
    }


if __name__ == "__main__":
    train(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
