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

#: The calls by which files change. One that is missing here shows: what was replayed is compared with the real disk.
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

_NOWHERE = PurePosixPath()

Act = Literal["open", "write", "cut", "sync", "rename", "remove", "folder", "told"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that was done: to which path, and with what."""

    act: Act
    path: PurePosixPath = _NOWHERE
    to: PurePosixPath = _NOWHERE
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
    reading = _Reading(PurePosixPath(root))
    for text in trace.read_text(encoding="ascii").splitlines():
        found = _LINE.match(text)
        if found is None or found[3].startswith("-"):
            continue
        given = [bytes.fromhex(one.replace("\\x", "")) for one in _TEXT.findall(found[2])]
        plain = [one.strip() for one in _TEXT.sub("", found[2]).split(",")]
        step = reading.step(found[1], given, plain, int(found[3]))
        if step is not None:
            yield step


class _Reading:
    """What is open while a trace is read: each descriptor's path, place and opening."""

    def __init__(self, root: PurePosixPath) -> None:
        self._root = root
        self._paths: dict[int, PurePosixPath] = {}
        self._places: dict[int, int] = {}
        self._handles: dict[int, int] = {}
        self._opened = 0

    def step(self, call: str, given: list[bytes], plain: list[str], result: int) -> Step | None:
        if call in _NAMING:
            named = [PurePosixPath(one.decode()) for one in given]
            if any(one.is_relative_to(self._root) for one in named):
                return self._to_names(call, named, plain, result)
            return None
        number = int(plain[0])
        if number in self._paths:
            return self._to_bytes(call, number, given, plain, result)
        if call == "write" and given[0].startswith(b"{"):
            return Step(act="told", line=json.loads(given[0]))
        return None

    def _to_names(self, call: str, named: list[PurePosixPath], plain: list[str], result: int) -> Step:
        match call:
            case "openat":
                self._opened += 1
                self._paths[result], self._places[result], self._handles[result] = named[0], 0, self._opened
                create, empty = "O_CREAT" in plain[2], "O_TRUNC" in plain[2]
                return Step(act="open", path=named[0], handle=self._opened, create=create, empty=empty)
            case "mkdir":
                return Step(act="folder", path=named[0])
            case "unlink":
                return Step(act="remove", path=named[0])
            case "rename":
                return Step(act="rename", path=named[0], to=named[1])
        raise ValueError(f"the replay does not know {call} of {named}")

    def _to_bytes(self, call: str, number: int, given: list[bytes], plain: list[str], result: int) -> Step | None:
        path, handle, place = self._paths[number], self._handles[number], self._places[number]
        match call:
            case "close":
                del self._paths[number]
                return None
            case "lseek":
                self._places[number] = result
                return None
            case "write":
                self._places[number] += result
                return Step(act="write", path=path, handle=handle, at=place, data=given[0][:result])
            case "pwrite64":
                return Step(act="write", path=path, handle=handle, at=int(plain[-1]), data=given[0][:result])
            case "ftruncate":
                return Step(act="cut", path=path, handle=handle, at=int(plain[1]))
            case "fsync" | "fdatasync":
                return Step(act="sync", path=path, handle=handle)
        raise ValueError(f"the replay does not know {call} of {path}")


_NAMING = {
    *("openat", "mkdir", "mkdirat", "unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2", "link", "linkat"),
}


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
