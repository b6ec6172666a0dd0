"""Upkeep: hot rows become segments, small segments large ones, what nobody needs any more goes. Answers stay the same.

One process at a time does it (a lock file of its own). Files are written and read without the writers' lock; what they
replace leaves the catalog in the same transaction in which they enter it, so a process that is killed anywhere leaves a
store that answers as before, and at most files that no catalog names.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from store import deriving, merging, readers, writing
from store.catalog import Catalog, Segment
from store.clock import Clock, to_micros
from store.errors import Damaged, NotFound, StoreBusy, StoreError
from store.files import segment_file
from store.lock import WriterLock
from store.packs import pack_path
from store.reading import Reader
from store.rows import columns_to_arrow
from store.schema import LATEST, STORED, Table

#: What a merge keeps in memory before it spills.
MEMORY = 1 << 30
#: A commit's own call merges no more than this, or than eight times what it has just written in bulk.
SMALL_BYTES = 16 << 20
BULK_FACTOR = 8
FOLD_AFTER = timedelta(days=1)
#: A replaced file stays this long for readers that upkeep cannot see.
GRACE = timedelta(hours=1)
#: After this long a file that no catalog names is an orphan, and a reader that still stands on it has hung.
ORPHAN_AFTER = timedelta(days=1)
KEEP_COMMITS = timedelta(days=400)
#: A segment is written anew for its dead rows when they are at least this part of it; small ones always.
_WORTH_FOLDING = 1 / 256
_SMALL_ROWS = 122_880


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What upkeep did.

    ``flushed`` counts rows per table, ``merged`` the segments per table that became others, ``folded`` the superseded
    rows per table that were left out; ``collected`` files were deleted, of ``freed`` bytes; ``bytes`` were written.
    """

    flushed: Mapping[str, int] = field(default_factory=dict)
    merged: Mapping[str, int] = field(default_factory=dict)
    folded: Mapping[str, int] = field(default_factory=dict)
    collected: int = 0
    freed: int = 0
    bytes: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class _Tally:
    """A report while it is written."""

    flushed: dict[str, int] = field(default_factory=dict)
    merged: dict[str, int] = field(default_factory=dict)
    folded: dict[str, int] = field(default_factory=dict)
    bytes: int = 0


@contextmanager
def _lease(folder: Path) -> Iterator[None]:
    lease = WriterLock(folder / "upkeep.lock")
    try:
        with lease.held(wait_s=0.0):
            yield
    finally:
        lease.close()


@contextmanager
def _reader(folder: Path, catalog: Catalog, clock: Clock) -> Iterator[Reader]:
    """A reader of upkeep's own: its memory is bounded, and whoever asks questions keeps his."""
    reader = Reader(folder, catalog, clock, memory=MEMORY)
    try:
        yield reader
    finally:
        reader.close()


# ---------------------------------------------------------------------------------------------------- by itself


def flush(folder: Path, catalog: Catalog, tables: Iterable[str] | None = None) -> dict[str, int]:
    """Write the hot rows of tables (all by default) as segments; rows moved per table.

    When another process is at upkeep already, nothing is done.
    """
    tally = _Tally()
    with suppress(StoreBusy), _lease(folder):
        for name in STORED if tables is None else tables:
            _flush_table(folder, catalog, name, tally)
    return tally.flushed


def tend(folder: Path, catalog: Catalog, clock: Clock, tables: Iterable[str]) -> None:
    """After a commit, do the one thing that its tables want most: a small merge, what is derived, else a flush.

    Args:
        folder: of the store.
        catalog: of the store.
        clock: tells how old hot rows are.
        tables: those that may want something: many or old hot rows, new segments.
    """
    # The commit is done and stays acknowledged: what upkeep stumbles over is told to whoever calls it by hand.
    with suppress(StoreError, OSError), _lease(folder):
        swollen = catalog.swollen(writing.FLUSH_ROWS, to_micros(clock.now()) - writing.FLUSH_AFTER)
        for name in tables:
            segments = catalog.segments(name)
            most_bytes = max(SMALL_BYTES, BULK_FACTOR * _newest_bulk(segments))
            asked = merging.due(STORED[name], segments, most_bytes=most_bytes)
            if asked is not None:
                with _reader(folder, catalog, clock) as reader:
                    if _blurs(catalog, asked):
                        _derive(reader, _Tally())
                    _merge(reader, asked, _bound(catalog, clock, FOLD_AFTER), _Tally())
                return
            if name in deriving.SOURCES and deriving.due(catalog, most_bytes=SMALL_BYTES):
                with _reader(folder, catalog, clock) as reader:
                    _derive(reader, _Tally())
                return
        if swollen:
            _flush_table(folder, catalog, swollen[0], _Tally())


