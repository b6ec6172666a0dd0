"""What is no list: the snapshot, the leaderboard, whether the server lives, figures for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from fleet.leaderboard import Leaderboard
from jobs.alerts.seen import listed
from jobs.due import jobs_of, known_since
from jobs.health import health
from jobs.web.api.listings import Names, Word
from jobs.web.api.shapes import PROBLEMS, example, plain
from jobs.web.api.strict import STRICT
from jobs.web.desk import ADMIN, WHOLE, AtDesk, Desk, Reader
from jobs.web.formats import Form, answered, as_json, form_of
from jobs.web.fresh import fresh
from jobs.web.moments import Day
from jobs.web.problems import Refused

router = APIRouter(dependencies=[STRICT])
V1 = "/api/v1"


@router.get(V1 + "/snapshot", responses=plain({"snapshot": 12, "name": "campus"}))
def snapshot(request: Request, response: Response, desk: AtDesk, who: Reader) -> Response:
    """The number of the newest snapshot: what polls asks this alone, and the catalog answers it."""
    fresh(request, response, desk, who)
    head, config = desk.fleet.store.head(), desk.fleet.config
    committed = desk.fleet.store.committed_at(head).isoformat() if head else None
    told = {
        "snapshot": head,
        "committed_at": committed,
        "name": config.fleet.name,
        "products": list(config.product_names),
        "recipes": list(config.recipes),
    }
    return Response(as_json(told), media_type="application/json", headers=dict(response.headers))


@router.get(V1 + "/leaderboard", responses=example(recipe="gbm", assets=101, n=2424, mae=3.2))
def leaderboard(  # noqa: PLR0913, PLR0917  a parameter for each way to cut it, as on the command line
    request: Request,
    response: Response,
    desk: AtDesk,
    who: Reader,
    product: Word = None,
    role: Literal["backtest", "live"] = "backtest",
    metric: Annotated[list[str] | None, Query(max_length=20)] = None,
    average: Literal["mean", "median", "micro"] = "mean",
    since: Day | None = None,
    until: Day | None = None,
    by: Word = None,
    asset: Names = None,
    format: Form | None = None,  # noqa: A002  the name in the URL
) -> Response:
    """The recipes on the assets and points that all of them were judged on, the best first."""
    form = form_of(request, format)
    fresh(request, response, desk, who)
    at = desk.snapshot()
    only = desk.among(at, who, asset)
    if only is not None and not only:
        raise Refused(404, "none of these assets is known", kind="nothing-selected")

    def make() -> Leaderboard:
        return desk.fleet.leaderboard(
            product=product, role=role, metrics=metric, average=average, since=since, until=until, by=by, only=only
        )

    asked = ("leaderboard", product, role, tuple(metric or ()), average, since, until, by, only)
    board = desk.once(at, asked, make)
    beside = {"snapshot": at.id, "next": None, "paired": board.paired, "metric": board.metric}
    return answered(board.arrow(), form, headers=response.headers, name="leaderboard", beside=beside)


@router.get(V1 + "/audit", dependencies=[ADMIN], responses=plain({"rows": []}))
def audit(desk: AtDesk, limit: Annotated[int, Query(ge=1, le=1_000)] = 100) -> Response:
    """Who wrote or asked what through this server, the newest first."""
    return Response(as_json({"rows": desk.audit.newest(limit)}), media_type="application/json")


@router.get("/healthz", responses=plain({"alive": True}))
def healthz() -> dict[str, bool]:
    """Whether this process answers; no token is asked for."""
    return {"alive": True}


@router.get("/readyz", responses=plain({"ready": True}))
def readyz(desk: AtDesk) -> dict[str, bool]:
    """Whether the store can be asked, and the sums over a large fleet are made; no token is asked for."""
    desk.fleet.store.head()
    if not desk.warm.is_set():
        raise Refused(503, "the first pages are being made", kind="starting", hint="ask again in a few seconds")
    return {"ready": True}


@router.get(
    "/metrics",
    dependencies=[WHOLE],
    responses={200: {"description": "figures", "content": {"text/plain": {"schema": {"type": "string"}}}}, **PROBLEMS},
)
def prometheus(desk: AtDesk) -> Response:
    """How the fleet is, for Prometheus."""
    return Response(exposition(told(desk)), media_type="text/plain; version=0.0.4; charset=utf-8")


def told(desk: Desk) -> Iterator[tuple[str, str, dict[str, str], float | None]]:
    """Each figure: its name, what it is, labels, value."""
    at, now = desk.snapshot(), desk.fleet.store.clock.now()
    state = desk.once(at, "status", desk.fleet.status)

    def age(moment: object) -> float | None:
        return (now - moment).total_seconds() if isinstance(moment, datetime) else None

    yield "snapshot", "number of the newest snapshot", {}, at.id
    yield "reading_age_seconds", "since the start of the newest reading's interval", {}, age(state["newest_actual"])
    yield "issue_age_seconds", "since the newest issue time", {}, age(state["newest_issue"])
    for one in state["products"]:
        labels = {"product": one["product"]}
        yield "assets", "assets that a product is issued for", labels, one["assets"]
        yield "champions", "assets with a champion", labels, one["champions"]
        yield "stale", "assets without a champion, or with an old one", labels, one["stale"]
        for verb, states in one["states"].items():
            for outcome in ("ok", "failed", "fell_back"):
                named = {**labels, "verb": verb, "outcome": outcome}
                yield "last_outcome", "assets by the last outcome of a verb", named, states.get(outcome, 0)
    known = jobs_of(desk.fleet.config)
    for job in health(desk.fleet.store, known, now, known=known_since(desk.fleet.config.file)):
        yield "job_well", "1 where nobody has to do anything about a job", {"name": job.job, "kind": job.kind}, job.well
    minute = now.replace(second=0, microsecond=0)  # who is muted now depends on the time
    counts = desk.once(at, ("alerts by state", minute), lambda: listed(at, minute, most=0)).counts
    for name in ("open", "acknowledged", "muted"):
        yield "alerts", "alerts that are not closed", {"state": name}, counts[name]


def exposition(rows: Iterator[tuple[str, str, dict[str, str], float | None]]) -> str:
    r"""Gauges as Prometheus reads them; one whose value is not known is left out.

    >>> print(exposition(iter([("assets", "how many", {"product": 'a"b'}, 3)])), end="")
    # HELP tsfleet_assets how many
    # TYPE tsfleet_assets gauge
    tsfleet_assets{product="a\"b"} 3
    """
    families: dict[str, list[str]] = {}
    for name, said, labels, value in rows:
        lines = families.setdefault(name, [f"# HELP tsfleet_{name} {said}", f"# TYPE tsfleet_{name} gauge"])
        if value is not None:
            listed = ",".join(f'{key}="{_label(text)}"' for key, text in labels.items())
            lines.append(f"tsfleet_{name}{'{' + listed + '}' if listed else ''} {value:.15g}")
    return "".join(f"{line}\n" for lines in families.values() for line in lines)


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
