"""One suite over every engine: each item comes back once, whatever its chunk does, and who is to blame is known."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fleet.engines import Backlog, Engine, Lost, Mark
from fleet.engines.inline import Inline
from fleet.engines.local import Local
from fleet.engines.local.process import PINNED
from fleet.outcome import Cause, attempt_part

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 1.0
NEVER_S = 600.0
MEMORY = 100_000_000
DEADLINE_S = 30.0


def nothing() -> None:
    """What a worker has to do before its first item."""


def squares(items: Sequence[int], mark: Mark) -> list[int]:
    return [item * item for item in items]


def act(items: Sequence[str], mark: Mark) -> list[str]:
    """Do to this process, in the part that it names, what an item says: `hang at 2` hangs in its third part."""
    for place, item in enumerate(items):
        word, _, at = item.partition(" at ")
        for part in range(int(at or 0) + 1):
            mark(place, part)
        do(word.partition(" ")[0], item)
    return [item.upper() for item in items]


def do(deed: str, item: str) -> None:
    match deed:
        case "raise":
            raise ValueError(f"cannot do {item}")
        case "refuse":
            attempt_part(refuse)
        case "sys.exit":
            sys.exit(3)
        case "exit":
            os._exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segfault":
            ctypes.string_at(0)
        case "hang":
            threading.Event().wait(NEVER_S)
        case "hog":
            attempt_part(bytearray, 4 * MEMORY)
        case "print":
            print(f"printed by {item}")


def refuse() -> None:
    raise ConnectionRefusedError("not now")


def unsendable(items: Sequence[str], mark: Mark) -> object:
    """A result that does not pickle, for one item."""
    return threading.Lock() if "bad" in items else list(items)


class Unreadable:
    """Pickles, and raises where it is read."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return int, ("no number",)


def unreadable(items: Sequence[str], mark: Mark) -> object:
    return [Unreadable()] if "bad" in items else list(items)


def environment(items: Sequence[str], mark: Mark) -> list[str | None]:
    return [os.environ.get(item) for item in items]


def whoami(items: Sequence[int], mark: Mark) -> int:
    return os.getpid()


def never() -> bool:
    return False


@pytest.fixture(scope="module")
def local() -> Iterator[Engine]:
    engine = Local(2, nothing, memory=MEMORY)
    yield engine
    engine.close()


