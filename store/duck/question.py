"""One question: whether it only reads, what its WHERE says, and its answer.

Each has a cursor with temporary views of its own, and runs in a transaction in which DuckDB refuses to write.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb

from store.errors import Damaged, QueryInvalid
from store.schema import MACROS, VIEWS
from store.tree import Said, is_text, look_through, not_a_question, parameters, said

if TYPE_CHECKING:
    import pyarrow as pa

Params = Sequence[object] | Mapping[str, object] | None

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
                if len(self._checked) >= _REMEMBERED:
                    self._checked.clear()  # in one step: other threads ask too
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

    def stream(self, query: str, rows: int, params: Params = None) -> Iterator[pa.RecordBatch]:
        """The answer in batches of so many rows, never whole in memory; what does not fit while sorting is spilled."""
        with self._reading():
            reader = self._ask(query, params).to_arrow_reader(rows)
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
