"""Finding what changed in a catalog behind everybody's back: its structure, the sums of its tables, its hot rows.

A fault is told with the table and, for hot rows, with the commit and what its rows say about their assets and times as
they are now: the damage may be in just that.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from store.catalog import sums
from store.catalog.layout import PLACE_BITS, held_of, hot_table
from store.schema import DERIVED, STORED

_MOST = 20
#: What comes instead of rows; sqlite3 cannot decode every message about a damaged statement.
_UNREADABLE = (sqlite3.Error, UnicodeDecodeError, TypeError, OverflowError)


class Fault(NamedTuple):
    """One thing that is not as it was written; ``table`` is a stored name, or empty for the catalog's own tables."""

    what: str
    table: str = ""
    rows: int = 0
    first: str | None = None
    last: str | None = None
    since: int | None = None
    until: int | None = None


def faults(connection: sqlite3.Connection) -> Iterator[Fault]:
    """All faults of a catalog, as one reading of it sees them; memory holds one batch of hot rows at a time."""
    # Text that is no UTF-8 any more must reach the comparison, not stop it.
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    try:
        for (found,) in connection.execute(f"PRAGMA integrity_check({_MOST})"):
            if found != "ok":
                yield Fault(f"SQLite finds: {' '.join(str(found).split())}")
    except _UNREADABLE as error:
        yield Fault(f"SQLite cannot check it: {error}")
    try:
        known = _known()
        if strange := sorted(name for (name,) in connection.execute(_NAMES) if name not in known):
            yield Fault(f"it has tables that no release made: {', '.join(map(repr, strange))}")
        if not sums.present(connection):
            return
    except _UNREADABLE as error:
        yield Fault(f"its tables cannot be listed: {error}")
        return
    for table in (sums.SCHEMA, *sums.SUMMED):
        yield from _added_up(connection, table)
    # One that was lost, not missing from the first, shows in the sum over the statements.
    there = [name for name in STORED if held_of(connection, name, STORED[name].names)]
    for table in there:
        yield from _hot(connection, table)
    yield from _counted(connection, there)


_NAMES = "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"


def _known() -> set[str]:
    hot = {f"{kind}_{name}" for name in STORED for kind in ("hot", "key")}
    return {*sums.SUMMED, "tables", "sums", "hot_batches", *hot}


def _added_up(connection: sqlite3.Connection, table: str) -> Iterator[Fault]:
    what = "the statements that made it" if table == sums.SCHEMA else f"its table {table!r}"
    try:
        row = connection.execute("SELECT sum FROM sums WHERE tbl = ?", (table,)).fetchone()
        if row is None or sums.sum_of(connection, table) != row[0]:
            yield Fault(f"{what} is not what was written" if row else f"the sum over {what} is gone")
    except _UNREADABLE as error:
        yield Fault(f"{what} cannot be read: {error}")


def _hot(connection: sqlite3.Connection, table: str) -> Iterator[Fault]:
    try:
        counted = 0
        for n, rows, digest in sums.batches(connection, table):
            columns = sums.batch_rows(connection, table, n, rows)
            counted += rows
            if sums.batch_digest(columns) != digest:
                yield _told(table, n >> PLACE_BITS, rows, columns)
        (held,) = connection.execute(f"SELECT count(*) FROM {hot_table(table)}").fetchone()
        if held != counted:
            yield Fault(f"it holds {held} hot rows of {table}, {counted} were written", table)
    except _UNREADABLE as error:
        yield Fault(f"the hot rows of {table} cannot be read: {error}", table)


def _counted(connection: sqlite3.Connection, there: Sequence[str]) -> Iterator[Fault]:
    """Whether ``tables`` says what the other tables add up to; what cannot be counted in it, no answer depends on."""
    try:
        (head,) = connection.execute("SELECT coalesce(max(id), 0) FROM snapshots").fetchone()
        marks = {
            name: (hot, touched) for name, hot, touched in connection.execute("SELECT name, hot, touched FROM tables")
        }
        if marks.keys() - DERIVED.keys() != set(there):
            yield Fault("its table 'tables' does not name the tables that there are")
            return
        newest = dict(connection.execute("SELECT tbl, max(max_v) FROM segments GROUP BY tbl"))
        for table, (hot, touched) in marks.items():
            ask = f"SELECT count(*), coalesce(max(_n), 0) >> {PLACE_BITS} FROM {hot_table(table)}"
            held, last = (0, 0) if table in DERIVED else connection.execute(ask).fetchone()
            if hot != held or not max(last, newest.get(table, 0)) <= touched <= head:
                yield Fault(f"what its table 'tables' says of {table} is not what was written", table)
    except _UNREADABLE as error:
        yield Fault(f"its table 'tables' cannot be read: {error}")


def _told(table: str, snapshot: int, rows: int, columns: Mapping[str, Sequence[Any]]) -> Fault:
    declared = STORED[table]
    assets = sorted({one for one in columns.get(declared.entity or "", ()) if isinstance(one, str)})
    kind = declared.time_column and declared.by_name[declared.time_column].kind
    times = [one for one in columns.get(declared.time_column or "", ()) if isinstance(one, int) and kind == "instant"]
    return Fault(
        what=f"the hot rows of {table} that commit {snapshot} brought are not what was written",
        table=table,
        rows=rows,
        first=assets[0] if assets else None,
        last=assets[-1] if assets else None,
        since=min(times) if times else None,
        until=max(times) if times else None,
    )


def damaged_commit(
    connection: sqlite3.Connection, table: str, places: Sequence[int], columns: Mapping[str, list[Any]]
) -> int | None:
    """The commit of the first batch of a table's hot rows that is not what was written, None when all are.

    Args:
        connection: of the reading that found the rows.
        table: a stored name.
        places: ``_n`` of all its hot rows, in order.
        columns: beside them.
    """
    if not sums.present(connection):
        return None
    for n, rows, digest in sums.batches(connection, table):
        begin, end = bisect_left(places, n), bisect_left(places, n + rows)
        if sums.batch_digest({name: values[begin:end] for name, values in columns.items()}) != digest:
            return int(n >> PLACE_BITS)
    return None
