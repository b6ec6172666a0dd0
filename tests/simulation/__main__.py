"""``python -m tests.simulation [--days 14 --assets 20 --seed 0 --crashes 60 --begin 2024-06-03]``: a fleet by itself.

An injected clock walks so many days of an hourly fleet with every kind of job, outages of the feed, late and revised
readings, and deaths of runs and schedulers; one JSON line a figure. Exit code 1 when something is lost, doubled or
wrong. The same seed tells the same story.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

EVERY_KIND = 14


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--assets", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--crashes", type=int, default=84, help="runs or schedulers that die; some of them again")
    parser.add_argument("--begin", type=date.fromisoformat, default=date(2024, 6, 3))
    parser.add_argument("--folder", type=Path, help="where all is left; a temporary folder by default")
    asked = parser.parse_args(words)
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # before NumPy is imported: what forks has no threads
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["XDG_CONFIG_HOME"] = scratch  # the keys of this fleet are its own
        return _walked(asked, asked.folder or Path(scratch) / "simulation")


def _walked(asked: argparse.Namespace, folder: Path) -> int:
    from tests.simulation.children import Nursery

    nursery = Nursery()
    from tests.simulation.story import at_start, drawn
    from tests.simulation.verdict import Verdict
    from tests.simulation.walk import Walk

    story = drawn(at_start(asked.begin), asked.days, asked.assets, asked.crashes, asked.seed)
    began = time.monotonic()
    walk = Walk(folder, story, nursery)
    walk.go()
    nursery.close()
    (folder / "log.txt").write_text("\n".join([*walk.told.log, *walk.told.raised]) + "\n", encoding="utf-8")
    minutes = round((time.monotonic() - began) / 60, 1)
    verdict = Verdict(folder, story, walk.world)
    wrong: list[str] = []

    def tell(figure: str, numbers: dict[str, Any], **zero: float) -> None:
        print(json.dumps({"simulation": figure, "seed": asked.seed, **numbers}), flush=True)
        wrong.extend(f"{figure}.{name} = {value}" for name, value in zero.items() if value)

    told = walk.told
    tell(
        "walk",
        {"days": asked.days, "assets": asked.assets, "begin": str(asked.begin), "minutes": minutes, "runs": told.runs,
         "crashes": dict(told.killed), "died": sum(told.deaths.values()), "died_by_job": dict(told.deaths),
         "schedulers": told.restarts + 1, "outages": len(story.spans), "raised": len(told.raised)},
        raised=len(told.raised),
    )  # fmt: skip
    slots, effects, forecasts, scores = verdict.slots(), verdict.effects(), verdict.forecasts(), verdict.scores()
    tell("slots", slots, lost=slots["lost"], doubled=slots["doubled"], invented=slots["invented"])
    tell("effects", effects, off=effects["own_ok"] - effects["own_rows"])
    tell(
        "forecasts", forecasts, off=forecasts["expected"] - forecasts["published_once"],
        rows_doubled=forecasts["rows_doubled"], not_asked_for=forecasts["not_asked_for"],
    )  # fmt: skip
    tell("scores", scores, missing=scores["missing"], surplus=scores["surplus"], off=scores["worst_of_sum_abs"] > 1e-12)
    ingested, delivered, alerts = verdict.ingested(), verdict.delivered(), verdict.alerts()
    tell("ingested", ingested, missing=ingested["missing"], surplus=ingested["surplus"], other=ingested["other"])
    tell("delivered", delivered, files_wrong=delivered["files_wrong"])
    tell("alerts", alerts, open_twice=alerts["open_twice"])
    verdict.close()
    for line in (*wrong, *told.raised[:3], *(str(one) for one in verdict_doubles(slots, folder))):
        print(line, file=sys.stderr)
    return int(bool(wrong))


def verdict_doubles(slots: dict[str, Any], folder: Path) -> list[str]:
    """A hint where to look."""
    return [f"what was doubled is in {folder}"] if slots["doubled"] else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
