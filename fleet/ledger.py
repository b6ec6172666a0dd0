"""The book of one job: what was done is committed in chunks, with every asset's outcome, and added up in a report.

Everything a chunk brings (runs, versions, blobs, forecasts, scores, champions, decisions) goes into one commit, so a
kill loses at most the chunks in hand. A job that finds nothing due writes nothing at all. Each job shows a sign of
life; the next of its name ends the row of one that was killed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fleet.gate import settled
from fleet.judging import Finished
from fleet.outcome import Cause, Failed, Outcome, Progress, Report, Show, Status, cause_of, grouped
from fleet.presence import Presence, at_work, forget
from fleet.turn import Turn
from store.clock import Clock

if TYPE_CHECKING:
    from fleet.population import Population
    from store import Store
    from store.committing import Commit
    from store.reading import Snapshot
    from store.writing import Transaction

COMMIT_ROWS = 200_000
COMMIT_ASSETS = 1_000
# A kill loses a fiftieth of the work so far, and never more than five seconds of it. A commit costs 5 to 100 ms, all of
# them together a twentieth of the time.
COMMIT_S = 5.0
LEAST_S = 0.25
LOST = 0.02
SPENT = 0.05
TELL_S = 0.1

BLAMED = """
select asset_id, arg_max(error_code, run_id) as code, arg_max(error, run_id) as error
from runs where status = 'failed' and error_code is not null and product = $product group by asset_id
"""
RUNNING = "select * from job_runs where job = $job and status = 'running'"
LEFT = """
select max(_v) as last, count(*) filter (where status = 'ok') as ok,
       count(*) filter (where status = 'failed') as failed, count(*) filter (where status = 'fell_back') as fell_back,
       count(*) filter (where status = 'skipped') as skipped
from outcomes__v where job = $job and slot = $slot
"""
DONE_BEFORE = """
select asset_id, product, status from outcomes
where job = $job and slot = $slot and coalesce(revision, 0) = $revision
"""
KILLED = "the process ended without a word; the next run goes on with what was left"
OVERTAKEN = Failed(
    code="conflict", cause=Cause.CANCELLED, error="another promotion came first; its champion stays in charge"
)

# Rows under a key that may exist already; those of a backtest carry the id of a run made a moment ago.
REPLACED = ("scales",)
REPLACED_LIVE = ("scales", "forecasts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A champion on its way into force, if `expected` is still the version in force when it arrives.

    Args:
        champion, decision: their rows.
        outcome: what became of the asset when it has arrived.
    """

    champion: Mapping[str, Any]
    expected: str | None
    decision: Mapping[str, Any]
    outcome: Outcome


