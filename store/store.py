"""The store: a folder that is opened, asked and written to.

Many processes may have the same folder open. An open store belongs to the process that opened it; threads may share
it.
"""

from __future__ import annotations

import os
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

from store import catalog as catalogs
from store.clock import Clock, from_micros, system_clock, to_micros
from store.errors import Damaged, NotFound, ReadOnly, StoreError, WrongProcess
from store.files import folder_bytes
from store.ids import commit_key, new_id
from store.lock import WriterLock
from store.reading import Reader, Result, Snapshot
from store.tracked import Tracked

if TYPE_CHECKING:
    import pyarrow as pa

    from store.backing import Backup
    from store.diffing import Diff
    from store.duck import Params
    from store.erasing import Erased
    from store.exporting import Export
    from store.packs import Place
    from store.thinning import Thinned
    from store.tracking import Ledger
    from store.upkeep import Report
    from store.verifying import Progress, Verification
    from store.writing import Transaction

# Modules that only write are imported when somebody writes: opening a store is measured beside a bare DuckDB.


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreInfo:
    """What a store holds, told by its catalog alone. ``tables`` counts stored rows, replaced ones included.

    ``levels`` counts segments per table and level (0 a commit's own, 1 flushed, from 2 on merged and partitioned),
    ``fullest`` those of the fullest partition of each table; ``retired`` files were replaced by merges and wait for
    their deletion, ``readers`` are at a question now; ``oldest`` is the oldest snapshot that can be asked. ``derived``
    names the snapshot up to which `latest` was found ahead; what came later is added when it is asked.
    """

    path: Path
    format: int
    head: int
    tables: Mapping[str, int]
    hot: Mapping[str, int]
    segments: int
    packs: int
    bytes: int
    levels: Mapping[str, Mapping[int, int]]
    fullest: Mapping[str, int]
    retired: int
    readers: int
    oldest: int
    derived: Mapping[str, int]