def _blurs(catalog: Catalog, asked: merging.Merge) -> bool:
    """Whether a merge would put what is not derived yet among much that is: it could not be told apart any more."""
    since = deriving.upto(catalog.segments(LATEST.name)) if asked.table in deriving.SOURCES else None
    return since is not None and any(one.max_v > since for one in asked.inputs)


def _newest_bulk(segments: Iterable[Segment]) -> int:
    """The bytes that the newest commit among the segments wrote at once."""
    own = [one for one in segments if one.v is not None]
    newest = max((one.min_v for one in own), default=0)
    return sum(one.bytes for one in own if one.min_v == newest)


# ------------------------------------------------------------------------------------------------------- by hand


def upkeep(
    folder: Path, catalog: Catalog, clock: Clock, *, fold_after: timedelta = FOLD_AFTER, grace: timedelta = GRACE
) -> Report:
    """Do all there is to do: flush, merge, fold, collect.

    Args:
        folder: of the store.
        catalog: of the store.
        clock: tells what is old.
        fold_after: superseded rows older than this go, from the tables that keep no history.
        grace: replaced files stay so long for readers that cannot be seen.

    Raises:
        StoreBusy: another process is at it.
    """
    began = time.monotonic()
    tally = _Tally()
    with _lease(folder):
        for name in STORED:
            _flush_table(folder, catalog, name, tally)
        with _reader(folder, catalog, clock) as reader:
            bound = _bound(catalog, clock, fold_after)
            with suppress(Damaged):  # a merge or `verify` tells it; what was derived before goes on as it is
                _derive(reader, tally)
            for table in STORED.values():
                _merge_all(reader, table, bound, tally)
            for table in STORED.values():
                _fold(reader, table, bound, tally, thorough=False)
        collected, freed = _collect(folder, catalog, clock, grace)
    return _report(tally, collected, freed, began)


def expire(
    folder: Path, catalog: Catalog, clock: Clock, *, before: datetime, keep_commits: timedelta = KEEP_COMMITS
) -> Report:
    """End the snapshots from before an instant, and fold away what only they could tell, of forecasts too.

    The state at that instant stays the oldest that can be asked. Commit ids younger than ``keep_commits`` stay, so that
    a repeat of theirs is harmless.

    Raises:
        NotFound: nothing had been committed by then.
        StoreBusy: another process is at upkeep.
    """
    began = time.monotonic()
    tally = _Tally()
    oldest = catalog.snapshot_at(to_micros(before))
    if oldest == 0:
        raise NotFound(f"no snapshot is from before {before.isoformat()}", hint="name a later time")
    with _lease(folder):
        with catalog.writing() as writer:
            writer.end_before(oldest)
            writer.thin(oldest, min(to_micros(before), to_micros(clock.now() - keep_commits)))
        for name in STORED:
            _flush_table(folder, catalog, name, tally)
        with _reader(folder, catalog, clock) as reader:
            with suppress(Damaged):
                _derive(reader, tally)
            for table in STORED.values():
                _fold(reader, table, oldest, tally, thorough=True)
        collected, freed = _collect(folder, catalog, clock, GRACE)
    return _report(tally, collected, freed, began)


def _report(tally: _Tally, collected: int, freed: int, began: float) -> Report:
    return Report(
        flushed=tally.flushed,
        merged=tally.merged,
        folded=tally.folded,
        collected=collected,
        freed=freed,
        bytes=tally.bytes,
        seconds=time.monotonic() - began,
    )


def _bound(catalog: Catalog, clock: Clock, fold_after: timedelta) -> int | None:
    """The snapshot up to which superseded rows may go, None when there is none."""
    return catalog.snapshot_at(to_micros(clock.now() - fold_after)) or None


# --------------------------------------------------------------------------------------------------------- steps


def _flush_table(folder: Path, catalog: Catalog, name: str, tally: _Tally) -> None:
    head, columns = catalog.hot_rows(name)
    if not columns["_v"]:
        return
    from store import segments

    table = STORED[name]
    absent = [c for c, values in columns.items() if c not in table.by_name and all(v is None for v in values)]
    count = len(columns["_v"])
    rows = columns_to_arrow(table, {c: values for c, values in columns.items() if c not in absent})
    made = segments.write(folder, table, rows, level=1)
    with catalog.writing() as writer:
        for segment in made:
            writer.add_segment(segment)
        gone = writer.drop_hot(name, head)
        if gone != count:
            raise StoreError(f"{gone} hot rows of {name} would leave for {count} in the segment")
    tally.flushed[name] = tally.flushed.get(name, 0) + count
    tally.bytes += sum(one.bytes for one in made)


def _derive(reader: Reader, tally: _Tally) -> None:
    """Bring what is derived up to date."""
    made = deriving.derive(reader)
    if made is None:
        return
    catalog = reader.catalog
    old = [one.id for one in catalog.segments(LATEST.name)]
    with catalog.writing() as writer:
        writer.swap(LATEST.name, old, made, to_micros(reader.clock.now()))
    tally.bytes += sum(one.bytes for one in made)


