"""What a writing process is about at a moment, read from the locks that it holds: who leads, who waits."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from store.letters import FOLDER

_LETTER_AT = 4_096
_NUMBER = slice(18, 34)


def stopped(pid: int) -> None:
    """Stop a child of this process, and wait until it stands still or has ended."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


def role_of(store: Path, pid: int) -> str:
    """``alone`` or ``leading`` (with letters of others taken) under the lock, ``waiting`` with a letter, or empty."""
    held = _held(pid)
    if _inode(store / "lock") in held:
        return "leading" if _inode(store / FOLDER) in held else "alone"
    with suppress(FileNotFoundError):
        for path in (store / FOLDER).iterdir():
            if _inode(path) in held:
                return "waiting" if _unanswered(path) else ""
    return ""


def _held(pid: int) -> set[int]:
    """The inodes of the files that a process has locked with flock."""
    words = (line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" not in line)
    return {int(one[5].rpartition(":")[2]) for one in words if one[1] == "FLOCK" and int(one[4]) == pid}


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _unanswered(path: Path) -> bool:
    data = path.read_bytes()
    letter, answer = (int(one[_NUMBER].strip(b"\0") or b"0", 16) for one in (data[_LETTER_AT:], data[:_LETTER_AT]))
    return letter not in (0, answer)
