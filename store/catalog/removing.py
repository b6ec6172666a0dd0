"""Taking rows away for good: hot rows out of their batches, blobs out of packs, names out of the catalog's own texts.

All of it happens within one transaction, and the digests come along. What SQLite leaves of deleted rows in free pages
and in the log goes with :func:`compact`.
"""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from store.catalog.layout import Columns, hot_table, quoted
from store.catalog.meaning import RESTORE
from store.catalog.writer import Writer
from store.errors import Damaged

if TYPE_CHECKING:
    from store.packs import Pack


class Remover(Writer):
    """A writer that may also take away what earlier commits wrote."""

    def segment_ids(self) -> set[str]:
        """The ids of all segments as they are now."""
        return {row[0] for row in self._connection.execute("SELECT id FROM segments")}

    def hot(self, table: str, names: Sequence[str]) -> tuple[list[int], Columns]:
        """(places, columns) of all hot rows of a table, a place being the primary key."""
        rows = self._connection.execute(
            f"SELECT _n{''.join(f', {quoted(name)}' for name in names)} FROM {hot_table(table)} ORDER BY _n"
        ).fetchall()
        places, *lists = [list(values) for values in zip(*rows, strict=True)] or [[] for _ in range(len(names) + 1)]
        return places, dict(zip(names, lists, strict=True))

    def remove_hot(self, table: str, gone: Iterable[int], changed: Mapping[int, Mapping[str, Any]]) -> None:
        """Take hot rows away and give others new values; each batch is checked before it gets new digests.

        Raises:
            Damaged: a batch is not what was written.
        """
        leaving = set(gone)
        concerned = sorted(leaving | set(changed))
        batches = [
            (n, rows, digest)
            for n, rows, digest in self._sums.batches(self._connection, table)
            if bisect_left(concerned, n) < bisect_left(concerned, n + rows)
        ]
        for n, rows, digest in batches:
            if self._sums.batch_digest(self._sums.batch_rows(self._connection, table, n, rows)) != digest:
                raise Damaged(f"hot rows of {table} are not what was written", hint=RESTORE)
        for place in leaving:
            self._connection.execute(f"DELETE FROM {hot_table(table)} WHERE _n = ?", (place,))
        for place, values in changed.items():
            assignments = ", ".join(f"{quoted(name)} = ?" for name in values)
            self._connection.execute(
                f"UPDATE {hot_table(table)} SET {assignments} WHERE _n = ?", (*values.values(), place)
            )
        for n, rows, _ in batches:
            self._connection.execute("DELETE FROM hot_batches WHERE tbl = ? AND n = ?", (table, n))
            # A batch is a stretch without a gap: one that lost rows from its middle becomes several.
            for first, count in _stretches([place for place in range(n, n + rows) if place not in leaving]):
                columns = self._sums.batch_rows(self._connection, table, first, count)
                self._sums.add_batches(self._connection, [(table, first, count, self._sums.batch_digest(columns))])
        self._update_marks(table, "hot = hot - ?, rewritten = rewritten + 1", (len(leaving),))

    def touch(self, table: str) -> None:
        """Let everybody know that this commit changed a table: what was looked up in it before is looked up again."""
        self._update_marks(table, "touched = ?", (self.head,))

    # ---------------------------------------------------------------- blobs

    def remove_blobs(self, hashes: Iterable[str]) -> None:
        """Let the catalog forget blobs, and whoever has found one of them stored look again."""
        for one in hashes:
            self._delete("blobs", "sha256 = ?", (one,))
        self._delete("meta", "key = 'blobs_removed'", ())
        self._insert("meta", ("blobs_removed", str(self.head)))

    def swap_pack(self, old: str, new: Pack | None, at: int) -> None:
        """A new pack, or none, in the place of an old one, which is retired with what is left in it."""
        row = self._connection.execute("SELECT v FROM packs WHERE id = ?", (old,)).fetchone()
        self._delete("blobs", "pack = ?", (old,))
        self._delete("packs", "id = ?", (old,))
        if new is not None:
            self._insert("packs", (new.id, new.bytes, new.sha256, row[0]))
            for sha, start, length in new.blobs:
                self._insert("blobs", (sha, new.id, start, length))
        # A backup stands on packs as it does on segments.
        self._update_marks("versions", "files = files + 1")
        (generation,) = self._connection.execute("SELECT sum(files) FROM tables").fetchone()
        self._insert("retired", (old, "pack", "", at, generation))

    # ---------------------------------------------------------------- names

    def remove_names(self, assets: Iterable[str], runs: Iterable[str], redact: Callable[[str], str]) -> bool:
        """Take assets out of the catalog's own tables: champions, watermarks, notes and answers of commits.

        Args:
            assets: their ids.
            runs: ids of their runs.
            redact: a text without the ids.

        Returns:
            Whether any of it named one.
        """
        ids = sorted(assets)
        before = self._connection.total_changes
        for one in ids:
            self._delete("champions", "asset_id = ?", (one,))
            self._delete("marks", "name = ?", (one,))
        for one in runs:
            self._delete("marks", "name = ?", (f"run/{one}",))
        for form in sorted({form for one in ids for form in (one, json.dumps(one)[1:-1])}):
            self._rewrite("snapshots", "instr(note, ?)", form, lambda row: (row[0], row[1], redact(row[2])))
            self._rewrite("marks", "instr(value, ?)", form, lambda row: (row[0], row[1], redact(row[2])))
            self._rewrite("commits", "instr(answer, ?)", form, lambda row: (*row[:3], _without(row[3], ids)))
            named = self._connection.execute("SELECT DISTINCT name FROM marks WHERE instr(name, ?)", (form,)).fetchall()
            for (name,) in named:
                if redact(name) != name:
                    self._delete("marks", "name = ?", (name,))
        return self._connection.total_changes > before

    def _rewrite(self, table: str, where: str, form: str, change: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> None:
        for row in self._connection.execute(f"SELECT * FROM {table} WHERE {where}", (form,)).fetchall():
            new = change(row)
            if new != row:
                keys = [column[1] for column in self._connection.execute(f"PRAGMA table_info({table})") if column[5]]
                names = [column[1] for column in self._connection.execute(f"PRAGMA table_info({table})")]
                test = " AND ".join(f"{name} = ?" for name in keys)
                self._delete(table, test, [row[names.index(name)] for name in keys])
                self._insert(table, new)


def _without(answer: str, assets: Sequence[str]) -> str:
    """The answer of a commit without the conflicts of some assets."""
    told = json.loads(answer)
    told["conflicts"] = [one for one in told["conflicts"] if one["asset_id"] not in assets]
    return json.dumps(told)


def _stretches(places: Sequence[int]) -> list[tuple[int, int]]:
    """(first, count) of each stretch of neighbours.

    >>> _stretches([4, 5, 7])
    [(4, 2), (7, 1)]
    """
    cuts = [i + 1 for i, (one, after) in enumerate(pairwise(places)) if after != one + 1]
    bounds = [0, *cuts, len(places)]
    return [(places[start], stop - start) for start, stop in pairwise(bounds) if stop > start]


def compact(connection: sqlite3.Connection, wait_s: float) -> bool:
    """Write the catalog anew without what was deleted, and empty its log; False when a reader kept the log.

    Call under the writers' lock, outside of a transaction.
    """
    (usual,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute("VACUUM")
    try:
        connection.execute(f"PRAGMA busy_timeout = {int(wait_s * 1000)}")
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {usual}")
    return not busy
