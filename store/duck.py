"""DuckDB, in memory, and the only module that speaks it.

It reads segments in place, holds a copy of the hot rows that is brought up to date by ``_v``, and answers on one
cursor a question. UTC, no extensions from outside, no Python variables as tables, no file outside the store.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from store.catalog import HotRows, State, quoted
from store.errors import Damaged, QueryInvalid, SourceUnreadable
from store.schema import MACROS, SQL_TYPES, STORED, VIEWS

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
#: Table functions that a question may call. Others write logs and profiles to any path, run SQL out of a text, follow
#: raw pointers or look at files.
_FUNCTIONS = {
    *MACROS,
    *("unnest", "range", "generate_series", "repeat", "repeat_row", "summary", "json_each", "json_tree"),
    *("histogram", "histogram_values", "pg_timezone_names", "icu_calendar_names"),
    *("duckdb_columns", "duckdb_functions", "duckdb_keywords", "duckdb_tables", "duckdb_types", "duckdb_views"),
    *("pragma_show", "pragma_table_info", "pragma_version"),
}
#: What a WITH may hold: DuckDB 2 also takes COPY and DELETE there, and lets the COPY write in a read-only transaction.
_QUERY_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_GAP = r"(?:\s|--[^\n]*\n|/\*.*?\*/)*"
_EXPLAIN = re.compile(
    rf"{_GAP}explain\b{_GAP}(?P<options>analyze\b|\((?:\s|,|analyze\b|format\b|json\b|text\b)*\)|){_GAP}(?P<asked>.*)",
    re.IGNORECASE | re.DOTALL,
)
_UNKNOWN = re.compile(r"Catalog Error: Table with name (.+?) does not exist")


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

    def __init__(self, folder: Path, *, memory: int | None = None) -> None:
        self._segments = str(folder.absolute() / "segments") + os.sep
        self._connection = _connect()
        if memory is not None:
            # Two threads: what each sorts counts against the bound.
            self._connection.execute(f"SET GLOBAL memory_limit = '{memory} B'; SET GLOBAL threads = 2")
        self._connection.execute(
            f"SET GLOBAL allowed_directories = [{literal(self._segments)}];"
            "SET GLOBAL enable_external_access = false; CREATE SCHEMA hot"
        )
        self.planning = threading.RLock()
        self._held: dict[str, tuple[str, int, int]] = {}  # table -> (name here, rewritten, newest _v)
        self._tail: tuple[tuple[str, int], str] | None = None
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
        try:
            self._connection.execute(
                f"INSERT INTO {name} ({listed}) SELECT {', '.join(outer)} FROM (SELECT {', '.join(inner)})",
                list(rows.arrays),
            )
        except duckdb.Error as cause:
            first = str(cause).splitlines()[0]
            told = f"the hot rows of {table} hold what nobody wrote: {first}"
            raise Damaged(told, hint="`tsfleet store verify` says which") from cause

    def tail(self, key: tuple[str, int], rows: Callable[[], str]) -> str:
        """The name of a table with the rows of a question that is asked again and again; the last one is kept.

        Planning it takes DuckDB longer than answering, so that the second question takes a fifth of the time.

        Args:
            key: what the rows depend on.
            rows: their SQL.
        """
        with self.planning:
            if self._tail is None or self._tail[0] != key:
                self._made += 1
                name = f"hot.tail_{self._made}"
                self.cursor().define([f"CREATE TABLE {name} AS {rows()}"])
                if self._tail is not None:
                    self._stale.append(self._tail[1])
                self._tail = (key, name)
            return self._tail[1]

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
            try:
                self._cursor.execute(";\n".join(statements))
            except duckdb.Error as cause:  # the statements are our own: only what they stand on can be wrong
                raise _unreadable(cause) from cause

    def register(self, name: str, table: pa.Table) -> None:
        """Let the question read an Arrow table under a name."""
        self._cursor.register(name, table)

    def check(self, query: str) -> str:
        """What to run for a query: the one SELECT that it is, or the explanation of one.

        Raises:
            QueryInvalid: for several statements, or one that does more than read.
        """
        kind, text = self._one(query)
        if kind == "SELECT":
            self._look_through(query)
            return query
        explained = _EXPLAIN.fullmatch(text) if kind == "EXPLAIN" else None
        if explained is None:
            raise _not_a_question(kind)
        asked = explained["asked"]
        kind, _ = self._one(asked)
        if kind != "SELECT":
            raise _not_a_question(f"EXPLAIN of {kind}")
        self._look_through(asked)
        # Put together anew: what runs is what was looked through, whatever comments stood before it.
        return f"EXPLAIN {explained['options']}\n{asked}"

    def _one(self, query: str) -> tuple[str, str]:
        """Kind and text of the one statement there may be."""
        with self._translated():
            statements = self._cursor.extract_statements(query)
        if len(statements) != 1:
            raise QueryInvalid(f"{len(statements)} statements were given, one is wanted")
        return statements[0].type.name, statements[0].query

    def _look_through(self, select: str) -> None:
        """Refuse statements within it and table functions that do more than read, however deep they stand."""
        with self._translated():
            ((answer,),) = self._cursor.execute("SELECT CAST(json_serialize_sql(?) AS VARCHAR)", [select]).fetchall()
        tree = json.loads(answer)
        if tree["error"]:
            raise QueryInvalid(f"the question cannot be checked: {tree['error_message'].splitlines()[0]}")
        for node in _nodes(tree):
            kind = str(node.get("type"))
            if "cte_map" in node and kind not in _QUERY_NODES:
                raise _not_a_question(kind.removesuffix("_QUERY_NODE"))
            if kind == "TABLE_FUNCTION" and (name := node["function"]["function_name"]).lower() not in _FUNCTIONS:
                raise QueryInvalid(
                    f"{name!r} is not a table function for questions",
                    hint=f"there are {', '.join(sorted(_FUNCTIONS))}",
                )

    def arrow(self, query: str, params: Params = None) -> pa.Table:
        """The whole answer as an Arrow table."""
        with self._reading():
            return self._ask(query, params).to_arrow_table()

    def stream(self, query: str, rows: int) -> Iterator[pa.RecordBatch]:
        """The answer in batches of so many rows, never whole in memory; what does not fit while sorting is spilled."""
        with self._reading():
            reader = self._ask(query, None).to_arrow_reader(rows)
            while True:
                try:
                    batch = reader.read_next_batch()
                except StopIteration:
                    return
                except OSError as cause:  # pyarrow's word for whatever DuckDB says in the middle of a stream
                    raise Damaged(str(cause).splitlines()[0], hint="restore it from a backup") from cause
                yield batch

    def held(self, query: str, params: Params = None) -> Held:
        """The whole answer, kept in DuckDB until somebody wants it in some form."""
        with self._reading():
            return Held(self._ask(query, params).materialize(), self)

    def _ask(self, query: str, params: Params) -> duckdb.DuckDBPyRelation:
        relation = self._cursor.sql(query, params=params) if params else self._cursor.sql(query)
        if relation is None:
            raise QueryInvalid("the statement has no answer")
        return relation

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """A transaction in which DuckDB refuses to write: a SELECT may hold a DELETE in its WITH."""
        with self._translated():
            self._cursor.execute("BEGIN TRANSACTION READ ONLY")
            try:
                yield
            finally:
                self._cursor.execute("ROLLBACK")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as cause:
            lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
            first = lines[0] if lines else type(cause).__name__
            # What the Parquet reader finds in the middle of a file comes without a kind, or without the file's name.
            found = self._segments in str(cause) or type(cause) is duckdb.Error or "Parquet" in first
            if found and not isinstance(cause, duckdb.PermissionException):
                raise _unreadable(cause) from cause
            if isinstance(cause, duckdb.TransactionException) and "read-only" in first:
                raise _not_a_question("a statement that writes") from cause
            hint = next((line for line in lines[1:] if line.startswith(("Did you", "Candidate"))), "")
            if unknown := _UNKNOWN.match(first):
                raise QueryInvalid(f"there is no view {unknown[1]!r}", hint=_nearest(unknown[1])) from cause
            raise QueryInvalid(first, hint=hint) from cause
        except OverflowError as cause:
            raise QueryInvalid(f"a parameter is out of range: {cause}") from cause


def _unreadable(cause: duckdb.Error) -> Damaged:
    first = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
    return Damaged(f"a segment cannot be read: {first}", hint="`tsfleet store verify` says which")


def _not_a_question(what: str) -> QueryInvalid:
    return QueryInvalid(
        f"{what} is not a question", hint="the store answers SELECT, DESCRIBE, SUMMARIZE, and EXPLAIN of a SELECT"
    )


def _nearest(name: str) -> str:
    """A hint that names the view nearest to a name, and all there are."""
    from difflib import get_close_matches

    names = sorted([*VIEWS, *MACROS])
    close = get_close_matches(name.strip('"').lower(), names, n=1, cutoff=0.5)
    there = f"there are {', '.join(names)}"
    return f"did you mean {close[0]!r}? {there}" if close else there


def _nodes(tree: object) -> Iterator[dict[str, Any]]:
    """Every node of a query's serialized tree."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


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
