"""Files that are whole or absent: temporary name, fsync, rename, fsync of the folder.

Nothing here knows what is inside a file. A name in the catalog always means bytes that have reached the disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

from store.errors import ReadOnly, StoreError


def segment_file(folder: Path, table: str, name: str) -> Path:
    """Where the file of a segment lies."""
    return folder / "segments" / table / f"{name}.parquet"


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """Create a folder, with those above it, and make its name durable."""
    if path.is_dir():
        return
    if path != path.parent:
        make_folder(path.parent)
    try:
        path.mkdir(exist_ok=True)
    except FileExistsError as cause:
        raise StoreError(f"{path} is a file, a folder is needed there") from cause
    except OSError as cause:
        raise ReadOnly(
            f"the folder {path} cannot be made: {cause.strerror}", hint="make the parent writable"
        ) from cause
    sync_folder(path.parent)


def write_whole(path: Path, parts: Iterable[bytes | memoryview]) -> tuple[int, str]:
    """Write a new file so that it appears under its name only when every byte is on disk; (size, sha256)."""
    with Writing(path) as file:
        for part in parts:
            file.write(part)
    return file.size, file.sha256


class Writing:
    """A file being written: a sink that counts and hashes, and gives the file its name when the block ends well."""

    def __init__(self, path: Path) -> None:
        from hashlib import sha256

        self._path, self._temporary = path, path.with_name(f".{path.name}.tmp")
        self._hash = sha256()
        self._file: IO[bytes] | None = None
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    @property
    def closed(self) -> bool:
        return self._file is None

    def write(self, data: bytes | memoryview) -> int:
        assert self._file is not None
        self._hash.update(data)
        written = len(memoryview(data).cast("B")) if not isinstance(data, bytes) else len(data)
        self._file.write(data)
        self.size += written
        return written

    def flush(self) -> None:
        """Nothing: the block's end flushes once and for all."""

    def close(self) -> None:
        """Nothing: writers that close their sink must not take away the fsync at the block's end."""

    def tell(self) -> int:
        return self.size

    def __enter__(self) -> Self:
        make_folder(self._path.parent)
        self._file = self._temporary.open("xb", buffering=1 << 20)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        assert self._file is not None
        file, self._file = self._file, None
        try:
            if kind is None:
                file.flush()
                os.fsync(file.fileno())
        finally:
            file.close()
            if kind is not None:
                self._temporary.unlink(missing_ok=True)
        if kind is None:
            self._temporary.rename(self._path)
            sync_folder(self._path.parent)


def folder_bytes(path: Path) -> int:
    """The bytes of all files under a folder, as their sizes say."""
    total = 0
    for place, _, names in os.walk(path):
        for name in names:
            with suppress(FileNotFoundError):
                total += (Path(place) / name).lstat().st_size
    return total
