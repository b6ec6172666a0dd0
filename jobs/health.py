"""Whether the jobs are on time: a question that any process can ask, with or without a scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from jobs.claiming import alive
from jobs.due import Job, ahead, overdue, standing_of
from jobs.schedule import upcoming
from jobs.standing import GRACE, Standing

if TYPE_CHECKING:
    from store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How one job is.

    Args:
        state: late (a slot is due and nobody has begun it), failed (and not tried again), dead (its process is gone),
            ahead (it waits for slots in the future, since a clock was wrong), or what it is doing.
        due: the slot that is late; the next one otherwise.
    """

    job: str
    kind: str
    state: Literal["late", "failed", "dead", "ahead", "cancelled", "running", "waiting", "ok", "new"]
    slot: datetime | None
    due: datetime | None
    said: str = ""

    @property
    def well(self) -> bool:
        """Whether nobody has to do anything about it."""
        return self.state in ("running", "waiting", "ok", "new")


def health(
    store: Store,
    jobs: Mapping[str, Job],
    now: datetime,
    *,
    known: datetime | None = None,
    grace: timedelta = GRACE,
) -> list[Health]:
    """How each job is, in the order of the configuration.

    Args:
        known: since when the configuration says what it says; from then on a job that never ran is late. None asks
            nothing of such a job.
        grace: so long after its slot a run may begin without being late.
    """
    return [_one(store, job, now, known, grace) for job in jobs.values()]


def _one(store: Store, job: Job, now: datetime, known: datetime | None, grace: timedelta) -> Health:
    standing = standing_of(store, job.name)
    following = upcoming(job.rules.schedule, now, 1)[0] if job.rules.schedule is not None else None
    late = overdue(store, job, now, known=known, grace=grace)

    def told(state: str, due: datetime | None = following, said: str = "") -> Health:
        slot = None if standing is None else standing.slot
        return Health(job=job.name, kind=job.kind, state=state, slot=slot, due=due, said=said)  # type: ignore[arg-type]  # one of them

    if standing is None:
        unseen = "no scheduler has seen it yet; `tsfleet jobs start` or `tsfleet jobs run`"
        return told("new", said=unseen) if late is None else told("late", late, f"{_due(late, now)}; {unseen}")
    if standing.status == "running":
        if not alive(store.path, job.name, standing):
            return told(
                "dead", standing.slot, "its process is gone; the next scheduler, or `jobs run`, goes on with it"
            )
        return told("running", said=f"since {standing.at:%Y-%m-%dT%H:%M:%SZ}, attempt {standing.attempt}")
    if ahead(standing, now, grace=grace):
        then = f"{standing.through:%Y-%m-%dT%H:%M:%SZ}"
        said = f"slots up to {then} are decided: a clock was ahead; `tsfleet jobs rewind {job.name}` goes back to now"
        return told("ahead", standing.through, said)
    if late is not None:
        return told("late", late, f"{_due(late, now)}; is `tsfleet jobs start` running?")
    if standing.status == "interrupted" and now - standing.at > grace:
        return told("late", standing.slot, "it was interrupted and nobody goes on with it")
    return _ended(standing, now, grace, told)


def _ended(standing: Standing, now: datetime, grace: timedelta, told: object) -> Health:
    assert callable(told)
    found: Health
    if standing.status == "failed" and standing.retry_at is None:
        found = told("failed", standing.slot, "`tsfleet jobs show` says why, `tsfleet jobs resume` tries again")
    elif standing.status == "failed" and standing.retry_at is not None:
        late = now - standing.retry_at > grace
        found = told("late" if late else "waiting", standing.retry_at, f"to be tried again, {standing.failures} failed")
    elif standing.status == "cancelled":
        found = told("cancelled", standing.slot, "`tsfleet jobs resume` goes on with it")
    else:
        found = told("ok" if standing.status == "ok" else "waiting")
    return found


def _due(slot: datetime, now: datetime) -> str:
    return f"due for {_length(now - slot)}"


def _length(span: timedelta) -> str:
    """A length of time for people.

    >>> _length(timedelta(seconds=70)), _length(timedelta(hours=30))
    ('1 min', '30 h')
    """
    seconds = span.total_seconds()
    for unit, size in (("d", 172_800), ("h", 7_200), ("min", 60)):
        if seconds >= size:
            return f"{seconds / {'d': 86_400, 'h': 3_600, 'min': 60}[unit]:.0f} {unit}"
    return f"{seconds:.0f} s"
