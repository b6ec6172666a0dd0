"""The Runs page: every training and judging, and what was tracked by hand."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from jobs.web.api.listings import RUNS, Cursor
from jobs.web.desk import AtDesk, Reader
from jobs.web.fresh import fresh
from jobs.web.pages.figures import Word
from jobs.web.render import page

router = APIRouter(include_in_schema=False)
ROWS = 100


@router.get("/runs")
def runs(
    request: Request,
    response: Response,
    desk: AtDesk,
    who: Reader,
    asset: Word = None,
    recipe: Word = None,
    kind: Word = None,
    status: Word = None,
    after: Cursor = None,
) -> Response:
    """A page of runs, behind the last of the page before."""
    fresh(request, response, desk, who)
    at, begin = RUNS.begins(after) if after else (desk.fleet.store.head(), None)
    snapshot = desk.fleet.store.at(at)
    asked = {"asset": asset, "recipe": recipe, "kind": kind, "status": status}
    given = {name: value or None for name, value in asked.items() if name != "asset"}
    only = desk.among(snapshot, who, [asset] if asset else None)
    query = RUNS.query(given, only, begin)
    found = snapshot.sql(query.sql, {**query.values, "most": ROWS + 1}, query.tables).arrow()
    following = RUNS.cursor(snapshot.id, found.slice(0, ROWS)) if found.num_rows > ROWS else None
    rows = found.slice(0, ROWS).to_pylist()
    return page(request, "runs.html", response.headers, rows=rows, asked=asked, following=following)
