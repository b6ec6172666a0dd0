"""The Fleet page: how the fleet is, which assets are furthest off, what ran last."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from markupsafe import Markup

from fleet import questions
from fleet.cards import spark
from jobs.web.desk import AtDesk, WholeReader
from jobs.web.fresh import fresh
from jobs.web.render import drawn, page

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
def fleet(request: Request, response: Response, desk: AtDesk, who: WholeReader) -> Response:
    """How the fleet is."""
    fresh(request, response, desk, who, timed=True)
    snapshot = desk.snapshot()
    config, folder = desk.fleet.config, desk.fleet.store.path
    state = desk.once(snapshot, "status", desk.fleet.status)
    seen = desk.once(
        snapshot,
        "glance",
        lambda: questions.glance(
            snapshot, folder=folder, metric=config.promotion.metric, product=config.product_names[0]
        ),
    )
    worst = [Row(w.asset_id, w.recipe, w.value, w.points, drawn(spark(w, seen.metric))) for w in seen.worst]
    failing = sum(job.status in ("failed", "killed") for job in seen.jobs)
    return page(
        request, "fleet.html", response.headers, state=state, snapshot=snapshot.id, worst=worst, metric=seen.metric,
        role=seen.role, failing=failing,
    )  # fmt: skip
