"""Commits: rows gathered in a transaction become visible together, in every table, or not at all.

Large batches are written as segments before the lock is taken, so the lock is held for one small SQLite transaction.
What was looked up before the lock is looked up again when somebody else wrote the table in between.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store import packs
from store.catalog import Catalog, Columns, Segment
from store.catalog.hot import hot_batch
from store.clock import from_micros, to_micros
from store.committing import Asked, Before, Commit, Conflict, commit
from store.errors import CommitConflict, NotFound, SchemaMismatch, StoreError
from store.ids import commit_key
from store.revising import Revision, joined, last_of_each_key, revise, size, small_vintages
from store.rows import arrow_to_columns, columns_to_arrow, from_arrow, from_mappings
from store.schema import STORED, TABLES, Table

if TYPE_CHECKING:
    import pyarrow as pa

    from store.reading import Reader

SEGMENT_ROWS = 5_000
SPOOL_ROWS = 1_000_000
FLUSH_ROWS = 20_000
FLUSH_AFTER = 10 * 60 * 1_000_000  # microseconds
_ATTEMPTS = 3


@dataclass(slots=True)
class _Batch:
    """Rows of one table in one of the two forms."""

    rows: int
    columns: Columns | None = None
    arrow: pa.Table | None = None

    def as_columns(self) -> Columns:
        return self.columns if self.columns is not None else arrow_to_columns(self.arrow)

    def as_arrow(self, table: Table) -> pa.Table:
        return self.arrow if self.arrow is not None else columns_to_arrow(table, self.columns or {})


@dataclass(slots=True)
class _Pending:
    """What a transaction holds for one table."""

    inserts: list[_Batch] = field(default_factory=list)
    replaces: list[_Batch] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)


class Transaction:
    """Rows on their way into the store; nothing shows before :meth:`commit`."""

    def __init__(
        self,
        reader: Reader,
        *,
        commit_id: str | None = None,
        note: str = "",
        guard: Callable[[], None],
        upkeep: Callable[[list[str]], None] | None = None,
        expected: Iterable[tuple[str, str | None]] = (),
    ) -> None:
        self._expected = list(expected)
        self._reader, self._note, self._guard, self._upkeep = reader, note, guard, upkeep
        self._folder: Path = reader.folder
        self._catalog: Catalog = reader.catalog
        self._key = None if commit_id is None else commit_key(commit_id)
        self._commit_id = commit_id
        #: Blobs that were stored already, and the snapshot at which that was looked up.
        self._relied: set[str] = set()
        self._seen_at: int | None = None
        self._hash = sha256()
        self._pending: dict[str, _Pending] = {}
        self._packs: list[packs.Pack] = []
        self._promotions: list[tuple[Columns, list[str | None], Columns]] = []
        self._marks: dict[str, str] = {}
        self._done = False

    # ---------------------------------------------------------------- gathering

    def insert(self, table: str, rows: pa.Table | Sequence[Mapping[str, Any]]) -> None:
        """Add rows whose keys are new; nothing is looked up.

        Args:
            table: its name.
            rows: Arrow, or a list of mappings; absent columns are NULL.

        Raises:
            SchemaMismatch: an unknown column, a missing required one, a value of the wrong type.
        """
        declared = self._table(table)
        batch = self._batch(declared, rows, "insert")
        if batch.rows == 0:
            return
        pending = self._pending.setdefault(table, _Pending())
        pending.inserts.append(batch)
        if sum(one.rows for one in pending.inserts) >= SPOOL_ROWS:
            pending.segments += self._write(declared, pending.inserts)
            pending.inserts.clear()

    def replace(self, table: str, rows: pa.Table | Sequence[Mapping[str, Any]]) -> None:
        """Add rows that supersede those with the same key in the store; of equal keys given here the last counts.

        For actuals and covariates a row equal in value to the one before it is dropped: it is no revision. A key must
        not be inserted among thousands and replaced in the same transaction.
        """
        declared = self._table(table)
        if not declared.keyed:
            raise SchemaMismatch(f"{table} has no key, its rows cannot be replaced", hint="use insert")
        batch = self._batch(declared, rows, "replace")
        if batch.rows:
            self._pending.setdefault(table, _Pending()).replaces.append(batch)

    def put_blobs(self, payloads: Sequence[bytes]) -> list[str]:
        """Write blobs to one pack, with one fsync; their SHA-256 as hex. Known ones are not written again."""
        self._open()
        hashes = [sha256(payload).hexdigest() for payload in payloads]
        self._hash.update(repr(("blobs", hashes)).encode())
        self._seen_at = self._catalog.head() if self._seen_at is None else self._seen_at
        known = self._catalog.known_blobs(set(hashes))
        self._relied |= known
        fresh = [(digest, payload) for digest, payload in zip(hashes, payloads, strict=True) if digest not in known]
        if fresh:
            self._packs.append(packs.write(self._folder, [p for _, p in fresh], [d for d, _ in fresh]))
        return hashes

    def promote(
        self,
        champions: Sequence[Mapping[str, Any]] | pa.Table,
        expected: Sequence[str | None],
        decisions: Sequence[Mapping[str, Any]] | pa.Table,
    ) -> None:
        """Make versions the champions of their (asset, product), each only if the champion is still the expected one.

        Args:
            champions: rows of ``champions``.
            expected: beside each, the version id that is champion now, None for none.
            decisions: rows of ``decisions``; those of a conflict are stored with the verdict "conflict".
        """
        self._open()
        made = [
            _small(TABLES[name], self._batch(TABLES[name], rows, "promote"))
            for name, rows in (("champions", champions), ("decisions", decisions))
        ]
        wanted = list(expected)
        count = len(made[0].get("asset_id", ()))
        if len(wanted) != count:
            raise SchemaMismatch(f"{count} champions came with {len(wanted)} expected versions")
        self._hash.update(repr(wanted).encode())
        self._promotions.append((made[0], wanted, made[1]))

    def mark(self, name: str, value: str) -> None:
        """Set a watermark in the same commit, so that it never speaks of rows that are not there."""
        self._open()
        self._hash.update(repr(("mark", name, value)).encode())
        self._marks[name] = value

    def expect(self, name: str, value: str | None) -> None:
        """Commit only if a watermark has this value then, None for never set; together with `mark`, a claim.

        The look and the commit are one transaction: of two that expect the same and set something else, one goes
        through, and :meth:`commit` raises Overtaken for the other.
        """
        self._open()
        self._expected.append((name, value))

    def _table(self, name: str) -> Table:
        self._open()
        if name == "champions":
            raise StoreError("champions change by promote, which names the version expected", hint="use promote")
        found = TABLES.get(name)
        if found is None:
            raise NotFound(f"there is no table {name!r}", hint=f"there are {', '.join(TABLES)}")
        return found

    def _open(self) -> None:
        self._guard()
        if self._done:
            raise StoreError("this transaction has ended", hint="begin another")

    def _batch(self, table: Table, rows: Any, act: str) -> _Batch:
        if hasattr(rows, "column_names") and hasattr(rows, "num_rows"):
            batch = _Batch(rows.num_rows, arrow=from_arrow(table, rows) if rows.num_rows else None)
        else:
            listed = rows if isinstance(rows, (list, tuple)) else list(rows)
            batch = _Batch(len(listed), columns=from_mappings(table, listed) if listed else {})
        if self._key is not None and batch.rows:
            self._hash.update(f"{act} {table.name} {batch.rows}".encode())
            _digest(self._hash, batch)
        return batch

    # ---------------------------------------------------------------- commit

    def commit(self) -> Commit:
        """Make everything visible at once.

        Raises:
            CommitConflict: the commit id was used with another payload.
            Overtaken: a watermark is not what was expected.
            StoreBusy: another writer held the lock too long.
        """
        self._open()
        self._done = True
        payload = self._hash.digest()
        if self._key is not None:
            before = self._catalog.committed(self._key)
            if before is not None:
                return self._repeat(Before(*before), payload)
        for attempt in range(_ATTEMPTS):
            done = self._commit_once(payload, last=attempt == _ATTEMPTS - 1)
            if done is not None:
                return done
        raise AssertionError("the last attempt decides")

    def _commit_once(self, payload: bytes, *, last: bool) -> Commit | None:
        """None when a look-up turned out to be stale and there is time to do it again."""
        done = commit(
            self._catalog,
            self._prepare(),
            lambda: to_micros(self._reader.clock.now()),
            self._prepare if last else None,
            None if self._upkeep is None else (FLUSH_ROWS, FLUSH_AFTER),
        )
        if done is None or isinstance(done, Before):
            return done if done is None else self._repeat(done, payload)
        if self._upkeep is not None and done.wanting:
            self._upkeep(list(done.wanting))
        return Commit(
            snapshot=done.snapshot, at=from_micros(done.at), conflicts=tuple(done.conflicts), written=done.written
        )

    def abort(self) -> None:
        """Give up; files already written stay as orphans until upkeep collects them."""
        self._done = True
        self._pending.clear()

    def _prepare(self) -> Asked:
        ready = Asked(
            note=self._note,
            key=self._key,
            payload=self._hash.digest(),
            expected=self._expected,
            marks=self._marks,
            packs=self._packs,
            promotions=self._promotions,
            relied=self._relied,
            seen_at=self._seen_at,
        )
        for name, pending in self._pending.items():
            table = TABLES[name]
            self._prepare_inserts(ready, table, pending)
            self._prepare_replaces(ready, table, pending)
        return ready

    def _prepare_inserts(self, ready: Asked, table: Table, pending: _Pending) -> None:
        rows = sum(one.rows for one in pending.inserts)
        if rows >= SEGMENT_ROWS:
            pending.segments += self._write(table, pending.inserts)
            pending.inserts.clear()
        ready.segments += pending.segments
        stored = sum(one.rows for one in pending.segments if one.table == table.name)
        if pending.inserts:
            if pending.replaces:
                # Their keys may come again among the replaced ones: one list, the last of a key wins.
                pending.replaces[:0] = pending.inserts
                pending.inserts.clear()
            else:
                stored += self._hot_inserts(ready, table, pending.inserts)
        if stored:
            ready.written[table.name] = ready.written.get(table.name, 0) + stored

    def _hot_inserts(self, ready: Asked, table: Table, batches: list[_Batch]) -> int:
        if not table.rank:
            ready.hot += [hot_batch(table.name, one.as_columns(), one.rows) for one in batches]
            return sum(one.rows for one in batches)
        columns, older = small_vintages(table, joined([one.as_columns() for one in batches]))
        rows = size(columns)
        ready.hot.append(hot_batch(table.name, columns, rows))
        if table.replaced is not None and size(older):
            ready.hot.append(hot_batch(table.replaced, older, size(older)))
        return rows

    def _prepare_replaces(self, ready: Asked, table: Table, pending: _Pending) -> None:
        rows = sum(one.rows for one in pending.replaces)
        if rows == 0:
            return
        if not table.rank and rows < SEGMENT_ROWS:
            columns = joined([one.as_columns() for one in pending.replaces])
            columns, rows = last_of_each_key(table, columns)
            ready.small_replaces.append((table, columns, hot_batch(table.name, columns, rows)))
            return
        import pyarrow as pa

        new = pa.concat_tables([one.as_arrow(table) for one in pending.replaces], promote_options="permissive")
        revision: Revision = revise(self._reader, table, new)
        ready.looked_up[table.name] = revision.looked_up
        ready.written[table.name] = ready.written.get(table.name, 0) + revision.rows.num_rows
        self._arrow_ready(ready, table, revision.rows)
        if revision.companions is not None and table.replaced is not None:
            self._arrow_ready(ready, STORED[table.replaced], revision.companions)

    def _arrow_ready(self, ready: Asked, table: Table, rows: pa.Table) -> None:
        if rows.num_rows >= SEGMENT_ROWS:
            from store import segments

            ready.segments += segments.write(self._folder, table, rows)
        elif rows.num_rows:
            ready.hot.append(hot_batch(table.name, arrow_to_columns(rows), rows.num_rows))

    def _write(self, table: Table, batches: list[_Batch]) -> list[Segment]:
        import pyarrow as pa

        from store import segments

        rows = pa.concat_tables([one.as_arrow(table) for one in batches], promote_options="permissive")
        rows = segments.in_order(table, rows)
        made = []
        if table.rank:
            rows, older = segments.vintages(table, rows)
            if table.replaced is not None and older.num_rows:
                made = segments.write(self._folder, STORED[table.replaced], older)
        return made + segments.write(self._folder, table, rows)

    def _repeat(self, before: Before, payload: bytes) -> Commit:
        known, snapshot, answer = before
        if known != payload:
            raise CommitConflict(
                f"the commit id {self._commit_id!r} was used by snapshot {snapshot} with other rows",
                hint="the work was done before; give a new revision to do it again",
            )
        at = from_micros(self._catalog.snapshot_time(snapshot))
        told = json.loads(answer)
        conflicts = tuple(Conflict(**one) for one in told["conflicts"])
        return Commit(snapshot=snapshot, at=at, repeated=True, conflicts=conflicts, written=told["written"])


def _digest(hasher: Any, batch: _Batch) -> None:
    if batch.columns is not None:
        hasher.update(repr(sorted(batch.columns.items())).encode("utf-8", "surrogatepass"))
        return
    import pyarrow as pa

    class Sink:
        """Takes an Arrow stream and keeps only its hash."""

        closed = False

        def write(self, data: Any) -> int:
            hasher.update(data)
            return len(data)

        def flush(self) -> None: ...

        def close(self) -> None: ...

    assert batch.arrow is not None
    rows = batch.arrow.combine_chunks()
    with pa.ipc.new_stream(pa.PythonFile(Sink(), "w"), rows.schema) as stream:
        stream.write_table(rows)


def _small(table: Table, batch: _Batch) -> Columns:
    return batch.as_columns() if batch.rows else {name: [] for name in table.names}
