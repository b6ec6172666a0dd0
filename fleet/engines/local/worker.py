"""What runs in a worker: read a task, do it, answer, until the driver closes the pipe or dies.

A worker is a new interpreter and not a fork, and it does not run the user's script again: a script needs no main guard,
and standard input, a notebook and an interactive session are as good as a file.
"""

from __future__ import annotations

import io
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from fleet.engines import Guilty, tried
from fleet.engines.local.memory import as_text, limit_memory
from fleet.engines.local.slot import OUTSIDE, Slot
from fleet.outcome import Cause, Failed, attempt

LENGTH = 8
WORK, ITEMS = b"w", b"i"
PR_SET_PDEATHSIG = 1
WATCH_S = 1.0


@dataclass(frozen=True, slots=True)
class Hello:
    """What a worker is told first.

    Args:
        initializer: called before the first task, with `initargs`.
        memory: bytes that the worker may take beside its libraries.
    """

    initializer: Callable[..., None]
    initargs: Sequence[object]
    memory: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker says of a task: its result, or why there is none and through which part, if that is known."""

    result: Any
    guilty: Guilty | None = None
    seconds: float = 0.0


def unpicklable(failed: Failed, what: str) -> Failed:
    """What could not be pickled or unpickled, as an outcome, unless it was only too large for the memory."""
    if failed.cause is Cause.MEMORY:
        return failed
    return replace(failed, code="unpicklable", cause=Cause.UNPICKLABLE, error=f"{what}: {failed.error}", passing=False)


def serve(tasks: BinaryIO, answers: int, shared: int, driver: int) -> None:
    """Do tasks until there are no more.

    Args:
        tasks: a frame with a `Hello`, then frames of `WORK` (what is done from now on) and `ITEMS` (a chunk to do).
        answers: descriptor for the frames of `Answer`: one when the worker is ready, then one for each chunk.
        shared: descriptor of the `Slot`.
        driver: id of the process to end with.
    """
    _end_with(driver)
    for fd in (tasks.fileno(), answers, shared):
        os.set_inheritable(fd, False)  # a process that a model starts has no business with them
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what a model prints goes to stderr, and at once
    slot = Slot(shared)
    with open(answers, "wb") as out:
        memory = attempt(_prepare, _frame(tasks))
        _reply(out, Answer(memory))
        work: Any = memory
        while not isinstance(memory, Failed) and (frame := _frame(tasks)):
            if frame[:1] == WORK:
                work = attempt(pickle.loads, memoryview(frame)[1:])
            else:
                slot.mark(OUTSIDE, OUTSIDE)
                _reply(out, _named(_done(work, memoryview(frame)[1:], slot), memory))


def _prepare(frame: bytes) -> int:
    """Import what the tasks need, then hold this process to its memory."""
    hello: Hello = pickle.loads(frame)  # noqa: S301  written by the driver, through a pipe that nobody else has
    hello.initializer(*hello.initargs)
    limit_memory(hello.memory)
    return hello.memory


def _done(work: Any, frame: memoryview, slot: Slot) -> Answer:
    chunk = work if isinstance(work, Failed) else attempt(pickle.loads, frame)
    if isinstance(chunk, Failed):
        return Answer(unpicklable(chunk, "the worker cannot read its task"))
    started = time.perf_counter()
    result, guilty = tried(work, chunk, slot.mark)
    slot.mark(OUTSIDE, OUTSIDE)
    return Answer(result, guilty, time.perf_counter() - started)


def _named(answer: Answer, memory: int) -> Answer:
    """The answer; where memory was short, with the limit that a reader can change."""
    failed = answer.result
    if not isinstance(failed, Failed) or failed.cause is not Cause.MEMORY:
        return answer
    limit = f"its worker may take {as_text(memory)} ([train] memory)"
    return replace(answer, result=replace(failed, error=f"{failed.error.rstrip(': ')}; {limit}"))


def _reply(out: BinaryIO, answer: Answer) -> None:
    payload = attempt(pickle.dumps, answer, pickle.HIGHEST_PROTOCOL)
    if isinstance(payload, Failed):
        payload = pickle.dumps(Answer(unpicklable(payload, "what the model made cannot be sent")))
    out.write(len(payload).to_bytes(LENGTH, "little"))
    out.write(payload)
    out.flush()


def _frame(tasks: BinaryIO) -> bytes:
    """The next message; empty when the driver has closed the pipe."""
    length = tasks.read(LENGTH)
    return tasks.read(int.from_bytes(length, "little")) if len(length) == LENGTH else b""


def _end_with(driver: int) -> None:
    """Whatever this process does at that moment, it shall not live longer than the driver."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=[driver], daemon=True).start()
    if os.getppid() != driver:
        os._exit(1)


def _watch(driver: int) -> None:
    while os.getppid() == driver:
        time.sleep(WATCH_S)
    os._exit(1)
