"""The engine of `workers = 1` and of recipes that are pure NumPy: everything in this process.

Nothing is spawned, so a script needs no main guard and a debugger sees the model; a model that hangs or crashes takes
the process with it, which is why only `light` recipes run here unasked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from fleet.engines import Item, Result, Work
from fleet.outcome import Failed

CHUNK = 250


class Inline:
    """Runs chunks one after the other in the calling process; the timeout does not apply."""

    def map_chunks(
        self, work: Work[Item, Result], items: Sequence[Item], *, timeout_s: float, stop: Callable[[], bool]
    ) -> Iterator[tuple[Sequence[Item], Result | Failed]]:
        """See `Engine.map_chunks`."""
        for start in range(0, len(items), CHUNK):
            if stop():
                return
            chunk = items[start : start + CHUNK]
            yield chunk, work(chunk)

    def close(self) -> None:
        """Nothing to end."""
