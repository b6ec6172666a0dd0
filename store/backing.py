"""Backup and restore: a folder that opens as a store, copied while others write, each file checked against its hash.

A backup is the store as one commit left it. It is made under a temporary name, so a folder that has its name is whole;
what the catalog does not name (locks, readers, leftovers) does not come along.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from store.catalog import Catalog
from store.damage import Damage, of_segment, wrong_with
from store.errors import Damaged, NotFound, StoreError
from store.files import Writing, check_empty, make_folder, segment_file, sync_folder, told
from store.ids import new_id
from store.lock import WriterLock
from store.packs import pack_path
from store.reading import Reader
from store.schema import FILED

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What was copied: ``files`` with the catalog among them, ``linked`` of them shared with an earlier backup."""

    path: Path
    snapshot: int
    files: int
    linked: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _File:
    """A file that the catalog names: where it lies within the folder, and what it must be."""

    name: str
    size: int
    sha256: str
    loss: Damage


def backup(reader: Reader, folder: Path, *, previous: Path | None = None) -> Backup:
    """Copy a store to a folder that is absent or empty.

    Args:
        reader: of the store; its presence keeps upkeep from deleting what is being copied.
        folder: to be made.
        previous: an earlier backup on the same disk, whose equal files are shared instead of copied.

    Raises:
        AlreadyExists: the folder holds something.
        Damaged: a file or the catalog is not what was written; nothing is left at the folder.
    """
    began = time.monotonic()
    target = folder.absolute()
    if target.is_relative_to(reader.folder):
        raise StoreError(f"{target} lies within the store", hint="name a folder elsewhere")
    if previous is not None and not previous.is_dir():
        raise NotFound(f"there is no earlier backup in {previous}")
    check_empty(target)
    make_folder(target.parent)
    making = target.with_name(f".{target.name}.{new_id()}.tmp")
    with told(making):
        making.mkdir()
    try:
        with reader.standing(FILED):
            place = making / reader.catalog.path.name
            reader.catalog.copy(place)
            head, files = _named(reader.folder, making)
            linked = sum(_copied(one, reader.folder, making, previous) for one in files)
        for name in ("lock", f"{place.name}-wal", f"{place.name}-shm"):
            (making / name).unlink(missing_ok=True)
        size = place.stat().st_size + sum(one.size for one in files)
        with told(target):
            sync_folder(making)
            making.rename(target)
            sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    seconds = time.monotonic() - began
    return Backup(path=target, snapshot=head, files=len(files) + 1, linked=linked, bytes=size, seconds=seconds)


def _named(source: Path, folder: Path) -> tuple[int, list[_File]]:
    """The newest snapshot of a copied catalog and the files that it names, after it is found to be sound."""
    lock = WriterLock(folder / "lock")
    catalog = Catalog(folder, lock, read_only=True)
    try:
        for fault in catalog.faults():
            raise Damaged(
                f"the catalog of {source} is damaged: {fault.what}",
                hint="`tsfleet store verify` lists all that is; an earlier backup may be whole",
            )
        return catalog.head(), list(_files(source, catalog))
    finally:
        catalog.close()
        lock.close()


def _files(source: Path, catalog: Catalog) -> Iterator[_File]:
    not_it = "its bytes are not those that were written"
    for held in catalog.state(FILED).segments.values():
        for one in held:
            path = segment_file(source, one.table, one.id)
            yield _File(str(path.relative_to(source)), one.bytes, one.sha256, of_segment(source, one, not_it))
    for name, size, sha256 in catalog.packs():
        path = pack_path(source, name)
        yield _File(str(path.relative_to(source)), size, sha256, Damage(path=path, what=not_it, table="versions"))


def _copied(file: _File, source: Path, target: Path, previous: Path | None) -> int:
    """Bring one file over; 1 when it is shared with the earlier backup, 0 when it was copied."""
    place = target / file.name
    if previous is not None and wrong_with(previous / file.name, file.size, file.sha256) is None:
        make_folder(place.parent)
        with suppress(OSError):  # another disk, or one that knows no links
            os.link(previous / file.name, place)
            sync_folder(place.parent)
            return 1
    try:
        with (source / file.name).open("rb") as original, Writing(place) as copy:
            while piece := original.read(_PIECE):
                copy.write(piece)
    except FileNotFoundError as cause:
        raise Damaged(f"{source / file.name} is missing", hint="`tsfleet store verify` lists all that is") from cause
    if (copy.size, copy.sha256) != (file.size, file.sha256):
        raise Damaged(str(file.loss), hint="`tsfleet store verify` lists all that is; an earlier backup may be whole")
    return 0
