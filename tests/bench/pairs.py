"""Commands that take turns on one machine, and the ratio of what they cost."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

COMMAND = str(Path(sys.executable).parent / "tsfleet")

Figures = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of those that take turns.

    Args:
        command: what is timed, from the start of its process to its end.
        folder: where it runs.
        ready: called before each run, outside of the time.
        told: figures of a run that its time does not tell, asked after it.
    """

    command: Sequence[str]
    folder: Path
    ready: Callable[[], object] = lambda: None
    told: Callable[[], Mapping[str, float]] = dict


def in_turns(sides: Mapping[str, Side], pairs: int, tell: Callable[[str, Figures], None]) -> dict[str, list[Figures]]:
    """The figures of every run by side; each run is told as it ends."""
    figures: dict[str, list[Figures]] = {name: [] for name in sides}
    for _ in range(pairs):
        for name, side in sides.items():
            side.ready()
            load = round(os.getloadavg()[0], 1)
            run = {**timed(side.command, side.folder), **side.told(), "load_before": load}
            figures[name].append(run)
            tell(name, run)
    return figures


def timed(command: Sequence[str], folder: Path) -> Figures:
    """Wall and CPU seconds of a command with all its children. Nothing watches it meanwhile."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    wall = time.monotonic() - started
    if done.returncode:
        sys.exit(f"{' '.join(command)} exited {done.returncode}: {(done.stderr or done.stdout).decode()[-800:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2)}


def ratios(ours: Sequence[Figures], theirs: Sequence[Figures]) -> Figures:
    """Of the medians, and the median of the pairs; above 1 the first ones are slower."""
    found = {}
    for name in ("wall_s", "cpu_s"):
        mine, other = ([run[name] for run in runs] for runs in (ours, theirs))
        found[f"{name}_ratio_of_medians"] = round(statistics.median(mine) / statistics.median(other), 3)
        pairs = [a / b for a, b in zip(mine, other, strict=True)]
        found[f"{name}_median_of_ratios"] = round(statistics.median(pairs), 3)
    return found
