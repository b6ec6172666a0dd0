"""The catalog as an open store holds it: its connections, what it answers, and the transaction of a commit."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from store.catalog.layout import (
    FORMAT,
    NAME,
    PLACE_BITS,
    Columns,
    Segment,
    State,
    committed_as,
    dynamic_of,
    head_of,
    hot_rows_of,
    hot_table,
    quoted,
)
from store.catalog.writer import Writer
from store.errors import Damaged, FormatTooNew, NotFound, ReadOnly, StoreBusy, StoreError
from store.lock import WriterLock
from store.schema import STORED, TABLES

_BUSY_S = 60.0


class Catalog:
    """The open catalog of one store in one process; threads may share it."""

    def __init__(self, folder: Path, lock: WriterLock, *, read_only: bool) -> None:
        self._path, self._lock, self._read_only = folder / NAME, lock, read_only
        self._reader_lock = threading.Lock()
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._segments: dict[str, tuple[int, tuple[Segment, ...]]] = {}
        with self.reading() as connection:
            self._check_format(connection)

    # ---------------------------------------------------------------- connections

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One consistent reading; short, and never while a question runs."""
        with self._reader_lock, self._translated():
            if self._reader is None:
                self._reader = self._connect_reader()
            self._reader.execute("BEGIN")
            try:
                yield self._reader
            finally:
                self._reader.execute("COMMIT")

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """One commit, under the writers' lock; an exception leaves the store as it was."""
        if self._read_only:
            raise ReadOnly(f"{self._path.parent} was opened for reading", hint="open it without read_only=True")
        with self._lock.held(), self._translated():
            if self._writer is None:
                self._writer = self._connect_writer()
            connection = self._writer
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield Writer(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close both connections; the writer's under the lock, for the last one to close checkpoints."""
        with self._reader_lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None
        if self._writer is not None:
            with self._lock.held():
                self._writer.close()
                self._writer = None

    def _connect_reader(self) -> sqlite3.Connection:
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_S)

    def _connect_writer(self) -> sqlite3.Connection:
        uri = f"{self._path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_S)
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as cause:
            if "locked" in str(cause) or "busy" in str(cause):
                raise StoreBusy(f"{self._path}: {cause}", hint="try again") from cause
            if "readonly" in str(cause):
                raise ReadOnly(f"{self._path}: {cause}") from cause
            if "full" in str(cause):
                raise StoreError(f"{self._path}: {cause}", hint="make room; nothing was committed") from cause
            raise Damaged(f"{self._path}: {cause}", hint="see the folder's permissions, or restore a backup") from cause
        except sqlite3.DatabaseError as cause:
            raise Damaged(f"{self._path}: {cause}", hint="restore a backup of the store") from cause

    def _check_format(self, connection: sqlite3.Connection) -> None:
        row = connection.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
        if row is None:
            raise Damaged(f"{self._path} names no format")
        if int(row[0]) > FORMAT:
            raise FormatTooNew(
                f"{self._path.parent} has format {row[0]}, this release reads up to {FORMAT}",
                hint="install a newer tsfleet",
            )

    # ---------------------------------------------------------------- questions

    def head(self) -> int:
        """The newest snapshot."""
        with self.reading() as connection:
            return head_of(connection)

    def snapshot_at(self, at: int) -> int:
        """The newest snapshot committed at or before an instant; 0 when there is none."""
        with self.reading() as connection:
            row = connection.execute("SELECT coalesce(max(id), 0) FROM snapshots WHERE at <= ?", (at,)).fetchone()
            return int(row[0])

    def blob_place(self, sha256: str) -> tuple[str, int, int]:
        """(pack, start, length) of a blob."""
        with self.reading() as connection:
            row = connection.execute("SELECT pack, start, length FROM blobs WHERE sha256 = ?", (sha256,)).fetchone()
        if row is None:
            raise NotFound(f"no blob has the hash {sha256!r}")
        return row[0], row[1], row[2]

    def known_blobs(self, hashes: Iterable[str]) -> set[str]:
        """Those of the hashes that are stored already."""
        with self.reading() as connection:
            ask = "SELECT 1 FROM blobs WHERE sha256 = ?"
            return {one for one in hashes if connection.execute(ask, (one,)).fetchone()}

    def state(self, tables: Iterable[str], *, loaded: Mapping[str, tuple[int, int]] | None = None) -> State:
        """What a question over these tables needs to know, in one reading.

        Args:
            tables: stored names.
            loaded: for tables whose hot rows are wanted: (rewritten, newest _v) of what the caller holds already.
        """
        with self.reading() as connection:
            state = State(head=head_of(connection))
            marks = {name: marks for name, *marks in connection.execute(_MARKS)}
            for name in tables:
                hot, moved, files = marks[name]
                state.hot_count[name], state.rewritten[name] = hot, moved
                state.segments[name] = self._segments_of(connection, name, files)
                state.dynamic[name] = dynamic_of(connection, name)
                if loaded is not None:
                    rewritten, newest = loaded.get(name, (-1, 0))
                    after = newest if rewritten == moved else 0
                    state.hot[name] = hot_rows_of(connection, name, state.dynamic[name], after) if hot else None
            return state

    def totals(self) -> dict[str, Any]:
        """Counts for ``Store.info``: rows and hot rows per table, segments, packs."""
        with self.reading() as connection:
            hot = dict(connection.execute("SELECT name, hot FROM tables"))
            cold = dict(connection.execute("SELECT tbl, sum(rows) FROM segments GROUP BY tbl"))
            return {
                "head": head_of(connection),
                "hot": {name: hot[name] for name in TABLES},
                "tables": {name: hot[name] + cold.get(name, 0) for name in TABLES},
                "segments": connection.execute("SELECT count(*) FROM segments").fetchone()[0],
                "packs": connection.execute("SELECT count(*) FROM packs").fetchone()[0],
            }

    def hot_rows(self, table: str) -> tuple[int, Columns]:
        """(head, columns): every hot row of a table, ``_v`` among the columns."""
        with self.reading() as connection:
            declared = STORED[table]
            names = declared.ordered(list(dynamic_of(connection, table)))
            listed = "".join(f", {quoted(name)}" for name in names)
            rows = connection.execute(
                f"SELECT _n >> {PLACE_BITS}{listed} FROM {hot_table(table)} ORDER BY _n"
            ).fetchall()
            head = head_of(connection)
        lists = [list(values) for values in zip(*rows, strict=True)] or [[] for _ in range(len(names) + 1)]
        columns = dict(zip(("_v", *names), lists, strict=True))
        for name in names:
            if declared.column(name).kind == "double":  # type: ignore[union-attr]
                columns[name] = [None if value is None else float(value) for value in columns[name]]
        return head, columns

    def committed(self, key: bytes) -> tuple[bytes, int, str] | None:
        """(payload, snapshot, answer) of an earlier commit with this key."""
        with self.reading() as connection:
            return committed_as(connection, key)

    def mark(self, name: str, snapshot: int) -> str | None:
        """The value of a watermark as a snapshot left it."""
        with self.reading() as connection:
            row = connection.execute(
                "SELECT value FROM marks WHERE name = ? AND v <= ? ORDER BY v DESC LIMIT 1", (name, snapshot)
            ).fetchone()
        return None if row is None else str(row[0])

    def snapshot_time(self, snapshot: int) -> int:
        """When a snapshot was committed."""
        with self.reading() as connection:
            row = connection.execute("SELECT at FROM snapshots WHERE id = ?", (snapshot,)).fetchone()
        if row is None:
            raise NotFound(f"there is no snapshot {snapshot}")
        return int(row[0])

    def _segments_of(self, connection: sqlite3.Connection, name: str, files: int) -> tuple[Segment, ...]:
        held = self._segments.get(name)
        if held is not None and held[0] == files:
            return held[1]
        rows = connection.execute(_SEGMENTS, (name,))
        found = tuple(
            Segment(
                id=r[0], table=name, level=r[1], v=r[2], min_v=r[3], max_v=r[4], rows=r[5], bytes=r[6], sha256=r[7],
                columns=tuple(json.loads(r[8])), min_asset=r[9], max_asset=r[10], min_time=r[11], max_time=r[12],
            )
            for r in rows
        )  # fmt: skip
        self._segments[name] = (files, found)
        return found


_MARKS = "SELECT name, hot, rewritten, files FROM tables"
_SEGMENTS = """
SELECT id, level, v, min_v, max_v, rows, bytes, sha256, columns, min_asset, max_asset, min_time, max_time
FROM segments WHERE tbl = ? ORDER BY min_asset, id
"""
