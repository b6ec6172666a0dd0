"""The Leaderboard page: the recipes on the points that all of them were judged on."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from fleet.comparison import Role
from fleet.leaderboard import Average
from jobs.web.desk import AtDesk, Reader
from jobs.web.fresh import fresh
from jobs.web.pages.figures import Word, board_of, product_of
from jobs.web.render import page

router = APIRouter(include_in_schema=False)


@router.get("/leaderboard")
def leaderboard(
    request: Request,
    response: Response,
    desk: AtDesk,
    who: Reader,
    product: Word = None,
    role: Role = "backtest",
    metric: Word = None,
    average: Average = "mean",
    by: Word = None,
) -> Response:
    """The table, and the figures of the same question."""
    fresh(request, response, desk, who)
    snapshot = desk.snapshot()
    only, name = desk.visible(snapshot, who), product_of(desk, product)
    offered = desk.fleet.default_metrics(name)
    metrics = tuple(dict.fromkeys([*([metric] if metric else []), *offered]))
    asked = {"product": product, "role": role, "metric": metric, "average": average, "by": by}
    board = board_of(desk, snapshot, product, role, metric, average, by, only)
    columns = [*dict.fromkeys(["lead", "asset", "kind", "region", *([by] if by else [])])]
    return page(
        request, "leaderboard.html", response.headers, board=board, asked=asked, metrics=metrics, groups=columns,
        products=desk.fleet.config.product_names, product=name,
    )  # fmt: skip
