"""The dashboard at scale: ``python -m tests.bench web [--assets 10000] [--days 90] [--keep FOLDER]``.

The installed command serves a store of many assets whose scores were written straight into it (`tests.bench.web.stock`;
a day ahead in hours has three lead buckets, so 10,000 assets over 90 days are 8.1 million judged cells and 2.7 million
issued ones). Told are, one JSON line each:

- of each page's HTML and each figure the milliseconds to the last byte, first asked of a snapshot and asked again, and
  kilobytes as they go over the wire; then the same while a training commits a chunk of assets every second
- of a page in Chromium the first paint and when its figures in sight are drawn, with an empty cache and a full one
- of many readers at once requests a second, the 95th percentile, errors

Limits hold for a machine that does nothing else. ``cpu_ms`` is the server's processor time for the same requests.
"""

from __future__ import annotations

import argparse
import tempfile
from datetime import timedelta
from pathlib import Path

from tests.bench.web.asking import ask_everything
from tests.bench.web.browsing import browse
from tests.bench.web.crowd import crowd
from tests.bench.web.server import serving, told, training
from tests.bench.web.stock import stock

PARTS = ("still", "training", "browser", "crowd")


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench web")
    parser.add_argument("--assets", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--readers", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=30, help="that many readers ask")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--keep", type=Path, help="a folder in which the store is kept, and found the next time")
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        folder = asked.keep or Path(name)
        folder.mkdir(exist_ok=True)
        config = folder / "fleet.toml"
        if not config.exists():
            stock(folder, asked.assets, asked.days)
        size = {"assets": asked.assets, "days": asked.days}
        with serving(config) as server:
            if "still" in asked.parts:
                told("ready", **size, seconds=server.ready_s)
                ask_everything(server, "still", 5, size)
            with training(folder, asked.assets, asked.days, every=timedelta(seconds=1)) as commits:
                if "training" in asked.parts:
                    ask_everything(server, "training", asked.rounds, size)
                if "browser" in asked.parts:
                    browse(server, size)
                if "crowd" in asked.parts:
                    crowd(server, asked.readers, asked.seconds, size)
            told("training", **size, **commits)
