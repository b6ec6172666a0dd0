"""A recorded life of a store, and the power cut at every point of it.

One process makes a store, commits deeds of every kind, tidies, closes, opens again and goes on, under strace. Its
trace is done again to a disk that keeps only what was synced, and the store is looked at as that disk would have it:

- ``dropped``: after every sync and every acknowledgement, with nothing of what had not been synced
- ``partly``: at random points, with some of what had not been synced, torn between sectors

``lost`` counts acknowledged commits that such a store does not hold; ``wrong`` the stores that do not open, hold half
a commit, do not verify or do not go on. ``--forget`` leaves syncs out, to show that they would be missed.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from store import Store
from tests.crash import deeds
from tests.crash.forks import ChildFailed, Tell, done
from tests.crash.recorded import WORDS, Replay, Step, steps
from tests.crash.straced import Waiting, straced

SEED = 11
AT_ONCE = timedelta(0)
#: The syncs that ``--forget`` may leave out, by what they are of.
SYNCS: dict[str, Callable[[Step], bool]] = {
    "segment": lambda step: step.path.match("segments/*/.*.tmp"),
    "segments-folder": lambda step: step.path.match("segments/*"),
    "pack": lambda step: step.path.match("packs/.*.tmp"),
    "packs-folder": lambda step: step.path.name == "packs",
    "log": lambda step: step.path.name.endswith("-wal"),
    "catalog": lambda step: step.path.name == "catalog.sqlite",
    "made": lambda step: step.path.name.startswith("catalog.sqlite.new"),
    "store-folder": lambda step: step.path.name == "s",
}


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash replay")
    parser.add_argument("--deeds", type=int, default=60)
    parser.add_argument("--partly", type=int, default=150, help="random points")
    parser.add_argument("--acknowledged-only", action="store_true", help="drop after acknowledgements alone")
    parser.add_argument("--forget", choices=SYNCS)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(words)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        life = recorded(Path(scratch), asked.deeds)
        ordered = in_order(life)
        if asked.forget:
            life = [one for one in life if not (one.act == "sync" and SYNCS[asked.forget](one))]
        told = Cuts(Path(scratch), life, asked.seed).judged(asked.partly, acknowledged_only=asked.acknowledged_only)
    figures = {"crash": "replay", **ordered, **told, "seconds": round(time.monotonic() - began, 1)}
    print(json.dumps(figures))
    return int(bool(told["lost"] or told["wrong"] or ordered["disordered"]))


def recorded(scratch: Path, count: int) -> list[Step]:
    """What a store did to its disk in a life of so many deeds."""
    (scratch / "disk").mkdir()
    waiting = Waiting(_lives, str(scratch / "disk" / "s"), count)
    trace = scratch / "trace"
    with straced(waiting.child.pid, *WORDS, out=trace):
        said = waiting.go()
    life = list(steps(trace, scratch / "disk"))
    assert [one.line for one in life if one.act == "told"] == said, "the trace is not whole"
    replay = Replay(scratch / "disk")
    for step in life:
        replay.do(step)
    _check_the_replay(replay, scratch / "disk")
    trace.unlink()
    shutil.rmtree(scratch / "disk")
    (scratch / "disk").mkdir()
    return life


def _lives(tell: Tell, path: str, count: int) -> None:
    champion, number = None, 0
    for stop in (count // 2, count * 3 // 4, count):
        store = Store.open(path)
        while number < stop:
            one = deeds.deed(SEED, "w", number)
            tell(begun=one.name)
            tell(done=one.name, snapshot=deeds.do(store, one, champion).snapshot)
            champion, number = deeds.champion_after(one, champion), number + 1
            if number % 5 == 0:
                store.flush()
        with patch("store.merging.FAN_IN", 2):
            store.upkeep(fold_after=AT_ONCE, grace=AT_ONCE)
        if stop < count:
            store.close()
    tell(ends=True)
    signal.raise_signal(signal.SIGKILL)


def _check_the_replay(replay: Replay, folder: Path) -> None:
    """The disk that was replayed holds, were nothing lost, what the real one holds."""
    from tests.crash.disk import File, Folder

    def listed(held: Folder, at: str) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for name, one in held.names.items():
            found |= {f"{at}/{name}": bytes(one.data)} if isinstance(one, File) else listed(one, f"{at}/{name}")
        return found

    real = {f"/{p.relative_to(folder)}": p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    mapped = {name for name in real if name.endswith("-shm")}
    again = listed(replay.disk.top, "")
    wrong = [name for name in real.keys() | again.keys() if name not in mapped and real.get(name) != again.get(name)]
    assert not wrong, f"the replay differs from the disk in {wrong[:5]}"


# ------------------------------------------------------------------------------------------------------------ order


def in_order(life: list[Step]) -> dict[str, int]:
    """Count the files that got their name in the order of the law, and those that did not.

    The law: all bytes, fsync, rename, fsync of the folder; then the catalog's log is written and synced; and then it
    is acknowledged.
    """
    kept = disordered = 0
    for place, step in enumerate(life):
        if step.act != "rename" or step.to.suffix not in (".parquet", ".pack"):
            continue
        before, after = life[:place], life[place + 1 :]
        own = [one for one in before if one.act in ("write", "sync") and one.path == step.path]
        log = [i for i, one in enumerate(after) if one.path.name.endswith("-wal") and one.act in ("write", "sync")]
        folder = [i for i, one in enumerate(after) if one.act == "sync" and one.path == step.path.parent]
        told = [i for i, one in enumerate(after) if one.act == "told" and "done" in one.line]
        synced = [i for i in log if after[i].act == "sync"]
        right = (
            [one.act for one in own][-1:] == ["sync"]
            and any(one.act == "write" for one in own)
            and bool(folder and synced)
            and folder[0] < log[0]
            and (not told or synced[0] < told[0])
        )
        kept, disordered = kept + right, disordered + (not right)
    return {"files": kept + disordered, "disordered": disordered}


# ------------------------------------------------------------------------------------------------------- power cuts


class Cuts:
    """The power cut at points of a life, and what is there afterwards."""

    def __init__(self, scratch: Path, life: list[Step], seed: int) -> None:
        self._scratch, self._life = scratch, life
        self._dice = random.Random(seed)  # noqa: S311 chance, not secrets
        self._counts: Counter[str] = Counter()

    def judged(self, partly: int, *, acknowledged_only: bool) -> dict[str, Any]:
        changing = [i for i, one in enumerate(self._life) if one.act in ("write", "cut", "rename", "remove", "open")]
        points = Counter(self._dice.choices(changing, k=partly))
        replay = Replay(self._scratch / "disk")
        acknowledged: dict[str, int] = {}
        begun = 0
        changed = False
        for place, step in enumerate(self._life):
            replay.do(step)
            if step.act == "told":
                begun += "begun" in step.line
                if "done" in step.line:
                    acknowledged[step.line["done"]] = step.line["snapshot"]
            changed = changed or step.act == "sync"
            told = step.act == "told" and "done" in step.line
            if told or (changed and step.act == "sync" and not acknowledged_only):
                self._cut(replay, None, acknowledged, begun)
                self._counts["dropped"] += 1
            for _ in range(points[place]):
                self._cut(replay, self._dice, acknowledged, begun)
                self._counts["partly"] += 1
        return {
            "steps": len(self._life),
            "syncs": sum(one.act == "sync" for one in self._life),
            "commits": len(acknowledged),
            **{name: self._counts[name] for name in ("dropped", "partly", "lost", "wrong", "more")},
        }

    def _cut(self, replay: Replay, dice: random.Random | None, acknowledged: dict[str, int], begun: int) -> None:
        target = self._scratch / "after"
        shutil.rmtree(target, ignore_errors=True)
        replay.disk.after_power_cut(target, dice)
        try:
            present: dict[str, int] = done(_afterwards, str(target / "s"))
        except ChildFailed as error:
            self._counts["wrong"] += 1
            print(f"after {len(acknowledged)} commits: {error}", file=sys.stderr)
            return
        lost = [name for name, snapshot in acknowledged.items() if present.get(name) != snapshot]
        self._counts["lost"] += len(lost)
        self._counts["wrong"] += not len(acknowledged) - len(lost) <= len(present) <= begun
        self._counts["more"] += len(present) > len(acknowledged)


def _afterwards(path: str) -> dict[str, int]:
    with Store.open(path) as store:
        present = deeds.present(store.snapshot(), SEED)
        deeds.check_blobs(store, SEED, sorted(present))
        found = store.verify()
        assert found.ok, found.damages
        deeds.do(store, deeds.deed(SEED, "next", 0), None)
        assert store.head() == len(present) + 1
    return present
