"""One suite over every engine: each item comes back exactly once, whatever its chunk does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fleet.engines import Engine, Mark
from fleet.engines.inline import Inline
from fleet.engines.local import PINNED, Local
from fleet.outcome import Cause, Failed

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 1.0
NEVER_S = 600.0


def nothing() -> None:
    """What a worker has to do before its first item."""


def squares(items: Sequence[int], mark: Mark) -> list[int]:
    return [item * item for item in items]


def act(items: Sequence[str], mark: Mark) -> list[str]:
    """Do to this process what an item says."""
    for place, item in enumerate(items):
        mark(place, 0)
        match item.partition(" ")[0]:
            case "raise":
                raise ValueError(f"cannot do {item}")
            case "memory":
                raise MemoryError("no room")
            case "sys.exit":
                sys.exit(3)
            case "exit":
                os._exit(3)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                threading.Event().wait(NEVER_S)
    return [item.upper() for item in items]


def unsendable(items: Sequence[str], mark: Mark) -> object:
    """A result that does not pickle, for one item."""
    return threading.Lock() if "bad" in items else list(items)


def environment(items: Sequence[str], mark: Mark) -> list[str | None]:
    return [os.environ.get(item) for item in items]


def whoami(items: Sequence[int], mark: Mark) -> int:
    return os.getpid()


def never() -> bool:
    return False


@pytest.fixture(scope="module")
def local() -> Iterator[Engine]:
    engine = Local(2, nothing)
    yield engine
    engine.close()


@pytest.fixture(params=["inline", "local"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return Inline() if request.param == "inline" else request.getfixturevalue("local")


def outcomes(engine: Engine, items: Sequence[str], work: object = act) -> dict[str, object]:
    """Item to its result or failure, after checking that each came back once."""
    found: dict[str, object] = {}
    for chunk, result in engine.map_chunks(work, items, timeout_s=TIMEOUT_S, stop=never):
        if isinstance(result, Failed):
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


def failures(found: dict[str, object]) -> dict[str, Cause]:
    return {item: result.cause for item, result in found.items() if isinstance(result, Failed)}


# -- every engine --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 3, 1001])
def test_every_item_comes_back_once_in_any_order(engine: Engine, count: int) -> None:
    found: Counter[int] = Counter()
    for chunk, result in engine.map_chunks(squares, range(count), timeout_s=TIMEOUT_S, stop=never):
        assert result == [item * item for item in chunk]
        found.update(chunk)
    assert found == Counter(range(count))


@pytest.mark.parametrize(
    ("deed", "cause", "code"),
    [
        ("raise", Cause.EXCEPTION, "exception"),
        ("memory", Cause.MEMORY, "exception"),
        ("sys.exit", Cause.EXCEPTION, "exception"),
    ],
)
def test_an_item_that_raises_fails_alone(engine: Engine, deed: str, cause: Cause, code: str) -> None:
    items = ["a", "b", f"{deed} 1", "c", "d", f"{deed} 2", *(f"more {n}" for n in range(20))]
    found = outcomes(engine, items)
    assert failures(found) == {f"{deed} 1": cause, f"{deed} 2": cause}
    assert found["c"] == "C"
    failed = found[f"{deed} 1"]
    assert isinstance(failed, Failed)
    assert failed.code == code


def test_the_message_of_a_failure_is_that_of_the_exception(engine: Engine) -> None:
    failed = outcomes(engine, ["raise it"])["raise it"]
    assert isinstance(failed, Failed)
    assert failed.error == "ValueError: cannot do raise it"
    assert "in act" in failed.trace


def test_all_items_may_fail(engine: Engine) -> None:
    items = [f"raise {n}" for n in range(12)]
    assert set(failures(outcomes(engine, items))) == set(items)


def test_after_a_stop_nothing_begins_and_what_runs_is_finished(engine: Engine) -> None:
    items = [*range(100_000)]
    finished: list[int] = []

    def stop() -> bool:
        return bool(finished)

    for chunk, result in engine.map_chunks(squares, items, timeout_s=TIMEOUT_S, stop=stop):
        assert result == [item * item for item in chunk]
        finished += chunk
    assert 0 < len(finished) < len(items)
    assert len(set(finished)) == len(finished)


def test_an_engine_serves_one_map_after_another(engine: Engine) -> None:
    for _ in range(3):
        assert outcomes(engine, ["a", "raise b", "c"])["c"] == "C"


# -- processes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("deed", "cause"), [("exit", Cause.CRASHED), ("kill", Cause.CRASHED), ("hang", Cause.TIMEOUT)])
def test_a_process_that_dies_or_hangs_costs_one_item(local: Engine, deed: str, cause: Cause) -> None:
    items = [*(f"item {n}" for n in range(30)), f"{deed} 1", *(f"item {n}" for n in range(30, 60))]
    found = outcomes(local, items)
    assert failures(found) == {f"{deed} 1": cause}


def test_all_kinds_of_ends_together_cost_themselves_only(local: Engine) -> None:
    deeds = ["exit", "kill", "hang", "raise", "sys.exit"]
    items = [word for n in range(8) for word in (f"item {n}", f"other {n}", *([deeds[n]] if n < len(deeds) else []))]
    assert failures(outcomes(local, items)) == {
        "exit": Cause.CRASHED,
        "kill": Cause.CRASHED,
        "hang": Cause.TIMEOUT,
        "raise": Cause.EXCEPTION,
        "sys.exit": Cause.EXCEPTION,
    }


def test_the_message_says_how_a_process_ended(local: Engine) -> None:
    found = outcomes(local, ["exit", "kill"])
    assert [found[item].error for item in ("exit", "kill")] == [  # type: ignore[attr-defined]  # both are Failed
        "the worker process died (exit code 3)",
        "the worker process died (signal 9)",
    ]


def test_a_result_that_cannot_be_sent_is_a_failure_of_its_item(local: Engine) -> None:
    found = outcomes(local, ["a", "bad", "b", "c", "d"], unsendable)
    assert failures(found) == {"bad": Cause.UNPICKLABLE}


def test_library_threads_are_pinned_in_workers_and_not_here(local: Engine) -> None:
    before = dict(os.environ)
    assert set(outcomes(local, PINNED, environment).values()) == {"1"}
    engine = Local(1, nothing)
    engine.close()
    assert {name: os.environ.get(name) for name in PINNED} == {name: before.get(name) for name in PINNED}


def test_the_work_is_done_in_other_processes(local: Engine) -> None:
    processes = {result for _, result in local.map_chunks(whoami, range(50), timeout_s=TIMEOUT_S, stop=never)}
    assert os.getpid() not in processes
    assert 1 <= len(processes) <= 2


def test_a_worker_that_dies_while_it_is_idle_costs_nothing() -> None:
    """The system may kill the largest process at any time; pebble then declares its pool broken."""
    engine = Local(2, nothing)
    try:
        for process in {result for _, result in engine.map_chunks(whoami, range(50), timeout_s=NEVER_S, stop=never)}:
            os.kill(process, signal.SIGKILL)
        assert not failures(outcomes(engine, [f"item {n}" for n in range(30)]))
    finally:
        engine.close()


def test_a_script_without_a_main_guard_is_told_what_it_lacks(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from fleet.engines.local import Local\n"
        "from tests.contracts.test_engines import never, nothing, squares\n"
        "engine = Local(2, nothing)\n"
        "for _, result in engine.map_chunks(squares, range(500), timeout_s=60, stop=never):\n"
        "    print(result.cause, result.error)\n"
        "engine.close()\n"
    )
    ended = subprocess.run(
        [sys.executable, str(script)],
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    lines = ended.stdout.splitlines()
    assert (ended.returncode, len(lines)) == (0, 500)
    assert set(lines) == {
        'crashed no worker process stays alive (a script that runs a fleet needs `if __name__ == "__main__":`)'
    }