class Ledger:
    """Buffers finished chunks, commits them, counts.

    Args:
        store: where it is written.
        job, slot: under which name, and at which logical time; `cli:train` and its start for a command typed by hand.
        total: assets that the job is about.
        products: that it is about, by name.
        turn: the run of a job that this is the work of: its claim has the row in `job_runs`, and commits carry its ids.
        show: told after every chunk.
        live: forecasts are issued, and may be there already.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        job: str,
        slot: datetime,
        total: int,
        show: Show | None,
        live: bool = False,
        products: tuple[str, ...] = (),
        turn: Turn | None = None,
    ) -> None:
        self._turn, self._chunk = turn, 0
        self.store, self.clock, self.job, self.slot, self.total = store, clock, job, slot, total
        self._products, self._of = products, total
        self._show = show
        self._replaced = REPLACED_LIVE if live else REPLACED
        self._started_at: datetime = clock.now()
        self._started = self._committed_at = time.monotonic()
        self._commit_s = 0.0
        self._presence = Presence(store.path, job, slot)
        self._opened = self._news = False
        self._tables: dict[str, list[pa.Table]] = {}
        self._blobs: list[bytes] = []
        self._enclosed: list[bytes] = []
        self._moves: list[Move] = []
        self._decisions: list[Mapping[str, Any]] = []
        self._outcomes: list[Outcome] = []
        self._failures: list[tuple[str, str | None, Failed]] = []
        self._pending_rows = 0
        self._notes: list[str] = []
        self._doing, self._began, self._told = "", self._started, 0.0
        self._shown = _nothing()
        self.counts = _nothing()
        self.written: dict[str, int] = {}
        if turn is not None:
            self._resume(turn)

    def _resume(self, turn: Turn) -> None:
        """Count from where an earlier attempt at the same run stopped."""
        while self.store.committed(turn.commit_id(self._chunk)) is not None:
            self._chunk += 1
        if self._chunk:
            for status in done_before(self.store.snapshot(), turn).values():
                self.counts[status] += 1

    def begin(self, doing: str, people: Population) -> None:
        """The job turns to another part of its work, with these assets; what is shown counts anew."""
        self._doing = f"{doing} {people.product}".strip() if len(self._products) > 1 else doing
        self._of, self._began, self._shown = len(people.members), time.monotonic(), _nothing()
        self._commit_s = 0.0  # other rows, another cost
        self._tell()

    def note(self, line: str) -> None:
        """A line for the report."""
        if line not in self._notes:
            self._notes.append(line)

    def enclose(self, blobs: Sequence[bytes]) -> None:
        """Blobs that no version names, such as the code of its recipe; they come with the first versions."""
        self._enclosed.extend(blobs)

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
        for outcome in outcomes:
            self.record(outcome)
        if self._ripe():
            self.commit()
        if finished is not None or time.monotonic() > self._told + TELL_S:
            self._tell()

    def record(self, outcome: Outcome) -> None:
        """An asset's outcome, for the commit that the next `add` may make."""
        self._shown[outcome.status] += 1
        self._count(outcome)

    def step(self, status: Status) -> None:
        """One asset more is through this part of the work, but has no outcome yet; shown with what comes next."""
        self._shown[status] += 1

    def move(self, move: Move) -> None:
        """Put a champion in force with the next commit; its asset's outcome follows when it is there."""
        self._moves.append(move)
        self._shown[move.outcome.status] += 1

    def decide(self, decision: Mapping[str, Any]) -> None:
        """Write down a decision that moves nobody."""
        self._decisions.append(decision)

    def _count(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        self._news |= outcome.status != "skipped"
        self.counts[outcome.status] += 1
        if outcome.failure is not None:
            self._failures.append((outcome.asset_id, outcome.recipe, outcome.failure))

    def _ripe(self) -> bool:
        now = time.monotonic()
        patience = min(COMMIT_S, max(LEAST_S, LOST * (now - self._started), self._commit_s / SPENT))
        assets = len(self._outcomes) + len(self._moves)
        return now - self._committed_at > patience or self._pending_rows >= COMMIT_ROWS or assets >= COMMIT_ASSETS

    def _tell(self) -> None:
        if self._show is not None:
            self._told = time.monotonic()
            done, seconds = sum(self._shown.values()), self._told - self._began
            self._show(Progress(done=done, total=self._of, seconds=seconds, doing=self._doing, **self._shown))

    def commit(self) -> int | None:
        """Commit what has gathered; the snapshot, or None when there was nothing to say."""
        began = self._committed_at = time.monotonic()
        if not self._pending():
            return None
        if not self._opened and self._turn is None:
            self._presence.begin()
        commit_id = None if self._turn is None else self._turn.commit_id(self._chunk)
        transaction = self.store.begin(note=self.job, commit_id=commit_id)
        self._write_rows(transaction)
        if self._decisions:
            transaction.insert("decisions", self._decisions)
        if self._moves:
            champions, expected = [move.champion for move in self._moves], [move.expected for move in self._moves]
            transaction.promote(champions, expected, [move.decision for move in self._moves])
        if self._outcomes:
            transaction.insert("outcomes", self._outcome_rows())
        if not self._opened and self._turn is None:
            transaction.replace("job_runs", [*self._buried(), self._job_row("running", None)])
        done = transaction.commit()
        self._chunk += 1
        self._committed_at = time.monotonic()
        # The first one also opens the store's database, and says nothing of the others.
        self._commit_s = self._committed_at - began if self._opened else 0.0
        self._opened = True
        self.count(done.written)
        moves = self._moves
        self._tables, self._blobs, self._pending_rows = {}, [], 0
        self._moves, self._decisions, self._outcomes = [], [], []
        self._arrived(moves, done)
        return int(done.snapshot)

    def _write_rows(self, transaction: Transaction) -> None:
        now = self.clock.now()
        for name, parts in self._tables.items():
            table = pa.concat_tables([_plain(part) for part in parts], promote_options="permissive")
            if name == "versions":
                hashes = transaction.put_blobs([*self._blobs, *self._enclosed])[: len(self._blobs)]
                table = table.append_column("sha256", pa.array(hashes, pa.string()))
                self._enclosed = []
            if name == "forecasts":
                table, stood = settled(table, now, self.store.snapshot())
                if stood:
                    self.note(f"{stood:,} steps came after the gate and are there already: what was published stays")
                table = table.append_column(
                    "created_at", pa.repeat(pa.scalar(now, pa.timestamp("us", "UTC")), table.num_rows)
                )
            if name in self._replaced:
                transaction.replace(name, table)
            else:
                transaction.insert(name, table)

    def _arrived(self, moves: Sequence[Move], done: Commit) -> None:
        """The outcomes of assets whose champion was to change; they are written with the next commit."""
        lost = {(conflict.asset_id, conflict.product) for conflict in done.conflicts}
        for move in moves:
            asset_id = move.outcome.asset_id
            if (asset_id, move.champion["product"]) not in lost:
                self._count(move.outcome)
                continue
            recipe = move.champion["recipe"]
            product = move.outcome.product
            self._count(Outcome(asset_id=asset_id, product=product, status="failed", recipe=recipe, failure=OVERTAKEN))

    def count(self, written: Mapping[str, int]) -> None:
        """Add the rows of a commit to the report's."""
        for name, rows in written.items():
            self.written[name] = self.written.get(name, 0) + rows

    def _pending(self) -> bool:
        """Whether there is something to write; skipped assets alone are no reason to begin."""
        told = self._outcomes and (self._opened or self._news)
        return bool(self._tables or self._moves or self._decisions or told)

    def _buried(self) -> list[Mapping[str, Any]]:
        """The rows of this job whose process was killed, ended with what the outcomes say of them."""
        snapshot = self.store.snapshot()
        ended: list[Mapping[str, Any]] = []
        for row in snapshot.sql(RUNNING, {"job": self.job}).rows():
            if row["slot"] == self.slot or at_work(self.store.path, self.job, row["slot"]):
                continue
            left = snapshot.sql(LEFT, {"job": self.job, "slot": row["slot"]}).rows()[0]
            last = left.pop("last")
            at = row["started_at"] if last is None else self.store.committed_at(last)
            ended.append({**row, **left, "status": "killed", "ended_at": at, "error": KILLED})
            forget(self.store.path, self.job, row["slot"])
        return ended

    def fail(self, error: BaseException) -> None:
        """End the job's row with what stopped it; what was not committed is dropped and done by the next run."""
        stopped = isinstance(error, KeyboardInterrupt)
        self._end("interrupted" if stopped else "failed", None if stopped else f"{type(error).__name__}: {error}")

    def _end(self, status: str, error: str | None) -> None:
        try:
            if self._opened and self._turn is None:
                transaction = self.store.begin(note=self.job)
                transaction.replace("job_runs", [self._job_row(status, error)])
                transaction.commit()
        finally:
            self._presence.end()

    def close(self, *, interrupted: bool = False) -> Report:
        """Commit the rest, end the job's row, and add up."""
        while self._pending():
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
            retry=self._retry(),
            products=self._products,
            planned=None,
            **self.counts,
        )

    def _retry(self) -> str:
        """What has the failed assets done again, in the words of whoever asked."""
        by, _, verb = self.job.rpartition(":")
        if verb not in ("backtest", "train", "forecast") or not (self.counts["failed"] or self.counts["fell_back"]):
            return ""
        return f"fleet.{verb}(failed=True)" if by == "py" else f"tsfleet {verb} --failed"

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
                "revision": None if self._turn is None else self._turn.revision,
            }
            for outcome in self._outcomes
        ]


def done_before(snapshot: Snapshot, turn: Turn) -> dict[tuple[str, str | None], Status]:
    """What became of assets and products in the run of a job so far."""
    asked = {"job": turn.job, "slot": turn.slot, "revision": turn.revision}
    return {(row["asset_id"], row["product"]): row["status"] for row in snapshot.sql(DONE_BEFORE, asked).rows()}


def _nothing() -> dict[str, int]:
    return {"ok": 0, "failed": 0, "fell_back": 0, "skipped": 0}


def _plain(table: pa.Table) -> pa.Table:
    """Dictionary columns of different chunks have different dictionaries; as plain text they join."""
    fields = [
        pa.field(field.name, field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def last_failures(snapshot: Snapshot, product: str) -> dict[str, Failed]:
    """By asset its last failed run for a product: why it has no champion, where it has none."""
    return {
        row["asset_id"]: Failed(code=row["code"], cause=cause_of(row["code"]), error=f"no champion: {row['error']}")
        for row in snapshot.sql(BLAMED, {"product": product}).rows()
    }
