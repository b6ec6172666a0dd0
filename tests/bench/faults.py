"""What ten fatal assets cost a fleet: `tsfleet train` and `forecast` with them and without, by the installed command.

One of each kind (raise, hang, exit, segfault, kill, too much memory, NaN, a wrong grid, unpicklable, too short) among
as many good ones as make up the fleet. The seconds beyond those of a fleet without them should be about one timeout,
that of the one that hangs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tests.walks.faulty import FAULTS, faulty_fleet

COMMAND = Path(sys.executable).parent / "tsfleet"
VERBS = ("train", "forecast")


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench faults")
    parser.add_argument("--assets", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=5.0, help="[train] timeout, in seconds")
    parser.add_argument("--work", type=int, default=5, help="how long a fit takes, about 3 ms each")
    asked = parser.parse_args(words)
    took: dict[tuple[str, int], list[float]] = {}
    for pair in range(asked.pairs):
        for bad in (0, len(FAULTS)) if pair % 2 == 0 else (len(FAULTS), 0):
            for verb, wall, code in walked(asked.assets - bad, tuple(FAULTS)[:bad], asked.timeout, asked.work):
                took.setdefault((verb, bad), []).append(wall)
                figure = {"assets": asked.assets, "faults": bad, "verb": verb, "wall_s": round(wall, 2), "exit": code}
                print(json.dumps({"bench": "faults", **figure}), flush=True)
    for verb in VERBS:
        without, with_them = median(took[verb, 0]), median(took[verb, len(FAULTS)])
        figure = {"without_s": round(without, 2), "with_s": round(with_them, 2)}
        beyond = {"beyond_s": round(with_them - without, 2), "timeout_s": asked.timeout}
        print(json.dumps({"bench": "faults", "verb": verb, **figure, **beyond}))


def walked(good: int, bad: tuple[str, ...], timeout_s: float, work: int) -> list[tuple[str, float, int]]:
    """Each verb with its wall seconds and exit code."""
    with tempfile.TemporaryDirectory() as folder:
        faulty_fleet(Path(folder), good, bad, timeout=f"{timeout_s:g}s", work=work)
        ran("ingest", folder)
        return [(verb, *ran(verb, folder)) for verb in VERBS]


def ran(verb: str, folder: str) -> tuple[float, int]:
    started = time.monotonic()
    environment = {**os.environ, "TSFLEET_KEY_FILE": f"{folder}/key"}
    done = subprocess.run([COMMAND, verb], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        sys.exit(f"tsfleet {verb} exited {done.returncode}: {done.stderr[-500:]}")
    return time.monotonic() - started, done.returncode
