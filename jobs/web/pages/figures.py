"""Figures as Plotly's JSON, and behind each a table, as a page or CSV: what is drawn and what can be counted is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from fleet import questions
from fleet.comparison import Role
from fleet.leaderboard import Average, Leaderboard
from fleet.plots import Plots
from fleet.questions import Panel
from fleet.questions.panel import WINDOW
from jobs.web.desk import AtDesk, Desk, Needs, Reader
from jobs.web.formats import answered, table_of
from jobs.web.fresh import fresh
from jobs.web.moments import Instant
from jobs.web.pages import attic, decaying
from jobs.web.pages.decaying import Windows, windows
from jobs.web.problems import Refused
from jobs.web.render import page
from jobs.web.tokens import Principal

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from store.reading import Snapshot

router = APIRouter(include_in_schema=False)
Word = Annotated[str | None, Query(max_length=600)]
#: How far a page of what ran looks back.
Days = Annotated[int, Query(ge=1, le=3_660)]


@dataclass(frozen=True, slots=True)
class Looked:
    """What a figure is about, as the URL says it; hashable, since answers are kept by it."""

    asset: str | None
    product: str | None
    metric: str | None
    role: Role | None
    average: Average
    by: str | None
    recipe: str | None
    issue: datetime | None
    history: str | None
    job: str | None
    days: int
    windows: Windows


def _looked(
    two: Annotated[Windows, Depends(windows)],
    asset: Word = None,
    product: Word = None,
    metric: Word = None,
    role: Role | None = None,
    average: Average = "mean",
    by: Word = None,
    recipe: Word = None,
    issue: Instant | None = None,
    history: Word = None,
    job: Word = None,
    days: Days = 7,
) -> Looked:
    return Looked(asset, product, metric, role, average, by, recipe, issue, history, job or None, days, two)


Only = tuple[str, ...] | None
#: So many assets stand in the picture of the worst.
WORST = 40


@dataclass(frozen=True, slots=True)
class View:
    """What a figure is drawn of: the assets that are asked for and may be seen (None is all), at a snapshot."""

    desk: Desk
    snapshot: Snapshot
    asked: Looked
    only: Only

    @property
    def role(self) -> Role:
        return self.asked.role or "backtest"

    def plots(self) -> Plots:
        """The figures over these assets."""
        return Plots(
            lambda: self.snapshot, self.desk.fleet.config, self.only, product_of(self.desk, self.asked.product)
        )

    def board(self) -> Leaderboard:
        """The leaderboard of these assets, the one that the page shows."""
        asked = self.asked
        return board_of(
            self.desk, self.snapshot, asked.product, self.role, asked.metric, asked.average, asked.by, self.only
        )

    def panel(self, metric: str | None = None) -> Panel:
        """These assets day by day; made once for all that is drawn of it."""
        asked = self.asked
        return panel_of(self.desk, self.snapshot, asked.product, metric or asked.metric, asked.role, self.only)


def panel_of(
    desk: Desk, snapshot: Snapshot, product: str | None, metric: str | None, role: Role | None, only: Only
) -> Panel:
    """Assets day by day, made once for a snapshot."""
    name, measured = product_of(desk, product), metric or desk.fleet.config.promotion.metric
    return desk.recently(
        snapshot,
        ("panel", name, measured, role, only),
        lambda: questions.panel(snapshot, metric=measured, product=name, role=role, only=only),
    )


def board_of(
    desk: Desk,
    snapshot: Snapshot,
    product: str | None,
    role: Role,
    metric: str | None,
    average: Average,
    by: str | None,
    only: Only,
) -> Leaderboard:
    """The recipes beside each other, made once for the table and all figures of the same question."""
    name, cut = product_of(desk, product), by or None
    metrics = tuple(dict.fromkeys([*([metric] if metric else []), *desk.fleet.default_metrics(name)]))
    return desk.recently(
        snapshot,
        ("board", name, role, metrics, average, cut, only),
        lambda: desk.fleet.leaderboard(product=name, role=role, metrics=metrics, average=average, by=cut, only=only),
    )


def _spread(view: View) -> Figure:
    from fleet import figures

    seen = view.panel()
    title, label, said = _told(seen, f"{seen.metric} of the last {WINDOW} days")
    return figures.spread(seen.newest, title=title, label=label, said=said)


def _density(view: View) -> Figure:
    from fleet import figures

    seen = view.panel()
    title, label, said = _told(seen, f"{seen.metric} by day, all assets")
    return figures.density(seen.values, seen.days, title=title, label=label, said=said)


def _worst(view: View) -> Figure:
    from fleet import figures

    seen = view.panel()
    places = seen.worst(WORST)
    title, label, said = _told(seen, f"Worst {len(places)} assets by {seen.metric}")
    names = [seen.assets[place] for place in places]
    return figures.heat(names, seen.values[places], seen.days, title=title, label=label, said=said)


def _told(seen: Panel, title: str) -> tuple[str, str, list[str]]:
    days = f"{seen.days[0]} to {seen.days[-1]}" if seen.days else ""
    how = "as issued" if seen.role == "live" else "as judged, recipe in charge"
    return title, seen.metric, [f"{len(seen.assets):,} assets", how, days]


def _fan(view: View) -> Figure:
    asked = view.asked
    if asked.asset is None or not view.only:
        raise Refused(404, f"there is no asset {asked.asset!r}", kind="asset-unknown")
    asset = view.desk.fleet[asked.asset].of(product_of(view.desk, asked.product))
    return asset.plot(asked.issue, history=asked.history, recipe=asked.recipe, role=asked.role)


def _life(view: View) -> Figure:
    from fleet import figures

    asked, fleet = view.asked, view.desk.fleet
    if asked.asset is None or not view.only:
        raise Refused(404, f"there is no asset {asked.asset!r}", kind="asset-unknown")
    seen = questions.life(
        view.snapshot, asked.asset, metric=asked.metric or fleet.config.promotion.metric,
        product=product_of(view.desk, asked.product), role=asked.role,
    )  # fmt: skip
    said = ["as issued" if seen.role == "live" else "as judged, the newest of each recipe"]
    return figures.life(seen, title=f"{seen.metric} day by day", said=said)


FIGURES: Mapping[str, Callable[[View], Figure]] = {
    "leaderboard": lambda view: view.board().plot(view.asked.metric),
    "distribution": lambda view: view.board().plot_distribution(view.asked.metric),
    "errors": lambda view: view.plots().errors(view.asked.metric, role=view.role),
    "calibration": lambda view: view.plots().calibration(role=view.role),
    "extremes": lambda view: view.plots().extremes(view.asked.metric, history=view.asked.history),
    "fan": _fan,
    "life": _life,
    "spread": _spread,
    "density": _density,
    "worst": _worst,
    "changed": decaying.changed,
    "course": decaying.course,
    "worsened": decaying.worsened,
    "timeline": attic.timeline,
    "durations": attic.durations,
    "alerts": attic.alerts,
}
#: About all assets at once: nothing of these for who may see some. They tell of today, too.
WHOLE = frozenset({"timeline", "durations", "alerts"})


@router.get("/figures/{name}.{form}")
def figure(
    request: Request,
    response: Response,
    desk: AtDesk,
    who: Reader,
    name: str,
    form: Literal["json", "html", "csv"],
    asked: Annotated[Looked, Depends(_looked)],
) -> Response:
    """A figure, or the table behind it."""
    draw = FIGURES.get(name)
    if draw is None:
        raise Refused(404, f"there is no figure {name!r}", hint=f"there are {', '.join(FIGURES)}")
    if name in WHOLE:
        Needs("read", whole=True)(request)
    fresh(request, response, desk, who, timed=name in WHOLE)
    snapshot = desk.snapshot()
    only = desk.among(snapshot, who, None if asked.asset is None else [asked.asset])
    key = ("figure", name, asked, only, desk.fleet.clock.now().date() if name in WHOLE else None)
    made = desk.recently(snapshot, key, lambda: _drawn(draw(View(desk, snapshot, asked, only))))
    if form == "json":
        return Response(made.json, media_type="application/json", headers=dict(response.headers))
    if form == "csv":
        return answered(table_of(made.rows, made.columns), "csv", headers=response.headers, name=name)
    return page(
        request, "table.html", response.headers, name=name, columns=made.columns, rows=made.rows[:MOST_ROWS],
        total=len(made.rows), query=request.url.query,
    )  # fmt: skip


#: A page of the table has so many rows; CSV has all.
MOST_ROWS = 2_000


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure as it goes out, and its values."""

    json: str
    columns: tuple[str, ...]
    rows: list[dict[str, object]]