def _merge_all(reader: Reader, table: Table, bound: int | None, tally: _Tally) -> None:
    """Merge until no level of the table is full."""
    while (asked := merging.due(table, reader.catalog.segments(table.name))) is not None:
        if not _merge(reader, asked, bound, tally):
            return


def _merge(reader: Reader, asked: merging.Merge, bound: int | None, tally: _Tally, *, thorough: bool = False) -> bool:
    """Merge and swap; False when an input went meanwhile, then all is as it was."""
    fold = deriving.foldable(reader.catalog, asked.table, bound)
    return _swap(reader, asked, merging.merge(reader, asked, fold=fold, thorough=thorough), tally)


def _swap(reader: Reader, asked: merging.Merge, merged: merging.Merged, tally: _Tally) -> bool:
    at = to_micros(reader.clock.now())
    with reader.catalog.writing() as writer:
        swapped = writer.swap(asked.table, [one.id for one in asked.inputs], merged.made, at)
        if swapped and merged.whole_from:
            writer.end_before(merged.whole_from, asked.table)
    if not swapped:
        for one in merged.made:
            segment_file(reader.folder, asked.table, one.id).unlink(missing_ok=True)
        return False
    tally.merged[asked.table] = tally.merged.get(asked.table, 0) + len(asked.inputs)
    tally.bytes += sum(one.bytes for one in merged.made)
    if merged.dropped:
        tally.folded[asked.table] = tally.folded.get(asked.table, 0) + merged.dropped
    return True


def _fold(reader: Reader, table: Table, bound: int | None, tally: _Tally, *, thorough: bool) -> None:
    """Write segments with dead rows anew without them; then the companion, when no dead row is left."""
    bound = deriving.foldable(reader.catalog, table.name, bound)
    if bound is None or table.replaced is None or not merging.folds(table, thorough=thorough):
        return
    companions = reader.catalog.segments(table.replaced)
    if not any(one.min_v <= bound for one in companions):
        return
    segments = reader.catalog.segments(table.name)
    dead = merging.superseded(reader, table, segments, bound)
    for group in _by_partition(table, segments):
        worth = [
            one
            for one in group
            if one.id in dead and (thorough or one.rows <= _SMALL_ROWS or dead[one.id] >= one.rows * _WORTH_FOLDING)
        ]
        if worth:
            level = max(merging.FIRST, *(one.level for one in worth))
            if _merge(reader, merging.Merge(table.name, tuple(worth), level), bound, tally, thorough=thorough):
                for one in worth:
                    del dead[one.id]
    if not dead:
        level = max(merging.FIRST, *(one.level for one in companions))
        merged = merging.merge_companions(reader, table, companions)
        _swap(reader, merging.Merge(table.replaced, companions, level), merged, tally)


def _by_partition(table: Table, segments: Iterable[Segment]) -> list[list[Segment]]:
    listed = list(segments)
    loose = [one for one in listed if one.level < merging.FIRST]
    return [loose, *merging.partitions(table, listed).values()]


# ------------------------------------------------------------------------------------------------------ collection


def _collect(folder: Path, catalog: Catalog, clock: Clock, grace: timedelta) -> tuple[int, int]:
    """Delete replaced files that no reader stands on, and files that no catalog names; how many, and their bytes.

    A pack stays as long as the catalog names it, also when no version and no run refers to its blobs any more.
    """
    now = clock.now()
    hung, young = to_micros(now - ORPHAN_AFTER), to_micros(now - grace)
    standing = readers.present(folder, tidy=True)
    gone = [
        one
        for one in catalog.retired()
        if one.at <= hung or (one.at <= young and all(generation >= one.generation for generation in standing))
    ]
    paths = [
        pack_path(folder, one.id) if one.kind == "pack" else segment_file(folder, one.table, one.id) for one in gone
    ]
    paths += _orphans(folder, catalog, now - ORPHAN_AFTER)
    files = freed = 0
    for path in paths:
        with suppress(FileNotFoundError):
            freed += path.stat().st_size
            path.unlink()
            files += 1
    if gone:
        with catalog.writing() as writer:
            writer.forget_retired(one.id for one in gone)
    return files, freed


def _orphans(folder: Path, catalog: Catalog, before: datetime) -> list[Path]:
    """Files from before an instant that the catalog does not name: left by commits and merges that did not end."""
    limit = before.timestamp()
    old = [
        path
        for pattern in ("segments/*/*", "packs/*")
        for path in folder.glob(pattern)
        if path.is_file() and path.stat().st_mtime < limit
    ]
    # The catalog is asked after the files: what a commit named meanwhile is known.
    known = {f"{one}.parquet" for one in catalog.named("segment")} | {f"{one}.pack" for one in catalog.named("pack")}
    return [path for path in old if path.name not in known]
