"""The Assets page: the register with who is in charge and how far off, searched, narrowed and sorted in the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Annotated

import numpy as np
import pyarrow as pa
from fastapi import APIRouter, Depends, Query, Request, Response
from markupsafe import Markup

from fleet import questions
from fleet.cards import spark
from fleet.metrics import parse
from fleet.questions import Panel, Worst
from fleet.questions.panel import WINDOW
from jobs.web.desk import AtDesk, Desk, Reader
from jobs.web.formats import Form, answered
from jobs.web.fresh import fresh
from jobs.web.pages.figures import Only, Word, panel_of, product_of
from jobs.web.problems import Refused
from jobs.web.render import drawn, page
from store.reading import Snapshot

router = APIRouter(include_in_schema=False)
ROWS = 100
EPOCH = date(1970, 1, 1)
EXPORTED = ("asset_id", "kind", "region", "state", "capacity", "recipe", "since", "error", "error_recent")
FACETS = ("kind", "region", "state", "recipe")
#: Column, its heading, whether it is a number.
COLUMNS = (
    ("asset_id", "Asset", False),
    ("kind", "Kind", False),
    ("region", "Region", False),
    ("capacity", "Capacity", True),
    ("recipe", "In charge", False),
    ("since", "Since", False),
    ("value", "Error", True),
    ("recent", "Recent", True),
)
# How far off an asset is comes as a table: it is measured by the code that measures everywhere else.
LISTED = """
with listed as (
    select a.asset_id, a.kind, a.region, a.state, a.capacity, c.recipe, c.since, e.value, e.recent
    from assets a left join champions c on c.asset_id = a.asset_id and c.product = $product
    left join errors e on e.asset_id = a.asset_id
    where (not $some or a.asset_id in (select asset_id from seen))
), found as (
    select * from listed
    where contains(lower(asset_id), lower($q)) and ($kind = '' or kind = $kind) and ($region = '' or region = $region)
      and ($state = '' or state = $state) and ($recipe = '' or recipe = $recipe)
)
"""
COUNTED = "select (select count(*) from listed) as everything, count(*) as n from found"
ORDER = {
    f"{sign}{name}": f"{name} {way} nulls last, {'recent desc nulls last, ' if name == 'value' else ''}asset_id"
    for name, _, _ in COLUMNS
    for sign, way in (("", "asc"), ("-", "desc"))
}


Rows = list[dict[str, object]]
#: How many there are, the rows of a page, their pictures, and by facet its values.
Found = tuple[dict[str, object], Rows, dict[str, Markup], dict[str, Rows]]


@dataclass(frozen=True, slots=True)
class Sought:
    """Which assets are meant; an empty word is any."""

    q: str
    kind: str
    region: str
    state: str
    recipe: str


def _sought(q: Word = None, kind: Word = None, region: Word = None, state: Word = None, recipe: Word = None) -> Sought:
    return Sought(q or "", kind or "", region or "", state or "", recipe or "")


@router.get("/assets")
def assets(
    request: Request,
    response: Response,
    desk: AtDesk,
    who: Reader,
    sought: Annotated[Sought, Depends(_sought)],
    product: Word = None,
    sort: str = "-value",
    page_number: Annotated[int, Query(ge=1, le=1_000_000, alias="page")] = 1,
    format: Form | None = None,  # noqa: A002  the name in the URL
) -> Response:
    """A page of the table, and how many there are of each kind; with a format all rows of it as a file."""
    if sort not in ORDER:
        raise Refused(400, f"sort {sort[:80]!r}", hint=f"accepted: {', '.join(ORDER)}", kind="parameter-invalid")
    fresh(request, response, desk, who)
    snapshot, name = desk.snapshot(), product_of(desk, product)
    seen = desk.visible(snapshot, who)
    days = panel_of(desk, snapshot, product, None, None, seen)
    tables = {
        "errors": errors_of(desk, snapshot, name, days, seen),
        "seen": pa.table({"asset_id": pa.array(seen or (), pa.string())}),
    }
    values = {**asdict(sought), "product": name, "some": seen is not None}

    def ask(query: str, **more: object) -> Rows:
        return snapshot.sql(LISTED + query, {**values, **more}, tables).rows()

    order = f"select * from found order by {ORDER[sort]}"  # noqa: S608  out of the table above
    if format is not None:
        rows = snapshot.sql(LISTED + order, values, tables).arrow().rename_columns(EXPORTED)
        return answered(rows, format, headers=response.headers, name="assets", beside={"snapshot": snapshot.id})

    def find() -> Found:
        rows = ask(f"{order} limit {ROWS} offset $skipped", skipped=ROWS * (page_number - 1))
        pictures = sparks(days, [str(row["asset_id"]) for row in rows])
        return ask(COUNTED)[0], rows, pictures, {facet: ask(_facet(facet)) for facet in FACETS}

    key = ("assets", *values.values(), sort, page_number, seen)
    counted, rows, pictures, facets = desk.recently(snapshot, key, find)
    asked = {**asdict(sought), "product": product, "sort": sort, "page": page_number}
    return page(
        request, "assets.html", response.headers, rows=rows, pictures=pictures, days=days,
        total=counted["n"], all=counted["everything"],
        asked=asked, columns=_columns(desk, days), last=max(1, -(-int(str(counted["n"])) // ROWS)),
        facets=facets,
    )  # fmt: skip


def errors_of(desk: Desk, snapshot: Snapshot, product: str, days: Panel, seen: Only) -> pa.Table:
    """What the table says of each asset's errors, made once for all its pages."""
    return desk.recently(snapshot, ("errors", product, seen), lambda: _errors(desk, snapshot, product, days))


