"""The writing half of the catalog: statements of one commit, inside a transaction that somebody else ends."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from store.catalog.layout import (
    MAX_HOT_ROWS,
    PLACE_BITS,
    Columns,
    Segment,
    committed_as,
    dynamic_of,
    head_of,
    hot_table,
    mark_of,
    quoted,
)
from store.errors import StoreError
from store.schema import DERIVED, FILED, STORED, Table

if TYPE_CHECKING:
    from store.catalog.hot import HotBatch
    from store.packs import Pack

T = TypeVar("T")


class Writer:
    """What one commit may do, inside the transaction that :meth:`Catalog.writing` opened."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._place: dict[str, int] = {}
        self._at: int | None = None
        #: What the sums of tables have to change by, and the digests of the batches of hot rows.
        self._changes: dict[str, int] = {}
        self._batches: list[tuple[str, int, int, bytes]] = []
        self._reshaped = False
        self.head = head_of(connection)
        from store.catalog import sums  # not before somebody writes: opening is measured

        self._sums = sums

    def finish(self) -> None:
        """Bring the digests up to date: the last thing before the transaction ends."""
        if self._batches:
            self._sums.add_batches(self._connection, self._batches)
        if self._changes:
            self._sums.add(self._connection, self._changes)
        if self._reshaped:
            self._sums.renew_schema(self._connection)

    def _weigh(self, table: str, row: Sequence[Any]) -> None:
        """Note that a row comes or goes: to the sum it is the same."""
        self._changes[table] = self._changes.get(table, 0) ^ self._sums.weight(row)

    def _insert(self, table: str, row: tuple[Any, ...]) -> None:
        marks = ", ".join("?" * len(row))
        self._connection.execute(f"INSERT INTO {table} VALUES ({marks})", row)
        self._weigh(table, row)

    def _delete(self, table: str, where: str, params: Sequence[Any]) -> None:
        found = self._connection.execute(f"SELECT * FROM {table} WHERE {where}", params).fetchall()
        for row in found:
            self._weigh(table, row)
        if found:
            self._connection.execute(f"DELETE FROM {table} WHERE {where}", params)

    def _update_marks(self, table: str, assignments: str, params: Sequence[Any] = ()) -> None:
        self._connection.execute(f"UPDATE tables SET {assignments} WHERE name = ?", (*params, table))

    def committed(self, key: bytes) -> tuple[bytes, int, str] | None:
        return committed_as(self._connection, key)

    def touched_after(self, table: str, snapshot: int) -> bool:
        """Whether a commit later than a snapshot wrote this table."""
        row = self._connection.execute("SELECT touched FROM tables WHERE name = ?", (table,)).fetchone()
        return int(row[0]) > snapshot

    def begin(self, at: int, note: str) -> int:
        """Add the snapshot row; its number is the ``_v`` of every row of this commit."""
        self.head += 1
        self._at = at
        self._place.clear()
        self._insert("snapshots", (self.head, at, note))
        return self.head

    def attempt(self, act: Callable[[], T]) -> T | None:
        """What an act returns that is part of this commit; None when it failed, and then nothing of it is left.

        Raises:
            what ended the whole transaction, as a full disk does.
        """
        kept = (self.head, self._at, dict(self._changes), len(self._batches), self._reshaped)
        self._connection.execute("SAVEPOINT attempt")
        try:
            done = act()
        except (StoreError, sqlite3.Error, ValueError, TypeError, LookupError):
            if not self._connection.in_transaction:
                raise
            self._connection.execute("ROLLBACK TO attempt")
            self.head, self._at, self._changes, batches, self._reshaped = kept
            del self._batches[batches:]
            done = None
        self._connection.execute("RELEASE attempt")
        return done

    @property
    def at(self) -> int:
        """When the newest snapshot of this commit was made."""
        assert self._at is not None
        return self._at

    def told(self) -> dict[str, list[int]]:
        """By box the number of the letter that was done last together with others, and its snapshot; see committing."""
        row = self._connection.execute("SELECT value FROM meta WHERE key = 'told'").fetchone()
        return {} if row is None else dict(json.loads(row[0]))

    def set_told(self, told: Mapping[str, Sequence[int]]) -> None:
        """Write down which letters this commit does."""
        self._delete("meta", "key = ?", ("told",))
        self._insert("meta", ("told", json.dumps(told)))

    def mark(self, name: str) -> str | None:
        """The newest value of a watermark, None before it was first set."""
        return mark_of(self._connection, name, self.head)

    def set_mark(self, name: str, value: str) -> None:
        self._insert("marks", (name, self.head, value))

    def remember(self, key: bytes, payload: bytes, answer: str) -> None:
        self._insert("commits", (key, payload, self.head, answer))

    def add_hot(self, table: str, columns: Columns, rows: int) -> None:
        """Insert hot rows of this commit that only became known within it."""
        from store.catalog.hot import hot_batch  # not before somebody writes: opening is measured

        self.add_batch(hot_batch(table, columns, rows))

    def add_batch(self, batch: HotBatch) -> None:
        """Insert hot rows of this commit, made ready before."""
        table, rows = batch.table, batch.rows
        if batch.brought:
            self._add_dynamic(STORED[table], batch.brought)
        at = self._place.get(table, 0)
        if at + rows > MAX_HOT_ROWS:
            raise StoreError(f"{at + rows} hot rows of {table} in one commit, {MAX_HOT_ROWS} is the most")
        self._place[table] = at + rows
        first = (self.head << PLACE_BITS) | at
        numbered = zip(range(first, first + rows), *batch.values, strict=True)
        self._connection.executemany(_insertion(table, batch.names), numbered)
        if rows:
            self._batches.append((table, first, rows, batch.digest))
        self._update_marks(
            table,
            "since = CASE WHEN hot = 0 THEN ? ELSE since END, hot = hot + ?, touched = ?",
            (self._at, rows, self.head),
        )

    def _add_dynamic(self, table: Table, columns: Iterable[str]) -> None:
        brought = [name for name in columns if name not in table.by_name]
        if not brought:
            return
        known = set(dynamic_of(self._connection, table.name))
        for name in brought:
            if name not in known:
                self._connection.execute(f"ALTER TABLE {hot_table(table.name)} ADD COLUMN {quoted(name)}")
                self._insert("dynamic_columns", (table.name, name))
                self._update_marks(table.name, "rewritten = rewritten + 1")
                self._reshaped = True

    def add_segment(self, segment: Segment) -> None:
        declared = FILED[segment.table]
        self._known(segment.table)
        self._add_dynamic(declared, (name for name in segment.columns if name != "_v"))
        self._insert(
            "segments",
            (
                segment.id, segment.table, segment.level, segment.v, segment.min_v, segment.max_v, segment.rows,
                segment.bytes, segment.sha256, json.dumps(segment.columns), segment.min_asset, segment.max_asset,
                segment.min_time, segment.max_time,
            ),
        )  # fmt: skip
        self._update_marks(segment.table, "files = files + 1, touched = max(touched, ?)", (segment.max_v,))

    def _known(self, table: str) -> None:
        """Give a derived table its line in ``tables`` when it is first made: a folder from before it has none."""
        if table in DERIVED:
            self._connection.execute("INSERT OR IGNORE INTO tables (name) VALUES (?)", (table,))

    def add_pack(self, pack: Pack) -> None:
        self._insert("packs", (pack.id, pack.bytes, pack.sha256, self.head))
        for sha, start, length in pack.blobs:
            row = (sha, pack.id, start, length)
            # Another commit may have brought the same blob since this one looked.
            if self._connection.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?, ?)", row).rowcount:
                self._weigh("blobs", row)

    def lost_blobs(self, hashes: Iterable[str], since: int) -> bool:
        """Whether one of these blobs, stored as of a snapshot, is not any more."""
        row = self._connection.execute("SELECT value FROM meta WHERE key = 'blobs_removed'").fetchone()
        if row is None or int(row[0]) <= since:
            return False
        there = "SELECT 1 FROM blobs WHERE sha256 = ?"
        return not all(self._connection.execute(there, (one,)).fetchone() for one in hashes)

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
        self._delete("champions", "asset_id = ? AND product = ?", (asset_id, product))
        self._insert("champions", (asset_id, product, version_id))

    def swollen(self, rows: int, before: int) -> list[str]:
        """The tables with at least so many hot rows, then those with a hot row from before an instant, oldest first."""
        ask = (
            "SELECT name FROM tables WHERE hot >= ? OR (hot > 0 AND since < ?) "
            "ORDER BY CASE WHEN hot >= ? THEN -hot ELSE 0 END, since"
        )
        return [row[0] for row in self._connection.execute(ask, (rows, before, rows))]

    def drop_hot(self, table: str, upto: int) -> int:
        """Take hot rows up to a snapshot away (they are in a segment now); how many."""
        gone = self._connection.execute(
            f"DELETE FROM {hot_table(table)} WHERE _n < ?", ((upto + 1) << PLACE_BITS,)
        ).rowcount
        self._connection.execute("DELETE FROM hot_batches WHERE tbl = ? AND n < ?", (table, (upto + 1) << PLACE_BITS))
        self._update_marks(
            table,
            "hot = hot - ?, rewritten = rewritten + 1, since = (SELECT min(at) FROM snapshots WHERE id > ?)",
            (gone, upto),
        )
        return gone

    # ---------------------------------------------------------------- upkeep

    def swap(self, table: str, old: Sequence[str], new: Sequence[Segment], at: int) -> bool:
        """New segments for old ones, which are retired; False, and nothing done, when one of the old is not there."""
        place = [(table, one) for one in old]
        there = "SELECT 1 FROM segments WHERE tbl = ? AND id = ?"
        if not all(self._connection.execute(there, one).fetchone() for one in place):
            return False
        self._known(table)
        for pair in place:
            self._delete("segments", "tbl = ? AND id = ?", pair)
        self._update_marks(table, "files = files + 1")
        for segment in new:
            self.add_segment(segment)
        (generation,) = self._connection.execute("SELECT sum(files) FROM tables").fetchone()
        for one in old:
            self._delete("retired", "id = ?", (one,))
            self._insert("retired", (one, "segment", table, at, generation))
        return True

    def forget_retired(self, ids: Iterable[str]) -> None:
        """Strike retired files off the list: they are gone from the disk."""
        for one in ids:
            self._delete("retired", "id = ?", (one,))

    def end_before(self, snapshot: int, table: str = "") -> None:
        """Make a snapshot the oldest that is whole, of a table or of the store; it never goes back."""
        key = f"oldest:{table}" if table else "oldest"
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        self._delete("meta", "key = ?", (key,))
        self._insert("meta", (key, str(max(snapshot, 0 if row is None else int(row[0])))))

    def thin(self, snapshot: int, commits_before: int) -> None:
        """Drop what only ended snapshots needed: commit ids from before an instant, snapshot rows, old watermarks."""
        self._delete("commits", "snapshot IN (SELECT id FROM snapshots WHERE at < ?)", (commits_before,))
        self._delete("snapshots", "id < ? AND id NOT IN (SELECT snapshot FROM commits)", (snapshot,))
        self._delete(
            "marks",
            "EXISTS (SELECT 1 FROM marks AS later "
            "WHERE later.name = marks.name AND later.v > marks.v AND later.v <= ?)",
            (snapshot,),
        )


@lru_cache(maxsize=256)
def _insertion(table: str, names: tuple[str, ...]) -> str:
    """The statement that inserts hot rows with these columns."""
    listed = "".join(f", {quoted(name)}" for name in names)
    return f"INSERT INTO {hot_table(table)} (_n{listed}) VALUES (?{', ?' * len(names)})"
