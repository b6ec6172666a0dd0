"""Questions in SQL: one SELECT over the views, in a process of its own."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from jobs.web.api.shapes import example
from jobs.web.api.strict import STRICT
from jobs.web.desk import AtDesk, Desk, WholeReader
from jobs.web.formats import Form, answered, form_of
from jobs.web.sandbox import Answered
from jobs.web.tokens import Principal

router = APIRouter(prefix="/api/v1", dependencies=[STRICT])


class Asked(BaseModel):
    """A question."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"sql": "select recipe, count(*) as n from champions group by all"}},
    )

    sql: str = Field(min_length=1, max_length=100_000)
    at: int | None = Field(None, strict=True, ge=0, le=2**53, description="a snapshot; the newest by default")


@router.post("/sql", responses=example(recipe="gbm", n=54))
def sql(
    request: Request,
    desk: AtDesk,
    who: WholeReader,
    asked: Asked,
    format: Form | None = None,  # noqa: A002  the name in the URL
) -> Response:
    """The answer to one SELECT over the views; ``total`` counts its rows where not all of them are sent."""
    form = form_of(request, format)
    snapshot = desk.fleet.store.head() if asked.at is None else asked.at
    found = ask(request, desk, who, asked.sql, snapshot)
    beside = {"snapshot": snapshot, "next": None, "total": found.rows}
    headers = {"cache-control": "no-store", "x-total-rows": str(found.rows)}
    return answered(found.table, form, headers=headers, name="answer", beside=beside)


def ask(request: Request, desk: Desk, who: Principal, text: str, snapshot: int) -> Answered:
    """Ask, after it was written down who does."""
    client = request.client.host if request.client else ""
    desk.audit.tell("sql", actor=who.name, token=who.id, address=client, sql=text, snapshot=snapshot)
    return desk.sandbox.ask(text, snapshot)
