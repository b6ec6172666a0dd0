"""The catalog: the only file that decides what a store holds, and the only module that speaks SQLite.

A commit is one SQLite transaction under the writers' lock: its snapshot row, hot rows, segment and pack rows become
visible together or not at all. Readers use a connection of their own that cannot write and never checkpoints.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from store.errors import Damaged, FormatTooNew, NotFound, ReadOnly, StoreBusy, StoreError
from store.files import make_folder, sync_folder
from store.lock import WriterLock
from store.schema import STORED, TABLES, Table

if TYPE_CHECKING:
    from store.packs import Pack

FORMAT = 1
NAME = "catalog.sqlite"
PLACE_BITS = 20
MAX_HOT_ROWS = 1 << PLACE_BITS
_BUSY_S = 60.0

#: Rows on their way to or from hot tables: one list per column, in the store's own representation
#: (text, float, int, microseconds, days), None for NULL.
Columns = dict[str, list[Any]]


# The values of the reading path are NamedTuples: a frozen dataclass takes five times as long to define, and opening a
# store is measured beside a bare DuckDB.
class Segment(NamedTuple):
    """What the catalog knows about one immutable Parquet file."""

    id: str
    table: str
    level: int
    v: int | None
    min_v: int
    max_v: int
    rows: int
    bytes: int
    sha256: str
    columns: tuple[str, ...]
    min_asset: str | None = None
    max_asset: str | None = None
    min_time: int | None = None
    max_time: int | None = None


class HotRows(NamedTuple):
    """New hot rows of a table as JSON arrays, one per column, ready for DuckDB; ``_v`` comes last."""

    names: tuple[str, ...]
    arrays: tuple[str, ...]
    newest: int


class State:
    """One short reading of the catalog: consistent, because it was one SQLite transaction."""

    def __init__(self, head: int) -> None:
        self.head = head
        self.segments: dict[str, tuple[Segment, ...]] = {}
        self.dynamic: dict[str, tuple[str, ...]] = {}
        self.hot_count: dict[str, int] = {}
        self.rewritten: dict[str, int] = {}
        self.hot: dict[str, HotRows | None] = {}


def quoted(name: str) -> str:
    """An identifier in double quotes, safe in SQL.

    >>> quoted('a"b')
    '"a""b"'
    """
    return '"' + name.replace('"', '""') + '"'


def exists(folder: Path) -> bool:
    """Whether a folder holds a finished catalog."""
    return (folder / NAME).is_file()


def create(folder: Path, lock: WriterLock, *, store_id: str, at: int) -> None:
    """Make the catalog of a new store; several processes may try at once and one does it."""
    make_folder(folder)
    with lock.held():
        if exists(folder):
            return
        strangers = sorted(p.name for p in folder.iterdir() if p.name != "lock" and not p.name.startswith(NAME))
        if strangers:
            raise StoreError(
                f"{folder} is no store but holds {len(strangers)} other entries ({', '.join(strangers[:3])})",
                hint="name an empty or a new folder",
            )
        # Built under another name: a catalog under its own name is always complete.
        making = folder / (NAME + ".new")
        for leftover in (making, folder / (NAME + ".new-journal")):
            leftover.unlink(missing_ok=True)
        _build(making, store_id, at)
        making.rename(folder / NAME)
        sync_folder(folder)


def _build(path: Path, store_id: str, at: int) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        script = (Path(__file__).parent / "sql" / "catalog.sql").read_text(encoding="utf-8")
        hot = "\n".join(_hot_ddl(table) for table in STORED.values())
        connection.executescript(f"BEGIN;\n{script}\n{hot}")
        meta = {"format": str(FORMAT), "store_id": store_id, "created_at": str(at)}
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        connection.executemany("INSERT INTO tables (name) VALUES (?)", [(name,) for name in STORED])
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()


def _hot_ddl(table: Table) -> str:
    # Columns without a declared type: SQLite then keeps every value as given ('inf' stays text).
    columns = ", ".join(quoted(name) for name in table.names)
    index = [name for name in table.key if name in table.by_name]
    lines = [f"CREATE TABLE {_hot(table.name)} (_n INTEGER PRIMARY KEY, {columns});"]
    if index:
        keys = ", ".join(quoted(name) for name in index)
        lines.append(f"CREATE INDEX {quoted('key_' + table.name)} ON {_hot(table.name)} ({keys});")
    return "\n".join(lines)


def _hot(table: str) -> str:
    return quoted("hot_" + table)


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
            return _head(connection)

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
            state = State(head=_head(connection))
            marks = {name: marks for name, *marks in connection.execute(_MARKS)}
            for name in tables:
                hot, moved, files = marks[name]
                state.hot_count[name], state.rewritten[name] = hot, moved
                state.segments[name] = self._segments_of(connection, name, files)
                state.dynamic[name] = _dynamic(connection, name)
                if loaded is not None:
                    rewritten, newest = loaded.get(name, (-1, 0))
                    after = newest if rewritten == moved else 0
                    state.hot[name] = _hot_rows(connection, name, state.dynamic[name], after) if hot else None
            return state

    def totals(self) -> dict[str, Any]:
        """Counts for ``Store.info``: rows and hot rows per table, segments, packs."""
        with self.reading() as connection:
            hot = dict(connection.execute("SELECT name, hot FROM tables"))
            cold = dict(connection.execute("SELECT tbl, sum(rows) FROM segments GROUP BY tbl"))
            return {
                "head": _head(connection),
                "hot": {name: hot[name] for name in TABLES},
                "tables": {name: hot[name] + cold.get(name, 0) for name in TABLES},
                "segments": connection.execute("SELECT count(*) FROM segments").fetchone()[0],
                "packs": connection.execute("SELECT count(*) FROM packs").fetchone()[0],
            }

    def hot_rows(self, table: str) -> tuple[int, Columns]:
        """(head, columns): every hot row of a table, ``_v`` among the columns."""
        with self.reading() as connection:
            declared = STORED[table]
            names = declared.ordered(list(_dynamic(connection, table)))
            listed = "".join(f", {quoted(name)}" for name in names)
            rows = connection.execute(f"SELECT _n >> {PLACE_BITS}{listed} FROM {_hot(table)} ORDER BY _n").fetchall()
            head = _head(connection)
        lists = [list(values) for values in zip(*rows, strict=True)] or [[] for _ in range(len(names) + 1)]
        columns = dict(zip(("_v", *names), lists, strict=True))
        for name in names:
            if declared.column(name).kind == "double":  # type: ignore[union-attr]
                columns[name] = [None if value is None else float(value) for value in columns[name]]
        return head, columns

    def committed(self, key: bytes) -> tuple[bytes, int, str] | None:
        """(payload, snapshot, answer) of an earlier commit with this key."""
        with self.reading() as connection:
            return _committed(connection, key)

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


def _head(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(id), 0) FROM snapshots").fetchone()[0])


def _dynamic(connection: sqlite3.Connection, table: str) -> tuple[str, ...]:
    if STORED[table].dynamic is None:
        return ()
    return tuple(r[0] for r in connection.execute("SELECT name FROM dynamic_columns WHERE tbl = ?", (table,)))


def _committed(connection: sqlite3.Connection, key: bytes) -> tuple[bytes, int, str] | None:
    row = connection.execute("SELECT payload, snapshot, answer FROM commits WHERE key = ?", (key,)).fetchone()
    return None if row is None else (row[0], row[1], row[2])


def _hot_rows(connection: sqlite3.Connection, table: str, dynamic: Sequence[str], after: int) -> HotRows | None:
    names = STORED[table].ordered(list(dynamic))
    arrays = ", ".join(f"json_group_array({quoted(name)})" for name in names)
    query = (
        f"SELECT {arrays}, json_group_array(_n >> {PLACE_BITS}), max(_n) "
        f"FROM (SELECT * FROM {_hot(table)} WHERE _n >= ? ORDER BY _n)"
    )
    *found, newest = connection.execute(query, ((after + 1) << PLACE_BITS,)).fetchone()
    return None if newest is None else HotRows((*names, "_v"), tuple(found), newest >> PLACE_BITS)


class Writer:
    """What one commit may do, inside the transaction that :meth:`Catalog.writing` opened."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._place: dict[str, int] = {}
        self.head = _head(connection)

    def committed(self, key: bytes) -> tuple[bytes, int, str] | None:
        return _committed(self._connection, key)

    def touched_after(self, table: str, snapshot: int) -> bool:
        """Whether a commit later than a snapshot wrote this table."""
        row = self._connection.execute("SELECT touched FROM tables WHERE name = ?", (table,)).fetchone()
        return int(row[0]) > snapshot

    def begin(self, at: int, note: str) -> int:
        """Add the snapshot row; its number is the ``_v`` of every row of this commit."""
        self.head += 1
        self._connection.execute("INSERT INTO snapshots VALUES (?, ?, ?)", (self.head, at, note))
        return self.head

    def set_mark(self, name: str, value: str) -> None:
        self._connection.execute("INSERT INTO marks VALUES (?, ?, ?)", (name, self.head, value))

    def remember(self, key: bytes, payload: bytes, answer: str) -> None:
        self._connection.execute("INSERT INTO commits VALUES (?, ?, ?, ?)", (key, payload, self.head, answer))

    def add_hot(self, table: str, columns: Columns, rows: int) -> None:
        """Insert hot rows of this commit."""
        declared = STORED[table]
        self._add_dynamic(declared, columns)
        at = self._place.get(table, 0)
        if at + rows > MAX_HOT_ROWS:
            raise StoreError(f"{at + rows} hot rows of {table} in one commit, {MAX_HOT_ROWS} is the most")
        self._place[table] = at + rows
        first = (self.head << PLACE_BITS) | at
        names = list(columns)
        lists = [_texts(columns[n]) if declared.column(n).kind == "double" else columns[n] for n in names]  # type: ignore[union-attr]
        listed = "".join(f", {quoted(name)}" for name in names)
        marks = ", ?" * len(names)
        statement = f"INSERT INTO {_hot(table)} (_n{listed}) VALUES (?{marks})"
        self._connection.executemany(statement, zip(range(first, first + rows), *lists, strict=True))
        self._connection.execute(
            "UPDATE tables SET hot = hot + ?, touched = ? WHERE name = ?", (rows, self.head, table)
        )

    def _add_dynamic(self, table: Table, columns: Iterable[str]) -> None:
        brought = [name for name in columns if name not in table.by_name]
        if not brought:
            return
        known = set(_dynamic(self._connection, table.name))
        for name in brought:
            if name not in known:
                self._connection.execute(f"ALTER TABLE {_hot(table.name)} ADD COLUMN {quoted(name)}")
                self._connection.execute("INSERT INTO dynamic_columns VALUES (?, ?)", (table.name, name))
                self._connection.execute("UPDATE tables SET rewritten = rewritten + 1 WHERE name = ?", (table.name,))

    def add_segment(self, segment: Segment) -> None:
        declared = STORED[segment.table]
        self._add_dynamic(declared, (name for name in segment.columns if name != "_v"))
        self._connection.execute(
            "INSERT INTO segments (id, tbl, level, v, min_v, max_v, rows, bytes, sha256, columns, "
            "min_asset, max_asset, min_time, max_time) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                segment.id, segment.table, segment.level, segment.v, segment.min_v, segment.max_v, segment.rows,
                segment.bytes, segment.sha256, json.dumps(segment.columns), segment.min_asset, segment.max_asset,
                segment.min_time, segment.max_time,
            ),
        )  # fmt: skip
        self._connection.execute(
            "UPDATE tables SET files = files + 1, touched = max(touched, ?) WHERE name = ?",
            (segment.max_v, segment.table),
        )

    def add_pack(self, pack: Pack) -> None:
        self._connection.execute("INSERT INTO packs VALUES (?, ?, ?, ?)", (pack.id, pack.bytes, pack.sha256, self.head))
        self._connection.executemany(
            "INSERT OR IGNORE INTO blobs VALUES (?, ?, ?, ?)",
            [(sha, pack.id, start, length) for sha, start, length in pack.blobs],
        )

    def hot_keys(self, table: Table, keys: Sequence[tuple[Any, ...]]) -> list[bool]:
        """For each key, whether an older hot row has it."""
        test = " AND ".join(f"{quoted(name)} IS ?" for name in table.key)
        ask = f"SELECT 1 FROM {_hot(table.name)} WHERE {test} AND _n < ? LIMIT 1"
        below = self.head << PLACE_BITS
        execute = self._connection.execute
        return [execute(ask, (*key, below)).fetchone() is not None for key in keys]

    def segments(self, table: str) -> list[tuple[str | None, str | None, int | None, int | None]]:
        """(min_asset, max_asset, min_time, max_time) of each segment of a table."""
        ask = "SELECT min_asset, max_asset, min_time, max_time FROM segments WHERE tbl = ?"
        return list(self._connection.execute(ask, (table,)))

    def champion(self, asset_id: str, product: str) -> str | None:
        row = self._connection.execute(
            "SELECT version_id FROM champions WHERE asset_id = ? AND product = ?", (asset_id, product)
        ).fetchone()
        return None if row is None else row[0]

    def set_champion(self, asset_id: str, product: str, version_id: str | None) -> None:
        self._connection.execute(
            "INSERT INTO champions VALUES (?, ?, ?) "
            "ON CONFLICT (asset_id, product) DO UPDATE SET version_id = excluded.version_id",
            (asset_id, product, version_id),
        )

    def swollen(self, rows: int) -> list[str]:
        """The tables with at least so many hot rows."""
        return [row[0] for row in self._connection.execute("SELECT name FROM tables WHERE hot >= ?", (rows,))]

    def drop_hot(self, table: str, upto: int) -> int:
        """Take hot rows up to a snapshot away (they are in a segment now); how many."""
        gone = self._connection.execute(f"DELETE FROM {_hot(table)} WHERE _n < ?", ((upto + 1) << PLACE_BITS,)).rowcount
        self._connection.execute(
            "UPDATE tables SET hot = hot - ?, rewritten = rewritten + 1 WHERE name = ?", (gone, table)
        )
        return gone


def _texts(values: list[Any]) -> list[str | None]:
    # As text: SQLite's JSON writes reals with 15 digits, turns NaN into NULL and -0.0 into 0.0.
    return [None if value is None else repr(value) for value in values]
