"""Commits: rows gathered in a transaction become visible together, in every table, or not at all.

Large batches are written as segments before the lock is taken, so the lock is held for one small SQLite transaction.
What was looked up before the lock is looked up again when somebody else wrote the table in between.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store import packs
from store.catalog import Catalog, Columns, Segment, Writer
from store.clock import from_micros, to_micros
from store.errors import CommitConflict, NotFound, Overtaken, SchemaMismatch, StoreError
from store.ids import commit_key
from store.revising import Revision, joined, last_of_each_key, replace_small, revise, size, small_vintages
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A champion that was another one than the caller expected."""

    asset_id: str
    product: str
    expected: str | None
    found: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What a commit did: ``written`` counts the rows stored per table, ``repeated`` says that it was done before."""

    snapshot: int
    at: datetime
    repeated: bool = False
    conflicts: tuple[Conflict, ...] = ()
    written: Mapping[str, int] = field(default_factory=dict)


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


@dataclass(slots=True)
class _Ready:
    """What one commit will write, decided before the lock."""

    segments: list[Segment] = field(default_factory=list)
    hot: list[tuple[str, Columns, int]] = field(default_factory=list)
    small_replaces: list[tuple[Table, Columns, int]] = field(default_factory=list)
    looked_up: dict[str, int] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)


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
                return self._repeat(before, payload)
        for attempt in range(_ATTEMPTS):
            ready = self._prepare()
            done = self._write_catalog(ready, payload, last=attempt == _ATTEMPTS - 1)
            if done is not None:
                return done
        raise AssertionError("the last attempt decides")

    def abort(self) -> None:
        """Give up; files already written stay as orphans until upkeep collects them."""
        self._done = True
        self._pending.clear()

    def _prepare(self) -> _Ready:
        ready = _Ready()
        for name, pending in self._pending.items():
            table = TABLES[name]
            self._prepare_inserts(ready, table, pending)
            self._prepare_replaces(ready, table, pending)
        return ready

    def _prepare_inserts(self, ready: _Ready, table: Table, pending: _Pending) -> None:
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

    def _hot_inserts(self, ready: _Ready, table: Table, batches: list[_Batch]) -> int:
        if not table.rank:
            ready.hot += [(table.name, one.as_columns(), one.rows) for one in batches]
            return sum(one.rows for one in batches)
        columns, older = small_vintages(table, joined([one.as_columns() for one in batches]))
        rows = size(columns)
        ready.hot.append((table.name, columns, rows))
        if table.replaced is not None and size(older):
            ready.hot.append((table.replaced, older, size(older)))
        return rows

    def _prepare_replaces(self, ready: _Ready, table: Table, pending: _Pending) -> None:
        rows = sum(one.rows for one in pending.replaces)
        if rows == 0:
            return
        if not table.rank and rows < SEGMENT_ROWS:
            columns = joined([one.as_columns() for one in pending.replaces])
            ready.small_replaces.append((table, *last_of_each_key(table, columns)))
            return
        import pyarrow as pa

        new = pa.concat_tables([one.as_arrow(table) for one in pending.replaces], promote_options="permissive")
        revision: Revision = revise(self._reader, table, new)
        ready.looked_up[table.name] = revision.looked_up
        ready.written[table.name] = ready.written.get(table.name, 0) + revision.rows.num_rows
        self._arrow_ready(ready, table, revision.rows)
        if revision.companions is not None and table.replaced is not None:
            self._arrow_ready(ready, STORED[table.replaced], revision.companions)

    def _arrow_ready(self, ready: _Ready, table: Table, rows: pa.Table) -> None:
        if rows.num_rows >= SEGMENT_ROWS:
            from store import segments

            ready.segments += segments.write(self._folder, table, rows)
        elif rows.num_rows:
            ready.hot.append((table.name, arrow_to_columns(rows), rows.num_rows))

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

    def _write_catalog(self, ready: _Ready, payload: bytes, *, last: bool) -> Commit | None:
        """The commit proper; None when a look-up turned out to be stale and there is time to do it again."""
        with self._catalog.writing() as writer:
            if self._key is not None and (before := writer.committed(self._key)) is not None:
                return self._repeat(before, payload)
            self._check_expected(writer)
            if any(writer.touched_after(name, seen) for name, seen in ready.looked_up.items()):
                if not last:
                    return None
                ready = self._prepare()
            self._check_blobs(writer)
            at = to_micros(self._reader.clock.now())
            if self._says_nothing(ready):
                return Commit(snapshot=writer.head, at=from_micros(at), written=ready.written)
            snapshot = writer.begin(at, self._note)
            written = dict(ready.written)
            for name, columns, rows in ready.hot:
                writer.add_hot(name, columns, rows)
            for table, columns, rows in ready.small_replaces:
                written[table.name] = written.get(table.name, 0) + replace_small(writer, table, columns, rows)
            for segment in ready.segments:
                writer.add_segment(segment._replace(v=snapshot, min_v=snapshot, max_v=snapshot))
            for name, value in self._marks.items():
                writer.set_mark(name, value)
            for pack in self._packs:
                writer.add_pack(pack)
            conflicts = tuple(c for promotion in self._promotions for c in _promote(writer, written, *promotion))
            if self._key is not None:
                writer.remember(self._key, payload, _answer(written, conflicts))
            wanting = writer.swollen(FLUSH_ROWS, at - FLUSH_AFTER) if self._upkeep is not None else []
        wanting += [name for name in {one.table: None for one in ready.segments} if name not in wanting]
        if self._upkeep is not None and wanting:
            self._upkeep(wanting)
        return Commit(snapshot=snapshot, at=from_micros(at), conflicts=conflicts, written=written)

    def _check_expected(self, writer: Writer) -> None:
        for name, value in self._expected:
            if (found := writer.mark(name)) != value:
                raise Overtaken(
                    f"the watermark {name!r} is {found!r}, this transaction relied on {value!r}",
                    hint="another took the work over; leave it to them",
                )

    def _check_blobs(self, writer: Writer) -> None:
        if self._relied and writer.lost_blobs(self._relied, self._seen_at or 0):
            told = "an asset was erased meanwhile, and with it blobs that this commit relies on"
            raise CommitConflict(told, hint="begin another transaction and put everything into it again")

    def _says_nothing(self, ready: _Ready) -> bool:
        """Whether the commit would change nothing; then it makes no snapshot either."""
        rows = ready.hot or ready.small_replaces or ready.segments
        return not (rows or self._packs or self._promotions or self._marks or self._key is not None)

    def _repeat(self, before: tuple[bytes, int, str], payload: bytes) -> Commit:
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


def _answer(written: Mapping[str, int], conflicts: Iterable[Conflict]) -> str:
    names = ("asset_id", "product", "expected", "found")
    return json.dumps({"written": written, "conflicts": [{n: getattr(c, n) for n in names} for c in conflicts]})


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


def _promote(
    writer: Writer, written: dict[str, int], champions: Columns, expected: list[str | None], decisions: Columns
) -> list[Conflict]:
    table = TABLES["champions"]
    conflicts = []
    keep = []
    versions = champions.get("version_id", [None] * len(expected))
    for i, (asset, product) in enumerate(zip(champions["asset_id"], champions["product"], strict=True)):
        found = writer.champion(asset, product)
        if found == expected[i]:
            writer.set_champion(asset, product, versions[i])
            keep.append(i)
        else:
            conflicts.append(Conflict(asset_id=asset, product=product, expected=expected[i], found=found))
    if keep:
        kept, rows = last_of_each_key(table, {name: [values[i] for i in keep] for name, values in champions.items()})
        written["champions"] = written.get("champions", 0) + replace_small(writer, table, kept, rows)
    rows = len(decisions["asset_id"])
    if rows:
        lost = {(c.asset_id, c.product) for c in conflicts}
        verdicts = decisions.get("verdict") or [None] * rows
        told = zip(decisions["asset_id"], decisions["product"], verdicts, strict=True)
        decisions = decisions | {"verdict": ["conflict" if (a, p) in lost else verdict for a, p, verdict in told]}
        writer.add_hot("decisions", decisions, rows)
        written["decisions"] = written.get("decisions", 0) + rows
    return conflicts
