"""The store: a folder that is opened, asked and written to.

Many processes may have the same folder open. An open store belongs to the process that opened it; threads may share
it.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

from store import catalog as catalogs
from store.clock import Clock, from_micros, system_clock, to_micros
from store.errors import NotFound, ReadOnly, StoreError, WrongProcess
from store.files import folder_bytes
from store.ids import commit_key, new_id
from store.lock import WriterLock
from store.reading import Reader, Result, Snapshot

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from store.duck import Params
    from store.tracking import Run
    from store.writing import Transaction

# Modules that only write are imported when somebody writes: opening a store is measured beside a bare DuckDB.


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreInfo:
    """What a store holds, told by its catalog alone. ``tables`` counts stored rows, replaced ones included."""

    path: Path
    format: int
    head: int
    tables: Mapping[str, int]
    hot: Mapping[str, int]
    segments: int
    packs: int
    bytes: int


class Store:
    """An open store; make one with :meth:`open`."""

    def __init__(self, path: Path, *, clock: Clock, read_only: bool) -> None:
        self.path, self.clock, self.read_only = path, clock, read_only
        self._pid, self._closed = os.getpid(), False
        self._lock = WriterLock(path / "lock")
        self._catalog = catalogs.Catalog(path, self._lock, read_only=read_only)
        self._reader = Reader(path, self._catalog, clock)
        self._finalizer = weakref.finalize(self, _close, self._pid, self._reader, self._catalog, self._lock)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        create: bool = True,
        read_only: bool = False,
        clock: Clock = system_clock,
    ) -> Store:
        """Open the store in a folder.

        Args:
            path: of the folder.
            create: make a new store when there is none.
            read_only: refuse every commit, and create nothing.
            clock: tells the time of commits and of "now".

        Raises:
            NotFound: there is no store and none was to be made.
            FormatTooNew: a newer release wrote the folder.
        """
        folder = Path(path).resolve()
        if not catalogs.exists(folder):
            if read_only or not create:
                raise NotFound(f"there is no store in {folder}", hint="open it with create=True to make one")
            lock = WriterLock(folder / "lock")
            try:
                catalogs.create(folder, lock, store_id=new_id(), at=to_micros(clock.now()))
            finally:
                lock.close()
        return cls(folder, clock=clock, read_only=read_only)

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
            return Snapshot(self._reader, self._catalog.snapshot_at(to_micros(moment)), self._guard)
        head = self._catalog.head()
        if not 0 <= moment <= head:
            raise NotFound(f"there is no snapshot {moment}, the newest is {head}")
        return Snapshot(self._reader, moment, self._guard)

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

    def runs(self, where: str | None = None, limit: int | None = None) -> pd.DataFrame:
        """Runs as pandas, the newest first; ``where`` is an SQL condition over ``runs``."""
        condition = f"\nWHERE (\n{where}\n)" if where else ""
        end = f"\nLIMIT {int(limit)}" if limit is not None else ""
        return self.sql(f"SELECT * FROM runs{condition}\nORDER BY started_at DESC, run_id DESC{end}").df()

    def blob(self, sha256: str) -> bytes:
        """The bytes of a stored blob, checked against the hash."""
        self._guard()
        from store import packs

        return packs.read(self.path, self._catalog.blob_place(sha256), sha256)

    def committed(self, commit_id: str) -> int | None:
        """The snapshot that a commit id made, if it was used."""
        self._guard()
        found = self._catalog.committed(commit_key(commit_id))
        return None if found is None else found[1]

    def committed_at(self, snapshot: int) -> datetime:
        """When a snapshot was committed."""
        self._guard()
        return from_micros(self._catalog.snapshot_time(snapshot))

    def info(self) -> StoreInfo:
        """What the store holds; asks the catalog alone."""
        self._guard()
        totals = self._catalog.totals()
        return StoreInfo(
            path=self.path,
            format=catalogs.FORMAT,
            head=totals["head"],
            tables=totals["tables"],
            hot=totals["hot"],
            segments=totals["segments"],
            packs=totals["packs"],
            bytes=folder_bytes(self.path),
        )

    # ---------------------------------------------------------------- writing

    def begin(self, *, commit_id: str | None = None, note: str = "") -> Transaction:
        """A transaction; with a commit id, committing the same again is harmless."""
        return self._begin(commit_id=commit_id, note=note)

    def _begin(self, *, commit_id: str | None = None, note: str = "", upkeep: bool = True) -> Transaction:
        self._guard()
        self._writable()
        from store.writing import Transaction

        after: Callable[[list[str]], Any] | None = self._flush_swollen if upkeep else None
        return Transaction(self._reader, commit_id=commit_id, note=note, guard=self._guard, upkeep=after)

    def run(
        self,
        asset: str,
        recipe: str,
        product: str = "default",
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
        library: str = "",
        kind: str = "manual",
    ) -> Run:
        """A run to log into: ``with store.run(asset="plant-7", recipe="my-gbm") as run: ...``."""
        self._guard()
        from store.tracking import Run

        return Run(
            self._begin, self.clock, asset=asset, recipe=recipe, product=product, params=params, tags=tags,
            library=library, kind=kind,
        )  # fmt: skip

    def flush(self) -> dict[str, int]:
        """Move hot rows into segments; rows moved per table. No question's answer changes."""
        self._guard()
        self._writable()
        from store import upkeep

        return upkeep.flush(self.path, self._catalog)

    def _flush_swollen(self, tables: list[str]) -> None:
        from store import upkeep

        upkeep.flush(self.path, self._catalog, tables)


def _close(pid: int, reader: Reader, catalog: catalogs.Catalog, lock: WriterLock) -> None:
    """Close what a store opened, also when it is forgotten or the interpreter ends: closing needs the lock."""
    if pid == os.getpid():  # a forked child must not touch its parent's connections
        reader.close()
        catalog.close()
        lock.close()
