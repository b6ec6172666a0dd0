"""Those who find the lock taken are done together by the one who has it: each whole, once, with its own errors.

Every writer is a process that says when its letter lies there, so the order of things is the test's, not chance.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from store import Store
from store.letters import FOLDER

ROOT = Path(__file__).resolve().parents[2]

#: Does what it is ordered, line by line. ``at`` names a function of the store at whose so-manyth call it sends itself a
#: signal; ``lead`` says "leads" with the lock in hand and commits at the next line; who ``sleeps`` stops when its
#: letter lies there.
WRITER = """
import json, os, signal, sys
from store import Store
from store.errors import StoreError

def say(**line):
    print(json.dumps(line), flush=True)

def watched(at, sign, sleeps):
    name, left = at
    def watch(frame, event, _):
        nonlocal left
        function = frame.f_code.co_name
        if event == "return" and function == "post":
            say(posted=True)
            if sleeps:
                os.kill(os.getpid(), signal.SIGSTOP)
        if event == "call" and function == name and "/store/" in frame.f_code.co_filename:
            left -= 1
            if left == 0:
                if sign == signal.SIGSTOP:
                    say(stops=True)
                os.kill(os.getpid(), sign)
    return watch

def commit(store, told):
    one = store.begin(commit_id=told.get("id"), note=told["name"])
    for name, value in told.get("expect", {}).items():
        one.expect(name, value)
    for name, value in told.get("marks", {}).items():
        one.mark(name, value)
    one.insert("runs", [{"run_id": told["name"], "asset_id": "a"}])
    one.insert("metrics", [{"run_id": told["name"], "name": f"m{i}", "value": i} for i in range(told.get("rows", 3))])
    one.replace("alerts", [{"alert_id": "newest", "text": told["name"]}])
    try:
        done = one.commit()
    except StoreError as error:
        say(code=error.code, text=error.message)
    else:
        say(snapshot=done.snapshot, repeated=done.repeated, written=dict(done.written), at=done.at.isoformat())

with Store.open(sys.argv[1]) as store:
    say(ready=True)
    for line in sys.stdin:
        told = json.loads(line)
        if "wait_s" in told:
            store._catalog.lock._wait_s = told["wait_s"]
        sys.setprofile(watched(told.get("at", ["", 0]), told.get("sign", signal.SIGKILL), told.get("sleeps")))
        if told.get("lead"):
            with store._catalog.lock.held():
                say(leads=True)
                sys.stdin.readline()
                commit(store, told)
        else:
            commit(store, told)
        sys.setprofile(None)
