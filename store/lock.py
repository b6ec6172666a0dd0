"""One lock file for all writers of a folder, held over a commit, a checkpoint and a close.

SQLite before 3.51.3 can corrupt its log when one connection resets it while another writes, so whoever may checkpoint
holds this lock. ``flock`` belongs to the open file, so the kernel lets go when a process dies, however it dies.

In the file stands the newest snapshot, written after its commit: a log that is damaged ends early and says nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from zlib import crc32

from store.errors import NoSpace, ReadOnly, StoreBusy

#: Who waits looks again after pauses that grow. Short ones cost eight writers on two cores as much processor time as
#: their commits; and who gets the lock several times in a row still has the catalog's pages in memory.
_FIRST_PAUSE_S = 0.0005
_LONGEST_PAUSE_S = 0.005


def _note(number: int) -> bytes:
    return b"%020d %08x" % (number, crc32(b"%d" % number))


class WriterLock:
    """An exclusive lock between threads and processes; entering waits at most ``wait_s``."""

    def __init__(self, path: Path, *, wait_s: float = 60.0) -> None:
        self._path, self._wait_s = path, wait_s
        self._threads = threading.RLock()
        self._depth = 0
        self._file: int | None = None

    @contextmanager
    def held(self, *, wait_s: float | None = None) -> Iterator[None]:
        """Hold the lock; entering again from the same thread costs nothing."""
        with self.held_unless(None, wait_s=wait_s):
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A time in which no other thread of this process enters; other processes may."""
        if not self._threads.acquire(timeout=max(self._wait_s, 0.0)):
            raise self._busy(self._wait_s)
        try:
            yield
        finally:
            self._threads.release()

    @contextmanager
    def held_unless(self, needless: Callable[[], bool] | None, *, wait_s: float | None = None) -> Iterator[bool]:
        """Hold the lock (True), unless that becomes needless meanwhile (False: then it is not held).

        Args:
            needless: asked again and again while another has the lock.
            wait_s: for how long at most.
        """
        limit = self._wait_s if wait_s is None else wait_s
        if not self._threads.acquire(timeout=max(limit, 0.0)):
            raise self._busy(limit)
        try:
            if self._depth == 0 and not self._take(limit, needless):
                yield False
                return
            self._depth += 1
            try:
                yield True
            finally:
                self._depth -= 1
                if self._depth == 0 and self._file is not None:
                    fcntl.flock(self._file, fcntl.LOCK_UN)
        finally:
            self._threads.release()

    def note(self, number: int) -> None:
        """Write a number into the file, by who holds the lock; where the disk refuses, the one before stays."""
        assert self._file is not None
        with suppress(OSError):
            os.pwrite(self._file, _note(number), 0)

    def noted(self) -> int:
        """The number that the file holds, held or not; 0 where there is none, or one that is not what was written."""
        try:
            text = self._path.read_bytes()
            number = int(text[:20] or b"0")
        except (OSError, ValueError):
            return 0
        return number if text == _note(number) else 0

    def close(self) -> None:
        """Give the file back; the lock cannot be held here any more."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @property
    def wait_s(self) -> float:
        """How long entering waits at most."""
        return self._wait_s

    def _take(self, limit: float, needless: Callable[[], bool] | None) -> bool:
        if self._file is None:
            try:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            except OSError as cause:
                if cause.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise NoSpace(
                        f"no room for the lock file {self._path}", hint="make room and do it again"
                    ) from cause
                raise ReadOnly(
                    f"the lock file {self._path} cannot be opened for writing: {cause.strerror}",
                    hint="open the store with read_only=True, or make the folder writable",
                ) from cause
        stop_at = time.monotonic() + limit
        pause = _FIRST_PAUSE_S
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except OSError as cause:
                if cause.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EINTR):
                    raise
            if needless is not None and needless():
                return False
            if time.monotonic() >= stop_at:
                raise self._busy(limit)
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    def _busy(self, limit: float) -> StoreBusy:
        return StoreBusy(
            f"another writer has held {self._path} for {limit:g} s",
            hint="try again; `lsof` on the lock file names the process",
        )
