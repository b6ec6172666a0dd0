"""Which jobs are still at work: each holds a lock on a file of its own for as long as its process lives.

The kernel lets go of the lock when the process ends, however it ends, so a job that was killed is known by a file that
nobody holds. Process numbers would not tell: they come again, and mean nothing on another machine.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path


class Presence:
    """The sign that a job is at work, from :meth:`begin` to :meth:`end`.

    Args:
        folder: of the store.
        job, slot: the job's key in `job_runs`.
    """

    def __init__(self, folder: Path, job: str, slot: datetime) -> None:
        self._path = sign_of(folder, job, slot)
        self._file: int | None = None

    def begin(self) -> None:
        """Show the sign; before the job's first row, so that no row of a living job is without one."""
        self._path.parent.mkdir(exist_ok=True)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        # Two jobs of one name and slot share a row, and so a sign: the first one's is enough.
        with suppress(OSError):
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def end(self) -> None:
        """Take the sign away; again does nothing."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None


def at_work(folder: Path, job: str, slot: datetime) -> bool:
    """Whether the process of a job lives; True where that cannot be known.

    Args:
        folder: of the store.
    """
    try:
        file = os.open(sign_of(folder, job, slot), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def forget(folder: Path, job: str, slot: datetime) -> None:
    """Remove the sign that a dead job left."""
    with suppress(OSError):
        sign_of(folder, job, slot).unlink(missing_ok=True)


def sign_of(folder: Path, job: str, slot: datetime) -> Path:
    """Where a job's sign lies; a job's name may hold anything, and so is no file's name."""
    name = blake2b(f"{job}\x1f{slot.astimezone(UTC).isoformat()}".encode(), digest_size=12).hexdigest()
    return folder / "working" / f"{name}.lock"
