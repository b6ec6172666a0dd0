"""Figures of what the attic does: what ran when, how long it took, how many alerts were open."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import TYPE_CHECKING

from fleet import questions
from fleet.config.alerting import SEVERITIES
from fleet.questions import Work
from jobs.alerts.seen import daily

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from jobs.web.desk import Desk
    from jobs.web.pages.figures import View
    from store.reading import Snapshot


def work_of(desk: Desk, snapshot: Snapshot, days: int, job: str | None) -> Work:
    """What ran in the last days that anything ran, made once for a snapshot."""
    folder = desk.fleet.store.path
    return desk.once(snapshot, ("ran", days, job), lambda: questions.ran(snapshot, folder=folder, days=days, job=job))


def timeline(view: View) -> Figure:
    """What ran when."""
    from fleet import figures

    work, said, notes = _ran(view)
    return figures.timeline(work.runs, title="What ran when", said=said, notes=notes)


def durations(view: View) -> Figure:
    """How long it took."""
    from fleet import figures

    work, said, notes = _ran(view)
    return figures.durations(work.runs, title="How long it took", said=said, notes=notes)


def _ran(view: View) -> tuple[Work, list[str], list[str]]:
    """What ran, with what stands below a title and at a figure's foot."""
    days = view.asked.days
    work = work_of(view.desk, view.snapshot, days, view.asked.job)
    beyond = work.everything - len(work.runs)
    notes = [f"the newest {len(work.runs):,} runs; {beyond:,} older ones are left out"] if beyond else []
    return work, [f"{work.everything:,} runs", f"the last {days:,} days that anything ran"], notes


def alerts(view: View) -> Figure:
    """How many alerts were open on each day."""
    from fleet import figures

    days, last = view.asked.days, view.desk.fleet.clock.now().astimezone(UTC)
    found = {
        (row["day"].astimezone(UTC).date(), row["severity"] or ""): row["n"] for row in daily(view.snapshot, last, days)
    }
    shown = [last.date() - timedelta(days=days - 1 - place) for place in range(days)]
    counts: dict[str, list[int]] = {name: [found.get((day, name), 0) for day in shown] for name in SEVERITIES}
    return figures.standing(shown, counts, title="Alerts that were open", said=[f"the last {days:,} days, UTC"])
