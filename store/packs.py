"""Packs: blobs of a batch in one append-only file, written with one fsync, found by hash.

A blob is checked against its hash each time it is read; a pack that no commit came to name is an orphan and harms
nobody.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
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


def read(folder: Path, place: tuple[str, int, int], digest: str) -> bytes:
    """The bytes of a blob.

    Raises:
        Damaged: when the pack is missing, too short, or the bytes are not those that were written.
    """
    name, start, length = place
    path = pack_path(folder, name)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as cause:
        raise Damaged(f"the pack {path} cannot be read: {cause.strerror}", hint="restore it from a backup") from cause
    try:
        data = os.pread(handle, length, start)
        while len(data) < length:  # pread stops at 2 GB
            more = os.pread(handle, length - len(data), start + len(data))
            if not more:
                break
            data += more
    finally:
        os.close(handle)
    if sha256(data).hexdigest() != digest:
        raise Damaged(f"the blob {digest} in {path} is not what was written", hint="restore the pack from a backup")
    return data
