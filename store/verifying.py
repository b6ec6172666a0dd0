"""Verifying: every file against the hash in the catalog, and the catalog against its own digests.

Nothing is mended and nobody waits: others may read, write and merge meanwhile. Memory holds one batch of rows and one
piece of a file at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from store.catalog import Segment
from store.catalog.checking import Fault
from store.damage import Damage, moment, wrong_segment, wrong_with
from store.errors import Damaged, StoreError
from store.packs import pack_path
from store.reading import Reader, Snapshot
from store.schema import FILED

#: Called with the bytes that are checked and the bytes there are.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a verification found: ``damages`` is empty when all is as it was written.

    ``segments`` and ``packs`` are those that were read, of ``bytes``. ``digests`` is False for a catalog that an
    earlier release made and nobody has written to since: changes within its own rows would not be noticed.
    """

    damages: tuple[Damage, ...]
    segments: int
    packs: int
    bytes: int
    seconds: float
    digests: bool

    @property
    def ok(self) -> bool:
        return not self.damages


def verify(reader: Reader, progress: Progress | None = None) -> Verification:
    """Check everything that the store names."""
    began = time.monotonic()
    damages = [_in_catalog(reader, fault) for fault in reader.catalog.faults()]
    segments: list[Segment] = []
    packs: list[tuple[str, int, str]] = []
    total = 0
    try:
        with reader.standing(FILED) as state:
            segments = [one for held in state.segments.values() for one in held]
            packs = reader.catalog.packs()
            total = sum(one.bytes for one in segments) + sum(size for _, size, _ in packs)
            done = 0
            for size, found in _files(reader, segments, packs):
                done += size
                if found is not None:
                    damages.append(found)
                if progress is not None:
                    progress(done, total)
        digests = reader.catalog.has_digests()
    except Damaged as error:  # the catalog does not say any more what there is
        digests = False
        if not damages:
            damages.append(Damage(path=reader.catalog.path, what=error.message))
    return Verification(
        damages=tuple(damages),
        segments=len(segments),
        packs=len(packs),
        bytes=total,
        seconds=time.monotonic() - began,
        digests=digests,
    )


def _files(
    reader: Reader, segments: list[Segment], packs: list[tuple[str, int, str]]
) -> Iterator[tuple[int, Damage | None]]:
    """The size of each file that the catalog names, and what is wrong with it."""
    for one in segments:
        found = wrong_segment(reader.folder, one)
        if found is not None and all(one.id != now.id for now in reader.catalog.segments(one.table)):
            found = None  # a merge replaced it, and we could not be seen reading
        yield one.bytes, found
    for name, size, sha256 in packs:
        path = pack_path(reader.folder, name)
        what = wrong_with(path, size, sha256)
        yield size, None if what is None else _of_pack(reader, name, path, what)


def _in_catalog(reader: Reader, fault: Fault) -> Damage:
    return Damage(
        path=reader.catalog.path,
        what=fault.what,
        table=fault.table,
        assets=tuple(sorted({one for one in (fault.first, fault.last) if one is not None})),
        between=fault.first != fault.last,
        since=moment(fault.since),
        until=moment(fault.until),
        rows=fault.rows,
    )


def _of_pack(reader: Reader, name: str, path: Path, what: str) -> Damage:
    """What a pack's loss means: the assets whose versions lie in it, as far as they can be read."""
    assets: list[str] = []
    blobs = 0
    with suppress(StoreError):
        import pyarrow as pa
        import pyarrow.compute as pc

        hashes = reader.catalog.blobs_in(name)
        blobs = len(hashes)
        versions = Snapshot(reader, reader.catalog.head(), lambda: None).table(
            "versions", columns=["asset_id", "sha256"]
        )
        inside = versions.filter(pc.is_in(versions.column("sha256"), value_set=pa.array(hashes, pa.string())))
        assets = sorted({one for one in inside.column("asset_id").to_pylist() if one is not None})
    return Damage(path=path, what=f"{what} ({blobs:,} blobs)", table="versions", assets=tuple(assets))
