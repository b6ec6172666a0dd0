"""A few bytes that a worker shares with the driver: on which part of which item it works, and since when.

The worker writes and the driver reads, without a lock and without a system call, so a mark costs about a microsecond
and survives whatever happens to the worker. A part that is marked has a time; while the place changes there is none.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from typing import NamedTuple

SIZE = 24
OUTSIDE = -1
"""The place while the worker reads its task or sends its answer."""


class Seen(NamedTuple):
    """What a worker did last.

    Args:
        since: of the monotonic clock, which all processes of a machine share; 0 while nothing is marked.
    """

    place: int
    part: int
    since: float


class Slot:
    """One worker's marks.

    Args:
        fd: of the shared memory, in the process that was given it; None makes new memory.
    """

    def __init__(self, fd: int | None = None) -> None:
        self.fd = _shared() if fd is None else fd
        self._map = mmap.mmap(self.fd, SIZE)
        whole = memoryview(self._map)
        self._since, self._places = whole[:8].cast("d"), whole[8:].cast("q")

    def mark(self, place: int, part: int) -> None:
        """Work on a part begins now."""
        self._since[0] = 0.0
        self._places[0], self._places[1] = place, part
        self._since[0] = time.monotonic()

    def clear(self) -> None:
        """Nothing is being worked on."""
        self._since[0] = 0.0

    def read(self) -> Seen:
        """The last mark; one that changes while it is read counts as none."""
        since = self._since[0]
        seen = Seen(self._places[0], self._places[1], since)
        return seen if self._since[0] == since else seen._replace(since=0.0)

    def close(self) -> None:
        """Give the memory back, in this process."""
        self._since.release()
        self._places.release()
        self._map.close()
        os.close(self.fd)


def _shared() -> int:
    """Memory with a file descriptor and without a name, so that nothing of it is left behind."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("tsfleet")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, SIZE)
    return fd
