"""DuckDB, in memory, and the only module that speaks it.

It reads segments in place, holds a copy of the hot rows that is brought up to date by ``_v``, and answers on one
cursor a question. UTC, no extensions from outside, no Python variables as tables, no file outside the store.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from store.catalog import HotRows, State, quoted
from store.errors import Damaged, QueryInvalid, SourceUnreadable
from store.schema import SQL_TYPES, STORED

if TYPE_CHECKING:
    import pyarrow as pa

Params = Sequence[object] | Mapping[str, object] | None

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
_FROM_JSON = {
    "text": ("VARCHAR", "{}"),
    "json": ("VARCHAR", "{}"),
    "double": ("DOUBLE", "{}"),
    "bigint": ("BIGINT", "{}"),
    "bool": ("BIGINT", "{} <> 0"),
    "instant": ("BIGINT", "make_timestamptz({})"),
    "date": ("INTEGER", "DATE '1970-01-01' + {}"),
}
_READ_ONLY_KINDS = ("SELECT", "EXPLAIN")


def literal(text: str) -> str:
    """A string literal, safe in SQL.

    >>> literal("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def instant(micros: int) -> str:
    """An instant as SQL."""
    return f"make_timestamptz({micros}::BIGINT)"


def _connect() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:", config=_CONFIG)
    # Named by process: what does not fit into memory is put there, and DuckDB takes it away again.
    spill = Path(tempfile.gettempdir()) / f"tsfleet-spill-{os.getpid()}-{id(connection):x}"
    connection.execute(
        "SET GLOBAL TimeZone = 'UTC'; SET GLOBAL python_enable_replacements = false;"
        f"SET GLOBAL temp_directory = {literal(str(spill))}"
    )
    return connection


class Engine:
    """The DuckDB side of one open store."""

    def __init__(self, folder: Path) -> None:
        self._segments = str(folder.absolute() / "segments") + os.sep
        self._connection = _connect()
        self._connection.execute(
            f"SET GLOBAL allowed_directories = [{literal(self._segments)}];"
            "SET GLOBAL enable_external_access = false; CREATE SCHEMA hot"
        )
        self.planning = threading.RLock()
        self._held: dict[str, tuple[str, int, int]] = {}  # table -> (name here, rewritten, newest _v)
        self._stale: list[str] = []
        self._running = 0
        self._made = 0

    def close(self) -> None:
        self._connection.close()

    # ---------------------------------------------------------------- hot rows

    def loaded(self) -> dict[str, tuple[int, int]]:
        """Per table what is held here: (rewritten, newest _v)."""
        return {table: (rewritten, newest) for table, (_, rewritten, newest) in self._held.items()}

    def absorb(self, state: State) -> dict[str, str]:
        """Take new hot rows in; per table the name under which they can be read. Call under ``planning``."""
        names = {}
        for table, fresh in state.hot.items():
            held = self._held.get(table)
            if held is not None and held[1] != state.rewritten[table]:
                self._stale.append(held[0])
                del self._held[table]
                held = None
            if not state.hot_count[table]:
                continue
            if held is None:
                held = (self._create(table, state.dynamic[table]), state.rewritten[table], 0)
            if fresh is not None:
                self._insert(held[0], table, fresh)
                held = (held[0], held[1], fresh.newest)
            self._held[table] = held
            names[table] = held[0]
        return names

    def _create(self, table: str, dynamic: Sequence[str]) -> str:
        self._made += 1
        name = f"hot.{table}_{self._made}"
        declared = STORED[table]
        columns = ", ".join(f"{quoted(c)} {SQL_TYPES[_kind(table, c)]}" for c in declared.ordered(list(dynamic)))
        self._connection.execute(f"CREATE TABLE {name} ({columns}, _v BIGINT)")
        return name

    def _insert(self, name: str, table: str, rows: HotRows) -> None:
        inner, outer = [], []
        for place, column in enumerate(rows.names):
            kind, shape = _FROM_JSON["bigint" if column == "_v" else _kind(table, column)]
            inner.append(f"""unnest(from_json(?, '["{kind}"]')) AS c{place}""")
            outer.append(shape.format(f"c{place}"))
        listed = ", ".join(quoted(column) for column in rows.names)
        self._connection.execute(
            f"INSERT INTO {name} ({listed}) SELECT {', '.join(outer)} FROM (SELECT {', '.join(inner)})",
            list(rows.arrays),
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        """While a question runs, hot tables that a flush made stale stay."""
        with self.planning:
            self._running += 1
        try:
            yield
        finally:
            with self.planning:
                self._running -= 1
                if not self._running:
                    for name in self._stale:
                        self._connection.execute(f"DROP TABLE IF EXISTS {name}")
                    self._stale.clear()

    # ---------------------------------------------------------------- questions

    def cursor(self) -> Question:
        """A cursor of its own for one question."""
        return Question(self._connection.cursor(), self._segments)


def _kind(table: str, column: str) -> str:
    declared = STORED[table].column(column)
    assert declared is not None
    return declared.kind


class Question:
    """One cursor with its own temporary views."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, segments: str) -> None:
        self._cursor, self._segments = cursor, segments

    def define(self, statements: Sequence[str]) -> None:
        """Create the views that the question names."""
        if statements:
            with self._translated():
                self._cursor.execute(";\n".join(statements))

    def register(self, name: str, table: pa.Table) -> None:
        """Let the question read an Arrow table under a name."""
        self._cursor.register(name, table)

    def check(self, query: str) -> str:
        """The kind of the one statement there may be.

        Raises:
            QueryInvalid: for several statements, or one that does more than read.
        """
        with self._translated():
            statements = self._cursor.extract_statements(query)
        if len(statements) != 1:
            raise QueryInvalid(f"{len(statements)} statements were given, one is wanted")
        kind = statements[0].type.name
        if kind not in _READ_ONLY_KINDS:
            raise QueryInvalid(
                f"{kind} is not a question", hint="the store answers SELECT, DESCRIBE, SUMMARIZE, EXPLAIN"
            )
        return kind

    def arrow(self, query: str, params: Params = None) -> pa.Table:
        """The whole answer as an Arrow table."""
        with self._translated():
            return self._ask(query, params).to_arrow_table()

    def held(self, query: str, params: Params = None) -> Held:
        """The whole answer, kept in DuckDB until somebody wants it in some form."""
        with self._translated():
            return Held(self._ask(query, params).materialize(), self)

    def _ask(self, query: str, params: Params) -> duckdb.DuckDBPyRelation:
        relation = self._cursor.sql(query, params=params) if params else self._cursor.sql(query)
        if relation is None:
            raise QueryInvalid("the statement has no answer")
        return relation

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as cause:
            lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
            first = lines[0] if lines else type(cause).__name__
            if self._segments in str(cause):
                raise Damaged(f"a segment cannot be read: {first}", hint="restore it from a backup") from cause
            hint = next((line for line in lines[1:] if line.startswith(("Did you", "Candidate"))), "")
            raise QueryInvalid(first, hint=hint) from cause
        except OverflowError as cause:
            raise QueryInvalid(f"a parameter is out of range: {cause}") from cause


class Held:
    """An answer inside DuckDB."""

    def __init__(self, relation: duckdb.DuckDBPyRelation, question: Question) -> None:
        self._relation, self._question = relation, question

    def arrow(self) -> pa.Table:
        return self._relation.to_arrow_table()

    def plain(self) -> tuple[list[str], list[tuple[Any, ...]]] | None:
        """Column names and rows of Python values, or None where only Arrow gives them faithfully."""
        # fetchall of instants needs pytz, which is not installed beside pandas 3.
        if any("TIME ZONE" in str(kind) or "DECIMAL" in str(kind) for kind in self._relation.types):
            return None
        return list(self._relation.columns), self._relation.fetchall()


def query_source(sql: str, *, folder: Path) -> pa.RecordBatchReader:
    """Ask DuckDB about a user's own files; names in the query are relative to a folder.

    Args:
        sql: one SELECT over files, such as ``select * from 'data/*.parquet'``.
        folder: where relative names begin.

    Returns:
        A reader over the answer, in UTC.

    Raises:
        SourceUnreadable: with DuckDB's reason on one line.
    """
    connection = _connect()
    with _named():
        connection.execute(f"SET GLOBAL file_search_path = {literal(str(folder.absolute()))}")
        relation = connection.sql(sql)
        if relation is None:
            raise SourceUnreadable("the source's SQL has no answer", hint="write one SELECT")
        reader = relation.to_arrow_reader()
    import pyarrow as pa

    return pa.RecordBatchReader.from_batches(reader.schema, _batches(reader))


def _batches(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    while True:
        with _named():
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                return
        yield batch


@contextmanager
def _named() -> Iterator[None]:
    """What DuckDB finds wrong with a user's file, also in the middle of it, where it comes as an OSError."""
    try:
        yield
    except (duckdb.Error, OSError) as cause:
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        shown = ": ".join(lines[:3]) if "CSV Error" in str(cause) else lines[0] if lines else type(cause).__name__
        raise SourceUnreadable(shown) from cause
