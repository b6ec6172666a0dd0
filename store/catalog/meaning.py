"""What SQLite's errors mean for whoever asked, in the store's own words."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store.errors import Damaged, NoSpace, ReadOnly, StoreBusy, StoreError, WriteFailed

RESTORE = "`tsfleet store verify` lists what is damaged; `tsfleet store restore` brings a backup back"
_UNCONFIRMED = (
    "look at the disk, then do it again; should this process die first, the next one may find the commit whole in the "
    "log, so give it a commit id or look whether it is there"
)
# SQLite's own numbers of what went wrong.
_BUSY, _READ_ONLY, _IO, _FULL, _CANNOT_OPEN = (5, 6), 8, 10, 13, 14
_INDEX_BYTES = 32_768
#: Of those that begin with _IO: a read that failed or came short, and a file system that says it is corrupt.
_NOT_READ = {_IO | more << 8 for more in (1, 2, 33)}


@contextmanager
def translated(path: Path, *, writing: bool = False) -> Iterator[None]:
    """Turn what SQLite says about a catalog into an error that says what to do."""
    try:
        yield
    except sqlite3.DatabaseError as cause:
        raise _meaning(path, cause, writing=writing) from cause
    except UnicodeDecodeError as cause:  # as sqlite3 says it where the damage is within SQLite's own message
        raise Damaged(f"{path} holds text that is none: {cause.reason}", hint=RESTORE) from cause
    except OSError as cause:
        if cause.filename != str(path):
            raise
        raise Damaged(f"the catalog {path} cannot be read: {cause.strerror}", hint=RESTORE) from cause


@contextmanager
def sensible(path: Path) -> Iterator[None]:
    """Values that no writer puts into a catalog mean that it is damaged."""
    try:
        yield
    except (TypeError, ValueError, KeyError, OverflowError) as cause:
        told = f"{path} holds what nobody wrote: {type(cause).__name__}: {cause}"
        raise Damaged(told, hint=RESTORE) from cause


def _is_full(path: Path) -> bool:
    """Whether the disk has no room for the index of a log: all that SQLite says then is that it failed."""
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _INDEX_BYTES


def _meaning(path: Path, cause: sqlite3.DatabaseError, *, writing: bool) -> StoreError:
    told = f"{path}: {cause}"
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    if code in _BUSY:
        return StoreBusy(told, hint="try again")
    if code == _FULL or (code == _IO and _is_full(path)):
        return NoSpace(told, hint="make room and do it again; nothing of this commit is stored")
    if code == _IO and (writing or cause.sqlite_errorcode not in _NOT_READ):
        # A reader writes too: the index of the log, which it shares with others.
        return WriteFailed(told, hint=_UNCONFIRMED)
    if code == _READ_ONLY or (code == _CANNOT_OPEN and not os.access(path.parent, os.W_OK)):
        if path.with_name(path.name + "-wal").exists():
            return ReadOnly(
                f"{path} has a log that was not taken in, and the folder cannot be written",
                hint="open the store once where it can be written, or copy the folder to where it can",
            )
        return ReadOnly(told, hint="make the folder writable, or open the store with read_only=True")
    if code == _CANNOT_OPEN:
        return Damaged(told, hint="see the permissions of the folder and of what is in it")
    return Damaged(told, hint=RESTORE)