def _facet(name: str) -> str:
    """How many of each value there are among what else is asked for, whatever is chosen of this one."""
    others = " and ".join(f"(${one} = '' or {one} = ${one})" for one in FACETS if one != name)
    return f"""select {name} as value, count(*) as n from listed
        where contains(lower(asset_id), lower($q)) and {others} and {name} is not null
        group by {name} order by n desc, value limit 100"""  # noqa: S608  names of ours


def sparks(seen: Panel, assets: Sequence[str]) -> dict[str, Markup]:
    """A small picture of each asset's days, gaps where nothing was scored; none of one that never was."""
    places = {name: place for place, name in enumerate(seen.assets)}
    last = max((date_of - EPOCH).days for date_of in seen.days) if seen.days else 0
    days = np.arange(last - len(seen.days) + 1, last + 1, dtype=np.float64)
    made = {}
    for name in assets:
        if name in places:
            shown = Worst(asset_id=name, recipe="", value=0.0, points=0, days=days, values=seen.values[places[name]])
            made[name] = drawn(spark(shown, seen.metric))
    return made


def _columns(desk: Desk, days: Panel) -> list[tuple[str, str, bool]]:
    named = {"value": f"{shown_metric(desk)}, judged", "recent": f"{days.metric}, last {WINDOW} days"}
    return [(name, named.get(name, label), number) for name, label, number in COLUMNS]


def shown_metric(desk: Desk) -> str:
    """The metric that decides who is in charge; a comparison of recipes says nothing of an asset, its error does."""
    metric = desk.fleet.config.promotion.metric
    return "mae" if parse(metric).recipe else metric


def _errors(desk: Desk, snapshot: Snapshot, product: str, days: Panel) -> pa.Table:
    """How far off each asset was judged to be, and how far off it was in the last week."""
    ranked = questions.ranked(snapshot, metric=shown_metric(desk), product=product)
    judged = {one.asset_id: one.value for one in ranked}
    recent = dict(zip(days.assets, days.newest.tolist(), strict=True))
    ids = list({**judged, **recent})
    columns = {
        name: pa.array([values.get(one, np.nan) for one in ids], pa.float64(), from_pandas=True)
        for name, values in (("value", judged), ("recent", recent))
    }
    return pa.table({"asset_id": pa.array(ids, pa.string()), **columns})