def _drawn(made: Figure) -> Drawn:
    from fleet.figures.tabled import COLUMNS, tabled

    rows = tabled(made)
    columns = tuple(name for name in COLUMNS if any(row[name] is not None for row in rows)) or COLUMNS[:1]
    # A column is numbers, or it is text: recipes on one axis are told beside values on the other.
    numbers = {name for name in columns if all(isinstance(row[name], int | float | None) for row in rows)}
    return Drawn(made.to_json(), columns, [{n: _cell(row[n], n in numbers) for n in columns} for row in rows])


def _cell(value: object, number: bool) -> object:
    return value if number or value is None else str(value)


def product_of(desk: Desk, product: str | None) -> str:
    """A product by name; the first of the fleet for None.

    Raises:
        Refused: 400, there is none of that name.
    """
    known = desk.fleet.config.product_names
    if product is None:
        return known[0]
    if product not in known:
        raise Refused(400, f"there is no product {product!r}", hint=f"there are {', '.join(known)}")
    return product


def visible(desk: Desk, snapshot: Snapshot, who: Principal, asset: str) -> str:
    """An asset's id, where it is there and may be seen.

    Raises:
        Refused: 404; one that may not be seen is as if it were not there.
    """
    if not desk.among(snapshot, who, [asset]) or asset not in desk.fleet:
        raise Refused(404, f"there is no asset {asset!r}", kind="asset-unknown", hint="look for it under Assets")
    return asset
