"""The commands about jobs: `tsfleet jobs` run, start, ls, show, next, cancel, resume, rewind, backfill, health."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from jobs.cli.console import print_rows, say
from jobs.cli.exits import Exit
from jobs.cli.options import LOOK, Common, Flag, instant
from jobs.cli.progress import shown
from jobs.errors import JobFailed, UsageInvalid

if TYPE_CHECKING:
    from fleet import Fleet
    from fleet.config import FleetConfig
    from jobs.due import Job
    from jobs.standing import Standing
    from jobs.work import Done

COMMON = Common()
COLUMNS = ("slot", "revision", "attempt", "status", "started_at", "ended_at", "assets", "ok", "failed", "fell_back",
           "skipped", "error")  # fmt: skip
LAST = "select * from job_runs where job = $job order by slot desc limit $most"
MOST_BACKFILLED = 10_000

jobs = App(name="jobs", help="Run the jobs of fleet.toml, by hand or by the clock.", help_format="markdown", group=LOOK)


@jobs.command
def run(name: str, /, *, slot: str | None = None, again: Flag = False, common: Common = COMMON) -> int:
    """Run one job now, as the scheduler would: for a line of cron, for Airflow, or by hand.

    A slot that is done already is left alone, one that was begun is finished. Two at once never run the same.

    For example:

    - `tsfleet jobs run forecast`
    - `tsfleet jobs run forecast --slot 2024-06-10T05:05Z --again`

    Args:
        name: Of the job, as in [jobs.NAME].
        slot: The logical time; the last one that is due without it.
        again: Do it anew although it is done.
    """
    with common.fleet() as fleet, shown(name, quiet=common.json) as show:
        from jobs.running import claim_by_hand, perform

        job = _job(fleet.config, name)
        held = claim_by_hand(fleet, job, slot=instant(slot, "--slot"), anew=again)
        if held is None:
            say(f"{name} is done for this slot; --again does it anew")
            return Exit.OK
        done = perform(fleet, job, held, show=show)
        _told(job, held.slot, done, as_json=common.json)
    return _exit(done)


@jobs.command
def start(*, parallel: Annotated[int, Parameter(negative="")] = 2, common: Common = COMMON) -> int:
    """Look after all jobs until SIGTERM or Ctrl-C: start what is due, catch up what was missed, try again what failed.

    It may run on several machines' worth of terminals at once; each slot is still run once. A change of fleet.toml is
    read while it runs. The first SIGTERM lets what is at work finish its chunk; the next scheduler goes on with it.

    For example:

    - `tsfleet jobs start`

    Args:
        parallel: Runs at a time.
    """
    from jobs.scheduler import Scheduler

    config = common.load()
    if not config.jobs:
        raise UsageInvalid(f"{config.file} has no jobs", hint='write [jobs.forecast] with cron = "5 * * * *"')
    news = threading.Event()
    scheduler = Scheduler(config.file, wait=news.wait, parallel=parallel, tell=say)

    def drain(_number: int, _frame: object) -> None:
        scheduler.drain()
        news.set()

    before = {number: signal.signal(number, drain) for number in (signal.SIGTERM, signal.SIGINT)}
    say(f"looking after {', '.join(config.jobs)}; Ctrl-C ends after what is in hand")
    try:
        scheduler.run()
    finally:
        scheduler.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    return Exit.OK


@jobs.command
def ls(*, common: Common = COMMON) -> int:
    """The jobs, how each is and when it is due next.

    For example:

    - `tsfleet jobs ls`
    """
    _health(common)
    return Exit.OK


@jobs.command
def health(*, common: Common = COMMON) -> int:
    """Whether the jobs are on time; exit code 1 when one is late, failed or dead. Any process may ask.

    For example:

    - `tsfleet jobs health || mail -s "forecasts are late" team@example.com`
    """
    return Exit.OK if _health(common) else Exit.PARTLY


@jobs.command
def show(name: str, /, *, n: Annotated[int, Parameter(name=["-n", "--last"])] = 10, common: Common = COMMON) -> int:
    """The last runs of a job.

    For example:

    - `tsfleet jobs show forecast -n 30`

    Args:
        name: Of the job.
        n: So many runs.
    """
    _job(common.load(), name)
    with common.store() as store:
        rows = store.sql(LAST, {"job": name, "most": n}).rows()
    print_rows([{column: row[column] for column in COLUMNS} for row in rows], as_json=common.json, title=name)
    return Exit.OK


@jobs.command(name="next")
def next_(*, n: Annotated[int, Parameter(name=["-n", "--count"])] = 10, common: Common = COMMON) -> int:
    """The next slots of all jobs that have a clock of their own.

    For example:

    - `tsfleet jobs next -n 10`

    Args:
        n: So many slots.
    """
    from jobs.due import jobs_of
    from jobs.schedule import upcoming
    from store.clock import system_clock

    now = system_clock.now()
    known = jobs_of(common.load())
    slots = [
        (at, one.name) for one in known.values() if one.rules.schedule for at in upcoming(one.rules.schedule, now, n)
    ]
    rows = [{"slot": slot, "job": name, "kind": known[name].kind} for slot, name in sorted(slots)[:n]]
    print_rows(rows, as_json=common.json, empty="no job has a clock of its own")
    return Exit.OK


@jobs.command
def cancel(name: str, /, *, common: Common = COMMON) -> int:
    """End a job's run, and do not try it again; later slots are run as ever.

    For example:

    - `tsfleet jobs cancel train`

    Args:
        name: Of the job.
    """
    with common.fleet() as fleet:
        from jobs.claiming import change, worker_of

        job, standing = _stood(fleet, name)
        if standing.status not in ("running", "interrupted") and standing.retry_at is None:
            say(f"{name} is not at work")
            return Exit.OK
        # First what it may still commit is refused, then it is asked to end.
        worker = worker_of(fleet.store.path, name, standing)
        after = replace(standing, status="cancelled", at=fleet.clock.now(), retry_at=None, until=None)
        change(fleet.store, job, standing, after, error="cancelled by hand")
        if standing.status == "running" and worker not in (None, os.getpid()):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(worker, signal.SIGTERM)
    say(f"{name} is cancelled; `tsfleet jobs resume {name}` goes on with it")
    return Exit.OK


@jobs.command
def resume(name: str, /, *, common: Common = COMMON) -> int:
    """Go on with a job's last run, which was cancelled, was interrupted or has failed: now, in this process.

    For example:

    - `tsfleet jobs resume train`

    Args:
        name: Of the job.
    """
    with common.fleet() as fleet, shown(name, quiet=common.json) as show:
        from jobs.claiming import claim
        from jobs.running import perform
        from jobs.standing import again

        job, standing = _stood(fleet, name)
        if standing.status in ("ok", "idle") or standing.slot is None:
            say(f"the last run of {name} is done; there is nothing to go on with")
            return Exit.OK
        held = claim(fleet.store, job, standing, replace(again(standing, deaths=0), failures=0))
        done = perform(fleet, job, held, show=show)
        _told(job, held.slot, done, as_json=common.json)
    return _exit(done)


@jobs.command
def rewind(name: str | None = None, /, *, common: Common = COMMON) -> int:
    """Bring a job back that waits for slots in the future, after the clock of the machine was ahead.

    What was run then stays in the store. The job goes on after its last slot that is not in the future; what was missed
    since then is caught up as its catch_up says.

    For example:

    - `tsfleet jobs rewind`

    Args:
        name: Of the job; all that wait so, when left out.
    """
    with common.fleet() as fleet:
        from jobs.claiming import rewound
        from jobs.due import ahead, jobs_of, standing_of

        known = jobs_of(fleet.config) if name is None else {name: _job(fleet.config, name)}
        found = []
        for job in known.values():
            standing = standing_of(fleet.store, job.name)
            if standing is not None and ahead(standing, fleet.clock.now()):
                after = rewound(fleet.store, job, standing)
                found.append({"job": job.name, "was": standing.through, "through": after.through})
    print_rows(found, as_json=common.json, empty="no job waits for slots in the future")
    return Exit.OK


@jobs.command
def backfill(
    name: str,
    /,
    *,
    since: Annotated[str, Parameter(name="--from")],
    until: Annotated[str, Parameter(name="--to")],
    again: Flag = False,
    dry_run: Flag = False,
    common: Common = COMMON,
) -> int:
    """Run a job for every slot of a stretch of the past that is not done, the oldest first.

    For example:

    - `tsfleet jobs backfill forecast --from 2024-06-01T00:00Z --to 2024-06-08T00:00Z`

    Args:
        name: Of the job, which has a clock of its own.
        since: The first instant.
        until: The last instant; a slot at it is run too.
        again: Do also what is done, as a new revision.
        dry_run: Run nothing, tell the slots.
    """
    first, last = instant(since, "--from"), instant(until, "--to")
    assert first is not None
    assert last is not None
    with common.fleet(read_only=dry_run) as fleet, shown(name, quiet=common.json) as show:
        from jobs.running import claim_by_hand, perform

        job = _job(fleet.config, name)
        slots = _between(job, first, min(last, fleet.clock.now()))
        if dry_run:
            print_rows([{"slot": slot} for slot in slots], as_json=common.json, empty="no slot lies there")
            return Exit.OK
        worst = Exit.OK
        for slot in slots:
            held = claim_by_hand(fleet, job, slot=slot, anew=again)
            if held is None:
                continue
            done = perform(fleet, job, held, show=show)
            _told(job, slot, done, as_json=common.json)
            if done.status == "interrupted":
                return Exit.INTERRUPTED
            worst = max(worst, _exit(done))
    return worst


def _between(job: Job, first: datetime, last: datetime) -> list[datetime]:
    from datetime import timedelta

    from jobs.schedule import missed

    if job.rules.schedule is None:
        raise UsageInvalid(f"{job.name} runs after {job.section.after}", hint=f"backfill {job.section.after} instead")
    slots = missed(job.rules.schedule, first - timedelta(microseconds=1), last, MOST_BACKFILLED + 1)
    if len(slots) > MOST_BACKFILLED:
        raise UsageInvalid(f"more than {MOST_BACKFILLED} slots lie there", hint="name a shorter stretch")
    return slots


def _job(config: FleetConfig, name: str) -> Job:
    from fleet.registry import nearest
    from jobs.due import jobs_of

    known = jobs_of(config)
    if name not in known:
        raise UsageInvalid(f"there is no job {name!r} in {config.file}{nearest(name, known)}")
    return known[name]


def _stood(fleet: Fleet, name: str) -> tuple[Job, Standing]:
    from jobs.due import standing_of

    job = _job(fleet.config, name)
    standing = standing_of(fleet.store, name)
    if standing is None:
        raise JobFailed(f"{name} has never run", hint=f"`tsfleet jobs run {name}`")
    return job, standing


def _health(common: Common) -> bool:
    """Print how the jobs are; whether all are well."""
    from jobs import health as asking
    from jobs.due import jobs_of, known_since
    from store.clock import system_clock

    config = common.load()
    with common.store() as store:
        found = asking.health(store, jobs_of(config), system_clock.now(), known=known_since(config.file))
    rows = [
        {"job": one.job, "kind": one.kind, "state": one.state, "slot": one.slot, "due": one.due, "said": one.said}
        for one in found
    ]
    print_rows(rows, as_json=common.json, empty=f"{config.file} has no jobs")
    return all(one.well for one in found)


def _told(job: Job, slot: datetime, done: Done, *, as_json: bool) -> None:
    counts = {name: getattr(done, name) for name in ("assets", "ok", "failed", "fell_back", "skipped")}
    row = {"job": job.name, "slot": slot, "status": done.status, **counts, "error": done.error}
    print_rows([row], as_json=as_json)
    for note in done.notes:
        say(note)


def _exit(done: Done) -> Exit:
    if done.status == "interrupted":
        return Exit.INTERRUPTED
    return Exit.PARTLY if done.status == "failed" or done.failed or done.fell_back else Exit.OK
