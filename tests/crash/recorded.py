"""A recorded trace as a list of what was done to the files under one folder, in order.

strace writes every string as hexadecimal, so that a trace holds all bytes that were written. What the recorded process
tells its parent is in the trace as well: that is when a commit was acknowledged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from tests.crash.disk import Disk, File, Folder

#: The calls by which a single thread changes files; one that is not among them would be missed, so tests count bytes.
CALLS = ",".join(
    (
        *("openat", "close", "write", "pwrite64", "writev", "pwritev", "lseek", "ftruncate", "fallocate", "fsync"),
        *("fdatasync", "rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "link"),
        *("linkat", "dup", "dup2", "dup3", "copy_file_range", "sendfile"),
    )
)
WORDS = ("-xx", "-s", str(16 << 20), "-e", f"trace={CALLS}")
_LINE = re.compile(r"(\w+)\((.*)\) += (-?\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')

Act = Literal["open", "write", "cut", "sync", "rename", "remove", "folder", "told"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that was done: to which path, and with what."""

    act: Act
    path: PurePosixPath = PurePosixPath()
    to: PurePosixPath = PurePosixPath()
    at: int = 0
    data: bytes = b""
    create: bool = False
    empty: bool = False
    line: Any = None
    handle: int = -1


def steps(trace: Path, root: Path) -> Iterator[Step]:
    """What a trace did below a folder, and what its process told.

    Raises:
        ValueError: a call that this does not know changed something there.
    """
    under = PurePosixPath(root)
    paths: dict[int, PurePosixPath] = {}
    places: dict[int, int] = {}
    opened = 0
    handles: dict[int, int] = {}
    for text in trace.read_text(encoding="ascii").splitlines():
        found = _LINE.match(text)
        if found is None or found[3].startswith("-"):
            continue
        call, result = found[1], int(found[3])
        given = [bytes.fromhex(one.replace("\\x", "")) for one in _TEXT.findall(found[2])]
        plain = [one.strip() for one in _TEXT.sub("", found[2]).split(",")]
        named = [PurePosixPath(one.decode()) for one in given] if call in _NAMING else []
        if named and not any(one.is_relative_to(under) for one in named):
            continue
        number = int(plain[0]) if plain[0].isdecimal() else -1
        match call:
            case "openat":
                opened += 1
                paths[result], places[result], handles[result] = named[0], 0, opened
                flags = plain[2]
                yield Step(
                    act="open", path=named[0], handle=opened, create="O_CREAT" in flags, empty="O_TRUNC" in flags
                )
            case "close":
                paths.pop(number, None)
            case "write" if number not in paths:
                if given[0].startswith(b"{"):
                    yield Step(act="told", line=json.loads(given[0]))
            case "mkdir" | "mkdirat":
                yield Step(act="folder", path=named[0])
            case "unlink" | "unlinkat":
                yield Step(act="remove", path=named[0])
            case "rename":
                yield Step(act="rename", path=named[0], to=named[1])
            case _ if number not in paths:
                continue
            case "write":
                yield Step(act="write", path=paths[number], handle=handles[number], at=places[number], data=given[0])
                places[number] += result
            case "pwrite64":
                at = int(plain[-1])
                yield Step(act="write", path=paths[number], handle=handles[number], at=at, data=given[0])
            case "lseek":
                places[number] = result
            case "ftruncate":
                yield Step(act="cut", path=paths[number], handle=handles[number], at=int(plain[1]))
            case "fsync" | "fdatasync":
                yield Step(act="sync", path=paths[number], handle=handles[number])
            case _:
                raise ValueError(f"the replay does not know {text[:200]}")


_NAMING = {"openat", "mkdir", "mkdirat", "unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2", "link", "linkat"}


class Replay:
    """A disk that a trace is done to again, step by step."""

    def __init__(self, root: Path) -> None:
        self.disk = Disk(PurePosixPath(root))
        self._open: dict[int, File | Folder] = {}

    def do(self, step: Step) -> None:
        match step.act:
            case "open":
                self._open[step.handle] = self.disk.opened(step.path, create=step.create, empty=step.empty)
            case "write":
                self._file(step).write(step.at, step.data)
            case "cut":
                self._file(step).cut(step.at)
            case "sync":
                self._open[step.handle].sync()
            case "rename":
                self.disk.rename(step.path, step.to)
            case "remove":
                self.disk.remove(step.path)
            case "folder":
                self.disk.make_folder(step.path)
            case "told":
                pass

    def _file(self, step: Step) -> File:
        held = self._open[step.handle]
        assert isinstance(held, File)
        return held
