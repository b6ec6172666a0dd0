"""Who is reading: so that files a merge replaced stay until the last question that was planned over them has ended.

An open store has a file of its own under ``readers/`` and holds a shared lock on it while questions run. In the file
stands the generation of the catalog (it counts every change of the segments) on which the oldest running question
stands. Upkeep tries the lock exclusively: who has it is reading now; a file that nobody holds is idle or left behind by
the dead, and goes. Where the folder cannot be written nothing is held, and a question plans anew when a file has gone.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from store.ids import new_id

FOLDER = "readers"


class Presence:
    """One open store among the readers of its folder; threads may share it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FOLDER / new_id()
        self._lock = threading.Lock()
        self._running: dict[object, int] = {}
        self._file: int | None = None
        self._told = 0
        self._refused = False

    @contextmanager
    def reading(self) -> Iterator[object]:
        """Be seen while a question runs; yields what to hand to :meth:`stand`."""
        question = object()
        with self._lock:
            if not self._running:
                self._take()
            self._running[question] = self._told
        try:
            yield question
        finally:
            with self._lock:
                del self._running[question]
                if self._running:
                    self._tell()
                elif self._file is not None:
                    fcntl.flock(self._file, fcntl.LOCK_UN)

    def stand(self, question: object, generation: int) -> None:
        """Say on which generation of the catalog a question has been planned; the oldest of all is told."""
        with self._lock:
            self._running[question] = generation
            self._tell()

    def close(self) -> None:
        """Be seen no more."""
        with self._lock:
            if self._file is not None:
                with suppress(OSError):  # a file left behind is an idle one's, which upkeep takes away
                    if os.fstat(self._file).st_nlink:
                        self._path.unlink(missing_ok=True)
                os.close(self._file)
                self._file = None

    def _tell(self) -> None:
        oldest = min(self._running.values())
        if oldest != self._told and self._file is not None:
            # One write of fixed length: whoever looks reads the old number or the new one. Where the disk refuses it
            # the old one stays, for which upkeep keeps more than it has to.
            with suppress(OSError):
                os.pwrite(self._file, b"%020d" % oldest, 0)
                self._told = oldest

    def _take(self) -> None:
        while not self._refused:
            if self._file is None and not self._open():
                return
            assert self._file is not None
            fcntl.flock(self._file, fcntl.LOCK_SH)  # waits at most while upkeep has a look
            if os.fstat(self._file).st_nlink:
                return
            os.close(self._file)  # upkeep took the file for a dead one's
            self._file = None

    def _open(self) -> bool:
        try:
            self._path.parent.mkdir(exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:
            self._refused = True
            return False
        self._told = 0
        return True


def present(folder: Path, *, tidy: bool = False) -> list[int]:
    """The generation on which each reader stands that is at a question now; 0 where it is not known.

    Args:
        folder: of the store.
        tidy: take away the files of those that are not.
    """
    found = []
    for path in sorted((folder / FOLDER).glob("*")):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError:  # another user's, who keeps it to himself
            found.append(0)
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if tidy:
                with suppress(OSError):  # it harms nobody
                    path.unlink(missing_ok=True)
        except BlockingIOError:
            found.append(int(os.pread(handle, 20, 0) or b"0"))
        finally:
            os.close(handle)
    return found
