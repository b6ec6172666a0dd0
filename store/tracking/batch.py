"""Many runs in one commit: what is logged waits in memory, and runs that have ended are written together, each whole.

One run with its metrics and a model costs a few fsyncs; a thousand in a batch cost the same few. What a commit could
not write waits on, and the block's end tries again.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

from store.errors import SchemaMismatch, WrongState
from store.ids import new_id
from store.rows import from_mappings
from store.schema import TABLES
from store.tracking.ledger import Change, Ledger, Told
from store.tracking.run import Run, told_of
from store.tracking.telling import About, Words, newly_told, status_after

#: Blobs that wait in memory. Beyond, they are written at once; the rows that speak of them come with their commit.
_WAITING_BYTES = 32 << 20
Rows = dict[str, list[Mapping[str, Any]]]


class Batch:
    """Runs that are written together; a context manager, made by ``store.batch``. Threads may share it.

    A run of a batch begins when it is made and ends with its own ``with`` block, by ``run.end()``, or with the batch.
    Nothing of it shows before the commit that has all of it.
    """

    def __init__(self, ledger: Ledger, *, parent: Told | None, every: int | None) -> None:
        if every is not None and every < 1:
            raise SchemaMismatch(f"a batch commits every so many runs, not every {every}")
        self.id: str = new_id() if parent is None else parent.row.get("batch_id") or parent.id
        self._ledger, self._parent, self._every = ledger, parent, every
        self._lock = threading.RLock()
        self._entered = False
        self._open: dict[str, Run] = {}
        self._rows: Rows = {}
        self._blobs: list[bytes] = []
        self._waiting = 0
        self._committed = 0

    def __repr__(self) -> str:
        waiting = len(self._rows.get("runs", ()))
        return f"Batch({self.id}, {self._committed} runs committed, {waiting} waiting, {len(self._open)} open)"

    @property
    def open(self) -> list[Run]:
        """The runs that have not ended."""
        with self._lock:
            return list(self._open.values())

    def run(
        self,
        asset: str | None = None,
        recipe: str | None = None,
        *,
        parent: Run | str | None = None,
        **about: Unpack[Words],
    ) -> Run:
        """A run of this batch, running at once. Takes what ``store.run`` does.

        Raises:
            WrongState: outside the batch's ``with`` block.
        """
        above = told_of(self._ledger, parent) or self._parent
        told = newly_told(About(asset=asset, recipe=recipe, **about), above, self.id)
        run = Run(self._ledger, _Waiting(self), told, self.run, resumed=False).begin()
        with self._lock:
            if not self._entered:
                raise WrongState(f"the batch {self.id} is not open", hint="make its runs inside its with block")
            self._open[run.id] = run
        return run

    def commit(self) -> int:
        """Write the runs that have ended; how many."""
        with self._lock:
            count = len(self._rows.get("runs", ()))
            if count:
                txn = self._ledger.transaction(self._ledger.flush)
                if self._blobs:
                    txn.put_blobs(self._blobs)
                for table, rows in self._rows.items():
                    txn.insert(table, rows)
                txn.commit()
                self._rows, self._blobs, self._waiting = {}, [], 0
                self._committed += count
            return count

    def __enter__(self) -> Self:
        self._ledger.transaction(None).abort()  # a closed or read-only store says so before any work is done
        self._entered = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        status = status_after(error)
        for run in self.open:
            run.end(status, None if status == "ok" else error)
        with self._lock:
            self._entered = False
            self.commit()

    def take(self, told: Told, rows: Rows, blobs: Sequence[bytes]) -> None:
        """A run has ended; this is all of it."""
        with self._lock:
            self._open.pop(told.id, None)
            whole: Rows = {"runs": [told.stored()], **rows}
            for table, added in whole.items():
                self._rows.setdefault(table, []).extend(added)
            self._blobs.extend(blobs)
            self._waiting += sum(map(len, blobs))
            if self._every is not None and len(self._rows["runs"]) >= self._every:
                self.commit()
            elif self._waiting > _WAITING_BYTES:
                txn = self._ledger.transaction(None)
                txn.put_blobs(self._blobs)
                txn.commit()
                self._blobs, self._waiting = [], 0


class _Waiting:
    """The sink of one run of a batch: keeps all of it until the run ends."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._lock = threading.Lock()
        self._rows: Rows = {}
        self._blobs: list[bytes] = []
        self._ended = False

    def begin(self, told: Told) -> Told:
        from_mappings(TABLES["runs"], [told.stored()])  # refused here, not when a thousand others wait to be written
        return told

    def change(self, told: Told, change: Change, blobs: Sequence[bytes] = (), *, last: bool = False) -> Told:
        made = change(told)
        with self._lock:
            self._blobs.extend(blobs)
            if not last or self._ended:
                return made
            self._ended = True
        self._batch.take(made, self._rows, self._blobs)
        return made

    def add(self, rows: Mapping[str, Any], blobs: Sequence[bytes] = ()) -> None:
        for table, added in rows.items():
            from_mappings(TABLES[table], added)
        with self._lock:
            if self._ended:
                raise WrongState("the run has ended", hint="log before it ends")
            for table, added in rows.items():
                self._rows.setdefault(table, []).extend(added)
            self._blobs.extend(blobs)
