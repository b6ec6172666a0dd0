"""Hot rows made ready for their insertion: all that can be done to them before the writers' lock is held."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from store.catalog import sums
from store.catalog.layout import Columns
from store.schema import STORED


class HotBatch(NamedTuple):
    """Rows of one table as SQLite will hold them, ``values`` beside ``names`` by column, and their digest.

    ``brought`` are the dynamic columns among them, which the table may not have yet.
    """

    table: str
    names: tuple[str, ...]
    values: tuple[list[Any], ...]
    rows: int
    digest: bytes
    brought: tuple[str, ...]


def hot_batch(table: str, columns: Columns, rows: int) -> HotBatch:
    """The rows of a commit, or of a part of it, in the store's own representation.

    >>> batch = hot_batch("metrics", {"name": ["mae"], "value": [-0.0]}, 1)
    >>> batch.names, batch.values, batch.brought
    (('name', 'value'), (['mae'], ['-0.0']), ())
    """
    names = tuple(columns)
    doubles, brought = _kinds(table, names)
    held = columns | {name: _texts(columns[name]) for name in doubles}
    return HotBatch(table, names, tuple(held.values()), rows, sums.batch_digest(held), brought)


@lru_cache(maxsize=256)
def _kinds(table: str, names: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those of the columns that hold numbers with a fraction, and those that are dynamic."""
    declared = STORED[table]
    kinds = {name: declared.column(name) for name in names}
    doubles = tuple(name for name, column in kinds.items() if column is not None and column.kind == "double")
    return doubles, tuple(name for name in names if name not in declared.by_name)


def _texts(values: list[Any]) -> list[str | None]:
    # As text: SQLite's JSON writes reals with 15 digits, turns NaN into NULL and -0.0 into 0.0.
    return [None if value is None else repr(value) for value in values]
