"""Children that are forked: thousands of processes, none of which has to import anything.

Whoever forks keeps clear of threads and of open stores; so the parts of the harness are programs of their own, and only
their children touch a store. A child tells its lines through a pipe, which outlives it, and dies with its parent.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import selectors
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Self

#: What a store imports when it is first asked, written to or tidied: once, before the forks.
_IMPORTED_LATE = (
    *(
        "duckdb",
        "numpy",
        "pandas",
        "pyarrow",
        "pyarrow.compute",
        "pyarrow.parquet",
        "store.backing",
        "store.catalog.checking",
    ),
    *("store.catalog.sums", "store.duck", "store.merging", "store.packs", "store.segments", "store.store"),
    *("store.upkeep", "store.verifying", "store.writing"),
)
for _name in _IMPORTED_LATE:
    importlib.import_module(_name)

_DEATH_SIGNAL, _ANY_TRACER = 1, 0x59616D61  # prctl's PR_SET_PDEATHSIG and PR_SET_PTRACER
DEADLINE_S = 120.0

#: Writes one line, a JSON object.
Tell = Callable[..., None]


class ChildFailed(AssertionError):
    """A child ended with an exception; its traceback is the message."""


class Child:
    """A forked process that does ``work(tell, *args)``."""

    def __init__(self, work: Callable[..., None], *args: Any) -> None:
        read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(read)
            _live(write, work, args)
        os.close(write)
        os.set_blocking(read, False)
        self._pipe, self._rest, self.code = read, b"", None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """End it with -9 and take what it is told by the system; what it said can still be read."""
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def wait(self) -> int:
        """Wait for its end; the exit code, negative for a signal."""
        if self.code is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code

    def said(self) -> list[dict[str, Any]]:
        """The lines that came since the last call; does not wait.

        Raises:
            ChildFailed: one of them is its traceback.
        """
        with suppress(BlockingIOError):
            while piece := os.read(self._pipe, 1 << 16):
                self._rest += piece
        *whole, self._rest = self._rest.split(b"\n")
        lines = [json.loads(line) for line in whole]
        for line in lines:
            if "failed" in line:
                raise ChildFailed(line["failed"])
        return lines

    def next(self) -> dict[str, Any]:
        """Its next line.

        Raises:
            ChildFailed: it failed, or ended without saying more.
        """
        for lines in listened([self]):
            if lines[1]:
                return lines[1][0]  # a child that is talked with says one line at a time
            if self.ended():
                raise ChildFailed(f"it ended with {self.wait()} and without a word")
        raise AssertionError("listening ends with an exception")

    def ended(self) -> bool:
        """Whether it lives no more; without waiting."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def close(self) -> None:
        self.kill()
        os.close(self._pipe)


def listened(children: list[Child]) -> Iterator[tuple[Child, list[dict[str, Any]]]]:
    """Whoever says something, with what; ends when one of them does not say a word for too long.

    Raises:
        ChildFailed: one did.
        TimeoutError: nobody said anything before the deadline.
    """
    with selectors.DefaultSelector() as selector:
        for child in children:
            selector.register(child._pipe, selectors.EVENT_READ, child)
        until = time.monotonic() + DEADLINE_S
        while True:
            ready = selector.select(timeout=max(until - time.monotonic(), 0))
            if not ready:
                raise TimeoutError(f"{len(children)} processes said nothing for {DEADLINE_S:g} s")
            for key, _ in ready:
                yield key.data, key.data.said()
            until = time.monotonic() + DEADLINE_S


def done(work: Callable[..., Any], *args: Any) -> Any:
    """What a function returns, run in a child.

    Raises:
        ChildFailed: it raised.
    """

    def told(tell: Tell) -> None:
        tell(answer=work(*args))

    child = Child(told)
    try:
        return child.next()["answer"]
    finally:
        child.wait()
        child.close()


def _live(pipe: int, work: Callable[..., None], args: tuple[Any, ...]) -> None:
    """The whole life of a child; never returns to its parent's code."""
    libc = ctypes.CDLL(None)
    libc.prctl(_DEATH_SIGNAL, signal.SIGKILL)
    libc.prctl(_ANY_TRACER, ctypes.c_ulong(-1))

    def tell(**line: Any) -> None:
        text = json.dumps(line).encode() + b"\n"
        try:
            os.write(pipe, text)
        except OSError:  # a fault meant for the store; the pipe itself is sound
            os.write(pipe, text)

    code = 1
    try:
        work(tell, *args)
        code = 0
    except BaseException:  # noqa: BLE001 whatever it is, the parent tells it
        tell(failed=traceback.format_exc()[-3_500:])
    finally:
        os._exit(code)
