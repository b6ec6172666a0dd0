"""The DuckDB side of one open store: its settings, and its copy of the hot rows, brought up to date by ``_v``."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb

from store.catalog import HotRows, State, quoted
from store.duck.question import Checked, Question
from store.errors import Damaged
from store.schema import SQL_TYPES, STORED

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


def literal(text: str) -> str:
    """A string literal, safe in SQL.

    >>> literal("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def instant(micros: int) -> str:
    """An instant as SQL."""
    return f"make_timestamptz({micros}::BIGINT)"


def connect() -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory, in UTC, that loads nothing from outside and takes no Python variable for a table."""
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
        self._connection = connect()
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
        self._tail: tuple[tuple[str, int], str] | None = None
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
        return Question(self._connection.cursor(), self._segments, self._checked)


def _kind(table: str, column: str) -> str:
    declared = STORED[table].column(column)
    assert declared is not None
    return declared.kind
