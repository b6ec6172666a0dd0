"""The writing half of the catalog: statements of one commit, inside a transaction that somebody else ends."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from store.catalog.layout import (
    MAX_HOT_ROWS,
    PLACE_BITS,
    Columns,
    Segment,
    committed_as,
    dynamic_of,
    head_of,
    hot_table,
    quoted,
)
from store.errors import StoreError
from store.schema import STORED, Table

if TYPE_CHECKING:
    from store.packs import Pack


class Writer:
    """What one commit may do, inside the transaction that :meth:`Catalog.writing` opened."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._place: dict[str, int] = {}
        self.head = head_of(connection)

    def committed(self, key: bytes) -> tuple[bytes, int, str] | None:
        return committed_as(self._connection, key)

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
        statement = f"INSERT INTO {hot_table(table)} (_n{listed}) VALUES (?{marks})"
        self._connection.executemany(statement, zip(range(first, first + rows), *lists, strict=True))
        self._connection.execute(
            "UPDATE tables SET hot = hot + ?, touched = ? WHERE name = ?", (rows, self.head, table)
        )

    def _add_dynamic(self, table: Table, columns: Iterable[str]) -> None:
        brought = [name for name in columns if name not in table.by_name]
        if not brought:
            return
        known = set(dynamic_of(self._connection, table.name))
        for name in brought:
            if name not in known:
                self._connection.execute(f"ALTER TABLE {hot_table(table.name)} ADD COLUMN {quoted(name)}")
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
        ask = f"SELECT 1 FROM {hot_table(table.name)} WHERE {test} AND _n < ? LIMIT 1"
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
        gone = self._connection.execute(
            f"DELETE FROM {hot_table(table)} WHERE _n < ?", ((upto + 1) << PLACE_BITS,)
        ).rowcount
        self._connection.execute(
            "UPDATE tables SET hot = hot - ?, rewritten = rewritten + 1 WHERE name = ?", (gone, table)
        )
        return gone


def _texts(values: list[Any]) -> list[str | None]:
    # As text: SQLite's JSON writes reals with 15 digits, turns NaN into NULL and -0.0 into 0.0.
    return [None if value is None else repr(value) for value in values]
