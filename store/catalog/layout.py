"""How the catalog is laid out: its names and numbers, and the values it hands out."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from store.schema import FILED, STORED

FORMAT = 1
NAME = "catalog.sqlite"
PLACE_BITS = 20
MAX_HOT_ROWS = 1 << PLACE_BITS

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


class Retired(NamedTuple):
    """A file that a merge replaced: since when, and from which generation of the catalog on nobody plans over it."""

    id: str
    kind: str
    table: str
    at: int
    generation: int


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
        #: Per table the newest commit that wrote it.
        self.touched: dict[str, int] = {}
        self.hot: dict[str, HotRows | None] = {}
        #: Counts every change of any table's segments.
        self.generation = 0
        #: Per table the oldest snapshot that still shows all its rows; under "" the oldest of the whole store.
        self.oldest: dict[str, int] = {}


def quoted(name: str) -> str:
    """An identifier in double quotes, safe in SQL.

    >>> quoted('a"b')
    '"a""b"'
    """
    return '"' + name.replace('"', '""') + '"'


def hot_table(table: str) -> str:
    """The quoted name of the SQLite table that holds a logical table's hot rows."""
    return quoted("hot_" + table)


def head_of(connection: sqlite3.Connection) -> int:
    """The newest snapshot, 0 before the first."""
    return int(connection.execute("SELECT coalesce(max(id), 0) FROM snapshots").fetchone()[0])


def dynamic_of(connection: sqlite3.Connection, table: str) -> tuple[str, ...]:
    """The dynamic columns that a table has by now."""
    if FILED[table].dynamic is None:
        return ()
    return tuple(r[0] for r in connection.execute("SELECT name FROM dynamic_columns WHERE tbl = ?", (table,)))


def oldest_of(connection: sqlite3.Connection) -> dict[str, int]:
    """Per table the oldest snapshot that is whole, under "" that of the store; tables that lost nothing are absent."""
    rows = connection.execute("SELECT key, value FROM meta WHERE key >= 'oldest' AND key < 'oldest;'")
    return {key.partition(":")[2]: int(value) for key, value in rows}


def mark_of(connection: sqlite3.Connection, name: str, snapshot: int) -> str | None:
    """The value of a watermark as a snapshot left it."""
    row = connection.execute(
        "SELECT value FROM marks WHERE name = ? AND v <= ? ORDER BY v DESC LIMIT 1", (name, snapshot)
    ).fetchone()
    return None if row is None else str(row[0])


def committed_as(connection: sqlite3.Connection, key: bytes) -> tuple[bytes, int, str] | None:
    """(payload, snapshot, answer) of the commit with this key, if there was one."""
    row = connection.execute("SELECT payload, snapshot, answer FROM commits WHERE key = ?", (key,)).fetchone()
    return None if row is None else (row[0], row[1], row[2])


def held_of(connection: sqlite3.Connection, table: str, names: Sequence[str]) -> tuple[str, ...]:
    """Those of the columns that the hot table has: in a folder of an earlier release it may lack new ones.

    SQLite takes a quoted name that is no column for a text, so it must not be asked for one.
    """
    there = {row[0] for row in connection.execute("SELECT name FROM pragma_table_info(?)", ("hot_" + table,))}
    return tuple(name for name in names if name in there)


def hot_rows_of(connection: sqlite3.Connection, table: str, dynamic: Sequence[str], after: int) -> HotRows | None:
    """The hot rows of commits later than `after`, None when there are none."""
    names = held_of(connection, table, STORED[table].ordered(list(dynamic)))
    arrays = ", ".join(f"json_group_array({quoted(name)})" for name in names)
    query = (
        f"SELECT {arrays}, json_group_array(_n >> {PLACE_BITS}), max(_n) "
        f"FROM (SELECT * FROM {hot_table(table)} WHERE _n >= ? ORDER BY _n)"
    )
    *found, newest = connection.execute(query, ((after + 1) << PLACE_BITS,)).fetchone()
    return None if newest is None else HotRows((*names, "_v"), tuple(found), newest >> PLACE_BITS)
