"""What ran, how long it took beside its usual, and why assets failed in it: jobs as rows, asked of one snapshot.

A range reaches back from the newest run of the store and not from now: the same snapshot gives the same answer. What is
usual of a job is the median of its last runs that went well.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet.presence import at_work

if TYPE_CHECKING:
    from store.reading import Snapshot

#: So many of a job's last good runs say how long it usually takes.
USUAL_RUNS = 30
DRAWN = 2_000
BAD = ("failed", "fell_back")

TIMED = """
select job, slot, coalesce(revision, 0) as revision, attempt, status, started_at, ended_at,
       case when ended_at >= started_at then (epoch_us(ended_at) - epoch_us(started_at)) / 1e6 end as seconds,
       assets, ok, failed, fell_back, skipped, error
from job_runs
"""
USUAL = f"""
select job, median(seconds) as usual_s, count(*) as counted from (
    select job, seconds from ({TIMED}) where status = 'ok' and seconds is not null
    qualify row_number() over (partition by job order by started_at desc) <= {USUAL_RUNS})
group by job
"""
RAN = f"""
select t.*, u.usual_s, count(*) over () as everything from ({TIMED}) t left join ({USUAL}) u using (job)
where t.started_at > $since and ($job::varchar is null or t.job = $job)
order by t.started_at desc, t.job limit $most
"""
NEWEST = "select max(started_at) as newest, list(distinct job order by job) as jobs from job_runs"
CAUSES = """
select job, status, coalesce(cause, error_code, 'not told') as cause, count(distinct asset_id) as assets,
       count(*) as outcomes, count(distinct slot) as runs, max(slot) as newest, arg_max(asset_id, slot) as asset_id
from bad group by all order by assets desc, newest desc, job, cause limit 100
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One run of a job.

    Args:
        status: as in ``job_runs``; killed where it says running and no process holds its sign.
        seconds: None while it runs, and of one that ended without a word.
        usual_s: the median of the job's last good runs; None before there was one.
    """

    job: str
    slot: datetime
    revision: int
    attempt: int | None
    status: str
    started_at: datetime
    ended_at: datetime | None
    seconds: float | None
    usual_s: float | None
    assets: int | None
    ok: int | None
    failed: int | None
    fell_back: int | None
    skipped: int | None
    error: str | None

    @property
    def look(self) -> str:
        """What a picture says of it: its status, and of a good run whether all assets were.

        It is one of ok, some failed, some fell back, failed, killed, running, interrupted, cancelled.
        """
        if self.status != "ok":
            return self.status
        return "some failed" if self.failed else "some fell back" if self.fell_back else "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The runs of a range, the newest first; `everything` counts those that were left out, too."""

    jobs: tuple[str, ...]
    since: datetime | None
    runs: tuple[Ran, ...]
    everything: int


def ran(snapshot: Snapshot, *, folder: Path, days: int, job: str | None = None, most: int = DRAWN) -> Work:
    """The runs of the last days.

    Args:
        folder: of the store; runs at work show there.
        days: back from the newest run.
        job: only its runs.
    """
    held = snapshot.sql(NEWEST).rows()[0]
    if held["newest"] is None:
        return Work(jobs=(), since=None, runs=(), everything=0)
    since = held["newest"] - timedelta(days=days)
    rows = snapshot.sql(RAN, {"since": since, "job": job, "most": most}).rows()
    runs = tuple(ran_of(row, folder) for row in rows)
    return Work(jobs=tuple(held["jobs"]), since=since, runs=runs, everything=rows[0]["everything"] if rows else 0)


def ran_of(row: dict[str, Any], folder: Path) -> Ran:
    """A row of `RAN`; one that says it is running and is not, was killed."""
    names = (name for name in Ran.__dataclass_fields__ if name != "status")
    dead = row["status"] == "running" and not at_work(folder, row["job"], row["slot"])
    return Ran(status="killed" if dead else row["status"] or "", **{name: row[name] for name in names})


def causes(snapshot: Snapshot, *, since: datetime, job: str | None = None) -> list[dict[str, Any]]:
    """Why assets failed or fell back in the runs since then: by job and cause, most assets first."""
    where: dict[str, Any] = {"status": BAD} | ({} if job is None else {"job": [job]})
    columns = ["job", "slot", "asset_id", "status", "cause", "error_code"]
    # Read by time instead of asked in SQL: the store leaves out the files that hold older outcomes.
    bad = snapshot.table("outcomes", since=since, columns=columns, where=where)
    return snapshot.sql(CAUSES, None, {"bad": bad}).rows()


def became(snapshot: Snapshot, job: str, slot: datetime) -> list[dict[str, Any]]:
    """What became of the assets of one run that did not come through, by cause and name."""
    columns = ["asset_id", "product", "recipe", "status", "cause", "error_code", "duration_s"]
    where = {"job": [job], "status": BAD}
    found = snapshot.table("outcomes", since=slot, until=slot + timedelta(microseconds=1), columns=columns, where=where)
    rows: list[dict[str, Any]] = found.to_pylist()
    return sorted(rows, key=lambda row: (row["status"] != "failed", row["cause"] or "", row["asset_id"]))