class Store(Tracked):
    """An open store; make one with :meth:`open`."""

    def __init__(self, path: Path, *, clock: Clock, read_only: bool, skip_damaged: bool = False) -> None:
        self.path, self.clock, self.read_only = path, clock, read_only
        self._pid, self._closed = os.getpid(), False
        self._fences: dict[str, str] = {}
        self._lock = WriterLock(path / "lock")
        self._catalog = catalogs.Catalog(path, self._lock, read_only=read_only)
        self._reader = Reader(path, self._catalog, clock, skip_damaged=skip_damaged)
        self._finalizer = weakref.finalize(self, _close, self._pid, self._reader, self._catalog, self._lock)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        create: bool = True,
        read_only: bool = False,
        skip_damaged: bool = False,
        clock: Clock = system_clock,
    ) -> Store:
        """Open the store in a folder.

        Args:
            path: of the folder.
            create: make a new store when there is none.
            read_only: refuse every commit, and create nothing.
            skip_damaged: read what is left of a damaged store, and only read: each segment is checked against its hash
                before it is used, a damaged one is left out and named by ``Result.missing``. Where what is left out
                said that other rows were replaced, those show again.
            clock: tells the time of commits and of "now".

        Raises:
            NotFound: there is no store and none was to be made.
            FormatTooNew: a newer release wrote the folder.
            ReadOnly: the folder cannot be written, and ``read_only`` was not asked for.
            Damaged: the catalog cannot be read, or lacks its newest commits.
        """
        read_only = read_only or skip_damaged
        folder = Path(path).resolve()
        if not catalogs.exists(folder):
            if read_only or not create:
                raise NotFound(f"there is no store in {folder}", hint="open it with create=True to make one")
            lock = WriterLock(folder / "lock")
            try:
                catalogs.create(folder, lock, store_id=new_id(), at=to_micros(clock.now()))
            finally:
                lock.close()
        elif not read_only:
            _check_writable(folder)
        store = cls(folder, clock=clock, read_only=read_only, skip_damaged=skip_damaged)
        if not skip_damaged:
            try:
                store._catalog.check_head()
            except BaseException:
                store.close()
                raise
        return store

    def close(self) -> None:
        """Close the store; closing it again does nothing."""
        self._closed = True
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}{', read_only=True' if self.read_only else ''})"

    def __reduce__(self) -> NoReturn:
        raise WrongProcess(f"{self!r} cannot go to another process", hint="pass its path and open it there")

    def _guard(self) -> None:
        if self._pid != os.getpid():
            raise WrongProcess(
                f"{self.path} was opened by process {self._pid}, this is process {os.getpid()}",
                hint="open the store again in this process",
            )
        if self._closed:
            raise StoreError(f"the store {self.path} is closed", hint="open it again")

    def _writable(self) -> None:
        if self.read_only:
            raise ReadOnly(f"{self.path} was opened for reading", hint="open it without read_only=True")

    # ---------------------------------------------------------------- reading

    def head(self) -> int:
        """The newest snapshot; 0 while the store is empty."""
        self._guard()
        return self._catalog.head()

    def snapshot(self) -> Snapshot:
        """The store as it is now, held fixed."""
        return Snapshot(self._reader, self.head(), self._guard)

    def at(self, moment: int | datetime) -> Snapshot:
        """The store as a snapshot, or as an instant, left it."""
        self._guard()
        if isinstance(moment, datetime):
            if moment.tzinfo is None:
                raise NotFound(f"{moment.isoformat()} has no time zone", hint="give an aware datetime")
            moment = self._catalog.snapshot_at(to_micros(moment))
        head = self._catalog.head()
        if not 0 <= moment <= head:
            raise NotFound(f"there is no snapshot {moment}, the newest is {head}")
        self._catalog.admit(moment)
        return Snapshot(self._reader, moment, self._guard)

    def diff(self, after: int | datetime, upto: int | datetime) -> Diff:
        """What the commits later than one snapshot, up to another, added: rows per table, and the commits.

        Raises:
            SnapshotExpired: the older one has ended, or rows from between the two were folded away.
        """
        from store.diffing import diff

        ends = sorted((self.at(after).id, self.at(upto).id))
        return diff(self._reader, ends[0], ends[1])

    def sql(self, query: str, params: Params = None, tables: Mapping[str, pa.Table] | None = None) -> Result:
        """The answer to one SELECT over the views, as they are now; see :meth:`Snapshot.sql`."""
        return self.snapshot().sql(query, params, tables)

    def table(
        self,
        name: str,
        *,
        assets: Sequence[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        columns: Sequence[str] | None = None,
        where: Mapping[str, str | Sequence[str]] | None = None,
    ) -> pa.Table:
        """Rows of a view as they are now; see :meth:`Snapshot.table`."""
        return self.snapshot().table(name, assets=assets, since=since, until=until, columns=columns, where=where)

    def blob(self, sha256: str) -> bytes:
        """The bytes of a stored blob, checked against the hash."""
        tried = None
        while True:
            place = self.places([sha256]).get(sha256)
            if place is None:
                raise NotFound(f"no blob has the hash {sha256!r}")
            try:
                return place.read()
            except Damaged:
                if place == tried:
                    raise
                tried = place  # an erasure may have put it elsewhere meanwhile

    def blobs(self, hashes: Iterable[str]) -> dict[str, bytes]:
        """The bytes of many blobs by hash, each pack opened once; those that are missing or damaged are left out.

        `blob` says what is wrong with one of those. All that is asked for is held in memory at once.
        """
        from store import packs

        places = self.places(hashes)
        found = dict(packs.read_whole(places.values()))
        if len(found) < len(places):  # an erasure may have put some elsewhere meanwhile
            found.update(packs.read_whole(self.places(places.keys() - found.keys()).values()))
        return found

    def places(self, hashes: Iterable[str]) -> dict[str, Place]:
        """Where the stored ones of these blobs lie, by hash, so that another process can read them by itself."""
        self._guard()
        from store import packs

        found = self._catalog.blob_places(hashes)
        paths = {name: str(packs.pack_path(self.path, name)) for name in {name for name, _, _ in found.values()}}
        return {
            digest: packs.Place(path=paths[name], start=start, length=length, sha256=digest)
            for digest, (name, start, length) in found.items()
        }

    def committed(self, commit_id: str) -> int | None:
        """The snapshot that a commit id made, if it was used."""
        self._guard()
        found = self._catalog.committed(commit_key(commit_id))
        return None if found is None else found[1]

    def committed_at(self, snapshot: int) -> datetime:
        """When a snapshot was committed."""
        self._guard()
        return from_micros(self._catalog.snapshot_time(snapshot))

    def verify(self, progress: Progress | None = None) -> Verification:
        """Check every file against its hash and the catalog against its digests; what is damaged, if anything.

        Args:
            progress: called with the bytes that are checked and the bytes there are.
        """
        self._guard()
        from store import verifying

        return verifying.verify(self._reader, progress)

    def backup(self, folder: str | os.PathLike[str], *, previous: str | os.PathLike[str] | None = None) -> Backup:
        """Copy the store, as one commit left it, to an absent or empty folder that opens as a store.

        Others may write meanwhile. Every file is checked against its hash on the way.

        Args:
            folder: to be made.
            previous: an earlier backup on the same disk; files that it has already are shared with it.

        Raises:
            AlreadyExists: the folder holds something.
            Damaged: the store is; nothing is left at the folder.
        """
        self._guard()
        from store import backing

        return backing.backup(self._reader, Path(folder), previous=None if previous is None else Path(previous))

    @classmethod
    def restore(cls, backup: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Backup:
        """Copy a backup to an absent or empty folder, every file checked against its hash.

        Raises:
            NotFound: there is no backup.
            AlreadyExists: the folder holds something; move a damaged store away first.
            Damaged: the backup is.
        """
        with cls.open(backup, create=False, read_only=True) as kept:
            return kept.backup(folder)

    def export(
        self,
        folder: str | os.PathLike[str],
        tables: Sequence[str] | None = None,
        at: int | datetime | None = None,
    ) -> Export:
        """Write views as plain Parquet files into an absent or empty folder, with a manifest ``export.json``.

        Args:
            folder: to be made; it gets one folder a view.
            tables: names of views; by default the tables and what only their histories tell.
            at: a snapshot or an instant; now by default.
        """
        snapshot = self.snapshot() if at is None else self.at(at)
        from store import exporting

        return exporting.export(self._reader, Path(folder), snapshot=snapshot.id, tables=tables)

    def stored(self, table: str) -> int:
        """How many rows of a table are stored, replaced ones included; asks the catalog alone."""
        self._guard()
        return int(self._catalog.totals()["tables"][table])

    def info(self) -> StoreInfo:
        """What the store holds; asks the catalog alone."""
        self._guard()
        from store import readers
        from store.merging import partitions
        from store.schema import DERIVED, TABLES

        totals = self._catalog.totals()
        held = self._catalog.state(TABLES).segments
        levels = {name: Counter(one.level for one in segments) for name, segments in held.items() if segments}
        parts = {name: partitions(TABLES[name], held[name]).values() for name in levels}
        return StoreInfo(
            path=self.path,
            format=catalogs.FORMAT,
            head=totals["head"],
            tables=totals["tables"],
            hot=totals["hot"],
            segments=totals["segments"],
            packs=totals["packs"],
            bytes=folder_bytes(self.path),
            levels={name: dict(sorted(counted.items())) for name, counted in levels.items()},
            fullest={name: max(map(len, found)) for name, found in parts.items() if found},
            retired=len(self._catalog.retired()),
            readers=len(readers.present(self.path)),
            oldest=self._catalog.state(()).oldest.get("", 0),
            derived={name: derived[0].max_v for name in DERIVED if (derived := self._catalog.segments(name))},
        )

    # ---------------------------------------------------------------- writing

    def begin(self, *, commit_id: str | None = None, note: str = "") -> Transaction:
        """A transaction; with a commit id, committing the same again is harmless."""
        return self._begin(commit_id=commit_id, note=note, after=self._tend)

    def fence(self, name: str, value: str) -> None:
        """From now on every commit of this open store goes through only while a watermark has this value.

        Whoever was given work by a claim fences the store with it: when another takes the work over and sets the
        watermark anew, what the first still does is refused (Overtaken), however late it comes.
        """
        self._guard()
        self._fences[name] = value

    def unfence(self, name: str) -> None:
        """Lift a fence."""
        self._fences.pop(name, None)

    def _begin(
        self, *, commit_id: str | None = None, note: str = "", after: Callable[[list[str]], Any] | None = None
    ) -> Transaction:
        self._guard()
        self._writable()
        from store.writing import Transaction

        return Transaction(
            self._reader,
            commit_id=commit_id,
            note=note,
            guard=self._guard,
            upkeep=after,
            expected=self._fences.items(),
        )

    def flush(self) -> dict[str, int]:
        """Move hot rows into segments; rows moved per table. No question's answer changes."""
        self._guard()
        self._writable()
        from store import upkeep

        return upkeep.flush(self.path, self._catalog)

    def upkeep(self, *, fold_after: timedelta | None = None, grace: timedelta | None = None) -> Report:
        """Tidy everything: flush hot rows, merge small segments, fold superseded rows away, delete what nobody reads.

        Smaller steps of it happen by themselves after commits. Writers and readers go on meanwhile.

        Args:
            fold_after: superseded rows of tables without a history go when they are so old; a day by default.
            grace: replaced files stay so long for readers that cannot be seen (a folder they may not write); an hour.

        Raises:
            StoreBusy: another process is at it.
        """
        self._guard()
        self._writable()
        from store import upkeep

        return upkeep.upkeep(
            self.path,
            self._catalog,
            self.clock,
            fold_after=upkeep.FOLD_AFTER if fold_after is None else fold_after,
            grace=upkeep.GRACE if grace is None else grace,
        )

    def expire(self, before: datetime) -> Report:
        """End the snapshots from before an instant and let go of what only they could tell.

        Actuals and covariates keep all their revisions. Commit ids of the last 400 days stay known.

        Raises:
            NotFound: nothing had been committed by then.
            StoreBusy: another process is at upkeep.
        """
        self._guard()
        self._writable()
        if before.tzinfo is None:
            raise NotFound(f"{before.isoformat()} has no time zone", hint="give an aware datetime")
        from store import upkeep

        return upkeep.expire(self.path, self._catalog, self.clock, before=before)

    def erase(
        self, assets: Iterable[str], *, series: bool = False, dry_run: bool = False, wait: timedelta | None = None
    ) -> Erased:
        """Erase assets for good: rows, blobs that only they use, names in texts; no file of the store holds them then.

        Snapshots from before end. Backups keep what they hold, and a source that still has an asset brings it back.

        Args:
            assets: their ids.
            series: with the covariates of series that nobody else is linked to; those of their own name go anyway.
            dry_run: change nothing, tell what would go.
            wait: for readers that stand on old files; a minute by default. What they keep goes with the next upkeep.

        Raises:
            StoreBusy: another process is at upkeep.
            Damaged: a file that would be written anew is; nothing was erased.
        """
        self._guard()
        self._writable()
        from store import erasing

        ids = [assets] if isinstance(assets, str) else assets
        wait = erasing.WAIT if wait is None else wait
        return erasing.erase(self.path, self._catalog, self.clock, ids, series=series, dry_run=dry_run, wait=wait)

    def thin(
        self, product: str, *, older_than: datetime, keep_leads_below: timedelta, dry_run: bool = False
    ) -> Thinned:
        """Drop the long leads of old forecasts of a product; backtests and scores stay.

        Older snapshots end for the forecasts. Running it again drops nothing more.

        Args:
            product: its name.
            older_than: only what was issued before this.
            keep_leads_below: valid times so long after the issue, or longer, go.
            dry_run: change nothing, tell how many rows would go.

        Raises:
            StoreBusy: another process is at upkeep.
        """
        self._guard()
        self._writable()
        from store import thinning

        rule = thinning.Rule(product=product, older_than=older_than, keep_leads_below=keep_leads_below)
        return thinning.thin(self.path, self._catalog, self.clock, rule, dry_run=dry_run)

    def _tend(self, tables: list[str]) -> None:
        from store import upkeep

        upkeep.tend(self.path, self._catalog, self.clock, tables)

    def _ledger(self) -> Ledger:
        self._guard()
        from store.tracking import Ledger

        newest = (1 << 63) - 1  # a mark as the newest snapshot left it
        return Ledger(
            transaction=lambda after: self._begin(after=after),
            held=self._lock.held,
            mark=lambda name: self._catalog.mark(name, newest),
            flush=self._tend,
            sql=self.sql,
            blob=self.blob,
            clock=self.clock,
        )


def _check_writable(folder: Path) -> None:
    """Say at once that a folder cannot be written, not after hours of training."""
    if not (os.access(folder, os.W_OK | os.X_OK) and os.access(folder / catalogs.NAME, os.W_OK)):
        raise ReadOnly(
            f"the store {folder} cannot be written by this user or on this disk",
            hint="open it with read_only=True, or make the folder writable",
        )


def _close(pid: int, reader: Reader, catalog: catalogs.Catalog, lock: WriterLock) -> None:
    """Close what a store opened, also when it is forgotten or the interpreter ends: closing needs the lock."""
    if pid == os.getpid():  # a forked child must not touch its parent's connections
        reader.close()
        catalog.close()
        lock.close()
