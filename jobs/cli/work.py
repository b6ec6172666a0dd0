"""The commands that do the work: ingest, backtest, train, forecast, score, promote."""

from __future__ import annotations

import getpass
from typing import Annotated

from cyclopts import Parameter

from jobs.cli.options import Common, Flag, Names, Which, Workers, instant, names
from jobs.cli.progress import shown
from jobs.cli.reports import finish, finish_ingest

ALL = Which()
COMMON = Common()


def ingest(*, common: Common = COMMON) -> int:
    """Bring the data that fleet.toml names into the store.

    Reads the register, the actuals and the covariates, checks them, and commits what is new or revised; a second run
    of the same data changes nothing. Data that break a rule are refused and the store stays as it was, unless on_bad
    = "keep_aside".

    For example:

    - `tsfleet ingest`
    - `tsfleet ingest --json`
    """
    with common.fleet() as fleet, shown("ingest", quiet=common.json) as show:
        report = fleet.ingest(progress=show)
    return finish_ingest(report, as_json=common.json)


def backtest(
    *, which: Which = ALL, recipes: Names = None, force: Flag = False, workers: Workers = None, common: Common = COMMON
) -> int:
    """Judge the recipes on past days, as if each had been forecast then.

    Every recipe is fitted on what was known at the first origin and forecasts every origin of [backtest]; forecasts
    and scores are stored, so that `leaderboard`, `worst` and SQL can compare them. What is there already is skipped.

    For example:

    - `tsfleet backtest`
    - `tsfleet backtest --recipes gbm,ridge --select 'b1*'`

    Args:
        recipes: Only these recipes, by name, with commas between them.
        force: Judge again what is judged already.
        workers: Number of processes; without it, as [train] workers says.
    """
    with common.fleet() as fleet, shown("backtest", quiet=common.json) as show:
        report = fleet.backtest(
            select=which.select,
            where=which.where,
            recipes=names(recipes),
            force=force,
            workers=workers,
            progress=show,
            job="cli:backtest",
        )
    return finish(report, verb="backtest", as_json=common.json)


def train(
    *,
    which: Which = ALL,
    recipes: Names = None,
    judge: Annotated[bool, Parameter(negative="--no-judge")] = True,
    force: Flag = False,
    workers: Workers = None,
    common: Common = COMMON,
) -> int:
    """Judge, fit and promote: every asset gets the recipe that forecasts it best.

    Backtests what has no scores for today's data and recipes, fits the winner (and the fallbacks) of each asset on
    the newest window, and decides who is champion. The decision and its numbers are kept. An asset whose model, data
    and library are unchanged is skipped.

    For example:

    - `tsfleet train`
    - `tsfleet train --where "kind = 'large'"`
    - `tsfleet train --recipes gbm --no-judge`

    Args:
        recipes: Only these recipes, by name, with commas between them.
        judge: Backtest and decide; --no-judge only fits.
        force: Fit again what is unchanged.
        workers: Number of processes; without it, as [train] workers says.
    """
    with common.fleet() as fleet, shown("train", quiet=common.json) as show:
        report = fleet.train(
            select=which.select,
            where=which.where,
            recipes=names(recipes),
            judge=judge,
            promote=judge,
            force=force,
            workers=workers,
            progress=show,
            job="cli:train",
        )
    return finish(report, verb="train", as_json=common.json)


def forecast(
    *,
    which: Which = ALL,
    issue_time: str | None = None,
    reissue: Flag = False,
    workers: Workers = None,
    common: Common = COMMON,
) -> int:
    """Issue forecasts with the champions.

    Without --issue-time each asset is forecast from the end of its last reading. A forecast that was issued already
    stays; --reissue makes it anew and keeps both. Where a champion fails, its fallback forecasts and the outcome says
    so.

    For example:

    - `tsfleet forecast`
    - `tsfleet forecast --issue-time 2024-06-10T00:00Z`

    Args:
        issue_time: Whose knowledge to use, as 2024-06-10T00:00Z.
        reissue: Forecast again although it was issued.
        workers: Number of processes; without it, as [train] workers says.
    """
    with common.fleet() as fleet, shown("forecast", quiet=common.json) as show:
        report = fleet.forecast(
            issue_time=instant(issue_time, "--issue-time"),
            select=which.select,
            where=which.where,
            reissue=reissue,
            workers=workers,
            progress=show,
            job="cli:forecast",
        )
    return finish(report, verb="forecast", as_json=common.json)


def score(*, common: Common = COMMON) -> int:
    """Score the forecasts whose actuals have arrived, or were revised.

    Only the days with news are touched, so it may run as often as data come in.

    For example:

    - `tsfleet ingest && tsfleet score`
    """
    with common.fleet() as fleet, shown("score", quiet=common.json) as show:
        report = fleet.score(progress=show, job="cli:score")
    return finish(report, verb="score", as_json=common.json)


def promote(recipe: str, /, *, which: Which = ALL, reason: str = "by hand", common: Common = COMMON) -> int:
    """Put a recipe in force by hand, for one asset or many.

    The decision is recorded with your reason. Each asset's newest version of the recipe becomes its champion; an
    asset without one is an outcome with its cause, and `tsfleet train --recipes NAME --no-judge` fits one.

    For example:

    - `tsfleet promote weekly_naive --select b20 --reason "meter was replaced"`

    Args:
        recipe: The recipe to put in force.
        reason: Why, for the ledger.
    """
    with common.fleet() as fleet:
        report = fleet.promote(
            recipe, select=which.select, where=which.where, reason=reason, actor=_actor(), job="cli:promote"
        )
    return finish(report, verb="promote", as_json=common.json)


def _actor() -> str:
    """Who types, for the ledger; nobody where the system knows no name (a container without users)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
