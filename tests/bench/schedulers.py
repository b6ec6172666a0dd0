"""Two schedulers on one store, a job every second, each of them killed again and again: effects of a slot, takeover.

``python -m tests.bench schedulers [--seconds 60] [--kills 3]``. Both are the command, as a user starts it. In turn one
of them is killed with -9, with the run that it had started half of the times; takeover is from there to the next effect
of any slot. Then it is started again. Exit code 1 when a slot had two effects, or none.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from store import Store

CONFIG = """
[fleet]
name = "two"
store = "two.store"
horizon = 24

[data]
path = "none.parquet"

[jobs.a]
kind = "effect:run"
every = "1s"
catch_up = "all"
catch_up_limit = 1000
"""
#: The effect is a row under the run's commit id; the file says when, to whoever looks.
KIND = """
import os
from pathlib import Path
from jobs.work import Done


def run(work):
    (Path(__file__).parent / "at_work").write_text(str(os.getpid()))
    commit = work.fleet.store.begin(commit_id=work.commit_id(0))
    commit.insert("metrics", [{"run_id": work.name, "name": work.slot.isoformat(), "value": 1.0}])
    commit.commit()
    return Done(status="ok")
"""
EFFECTS = "select name, count(*) as n from metrics group by name order by name"
LOOK_S = 0.05


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench schedulers")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kills", type=int, default=3, help="of each scheduler")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        figures = walked(Path(folder), asked.seconds, asked.kills, asked.seed)
    print(json.dumps({"bench": "schedulers", **figures}))
    sys.exit(int(bool(figures["doubled"] or figures["lost"])))


def walked(folder: Path, seconds: float, kills: int, seed: int) -> dict[str, object]:
    """The figures of one walk."""
    (folder / "fleet.toml").write_text(CONFIG, encoding="utf-8")
    (folder / "effect.py").write_text(KIND, encoding="utf-8")
    Store.open(folder / "two.store").close()
    dice = random.Random(seed)  # noqa: S311  chance, not secrets
    log = (folder / "log.txt").open("wb")
    both = [_started(folder, log) for _ in range(2)]
    takeover: list[float] = []
    try:
        began = time.monotonic()
        for turn in range(2 * kills):
            _until(began + (turn + dice.random()) * seconds / (2 * kills))
            known = len(effects(folder))
            both[turn % 2].send_signal(signal.SIGKILL)
            both[turn % 2].wait()
            if dice.random() < 0.5:
                with suppress(OSError, ValueError):
                    os.kill(int((folder / "at_work").read_text()), signal.SIGKILL)
            killed = time.monotonic()
            while len(effects(folder)) <= known:
                if time.monotonic() - killed > seconds:
                    break
                time.sleep(LOOK_S)
            takeover.append(time.monotonic() - killed)
            both[turn % 2] = _started(folder, log)
        _until(began + seconds)
    finally:
        for one in both:
            one.terminate()
        for one in both:
            one.wait()
        log.close()
    return {
        "seconds": seconds,
        "kills": 2 * kills,
        **_judged(folder),
        "takeover_s": [round(one, 1) for one in takeover],
    }


def _judged(folder: Path) -> dict[str, object]:
    found = effects(folder)
    times = sorted(map(datetime.fromisoformat, found))
    count = round((times[-1] - times[0]) / timedelta(seconds=1)) + 1
    return {
        "slots": count,
        "effects": sum(found.values()),
        "doubled": sum(n > 1 for n in found.values()),
        "lost": count - len(found),
        "behind_s": round(time.time() - times[-1].timestamp(), 1),
    }


def effects(folder: Path) -> Counter[str]:
    """How many effects each slot had."""
    with Store.open(folder / "two.store", read_only=True, create=False) as store:
        return Counter({row["name"]: row["n"] for row in store.sql(EFFECTS).rows()})


def _started(folder: Path, log: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "jobs.cli", "jobs", "start"], cwd=folder, stderr=log, stdout=log)  # type: ignore[call-overload, no-any-return]  # an open file


def _until(moment_s: float) -> None:
    time.sleep(max(0.0, moment_s - time.monotonic()))


if __name__ == "__main__":
    main(sys.argv[1:])
