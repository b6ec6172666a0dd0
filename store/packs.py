"""Packs: blobs of a batch in one append-only file, written with one fsync, found by hash.

A blob is checked against its hash each time it is read; a pack that no commit came to name is an orphan and harms
nobody.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, groupby
from operator import attrgetter
from pathlib import Path

from store.errors import Damaged
from store.files import write_whole
from store.ids import new_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """One file of blobs, and for each its hash, where it begins and how long it is."""

    id: str
    bytes: int
    sha256: str
    blobs: tuple[tuple[str, int, int], ...]


_MAGIC = b"tsfleet pack 1\n"


def pack_path(folder: Path, name: str) -> Path:
    """Where a pack lies."""
    return folder / "packs" / f"{name}.pack"


def write(folder: Path, payloads: Sequence[bytes], hashes: Sequence[str]) -> Pack:
    """Write blobs as one pack; equal ones once."""
    start = len(_MAGIC)
    parts: dict[str, bytes] = dict(zip(hashes, payloads, strict=True))
    places = []
    for digest, payload in parts.items():
        places.append((digest, start, len(payload)))
        start += len(payload)
    name = new_id()
    size, whole = write_whole(pack_path(folder, name), [_MAGIC, *parts.values()])
    return Pack(id=name, bytes=size, sha256=whole, blobs=tuple(places))


def copied(folder: Path, places: Sequence[Place]) -> Pack:
    """Write blobs that lie in packs already as a pack of their own; each is checked against its hash on the way."""
    start = len(_MAGIC)
    blobs = []
    for one in places:
        blobs.append((one.sha256, start, one.length))
        start += one.length
    name = new_id()
    size, whole = write_whole(pack_path(folder, name), chain([_MAGIC], (one.read() for one in places)))
    return Pack(id=name, bytes=size, sha256=whole, blobs=tuple(blobs))


def slack(size: int, blobs: Iterable[tuple[str, int, int]]) -> int:
    """The bytes of a pack of this size that belong to none of its blobs (a hash, a start, a length each)."""
    return size - len(_MAGIC) - sum(length for _, _, length in blobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a blob lies; a process that has no store open can read it.

    Args:
        path: of the pack.
        start, length: in bytes.
        sha256: of the blob, as hex.
    """

    path: str
    start: int
    length: int
    sha256: str

    def read(self) -> bytes:
        """The bytes of the blob.

        Raises:
            Damaged: when the pack is missing, too short, or the bytes are not those that were written.
        """
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as cause:
            told = f"the pack {self.path} cannot be read: {cause.strerror}"
            raise Damaged(told, hint="restore it from a backup") from cause
        try:
            return self.read_from(handle)
        finally:
            os.close(handle)

    def read_from(self, handle: int) -> bytes:
        """The bytes of the blob, from the pack as it was opened; else as `read`."""
        data = os.pread(handle, self.length, self.start)
        while len(data) < self.length:  # pread stops at 2 GB
            more = os.pread(handle, self.length - len(data), self.start + len(data))
            if not more:
                break
            data += more
        if sha256(data).hexdigest() != self.sha256:
            told = f"the blob {self.sha256} in {self.path} is not what was written"
            raise Damaged(told, hint="restore the pack from a backup")
        return data


def read_whole(places: Iterable[Place]) -> Iterator[tuple[str, bytes]]:
    """The blobs that are what was written, each with its hash; a pack is opened once and read from front to back.

    One that is damaged is left out; `Place.read` says what is wrong with it.
    """
    in_order = sorted(places, key=attrgetter("path", "start"))
    for path, group in groupby(in_order, key=attrgetter("path")):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            for place in group:
                with suppress(Damaged):
                    yield place.sha256, place.read_from(handle)
        finally:
            os.close(handle)
