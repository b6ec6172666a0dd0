"""strace on a child that waits for the word to go: to hear its system calls, to kill it at one, to make one fail.

Calls are counted by name, in the thread that does the work. A kill is delivered when the call is entered, and the call
is then not made: one kill at each call meets every state between two of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.crash.forks import Child, Tell

STRACE = shutil.which("strace")
#: The calls that see a file or a descriptor.
FILES = "%file,%desc"
#: Those of them that can change what another process, or the next one, finds: bytes, names, locks.
CHANGING = ",".join(
    (
        *("write", "writev", "pwrite64", "pwritev", "ftruncate", "fallocate", "fsync", "fdatasync", "sync_file_range"),
        *(
            "openat",
            "close",
            "rename",
            "renameat",
            "renameat2",
            "link",
            "linkat",
            "unlink",
            "unlinkat",
            "mkdir",
            "mkdirat",
        ),
        *("rmdir", "flock", "fcntl", "fchmod", "fchown", "mmap"),
    )
)


class Waiting:
    """A child that does nothing before it is told to go, and then ``work(tell, *args)``."""

    def __init__(self, work: Callable[..., None], *args: Any) -> None:
        read, self._go = os.pipe()

        def patient(tell: Tell) -> None:
            os.close(self._go)
            tell(waits=True)
            os.read(read, 1)
            work(tell, *args)

        self.child = Child(patient)
        os.close(read)
        self.child.next()

    def go(self) -> list[dict[str, Any]]:
        """Let it do its work; what it said until its end."""
        os.write(self._go, b".")
        os.close(self._go)
        self.child.wait()
        said = self.child.said()
        self.child.close()
        return said


@contextmanager
def straced(pid: int, *words: str, out: Path | None = None) -> Iterator[None]:
    """Within the block strace is attached to a process; on leaving, the process has ended and so has strace."""
    assert STRACE is not None
    target = os.devnull if out is None else str(out)
    command = [STRACE, "-o", target, *words, "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        for line in strace.stderr:
            if "attached" in line:
                break
        else:
            raise OSError(f"strace cannot attach to a child of this process ({strace.wait()})")
        yield
        strace.communicate()


def names_of(trace: Path) -> list[str]:
    """The names of the calls in a recorded trace, one for each call."""
    lines = trace.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.partition("(")[0] for line in lines if "(" in line and not line.startswith(("+++", "---"))]
