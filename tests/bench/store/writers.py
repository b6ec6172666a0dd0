"""Eight writing processes and one that reads all the time, beside plain SQLite under the same kind of lock file.

Each writer makes 250 commits of 1 run with 10 parameters and 10 metrics as fast as it can; the reader counts the runs
and the metrics in one question ten times a second: a torn read sees other than 10 metrics a run. Afterwards every
run has to be there once, with its metrics. The store and SQLite take turns, writers and reader in processes of their
own, which have their rows and an open database before the clock starts. The store keeps itself meanwhile (flushes);
SQLite's reader counts in SQLite. See ``plain`` for what the peer does not do.

``python -m tests.bench store writers [--writers 8] [--each 250] [--rounds 3]``
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from store import Store
from tests.bench.store.commit import log
from tests.bench.store.lines import judged, milliseconds, tell, timed
from tests.bench.store.plain import METRICS, Plain, bound, work

LIMIT = 1.5
PAUSE_S = 0.1
DEADLINE_S = 300


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench store writers")
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--each", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=3)
    asked, _ = parser.parse_known_args(words)
    rates: dict[str, list[float]] = {"ours": [], "sqlite": []}
    for number in range(asked.rounds):
        for side, found in rates.items():
            with tempfile.TemporaryDirectory() as name:
                figures = together(side, Path(name) / side, asked.writers, asked.each)
            found.append(figures["commits_per_s"])
            tell("writers", figure=side, round=number, **figures)
    ours, theirs = (statistics.median(rates[side]) for side in ("ours", "sqlite"))
    tell("writers", figure="commits per second", ours=ours, sqlite=theirs, **judged(theirs / ours, LIMIT))


def together(side: str, folder: Path, writers: int, each: int) -> dict[str, Any]:
    """What one round gives: processes that start together, and what is there afterwards."""
    make(side, folder)
    members = [
        subprocess.Popen(
            [sys.executable, "-m", __spec__.name, role, side, str(folder), str(number), str(each)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number, role in enumerate(["reader", *["writer"] * writers])
    ]  # fmt: skip
    reader, *others = members
    try:
        for member in members:
            said(member)  # ready
        began = time.perf_counter()
        for member in members:
            order(member)
        told = [said(member) for member in others]
        seconds = time.perf_counter() - began
        order(reader)
        reads = said(reader)
    finally:
        for member in members:
            member.communicate(timeout=DEADLINE_S)
    waits = [wait for one in told for wait in one["s"]]
    return {
        "writers": writers,
        "commits_per_s": len(waits) / seconds,
        **milliseconds(waits),
        "writers_cpu_ms": 1_000 * sum(one["cpu_s"] for one in told) / len(waits),
        "reads": len(reads["ms"]),
        "read_cpu_ms": 1_000 * reads["cpu_s"] / max(len(reads["ms"]), 1),
        "read_median_ms": statistics.median(reads["ms"]),
        "torn": reads["torn"],
        **kept(side, folder, writers, each),
    }


def order(member: subprocess.Popen[str]) -> None:
    """Tell a member to go on."""
    assert member.stdin is not None
    member.stdin.write("\n")
    member.stdin.flush()


def said(member: subprocess.Popen[str]) -> Any:
    assert member.stdout is not None
    return json.loads(member.stdout.readline())


def make(side: str, folder: Path) -> None:
    if side == "sqlite":
        Plain(folder).close()
    else:
        Store.open(folder).close()


def kept(side: str, folder: Path, writers: int, each: int) -> dict[str, int]:
    """What is there afterwards: runs that are there once, with their metrics, and those that are not."""
    wanted = {one.run["run_id"] for number in range(1, writers + 1) for one in work(number, each, writer=number)}
    if side == "sqlite":
        with closing(Plain(folder)) as plain:
            found = plain.metrics_by_run()
    else:
        with Store.open(folder) as store:
            ask = "SELECT run_id, count(name) AS n FROM runs JOIN metrics USING (run_id) GROUP BY run_id"
            found = {row["run_id"]: row["n"] for row in store.sql(ask).rows()}
    right = {run_id for run_id, count in found.items() if count == METRICS}
    return {"present": len(wanted & right), "lost": len(wanted - right), "strange": len(set(found) - wanted)}


# ------------------------------------------------------------------------------------------- in a process of its own


def member(role: str, side: str, folder: Path, number: int, each: int) -> None:
    """A writer or the reader: it says when it is ready, waits for its order, works, and says what it saw."""
    if side == "sqlite":
        with closing(Plain(folder)) as plain:
            ready = [bound(one) for one in work(number, each, writer=number)]
            acts = [partial(plain.commit, one) for one in ready]
            run(role, acts, plain.counts)
        return
    with Store.open(folder) as store:
        acts = [partial(log, store, one) for one in work(number, each, writer=number)]
        run(role, acts, partial(counts, store))


def counts(store: Store) -> tuple[int, int]:
    ask = "SELECT (SELECT count(*) FROM runs) AS runs, (SELECT count(*) FROM metrics) AS metrics"
    (row,) = store.sql(ask).rows()
    return row["runs"], row["metrics"]


def run(role: str, acts: Sequence[Callable[[], object]], count: Callable[[], tuple[int, int]]) -> None:
    if role == "reader":
        count()  # its libraries are loaded before the others begin
    print(json.dumps("ready"), flush=True)
    sys.stdin.readline()
    before = time.process_time()
    if role == "writer":
        waits = [timed(act) for act in acts]
        print(json.dumps({"s": waits, "cpu_s": time.process_time() - before}), flush=True)
        return
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
    torn, waits = 0, []
    while not stop.wait(PAUSE_S):
        began = time.perf_counter()
        runs, metrics = count()
        waits.append(1_000 * (time.perf_counter() - began))
        torn += metrics != METRICS * runs
    print(json.dumps({"torn": torn, "ms": waits, "cpu_s": time.process_time() - before}), flush=True)


if __name__ == "__main__":
    member(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
