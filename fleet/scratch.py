"""A folder for the files of one command, which nobody has to clean up after a crash.

Its owner holds a lock on it for as long as it lives, and the kernel lets go of that however the owner ends. So a folder
that nobody holds is left over, and the next command removes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "tsfleet-work-"
# Between the making of a folder and its lock nobody holds it; only one that is older than this is left over.
YOUNG_S = 60.0


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder, removed at the end; those that earlier commands of this user left behind are removed too."""
    _sweep(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    held = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_SH)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _sweep(home: Path) -> None:
    for folder in home.glob(f"{PREFIX}*"):
        with suppress(OSError):  # somebody holds it, is quicker, or forbids it
            about = folder.lstat()
            if about.st_uid == os.getuid() and time.time() - about.st_mtime > YOUNG_S:
                _remove(folder)


def _remove(folder: Path) -> None:
    held = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(held)