@pytest.fixture(params=["inline", "local"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return Inline() if request.param == "inline" else request.getfixturevalue("local")


def outcomes(engine: Engine, items: Sequence[str], work: object = act, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """Item to its result or what it was lost to, after checking that each came back once."""
    found: dict[str, object] = {}
    for chunk, result in engine.map_chunks(work, Backlog(items), timeout_s=timeout_s, stop=never):
        if isinstance(result, Lost):
            assert len(chunk) == 1, "a failure stands for a single item"
            results: Sequence[object] = [result]
        else:
            assert isinstance(result, list)
            results = result
        for item, one in zip(chunk, results, strict=True):
            assert item not in found, f"{item} came back twice"
            found[item] = one
    assert set(found) == set(items)
    return found


def causes(found: dict[str, Any]) -> dict[str, Cause]:
    return {item: result.failed.cause for item, result in found.items() if isinstance(result, Lost)}


def among(deed: str, others: int = 60) -> list[str]:
    """An item in the middle of others."""
    return [*(f"item {n}" for n in range(others // 2)), deed, *(f"item {n}" for n in range(others // 2, others))]


# -- every engine --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 3, 1001])
def test_every_item_comes_back_once_in_any_order(engine: Engine, count: int) -> None:
    found: Counter[int] = Counter()
    for chunk, result in engine.map_chunks(squares, Backlog(range(count)), timeout_s=TIMEOUT_S, stop=never):
        assert result == [item * item for item in chunk]
        found.update(chunk)
    assert found == Counter(range(count))


@pytest.mark.parametrize(
    ("deed", "cause", "code", "passing"),
    [
        ("raise", Cause.EXCEPTION, "exception", False),
        ("sys.exit", Cause.EXCEPTION, "exception", False),
        ("refuse", Cause.EXCEPTION, "exception", True),
    ],
)
def test_an_item_that_raises_fails_alone(engine: Engine, deed: str, cause: Cause, code: str, passing: bool) -> None:
    items = ["a", "b", f"{deed} 1", "c", "d", f"{deed} 2", *(f"more {n}" for n in range(20))]
    found = outcomes(engine, items)
    assert causes(found) == {f"{deed} 1": cause, f"{deed} 2": cause}
    assert found["c"] == "C"
    assert (found[f"{deed} 1"].failed.code, found[f"{deed} 1"].failed.passing) == (code, passing)


def test_the_message_of_a_failure_is_that_of_the_exception(engine: Engine) -> None:
    lost = outcomes(engine, ["raise it"])["raise it"]
    assert lost.failed.error == "ValueError: cannot do raise it"
    assert "in do" in lost.failed.trace


def test_what_left_a_part_is_blamed_on_that_part(engine: Engine) -> None:
    found = outcomes(engine, among("refuse at 2"))
    assert {item: lost.part for item, lost in found.items() if isinstance(lost, Lost)} == {"refuse at 2": 2}


def test_what_was_raised_between_the_parts_is_blamed_on_none(engine: Engine) -> None:
    assert outcomes(engine, among("raise at 2"))["raise at 2"].part is None


def test_all_items_may_fail(engine: Engine) -> None:
    items = [f"raise {n}" for n in range(12)]
    assert set(causes(outcomes(engine, items))) == set(items)


def noted(folder: str, items: Sequence[str], mark: Mark) -> list[str]:
    """`act`, and a dot into a file of each item that is worked on."""
    for place, item in enumerate(items):
        mark(place, 0)
        with Path(folder, item).open("a") as file:
            file.write(".")
        do(item.partition(" ")[0], item)
    return [*items]


@pytest.mark.parametrize(
    ("kind", "bad", "count"), [("inline", "refuse", 400), ("local", "refuse", 400), ("local", "exit", 40)]
)
def test_no_item_is_worked_on_more_than_twice_on_account_of_others(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, bad: str, count: int
) -> None:
    engine = Inline() if kind == "inline" else request.getfixturevalue(kind)
    items = [f"{bad} {n}" if n % 5 == 4 else f"item {n}" for n in range(count)]
    outcomes(engine, items, partial(noted, str(tmp_path)))
    times = {item: len((tmp_path / item).read_text()) for item in items}
    assert {n for item, n in times.items() if item.startswith(bad)} == {1}
    assert set(times.values()) <= {1, 2}


def test_after_a_stop_nothing_begins_and_what_runs_is_finished(engine: Engine) -> None:
    items = [*range(100_000)]
    finished: list[int] = []

    def stop() -> bool:
        return bool(finished)

    for chunk, result in engine.map_chunks(squares, Backlog(items), timeout_s=TIMEOUT_S, stop=stop):
        assert result == [item * item for item in chunk]
        finished += chunk
    assert 0 < len(finished) < len(items)
    assert len(set(finished)) == len(finished)


def test_an_engine_serves_one_map_after_another(engine: Engine) -> None:
    for _ in range(3):
        assert outcomes(engine, ["a", "raise b", "c"])["c"] == "C"


def test_what_is_put_meanwhile_is_worked_on_when_its_time_has_come(engine: Engine) -> None:
    clock = [0.0]
    backlog = Backlog(range(3), clock=lambda: clock[0])
    seen: list[int] = []
    for chunk, _ in engine.map_chunks(squares, backlog, timeout_s=TIMEOUT_S, stop=never):
        seen += chunk
        if 2 in chunk:
            backlog.put([10], wait_s=1000.0)
            backlog.put([20])
        if 20 in chunk:
            clock[0] = 1000.0
    assert sorted(seen) == [0, 1, 2, 10, 20]
    assert seen.index(10) > seen.index(20)


def test_a_stop_does_not_wait_for_what_waits(engine: Engine) -> None:
    backlog = Backlog([1])
    stopped: list[bool] = []
    for _ in engine.map_chunks(squares, backlog, timeout_s=TIMEOUT_S, stop=lambda: bool(stopped)):
        backlog.put([2], wait_s=NEVER_S)
        stopped.append(True)
    assert backlog.finished


def test_chunks_that_nobody_has_looked_at_hold_up_what_is_to_come() -> None:
    """Else a slow disk would fill the memory with results."""
    backlog = Backlog("abcd")
    assert [backlog.take(1, patience_s=0.0, out=2) for _ in range(3)] == [["a"], ["b"], []]
    backlog.settle()
    assert backlog.take(1, patience_s=0.0, out=2) == ["c"]


# -- processes -----------------------------------------------------------------------------------------------------

FATAL = {"exit": Cause.CRASHED, "kill": Cause.CRASHED, "segfault": Cause.CRASHED, "hang": Cause.TIMEOUT}


@pytest.mark.parametrize(("deed", "cause"), FATAL.items())
def test_a_process_that_dies_or_hangs_costs_one_item_and_names_the_part(local: Engine, deed: str, cause: Cause) -> None:
    found = outcomes(local, among(f"{deed} at 2"))
    assert causes(found) == {f"{deed} at 2": cause}
    lost = found[f"{deed} at 2"]
    assert (lost.part, lost.failed.passing) == (2, cause is Cause.CRASHED)


def test_all_kinds_of_ends_together_cost_themselves_only(local: Engine) -> None:
    deeds = [*FATAL, "raise", "sys.exit", "hog", "refuse"]
    items = [word for n in range(10) for word in (f"item {n}", f"other {n}", *([deeds[n]] if n < len(deeds) else []))]
    assert causes(outcomes(local, items)) == {
        **FATAL,
        "raise": Cause.EXCEPTION,
        "sys.exit": Cause.EXCEPTION,
        "hog": Cause.MEMORY,
        "refuse": Cause.EXCEPTION,
    }


def test_the_message_says_how_a_process_ended(local: Engine) -> None:
    found = outcomes(local, ["exit", "kill", "segfault", "hang"])
    assert {item: lost.failed.error for item, lost in found.items()} == {
        "exit": "the worker process died (exit code 3)",
        "kill": "the worker process died (SIGKILL)",
        "segfault": "the worker process died (SIGSEGV)",
        "hang": "not done within 1 s ([train] timeout)",
    }


def slow(items: Sequence[str], mark: Mark) -> list[str]:
    """Three parts of 0.6 s each."""
    for place, _ in enumerate(items):
        for part in range(3):
            mark(place, part)
            threading.Event().wait(0.6 * TIMEOUT_S)
    return [*items]


def test_the_time_limit_is_for_each_part(local: Engine) -> None:
    assert not causes(outcomes(local, ["a"], slow))


def test_what_needs_more_memory_than_a_worker_may_take_is_told_with_the_limit(local: Engine) -> None:
    """Also in the worker that takes the place of one that died."""
    found = outcomes(local, ["hog 1", "kill", "hog 2", "kill it", "hog 3", "item"])
    assert {item: cause for item, cause in causes(found).items() if item.startswith("hog")} == dict.fromkeys(
        ("hog 1", "hog 2", "hog 3"), Cause.MEMORY
    )
    assert found["hog 1"].failed.error == "MemoryError; its worker may take 100 MB ([train] memory)"
    assert found["hog 1"].failed.passing


@pytest.mark.parametrize("work", [unsendable, unreadable])
def test_a_result_that_cannot_be_sent_is_a_failure_of_its_item(local: Engine, work: object) -> None:
    found = outcomes(local, ["a", "bad", "b", "c", "d"], work)
    assert causes(found) == {"bad": Cause.UNPICKLABLE}


def test_an_item_that_cannot_be_sent_or_read_fails_alone(local: Engine) -> None:
    items: list[object] = ["a", threading.Lock(), "b", Unreadable(), "c"]
    lost = []
    for chunk, result in local.map_chunks(unsendable, Backlog(items), timeout_s=TIMEOUT_S, stop=never):
        if isinstance(result, Lost):
            lost.append((type(chunk[0]).__name__, result.failed.cause))
    assert sorted(lost) == [("Unreadable", Cause.UNPICKLABLE), ("lock", Cause.UNPICKLABLE)]


def test_work_that_cannot_be_sent_is_the_failure_of_every_item(local: Engine) -> None:
    found = outcomes(local, ["a", "b"], lambda items, _: [*items])
    assert set(causes(found).values()) == {Cause.UNPICKLABLE}


def test_library_threads_are_pinned_in_workers_and_not_here(local: Engine) -> None:
    before = dict(os.environ)
    assert set(outcomes(local, PINNED, environment).values()) == {"1"}
    assert {name: os.environ.get(name) for name in PINNED} == {name: before.get(name) for name in PINNED}


def test_the_work_is_done_in_other_processes(local: Engine) -> None:
    assert os.getpid() not in workers_of(local)


def workers_of(engine: Engine, items: int = 50) -> set[int]:
    return {result for _, result in engine.map_chunks(whoami, Backlog(range(items)), timeout_s=NEVER_S, stop=never)}  # type: ignore[misc]  # none is Lost


def test_no_more_workers_are_started_than_there_are_items() -> None:
    engine = Local(8, nothing)
    try:
        assert len(workers_of(engine, items=1)) == 1
        assert len(engine._hands) == 1
    finally:
        engine.close()


def test_a_worker_that_dies_while_it_is_idle_costs_nothing() -> None:
    """The system may kill the largest process at any time."""
    engine = Local(2, nothing)
    try:
        for process in workers_of(engine):
            os.kill(process, signal.SIGKILL)
        assert not causes(outcomes(engine, [f"item {n}" for n in range(30)]))
    finally:
        engine.close()


def gone(process: int) -> bool:
    """Whether a process has ended, or does so within the deadline."""
    try:
        handle = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    waiting = select.poll()
    waiting.register(handle, select.POLLIN)
    try:
        return bool(waiting.poll(DEADLINE_S * 1000))
    finally:
        os.close(handle)


def start_another(folder: str, items: Sequence[str], mark: Mark) -> list[str]:
    """Start a process that would outlive this one, note it, and hang."""
    mark(0, 0)
    process = subprocess.Popen(["sleep", str(NEVER_S)])
    Path(folder, "process").write_text(str(process.pid))
    threading.Event().wait(NEVER_S)
    return [*items]


def test_what_a_model_has_started_ends_with_its_worker(local: Engine, tmp_path: Path) -> None:
    found = outcomes(local, ["a"], partial(start_another, str(tmp_path)))
    assert causes(found) == {"a": Cause.TIMEOUT}
    assert gone(int((tmp_path / "process").read_text()))


def die() -> None:
    os._exit(9)


def fail() -> None:
    raise RuntimeError("no licence")


@pytest.mark.parametrize(
    ("initializer", "why"),
    [(die, "a worker ended before its work (exit code 9)"), (fail, "RuntimeError: no licence")],
)
def test_where_no_worker_stays_alive_every_item_is_told_why(initializer: Callable[[], None], why: str) -> None:
    engine = Local(2, initializer)
    try:
        found = outcomes(engine, [f"item {n}" for n in range(500)])
        assert {lost.failed.error for lost in found.values()} == {f"no worker process stays alive: {why}"}
        assert not found["item 0"].failed.passing
    finally:
        engine.close()


class Deadly:
    """Work that ends the process which reads it."""

    def __call__(self, items: Sequence[str], mark: Mark) -> list[str]:
        return [*items]

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return os._exit, (5,)


def test_work_that_no_worker_survives_reading_is_the_failure_of_every_item() -> None:
    engine = Local(2, nothing)
    try:
        found = outcomes(engine, [f"item {n}" for n in range(100)], Deadly())
        assert {lost.failed.error for lost in found.values()} == {
            "no worker process stays alive: the worker process died (exit code 5)"
        }
    finally:
        engine.close()


# -- scripts -------------------------------------------------------------------------------------------------------

SCRIPT = """
import json, os, sys
from fleet.engines import Backlog
from fleet.engines.local import Local
from tests.contracts.test_engines import act, never, nothing, squares, whoami
engine = Local(2, nothing)
"""


def ran(code: str, *, how: Sequence[str] = (), feed: str | None = None) -> subprocess.CompletedProcess[str]:
    """A script that uses an engine, run by a new Python."""
    return subprocess.run(
        [sys.executable, *how],
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=feed if feed is not None else "",
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )


TO_THE_END = """
found = []
for chunk, result in engine.map_chunks(squares, Backlog(range(50)), timeout_s=60, stop=never):
    found += result
engine.close()
print(sorted(found) == [n * n for n in range(50)])
"""


def test_a_script_needs_no_main_guard_and_runs_once(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(SCRIPT + TO_THE_END)
    done = ran("", how=[str(script)])
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_standard_input_and_an_interactive_session_are_as_good_as_a_file() -> None:
    assert ran("", how=["-"], feed=SCRIPT + TO_THE_END).stdout == "True\n"
    typed = SCRIPT + TO_THE_END.replace("engine.close()", "\nengine.close()")
    assert ran("", how=["-i", "-q"], feed=typed).stdout.endswith("True\n")


def test_what_a_model_prints_goes_to_stderr() -> None:
    code = SCRIPT + "print([*engine.map_chunks(act, Backlog(['print it']), timeout_s=60, stop=never)])\nengine.close()"
    done = ran("", how=["-c", code])
    assert (done.stdout, done.stderr) == ("[(['print it'], ['PRINT IT'])]\n", "printed by print it\n")


def test_an_engine_that_is_closed_while_its_workers_start_says_nothing() -> None:
    done = ran("", how=["-c", f"{SCRIPT}engine.start(2)\nengine.close()"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("busy", [True, False])
def test_workers_end_with_a_driver_that_is_killed(busy: bool) -> None:
    """Those that wait and those that hang in a model."""
    work = "act, Backlog(['hang'])" if busy else "whoami, Backlog([1, 2, 3])"
    code = (
        f"{SCRIPT}"
        "print(json.dumps([*{r for _, r in engine.map_chunks(whoami, Backlog(range(50)), timeout_s=60, stop=never)}]),"
        " flush=True)\n"
        f"for _ in engine.map_chunks({work}, timeout_s=600, stop=never): pass\n"
        "sys.stdin.read()"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with driver:
        assert driver.stdout is not None
        processes = json.loads(driver.stdout.readline())
        driver.kill()
    assert processes
    assert all(gone(process) for process in processes)
