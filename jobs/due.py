"""Which slots of a job are due, and whether one is overdue: from its configuration and where it stands in the store.

Any process may ask, and nothing is written. A job that nobody has ever looked after counts from when the configuration
knew it, so that one which is never begun is late like any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from jobs.schedule import Cron, Every, Schedule, missed, upcoming
from jobs.standing import GRACE, Rules, Standing

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.config import FleetConfig, JobSection
    from store import Store

WENT_WELL = "select slot from job_runs where job = $job and status = 'ok' and slot > $after order by slot limit $most"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job of the configuration with what follows from it."""

    name: str
    kind: str
    section: JobSection
    rules: Rules

    @property
    def lease(self) -> str:
        """The watermark that holds its standing."""
        return lease_of(self.name)


def lease_of(job: str) -> str:
    """The watermark of a job's standing."""
    return f"job:{job}"


def jobs_of(config: FleetConfig) -> dict[str, Job]:
    """The jobs of a fleet, in the order of its file.

    Raises:
        ScheduleInvalid: a cron line makes no sense.
    """
    return {name: _job(name, section, config) for name, section in config.jobs.items()}


def _job(name: str, section: JobSection, config: FleetConfig) -> Job:
    schedule: Schedule | None = None
    if section.cron is not None:
        zone = section.timezone or config.fleet.timezone or "UTC"
        schedule = Cron(line=section.cron, zone=zone, daylight=section.daylight)
    elif section.every is not None:
        schedule = Every(period=section.every)
    rules = Rules(
        schedule=schedule,
        catch_up=section.catch_up,
        limit=section.catch_up_limit,
        retries=int(section.retries),
        backoff=section.backoff,
        timeout=section.timeout,
    )
    return Job(name=name, kind=section.kind or name, section=section, rules=rules)


def standing_of(store: Store, job: str) -> Standing | None:
    """Where a job stands; None for one that nobody has looked after yet. Asks the catalog alone."""
    text = store.snapshot().mark(lease_of(job))
    return None if text is None else Standing.from_text(text)


def due_slots(store: Store, job: Job, standing: Standing, now: datetime) -> list[datetime]:
    """The slots that are due and not decided, oldest first, at most as many as are caught up."""
    most = job.rules.limit if job.rules.catch_up == "all" else 1
    if job.rules.schedule is not None:
        return missed(job.rules.schedule, standing.through, now, most)
    parent = standing_of(store, job.section.after or "")
    if parent is None or parent.ok is None or parent.ok <= standing.through:
        return []
    if job.rules.catch_up != "all":
        return [parent.ok]
    asked = {"job": job.section.after, "after": standing.through, "most": most}
    return [row["slot"] for row in store.sql(WENT_WELL, asked).rows()]


def known_since(file: Path) -> datetime | None:
    """Since when a configuration says what it says: its file's last change; None where there is no file."""
    try:
        return datetime.fromtimestamp(file.stat().st_mtime, UTC)
    except OSError:
        return None


def overdue(
    store: Store, job: Job, now: datetime, *, known: datetime | None, grace: timedelta = GRACE
) -> datetime | None:
    """The slot that is due for longer than `grace` and that nobody has begun, the oldest that would be caught up.

    Args:
        known: since when the configuration knows the job; from then on counts one that nobody has looked after.
    """
    standing = standing_of(store, job.name)
    if standing is None:
        if known is None or known >= now:
            return None
        return _first_after(store, job, known, now - grace)
    if standing.status == "running" or job.rules.catch_up == "none":
        return None
    late = [slot for slot in due_slots(store, job, standing, now) if now - slot > grace]
    return late[0] if late else None


def _first_after(store: Store, job: Job, known: datetime, upto: datetime) -> datetime | None:
    """The first slot of a job that nobody has looked after, if it is not later than an instant."""
    if job.rules.schedule is not None:
        (first,) = upcoming(job.rules.schedule, known, 1)
        return first if first < upto else None
    parent = standing_of(store, job.section.after or "")
    if parent is None or parent.ok is None or parent.ok <= known or parent.at >= upto:
        return None
    return parent.ok


def ahead(standing: Standing, now: datetime, *, grace: timedelta = GRACE) -> bool:
    """Whether slots are decided that lie in the future: the clock was ahead when they were, and the job waits for them.

    >>> then = datetime(2034, 1, 1, tzinfo=UTC)
    >>> ahead(Standing(through=then, at=then), datetime(2024, 1, 1, tzinfo=UTC))
    True
    """
    return standing.through - now > grace
