"""The book of one job: what was done is committed in chunks, with every asset's outcome, and added up in a report.

Everything a chunk brings (runs, versions, blobs, forecasts, scores, outcomes) goes into one commit, so a kill loses
at most the chunk in hand. A job that finds nothing due writes nothing at all.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fleet.judging import Finished
from fleet.outcome import Failed, Outcome, Progress, Report, Show, cause_of, grouped
from store.clock import Clock

if TYPE_CHECKING:
    from store import Store
    from store.reading import Snapshot

COMMIT_ROWS = 200_000
COMMIT_ASSETS = 1_000
COMMIT_S = 5.0

BLAMED = """
select asset_id, arg_max(error_code, run_id) as code, arg_max(error, run_id) as error
from runs where status = 'failed' and error_code is not null group by asset_id
"""

# Rows under a key that may exist already; those of a backtest carry the id of a run made a moment ago.
REPLACED = ("scales",)
REPLACED_LIVE = ("scales", "forecasts")


class Ledger:
    """Buffers finished chunks, commits them, counts.

    Args:
        store: where it is written.
        job, slot: under which name, and at which logical time; `cli:train` and its start for a command typed by hand.
        total: assets that the job is about.
        show: told after every chunk.
        live: forecasts are issued, and may be there already.
    """

    def __init__(
        self, store: Store, *, clock: Clock, job: str, slot: datetime, total: int, show: Show | None, live: bool = False
    ) -> None:
        self.store, self.clock, self.job, self.slot, self.total = store, clock, job, slot, total
        self._show = show
        self._replaced = REPLACED_LIVE if live else REPLACED
        self._started_at: datetime = clock.now()
        self._started = self._committed_at = time.monotonic()
        self._opened = False
        self._tables: dict[str, list[pa.Table]] = {}
        self._blobs: list[bytes] = []
        self._outcomes: list[Outcome] = []
        self._failures: list[tuple[str, str | None, Failed]] = []
        self._pending_rows = 0
        self._notes: list[str] = []
        self.counts = {"ok": 0, "failed": 0, "fell_back": 0, "skipped": 0}
        self.written: dict[str, int] = {}

    def note(self, line: str) -> None:
        """A line for the report."""
        if line not in self._notes:
            self._notes.append(line)

    def blame(self, asset_id: str, recipe: str, failed: Failed) -> None:
        """A failure for the report that is not the asset's outcome: another recipe did its work."""
        self._failures.append((asset_id, recipe, failed))

    def add(self, finished: Finished | None, outcomes: Sequence[Outcome] = ()) -> None:
        """Take a finished chunk; commit when enough has gathered."""
        if finished is not None:
            for name, table in finished.tables.items():
                self._tables.setdefault(name, []).append(table)
                self._pending_rows += table.num_rows
            self._blobs.extend(finished.blobs)
        self._outcomes.extend(outcomes)
        for outcome in outcomes:
            self.counts[outcome.status] += 1
            if outcome.failure is not None:
                self._failures.append((outcome.asset_id, outcome.recipe, outcome.failure))
        late = time.monotonic() - self._committed_at > COMMIT_S
        if late or self._pending_rows >= COMMIT_ROWS or len(self._outcomes) >= COMMIT_ASSETS:
            self.commit()
        self._tell()

    def _tell(self) -> None:
        if self._show is not None:
            seconds = time.monotonic() - self._started
            done = sum(self.counts.values())
            self._show(Progress(done=done, total=self.total, seconds=seconds, **self.counts))

    def commit(self) -> int | None:
        """Commit what has gathered; the snapshot, or None when there was nothing to say."""
        self._committed_at = time.monotonic()
        if not self._tables and not self._news():
            return None
        transaction = self.store.begin(note=self.job)
        now = self.clock.now()
        for name, parts in self._tables.items():
            table = pa.concat_tables([_plain(part) for part in parts], promote_options="permissive")
            if name == "versions":
                table = table.append_column("sha256", pa.array(transaction.put_blobs(self._blobs), pa.string()))
            if name == "forecasts":
                table = table.append_column(
                    "created_at", pa.repeat(pa.scalar(now, pa.timestamp("us", "UTC")), table.num_rows)
                )
            if name in self._replaced:
                transaction.replace(name, table)
            else:
                transaction.insert(name, table)
        if self._outcomes:
            transaction.insert("outcomes", self._outcome_rows())
        if not self._opened:
            transaction.insert("job_runs", [self._job_row("running", None)])
        done = transaction.commit()
        self._opened = True
        self.count(done.written)
        self._tables, self._blobs, self._outcomes, self._pending_rows = {}, [], [], 0
        return int(done.snapshot)

    def count(self, written: Mapping[str, int]) -> None:
        """Add the rows of a commit to the report's."""
        for name, rows in written.items():
            self.written[name] = self.written.get(name, 0) + rows

    def _news(self) -> bool:
        """Skipped assets alone are no reason to write."""
        return self._opened or any(outcome.status != "skipped" for outcome in self._outcomes)

    def fail(self, error: BaseException) -> None:
        """End the job's row with what stopped it; what was not committed is dropped and done by the next run."""
        self._end("failed", f"{type(error).__name__}: {error}")

    def _end(self, status: str, error: str | None) -> None:
        if self._opened:
            transaction = self.store.begin(note=self.job)
            transaction.replace("job_runs", [self._job_row(status, error)])
            transaction.commit()

    def close(self, *, interrupted: bool = False) -> Report:
        """Commit the rest, end the job's row, and add up."""
        self.commit()
        self._end("interrupted" if interrupted else "ok", None)
        return Report(
            job=self.job,
            slot=self.slot,
            assets=self.total,
            seconds=time.monotonic() - self._started,
            failures=grouped(self._failures),
            rows=dict(self.written),
            notes=tuple(self._notes),
            interrupted=interrupted,
            **self.counts,
        )

    def _job_row(self, status: str, error: str | None) -> Mapping[str, Any]:
        return {
            "job": self.job,
            "slot": self.slot,
            "attempt": 1,
            "status": status,
            "started_at": self._started_at,
            "ended_at": None if status == "running" else self.clock.now(),
            "assets": self.total,
            "error": error,
            **self.counts,
        }

    def _outcome_rows(self) -> list[dict[str, Any]]:
        return [
            {
                "job": self.job,
                "slot": self.slot,
                "asset_id": outcome.asset_id,
                "product": outcome.product,
                "recipe": outcome.recipe,
                "status": outcome.status,
                "error_code": outcome.failure.code if outcome.failure else None,
                "cause": outcome.cause,
                "duration_s": outcome.duration_s,
            }
            for outcome in self._outcomes
        ]


def _plain(table: pa.Table) -> pa.Table:
    """Dictionary columns of different chunks have different dictionaries; as plain text they join."""
    fields = [
        pa.field(field.name, field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def last_failures(snapshot: Snapshot) -> dict[str, Failed]:
    """By asset its last failed run: why an asset has no champion, where it has none."""
    return {
        row["asset_id"]: Failed(code=row["code"], cause=cause_of(row["code"]), error=f"no champion: {row['error']}")
        for row in snapshot.sql(BLAMED).rows()
    }
