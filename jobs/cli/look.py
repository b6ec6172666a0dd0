"""The commands that read: leaderboard, worst, status, runs, sql. They open the store for reading only."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from jobs.cli.console import Row, cell, print_json, print_rows, say
from jobs.cli.exits import Exit
from jobs.cli.options import Common, Names, Product, Which, day, names

ALL = Which()
COMMON = Common()


def leaderboard(
    *,
    which: Which = ALL,
    product: Product = None,
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
    - `tsfleet leaderboard --role live --select 'b1*' --json`

    Args:
        product: Which product, by name; the first of fleet.toml without it.
        role: Scores of past days judged by `backtest`, or of the forecasts that were issued.
        metrics: With commas: mae, rmse, bias, wape, smape, mase_24, skill_<recipe>, pinball_q10, crps, coverage_80, ...
        average: Over assets; micro pools all points.
        since: Only local days from this one on, as 2024-06-10.
        until: Only local days before this one.
        by: One row per recipe and asset, lead, or value of a register column such as region.
    """
    with common.fleet(read_only=True) as fleet:
        board = fleet.leaderboard(
            product=product,
            select=which.select,
            where=which.where,
            role=role,
            metrics=names(metrics),
            average=average,
            since=day(since, "--from"),
            until=day(until, "--to"),
            by=by,
        )
        days = fleet.scored_days(role) if (since or until) and not any(row["n"] for row in board.table) else None
    if days is not None and not common.json:
        say(f"no {role} score lies in that time; there are some from {days[0]} to {days[1]}")
        return Exit.OK
    if board.table and not board.paired and not common.json:
        say("not paired: each recipe stands for its own assets, so the rows do not rank the recipes")
    if board.outdated and not common.json:
        say(f"judged before readings of {board.outdated:,} assets were revised; `tsfleet backtest` judges them anew")
    print_rows(
        board.rows(),
        as_json=common.json,
        empty=f"no {role} scores yet: run `tsfleet {'backtest' if role == 'backtest' else 'score'}`",
    )
    return Exit.OK


