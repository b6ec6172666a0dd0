"""Two windows as the URL says them, what they make of the assets, and the figures of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated

import numpy as np
from fastapi import Query

from fleet.questions import Panel
from fleet.review.decay import Decay, comparable, decay, ordered
from fleet.review.report import EFFECT, HISTORY_DAYS, RECENT_DAYS
from jobs.web.moments import Day

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from jobs.web.desk import Desk
    from jobs.web.pages.figures import View
    from store.reading import Snapshot

WORST = 40


@dataclass(frozen=True, slots=True)
class Windows:
    """Two windows and the least change that counts; hashable, since answers are kept by it."""

    product: str | None
    recent: int
    history: int
    effect: float
    until: date | None


def windows(
    product: Annotated[str | None, Query(max_length=600)] = None,
    recent: Annotated[int, Query(ge=1, le=30)] = RECENT_DAYS,
    history: Annotated[int, Query(ge=3, le=60)] = HISTORY_DAYS,
    effect: Annotated[float, Query(gt=0, le=100)] = EFFECT,
    until: Day | None = None,
) -> Windows:
    """What of a request is about windows."""
    return Windows(product, recent, history, effect, until)


def decay_of(desk: Desk, snapshot: Snapshot, seen: Panel, only: tuple[str, ...] | None, asked: Windows) -> Decay:
    """Each asset of some days in the two windows; made once for all who ask.

    Args:
        seen: the days; only: of which assets, as far as that was cut.
    """
    key = ("decay", asked, seen.metric, seen.role, only)
    return desk.recently(
        snapshot,
        key,
        lambda: decay(seen, recent=asked.recent, history=asked.history, effect=asked.effect, until=asked.until),
    )


def _of(view: View) -> tuple[Decay, list[str]]:
    seen = view.panel(comparable(view.asked.metric or view.desk.fleet.config.promotion.metric))
    found = decay_of(view.desk, view.snapshot, seen, view.only, view.asked.windows)
    how = "as issued" if seen.role == "live" else "as judged, recipe in charge"
    return found, [f"{len(found.assets):,} assets, {how}", f"{found.recent} beside {found.history}"]


def changed(view: View) -> Figure:
    """How many assets changed by how much."""
    from fleet import figures

    found, said = _of(view)
    return figures.changed(found.change, effect=found.effect, title=f"Change of {found.metric}", said=said)


def course(view: View) -> Figure:
    """The median asset day by day."""
    from fleet import figures

    found, said = _of(view)
    held = np.isfinite(found.daily).any(axis=0) if found.daily.size else np.zeros(found.daily.shape[1], dtype=bool)
    lines = np.full((3, found.daily.shape[1]), np.nan)
    if held.any():
        lines[:, held] = np.nanpercentile(found.daily[:, held], [10, 50, 90], axis=0)
    seen = figures.Course(days=found.days, low=lines[0], median=lines[1], high=lines[2])
    said = [*said, "the recent days begin at the dashed line"]
    return figures.course(
        seen, since=found.recent.start, title=f"{found.metric} day by day", label=found.metric, said=said
    )


def worsened(view: View) -> Figure:
    """Those that got worst, day by day."""
    from fleet import figures

    found, said = _of(view)
    places = ordered(found, "-change", found.verdicts == "worse")[:WORST]
    if not len(places):
        return figures.nothing("Who got worse", "no asset is worse beyond the noise of its days")
    names = [found.assets[place] for place in places]
    return figures.heat(
        names, found.daily[places], found.days, title=f"The {len(places)} that got worst", label=found.metric, said=said
    )
