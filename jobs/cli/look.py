"""The commands that read: leaderboard, worst, status, sql."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

from cyclopts import Parameter

from jobs.cli.console import print_json, print_rows, say
from jobs.cli.exits import Exit
from jobs.cli.options import Common, Names, day, names

COMMON = Common()


def leaderboard(
    *,
    role: Literal["backtest", "live"] = "backtest",
    metrics: Names = None,
    average: Literal["mean", "median", "micro"] = "mean",
    since: Annotated[str | None, Parameter(name="--from")] = None,
    until: Annotated[str | None, Parameter(name="--to")] = None,
    by: str | None = None,
    common: Common = COMMON,
) -> int:
    """Compare the recipes: same assets, same points, one row each.

    Every row counts the assets and points it rests on, the assets it has no forecast for (missing), and those where a
    metric is not defined. A score that used the future of a covariate is marked as perfect foresight.

    For example:

    - `tsfleet leaderboard`
    - `tsfleet leaderboard --metrics wape,mase_24,coverage_80 --by lead`
    - `tsfleet leaderboard --role live --json`

    Args:
        role: Scores of past days judged by `backtest`, or of the forecasts that were issued.
        metrics: With commas: mae, rmse, bias, wape, smape, mase_24, skill_<recipe>, pinball_q10, crps, coverage_80, ...
        average: Over assets; micro pools all points.
        since: Only local days from this one on, as 2024-06-10.
        until: Only local days before this one.
        by: One row per recipe and asset, lead, or value of a register column such as region.
    """
    with common.fleet() as fleet:
        board = fleet.leaderboard(
            role=role,
            metrics=names(metrics),
            average=average,
            since=day(since, "--from"),
            until=day(until, "--to"),
            by=by,
        )
    if board.table and not board.paired and not common.json:
        say("not paired: each recipe stands for its own assets, so the rows do not rank the recipes")
    print_rows(
        board.rows(),
        as_json=common.json,
        empty=f"no {role} scores yet: run `tsfleet {'backtest' if role == 'backtest' else 'score'}`",
    )
    return Exit.OK


def worst(
    *,
    n: Annotated[int, Parameter(name=["-n", "--n"])] = 10,
    metric: str | None = None,
    role: Literal["backtest", "live"] = "backtest",
    common: Common = COMMON,
) -> int:
    """The assets whose champion is furthest off, worst first.

    For example:

    - `tsfleet worst`
    - `tsfleet worst -n 25 --metric wape --role live`

    Args:
        n: How many.
        metric: By which metric; without it, the metric of [promotion].
        role: Scores of past days judged by `backtest`, or of the forecasts that were issued.
    """
    with common.fleet() as fleet:
        rows = fleet.worst(n, metric=metric, role=role)
    print_rows(rows, as_json=common.json, empty="no scores yet: run `tsfleet backtest`")
    return Exit.OK


def status(*, common: Common = COMMON) -> int:
    """What is in the store, how fresh it is, and what became of the last jobs.

    For example:

    - `tsfleet status`
    - `tsfleet status --json`
    """
    with common.fleet() as fleet:
        found = fleet.status()
    if common.json:
        print_json(found)
    else:
        print_rows([{"what": key, "value": value} for key, value in found.items()], as_json=False)
    return Exit.OK


def sql(query: str, /, *, at: int | None = None, common: Common = COMMON) -> int:
    """Ask the store a question in SQL (DuckDB), and print the rows.

    The views are assets, actuals, covariates, runs, metrics, versions, champions, forecasts, published, scores,
    decisions, outcomes and more; `tsfleet store info` lists them with their rows. A minus sign reads the query from
    stdin.

    For example:

    - `tsfleet sql "select recipe, count(*) from champions group by all"`
    - `tsfleet sql - < question.sql`

    Args:
        query: One SELECT, or - for stdin.
        at: Ask the store as it was at this snapshot.
    """
    text = sys.stdin.read() if query == "-" else query
    with common.store() as store:
        snapshot = store.snapshot() if at is None else store.at(at)
        rows = snapshot.sql(text).rows()
    print_rows(rows, as_json=common.json)
    return Exit.OK
