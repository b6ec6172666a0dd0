"""The SQL page: a question in the URL to look at and to mail, asked only when somebody presses the button."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, get_args
from urllib.parse import parse_qs, urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from jobs.web.api.sql import ask
from jobs.web.desk import WHOLE, AtDesk, Desk, Needs, Operator, WholeReader
from jobs.web.formats import Form, answered, as_text
from jobs.web.problems import Refused
from jobs.web.render import page
from jobs.web.saved import Saved
from jobs.web.tokens import Principal, web_folder
from store.schema import VIEWS

router = APIRouter(include_in_schema=False)
SHOWN = 200
EXAMPLES = (
    (
        "Champions by kind",
        (
            "select kind, recipe, count(*) as assets\nfrom champions join assets using (asset_id)\n"
            "group by all order by all"
        ),
    ),
    (
        "Error by week",
        (
            "select date_trunc('week', day) as week, recipe, sum(sum_abs_e) / sum(n) as mae\n"
            "from scores where role = 'backtest'\ngroup by all order by all"
        ),
    ),
    (
        "Why runs failed",
        (
            "select error_code, error, count(*) as runs\nfrom runs where status = 'failed'\n"
            "group by all order by runs desc"
        ),
    ),
)


@router.get("/sql", dependencies=[WHOLE])
def form(request: Request, desk: AtDesk, q: Annotated[str, Query(max_length=100_000)] = "") -> Response:
    """The form, with a question in it or without; nothing is asked."""
    return _shown(request, desk, q)


@router.post("/sql")
async def asked(request: Request, desk: AtDesk, who: WholeReader) -> Response:
    """The answer as a page, or as a file."""
    sent = parse_qs((await request.body()).decode("utf-8", "replace"))
    return await run_in_threadpool(_answer, request, desk, who, sent.get("q", [""])[0], sent.get("as", [""])[0])


@router.post("/sql/saved")
async def kept(request: Request, desk: AtDesk, who: Operator) -> Response:
    """Keep a question under a name, or forget it: for all who look at this fleet."""
    Needs("operate", whole=True)(request)
    sent = parse_qs((await request.body()).decode("utf-8", "replace"))
    return await run_in_threadpool(_kept, request, desk, who, {name: values[0] for name, values in sent.items()})


def _kept(request: Request, desk: Desk, who: Principal, sent: Mapping[str, str]) -> Response:
    name, text = sent.get("name", ""), sent.get("q", "")
    client = request.client.host if request.client else ""
    saved = Saved(web_folder(desk.fleet.store.path))
    act = "query-forgotten" if sent.get("do") == "forget" else "query-kept"
    desk.audit.tell(act, actor=who.name, token=who.id, address=client, name=name, sql=text)
    if act == "query-forgotten":
        saved.forget(name)
        return RedirectResponse("/sql", 303)
    saved.keep(name, text)
    return RedirectResponse("/sql?" + urlencode({"q": text}), 303)


def _answer(request: Request, desk: Desk, who: Principal, text: str, form: str) -> Response:
    snapshot = desk.fleet.store.head()
    try:
        found = ask(request, desk, who, checked(text), snapshot)
    except Refused as error:
        return _shown(request, desk, text, problem=error)
    for known in get_args(Form):
        if form == known:
            return answered(found.table, known, headers={}, name="answer")
    rows = as_text(found.table.slice(0, SHOWN), nested=True).to_pylist()
    told = {"names": found.table.column_names, "rows": rows, "total": found.rows, "snapshot": snapshot}
    return _shown(request, desk, text, found=told)


def checked(text: str) -> str:
    """A question of a length that can be asked.

    Raises:
        Refused: 400.
    """
    if not text.strip() or len(text) > 100_000:
        raise Refused(400, "a question has 1 to 100,000 characters", kind="query-invalid")
    return text


def _shown(
    request: Request,
    desk: Desk,
    text: str,
    *,
    found: Mapping[str, object] | None = None,
    problem: Refused | None = None,
) -> Response:
    return page(
        request, "sql.html", status=problem.status if problem else 200, sql=text, found=found, problem=problem,
        examples=EXAMPLES, saved=Saved(web_folder(desk.fleet.store.path)).all(),
        keeps=request.state.principal.may("operate"), views=sorted(VIEWS), bounds=desk.settings,
    )  # fmt: skip
