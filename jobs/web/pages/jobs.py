"""The Jobs page: whether they are on time, what ran and how long it took, why assets failed, how to try again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

from fleet import questions
from fleet.questions.ran import TIMED, USUAL, Ran, ran_of
from jobs.due import jobs_of, known_since
from jobs.health import Health, health
from jobs.web.api.listings import Cursor
from jobs.web.desk import AtDesk, Desk, WholeReader
from jobs.web.fresh import fresh
from jobs.web.moments import Instant
from jobs.web.pages.attic import work_of
from jobs.web.pages.figures import Days, Word
from jobs.web.paging import Listing
from jobs.web.render import page

if TYPE_CHECKING:
    from fleet.config import FleetConfig

router = APIRouter(include_in_schema=False)
ROWS = 100
STATUSES = ("ok", "failed", "running", "interrupted", "cancelled")
RANGES = (1, 7, 28, 90, 365)
RUNS = Listing(
    source=f"(select * from ({TIMED}) left join ({USUAL}) using (job))",  # noqa: S608  our own text
    key={"slot": "TIMESTAMPTZ", "job": "VARCHAR"},
    backwards=True,
    filters={
        "job": "job = $job",
        "status": "status = $status",
        "since": "started_at > $since",
        "slot": "slot = $slot",
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How one job is, how long it took last and usually does, and the command that somebody may want."""

    health: Health
    last: Ran | None
    command: str


@router.get("/jobs")
def jobs(
    request: Request,
    response: Response,
    desk: AtDesk,
    who: WholeReader,
    job: Word = None,
    status: Word = None,
    days: Days = 7,
    slot: Instant | None = None,
    after: Cursor = None,
) -> Response:
    """How the jobs are, and what ran; of one run what became of its assets."""
    fresh(request, response, desk, who, timed=True)
    at, begin = RUNS.begins(after) if after else (desk.fleet.store.head(), None)
    snapshot, folder, config = desk.fleet.store.at(at), desk.fleet.store.path, desk.fleet.config
    seen = work_of(desk, snapshot, days, job or None)
    found = {"job": job or None, "status": status or None, "since": seen.since, "slot": slot}
    asked_of = RUNS.query(found, None, begin)
    table = snapshot.sql(asked_of.sql, {**asked_of.values, "most": ROWS + 1}, asked_of.tables).arrow()
    following = RUNS.cursor(snapshot.id, table.slice(0, ROWS)) if table.num_rows > ROWS else None
    runs = [ran_of(row, folder) for row in table.slice(0, ROWS).to_pylist()]
    causes: list[dict[str, Any]] = []
    became: list[dict[str, Any]] = []
    if slot is not None and job:
        became = questions.became(snapshot, job, slot)
    elif seen.since is not None:
        since = seen.since
        causes = desk.once(
            snapshot, ("causes", days, job or None), lambda: questions.causes(snapshot, since=since, job=job or None)
        )
    return page(
        request, "jobs.html", response.headers, states=states(desk, seen.runs), runs=runs, following=following,
        asked={"job": job or None, "status": status or None, "days": days, "slot": _text(slot), "after": after},
        jobs=sorted({*seen.jobs, *config.jobs}), statuses=STATUSES, ranges=sorted({*RANGES, days}), slot=slot,
        causes=[{**row, "command": retry(config, row["job"])} for row in causes], became=became[:ROWS],
        became_all=len(became), retry=retry(config, job) if job else "",
    )  # fmt: skip


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def states(desk: Desk, runs: tuple[Ran, ...] = ()) -> list[State]:
    """How each job of the configuration is, in its order."""
    last: dict[str, Ran] = {}
    for one in runs:
        last.setdefault(one.job, one)
    known = jobs_of(desk.fleet.config)
    found = health(desk.fleet.store, known, desk.fleet.clock.now(), known=known_since(desk.fleet.config.file))
    return [State(health=one, last=last.get(one.job), command=command_of(one)) for one in found]


def command_of(one: Health) -> str:
    """What to type about a job that is not well.

    >>> late = Health(job="my job", kind="train", state="late", slot=None, due=None)
    >>> command_of(late)
    "tsfleet jobs run 'my job'"
    """
    verb = {
        "failed": "resume",
        "cancelled": "resume",
        "dead": "resume",
        "late": "run",
        "new": "run",
        "ahead": "rewind",
    }.get(one.state)
    return f"tsfleet jobs {verb} {shlex.quote(one.job)}" if verb else ""


def retry(config: FleetConfig, job: str) -> str:
    """What to type to try the assets again that failed in a job; empty where its kind knows no such thing."""
    section = config.jobs.get(job)
    kind = (section.kind or job) if section is not None else job.rpartition(":")[2]
    return f"tsfleet {kind} --failed" if kind in ("train", "forecast", "backtest") else ""
