"""How much memory a worker may take, so that one greedy model costs itself and not the machine.

The limit is on a process's own data (Linux's RLIMIT_DATA): mapped files and shared memory do not count, address space
that a library only reserves does not either, and Python, NumPy and Arrow answer it with a MemoryError. Where the system
has no such limit (macOS ignores it) there is none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

SHARE = 0.8
LEAST = 500_000_000


def allowance(wanted: int | str, workers: int) -> int:
    """Bytes that each of so many workers may take beside what its libraries take; "auto" is a fair share.

    >>> allowance(2_000_000_000, workers=4)
    2000000000
    >>> allowance("auto", workers=10**9)
    500000000
    """
    if isinstance(wanted, int):
        return wanted
    return max(round(SHARE * machine_memory() / workers), LEAST)


def machine_memory() -> int:
    """Bytes of memory of this machine, or of the container that holds this process to less."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        mine = Path("/proc/self/cgroup").read_text(encoding="utf-8")
    except OSError:
        return installed
    return min([installed, *group_limits(mine, Path("/sys/fs/cgroup"))])


def group_limits(groups: str, root: Path) -> Iterator[int]:
    """What the control groups of a process, and those around them, allow (Linux, both versions).

    Args:
        groups: as the kernel lists them for a process.
        root: where they are mounted.
    """
    for line in groups.splitlines():
        _, kinds, path = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        top, name = (root / "memory", "memory.limit_in_bytes") if kinds else (root, "memory.max")
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(top):
                with suppress(OSError):
                    said = (folder / name).read_text(encoding="ascii").strip()
                    if said.isdigit():  # else it is "max"
                        yield int(said)


def limit_memory(beside: int) -> None:
    """Hold this process to so many bytes more than it has now; to be called when its libraries are imported."""
    if sys.platform == "linux":
        import resource

        limit = _own_data() + beside
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        if hard == resource.RLIM_INFINITY or limit < hard:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _own_data() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:"))


def as_text(size: int) -> str:
    """Bytes for people, in the unit of the configuration.

    >>> as_text(1_500_000_000), as_text(64_000_000)
    ('1.5 GB', '64 MB')
    """
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"
