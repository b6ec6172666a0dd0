"""Where a job stands: one small value in the store that a claim replaces, and the rules by which it moves.

Whoever wants to run a job replaces its standing by one that says so, on condition that it still is what was looked at;
so a slot has one claim, a job one run at a time, and who was taken over commits nothing more. ``through`` only grows:
slots up to it are decided, whatever became of them. Everything here is arithmetic; the clock comes in as an argument.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Literal

from jobs.schedule import Schedule, upcoming

Status = Literal["idle", "running", "ok", "failed", "interrupted", "cancelled"]
CatchUp = Literal["none", "last", "all"]

GRACE = timedelta(minutes=2)
"""A slot so old is missed: only catch-up runs it, and a job that has not begun it by then is late."""
DRAIN = timedelta(seconds=30)
LONGEST_BACKOFF = timedelta(hours=1)
JITTER = 0.25
DEATHS = 10
"""So often a run that dies without a word is taken up again; then it has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where one job stands.

    Args:
        through: slots up to it are decided.
        status: of the last run, that of `slot` and `revision`.
        attempt: at the run, from 1; `failures` and `deaths` of them ended with an error, or without a word.
        token: makes every claim another value.
        at: when it was claimed or ended.
        retry_at: when the failed run is tried again; None for never.
        until: a running one may be taken over from then on, whether its process lives or not.
        ok: the last slot that went well.
        pid: of the process that claimed it.
    """

    through: datetime
    at: datetime
    status: Status = "idle"
    slot: datetime | None = None
    revision: int = 0
    attempt: int = 0
    failures: int = 0
    deaths: int = 0
    token: str = ""
    retry_at: datetime | None = None
    until: datetime | None = None
    ok: datetime | None = None
    pid: int = 0

    @property
    def text(self) -> str:
        """As it is stored.

        >>> from datetime import UTC
        >>> one = Standing(through=datetime(2024, 6, 1, tzinfo=UTC), at=datetime(2024, 6, 1, tzinfo=UTC))
        >>> Standing.from_text(one.text) == one
        True
        """
        told = {
            name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(self).items()
        }
        return json.dumps(told, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> Standing:
        """What `text` gave; what a later release added is left out."""
        told = {name: value for name, value in json.loads(text).items() if name in cls.__dataclass_fields__}
        for name in ("through", "at", "slot", "retry_at", "until", "ok"):
            if told.get(name) is not None:
                told[name] = datetime.fromisoformat(told[name])
        return cls(**told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the configuration says of one job.

    Args:
        schedule: None where it follows another job.
        limit: of slots that are caught up.
    """

    schedule: Schedule | None
    catch_up: CatchUp = "last"
    limit: int = 24
    retries: int = 0
    backoff: timedelta = timedelta(seconds=30)
    timeout: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A run that is due.

    Args:
        through: up to which slots are decided with it; those before `slot` that are given up, too.
    """

    slot: datetime
    through: datetime
    revision: int = 0
    attempt: int = 1
    failures: int = 0
    deaths: int = 0


def next_start(
    standing: Standing, rules: Rules, slots: Sequence[datetime], *, now: datetime, alive: bool
) -> Start | None:
    """What of a job is to be started now, if anything is.

    What was begun and neither ended nor was cancelled goes first; a retry yields to a newer slot unless all are wanted.

    Args:
        slots: those later than `through` and not later than now, oldest first, at most as many as are caught up.
        alive: whether the process of a running one lives.
    """
    if standing.status == "running":
        if alive and (standing.until is None or now < standing.until):
            return None
        return again(standing, deaths=standing.deaths + 1)
    if standing.status == "interrupted":
        return again(standing)
    wanted = [slot for slot in slots if rules.catch_up != "none" or now - slot <= GRACE]
    if standing.retry_at is not None and (rules.catch_up == "all" or not wanted):
        return again(standing) if now >= standing.retry_at else None
    if not wanted:
        return None
    slot = wanted[0] if rules.catch_up == "all" else wanted[-1]
    return Start(slot=slot, through=max(slot, standing.through))


def again(standing: Standing, *, deaths: int | None = None) -> Start:
    """The next attempt at the same run."""
    assert standing.slot is not None
    return Start(
        slot=standing.slot,
        through=standing.through,
        revision=standing.revision,
        attempt=standing.attempt + 1,
        failures=standing.failures,
        deaths=standing.deaths if deaths is None else deaths,
    )


def claimed(standing: Standing, start: Start, rules: Rules, *, now: datetime, token: str, pid: int) -> Standing:
    """The standing of a run that begins."""
    return replace(
        standing,
        through=max(start.through, standing.through),
        at=now,
        status="running",
        slot=start.slot,
        revision=start.revision,
        attempt=start.attempt,
        failures=start.failures,
        deaths=start.deaths,
        token=token,
        retry_at=None,
        until=None if rules.timeout is None else now + rules.timeout + DRAIN,
        pid=pid,
    )


def ended(
    standing: Standing, status: Literal["ok", "failed", "interrupted"], rules: Rules, *, job: str, now: datetime
) -> Standing:
    """The standing of a run that is over, with the time of the next attempt where there is one."""
    failures = standing.failures + (status == "failed")
    retry = status == "failed" and failures <= rules.retries
    return replace(
        standing,
        at=now,
        status=status,
        failures=failures,
        retry_at=now + pause(rules.backoff, failures, f"{job} {standing.slot}") if retry else None,
        until=None,
        ok=later(standing.ok, standing.slot) if status == "ok" else standing.ok,
        pid=0,
    )


def pause(backoff: timedelta, failures: int, key: str) -> timedelta:
    """How long to wait after so many failures: twice as long each time, and up to a quarter more by chance.

    The chance is made of the key, so that two processes agree on it and a replay finds it again.

    >>> [pause(timedelta(seconds=30), n, "forecast") // timedelta(seconds=30) for n in (1, 2, 3, 20)]
    [1, 2, 4, 120]
    """
    base: timedelta = min(backoff * 2 ** min(failures - 1, 20), LONGEST_BACKOFF)
    chance = int.from_bytes(blake2b(f"{key} {failures}".encode(), digest_size=4).digest(), "big") / 2**32
    return min(base * (1 + JITTER * chance), LONGEST_BACKOFF)


def later(first: datetime | None, second: datetime | None) -> datetime | None:
    """The later of two instants of which either may be unknown."""
    return max((one for one in (first, second) if one is not None), default=None)


def wakes_at(standing: Standing, rules: Rules, now: datetime) -> datetime | None:
    """When there may be something to start again; None where another job or process decides that."""
    slot = upcoming(rules.schedule, max(standing.through, now), 1) if rules.schedule is not None else []
    times = [*slot, *(one for one in (standing.retry_at, standing.until) if one is not None and one > now)]
    return min(times, default=None)
