"""A disk that forgets: what system calls made of it, and what of that would be there after the power went.

Bytes are kept once their file is synced, names once their folder is; nothing else is promised, and a file's fsync does
not keep its name. What was not promised may be there all the same: wholly, in part (by sectors of 512 bytes), or not.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

_SECTOR = 512


@dataclass(slots=True)
class File:
    """``kept`` is what survives for sure; ``waiting`` what was done to it since, a write or (None) a new length."""

    data: bytearray = field(default_factory=bytearray)
    kept: bytes = b""
    waiting: list[tuple[int, bytes | None]] = field(default_factory=list)

    def write(self, at: int, data: bytes) -> None:
        _put(self.data, at, data)
        self.waiting.append((at, data))

    def cut(self, length: int) -> None:
        _cut(self.data, length)
        self.waiting.append((length, None))

    def sync(self) -> None:
        self.kept = bytes(self.data)
        self.waiting.clear()


@dataclass(slots=True)
class Folder:
    """As a file: ``waiting`` holds the names as each change left them, oldest first."""

    names: dict[str, File | Folder] = field(default_factory=dict)
    kept: dict[str, File | Folder] = field(default_factory=dict)
    waiting: list[dict[str, File | Folder]] = field(default_factory=list)

    def change(self, change: Callable[[dict[str, File | Folder]], object]) -> None:
        self.names = dict(self.names)
        change(self.names)
        self.waiting.append(self.names)

    def sync(self) -> None:
        self.kept = self.names
        self.waiting.clear()


class Disk:
    """What lies under one folder, which was empty and is kept."""

    def __init__(self, root: PurePosixPath) -> None:
        self._root, self.top = root, Folder()

    def holds(self, path: PurePosixPath) -> bool:
        return path.is_relative_to(self._root)

    def find(self, path: PurePosixPath) -> File | Folder | None:
        found: File | Folder | None = self.top
        for name in path.relative_to(self._root).parts:
            found = found.names.get(name) if isinstance(found, Folder) else None
        return found

    def folder(self, path: PurePosixPath) -> Folder:
        found = self.find(path)
        assert isinstance(found, Folder), path
        return found

    def opened(self, path: PurePosixPath, *, create: bool, empty: bool) -> File | Folder:
        found = self.find(path)
        if found is None:
            assert create, path
            made = File()
            self.folder(path.parent).change(lambda names: names.update({path.name: made}))
            return made
        if empty and isinstance(found, File):
            found.cut(0)
        return found

    def make_folder(self, path: PurePosixPath) -> None:
        self.folder(path.parent).change(lambda names: names.update({path.name: Folder()}))

    def remove(self, path: PurePosixPath) -> None:
        self.folder(path.parent).change(lambda names: names.pop(path.name))

    def rename(self, path: PurePosixPath, to: PurePosixPath) -> None:
        assert path.parent == to.parent, "a rename between folders is two changes, which this disk does not know"
        self.folder(path.parent).change(lambda names: names.update({to.name: names.pop(path.name)}))

    def after_power_cut(self, target: Path, dice: random.Random | None) -> None:
        """Write what is there afterwards to a new folder.

        Args:
            target: the folder.
            dice: decides what survives of what was not promised; None: nothing of it.
        """
        _build(self.top, target, dice)


def _build(folder: Folder, target: Path, dice: random.Random | None) -> None:
    target.mkdir()
    # Names change in the order of the calls: file systems write them to a journal.
    names = folder.kept if dice is None else dice.choice([folder.kept, *folder.waiting])
    for name, held in names.items():
        if isinstance(held, Folder):
            _build(held, target / name, dice)
        elif not name.endswith("-shm"):  # shared memory: SQLite makes it anew when nobody else has it open
            (target / name).write_bytes(_survived(held, dice))


def _survived(file: File, dice: random.Random | None) -> bytes:
    if dice is None:
        return file.kept
    data = bytearray(file.kept)
    for at, written in file.waiting:
        fate = dice.random()
        if fate < 0.4:
            continue
        if written is None:
            _cut(data, at)
        elif fate < 0.8:
            _put(data, at, written)
        else:
            _put(data, at, written[: dice.randrange(0, len(written) + 1, _SECTOR)])
    return bytes(data)


def _put(data: bytearray, at: int, written: bytes) -> None:
    if len(data) < at:
        data.extend(bytes(at - len(data)))
    data[at : at + len(written)] = written


def _cut(data: bytearray, length: int) -> None:
    if len(data) < length:
        data.extend(bytes(length - len(data)))
    del data[length:]