"""


class Process:
    """A writer in a process of its own."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def says(self) -> dict[str, Any]:
        """Its next line; empty when it has died."""
        assert self._process.stdout is not None
        return dict(json.loads(self._process.stdout.readline() or "{}"))

    def order(self, **told: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()

    def send(self, sign: signal.Signals) -> None:
        self._process.send_signal(sign)

    def waits(self, **told: Any) -> None:
        """Order a commit that finds the lock taken; its letter lies there afterwards."""
        self.order(**told)
        assert self.says() == {"posted": True}
        if told.get("sleeps"):
            self.stands_still()

    def stops(self) -> None:
        """It says that it stops, and does."""
        assert self.says() == {"stops": True}
        self.stands_still()

    def stands_still(self) -> None:
        """Wait until it does: a process that is told to go on before it has stopped stops for ever."""
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def leads(self, **told: Any) -> None:
        """Have it take the lock; it commits when it is told to :meth:`go`."""
        self.order(lead=True, **told)
        assert self.says() == {"leads": True}

    def go(self) -> None:
        self.order()

    def end(self, sign: signal.Signals | None = None) -> None:
        if sign is not None:
            self.send(sign)
        self._process.communicate(timeout=60)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Store.open(tmp_path / "s").close()
    return tmp_path / "s"


@pytest.fixture
def start(path: Path) -> Iterator[Callable[[int], list[Process]]]:
    started: list[Process] = []

    def some(count: int) -> list[Process]:
        made = [Process(path) for _ in range(count)]
        started.extend(made)
        for one in made:
            assert one.says() == {"ready": True}
        return made

    yield some
    for one in started:
        one.end(signal.SIGKILL)


def there(path: Path) -> dict[str, int]:
    """The snapshot of each run in the store, after checking that each commit is whole, and that they are in order."""
    with Store.open(path) as store:
        runs = store.sql("select run_id, _v from runs__v order by _v").rows()
        found = {row["run_id"]: row["_v"] for row in runs}
        assert [row["_v"] for row in runs] == list(range(1, store.head() + 1))
        assert len(found) == len(runs), "a commit is there twice"
        metrics = store.sql("select run_id, _v, count(*) as n from metrics__v group by all").rows()
        assert {row["run_id"]: (row["_v"], row["n"]) for row in metrics} == {n: (v, 3) for n, v in found.items()}
        if runs:
            assert store.sql("select text from alerts").rows() == [{"text": runs[-1]["run_id"]}]
        times = [store._catalog.snapshot_time(v) for v in found.values()]
        assert times == sorted(times)
        assert store.verify().ok
    return found


def held(store: Store) -> AbstractContextManager[None]:
    return store._catalog.lock.held()


def put(store: Store, name: str) -> int:
    """A commit of the test's own process, of the same shape."""
    one = store.begin()
    one.insert("runs", [{"run_id": name, "asset_id": "a"}])
    one.insert("metrics", [{"run_id": name, "name": f"m{i}", "value": float(i)} for i in range(3)])
    one.replace("alerts", [{"alert_id": "newest", "text": name}])
    return one.commit().snapshot


def test_who_waits_is_done_with_the_commit_of_the_one_who_has_the_lock(
    path: Path, start: Callable[[int], list[Process]]
) -> None:
    one, other = start(2)
    with Store.open(path) as store:
        with held(store):
            one.waits(name="one")
            other.waits(name="other")
            assert put(store, "leader") == 1
            assert store.head() == 3
            # The lock is not free yet: they were told.
            told = [one.says(), other.says()]
        assert sorted(line["snapshot"] for line in told) == [2, 3]
        assert all(line["written"] == {"runs": 1, "metrics": 3, "alerts": 1} for line in told)
    snapshots = there(path)
    assert snapshots == {"leader": 1, "one": told[0]["snapshot"], "other": told[1]["snapshot"]}


def test_who_waits_goes_on_alone_when_nothing_is_committed(path: Path, start: Callable[[int], list[Process]]) -> None:
    one, other = start(2)
    with Store.open(path) as store, held(store):
        one.waits(name="one")
        other.waits(name="other")
    assert sorted([one.says()["snapshot"], other.says()["snapshot"]]) == [1, 2]
    assert there(path).keys() == {"one", "other"}


def test_the_error_of_one_is_its_own(path: Path, start: Callable[[int], list[Process]]) -> None:
    overtaken, first, second, fine = start(4)
    with Store.open(path) as store, held(store):
        overtaken.waits(name="overtaken", expect={"lease": "mine"}, marks={"lease": "new"})
        first.waits(name="first", id="used")
        second.waits(name="second", id="used")
        fine.waits(name="fine")
        put(store, "leader")
        assert store.head() == 3
        snapshot = fine.says()["snapshot"]
    alone = overtaken.says()
    assert alone["code"] == "overtaken"
    assert alone["text"] == "the watermark 'lease' is None, this transaction relied on 'mine'"
    told = {"first": first.says(), "second": second.says()}
    (lost,) = [line for line in told.values() if "snapshot" not in line]
    (won,) = [name for name, line in told.items() if "snapshot" in line]
    assert lost["code"] == "commit-conflict"
    assert there(path) == {"leader": 1, "fine": snapshot, won: told[won]["snapshot"]}


def test_of_those_who_claim_the_same_one_gets_it(path: Path, start: Callable[[int], list[Process]]) -> None:
    racers = start(3)
    with Store.open(path) as store:
        with held(store):
            for number, racer in enumerate(racers):
                racer.waits(name=f"racer {number}", expect={"turn": None}, marks={"turn": str(number)})
            put(store, "leader")
        told = [racer.says() for racer in racers]
        (won,) = [number for number, line in enumerate(told) if "snapshot" in line]
        assert sorted(line.get("code", "") for line in told) == ["", "overtaken", "overtaken"]
        assert store.snapshot().mark("turn") == str(won)
    assert there(path) == {"leader": 1, f"racer {won}": 2}


def test_a_commit_id_that_comes_twice_is_one_commit(path: Path, start: Callable[[int], list[Process]]) -> None:
    both = start(2)
    with Store.open(path) as store, held(store):
        for one in both:
            one.waits(name="same", id="same")
        put(store, "leader")
    told = [one.says() for one in both]
    assert [line["snapshot"] for line in told] == [2, 2]
    assert sorted(line["repeated"] for line in told) == [False, True]
    assert there(path) == {"leader": 1, "same": 2}


#: Where the leader dies, and whether his commit, and with it those of the others, stands then.
DEATHS = [
    (("_join", 1), False),
    (("set_told", 1), False),
    (("finish", 1), False),
    (("tell", 1), True),
    (("tell", 2), True),
]


@pytest.mark.parametrize(
    ("at", "stands"), DEATHS, ids=lambda one: f"{one[0]}-{one[1]}" if isinstance(one, tuple) else ""
)
def test_a_leader_who_is_killed_loses_nothing_of_those_who_wait(
    path: Path, start: Callable[[int], list[Process]], at: tuple[str, int], stands: bool
) -> None:
    leader, one, other = start(3)
    leader.leads(name="leader", at=at)
    one.waits(name="one")
    other.waits(name="other", id="other")
    leader.go()
    told = {"one": one.says(), "other": other.says()}
    assert leader.says() == {}
    found = there(path)
    assert found.keys() == {"one", "other"} | ({"leader"} if stands else set())
    assert {name: line["snapshot"] for name, line in told.items()} == {name: found[name] for name in told}
    assert not any(line["repeated"] for line in told.values())
    other.order(name="other", id="other")
    assert other.says()["snapshot"] == found["other"]


def test_what_a_killed_leader_did_is_not_done_again_by_the_next(
    path: Path, start: Callable[[int], list[Process]]
) -> None:
    """Whoever is awake takes the lock; the others are asleep until he has done with it."""
    leader, sleeps = start(2)
    leader.leads(name="leader", at=("tell", 1))
    sleeps.waits(name="sleeps", sleeps=True)
    leader.go()
    assert leader.says() == {}
    with Store.open(path) as store:
        assert store.head() == 2
        assert put(store, "next") == 3
        assert put(store, "after") == 4
    sleeps.send(signal.SIGCONT)
    assert sleeps.says()["snapshot"] == 2
    assert there(path) == {"leader": 1, "sleeps": 2, "next": 3, "after": 4}


def test_a_waiting_writer_that_is_killed_leaves_nothing(path: Path, start: Callable[[int], list[Process]]) -> None:
    dies, lives = start(2)
    with Store.open(path) as store, held(store):
        dies.waits(name="dies")
        lives.waits(name="lives")
        dies.end(signal.SIGKILL)
        put(store, "leader")
        assert lives.says()["snapshot"] == 2
        assert len(list((path / FOLDER).iterdir())) == 1, "the box of the dead is gone"
    assert there(path) == {"leader": 1, "lives": 2}


def test_a_writer_that_is_killed_after_its_letter_was_taken_is_there_once(
    path: Path, start: Callable[[int], list[Process]]
) -> None:
    leader, dies, again = start(3)
    leader.leads(name="leader", at=("set_told", 1), sign=signal.SIGSTOP)
    dies.waits(name="dies", id="dies")
    leader.go()
    leader.stops()
    dies.end(signal.SIGKILL)
    leader.send(signal.SIGCONT)
    assert leader.says()["snapshot"] == 1
    again.order(name="dies", id="dies")
    told = again.says()
    assert (told["snapshot"], told["repeated"]) == (2, True)
    assert there(path) == {"leader": 1, "dies": 2}


def test_who_gives_up_before_its_letter_is_taken_has_stored_nothing(
    path: Path, start: Callable[[int], list[Process]]
) -> None:
    (hasty,) = start(1)
    with Store.open(path) as store, held(store):
        hasty.waits(name="hasty", wait_s=0.05)
        assert hasty.says()["code"] == "store-busy"
        put(store, "leader")
    assert there(path) == {"leader": 1}


def test_who_gives_up_while_its_letter_is_taken_is_told_that_nobody_knows(
    path: Path, start: Callable[[int], list[Process]]
) -> None:
    leader, hasty = start(2)
    leader.leads(name="leader", at=("tell", 1), sign=signal.SIGSTOP)
    hasty.waits(name="hasty", wait_s=0.05, sleeps=True)
    leader.go()
    leader.stops()
    hasty.send(signal.SIGCONT)
    told = hasty.says()
    assert told["code"] == "store-busy"
    assert "took this commit along" in told["text"]
    leader.send(signal.SIGCONT)
    assert leader.says()["snapshot"] == 1
    assert there(path) == {"leader": 1, "hasty": 2}


def test_a_large_commit_waits_for_the_lock_itself(path: Path, start: Callable[[int], list[Process]]) -> None:
    large, small = start(2)
    with Store.open(path) as store, held(store):
        large.order(name="large", rows=6_000)
        small.waits(name="small")
        put(store, "leader")
        assert small.says()["snapshot"] == 2
    assert large.says()["snapshot"] == 3


def test_time_goes_on_however_slowly_a_letter_is_written(path: Path, start: Callable[[int], list[Process]]) -> None:
    (slow,) = start(1)
    with Store.open(path) as store, held(store):
        slow.order(name="slow", at=("to_letter", 1), sign=signal.SIGSTOP)
        slow.stops()
        before = [put(store, str(n)) for n in range(10)]  # so long that it shows
        slow.send(signal.SIGCONT)
        assert slow.says() == {"posted": True}
        put(store, "leader")
        assert slow.says()["snapshot"] == 12
    assert there(path) == {str(n): v for n, v in enumerate(before)} | {"leader": 11, "slow": 12}
