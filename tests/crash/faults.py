"""A disk that refuses one call: EIO and ENOSPC at each write, sync and change of names of an act, one after the other.

The act either ends well or raises a StoreError of the code that says so, with a hint; nothing acknowledged before is
lost; the same process can go on, and so can the next one. Acts are those of ``syscalls``, each followed by another
commit in the same process and by a close.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from store import Store
from store.errors import StoreError
from tests.crash import deeds
from tests.crash.forks import ChildFailed, Tell, done
from tests.crash.straced import Waiting, straced
from tests.crash.syscalls import AT_ONCE, BEFORE, BULK, SEED, SMALL, deed_of, fresh_copy, left_open

#: What may be refused, and how often a call of the name is passed over before it is.
CALLS = ("write", "pwrite64", "fsync", "fdatasync", "ftruncate", "rename", "mkdir", "unlink")
#: What it may be told as; of some calls SQLite says no more than that they failed.
ERRORS = {"EIO": {"write-failed"}, "ENOSPC": {"no-space", "write-failed"}}
NEXT = deed_of("promotion", number=1_500)


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash faults")
    parser.add_argument("--act", choices=ACTS, action="append", help="all of them by default")
    parser.add_argument("--call", choices=CALLS, action="append", help="all of them by default")
    parser.add_argument("--error", choices=ERRORS, action="append", help="both by default")
    parser.add_argument("--every", type=int, default=1, help="refuse each so-manyth call of a name only")
    asked = parser.parse_args(words)
    code = 0
    for act in asked.act or ACTS:
        for error in asked.error or ERRORS:
            with tempfile.TemporaryDirectory() as scratch:
                told = refused(Path(scratch), act, asked.call or CALLS, error, asked.every)
            print(json.dumps({"crash": "faults", "act": act, "error": error, **told}), flush=True)
            code |= bool(told["wrong"])
    return code


# ------------------------------------------------------------------------------------------------------------- acts


def _commits(one: deeds.Deed) -> Callable[[Store], object]:
    return lambda store: deeds.do(store, one, None)


def _keeps_up(store: Store) -> None:
    with patch("store.merging.FAN_IN", 2):
        store.upkeep(fold_after=AT_ONCE, grace=AT_ONCE)


ACTS: dict[str, tuple[Callable[[Store], object], deeds.Deed | None]] = {
    "small": (_commits(SMALL), SMALL),
    "bulk": (_commits(BULK), BULK),
    "upkeep": (_keeps_up, None),
    "creation": (Store.head, None),
}


def _tries(tell: Tell, path: str, act: str) -> None:
    """Open, act, go on, close; tell which of them were refused, and with which code."""
    store: Store | None = None
    with _telling(tell, "open"):
        store = Store.open(path)
    if store is None:
        with _telling(tell, "open again"):
            store = Store.open(path)
    if store is None:
        return
    with _telling(tell, "act"):
        ACTS[act][0](store)
    with _telling(tell, "next"):
        deeds.do(store, NEXT, deeds.champion_of(store, "act"))
    with _telling(tell, "close"):
        store.close()


@contextmanager
def _telling(tell: Tell, what: str) -> Iterator[None]:
    """Tell how a block ended; a StoreError does not leave it."""
    try:
        yield
    except StoreError as error:
        tell(what=what, code=error.code, hint=error.hint, message=error.message)
    else:
        tell(what=what, code="")


# ---------------------------------------------------------------------------------------------------------- the rest


def refused(scratch: Path, act: str, calls: Sequence[str], error: str, every: int) -> dict[str, Any]:
    """Refuse the calls of an act one by one; what came of it."""
    began = time.monotonic()
    base = scratch / "base"
    if act != "creation":
        left_open(base)
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for call in calls:
        number, hit = 1, True
        while hit:
            hit, told, problem = _once(scratch, base, act, f"{call}:error={error}:when={number}")
            if hit:
                counts["refused"] += 1
                counts.update({f"{what}:{code}" for what, code in told.items() if code})
                counts["unnoticed"] += not any(told.values())
            if problem:
                wrong.append(f"{act}, {error} at {call} {number}: {problem}")
                print(wrong[-1], file=sys.stderr)
            number += every
    return {**dict(sorted(counts.items())), "wrong": len(wrong), "seconds": round(time.monotonic() - began, 1)}


def _once(scratch: Path, base: Path, act: str, how: str) -> tuple[bool, dict[str, str], str]:
    """(whether a call was refused, the code of each step, what is wrong)."""
    path, trace = fresh_copy(scratch, base), scratch / "trace"
    waiting = Waiting(_tries, path, act)
    with straced(waiting.child.pid, "-e", f"trace={how.partition(':')[0]}", "-e", f"inject={how}", out=trace):
        try:
            said = waiting.go()
        except ChildFailed as error:
            return True, {}, str(error)
    hit = "INJECTED" in trace.read_text(encoding="utf-8", errors="replace")
    told = {line["what"]: line["code"] for line in said}
    expected = ERRORS[how.partition("error=")[2].partition(":")[0]]
    strange = [line for line in said if line["code"] and (line["code"] not in expected or not line["hint"])]
    if strange:
        return hit, told, f"it was told {strange}"
    if sum(bool(code) for code in told.values()) > 1:
        return hit, told, f"one call was refused, and more than one step failed: {told}"
    deed = ACTS[act][1]
    acknowledged = [one.name for one, what in ((deed, "act"), (NEXT, "next")) if one and told.get(what) == ""]
    unsaid = [one.name for one, what in ((deed, "act"), (NEXT, "next")) if one and told.get(what) != ""]
    try:
        done(_afterwards, path, acknowledged, unsaid, BEFORE if base.exists() else 0)
    except ChildFailed as error:
        return hit, told, str(error)
    return hit, told, ""


def _afterwards(path: str, acknowledged: list[str], refused: list[str], before: int) -> None:
    with Store.open(path) as store:
        present = deeds.present(store.snapshot(), SEED)
        deeds.check_blobs(store, SEED, sorted(present))
        assert set(acknowledged) <= set(present), f"of {acknowledged} only {present.keys()} are there"
        assert not set(refused) & set(present), f"{refused} were refused, and are there"
        assert len(present) == before + len(acknowledged)
        assert store.verify().ok, store.verify().damages
        deeds.do(store, deeds.deed(SEED, "after", 0), None)
        assert store.head() == len(present) + 1
