"""One small commit, 1 run with 10 parameters and 10 metrics, beside a bare SQLite database (see ``plain``).

Ours and theirs take turns in one process on one disk, each with the same rows. The store's upkeep is off for the ratio
(the peer has none); its cost is in the second figure: 10,000 commits one after the other, as ``Store.begin`` makes
them, flushes included, the first 500 beside the last 500. The last line is what a notebook does: a run by
``store.run``, which is three commits.

``python -m tests.bench store commit [--pairs 500] [--commits 10000]``
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from functools import partial
from pathlib import Path

from store import Store
from tests.bench.store.lines import judged, milliseconds, tell, timed
from tests.bench.store.plain import Bound, Plain, Work, bound, work

LIMIT = 2.0
WARM = 50


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench store commit")
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--commits", type=int, default=10_000)
    asked, _ = parser.parse_known_args(words)
    with tempfile.TemporaryDirectory() as name:
        beside_sqlite(Path(name), asked.pairs)
        flat(Path(name), asked.commits)
        tracked(Path(name), asked.pairs)


def log(store: Store, one: Work, *, upkeep: bool = True) -> None:
    """One commit of a run and its metrics."""
    transaction = store.begin() if upkeep else store._begin()  # the peer has no upkeep either
    transaction.insert("runs", [one.run])
    transaction.insert("metrics", one.metrics)
    transaction.commit()


def beside_sqlite(folder: Path, pairs: int) -> None:
    ours: list[float] = []
    theirs: list[float] = []
    plain = Plain(folder / "plain")
    with Store.open(folder / "ours.store") as store:
        for place, one in enumerate(work(1, pairs + WARM)):
            ready: Bound = bound(one)
            turns = [(ours, partial(log, store, one, upkeep=False)), (theirs, partial(plain.commit, ready))]
            for kept, act in turns if place % 2 else reversed(turns):
                seconds = timed(act)
                if place >= WARM:
                    kept.append(seconds)
    plain.close()
    ratio = statistics.median(ours) / statistics.median(theirs)
    mine, other = milliseconds(ours), {f"sqlite_{name}": value for name, value in milliseconds(theirs).items()}
    tell("commit", figure="beside sqlite", pairs=pairs, **mine, **other, **judged(ratio, LIMIT))


def flat(folder: Path, commits: int) -> None:
    with Store.open(folder / "flat.store") as store:
        seconds = [timed(partial(log, store, one)) for one in work(2, commits)]
    part = min(500, commits // 2)
    first, last = statistics.median(seconds[:part]), statistics.median(seconds[-part:])
    tell(
        "commit", figure="one after the other", commits=commits, **milliseconds(seconds),
        mean_ms=1_000 * statistics.fmean(seconds), first_500_ms=1_000 * first, last_500_ms=1_000 * last,
        growth=last / first,
    )  # fmt: skip


def tracked(folder: Path, runs: int) -> None:
    def one_run(one: Work) -> None:
        with store.run(asset=one.run["asset_id"], recipe="gbm", params=one.run["params"], library="lightgbm") as run:
            run.log_metrics({row["name"]: row["value"] for row in one.metrics})

    with Store.open(folder / "tracked.store") as store:
        seconds = [timed(partial(one_run, one)) for one in work(3, runs + 5)][5:]
    tell("commit", figure="store.run", runs=runs, commits_a_run=3, **milliseconds(seconds))
