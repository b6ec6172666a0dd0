"""The tables that applications read page by page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from fleet.metrics import quantile_column
from jobs.web.api.shapes import example
from jobs.web.api.strict import STRICT
from jobs.web.desk import WHOLE, AtDesk, Desk, Reader
from jobs.web.formats import Form, answered, form_of
from jobs.web.fresh import fresh
from jobs.web.moments import Day, Instant
from jobs.web.paging import Listing
from jobs.web.problems import Refused
from jobs.web.tokens import Principal
from store.reading import Snapshot

router = APIRouter(prefix="/api/v1", dependencies=[STRICT])

Names = Annotated[list[str] | None, Query(max_length=1_000)]
Word = Annotated[str | None, Query(max_length=600)]
Limit = Annotated[int, Query(ge=1, le=100_000)]
Cursor = Annotated[str | None, Query(max_length=4_000)]

ID = {"asset_id": "VARCHAR"}
SAME = {name: f"{name} = ${name}" for name in ("product", "recipe", "name", "status", "kind", "role", "job", "truth")}
ASSETS = Listing(
    source="assets",
    key=ID,
    filters={
        "kind": "kind = $kind",
        "region": "region = $region",
        "state": "state = $state",
        "q": "contains(lower(asset_id), lower($q))",
    },
)
RUNS = Listing(source="runs", key={"run_id": "VARCHAR"}, backwards=True, filters=SAME)
METRICS = Listing(
    source="latest",
    key={"asset_id": "VARCHAR", "product": "VARCHAR", "recipe": "VARCHAR", "name": "VARCHAR"},
    filters=SAME,
)
ISSUE = {"asset_id": "VARCHAR", "product": "VARCHAR", "issue_time": "TIMESTAMPTZ", "valid_time": "TIMESTAMPTZ"}
IN_TIME = {
    **SAME,
    "since": "{column} >= $since",
    "until": "{column} < $until",
}


def _timed(column: str) -> dict[str, str]:
    return {name: text.format(column=column) for name, text in IN_TIME.items()}


PUBLISHED = Listing(
    source="published", key=ISSUE, filters={**_timed("issue_time"), "issue_time": "issue_time = $issue_time"}
)
NEWEST = Listing(
    source="published",
    qualify="qualify issue_time = max(issue_time) over (partition by asset_id, product)",
    key=ISSUE,
    filters=_timed("issue_time"),
)
AS_OF = Listing(
    source="published",
    qualify="qualify row_number() over (partition by asset_id, product, valid_time order by issue_time desc) = 1",
    key=ISSUE,
    filters={**_timed("valid_time"), "as_of": "issue_time <= $as_of"},
)
ACTUALS = Listing(
    source="actuals", key={"asset_id": "VARCHAR", "valid_time": "TIMESTAMPTZ"}, filters=_timed("valid_time")
)
SCORES = Listing(
    source="scores",
    key={
        "asset_id": "VARCHAR",
        "day": "DATE",
        "product": "VARCHAR",
        "recipe": "VARCHAR",
        "recipe_hash": "VARCHAR",
        "version_id": "VARCHAR",
        "role": "VARCHAR",
        "truth": "VARCHAR",
        "lead_bucket": "VARCHAR",
        "perfect_foresight": "BOOLEAN",
    },
    filters=_timed("day"),
)
# A ledger has no key: rows of an asset are numbered in the order they were committed in.
DECISIONS = Listing(
    source="decisions__v",
    inner="*, row_number() over (partition by asset_id, product order by _v, challenger, metric, reason) as number",
    columns="* exclude (_v)",
    key={"asset_id": "VARCHAR", "product": "VARCHAR", "number": "BIGINT"},
    filters=_timed("decided_at"),
)
JOB_RUNS = Listing(source="job_runs", key={"slot": "TIMESTAMPTZ", "job": "VARCHAR"}, backwards=True, filters=SAME)
ALERTS = Listing(
    source="alerts", key={"alert_id": "VARCHAR"}, backwards=True, filters={"open": "(closed_at is null) = $open"}
)


@dataclass(frozen=True)
class Page:
    """What every list takes beside its own filters."""

    request: Request
    response: Response
    desk: Desk
    who: Principal
    limit: int
    after: str | None
    form: Form | None

    def of(
        self,
        name: str,
        listing: Listing,
        assets: Sequence[str] | None = None,
        keep: Callable[[Sequence[str]], Sequence[str]] = lambda names: names,
        /,
        **given: object,
    ) -> Response:
        """One page.

        Args:
            keep: which of the columns are wanted.
        """
        form = form_of(self.request, self.form)
        fresh(self.request, self.response, self.desk, self.who)
        snapshot, begin = self._start(listing)
        wanted = self.desk.among(snapshot, self.who, assets)
        asked = listing.query(given, wanted, begin)
        found = snapshot.sql(asked.sql, {**asked.values, "most": self.limit + 1}, asked.tables).arrow()
        page = found.slice(0, self.limit)
        following = listing.cursor(snapshot.id, page) if found.num_rows > self.limit else None
        headers = dict(self.response.headers)
        if following is not None:
            url = self.request.url.include_query_params(after=following)
            headers["link"] = f'<{url.path}?{url.query}>; rel="next"'
        table = page.select(list(keep(page.column_names)))
        return answered(table, form, headers=headers, name=name, beside={"snapshot": snapshot.id, "next": following})

    def _start(self, listing: Listing) -> tuple[Snapshot, list[str] | None]:
        if self.after is None:
            return self.desk.snapshot(), None
        at, key = listing.begins(self.after)
        return self.desk.fleet.store.at(at), key


def _page(
    request: Request, response: Response, desk: AtDesk, who: Reader, limit: Limit = 1_000, after: Cursor = None,
    format: Form | None = None,  # noqa: A002  the name in the URL
) -> Page:  # fmt: skip
    """The parameters that every list shares.

    Args:
        limit: rows of a page.
        after: the value of ``next`` of the page before; the snapshot stays the same.
        format: json, arrow, parquet or csv; by default what Accept says.
    """
    return Page(request, response, desk, who, limit, after, format)


Paged = Annotated[Page, Depends(_page)]
Quantiles = Annotated[list[float] | None, Query(max_length=99)]


@router.get("/assets", responses=example(asset_id="b101", kind="office", capacity=120.0))
def assets(
    page: Paged, asset: Names = None, kind: Word = None, region: Word = None, state: Word = None, q: Word = None
) -> Response:
    """The register as it holds now; ``q`` is a part of the id."""
    return page.of("assets", ASSETS, asset, kind=kind, region=region, state=state, q=q)


@router.get("/runs", responses=example(run_id="01m84q5c5s9y7khkj5cdg90rm0", asset_id="b101", status="ok"))
def runs(
    page: Paged,
    asset: Names = None,
    product: Word = None,
    recipe: Word = None,
    status: Literal["running", "ok", "failed", "killed"] | None = None,
    kind: Word = None,
) -> Response:
    """Runs, the newest first."""
    return page.of("runs", RUNS, asset, product=product, recipe=recipe, status=status, kind=kind)


@router.get("/metrics", responses=example(asset_id="b101", name="mae", value=3.2))
def metrics(page: Paged, asset: Names = None, product: Word = None, recipe: Word = None, name: Word = None) -> Response:
    """The newest value of each metric that runs logged."""
    return page.of("metrics", METRICS, asset, product=product, recipe=recipe, name=name)


@router.get("/forecasts", responses=example(asset_id="b101", valid_time="2024-06-10T07:00:00Z", mean=3.2, q10=2.1))
def forecasts(
    page: Paged,
    asset: Names = None,
    product: Word = None,
    quantile: Quantiles = None,
    which: Literal["latest", "published"] = "latest",
    as_of: Instant | None = None,
    issue_time: Instant | None = None,
    since: Instant | None = None,
    until: Instant | None = None,
) -> Response:
    """What was issued: one row for each asset, product, issue and valid time.

    Args:
        quantile: only these levels, such as 0.1; all by default.
        which: latest has the newest issue of each asset and product, published every issue.
        as_of: for each valid time the newest forecast that was issued by then; since and until then bound valid times.
        issue_time: of published, one issue.
        since: issues from then on.
        until: issues before then.
    """
    given = {"product": product, "since": since, "until": until}
    levels = None if quantile is None else {_column(level) for level in quantile}

    def keep(names: Sequence[str]) -> list[str]:
        return [name for name in names if levels is None or name in levels or not _is_quantile(name)]

    if as_of is not None:
        return page.of("forecasts", AS_OF, asset, keep, **given, as_of=as_of)
    if which == "latest" and issue_time is None:
        return page.of("forecasts", NEWEST, asset, keep, **given)
    return page.of("forecasts", PUBLISHED, asset, keep, **given, issue_time=issue_time)


@router.get("/actuals", responses=example(asset_id="b101", valid_time="2024-06-10T07:00:00Z", y=3.2))
def actuals(page: Paged, asset: Names = None, since: Instant | None = None, until: Instant | None = None) -> Response:
    """Readings, the newest revision of each; ``since`` is included, ``until`` is not."""
    return page.of("actuals", ACTUALS, asset, since=since, until=until)


@router.get("/scores", responses=example(asset_id="b101", day="2024-06-10", n=24, sum_abs_e=12.5))
def scores(
    page: Paged,
    asset: Names = None,
    product: Word = None,
    recipe: Word = None,
    role: Word = None,
    truth: Literal["latest", "first"] | None = None,
    since: Day | None = None,
    until: Day | None = None,
) -> Response:
    """Sufficient statistics by local day and lead, from which any metric over any window is made."""
    return page.of(
        "scores", SCORES, asset, product=product, recipe=recipe, role=role, truth=truth, since=since, until=until
    )


@router.get("/decisions", responses=example(asset_id="b101", verdict="promoted", champion="gbm"))
def decisions(
    page: Paged, asset: Names = None, product: Word = None, since: Instant | None = None, until: Instant | None = None
) -> Response:
    """Who was weighed against whom, with which figures, and why it was decided so."""
    return page.of("decisions", DECISIONS, asset, product=product, since=since, until=until)


@router.get("/job-runs", dependencies=[WHOLE], responses=example(job="nightly", status="ok", ok=101))
def job_runs(page: Paged, job: Word = None, status: Word = None) -> Response:
    """Runs of jobs, the newest slot first."""
    return page.of("job-runs", JOB_RUNS, job=job, status=status)


@router.get("/alerts", dependencies=[WHOLE], responses=example(alert_id="01m84q5c5s9y7khkj5cdg90rm0", severity="high"))
def alerts(page: Paged, open: bool | None = None) -> Response:  # noqa: A002  the name in the URL
    """Alerts, the newest first."""
    return page.of("alerts", ALERTS, open=open)


def _column(level: float) -> str:
    """The column of a quantile.

    Raises:
        Refused: 400, no level.
    """
    if not 0 < level < 1:
        raise Refused(400, f"quantile {level}: accepted: between 0 and 1", kind="parameter-invalid")
    return quantile_column(level)


def _is_quantile(name: str) -> bool:
    return name[0] == "q" and name[1:].isdigit()
