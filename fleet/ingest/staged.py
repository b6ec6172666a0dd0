"""A transaction that knows whether anything was handed to it, so that an ingest without news makes no commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

if TYPE_CHECKING:
    from store import Commit, Store

Rows: TypeAlias = "pa.Table | Sequence[Mapping[str, Any]]"


class Staged:
    """Rows on their way into the store, counted."""

    def __init__(self, store: Store, note: str) -> None:
        self._transaction = store.begin(note=note)
        self.rows = 0

    def insert(self, table: str, rows: Rows) -> None:
        """Add rows whose keys are new."""
        self._transaction.insert(table, rows)
        self.rows += len(rows)

    def replace(self, table: str, rows: Rows) -> None:
        """Add rows that supersede those with the same key."""
        self._transaction.replace(table, rows)
        self.rows += len(rows)

    def commit(self) -> Commit | None:
        """Make all of it visible; None when there is nothing."""
        return self._transaction.commit() if self.rows else None

    def abort(self) -> None:
        """Give up; the store stays as it was."""
        self._transaction.abort()
