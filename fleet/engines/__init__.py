"""Where the work of a fleet runs: in this process, or in spawned ones.

An engine maps one function over chunks of items and yields each chunk's results as they come. Whatever a chunk does
to its process (raise, hang, exit, crash), every item comes back exactly once, with its result or a `Failed`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from fleet.outcome import Failed

Item = TypeVar("Item")
Result = TypeVar("Result")

Mark = Callable[[int, int], None]
"""Told by the work before each part of each item, by their places: who is being worked on when a process dies."""
Work = Callable[[Sequence[Item], Mark], Result]


def unmarked(item: int, part: int) -> None:
    """The mark of work that nobody watches."""


class Engine(Protocol):
    """Runs `work` over chunks of items; `work` is a module-level function, items and results pickle."""

    def map_chunks(
        self, work: Work[Item, Result], items: Sequence[Item], *, timeout_s: float, stop: Callable[[], bool]
    ) -> Iterator[tuple[Sequence[Item], Result | Failed]]:
        """Yield (items, result) per chunk, in any order; `Failed` only ever stands for a single item.

        Args:
            work: called with a chunk of items and a mark, in another process where the engine has any.
            items: all the work; the engine cuts it into chunks.
            timeout_s: per item; an item that exceeds it comes back as `Failed` with cause `timeout`.
            stop: asked between chunks; once true, no chunk begins any more and those that run are finished.
        """
        ...

    def close(self) -> None:
        """End the workers."""
        ...
