"""How what runs tell reaches the store: every call one transaction, and no row overwritten by what is older.

Metrics, versions and blobs are only added. A run's row is rewritten whole, so somebody else's change to it must be seen
first: whoever changes a row that another may hold open leaves a mark in the same commit, and the holder, under the
writers' lock, reads the row again when the mark is not the one it knows. A run that nobody else touches costs two
look-ups in the catalog a change.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from store.clock import Clock
from store.errors import NotFound
from store.ids import new_id
from store.rows import to_json

if TYPE_CHECKING:
    from store.reading import Result
    from store.writing import Transaction

#: Left by whoever changes rows of runs in bulk: every open run then reads its row again.
_BULK = "runs"
_DESCENDANTS = """
SELECT * FROM runs
WHERE batch_id IN (SELECT batch_id FROM runs WHERE run_id IN (SELECT run_id FROM asked__runs))
  AND contains(tags, '"parent"')
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is known of one run: its row, with parameters and tags as values.

    ``seen`` are the marks it was read with, None when it must be read again before it is changed; ``shared`` says that
    others may hold the run open too.
    """

    row: Mapping[str, Any]
    params: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, Any] = field(default_factory=dict)
    seen: tuple[str | None, str | None] | None = None
    shared: bool = False

    @property
    def id(self) -> str:
        return str(self.row["run_id"])

    def stored(self) -> dict[str, Any]:
        """As a row of ``runs``."""
        return {**self.row, "params": dict(self.params), "tags": dict(self.tags)}


Change = Callable[[Told], Told]
Tags = dict[str, Any]
#: From the tags of runs, by id, to the tags they shall have.
Retag = Callable[[Mapping[str, Tags]], Mapping[str, Tags]]


class Sink(Protocol):
    """Where a run's calls go: straight into the store, or into a batch."""

    def begin(self, told: Told) -> Told: ...

    def change(self, told: Told, change: Change, blobs: Sequence[bytes] = (), *, last: bool = False) -> Told: ...

    def add(self, rows: Mapping[str, Any], blobs: Sequence[bytes] = ()) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The sink of runs that stand alone; it also reads runs, and changes those of others.

    The fields are what a store lends: a transaction (``after`` is told which tables want upkeep), its lock, watermarks,
    upkeep, questions, blobs, and its clock.
    """

    transaction: Callable[[Callable[[list[str]], None] | None], Transaction]
    held: Callable[[], AbstractContextManager[None]]
    mark: Callable[[str], str | None]
    flush: Callable[[list[str]], None]
    sql: Callable[..., Result]
    blob: Callable[[str], bytes]
    clock: Clock

    def begin(self, told: Told) -> Told:
        """Add the row of a new run."""
        txn = self.transaction(None)
        told = replace(told, seen=(None, self.mark(_BULK)))
        txn.insert("runs", [told.stored()])
        txn.commit()
        return told

    def add(self, rows: Mapping[str, Any], blobs: Sequence[bytes] = ()) -> None:
        """Add rows, by table, and blobs that they speak of."""
        txn = self.transaction(None)
        if blobs:
            txn.put_blobs(blobs)
        for table, added in rows.items():
            txn.insert(table, added)
        txn.commit()

    def change(self, told: Told, change: Change, blobs: Sequence[bytes] = (), *, last: bool = False) -> Told:
        """Rewrite the row of a run as ``change`` makes it of the newest one; what is known afterwards.

        Args:
            told: what is known by now.
            change: is handed what is newest; returns it as it is, or raises, when nothing shall be written.
            blobs: that the changed row speaks of.
            last: the run ends with this: time for upkeep, outside the lock.
        """
        swollen: list[str] = []
        txn = self.transaction(swollen.extend if last else None)
        if blobs:
            txn.put_blobs(blobs)
        with self.held():
            seen = (self.mark(_mark(told.id)), self.mark(_BULK))
            if seen != told.seen:
                told = replace(self.told(told.id), seen=seen, shared=told.shared)
            made = change(told)
            if made is told:
                return told
            if made.shared or seen[0] is not None:
                token = new_id()
                txn.mark(_mark(made.id), token)
                made = replace(made, seen=(token, seen[1]))
            txn.replace("runs", [made.stored()])
            txn.commit()
        if swollen:
            self.flush(swollen)
        return made

    # ---------------------------------------------------------------- runs of others

    def told(self, run_id: str) -> Told:
        """What the store knows of a run.

        Raises:
            NotFound: when it knows none of this id.
        """
        rows = self.sql("SELECT * FROM runs WHERE run_id = $id", {"id": run_id}).rows()
        if not rows:
            raise _no_run(run_id)
        row = rows[0]
        params, tags = _object(row.pop("params")), _object(row.pop("tags"))
        return Told(row=row, params=params, tags=tags)

    def retag(self, ids: Sequence[str], change: Retag, *, children: bool = False) -> list[str]:
        """Change the tags of many runs in one commit; the ids of those that changed, in the order of their ids.

        Args:
            ids: of the runs.
            change: may be asked about more runs than were named: see ``children``.
            children: of these runs, and theirs, are handed to ``change`` too.

        Raises:
            NotFound: when one of them does not exist; then none is changed.
        """
        import pyarrow as pa

        asked = {"asked__runs": pa.table({"run_id": pa.array(sorted(set(ids)), pa.string())})}
        txn = self.transaction(None)
        with self.held():
            query = "SELECT * FROM runs WHERE run_id IN (SELECT run_id FROM asked__runs)"
            rows = {row["run_id"]: row for row in self.sql(query, None, asked).rows()}
            for run_id in ids:
                if run_id not in rows:
                    raise _no_run(run_id)
            if children:
                _add_descendants(rows, self.sql(_DESCENDANTS, None, asked).rows())
            before = {run_id: _object(row["tags"]) for run_id, row in sorted(rows.items())}
            made = change(before)
            changed = [run_id for run_id, tags in before.items() if to_json(made[run_id]) != to_json(tags)]
            if changed:
                txn.mark(_BULK, new_id())
                # Only the tags are read and written anew: parameters stay the text they are.
                txn.replace("runs", [rows[run_id] | {"tags": made[run_id]} for run_id in changed])
                txn.commit()
        return changed


def _add_descendants(rows: dict[str, Any], candidates: list[dict[str, Any]]) -> None:
    """Add the candidates whose parent is there, and theirs, until there is no more."""
    waiting = [(row, _object(row["tags"]).get("parent")) for row in candidates]
    while True:
        fresh = [row for row, parent in waiting if parent in rows and row["run_id"] not in rows]
        if not fresh:
            return
        rows.update({row["run_id"]: row for row in fresh})


def _mark(run_id: str) -> str:
    return f"run/{run_id}"


def _no_run(run_id: str) -> NotFound:
    return NotFound(f"there is no run {run_id!r}", hint="store.runs(deleted=None) lists all")


def _object(text: str | None) -> dict[str, Any]:
    """A JSON object; of another value, which no release of ours writes, an object that keeps it."""
    value = json.loads(text) if text else {}
    return value if isinstance(value, dict) else {"value": value}
