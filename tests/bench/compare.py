"""The job `compare` over a large fleet, as a timer starts it: ``python -m tests.bench compare [--assets 10000]``.

The scores are those of the dashboard's bench: three recipes, three leads, one asset in ten drifts. ``--keep`` names a
folder in which store and page are left, to look at; a store that is there already is taken.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from datetime import timedelta
from pathlib import Path

from tests.bench.cycle import COMMAND, measured
from tests.bench.web.stock import START, stock

JOB = """
[jobs.standing]
kind = "compare"
cron = "0 6 * * *"
[jobs.standing.options]
file = "standing.html"
"""


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench compare")
    parser.add_argument("--assets", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        folder = asked.keep or Path(name)
        folder.mkdir(exist_ok=True)
        config = folder / "fleet.toml"
        if not config.exists():
            stock(folder, asked.assets, asked.days)
            config.write_text(config.read_text(encoding="utf-8") + JOB, encoding="utf-8")
        slot = START + timedelta(days=asked.days)
        for _ in range(asked.rounds):
            command = [str(COMMAND), "jobs", "run", "standing", "--slot", slot.isoformat(), "--again"]
            figure = measured(command, folder)
            page = {"page_kb": round((folder / "standing.html").stat().st_size / 1_000)}
            size = {"assets": asked.assets, "days": asked.days}
            print(json.dumps({"bench": "compare", **size, **figure, **page}), flush=True)
