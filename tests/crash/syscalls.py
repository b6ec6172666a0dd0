"""A kill -9 at each system call of an act, one after the other: the store opens, and holds the act whole or not at all.

For each name of a call the first, the second ... is killed, until a process survives; so every call that was made was
killed once, whatever differs from run to run. The acts begin with the opening of a store that its last writer left
without closing, and end with a close that takes in the log:

- ``small``: a commit of hot rows, with a promotion and a column that is new
- ``bulk``: one with a segment, a pack and thousands of replaced rows
- ``upkeep``: flush, merge, fold and collection, after what is being merged
- ``creation``: of the store itself
- ``leading``: a commit that takes along the one of another process, which waits with a letter
- ``following``: one that waits with a letter for another process, which has the lock

The other process of the last two is not killed: what it commits has to be acknowledged, and to be there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, Self
from unittest.mock import patch

from store import Store
from tests.crash import deeds
from tests.crash.forks import Child, ChildFailed, Tell, done
from tests.crash.straced import CHANGING, FILES, Waiting, names_of, straced

SEED = 7
AT_ONCE = timedelta(0)
_DEEDS = 12
#: The commits that a base holds before the act.
BEFORE = _DEEDS + 1


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash syscalls")
    parser.add_argument("--act", choices=ACTS, action="append", help="all of them by default")
    parser.add_argument("--call", action="append", help="by name; by default all that the act makes")
    parser.add_argument("--every", type=int, default=1, help="kill at each so-manyth call of a name only")
    parser.add_argument(
        "--reads", action="store_true", help="also at calls that only look, between which nothing changes"
    )
    asked = parser.parse_args(words)
    code = 0
    for act in asked.act or ACTS:
        with tempfile.TemporaryDirectory() as scratch:
            told = killed(
                Path(scratch), act, asked.every, ",".join(asked.call or ()) or (FILES if asked.reads else CHANGING)
            )
        print(json.dumps({"crash": "syscalls", "act": act, **told}), flush=True)
        code |= bool(told["wrong"])
    return code


# ------------------------------------------------------------------------------------------------------------- acts


def deed_of(*parts: str, number: int = 900, writer: str = "act") -> deeds.Deed:
    """The first deed of a writer from a number on that has just these parts."""
    while (one := deeds.deed(SEED, writer, number)).parts != frozenset(parts) or one.mistaken:
        number += 1
    return one


SMALL, BULK, AFTER = deed_of("forecasts", "promotion"), deed_of("bulk", "blobs"), deed_of("blobs", number=2_000)
#: Of hot rows alone, with a column that is new: one that others may do.
LIGHT, BESIDE = deed_of("forecasts"), deed_of("forecasts", writer="beside")


@dataclass(frozen=True, slots=True)
class Ends:
    """Of two pipes between two processes: what the one says the other hears, and its death too."""

    hears: int
    says: int
    others: tuple[int, int]

    @classmethod
    def two(cls) -> tuple[Self, Self]:
        (a, b), (c, d) = os.pipe(), os.pipe()
        return cls(a, d, (b, c)), cls(c, b, (a, d))

    def mine(self) -> None:
        """Leave the other ends to the other process, in one's own."""
        for one in self.others:
            os.close(one)

    def close(self) -> None:
        for one in (self.hears, self.says):
            os.close(one)

    def say(self) -> None:
        with suppress(BrokenPipeError):
            os.write(self.says, b".")

    def hear(self) -> None:
        os.read(self.hears, 1)


def _commits(tell: Tell, path: str, one: deeds.Deed) -> None:
    with Store.open(path) as store:
        commit = deeds.do(store, one, None)
        tell(done=commit.snapshot)


def _leads(tell: Tell, path: str, one: deeds.Deed, ends: Ends) -> None:
    ends.mine()
    with Store.open(path) as store, store._catalog.lock.held():
        ends.say()
        ends.hear()
        commit = deeds.do(store, one, None)
        tell(done=commit.snapshot)


def _follows(tell: Tell, path: str, one: deeds.Deed, ends: Ends) -> None:
    ends.mine()

    def heed(frame: FrameType, event: str, _: object) -> None:
        if event == "return" and frame.f_code.co_name == "post":
            ends.say()

    with Store.open(path) as store:
        ends.hear()
        sys.setprofile(heed)
        commit = deeds.do(store, one, None)
        sys.setprofile(None)
        tell(done=commit.snapshot)


def _keeps_up(tell: Tell, path: str) -> None:
    with patch("store.merging.FAN_IN", 2), Store.open(path) as store:
        report = store.upkeep(fold_after=AT_ONCE, grace=AT_ONCE)
        assert report.flushed, "there was nothing to do"
        assert report.merged, "there was nothing to merge"
        tell(done=0)


def _creates(tell: Tell, path: str) -> None:
    Store.open(path).close()
    tell(done=0)


