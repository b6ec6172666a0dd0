"""What a run of a job is given and what it says afterwards, and the kinds of jobs that there are.

A kind is a function ``run(work: Work) -> Done``. It is named here as ``module:function`` and imported when a job of
that kind runs, so that the scheduler stays small; a user's own kind is named the same way in ``fleet.toml``. A kind
does its work for the slot that it is given, and doing it again for the same slot and revision changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

from fleet.turn import Turn

if TYPE_CHECKING:
    from fleet import Fleet
    from fleet.config import JobSection
    from fleet.outcome import Show
    from store.clock import Clock

KINDS: Mapping[str, str] = {
    "ingest": "jobs.work.verbs:ingest",
    "train": "jobs.work.verbs:train",
    "forecast": "jobs.work.verbs:forecast",
    "score": "jobs.work.verbs:score",
    "compare": "jobs.work.compare:run",
    "deliver": "jobs.work.deliver:run",
    "alert": "jobs.work.alert:run",
    "upkeep": "jobs.work.verbs:upkeep",
}
"""By the name that ``fleet.toml`` uses; a user's own kind is its ``module:function`` itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one run of a job is given.

    Args:
        fleet: open for writing; its clock is the one below.
        name: of the job, as in ``[jobs.NAME]``.
        kind: a key of `KINDS`, or ``module:function``.
        slot: the job's logical time, aware; a forecast is issued for it, whenever it runs.
        revision: 0 for the first run of a slot, one more for each that was asked for on purpose. Commit ids hold job,
            slot and revision, so that a retry finishes what was begun and a new revision does it anew.
        section: of the configuration.
        clock: the wall clock; what is due is told by the slot, not by this.
        show: told of progress.
    """

    fleet: Fleet
    name: str
    kind: str
    slot: datetime
    revision: int
    section: JobSection
    clock: Clock
    show: Show | None = None

    def __post_init__(self) -> None:
        if self.slot.tzinfo is None:
            raise ValueError(f"the slot {self.slot.isoformat()} has no time zone")
        if self.revision < 0:
            raise ValueError(f"revision {self.revision} is below 0")

    def commit_id(self, chunk: int) -> str:
        """The id for the run's commit of this number: whoever commits under it again, after a kill, changes nothing.

        Again means the same rows: what is dated by the slot is the same at every try, what is dated by the clock is
        not, and is refused under an id that was used (:class:`store.errors.CommitConflict`).
        """
        return Turn(job=self.name, slot=self.slot, revision=self.revision).commit_id(chunk)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a run of a job says: how it ended and, where it was about assets, what became of them.

    Args:
        status: failed is for what stopped the job; assets that failed are counted and do not fail it.
        error: one line with value, place and next step.
        notes: lines for people.
    """

    status: Literal["ok", "failed", "interrupted"]
    assets: int = 0
    ok: int = 0
    failed: int = 0
    fell_back: int = 0
    skipped: int = 0
    error: str | None = None
    notes: tuple[str, ...] = ()


Run: TypeAlias = Callable[[Work], Done]
