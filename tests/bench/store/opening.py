"""A fresh process that opens a store and asks one tiny question, beside one that does the same with bare DuckDB.

Ours: ``from store import Store``, open a store of 100 runs in hot rows, ``select count(*) from runs``. Theirs:
``import duckdb``, ``connect()``, ``select 1``. Both are timed from the start of the process to its end, in turns; the
ratio is the median over pairs, of wall and of processor seconds. ``catalog`` asks what the catalog alone knows
(``Store.head``), which does not load DuckDB. ``python`` starts and does nothing, so that one sees what is left.

``python -m tests.bench store opening [--pairs 30]``
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from store import Store
from tests.bench.store.commit import log
from tests.bench.store.lines import judged, tell
from tests.bench.store.plain import work

LIMIT = 1.4
SIDES = {
    "python": "pass",
    "duckdb": "import duckdb; duckdb.connect().execute('select 1').fetchall()",
    "store": "from store import Store; store = Store.open({path!r}); store.sql('select count(*) from runs').rows()",
    "catalog": "from store import Store; Store.open({path!r}).head()",
}


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench store opening")
    parser.add_argument("--pairs", type=int, default=30)
    asked, _ = parser.parse_known_args(words)
    found: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "opening.store"
        with Store.open(path) as store:
            for one in work(6, 100):
                log(store, one)
        for place in range(asked.pairs + 1):
            for side, code in SIDES.items():
                cost = process([sys.executable, "-c", code.format(path=str(path))])
                if place:  # the first ones compile and fill the disk's cache
                    found[side].append(cost)
    for measure, what in enumerate(("wall", "cpu")):
        medians = {side: 1_000 * statistics.median(one[measure] for one in costs) for side, costs in found.items()}
        shown = {f"{side}_ms": value for side, value in medians.items()}
        pairs = zip(found["store"], found["duckdb"], strict=True)
        ratio = statistics.median(ours[measure] / theirs[measure] for ours, theirs in pairs)
        tell("opening", figure=what, pairs=asked.pairs, **shown, **judged(ratio, LIMIT))


def process(command: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of a process from its start to its end."""
    before, began = os.times(), time.perf_counter()
    subprocess.run(command, check=True)
    wall, after = time.perf_counter() - began, os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, spent
