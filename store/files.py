"""Files that are whole or absent: temporary name, fsync, rename, fsync of the folder.

Nothing here knows what is inside a file. A name in the catalog always means bytes that have reached the disk.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Self

from store.errors import AlreadyExists, NoSpace, ReadOnly, StoreError, WriteFailed

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


def segment_file(folder: Path, table: str, name: str) -> Path:
    """Where the file of a segment lies."""
    return folder / "segments" / table / f"{name}.parquet"


def refused(path: Path, cause: OSError) -> StoreError:
    """What the system's refusal to write something means for whoever asked for it.

    >>> refused(Path("a.pack"), OSError(errno.ENOSPC, "No space left on device")).code
    'no-space'
    """
    told = f"{path} cannot be written: {cause.strerror or cause}"
    if cause.errno in _NO_ROOM:
        return NoSpace(told, hint="make room and do it again; nothing of this commit is stored")
    if cause.errno in _NOT_ALLOWED:
        return ReadOnly(told, hint="make the folder writable, or open the store with read_only=True")
    return WriteFailed(told, hint="look at the disk, then do it again; nothing of this commit is stored")


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn an OSError of a block that writes into the error that says what to do."""
    try:
        yield
    except OSError as cause:
        raise refused(path, cause) from cause


def check_empty(folder: Path) -> None:
    """Refuse a folder to write to that holds something.

    Raises:
        AlreadyExists: naming some of it.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        there = sorted(path.name for path in folder.iterdir())
        if there:
            raise AlreadyExists(
                f"{folder} holds {len(there)} entries ({', '.join(there[:3])})", hint="name an empty or a new folder"
            )
    if folder.exists() and not folder.is_dir():
        raise AlreadyExists(f"{folder} is a file", hint="name an empty or a new folder")


#: Where Linux tells what is mounted; elsewhere nothing is known and every folder counts as local.
MOUNTS = Path("/proc/self/mountinfo")
#: Filesystems over a network, where processes of two machines cannot share memory and locks as SQLite's log wants it.
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "afs"}


def filesystem(device: int, mounts: str) -> str:
    """The kind of the filesystem on a device, "" when it is not listed.

    >>> filesystem(os.makedev(0, 52), "36 25 0:52 / /mnt rw,noatime shared:1 - nfs4 host:/x rw")
    'nfs4'
    """
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2:3] == [wanted]:
            return after.split()[0]
    return ""


def is_local(folder: Path) -> bool:
    """Whether a folder lies on a disk of this machine, as far as can be told."""
    device = folder.stat().st_dev
    if os.major(device):  # a disk; what comes over a network has no device
        return True
    with suppress(OSError):
        return filesystem(device, MOUNTS.read_text(encoding="utf-8", errors="replace")) not in _REMOTE
    return True


def check_local(folder: Path, what: str) -> None:
    """Refuse a folder on a network's filesystem.

    Raises:
        ReadOnly: naming the filesystem and what to do.
    """
    if not is_local(folder):
        raise ReadOnly(
            f"{folder} is on a network's filesystem, and {what}",
            hint="keep the store on a local disk; `tsfleet store backup` copies it anywhere, to be read there",
        )


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable.

    Raises:
        WriteFailed: the disk did not confirm it.
    """
    with told(path):
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
        if cause.errno not in _NOT_ALLOWED:
            raise refused(path, cause) from cause
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
    """A file being written: a sink that counts and hashes, and gives the file its name when the block ends well.

    Raises:
        NoSpace, WriteFailed, ReadOnly: the disk refused; nothing of the file is left.
    """

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
        with told(self._path):
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
        with told(self._path):
            self._file = self._temporary.open("xb", buffering=1 << 20)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        assert self._file is not None
        file, self._file = self._file, None
        if kind is not None:
            self._discard(file)
            return
        try:
            with told(self._path):
                file.flush()
                os.fsync(file.fileno())
                file.close()
                self._temporary.rename(self._path)
            sync_folder(self._path.parent)
        except BaseException:
            # After a failed fsync the kernel may have thrown the bytes away: they are written anew or not at all.
            self._discard(file)
            self._path.unlink(missing_ok=True)
            raise

    def _discard(self, file: IO[bytes]) -> None:
        with suppress(OSError):
            file.close()  # what is still in its buffer may not fit either
        self._temporary.unlink(missing_ok=True)


def folder_bytes(path: Path) -> int:
    """The bytes of all files under a folder, as their sizes say."""
    total = 0
    for place, _, names in os.walk(path):
        for name in names:
            with suppress(FileNotFoundError):
                total += (Path(place) / name).lstat().st_size
    return total
