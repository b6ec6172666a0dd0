"""The Asset page: one asset's forecasts beside what happened, how each recipe did, who decided what."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Query, Request, Response

from fleet import questions
from fleet.comparison import Role
from jobs.web.desk import AtDesk, Reader
from jobs.web.fresh import fresh
from jobs.web.pages.assets import shown_metric
from jobs.web.pages.figures import Word, product_of, visible
from jobs.web.render import moment, page
from store.reading import Snapshot

router = APIRouter(include_in_schema=False)
ISSUES = """
select issue_time, string_agg(distinct role, ', ' order by role) as role from forecasts
where asset_id = $asset and product = $product group by issue_time order by issue_time desc limit 100
"""
DECISIONS = "select * from decisions where asset_id = $asset and product = $product order by decided_at desc limit 50"
RUNS = "select * from runs where asset_id = $asset and product = $product order by run_id desc limit 50"


@router.get("/asset")
def asset(
    request: Request,
    response: Response,
    desk: AtDesk,
    who: Reader,
    id: str = Query(max_length=600),  # noqa: A002  the name in the URL
    product: Word = None,
    issue: Word = None,
    history: Word = None,
    metric: Word = None,
    role: Role | None = None,
) -> Response:
    """One asset."""
    fresh(request, response, desk, who)
    snapshot, name = desk.snapshot(), product_of(desk, product)
    found = desk.fleet[visible(desk, snapshot, who, id)].of(name)
    given = {"asset": id, "product": name}
    chosen = metric or shown_metric(desk)
    issues = [
        {"text": f"{row['issue_time']:%Y-%m-%dT%H:%M:%SZ}", "shown": moment(row["issue_time"]), "role": row["role"]}
        for row in snapshot.sql(ISSUES, given).rows()
    ]
    champions = snapshot.table("champions", assets=[id], where={"product": name}).to_pylist()
    return page(
        request, "asset.html", response.headers, asset_id=id, facts=found.facts, issues=issues, metric=chosen,
        champion=champions[0] if champions and champions[0]["recipe"] else None, product=name,
        products=desk.fleet.config.product_names,
        asked={"product": product, "issue": issue or None, "history": history or None, "metric": metric, "role": role},
        scored=[asdict(one) for one in questions.scored(snapshot, id, chosen, product=name)],
        decisions=snapshot.sql(DECISIONS, given).rows(), runs=snapshot.sql(RUNS, given).rows(),
        versions=versions(snapshot, id, name), inputs=questions.inputs(snapshot, id),
        metrics=desk.fleet.default_metrics(name),
    )  # fmt: skip


def versions(snapshot: Snapshot, asset_id: str, product: str) -> list[dict[str, Any]]:
    """What was fitted for an asset, the newest first, with who is in charge."""
    held = snapshot.table("champions", assets=[asset_id], columns=["version_id"], where={"product": product})
    in_charge = set(held["version_id"].to_pylist())
    columns = ["created_at", "recipe", "version_id", "run_id", "codec", "trusted", "bytes"]
    rows = snapshot.table("versions", assets=[asset_id], columns=columns, where={"product": product}).to_pylist()
    newest = sorted(rows, key=lambda row: row["version_id"], reverse=True)[:50]
    return [{**row, "in_charge": row["version_id"] in in_charge or None} for row in newest]
