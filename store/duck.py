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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb

from store.catalog import HotRows, State, quoted
from store.errors import Damaged, QueryInvalid, SourceUnreadable
from store.schema import MACROS, SQL_TYPES, STORED, VIEWS
from store.tree import Said, is_text, look_through, not_a_question, parameters, said

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
#: So many queries are remembered as checked, of at most so many characters.
_REMEMBERED, _REMEMBERED_LENGTH = 256, 10_000
#: Of more values than these in an IN, the WHERE says nothing here.
_VALUES = 64
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
        # Segments never change, so their footers may be kept and need not be compared with the file's time again, which
        # costs a millisecond a file (DuckDB 2.0, named one by one).
        self._connection.execute(
            "SET GLOBAL parquet_metadata_cache = true; SET GLOBAL validate_external_file_cache = 'VALIDATE_REMOTE'"
        )
        self._connection.execute(
            f"SET GLOBAL allowed_directories = [{literal(self._segments)}];"
            "SET GLOBAL enable_external_access = false; CREATE SCHEMA hot"
        )
        self.planning = threading.RLock()
        self._held: dict[str, tuple[str, int, int]] = {}  # table -> (name here, rewritten, newest _v)
        self._stale: list[str] = []
        self._checked: dict[str, Checked] = {}
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
        return Question(self._connection.cursor(), self._segments, self._checked)


def _kind(table: str, column: str) -> str:
    declared = STORED[table].column(column)
    assert declared is not None
    return declared.kind


class Checked(NamedTuple):
    """A query that may run, what its WHERE says plainly, and how to ask for the values in that."""

    query: str
    said: tuple[Said, ...]
    values: str


class Question:
    """One cursor with its own temporary views."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, segments: str, checked: dict[str, Checked]) -> None:
        self._cursor, self._segments, self._checked = cursor, segments, checked

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

    def check(self, query: str, columns: Mapping[str, tuple[str | None, str | None]]) -> Checked:
        """What to run for a query: the one SELECT that it is, or the explanation of one. Remembered by its text.

        Args:
            query: as the user wrote it.
            columns: of the views that it names, as :func:`tree.said` takes them; they depend on the query alone.

        Raises:
            QueryInvalid: for several statements, or one that does more than read.
        """
        found = self._checked.get(query)
        if found is None:
            found = self._check(query, columns)
            if len(query) <= _REMEMBERED_LENGTH:
                while len(self._checked) >= _REMEMBERED:
                    self._checked.pop(next(iter(self._checked), ""), None)
                self._checked[query] = found
        return found

    def _check(self, query: str, columns: Mapping[str, tuple[str | None, str | None]]) -> Checked:
        kind, text = self._one(query)
        asked = run = query
        if kind != "SELECT":
            explained = _EXPLAIN.fullmatch(text) if kind == "EXPLAIN" else None
            if explained is None:
                raise not_a_question(kind)
            asked = explained["asked"]
            kind, _ = self._one(asked)
            if kind != "SELECT":
                raise not_a_question(f"EXPLAIN of {kind}")
            # Put together anew: what runs is what was looked through, whatever comments stood before it.
            run = f"EXPLAIN {explained['options']}\n{asked}"
        tree = self._looked_through(asked)
        found = [one for one in said(tree, columns) if len(one.values) <= _VALUES]
        return Checked(run, tuple(found), self._values_sql(tree, found))

    def _values_sql(self, tree: dict[str, Any], found: Sequence[Said]) -> str:
        """A SELECT of type, microseconds and text of every value that a WHERE names."""
        values = [value for one in found for value in one.values]
        if not values:
            return ""
        bare = self._tree("SELECT 1")
        bare["statements"][0]["node"]["select_list"] = values
        with self._translated():
            ((select,),) = self._cursor.execute(
                "SELECT json_deserialize_sql(CAST(? AS JSON))", [json.dumps(bare)]
            ).fetchall()
        names = [f"c{place}" for place in range(len(values))]
        each = (f"typeof({c}), epoch_us(TRY_CAST({c} AS TIMESTAMPTZ)), TRY_CAST({c} AS VARCHAR)" for c in names)
        return f"SELECT {', '.join(each)} FROM ({select}) AS given({', '.join(names)})"

    def narrowing(self, checked: Checked, params: Params) -> list[tuple[Said, list[int] | list[str]]]:
        """What the WHERE of a checked query says, with its values: instants in microseconds, or texts.

        What cannot be told is left out: the query itself says what is wrong with it.
        """
        if not checked.values:
            return []
        given = params if isinstance(params, Mapping) else {str(i): one for i, one in enumerate(params or (), 1)}
        try:
            wanted = {name: given[name] for one in checked.said for name in parameters(one.values)}
            (row,) = self._cursor.execute(checked.values, wanted).fetchall()
        except (duckdb.Error, KeyError, OverflowError):
            return []
        found: list[tuple[Said, list[int] | list[str]]] = []
        for one in checked.said:
            mine, row = row[: 3 * len(one.values)], row[3 * len(one.values) :]
            told = list(zip(mine[::3], mine[1::3], mine[2::3], one.values, strict=True))
            if one.how == "among":
                if all(kind in ("VARCHAR", '"NULL"') for kind, _, _, _ in told):
                    found.append((one, [text for _, _, text, _ in told if text is not None]))
            elif all(
                at is not None and (kind.startswith(("TIMESTAMP", "DATE")) or is_text(value))
                for kind, at, _, value in told
            ):
                found.append((one, [at for _, at, _, _ in told]))
        return found

    def _one(self, query: str) -> tuple[str, str]:
        """Kind and text of the one statement there may be."""
        with self._translated():
            statements = self._cursor.extract_statements(query)
        if len(statements) != 1:
            raise QueryInvalid(f"{len(statements)} statements were given, one is wanted")
        return statements[0].type.name, statements[0].query

    def _looked_through(self, select: str) -> dict[str, Any]:
        """The tree of a SELECT, after a look whether it only reads."""
        tree = self._tree(select)
        if tree["error"]:
            raise QueryInvalid(f"the question cannot be checked: {tree['error_message'].splitlines()[0]}")
        look_through(tree)
        return tree

    def _tree(self, select: str) -> dict[str, Any]:
        with self._translated():
            ((answer,),) = self._cursor.execute("SELECT CAST(json_serialize_sql(?) AS VARCHAR)", [select]).fetchall()
        tree: dict[str, Any] = json.loads(answer)
        return tree

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
                raise not_a_question("a statement that writes") from cause
            hint = next((line for line in lines[1:] if line.startswith(("Did you", "Candidate"))), "")
            if unknown := _UNKNOWN.match(first):
                raise QueryInvalid(f"there is no view {unknown[1]!r}", hint=_nearest(unknown[1])) from cause
            raise QueryInvalid(first, hint=hint) from cause
        except OverflowError as cause:
            raise QueryInvalid(f"a parameter is out of range: {cause}") from cause


def _unreadable(cause: duckdb.Error) -> Damaged:
    first = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
    return Damaged(f"a segment cannot be read: {first}", hint="`tsfleet store verify` says which")


def _nearest(name: str) -> str:
    """A hint that names the view nearest to a name, and all there are."""
    from difflib import get_close_matches

    names = sorted([*VIEWS, *MACROS])
    close = get_close_matches(name.strip('"').lower(), names, n=1, cutoff=0.5)
    there = f"there are {', '.join(names)}"
    return f"did you mean {close[0]!r}? {there}" if close else there


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
