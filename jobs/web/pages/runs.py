"""The Runs page: every training and judging, and what was tracked by hand."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from fleet.questions.beside import beside
from jobs.web.api.listings import RUNS, Cursor
from jobs.web.desk import AtDesk, Reader
from jobs.web.fresh import fresh
from jobs.web.pages.figures import Word
from jobs.web.render import page

router = APIRouter(include_in_schema=False)
ROWS = 100
#: So many runs stand beside each other at most.
BESIDE = 12
Chosen = Annotated[list[str] | None, Query(max_length=BESIDE)]


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
    run: Chosen = None,
) -> Response:
    """A page of runs, behind the last of the page before."""
    fresh(request, response, desk, who)
    at, begin = RUNS.begins(after) if after else (desk.fleet.store.head(), None)
    snapshot = desk.fleet.store.at(at)
    filters = {"recipe": recipe, "kind": kind, "status": status}
    asked = {"asset": asset, **filters, "run": tuple(run or ())}
    given = {name: value or None for name, value in filters.items()}
    only = desk.among(snapshot, who, [asset] if asset else None)
    query = RUNS.query(given, only, begin)
    found = snapshot.sql(query.sql, {**query.values, "most": ROWS + 1}, query.tables).arrow()
    following = RUNS.cursor(snapshot.id, found.slice(0, ROWS)) if found.num_rows > ROWS else None
    rows = found.slice(0, ROWS).to_pylist()
    return page(request, "runs.html", response.headers, rows=rows, asked=asked, following=following)


@router.get("/runs/compare")
def compare(
    request: Request, response: Response, desk: AtDesk, who: Reader, run: Chosen = None, differing: bool = False
) -> Response:
    """Some runs side by side: what they were given, what they measured, where they differ.

    Args:
        run: ids, in the order of the columns.
        differing: leave out what is the same in all.
    """
    fresh(request, response, desk, who)
    snapshot, ids = desk.snapshot(), tuple(dict.fromkeys(run or ()))
    seen = desk.visible(snapshot, who)
    allowed = None if seen is None else frozenset(seen)
    key = ("beside", ids, who.assets)
    found = desk.once(snapshot, key, lambda: beside(snapshot, ids, lambda asset: allowed is None or asset in allowed))
    asked = {"run": ids, "differing": "true" if differing else None}
    return page(request, "compare.html", response.headers, found=found, asked=asked, differing=differing, most=BESIDE)
