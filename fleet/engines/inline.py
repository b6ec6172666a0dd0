"""The engine of `workers = 1` and of recipes that are pure NumPy: everything in this process.

Nothing is spawned, so a script needs no main guard and a debugger sees the model; a model that hangs or crashes takes
the process with it, which is why only `light` recipes run here unasked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout

from fleet.engines import Item, Result, Work, unmarked
from fleet.outcome import Failed, attempt

CHUNK = 250
HEAVY_CHUNK = 4


class Inline:
    """Runs chunks one after the other in the calling process; the timeout does not apply.

    Args:
        pinned: hold the libraries' thread pools to one thread, as in a worker, so that results are the same in both.
    """

    def __init__(self, *, pinned: bool = False) -> None:
        self._pinned = pinned

    def map_chunks(
        self, work: Work[Item, Result], items: Sequence[Item], *, timeout_s: float, stop: Callable[[], bool]
    ) -> Iterator[tuple[Sequence[Item], Result | Failed]]:
        """See `Engine.map_chunks`."""
        size = HEAVY_CHUNK if self._pinned else CHUNK
        for start in range(0, len(items), size):
            if stop():
                return
            chunk = items[start : start + size]
            with self._limits(), redirect_stdout(sys.stderr):
                done = [(chunk, attempt(work, chunk, unmarked))]
                if isinstance(done[0][1], Failed) and len(chunk) > 1:
                    done = [([item], attempt(work, [item], unmarked)) for item in chunk]
            yield from done

    def _limits(self) -> AbstractContextManager[object]:
        if not self._pinned:
            return nullcontext()
        from threadpoolctl import threadpool_limits

        limits: AbstractContextManager[object] = threadpool_limits(1)
        return limits

    def close(self) -> None:
        """Nothing to end."""
