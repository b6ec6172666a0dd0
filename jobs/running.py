"""One claimed run of a job, from its kind's function to its last commit; the same path for a timer and by hand.

While it works, the store that it works on is fenced with the claim: if another takes the run over, nothing that this
one still does is committed.
"""

from __future__ import annotations

from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING

from fleet.sources import importable
from jobs.claiming import Claim, Job, alive, begun, claim, due_slots, finish, first_standing, let_go, run_of
from jobs.errors import JobFailed, JobRunning
from jobs.standing import Standing, Start, again, later
from jobs.work import KINDS, Done, Work
from store.errors import Overtaken, TsfleetError

if TYPE_CHECKING:
    from pathlib import Path

    from fleet import Fleet
    from fleet.outcome import Show
    from jobs.work import Run


def kind_of(kind: str, folder: Path) -> Run:
    """The function of a kind.

    Args:
        folder: of fleet.toml, where a user's own modules lie.

    Raises:
        JobFailed: there is none of this name.
    """
    place = KINDS.get(kind, kind)
    module, _, name = place.partition(":")
    known = f'accepted: {", ".join(KINDS)}, or your own as "module:function"'
    if not (module and name):
        raise JobFailed(f'there is no kind of job "{kind}"', hint=known)
    try:
        with importable(folder):
            found: Run = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise JobFailed(f'the kind of job "{kind}" cannot be loaded: {error}', hint=known) from error
    return found


def perform(fleet: Fleet, job: Job, held: Claim, *, show: Show | None = None) -> Done:
    """Do the work of a run that is claimed, and end it.

    Raises:
        Overtaken: another took the run over; nothing was written since.
    """
    begun(held.sign)
    fleet.store.fence(job.lease, held.standing.text)
    try:
        done = _worked(fleet, job, held, show)
        finish(fleet.store, job, held, done)
    finally:
        fleet.store.unfence(job.lease)
        let_go(fleet.store.path, job.name, held.slot, held.sign)
    return done


def _worked(fleet: Fleet, job: Job, held: Claim, show: Show | None) -> Done:
    work = Work(
        fleet=fleet,
        name=job.name,
        kind=job.kind,
        slot=held.slot,
        revision=held.standing.revision,
        section=job.section,
        clock=fleet.clock,
        show=show,
    )
    try:
        done = kind_of(job.kind, fleet.config.folder)(work)
    except KeyboardInterrupt:
        return Done(status="interrupted")
    except Overtaken:
        raise
    except TsfleetError as error:
        return Done(status="failed", error=f"{error.message}; {error.hint}" if error.hint else error.message)
    except Exception as error:  # noqa: BLE001  a kind may be the user's own; what it raises is how the run ended
        return Done(status="failed", error=f"{type(error).__name__}: {error}")
    if not isinstance(done, Done):
        return Done(status="failed", error=f"{job.kind} gave {type(done).__name__}, a job gives jobs.work.Done")
    return done


def claim_by_hand(fleet: Fleet, job: Job, *, slot: datetime | None, anew: bool) -> Claim | None:
    """Claim what somebody asks for; None where that is done already.

    Args:
        slot: by default the last one that is due; for a job that never had one, now.
        anew: do it again although it was done, as a new revision.

    Raises:
        JobRunning: the job is at work.
    """
    now = fleet.clock.now()
    standing = first_standing(fleet.store, job.name, now)
    if standing.status == "running" and alive(fleet.store.path, job.name, standing):
        raise JobRunning(
            f"{job.name} is at work on {standing.slot:%Y-%m-%dT%H:%M:%SZ}, a job runs once at a time",
            hint=f"wait, or `tsfleet jobs cancel {job.name}`",
        )
    start = _start_by_hand(fleet, job, standing, slot or last_due(fleet, job, standing, now), anew=anew)
    return None if start is None else claim(fleet.store, job, standing, start)


def last_due(fleet: Fleet, job: Job, standing: Standing, now: datetime) -> datetime:
    """The slot that somebody means who names none: what is due, else what was done last."""
    if standing.status in ("running", "interrupted", "failed", "cancelled") and standing.slot is not None:
        newer = due_slots(fleet.store, job, standing, now)
        return newer[-1] if newer else standing.slot
    slots = due_slots(fleet.store, job, standing, now)
    return slots[-1] if slots else standing.slot or now.replace(microsecond=0)


def _start_by_hand(fleet: Fleet, job: Job, standing: Standing, slot: datetime, *, anew: bool) -> Start | None:
    through = later(standing.through, slot) if slot <= fleet.clock.now() else standing.through
    assert through is not None
    if standing.slot == slot and standing.status not in ("ok", "idle") and not anew:
        return again(standing)
    row = run_of(fleet.store, job.name, slot)
    if row is None:
        return Start(slot=slot, through=through)
    revision = int(row["revision"] or 0)
    if row["status"] == "ok" and not anew:
        return None
    if anew:
        return Start(slot=slot, through=through, revision=revision + 1)
    return Start(slot=slot, through=through, revision=revision, attempt=int(row["attempt"] or 1) + 1)
