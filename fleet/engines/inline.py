"""The engine of `workers = 1` and of recipes that are pure NumPy: everything in this process.

Nothing is started, and a debugger sees the model; a model that hangs or crashes takes the process with it, which is
why only `light` recipes run here unasked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout

from fleet.engines import Backlog, Item, Lost, Result, Work, never, put_back, tried, unmarked
from fleet.outcome import Failed

CHUNK = 250
HEAVY_CHUNK = 4
POLL_S = 0.2


class Inline:
    """Runs chunks one after the other in the calling process; the timeout does not apply.

    Args:
        pinned: hold the libraries' thread pools to one thread, as in a worker, so that results are the same in both.
    """

    def __init__(self, *, pinned: bool = False) -> None:
        self._pinned = pinned

    def map_chunks(
        self,
        work: Work[Item, Result],
        backlog: Backlog[Item],
        *,
        timeout_s: float,
        stop: Callable[[], bool],
        cut: Callable[[], bool] = never,
    ) -> Iterator[tuple[Sequence[Item], Result | Lost]]:
        """See `Engine.map_chunks`."""
        while not backlog.finished:
            if stop() or cut():
                backlog.clear()
            chunk = backlog.take(HEAVY_CHUNK if self._pinned else CHUNK, patience_s=POLL_S)
            if not chunk:
                continue
            with self._limits(), redirect_stdout(sys.stderr):
                result, guilty = tried(work, chunk, unmarked)
            if isinstance(result, Failed):
                yield from put_back(backlog, chunk, result, guilty)
            else:
                yield chunk, result
            backlog.settle()

    def _limits(self) -> AbstractContextManager[object]:
        if not self._pinned:
            return nullcontext()
        from threadpoolctl import threadpool_limits

        limits: AbstractContextManager[object] = threadpool_limits(1)
        return limits

    def start(self, most: int) -> None:
        """Nothing to start."""

    def close(self) -> None:
        """Nothing to end."""
