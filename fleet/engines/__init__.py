"""Where the work of a fleet runs: in this process, or in others.

An engine takes items from a backlog and maps one function over chunks of them. Whatever a chunk does to its process
(raise, hang, exit, crash), every item that was taken comes back exactly once: with its chunk's result, or as `Lost`
with the part of it that was being worked on. What becomes of a lost item is decided by who put it there; see
`fleet.engines.retrying`.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from fleet.outcome import Failed, Passing, attempt

Item = TypeVar("Item")
Result = TypeVar("Result")

Mark = Callable[[int, int], None]
"""Told by the work before each part of each item, by their places: who is being worked on when a process dies."""
Work = Callable[[Sequence[Item], Mark], Result]


def never() -> bool:
    """The answer of nobody who would stop or cut."""
    return False


def unmarked(item: int, part: int) -> None:
    """The mark of work that nobody watches."""


@dataclass(frozen=True, slots=True)
class Lost:
    """What an engine gives for an item that did not come through.

    Args:
        part: the part that was being worked on; None where that cannot be told.
    """

    failed: Failed
    part: int | None = None


class Backlog(Generic[Item]):
    """Items that wait to be worked on; shared by the threads of an engine and by who gave it the work.

    Fresh items leave in chunks of whatever size is asked for. What is put back leaves before them, as it was put, when
    its time has come.

    Args:
        clock: seconds that only go forward; what is put back waits by it.

    >>> backlog = Backlog("abc")
    >>> backlog.put(["x", "y"])
    >>> backlog.take(2, patience_s=0.0), backlog.take(2, patience_s=0.0), backlog.take(2, patience_s=0.0)
    (['x', 'y'], ['a', 'b'], ['c'])
    """

    def __init__(self, items: Iterable[Item], clock: Callable[[], float] = time.monotonic) -> None:
        self._fresh = deque(items)
        self._again: list[tuple[float, int, list[Item]]] = []
        self._turn = itertools.count()
        self._taken = 0
        self._clock = clock
        self._changed = threading.Condition()

    @property
    def fresh(self) -> int:
        """How many items were never taken yet."""
        return len(self._fresh)

    @property
    def waiting(self) -> int:
        """How many items wait, whether their time has come or not."""
        with self._changed:
            return len(self._fresh) + sum(len(chunk) for _, _, chunk in self._again)

    @property
    def finished(self) -> bool:
        """Nothing waits, and all that was taken is settled."""
        with self._changed:
            return self._finished

    @property
    def _finished(self) -> bool:
        return not (self._fresh or self._again or self._taken)

    def put(self, items: Iterable[Item], *, wait_s: float = 0.0) -> None:
        """Put back items that leave together, not before `wait_s` have gone by; none is nothing."""
        chunk = list(items)
        with self._changed:
            if chunk:
                heapq.heappush(self._again, (self._clock() + wait_s, next(self._turn), chunk))
                self._changed.notify()

    def take(self, most: int, *, patience_s: float, out: int | None = None) -> list[Item]:
        """The next chunk, at most so many fresh items; empty when nothing is due within `patience_s`, or ever.

        A chunk that was taken is `settle`d once it came back.

        Args:
            out: how many chunks may be out at the same time, those included that came back and nobody has looked at.
        """
        deadline = time.monotonic() + patience_s
        with self._changed:
            while not (chunk := self._next(most) if out is None or self._taken < out else []):
                left = deadline - time.monotonic()
                if left <= 0 or self._finished:
                    return []
                self._changed.wait(min(left, max(self._again[0][0] - self._clock(), 0.0)) if self._again else left)
            self._taken += 1
            return chunk

    def _next(self, most: int) -> list[Item]:
        if self._again and self._again[0][0] <= self._clock():
            return heapq.heappop(self._again)[2]
        return [self._fresh.popleft() for _ in range(min(most, len(self._fresh)))]

    def settle(self) -> None:
        """One chunk came back, and what of it has to run again was put."""
        with self._changed:
            self._taken -= 1
            self._changed.notify_all()

    def clear(self) -> None:
        """Forget what waits."""
        with self._changed:
            self._fresh.clear()
            self._again.clear()
            self._changed.notify_all()


Guilty = tuple[int, int]
"""The places of an item in its chunk, and of a part in its item."""


def tried(work: Work[Item, Result], chunk: Sequence[Item], mark: Mark) -> tuple[Result | Failed, Guilty | None]:
    """What the work made of a chunk; where it failed on the way out of one part, that part."""
    at: list[Guilty] = []

    def noted(item: int, part: int) -> None:
        at[:] = [(item, part)]
        mark(item, part)

    def run() -> tuple[Result | Failed, Guilty | None]:
        try:
            return work(chunk, noted), None
        except Passing as error:
            return error.failed, at[0] if at else None

    done = attempt(run)
    # Any other exception that leaves the work was raised between the parts, so the last mark says nothing about it.
    return (done, None) if isinstance(done, Failed) else done


def put_back(
    backlog: Backlog[Item], chunk: Sequence[Item], failed: Failed, guilty: Guilty | None
) -> list[tuple[Sequence[Item], Lost]]:
    """Give the innocent items of a failed chunk back to the backlog; the lost one, if it is known which.

    What ran before the guilty item runs again, and by itself, apart from what had not begun: so no item is worked on
    more than twice on account of others. To keep each item's result until its chunk comes home would spare that
    second time, at the price of one file or message for every item; a chunk is about a second.
    """
    if guilty is not None and guilty[0] < len(chunk):
        place, part = guilty
        backlog.put(chunk[:place])
        backlog.put(chunk[place + 1 :])
        return [([chunk[place]], Lost(failed, part))]
    if len(chunk) == 1:
        return [(chunk, Lost(failed))]
    for item in chunk:
        backlog.put([item])
    return []


class Engine(Protocol):
    """Runs `work` over chunks of items; `work` is a function of a module, items and results pickle."""

    def map_chunks(
        self,
        work: Work[Item, Result],
        backlog: Backlog[Item],
        *,
        timeout_s: float,
        stop: Callable[[], bool],
        cut: Callable[[], bool] = never,
    ) -> Iterator[tuple[Sequence[Item], Result | Lost]]:
        """Yield (items, result) per chunk, in any order, until the backlog is finished.

        `Lost` only ever stands for a single item. What the caller puts into the backlog between two chunks is worked
        on too.

        Args:
            work: called with a chunk of items and a mark, in another process where the engine has any.
            backlog: the work; the engine cuts it into chunks.
            timeout_s: for each part of each item; one that exceeds it is `Lost` with cause `timeout`.
            stop: asked between chunks; once true, no chunk begins any more and those that run are finished.
            cut: asked as often; once true, nothing begins any more, and what is still in hand in another process is
                not waited for and never comes back.
        """
        ...

    def start(self, most: int) -> None:
        """Begin to start workers, as many as that many items can use; to call it again is harmless."""
        ...

    def close(self) -> None:
        """End the workers."""
        ...
