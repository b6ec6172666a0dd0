"""The Alerts page: what is wrong now, what weighs most, which assets are behind it, and what was said to it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from fleet.config.alerting import SEVERITIES
from jobs.alerts import seen
from jobs.web.desk import AtDesk, Desk, WholeReader
from jobs.web.fresh import fresh
from jobs.web.pages.figures import Days, Word
from jobs.web.problems import Refused
from jobs.web.render import page
from store.reading import Snapshot

router = APIRouter(include_in_schema=False)
ROWS = 100
State = Literal["open", "acknowledged", "muted", "closed", ""]
Place = Annotated[int, Query(ge=1, le=1_000_000, alias="page")]


@router.get("/alerts")
def alerts(
    request: Request,
    response: Response,
    desk: AtDesk,
    who: WholeReader,
    state: State = "",
    severity: Word = None,
    rule: Word = None,
    q: Word = None,
    sort: str = "-impact",
    days: Days = 28,
    page_number: Place = 1,
) -> Response:
    """A page of alerts; those that are not closed, unless another state is asked for."""
    if sort not in seen.SORTS:
        raise Refused(400, f"sort {sort[:80]!r}", hint=f"accepted: {', '.join(seen.SORTS)}", kind="parameter-invalid")
    fresh(request, response, desk, who, timed=True)
    snapshot, now = desk.snapshot(), _minute(desk.fleet.clock.now())
    asked = {"state": state, "severity": severity or None, "rule": rule or None, "q": q or None, "sort": sort}
    found = desk.once(
        snapshot,
        ("alerts", now, *asked.values(), page_number),
        lambda: seen.listed(
            snapshot, now, state=state or None, severity=severity or None, rule=rule or None, q=q or None, sort=sort,
            most=ROWS, skipped=ROWS * (page_number - 1),
        ),
    )  # fmt: skip
    return page(
        request, "alerts.html", response.headers, found=found, asked={**asked, "days": days, "page": page_number},
        states=seen.STATES, severities=SEVERITIES[::-1], sorts=tuple(seen.SORTS), ranges=sorted({7, 28, 90, 365, days}),
        last=max(1, -(-found.total // ROWS)),
    )  # fmt: skip


@router.get("/alert")
def alert(
    request: Request,
    response: Response,
    desk: AtDesk,
    who: WholeReader,
    id: Word = None,  # noqa: A002  the name in the URL
    page_number: Place = 1,
) -> Response:
    """One alert: the assets behind it, what people said, who was told; without an id the list of them."""
    if not id:
        return RedirectResponse("/alerts", 303)
    fresh(request, response, desk, who, timed=True)
    snapshot = desk.snapshot()
    found = seen.one(snapshot, desk.fleet.clock.now(), id)
    rows, everything = seen.members(snapshot, id, most=ROWS, skipped=ROWS * (page_number - 1))
    return page(
        request, "alert.html", response.headers, alert=found, members=rows, everything=everything,
        actions=snapshot.sql(seen.ACTIONS, {"alert": id}).rows(), sent=snapshot.sql(seen.SENT, {"alert": id}).rows(),
        asked={"id": id, "page": page_number}, last=max(1, -(-everything // ROWS)),
    )  # fmt: skip


def alarms(desk: Desk, snapshot: Snapshot, most: int = 5) -> seen.Listed:
    """The open alerts that weigh most, for a page that is about something else."""
    now = _minute(desk.fleet.clock.now())
    return desk.once(snapshot, ("alarms", now, most), lambda: seen.listed(snapshot, now, state="open", most=most))


def _minute(moment: datetime) -> datetime:
    """The minute that an instant lies in: as old as an answer to a timed question may be."""
    return moment.replace(second=0, microsecond=0)
