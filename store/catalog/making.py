"""The making of a catalog: complete under its own name, or not there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

from store.catalog.layout import FORMAT, NAME, hot_table, quoted
from store.catalog.meaning import translated
from store.errors import Damaged, StoreError
from store.files import check_local, make_folder, sync_folder, told
from store.lock import WriterLock
from store.schema import STORED, Table

_HELD = """
SELECT m.name, c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c
WHERE m.type = 'table' AND m.name LIKE 'hot\\_%' ESCAPE '\\'
"""
_SCRIPT = Path(__file__).parent.parent / "sql" / "catalog.sql"


def exists(folder: Path) -> bool:
    """Whether a folder holds a finished catalog."""
    return (folder / NAME).is_file()


def create(folder: Path, lock: WriterLock, *, store_id: str, at: int) -> None:
    """Make the catalog of a new store; several processes may try at once and one does it."""
    make_folder(folder)
    check_local(folder, "it cannot be made there")
    with lock.held():
        if exists(folder):
            return
        strangers = sorted(p.name for p in folder.iterdir() if p.name != "lock" and not p.name.startswith(NAME))
        if "segments" in strangers or "packs" in strangers:
            raise Damaged(f"the catalog {folder / NAME} is gone, what it named is there", hint="restore a backup")
        if strangers:
            raise StoreError(
                f"{folder} is no store but holds {len(strangers)} other entries ({', '.join(strangers[:3])})",
                hint="name an empty or a new folder",
            )
        # Built under another name: a catalog under its own name is always complete.
        making = folder / (NAME + ".new")
        with told(making):
            for leftover in (making, folder / (NAME + ".new-journal")):
                leftover.unlink(missing_ok=True)
        with translated(making, writing=True):
            _build(making, store_id, at)
        lock.note(0)  # of a catalog that somebody took away
        with told(folder / NAME):
            making.rename(folder / NAME)
        sync_folder(folder)


def upgrade(connection: sqlite3.Connection) -> None:
    """Add what a folder made by an earlier release of the same format lacks; call under the writers' lock."""
    known = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    missing = [name for name in ("retired", "hot_batches", "sums") if name not in known]
    statements = _new_tables(connection)
    if missing:
        _add_own(connection, missing, statements)
    elif statements:
        _add_hot(connection, statements)


def _new_tables(connection: sqlite3.Connection) -> list[str]:
    """What gives a catalog the logical tables, and the columns of them, that were declared after it was made."""
    held: dict[str, set[str]] = {}
    for table, column in connection.execute(_HELD):
        held.setdefault(table, set()).add(column)
    statements = []
    for name, table in STORED.items():
        there = held.get("hot_" + name)
        if there is None:
            statements += [one for one in _hot_ddl(table).split(";") if one.strip()]
        else:
            lacking = [quoted(column) for column in table.names if column not in there]
            statements += [f"ALTER TABLE {hot_table(name)} ADD COLUMN {column}" for column in lacking]
    return statements


def _add_hot(connection: sqlite3.Connection, statements: Iterable[str]) -> None:
    """Run them; the sum over the catalog's statements changes by what they add, so that older damage stays seen."""
    from store.catalog import sums

    connection.execute("BEGIN IMMEDIATE")
    try:
        before = sums.sum_of(connection, sums.SCHEMA)
        _declare(connection, statements)
        sums.add(connection, {sums.SCHEMA: before ^ sums.sum_of(connection, sums.SCHEMA)})
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _declare(connection: sqlite3.Connection, statements: Iterable[str]) -> None:
    for statement in statements:
        connection.execute(statement)
    connection.executemany("INSERT OR IGNORE INTO tables (name) VALUES (?)", [(name,) for name in STORED])


def _add_own(connection: sqlite3.Connection, missing: Sequence[str], hot: Iterable[str]) -> None:
    """Give the catalog the tables of its own that it lacks, and its digests."""
    from store.catalog import sums

    script = _SCRIPT.read_text(encoding="utf-8")
    begins = [script.index(f"CREATE TABLE {name}") for name in missing]
    statements = [script[begin : script.index(";", begin)] for begin in begins]
    if "retired" in missing:
        statements.append("ALTER TABLE tables ADD COLUMN since INTEGER")
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in statements:
            connection.execute(statement)
        _declare(connection, hot)
        sums.renew(connection)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _build(path: Path, store_id: str, at: int) -> None:
    from store.catalog import sums

    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        script = _SCRIPT.read_text(encoding="utf-8")
        hot = "\n".join(_hot_ddl(table) for table in STORED.values())
        connection.executescript(f"BEGIN;\n{script}\n{hot}")
        meta = {"format": str(FORMAT), "store_id": store_id, "created_at": str(at)}
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        connection.executemany("INSERT INTO tables (name) VALUES (?)", [(name,) for name in STORED])
        sums.renew(connection)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()


def _hot_ddl(table: Table) -> str:
    # Columns without a declared type: SQLite then keeps every value as given ('inf' stays text).
    columns = ", ".join(quoted(name) for name in table.names)
    index = [name for name in table.key if name in table.by_name]
    lines = [f"CREATE TABLE {hot_table(table.name)} (_n INTEGER PRIMARY KEY, {columns});"]
    if index:
        keys = ", ".join(quoted(name) for name in index)
        lines.append(f"CREATE INDEX {quoted('key_' + table.name)} ON {hot_table(table.name)} ({keys});")
    return "\n".join(lines)
