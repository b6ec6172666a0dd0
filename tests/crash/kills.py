"""Kill -9 at random: four writers, one at upkeep and one who reads, any of whom may die at any moment and is replaced.

A writer says what it is about to commit and, after ``commit()`` has returned, that it is done; the one that takes its
place goes on with the same deed under the same commit id, where it had one. The reader checks each of its answers for
half a commit. Who is killed, after how many acknowledged commits and how much later follows from the seed; so does
what is committed. What the system makes of it differs from run to run.

One JSON line tells what happened: ``lost`` deeds were acknowledged and are not there as they were acknowledged,
``half_visible`` and ``unreadable`` count what any process met, ``under_way`` the kills of a writer within a commit,
``roles`` what the killed writers were about: with the lock, with the letters of others, waiting with one of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from store import Store
from store.errors import NotFound, SnapshotExpired, StoreBusy
from tests.crash import deeds
from tests.crash.forks import Child, ChildFailed, Tell, done, listened
from tests.crash.roles import role_of, stopped

WRITERS = ("w0", "w1", "w2", "w3")
UPKEEP, READER = "upkeep", "reader"
#: Of the kills: those of upkeep, and those of the reader.
_UPKEEP_SHARE, _READER_SHARE = 0.2, 0.1
#: Superseded rows are folded, and snapshots ended, when they are so old.
_OLD = timedelta(seconds=3)
_LATEST_S = 0.01
#: To meet a writer at what is wanted of it.
_ATTEMPTS = 40
#: Between two rounds of upkeep, so that it does not take the machine from the writers.
_PAUSE_S = 0.05


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash kills")
    parser.add_argument("--kills", type=int, default=300, help="of writers within a commit")
    parser.add_argument("--commits", type=int, default=3_000, help="acknowledged ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the store is left; a temporary folder by default")
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as scratch:
        told = Harness((asked.folder or Path(scratch)) / "s", asked.kills, asked.commits, asked.seed).run()
    print(json.dumps({"crash": "kills", "seed": asked.seed, **told}))
    wrong = told["lost"] or told["twice"] or told["half_visible"] or told["unreadable"] or told["damages"]
    return int(bool(wrong or told["under_way"] < asked.kills or told["commits"] < asked.commits))


# -------------------------------------------------------------------------------------------------------- processes


def writing(tell: Tell, path: str, seed: int, writer: str, number: int, champion: str | None, again: bool) -> None:
    """Commit deed after deed, from one on; ``again``: that one may have been committed before its writer died."""
    with Store.open(path) as store:
        if not again:
            champion = deeds.champion_of(store, writer)
        while True:
            one = deeds.deed(seed, writer, number)
            tell(begun=number, champion=champion)
            commit = deeds.do(store, one, champion)
            tell(done=number, snapshot=commit.snapshot, repeated=commit.repeated, conflicts=len(commit.conflicts))
            champion, number = deeds.champion_after(one, champion), number + 1


def keeping(tell: Tell, path: str, seed: int) -> None:
    """Flush, merge, fold and collect without end; and end old snapshots now and then."""
    dice = random.Random(f"{seed}/{os.getpid()}")  # noqa: S311 chance, not secrets
    with Store.open(path) as store:
        while True:
            with suppress(StoreBusy):  # a writer is at it, after its commit
                report = store.upkeep(fold_after=_OLD, grace=timedelta(0))
                counted = {"flushed": report.flushed, "merged": report.merged, "folded": report.folded}
                tell(kept={name: sum(one.values()) for name, one in counted.items()}, collected=report.collected)
            if dice.random() < 0.3:
                with suppress(StoreBusy, NotFound):  # or everything is younger
                    store.expire(datetime.now(UTC) - _OLD)
                    tell(expired=1)
            select.select([], [], [], _PAUSE_S)


def reading(tell: Tell, path: str, seed: int) -> None:
    """Look at the newest snapshot again and again, some of the time with the eyes of a read-only user."""
    dice = random.Random(f"{seed}/{os.getpid()}")  # noqa: S311 chance, not secrets
    while True:
        with Store.open(path, read_only=dice.random() < 0.5) as store:
            for _ in range(20):
                try:
                    found = deeds.present(store.snapshot(), seed)
                except SnapshotExpired:
                    tell(expired=1)  # it took longer than snapshots live here
                    continue
                if found:
                    deeds.check_blobs(store, seed, dice.sample(sorted(found), min(10, len(found))))
                tell(looked=len(found))


# ------------------------------------------------------------------------------------------------------ the harness


class Harness:
    """One run over one store."""

    def __init__(self, path: Path, kills: int, commits: int, seed: int) -> None:
        self.path, self.kills, self.commits, self.seed = str(path), kills, commits, seed
        self.dice = random.Random(seed)  # noqa: S311 chance, not secrets
        self.acknowledged: dict[str, int] = {}
        #: Of each writer: the deed that it began last, the champion it took for granted, and whether it is done.
        self.state: dict[str, tuple[int, str | None, bool]] = dict.fromkeys(WRITERS, (-1, None, True))
        self.abandoned: set[str] = set()
        self.counts: Counter[str] = Counter()
        #: What the writers were about that were killed; see ``roles``.
        self.roles: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.living: dict[str, Child] = {}

    def run(self) -> dict[str, Any]:
        began = time.monotonic()
        done(_made, self.path)
        for name in (*WRITERS, UPKEEP, READER):
            self._start(name)
        try:
            while not self.wrong and not self._enough():
                self._live_on(self.dice.randrange(1, 2 * max(1, self.commits // max(1, self.kills))))
                select.select([], [], [], self.dice.random() * _LATEST_S)
                self._kill(self._victim())
        except TimeoutError as error:
            self._note("", str(error))
        finally:
            for name in list(self.living):
                self._end(name)
        return self._judged() | {"seconds": round(time.monotonic() - began, 1)}

    def _enough(self) -> bool:
        return self.counts["under_way"] >= self.kills and len(self.acknowledged) >= self.commits

    def _victim(self) -> str:
        chance = self.dice.random()
        if chance < _UPKEEP_SHARE:
            return UPKEEP
        return READER if chance < _UPKEEP_SHARE + _READER_SHARE else self.dice.choice(WRITERS)

    def _live_on(self, commits: int) -> None:
        """Listen until so many more commits are acknowledged."""
        enough = len(self.acknowledged) + commits
        names = {child: name for name, child in self.living.items()}
        try:
            for child, lines in listened(list(names)):
                self._heard(names[child], lines)
                if not lines and child.ended():
                    self._note(names[child], f"it ended with {child.wait()}")
                if self.wrong or len(self.acknowledged) >= enough:
                    return
        except ChildFailed as error:
            self._note("", str(error))

    def _heard(self, name: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            if "begun" in line:
                self.state[name] = (line["begun"], line["champion"], False)
            elif "done" in line:
                self._acknowledged(name, line)
            else:
                self.counts[f"{name}_rounds"] += "expired" not in line
                self.counts[f"{name}_expired"] += line.get("expired", 0)
                self.counts["collected"] += line.get("collected", 0)
                self.counts.update(line.get("kept", {}))

    def _acknowledged(self, writer: str, line: dict[str, Any]) -> None:
        number, champion, _ = self.state[writer]
        assert number == line["done"]
        self.state[writer] = (number, champion, True)
        self.acknowledged[deeds.deed(self.seed, writer, number).name] = line["snapshot"]
        self.counts["repeated"] += line["repeated"]

    def _kill(self, name: str) -> None:
        self.counts["kills"] += 1
        if name in WRITERS:
            self.roles[self._caught(self.living[name].pid)] += 1
        self._end(name)
        if name in WRITERS and not self.state[name][2]:
            self.counts["under_way"] += 1
        if not self.wrong:
            self._start(name)

    def _caught(self, pid: int) -> str:
        """Stop a writer, in two of three cases while it waits or leads if it can be met so; what it is about."""
        wanted = self.dice.choice(("", "waiting", "leading"))
        for attempt in range(_ATTEMPTS):
            stopped(pid)
            role = role_of(Path(self.path), pid)
            if wanted in ("", role) or attempt == _ATTEMPTS - 1:
                break
            os.kill(pid, signal.SIGCONT)
            select.select([], [], [], self.dice.random() * _LATEST_S)
        return role or "elsewhere"

    def _end(self, name: str) -> None:
        child = self.living.pop(name)
        child.kill()
        try:
            self._heard(name, child.said())
        except ChildFailed as error:
            self._note(name, str(error))
        child.close()

    def _start(self, name: str) -> None:
        if name == UPKEEP:
            self.living[name] = Child(keeping, self.path, self.seed)
        elif name == READER:
            self.living[name] = Child(reading, self.path, self.seed)
        else:
            number, champion, is_done = self.state[name]
            one = deeds.deed(self.seed, name, number)
            again = not is_done and one.repeatable
            if not is_done and not again:
                self.abandoned.add(one.name)
            at = number if again else number + 1
            self.living[name] = Child(writing, self.path, self.seed, name, at, champion, again)

    def _note(self, name: str, what: str) -> None:
        kind = "half_visible" if "HalfVisible" in what else "unreadable"
        self.counts[kind] += 1
        self.wrong.append(f"{name}: {what}")
        print(f"{name}: {what}", file=sys.stderr)

    def _judged(self) -> dict[str, Any]:
        """What a process that opens the store afterwards finds."""
        try:
            found = done(_found, self.path, self.seed)
        except ChildFailed as error:
            self._note("afterwards", str(error))
            found = {"present": {}, "damages": [], "again": {}}
        present: dict[str, int] = found["present"]
        lost = [name for name, snapshot in self.acknowledged.items() if present.get(name) != snapshot]
        known = self.acknowledged.keys() | self.abandoned
        known |= {deeds.deed(self.seed, w, n).name for w, (n, _, _) in self.state.items()}
        return {
            "commits": len(self.acknowledged),
            "kills": self.counts["kills"],
            "under_way": self.counts["under_way"],
            "roles": dict(sorted(self.roles.items())),
            "lost": len(lost),
            "half_visible": self.counts["half_visible"],
            "unreadable": self.counts["unreadable"],
            "damages": found["damages"],
            "twice": len(present.keys() - known) + sum(v != found["again"].get(k, v) for k, v in present.items()),
            "unacknowledged": {"whole": len(present.keys() - self.acknowledged.keys()), "begun": len(self.abandoned)},
            "repeated": self.counts["repeated"],
            "upkeep": {n: self.counts[n] for n in ("upkeep_rounds", "flushed", "merged", "folded", "collected")},
            "expired": self.counts["upkeep_expired"],
            "looked": self.counts["reader_rounds"],
        }


def _made(path: str) -> None:
    Store.open(path).close()


def _found(path: str, seed: int) -> dict[str, Any]:
    """Everything that is there, what ``verify`` says, and under which snapshot each commit id is known."""
    with Store.open(path, create=False) as store:
        present = deeds.present(store.snapshot(), seed)
        deeds.check_blobs(store, seed, sorted(present))
        ids = {name: deeds.named(seed, name).commit_id for name in present}
        again = {name: store.committed(key) for name, key in ids.items() if key is not None}
        damages = [str(one) for one in store.verify().damages]
        deeds.do(store, deeds.deed(seed, "last", 0), None)  # and it goes on
        assert "last-000000" in deeds.present(store.snapshot(), seed)
    return {"present": present, "damages": damages, "again": again}