ACTS: dict[str, tuple[Callable[..., None], deeds.Deed | None]] = {
    "small": (_commits, SMALL),
    "bulk": (_commits, BULK),
    "upkeep": (_keeps_up, None),
    "creation": (_creates, None),
    "leading": (_leads, LIGHT),
    "following": (_follows, LIGHT),
}
#: What the process beside does.
COMPANIONS = {"leading": _follows, "following": _leads}


# ---------------------------------------------------------------------------------------------------------- the rest


def killed(scratch: Path, act: str, every: int = 1, calls: str = CHANGING) -> dict[str, Any]:
    """Kill an act at each (or each so-manyth) of these calls; what became of it."""
    began = time.monotonic()
    base = scratch / "base"
    if act != "creation":
        left_open(base)
    counts = Counter(_recorded(scratch, base, act, calls))
    totals: Counter[str] = Counter()
    wrong: list[str] = []
    for name in sorted(counts):
        survived, number = False, 1
        while not survived:
            survived, what, problem = _once(scratch, base, act, f"{name}:signal=KILL:when={number}")
            totals[what] += 1
            totals["calls"] += not survived
            if problem:
                wrong.append(f"{act} killed at {name} {number}: {problem}")
                print(wrong[-1], file=sys.stderr)
            number += every
    told = {"calls": totals["calls"], "recorded": counts.total(), "names": len(counts)}
    states = {name: totals[name] for name in ("absent", "whole", "done")}
    return told | states | {"wrong": len(wrong), "seconds": round(time.monotonic() - began, 1)}


def left_open(base: Path) -> None:
    """Make a store whose last writer was killed: its log holds commits that the catalog's file does not."""

    def write(tell: Tell, path: str) -> None:
        with Store.open(path) as store:
            champion = None
            for number in range(_DEEDS):
                one = deeds.deed(SEED, "w", number)
                deeds.do(store, one, champion)
                champion = deeds.champion_after(one, champion)
                if number in (3, 6):
                    store.flush()
            deeds.do(store, deed_of("rewrite", number=0), None)
            tell(written=True)
            signal.pause()

    with Child(write, str(base)) as writer:
        writer.next()


def _recorded(scratch: Path, base: Path, act: str, calls: str) -> list[str]:
    trace = scratch / "trace"
    path = fresh_copy(scratch, base)
    with _at_work(act, path) as (waiting, _), straced(waiting.child.pid, "-e", f"trace={calls}", out=trace):
        waiting.go()
    return names_of(trace)


def _once(scratch: Path, base: Path, act: str, how: str) -> tuple[bool, str, str]:
    """(whether it survived, what is there afterwards, what is wrong with it) after a call was tampered with."""
    path = fresh_copy(scratch, base)
    with _at_work(act, path) as (waiting, beside):
        with straced(waiting.child.pid, "-e", f"trace={how.partition(':')[0]}", "-e", f"inject={how}"):
            said = waiting.go()
        survived = waiting.child.code == 0
        deed = ACTS[act][1]
        names = [] if deed is None else [deed.name]
        try:
            if beside is not None:
                beside.next()
                beside.wait()
                names.append(BESIDE.name)
            whole = done(_afterwards, path, names, BEFORE if base.exists() else 0)
        except (ChildFailed, TimeoutError) as error:
            return survived, "wrong", str(error)
    if said and deed is not None and deed.name not in whole:
        return survived, "wrong", "it was acknowledged and is not there"
    if beside is not None and BESIDE.name not in whole:
        return survived, "wrong", "what was committed beside it was acknowledged and is not there"
    return survived, "done" if said else "whole" if deed is not None and deed.name in whole else "absent", ""


@contextmanager
def _at_work(act: str, path: str) -> Iterator[tuple[Waiting, Child | None]]:
    """An act that waits for the word to go, and the process beside it where there is one."""
    work, deed = ACTS[act]
    if act not in COMPANIONS:
        yield Waiting(work, path, *([] if deed is None else [deed])), None
        return
    ours, theirs = Ends.two()
    waiting = Waiting(work, path, deed, ours)
    with Child(COMPANIONS[act], path, BESIDE, theirs) as beside:
        ours.close()
        theirs.close()
        yield waiting, beside
        beside.close()


def fresh_copy(scratch: Path, base: Path) -> str:
    path = scratch / "s"
    shutil.rmtree(path, ignore_errors=True)
    if base.exists():
        shutil.copytree(base, path)
    return str(path)


def _afterwards(path: str, names: Sequence[str], before: int) -> list[str]:
    """Which of these deeds are there, after everything else was found to be, and the store to go on."""
    with Store.open(path) as store:
        present = deeds.present(store.snapshot(), SEED)
        deeds.check_blobs(store, SEED, sorted(present))
        whole = [name for name in names if name in present]
        assert len(present) == before + len(whole), f"{len(present)} commits are there"
        assert store.verify().ok, store.verify().damages
        deeds.do(store, AFTER, None)
        assert store.sql("select count(*) as n from runs").rows() == [{"n": before + len(whole) + 1}]
    return whole
