"""The Degradation page: which assets got worse than they were, by how much, and since which day."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response
from markupsafe import Markup

from fleet.comparison import Role
from fleet.html import Canvas
from fleet.review.decay import SORTS, Decay, comparable, ordered
from jobs.web.desk import AtDesk, Desk, Reader
from jobs.web.formats import answered, table_of
from jobs.web.fresh import fresh
from jobs.web.pages.decaying import Windows, decay_of, windows
from jobs.web.pages.figures import Word, panel_of, product_of
from jobs.web.problems import Refused
from jobs.web.render import drawn, page

if TYPE_CHECKING:
    from store.reading import Snapshot

router = APIRouter(include_in_schema=False)
ROWS = 100
COLUMNS = ("asset_id", "recipe", "verdict", "now", "before", "change", "noise", "since", "days_now", "days_before")
Verdict = Literal["worse", "better", "steady", "unknown", "all"]


@dataclass(frozen=True, slots=True)
class Row:
    """An asset of the table."""

    asset_id: str
    recipe: str | None
    verdict: str
    now: float
    before: float
    change: float
    noise: float
    since: date | None
    days_now: int
    days_before: int
    picture: Markup


@router.get("/degradation")
def degradation(
    request: Request,
    response: Response,
    desk: AtDesk,
    who: Reader,
    two: Annotated[Windows, Depends(windows)],
    metric: Word = None,
    role: Role | None = None,
    verdict: Verdict = "worse",
    q: Word = None,
    sort: str = "-change",
    page_number: Annotated[int, Query(ge=1, le=1_000_000, alias="page")] = 1,
    format: Literal["csv", ""] = "",  # noqa: A002  the name in the URL
) -> Response:
    """A page of the assets of a verdict, those that got worst first."""
    if sort not in SORTS:
        raise Refused(400, f"sort {sort[:80]!r}", hint=f"accepted: {', '.join(SORTS)}", kind="parameter-invalid")
    fresh(request, response, desk, who)
    snapshot = desk.snapshot()
    only, name = desk.visible(snapshot, who), product_of(desk, two.product)
    seen = panel_of(desk, snapshot, two.product, comparable(metric or desk.fleet.config.promotion.metric), role, only)
    found = decay_of(desk, snapshot, seen, only, two)
    wanted = (q or "").lower()
    among = np.array([wanted in asset.lower() for asset in found.assets], dtype=bool)
    among &= (found.verdicts == verdict) | (verdict == "all")
    places = ordered(found, sort, among)
    recipes = recipes_of(desk, snapshot, name)
    if format == "csv":
        table = table_of([_plain(found, int(place), recipes) for place in places], COLUMNS)
        return answered(table, "csv", headers=response.headers, name="degradation")
    part = places[ROWS * (page_number - 1) : ROWS * page_number]
    asked = {
        **asdict(two), "metric": metric, "role": role, "verdict": verdict, "q": q or None, "sort": sort,
        "page": page_number,
    }  # fmt: skip
    return page(
        request, "degradation.html", response.headers, found=found, rows=[row_of(found, int(k), recipes) for k in part],
        asked=asked, total=len(places), last=max(1, -(-len(places) // ROWS)), shown=seen.role,
        products=desk.fleet.config.product_names, metrics=desk.fleet.default_metrics(two.product),
        recents=sorted({1, 3, 7, 14, 28, two.recent}), histories=sorted({7, 14, 28, 56, two.history}),
        effects=sorted({0.05, 0.1, 0.2, 0.3, 0.5, 1.0, two.effect}), days=seen.days,
    )  # fmt: skip


def recipes_of(desk: Desk, snapshot: Snapshot, product: str) -> dict[str, str]:
    """The recipe in charge of each asset that has one."""

    def find() -> dict[str, str]:
        table = snapshot.table("champions", columns=["asset_id", "recipe"], where={"product": product})
        pairs = zip(table["asset_id"].to_pylist(), table["recipe"].to_pylist(), strict=True)
        return {asset: recipe for asset, recipe in pairs if recipe}

    return desk.once(snapshot, ("recipes in charge", product), find)


def _plain(found: Decay, place: int, recipes: dict[str, str]) -> dict[str, object]:
    asset = found.assets[place]
    since = found.since[place]
    return {
        "asset_id": asset,
        "recipe": recipes.get(asset),
        "verdict": str(found.verdicts[place]),
        **{name: _known(getattr(found, name)[place]) for name in ("now", "before", "change", "noise")},
        "since": None if since is None else since.isoformat(),
        "days_now": int(found.days_now[place]),
        "days_before": int(found.days_before[place]),
    }


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def row_of(found: Decay, place: int, recipes: dict[str, str]) -> Row:
    """An asset as a line of the table, with its days as a small picture."""
    asset = found.assets[place]
    return Row(
        asset_id=asset,
        recipe=recipes.get(asset),
        verdict=str(found.verdicts[place]),
        now=float(found.now[place]),
        before=float(found.before[place]),
        change=float(found.change[place]),
        noise=float(found.noise[place]),
        since=found.since[place],
        days_now=int(found.days_now[place]),
        days_before=int(found.days_before[place]),
        picture=_picture(found, place),
    )


def _picture(found: Decay, place: int) -> Markup:
    """The days of both windows; a dashed line where the level changed, else where the recent window begins."""
    values, days = found.daily[place], np.arange(found.daily.shape[1], dtype=np.float64)
    if not np.isfinite(values).any():
        return Markup("")
    canvas = Canvas.around(150, 26, days, [values], zero=True)
    at = ((found.since[place] or found.recent.start) - found.first).days - 0.5
    last = found.first + timedelta(days=len(days) - 1)
    label = f"{found.metric} by day, {found.first} to {last}, from {np.nanmin(values):.3g} to {np.nanmax(values):.3g}"
    return drawn(canvas.drawn(canvas.mark(at), canvas.line(days, values), label=label))
