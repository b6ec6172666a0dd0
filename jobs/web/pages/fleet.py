"""The Fleet page: how the fleet is, which assets are furthest off, what ran last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Request, Response
from markupsafe import Markup

from fleet import questions
from fleet.cards import spark
from fleet.comparison import Role
from fleet.metrics import loss, parse
from fleet.questions import Glance, Panel
from jobs.web.desk import AtDesk, Desk, WholeReader
from jobs.web.fresh import fresh
from jobs.web.pages.alerts import alarms
from jobs.web.pages.figures import Word, panel_of, product_of
from jobs.web.pages.jobs import states
from jobs.web.render import drawn, page
from store.reading import Snapshot

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table of the worst."""

    asset_id: str
    recipe: str
    value: float
    points: int
    picture: Markup


@router.get("/")
def fleet(
    request: Request,
    response: Response,
    desk: AtDesk,
    who: WholeReader,
    product: Word = None,
    metric: Word = None,
    role: Role | None = None,
) -> Response:
    """How the fleet is."""
    fresh(request, response, desk, who, timed=True)
    snapshot = desk.snapshot()
    config = desk.fleet.config
    state, seen, panel = looked(desk, snapshot, product, metric, role)
    worst = [Row(w.asset_id, w.recipe, w.value, w.points, drawn(spark(w, seen.metric))) for w in seen.worst]
    failing = [one for one in states(desk) if not one.health.well]
    weighing = alarms(desk, snapshot)
    return page(
        request, "fleet.html", response.headers, state=state, snapshot=snapshot.id, worst=worst, metric=seen.metric,
        role=seen.role, failing=failing, weighing=weighing,
        tiles=tiles(panel), asked={"product": product, "metric": metric, "role": role},
        shown=panel.role, products=config.product_names, metrics=desk.fleet.default_metrics(product),
    )  # fmt: skip


def looked(
    desk: Desk, snapshot: Snapshot, product: str | None = None, metric: str | None = None, role: Role | None = None
) -> tuple[dict[str, Any], Glance, Panel]:
    """What the page says of all assets."""
    config, folder = desk.fleet.config, desk.fleet.store.path
    product_of(desk, product)
    state = desk.recently(snapshot, "status", desk.fleet.status)
    seen = desk.recently(
        snapshot,
        ("glance", product, metric),
        lambda: questions.glance(
            snapshot,
            folder=folder,
            metric=metric or config.promotion.metric,
            product=product or config.product_names[0],
        ),
    )
    return state, seen, panel_of(desk, snapshot, product, metric, role, None)


#: An asset whose error grew by more than this share from one week to the next is getting worse.
WORSE = 0.25


def tiles(seen: Panel) -> list[tuple[object, str, bool]]:
    """Figures over all assets, each with its name and whether it calls for somebody."""
    newest, before = seen.newest, seen.before
    made: list[tuple[object, str, bool]] = []
    for share, name in ((50, "median"), (90, "p90")):
        now, then = _percentile(newest, share), _percentile(before, share)
        change = f", {100 * (now / then - 1):+.0f} % in a week" if now is not None and then else ""
        made.append((now, f"{name} {seen.metric}{change}", False))
    if seen.coverage is not None:
        name, covered = seen.coverage
        mean = float(np.nanmean(covered)) if np.isfinite(covered).any() else None
        made.append((None if mean is None else f"{100 * mean:.1f} %", f"{name}, mean over assets", False))
    asked = parse(seen.metric)
    both = np.isfinite(newest) & np.isfinite(before)
    worse = int((loss(asked, newest)[both] > (1 + WORSE) * loss(asked, before)[both]).sum())
    if both.any():
        made.append((worse, f"{100 * WORSE:.0f} % worse than a week ago", worse > 0))
    return made


def _percentile(values: npt.NDArray[np.float64], share: int) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.percentile(known, share)) if len(known) else None
