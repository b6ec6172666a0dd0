"""The catalog as an open store holds it: its connections, what it answers, and the transaction of a commit."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from store.catalog.layout import (
    FORMAT,
    NAME,
    PLACE_BITS,
    Columns,
    Retired,
    Segment,
    State,
    committed_as,
    dynamic_of,
    head_of,
    held_of,
    hot_rows_of,
    hot_table,
    mark_of,
    oldest_of,
    quoted,
)
from store.catalog.making import upgrade
from store.catalog.meaning import RESTORE, sensible, translated
from store.catalog.writer import Writer
from store.clock import from_micros
from store.errors import Damaged, FormatTooNew, NotFound, ReadOnly, SnapshotExpired, StoreBusy
from store.files import check_local, is_local, sync_folder, told
from store.lock import WriterLock
from store.schema import STORED, TABLES

if TYPE_CHECKING:
    from store.catalog.checking import Fault
    from store.catalog.removing import Remover
    from store.letters import Mailbox

_BUSY_S = 60.0

W = TypeVar("W", bound=Writer)


class Catalog:
    """The open catalog of one store in one process; threads may share it."""

    def __init__(self, folder: Path, lock: WriterLock, *, read_only: bool) -> None:
        self._path, self._lock, self._read_only = folder / NAME, lock, read_only
        self._reader_lock = threading.Lock()
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._log = folder / (NAME + "-wal")
        self._mailbox: Mailbox | None = None
        #: What the files of a catalog looked like that is read as one that nobody changes; None where SQLite looks.
        self._still: tuple[int, ...] | None = None
        self._segments: dict[str, tuple[int, tuple[Segment, ...]]] = {}
        with self.reading() as connection:
            self._check_format(connection)

    # ---------------------------------------------------------------- connections

    @property
    def path(self) -> Path:
        """Of the catalog's file."""
        return self._path

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One consistent reading; short, and never while a question runs."""
        with self._reader_lock, translated(self._path):
            if self._reader is not None and self._still not in (None, self._looks()):
                self._reader.close()
                self._reader = None
            if self._reader is None:
                self._reader, self._still = self._connect_reader()
            self._reader.execute("BEGIN")
            try:
                yield self._reader
            finally:
                self._reader.execute("COMMIT")
            self._check_still(self._still)

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """One commit, under the writers' lock; an exception leaves the store as it was."""
        with self._transaction(Writer) as writer:
            yield writer

    @contextmanager
    def removing(self) -> Iterator[Remover]:
        """As :meth:`writing`, for what takes rows away that earlier commits wrote."""
        from store.catalog.removing import Remover

        with self._transaction(Remover) as remover:
            yield remover

    @property
    def lock(self) -> WriterLock:
        """The writers' lock."""
        return self._lock

    @property
    def mailbox(self) -> Mailbox:
        """Of this open store: what waits for another writer, or for this one."""
        if self._mailbox is None:
            from store.letters import Mailbox  # not before somebody writes: opening is measured

            self._mailbox = Mailbox(self._path.parent)
        return self._mailbox

    def told(self) -> dict[str, list[int]]:
        """See :meth:`Writer.told`."""
        with self.reading() as connection:
            return Writer(connection).told()

    def sync_log(self) -> None:
        """Make what others committed durable: one that was killed may have left that to the system."""
        with suppress(FileNotFoundError), told(self._log), self._log.open("rb") as log:
            os.fsync(log.fileno())

    def compact(self, wait_s: float) -> bool:
        """See :func:`store.catalog.removing.compact`."""
        from store.catalog.removing import compact

        with self._writing_connection() as connection:
            return compact(connection, wait_s)

    @contextmanager
    def _transaction(self, kind: type[W]) -> Iterator[W]:
        with self._writing_connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                writer = kind(connection)
                yield writer
                writer.finish()
                connection.execute("COMMIT")
                self._lock.note(writer.head)
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _writing_connection(self) -> Iterator[sqlite3.Connection]:
        """The writer's connection, under the writers' lock."""
        if self._read_only:
            raise ReadOnly(f"{self._path.parent} was opened for reading", hint="open it without read_only=True")
        with self._lock.held(), translated(self._path, writing=True):
            if self._writer is None:
                self._writer = self._connect_writer()
            yield self._writer

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
        if self._mailbox is not None:
            self._mailbox.close()

    def _connect_reader(self) -> tuple[sqlite3.Connection, tuple[int, ...] | None]:
        """A connection, and what the files must go on looking like when it takes them for unchanging."""
        folder = self._path.parent
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        still = None
        if not os.access(folder, os.W_OK) or not is_local(folder):
            # SQLite wants to share an index of the log beside it. Without a log there is nothing to share: the file is
            # read as it stands, and looked at before and after, for its owner may write again.
            looks = self._looks()
            if looks[-1] == 0:
                still = looks
                uri += "&immutable=1"
            else:
                check_local(folder, "its writer has not ended, or did not end well")
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_S)
        return connection, still

    def _check_still(self, still: tuple[int, ...] | None) -> None:
        if still not in (None, self._looks()):
            raise StoreBusy(f"{self._path} was changed while it was read", hint="ask again")

    def _connect_writer(self) -> sqlite3.Connection:
        check_local(self._path.parent, "it cannot be written there")
        uri = f"{self._path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_S)
        connection.execute("PRAGMA synchronous = FULL")
        upgrade(connection)
        return connection

    def _looks(self) -> tuple[int, ...]:
        """Time, size and number of the catalog's file, then the size of its log."""
        seen = self._path.stat()
        try:
            log = self._log.stat().st_size
        except FileNotFoundError:
            log = 0
        return seen.st_mtime_ns, seen.st_size, seen.st_ino, log

    def _check_format(self, connection: sqlite3.Connection) -> None:
        row = connection.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
        if row is None or not str(row[0]).isdecimal():
            raise Damaged(f"{self._path} names no format", hint=RESTORE)
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

    def check_head(self) -> None:
        """Refuse a catalog that lacks its newest commits: SQLite ends a log, without a word, where it is damaged.

        Raises:
            Damaged: says how many are gone.
        """
        known = self._lock.noted()  # before the head is: a commit is noted when it is done
        head = self.head()
        if known > head:
            raise Damaged(f"{self._path}: {_lacks(head, known)}", hint=_WITHOUT)

    def snapshot_at(self, at: int) -> int:
        """The newest snapshot committed at or before an instant; 0 when there is none."""
        with self.reading() as connection:
            row = connection.execute("SELECT coalesce(max(id), 0) FROM snapshots WHERE at <= ?", (at,)).fetchone()
            return int(row[0])

    def blob_places(self, hashes: Iterable[str]) -> dict[str, tuple[str, int, int]]:
        """(pack, start, length) of each of the blobs that are stored, by hash."""
        ask = "SELECT pack, start, length FROM blobs WHERE sha256 = ?"
        with self.reading() as connection:
            found = {one: connection.execute(ask, (one,)).fetchone() for one in set(hashes)}
        return {one: (row[0], row[1], row[2]) for one, row in found.items() if row is not None}

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
        with self.reading() as connection, sensible(self._path):
            state = State(head=head_of(connection))
            state.oldest = oldest_of(connection)
            marks = {name: marks for name, *marks in connection.execute(_MARKS)}
            state.generation = sum(files for _, _, files, _ in marks.values())
            for name in tables:
                # No mark: a derived table before it was first made, or a table newer than the last writer.
                hot, moved, files, state.touched[name] = marks.get(name, _NEVER)
                state.hot_count[name], state.rewritten[name] = hot, moved
                state.segments[name] = self._segments_of(connection, name, files)
                state.dynamic[name] = dynamic_of(connection, name)
                if loaded is not None:
                    rewritten, newest = loaded.get(name, (-1, 0))
                    after = newest if rewritten == moved else 0
                    state.hot[name] = hot_rows_of(connection, name, state.dynamic[name], after) if hot else None
            return state

    def totals(self) -> dict[str, Any]:
        """Counts for ``Store.info``: rows, hot rows and segments per table, packs, retired files."""
        with self.reading() as connection:
            hot = dict(connection.execute("SELECT name, hot FROM tables"))
            cold = dict(connection.execute("SELECT tbl, sum(rows) FROM segments GROUP BY tbl"))
            return {
                "head": head_of(connection),
                "hot": {name: hot.get(name, 0) for name in TABLES},
                "tables": {name: hot.get(name, 0) + cold.get(name, 0) for name in TABLES},
                "segments": connection.execute("SELECT count(*) FROM segments").fetchone()[0],
                "packs": connection.execute("SELECT count(*) FROM packs").fetchone()[0],
            }

    def hot_rows(self, table: str) -> tuple[int, Columns]:
        """(head, columns): every hot row of a table, ``_v`` among the columns."""
        with self.reading() as connection:
            declared = STORED[table]
            every = declared.ordered(list(dynamic_of(connection, table)))
            names = held_of(connection, table, every)
            if not names:
                return head_of(connection), {name: [] for name in ("_v", *every)}
            listed = "".join(f", {quoted(name)}" for name in names)
            rows = connection.execute(f"SELECT _n{listed} FROM {hot_table(table)} ORDER BY _n").fetchall()
            lists = [list(values) for values in zip(*rows, strict=True)] or [[] for _ in range(len(names) + 1)]
            places, columns = lists[0], dict(zip(names, lists[1:], strict=True))
            from store.catalog import checking

            # What goes into a segment gets a hash of its own: damage must not come along.
            wrong = checking.damaged_commit(connection, table, places, columns)
            if wrong is not None:
                raise Damaged(
                    f"the hot rows of {table} in {self._path} that commit {wrong} brought are not what was written",
                    hint=RESTORE,
                )
            head = head_of(connection)
        columns |= {name: [None] * len(rows) for name in every if name not in columns}
        for name in names:
            if declared.column(name).kind == "double":  # type: ignore[union-attr]
                columns[name] = [None if value is None else float(value) for value in columns[name]]
        return head, {"_v": [place >> PLACE_BITS for place in places]} | columns

    def committed(self, key: bytes) -> tuple[bytes, int, str] | None:
        """(payload, snapshot, answer) of an earlier commit with this key."""
        with self.reading() as connection:
            return committed_as(connection, key)

    def mark(self, name: str, snapshot: int) -> str | None:
        """The value of a watermark as a snapshot left it."""
        with self.reading() as connection:
            return mark_of(connection, name, snapshot)

    def snapshot_time(self, snapshot: int) -> int:
        """When a snapshot was committed."""
        with self.reading() as connection:
            row = connection.execute("SELECT at FROM snapshots WHERE id = ?", (snapshot,)).fetchone()
        if row is None:
            raise NotFound(f"there is no snapshot {snapshot}")
        return int(row[0])

    # ---------------------------------------------------------------- what upkeep asks

    def admit(self, snapshot: int, oldest: Mapping[str, int] | None = None, tables: Iterable[str] = ("",)) -> None:
        """Refuse a snapshot that has ended, or at which a table is no longer whole.

        Args:
            snapshot: that is asked about.
            oldest: as a state holds it; read anew when absent.
            tables: stored names, "" for the store as such.

        Raises:
            SnapshotExpired: names the table, the oldest snapshot that is whole and when it was.
        """
        if oldest is None:
            with self.reading() as connection:
                oldest = oldest_of(connection)
        for table in tables:
            whole = oldest.get(table, 0)
            if snapshot < whole:
                at = from_micros(self.snapshot_time(whole)).isoformat()
                what = f"{table} is no longer whole at snapshot {snapshot}" if table else f"snapshot {snapshot} ended"
                raise SnapshotExpired(
                    f"{what}: the oldest that is whole is {whole}, of {at}", hint=f"ask snapshot {whole} or a newer one"
                )

    def segments(self, table: str) -> tuple[Segment, ...]:
        """The segments of a table as they are now."""
        return self.state([table]).segments[table]

    def retired(self) -> list[Retired]:
        """Files that a merge replaced and that are still to be deleted."""
        with self.reading() as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'retired'").fetchone():
                return []  # an earlier release made the folder and nobody has written since
            return [Retired(*row) for row in connection.execute("SELECT id, kind, tbl, at, generation FROM retired")]

    def named(self, kind: str) -> set[str]:
        """The ids of all segments, or of all packs, that the catalog names or has retired."""
        with self.reading() as connection:
            known = {row[0] for row in connection.execute(f"SELECT id FROM {kind}s")}
        return known | {one.id for one in self.retired()}

    def pack_blobs(self) -> dict[str, list[tuple[str, int, int]]]:
        """(hash, start, length) of the blobs of each pack, in the order in which they lie."""
        with self.reading() as connection:
            found: dict[str, list[tuple[str, int, int]]] = {
                one: [] for (one,) in connection.execute("SELECT id FROM packs")
            }
            for pack, *blob in connection.execute("SELECT pack, sha256, start, length FROM blobs ORDER BY pack, start"):
                found[pack].append((blob[0], blob[1], blob[2]))
        return found

    def packs(self) -> list[tuple[str, int, str]]:
        """(id, bytes, sha256) of every pack."""
        with self.reading() as connection:
            return list(connection.execute("SELECT id, bytes, sha256 FROM packs ORDER BY id"))

    def blobs_in(self, pack: str) -> list[str]:
        """The hashes of the blobs that lie in a pack."""
        with self.reading() as connection:
            return [row[0] for row in connection.execute("SELECT sha256 FROM blobs WHERE pack = ?", (pack,))]

    def faults(self) -> Iterator[Fault]:
        """What is damaged in the catalog itself, on a connection of its own."""
        from store.catalog import checking

        with translated(self._path):
            connection, still = self._connect_reader()
            try:
                known = self._lock.noted()
                connection.execute("BEGIN")
                head = head_of(connection)
                if known > head:
                    yield checking.Fault(_lacks(head, known))
                yield from checking.faults(connection)
            finally:
                connection.close()
            self._check_still(still)

    def has_digests(self) -> bool:
        """Whether the catalog's own rows can be checked; see :func:`sums.present`."""
        from store.catalog import sums

        with self.reading() as connection:
            return sums.present(connection)

    def copy(self, path: Path) -> None:
        """Write the catalog as one commit left it to a new file; others may commit meanwhile."""
        with translated(self._path, writing=True):
            source, still = self._connect_reader()
            try:
                target = sqlite3.connect(path, isolation_level=None)
                try:
                    source.backup(target)  # all pages in one step: one snapshot, and no beginning anew
                finally:
                    target.close()
            finally:
                source.close()
            self._check_still(still)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        sync_folder(path.parent)

    def swollen(self, rows: int, before: int) -> list[str]:
        """See :meth:`Writer.swollen`."""
        with self.reading() as connection:
            return Writer(connection).swollen(rows, before)

    def commits_between(self, after: int, upto: int) -> list[tuple[int, int, str]]:
        """(snapshot, at, note) of the commits later than one snapshot, up to another."""
        with self.reading() as connection:
            ask = "SELECT id, at, note FROM snapshots WHERE id > ? AND id <= ? ORDER BY id"
            return list(connection.execute(ask, (after, upto)))

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


def _lacks(head: int, known: int) -> str:
    return (
        f"it ends with snapshot {head}, and the {known - head} commits after it were acknowledged: its log is damaged"
    )


_WITHOUT = (
    "restore a backup, or read what is left with Store.open(..., skip_damaged=True); without the file `lock` beside "
    "the catalog the store opens, and goes on, without them"
)
_MARKS = "SELECT name, hot, rewritten, files, touched FROM tables"
_NEVER = [0, 0, 0, 0]
_SEGMENTS = """
SELECT id, level, v, min_v, max_v, rows, bytes, sha256, columns, min_asset, max_asset, min_time, max_time
FROM segments WHERE tbl = ? ORDER BY min_asset, id
"""
