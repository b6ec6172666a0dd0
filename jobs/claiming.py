"""The claim of a run in the store, and the sign that its process lives.

A claim is one commit: the job's standing, on condition that it is what was looked at, and the run's row in
``job_runs``. The sign is a lock on a file, which the kernel lets go of when the last process that holds it ends; a
scheduler takes it before the claim and hands it down to the process that does the work.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fleet.presence import at_work, sign_of
from jobs.due import Job, lease_of, standing_of
from jobs.errors import JobRunning
from jobs.standing import Standing, Start, claimed, ended
from jobs.work import KINDS, Done
from store.errors import Overtaken
from store.ids import new_id

if TYPE_CHECKING:
    from pathlib import Path

    from store import Store

RUN = "select * from job_runs where job = $job and slot = $slot"
UPTO = """
select max(slot) as through, max(slot) filter (where status = 'ok') as ok from job_runs
where job = $job and slot <= $now
"""
DIED = "its process ended without a word"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A run that is ours.

    Args:
        sign: the open file whose lock says that we live.
    """

    job: str
    standing: Standing
    sign: int

    @property
    def slot(self) -> datetime:
        assert self.standing.slot is not None
        return self.standing.slot


def first_standing(store: Store, job: str, now: datetime) -> Standing:
    """Where a job stands; one that is new begins now, and that is remembered, so that no slot after it is lost."""
    found = standing_of(store, job)
    if found is not None:
        return found
    made = Standing(through=now, at=now)
    transaction = store.begin(note=f"job {job} begins")
    transaction.expect(lease_of(job), None)
    transaction.mark(lease_of(job), made.text)
    with suppress(Overtaken):
        transaction.commit()
    return standing_of(store, job) or made


def alive(folder: Path, job: str, standing: Standing) -> bool:
    """Whether some process holds the sign of the job's last run."""
    return standing.slot is not None and at_work(folder, job, standing.slot)


def begun(sign: int) -> None:
    """Write into a sign which process does the work: that is not the one which claimed it."""
    os.pwrite(sign, f"{os.getpid()}\n".encode(), 0)


def worker_of(folder: Path, job: str, standing: Standing) -> int | None:
    """The process that does the work of the job's last run; None when none does, or it has not begun."""
    if standing.slot is None or not at_work(folder, job, standing.slot):
        return None
    with suppress(OSError, ValueError):
        return int(sign_of(folder, job, standing.slot).read_text(encoding="ascii"))
    return None


def claim(store: Store, job: Job, before: Standing, start: Start) -> Claim:
    """Claim a run: of all who try, one gets it.

    Raises:
        JobRunning: its process lives.
        Overtaken: another claimed the job since `before` was looked at.
    """
    sign = _sign(store.path, job.name, start.slot)
    if sign is None:
        raise JobRunning(
            f"the run of {job.name} for {start.slot:%Y-%m-%dT%H:%M:%SZ} is at work",
            hint=f"`tsfleet jobs show {job.name}` tells more, `tsfleet jobs cancel {job.name}` ends it",
        )
    try:
        now = store.clock.now()
        standing = claimed(before, start, job.rules, now=now, token=new_id(), pid=os.getpid())
        made = Claim(job=job.name, standing=standing, sign=sign)
        transaction = store.begin(note=f"job {job.name}")
        transaction.expect(job.lease, before.text)
        transaction.mark(job.lease, standing.text)
        transaction.replace("job_runs", [_row(made, "running", {"started_at": now})])
        transaction.commit()
    except BaseException:
        let_go(store.path, job.name, start.slot, sign)
        raise
    return made


def finish(store: Store, job: Job, claim: Claim, done: Done) -> Standing:
    """End a run that is ours, in one commit with its row.

    Raises:
        Overtaken: it was not ours any more; nothing is written.
    """
    now = store.clock.now()
    after = ended(claim.standing, done.status, job.rules, job=job.name, now=now)
    facts = {name: getattr(done, name) for name in ("assets", "ok", "failed", "fell_back", "skipped")}
    error = done.error or ("; ".join(done.notes) if done.status == "failed" else None)
    store.unfence(job.lease)
    transaction = store.begin(note=f"job {job.name} {done.status}")
    transaction.expect(job.lease, claim.standing.text)
    transaction.mark(job.lease, after.text)
    row = _row(claim, done.status, {"started_at": claim.standing.at, "ended_at": now, "error": error, **facts})
    transaction.replace("job_runs", [row])
    transaction.commit()
    return after


def change(store: Store, job: Job, before: Standing, after: Standing, error: str | None = None) -> None:
    """Replace a standing by hand (cancel, resume); the row of its run follows.

    Raises:
        Overtaken: it changed meanwhile.
    """
    transaction = store.begin(note=f"job {job.name} {after.status}")
    transaction.expect(job.lease, before.text)
    transaction.mark(job.lease, replace(after, token=new_id()).text)
    if after.slot is not None:
        ended_at = None if after.status == "running" else store.clock.now()
        row = _row(Claim(job=job.name, standing=after, sign=-1), after.status, {"ended_at": ended_at, "error": error})
        transaction.replace("job_runs", [row | {"started_at": before.at}])
    transaction.commit()


def rewound(store: Store, job: Job, before: Standing) -> Standing:
    """Bring a job back whose slots were decided by a clock that was ahead; the rows of those runs stay.

    Raises:
        JobRunning: its process lives.
        Overtaken: it changed meanwhile.
    """
    if before.status == "running" and alive(store.path, job.name, before):
        raise JobRunning(f"{job.name} is at work", hint=f"wait, or `tsfleet jobs cancel {job.name}`")
    now = store.clock.now()
    (last,) = store.sql(UPTO, {"job": job.name, "now": now}).rows()
    after = Standing(through=last["through"] or now, at=now, ok=last["ok"], token=new_id())
    transaction = store.begin(note=f"job {job.name} goes back to now")
    transaction.expect(job.lease, before.text)
    transaction.mark(job.lease, after.text)
    transaction.commit()
    return after


def run_of(store: Store, job: str, slot: datetime) -> Mapping[str, Any] | None:
    """The row of a slot's run, the last revision."""
    rows = store.sql(RUN, {"job": job, "slot": slot}).rows()
    return rows[0] if rows else None


def _row(claim: Claim, status: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    standing = claim.standing
    run = {"job": claim.job, "slot": standing.slot, "attempt": standing.attempt, "revision": standing.revision}
    return {**run, "status": status, **facts}


# ------------------------------------------------------------------------------------------------------ the sign


def _sign(folder: Path, job: str, slot: datetime) -> int | None:
    """The open and locked file that says that the run is at work; None while another holds it."""
    path = sign_of(folder, job, slot)
    path.parent.mkdir(exist_ok=True)
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            return None
        with suppress(FileNotFoundError):
            if os.fstat(file).st_ino == path.stat().st_ino:
                os.ftruncate(file, 0)  # what the last one wrote who died
                return file
        os.close(file)  # its holder took it away between our opening and locking it


def let_go(folder: Path, job: str, slot: datetime, sign: int) -> None:
    """Take the sign away: the run is over."""
    sign_of(folder, job, slot).unlink(missing_ok=True)
    os.close(sign)


def kind_known(kind: str) -> bool:
    """Whether a kind is one of ours or names a function."""
    return kind in KINDS or all(kind.partition(":"))