def worst(
    *,
    which: Which = ALL,
    n: Annotated[int, Parameter(name=["-n", "--n"])] = 10,
    product: Product = None,
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
        product: Which product, by name; the first of fleet.toml without it.
        metric: By which metric; without it, the metric of [promotion].
        role: Scores of past days judged by `backtest`, or of the forecasts that were issued.
    """
    with common.fleet(read_only=True) as fleet:
        rows = fleet.worst(n, product=product, metric=metric, role=role, select=which.select, where=which.where)
    print_rows(rows, as_json=common.json, empty="no scores yet: run `tsfleet backtest`")
    return Exit.OK


def status(*, common: Common = COMMON) -> int:
    """How the fleet is: states of its assets, what failed and why, how fresh it is, the last jobs.

    An asset's state is its last outcome in a training and in a forecast. A job that was killed is shown as such; what
    it left undone, the next run of the same command does.

    For example:

    - `tsfleet status`
    - `tsfleet status --json`
    """
    with common.fleet(read_only=True) as fleet:
        found = fleet.status()
    if common.json:
        print_json(found)
    else:
        print_rows([{"what": what, "value": value} for what, value in _told(found).items()], as_json=False)
        several = len(found["products"]) > 1
        if several:
            print_rows([_product(row) for row in found["products"]], as_json=False, title="Its products")
        if found["failures"]:
            print_rows(
                [_failure(row, several=several) for row in found["failures"]],
                as_json=False,
                title="What failed, and why",
            )
            verbs = dict.fromkeys(row["verb"] for row in found["failures"])
            say("retry: " + ", ".join(f"tsfleet {verb} --failed" for verb in verbs))
        if found["jobs"]:
            print_rows([_job(row) for row in found["jobs"]], as_json=False, title="The last jobs")
        if found["killed"]:
            say(f"killed before their end: {', '.join(found['killed'])}; the same commands go on with the rest")
    return Exit.OK


def _told(found: Mapping[str, Any]) -> dict[str, str]:
    """The totals as a person reads them, a line each."""
    states = {verb: _words(known) for verb, known in found["states"].items()}
    whole = f"{cell(found['champions'])} with a champion, {cell(found['stale'])} stale"
    return {
        "fleet": f"{found['name']}, {found['store']}",
        "assets": cell(found["assets"]) if len(found["products"]) > 1 else f"{cell(found['assets'])}, {whole}",
        "champions": _counted(found["recipes"]) or "none yet",
        **{f"last {verb}": _counted(known) or "never" for verb, known in states.items()},
        "readings": f"{cell(found['actuals'])}, newest {cell(found['newest_actual']) or 'never'}",
        "forecasts": f"{cell(found['forecast_steps'])} steps, newest issue {cell(found['newest_issue']) or 'never'}",
        "scores": f"live to {scored}" if (scored := cell(found["newest_scored_day"])) else "none of live forecasts yet",
    }


def _counted(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in numbers.items())


def _product(row: Mapping[str, Any]) -> Row:
    states = {f"last {verb}": _counted(_words(known)) or "never" for verb, known in row["states"].items()}
    shown = ("product", "assets", "champions", "stale", "newest_issue")
    return {**{name.replace("_", " "): row[name] for name in shown}, **states}


def _words(states: Mapping[str, int]) -> dict[str, int]:
    return {name.replace("_", " "): count for name, count in states.items()}


def _failure(row: Mapping[str, Any], *, several: bool) -> Row:
    words = {"failed": "failed", "fell_back": "fell back"}
    return {
        **({"product": row["product"]} if several else {}),
        "verb": row["verb"],
        "assets": row["assets"],
        "state": words[row["status"]],
        "cause": row["cause"],
        "recipe": row["recipe"],
        "for example": row["asset_id"],
        "error": row["error"] or row["error_code"],
    }


def _job(row: Mapping[str, Any]) -> Row:
    shown = ("started_at", "job", "status", "assets", "ok", "failed", "fell_back", "skipped", "seconds", "error")
    return {name.removesuffix("_at").replace("_", " "): row[name] for name in shown}


def runs(
    *,
    which: Which = ALL,
    status: Literal["running", "ok", "failed", "killed"] | None = None,
    recipe: str | None = None,
    kind: str | None = None,
    limit: Annotated[int, Parameter(name=["--limit", "-n"])] = 20,
    common: Common = COMMON,
) -> int:
    """The newest runs: one training or judging of one recipe on one asset each, and those tracked from a notebook.

    For example:

    - `tsfleet runs --status failed`
    - `tsfleet runs --select 'b1*' --recipe gbm --kind train -n 50 --json`

    Args:
        status: Only those that ended so.
        recipe: Only of this recipe.
        kind: Only of this kind: backtest, train, manual, ...
        limit: How many at most.
    """
    with common.fleet(read_only=True) as fleet:
        rows = fleet.runs(select=which.select, where=which.where, status=status, recipe=recipe, kind=kind, limit=limit)
    several = any(row["product"] != rows[0]["product"] for row in rows)
    print_rows(
        rows if common.json else [_run(row, several=several) for row in rows], as_json=common.json, empty="no such run"
    )
    return Exit.OK


def _run(row: Mapping[str, Any], *, several: bool) -> Row:
    error = (row["error"] or "").splitlines()
    return {
        "started": row["started_at"],
        "asset": row["asset_id"],
        **({"product": row["product"]} if several else {}),
        "recipe": row["recipe"],
        "kind": row["kind"],
        "status": row["status"],
        "seconds": row["duration_s"],
        "error": error[0] if error else "",
        "run": row["run_id"],
    }


def sql(
    query: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    at: int | None = None,
    common: Common = COMMON,
) -> int:
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
