"""Spawned processes on this machine, by pebble.

Spawn only: forking after OpenMP has started hangs LightGBM. Chunks aim at a second of work: the first ones are single
items and the measured rate sizes the next. A chunk that raises, dies or overruns (one item's time limit and that
second) is given up; its items run again one by one, each with its own limit, so that one bad asset costs one outcome.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from pebble import ProcessExpired, ProcessPool

from fleet.engines import Item, Result, Work, unmarked
from fleet.outcome import Cause, Failed, attempt

# Library threads are pinned to one before any import: two-threaded LightGBM takes many times the CPU of one thread.
PINNED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "POLARS_MAX_THREADS")
FIRST_CHUNK = 1
CHUNK_S = 1.0
LARGEST_CHUNK = 500
POLL_S = 0.2
# A worker that dies while it is idle breaks the pool and drops what waits in it (pebble 5.2); a new pool takes over, so
# often in a row without anything coming back.
LIVES = 3
BROKEN = Failed(
    code="crashed",
    cause=Cause.CRASHED,
    error='no worker process stays alive (a script that runs a fleet needs `if __name__ == "__main__":`)',
)


@dataclass(frozen=True, slots=True)
class _Flight:
    items: Sequence[Any]
    single: bool


class Local:
    """A pool of spawned workers that lives for one command.

    Args:
        workers: processes, >= 1.
        initializer: called once in each worker (imports the adapters in use), outside any asset's timeout.
        initargs: its arguments; they pickle.
    """

    def __init__(self, workers: int, initializer: Callable[..., None], initargs: Sequence[object] = ()) -> None:
        self.workers = workers
        self._start = (_start_worker, [initializer, tuple(initargs)])
        # A worker that replaces a crashed one is started later and must inherit the pinned environment too.
        self._environment = contextlib.ExitStack()
        self._environment.enter_context(_pinned())
        self._pool = self._started()

    def _started(self) -> ProcessPool:
        begin, initargs = self._start
        spawn = multiprocessing.get_context("spawn")
        return ProcessPool(max_workers=self.workers, context=spawn, initializer=begin, initargs=initargs)

    def map_chunks(
        self, work: Work[Item, Result], items: Sequence[Item], *, timeout_s: float, stop: Callable[[], bool]
    ) -> Iterator[tuple[Sequence[Item], Result | Failed]]:
        """See `Engine.map_chunks`."""
        waiting = deque(items)
        again: deque[Item] = deque()
        flying: dict[Future[tuple[Result | Failed, float]], _Flight] = {}
        size = FIRST_CHUNK
        lives = LIVES
        while waiting or again or flying:
            if not self._pool.active:
                again.extend(item for flight in _taken(flying) for item in flight.items)
                if not lives:
                    yield from (([item], BROKEN) for item in (*again, *waiting))
                    return
                self._pool, lives = self._started(), lives - 1
            if stop():
                waiting.clear()
                again.clear()
            while (waiting or again) and len(flying) < 2 * self.workers:
                if again:
                    flight = _Flight([again.popleft()], single=True)
                else:
                    flight = _Flight([waiting.popleft() for _ in range(min(size, len(waiting)))], single=False)
                limit = timeout_s + (0.0 if flight.single else CHUNK_S)
                flying[self._pool.schedule(_timed, args=[work, flight.items], timeout=limit)] = flight
            done, _ = wait(flying, timeout=POLL_S, return_when=FIRST_COMPLETED)
            for future in done:
                flight = flying.pop(future)
                result, seconds = _settled(future)
                if isinstance(result, Failed) and (len(flight.items) > 1 or result is BROKEN):
                    again.extend(flight.items)
                    continue
                if not isinstance(result, Failed):
                    size = _next_size(size, len(flight.items), seconds, len(waiting) // (2 * self.workers))
                    lives = LIVES
                yield flight.items, result

    def close(self) -> None:
        """Stop the workers; what has not been yielded is dropped."""
        self._pool.stop()  # type: ignore[no-untyped-call]  # pebble's methods have no annotations
        self._pool.join()
        self._environment.close()


def _taken(flying: dict[Future[Any], _Flight]) -> list[_Flight]:
    """The flights that a broken pool will never end, taken out."""
    return [flying.pop(future) for future in [*flying] if not future.done()]


def _next_size(size: int, items: int, seconds: float, fair_share: int) -> int:
    """The number of items that take about `CHUNK_S`, at most four times the last and no more than a fair share."""
    wanted = int(items * CHUNK_S / max(seconds, 1e-3))
    return max(1, min(wanted, size * 4, LARGEST_CHUNK, max(fair_share, 1)))


def _start_worker(initializer: Callable[..., None], initargs: Sequence[object]) -> None:
    """Ctrl-C reaches the whole process group; only the driver decides what it means. Stdout is the driver's alone."""
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    initializer(*initargs)


def _timed(work: Work[Item, Result], items: Sequence[Item]) -> tuple[Result | Failed, float]:
    started = time.perf_counter()
    return attempt(work, items, unmarked), time.perf_counter() - started


def _settled(future: Future[tuple[Result | Failed, float]]) -> tuple[Result | Failed, float]:
    """A finished future's value and seconds, or what happened to its process as a `Failed`."""
    try:
        return future.result()
    except FutureTimeout:
        failed = Failed(code="timeout", cause=Cause.TIMEOUT, error="the time limit of the asset was exceeded")
    except ProcessExpired as gone:
        code = gone.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        failed = Failed(code="crashed", cause=Cause.CRASHED, error=f"the worker process died ({how})")
    except BrokenProcessPool:
        failed = BROKEN
    except Exception as error:  # noqa: BLE001  what could not be sent there or back (unpicklable, too large) is an outcome
        failed = Failed(code="unpicklable", cause=Cause.UNPICKLABLE, error=f"{type(error).__name__}: {error}")
    return failed, 0.0


@contextlib.contextmanager
def _pinned() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in PINNED}
    os.environ.update(dict.fromkeys(PINNED, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
