"""Digests over what the catalog holds: SQLite's pages have no checksums, so a flipped bit in a row would go unseen.

Each batch of hot rows has a digest of its own, which names the commit. Every other table has one sum (an exclusive or)
over the digests of its rows, which does not care for their order, so that a commit adds what it brings and takes off
what it removes. A row that changed on disk stays in the sum as it was written: no later commit can hide it. ``tables``
alone has none, for every commit changes several of its rows: what it says can be counted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from operator import xor
from typing import Any

from store.catalog.layout import PLACE_BITS, hot_table
from store.schema import STORED

#: The tables with a sum; ``schema`` stands for the statements that made them all.
SUMMED = (
    "meta", "snapshots", "commits", "segments", "packs", "blobs", "champions", "marks", "dynamic_columns", "retired",
)  # fmt: skip
SCHEMA = "schema"
_BYTES = 8


def _digest(value: object) -> bytes:
    from hashlib import blake2b  # not before somebody writes: opening is measured

    return blake2b(repr(value).encode(), digest_size=_BYTES).digest()


def weight(row: Sequence[Any]) -> int:
    """What one row adds to the sum of its table, and takes off again; 64 bits, signed as SQLite has them.

    >>> weight(("a", 1)) == weight(["a", 1]) != weight(("a", 2))
    True
    """
    return int.from_bytes(_digest(tuple(row)), "big", signed=True)


def batch_digest(columns: Mapping[str, Sequence[Any]]) -> bytes:
    """The digest of hot rows, as SQLite holds them; columns without a value do not count, for more may come.

    >>> batch_digest({"a": [1], "b": [None]}) == batch_digest({"a": [1]}) != batch_digest({"b": [1]})
    True
    """
    held = [(name, list(values)) for name, values in sorted(columns.items()) if values.count(None) < len(values)]
    return _digest(held)


def add(connection: sqlite3.Connection, changes: Mapping[str, int]) -> None:
    """Add to the sums of tables; part of the transaction that changed the rows."""
    # SQLite has no exclusive or; the difference is one, and never leaves 64 bits.
    connection.executemany(
        "UPDATE sums SET sum = (sum | ?1) - (sum & ?1) WHERE tbl = ?2",
        [(change, table) for table, change in changes.items()],
    )


def sum_of(connection: sqlite3.Connection, table: str) -> int:
    """The sum over the rows that a table has now."""
    ask = "SELECT type, name, tbl_name, sql FROM sqlite_master" if table == SCHEMA else f"SELECT * FROM {table}"
    return reduce(xor, map(weight, connection.execute(ask)), 0)


def batch_rows(connection: sqlite3.Connection, table: str, n: int, rows: int) -> dict[str, list[Any]]:
    """The columns of the hot rows of one batch, as they are now."""
    found = connection.execute(f"SELECT * FROM {hot_table(table)} WHERE _n >= ? AND _n < ? ORDER BY _n", (n, n + rows))
    names = [one[0] for one in found.description]
    columns = dict(zip(names, map(list, zip(*found, strict=True)), strict=False)) or {name: [] for name in names}
    columns.pop("_n")
    return columns


def batches(connection: sqlite3.Connection, table: str) -> Iterator[tuple[int, int, bytes]]:
    """(first ``_n``, rows, digest) of each batch of hot rows."""
    yield from connection.execute("SELECT n, rows, digest FROM hot_batches WHERE tbl = ? ORDER BY n", (table,))


def present(connection: sqlite3.Connection) -> bool:
    """Whether the catalog has digests: one that an earlier release made gets them when somebody writes."""
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sums'").fetchone() is not None


def renew(connection: sqlite3.Connection) -> None:
    """Make the digests anew from what the catalog holds now, within the transaction that is open."""
    connection.execute("DELETE FROM hot_batches")
    connection.execute("DELETE FROM sums")
    for table in STORED:
        ask = f"SELECT min(_n), max(_n) FROM {hot_table(table)} GROUP BY _n >> {PLACE_BITS}"
        for first, last in connection.execute(ask).fetchall():
            columns = batch_rows(connection, table, first, last - first + 1)
            add_batches(connection, [(table, first, last - first + 1, batch_digest(columns))])
    sums = [(table, sum_of(connection, table)) for table in (*SUMMED, SCHEMA)]
    connection.executemany("INSERT INTO sums VALUES (?, ?)", sums)


def renew_schema(connection: sqlite3.Connection) -> None:
    """Make the sum over the statements anew, after one of them changed."""
    connection.execute("UPDATE sums SET sum = ? WHERE tbl = ?", (sum_of(connection, SCHEMA), SCHEMA))


def add_batches(connection: sqlite3.Connection, made: Iterable[tuple[str, int, int, bytes]]) -> None:
    """Write the digests of batches of hot rows down: (table, first ``_n``, rows, digest) of each."""
    connection.executemany("INSERT INTO hot_batches VALUES (?, ?, ?, ?)", made)
