"""The kinds of jobs that are a verb of the fleet each, and upkeep of the store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fleet.turn import Turn
from jobs.errors import JobFailed
from jobs.work import Done, Work
from store.errors import StoreBusy

if TYPE_CHECKING:
    from fleet.outcome import Report


PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Between two tries at upkeep."""


def ingest(work: Work) -> Done:
    """Bring what is new in the configured sources into the store."""
    report = work.fleet.ingest(progress=work.show)
    return Done(status="ok", assets=report.assets, notes=tuple(report.notes))


def train(work: Work) -> Done:
    """Judge, fit and promote the selected assets; what is unchanged is skipped."""
    return said(work.fleet.train(**_chosen(work), recipes=work.section.recipes, promote=True))


def forecast(work: Work) -> Done:
    """Issue the forecasts of the slot with the champions; a run on purpose issues them again.

    ``options = { issue_time = "data" }`` has each asset issued from the end of its readings instead of the slot.
    """
    asked = work.section.options.get("issue_time", "slot")
    if asked not in ("slot", "data"):
        raise JobFailed(f'[jobs.{work.name}] options: issue_time = "{asked}"', hint='accepted: "slot", "data"')
    issue_time = work.slot if asked == "slot" else None
    return said(work.fleet.forecast(**_chosen(work), issue_time=issue_time, reissue=work.revision > 0))


def score(work: Work) -> Done:
    """Score what became scorable: actuals that arrived or were revised."""
    return said(work.fleet.score(progress=work.show, job=_turn(work)))


def upkeep(work: Work) -> Done:
    """Flush, merge and collect in the store; while a writer tidies up after its own commit, it waits for its turn."""
    for pause_s in (*PAUSES_S, None):
        try:
            work.fleet.store.upkeep()
        except StoreBusy:
            if pause_s is not None:
                time.sleep(pause_s)
        else:
            return Done(status="ok")
    return Done(status="ok", notes=("another process is at upkeep; nothing was left to this one",))


def said(report: Report) -> Done:
    """A verb's report in the words of a job."""
    return Done(
        status="interrupted" if report.interrupted else "ok",
        assets=report.assets,
        ok=report.ok,
        failed=report.failed,
        fell_back=report.fell_back,
        skipped=report.skipped,
        notes=report.notes,
    )


def _chosen(work: Work) -> dict[str, Any]:
    section = work.section
    select = () if section.select is None else tuple(one.strip() for one in section.select.split(","))
    return {
        "product": section.product,
        "select": select,
        "where": section.where,
        "progress": work.show,
        "job": _turn(work),
    }


def _turn(work: Work) -> Turn:
    return Turn(job=work.name, slot=work.slot, revision=work.revision)
