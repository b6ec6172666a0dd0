"""The Assets page: the register with who is in charge and how far off, searched, narrowed and sorted in the store."""

from __future__ import annotations

from typing import Annotated

import pyarrow as pa
from fastapi import APIRouter, Query, Request, Response

from fleet import questions
from fleet.metrics import parse
from jobs.web.desk import AtDesk, Desk, Reader
from jobs.web.fresh import fresh
from jobs.web.pages.figures import Word, product_of
from jobs.web.problems import Refused
from jobs.web.render import page
from store.reading import Snapshot

router = APIRouter(include_in_schema=False)
ROWS = 100
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
)
# How far off an asset is comes as a table: it is measured by the code that measures everywhere else.
LISTED = """
with listed as (
    select a.asset_id, a.kind, a.region, a.state, a.capacity, c.recipe, c.since, e.value
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
    f"{sign}{name}": f"{name} {way} nulls last, asset_id"
    for name, _, _ in COLUMNS
    for sign, way in (("", "asc"), ("-", "desc"))
}


@router.get("/assets")
def assets(
    request: Request,
    response: Response,
    desk: AtDesk,
    who: Reader,
    q: Word = None,
    kind: Word = None,
    region: Word = None,
    state: Word = None,
    recipe: Word = None,
    product: Word = None,
    sort: str = "-value",
    page_number: Annotated[int, Query(ge=1, le=1_000_000, alias="page")] = 1,
) -> Response:
    """A page of the table, and how many there are of each kind."""
    if sort not in ORDER:
        raise Refused(400, f"sort {sort[:80]!r}", hint=f"accepted: {', '.join(ORDER)}", kind="parameter-invalid")
    fresh(request, response, desk, who)
    snapshot, name = desk.snapshot(), product_of(desk, product)
    seen = desk.visible(snapshot, who)
    tables = {
        "errors": desk.recently(snapshot, ("errors", name), lambda: _errors(desk, snapshot, name)),
        "seen": pa.table({"asset_id": pa.array(seen or (), pa.string())}),
    }
    given = {"q": q or "", "kind": kind or "", "region": region or "", "state": state or "", "recipe": recipe or ""}
    values = {**given, "product": name, "some": seen is not None}

    def ask(query: str, **more: object) -> list[dict[str, object]]:
        return snapshot.sql(LISTED + query, {**values, **more}, tables).rows()

    def find() -> tuple[dict[str, object], list[dict[str, object]], dict[str, list[dict[str, object]]]]:
        skipped = ROWS * (page_number - 1)
        listed = f"select * from found order by {ORDER[sort]} limit {ROWS} offset $skipped"  # noqa: S608  out of the table above
        return ask(COUNTED)[0], ask(listed, skipped=skipped), {facet: ask(_facet(facet)) for facet in FACETS}

    key = ("assets", *values.values(), sort, page_number, seen)
    counted, rows, facets = desk.recently(snapshot, key, find)
    asked = {**given, "product": product, "sort": sort, "page": page_number}
    return page(
        request, "assets.html", response.headers, rows=rows, total=counted["n"], all=counted["everything"],
        asked=asked, columns=_columns(desk), last=max(1, -(-int(str(counted["n"])) // ROWS)),
        facets=facets,
    )  # fmt: skip


def _facet(name: str) -> str:
    """How many of each value, whatever is chosen of this one."""
    return f"""select {name} as value, count(*) as n from listed
        where contains(lower(asset_id), lower($q)) and {name} is not null
        group by {name} order by n desc, value limit 100"""  # noqa: S608  a name of ours


def _columns(desk: Desk) -> list[tuple[str, str, bool]]:
    metric = shown_metric(desk)
    return [(name, metric if name == "value" else label, number) for name, label, number in COLUMNS]


def shown_metric(desk: Desk) -> str:
    """The metric that decides who is in charge; a comparison of recipes says nothing of an asset, its error does."""
    metric = desk.fleet.config.promotion.metric
    return "mae" if parse(metric).recipe else metric


def _errors(desk: Desk, snapshot: Snapshot, product: str) -> pa.Table:
    ranked = questions.ranked(snapshot, metric=shown_metric(desk), product=product)
    ids, values = [one.asset_id for one in ranked], [one.value for one in ranked]
    return pa.table({"asset_id": pa.array(ids, pa.string()), "value": pa.array(values, pa.float64())})
