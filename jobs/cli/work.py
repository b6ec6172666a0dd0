"""The commands that do the work: ingest, backtest, train, forecast, score, promote, rollback."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from jobs.cli.options import Common, Due, Flag, Names, Product, Which, Workers, instant, moment, names
from jobs.cli.progress import shown
from jobs.cli.reports import finish, finish_ingest

ALL = Which()
COMMON = Common()


def ingest(
    *,
    forecasts: Path | None = None,
    called: str | None = None,
    common: Common = COMMON,
) -> int:
    """Bring the data that fleet.toml names into the store.

    Reads the register, the actuals and the covariates, checks them, and commits what is new or revised; a second run
    of the same data changes nothing. Data that break a rule are refused and the store stays as it was, unless on_bad
    = "keep_aside".

    For example:

    - `tsfleet ingest`
    - `tsfleet ingest --json`
    - `tsfleet ingest --forecasts vendor.csv --called meteo`

    Args:
        forecasts: A file of somebody else's forecasts with their issue times, and nothing else.
        called: Whose forecasts they are; [[forecasts]] of that name says how the file is read.
    """
    with common.fleet(create=True) as fleet, shown("ingest", quiet=common.json) as show:
        report = fleet.ingest(forecasts=forecasts, called=called, progress=show)
    return finish_ingest(report, as_json=common.json)


def backtest(
    *,
    which: Which = ALL,
    product: Names = None,
    recipes: Names = None,
    failed: Due = False,
    force: Flag = False,
    dry_run: Flag = False,
    workers: Workers = None,
    common: Common = COMMON,
) -> int:
    """Judge the recipes on past days, as if each had been forecast then.

    Every recipe is fitted on what was known at the first origin and forecasts every origin of [backtest]; forecasts
    and scores are stored, so that `leaderboard`, `worst` and SQL can compare them. What is there already is skipped.

    For example:

    - `tsfleet backtest`
    - `tsfleet backtest --recipes gbm,ridge --select 'b1*'`
    - `tsfleet backtest --failed`

    Args:
        product: Only these products, by name, with commas between them; all of them without it.
        recipes: Only these recipes, by name, with commas between them.
        failed: Assets of which a recipe failed the last time it was judged.
        force: Judge again what is judged already.
        dry_run: Write nothing, tell what would be judged.
        workers: Number of processes; without it, as [train] workers says.
    """
    with common.fleet(read_only=dry_run) as fleet, shown("backtest", quiet=common.json) as show:
        report = fleet.backtest(
            select=which.select,
            where=which.where,
            product=names(product),
            recipes=names(recipes),
            failed=failed,
            force=force,
            dry_run=dry_run,
            workers=workers,
            progress=show,
            job="cli:backtest",
        )
    return finish(report, verb="backtest", as_json=common.json)


def train(
    *,
    which: Which = ALL,
    product: Names = None,
    recipes: Names = None,
    judge: Annotated[bool, Parameter(negative="--no-judge")] = True,
    failed: Due = False,
    stale: Due = False,
    force: Flag = False,
    dry_run: Flag = False,
    workers: Workers = None,
    common: Common = COMMON,
) -> int:
    """Judge, fit and promote: every asset gets the recipe that forecasts it best.

    Backtests what has no scores for today's data and recipes, fits the winner (and the fallbacks) of each asset on
    the newest window, and decides who is champion. The decision and its numbers are kept. An asset whose model, data
    and library are unchanged is skipped, so the same command goes on where another was stopped.

    For example:

    - `tsfleet train`
    - `tsfleet train --where "kind = 'large'"`
    - `tsfleet train --recipes gbm --no-judge`
    - `tsfleet train --failed --stale --dry-run`

    Args:
        product: Only these products, by name, with commas between them; all of them without it.
        recipes: Only these recipes, by name, with commas between them.
        judge: Backtest and decide; --no-judge only fits.
        failed: Assets that failed or fell back in their last training.
        stale: Assets without a champion, or whose champion learnt nothing of the last [train] stale_after.
        force: Judge and fit again what is unchanged.
        dry_run: Write nothing, tell what would be judged and fitted.
        workers: Number of processes; without it, as [train] workers says.
    """
    with common.fleet(read_only=dry_run) as fleet, shown("train", quiet=common.json) as show:
        report = fleet.train(
            select=which.select,
            where=which.where,
            product=names(product),
            recipes=names(recipes),
            judge=judge,
            promote=judge,
            failed=failed,
            stale=stale,
            force=force,
            dry_run=dry_run,
            workers=workers,
            progress=show,
            job="cli:train",
        )
    return finish(report, verb="train", as_json=common.json)


def forecast(
    *,
    which: Which = ALL,
    product: Names = None,
    issue_time: str | None = None,
    failed: Due = False,
    reissue: Flag = False,
    dry_run: Flag = False,
    workers: Workers = None,
    common: Common = COMMON,
) -> int:
    """Issue forecasts with the champions.

    Without --issue-time each asset is forecast from the end of its last reading, a product with issue times at the one
    that the readings have come to. A forecast that was issued already stays; --reissue makes it anew and keeps both.
    Where a champion fails, its fallback forecasts and the outcome says so.

    For example:

    - `tsfleet forecast`
    - `tsfleet forecast --issue-time 2024-06-10T00:00Z`
    - `tsfleet forecast --product day_ahead`
    - `tsfleet forecast --failed`

    Args:
        product: Only these products, by name, with commas between them; all of them without it.
        issue_time: Whose knowledge to use, as 2024-06-10T00:00Z; of a product with issue times the last one by then.
        failed: Assets whose last forecast failed or fell back; it is made anew, and what stood in for it is kept.
        reissue: Forecast again although it was issued.
        dry_run: Write nothing, tell what would be issued.
        workers: Number of processes; without it, as [train] workers says.
    """
    with common.fleet(read_only=dry_run) as fleet, shown("forecast", quiet=common.json) as show:
        report = fleet.forecast(
            issue_time=instant(issue_time, "--issue-time"),
            product=names(product),
            select=which.select,
            where=which.where,
            failed=failed,
            reissue=reissue,
            dry_run=dry_run,
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


def promote(
    recipe: str, /, *, which: Which = ALL, product: Product = None, reason: str = "by hand", common: Common = COMMON
) -> int:
    """Put a recipe in force by hand, for one asset or many.

    The decision is recorded with your reason, and holds until the asset is judged anew. Each asset's newest version
    of the recipe becomes its champion; an asset without one is an outcome with its cause, and `tsfleet train --recipes
    NAME --no-judge` fits one.

    For example:

    - `tsfleet promote weekly_naive --select b20 --reason "meter was replaced"`

    Args:
        recipe: The recipe to put in force.
        product: For which product, by name; needed where there are several.
        reason: Why, for the ledger.
    """
    with common.fleet() as fleet:
        report = fleet.promote(
            recipe,
            product=product,
            select=which.select,
            where=which.where,
            reason=reason,
            actor=actor(),
            job="cli:promote",
        )
    return finish(report, verb="promote", as_json=common.json)


def rollback(
    *,
    which: Which = ALL,
    product: Product = None,
    to: str | None = None,
    since: str | None = None,
    reason: str = "rolled back",
    common: Common = COMMON,
) -> int:
    """Put an earlier champion in force again, for one asset or all.

    Without --to or --since each asset goes back to the version in force before the present one; twice goes back two
    steps. The decision is recorded with your reason, and holds until the asset is judged anew. An asset that has
    nothing to go back to, or was promoted by another in the meantime, is an outcome with its cause.

    For example:

    - `tsfleet rollback --select b20 --reason "too high since Monday"`
    - `tsfleet rollback --since 2024-06-10T00:00Z --reason "the night's training saw wrong readings"`

    Args:
        product: For which product, by name; needed where there are several and neither --to nor --since is given.
        to: A version's id, as `tsfleet sql "select * from versions"` shows it; only its asset is meant.
        since: Undo what came in force after this instant, as 2024-06-10T00:00Z, or after this snapshot.
        reason: Why, for the ledger.
    """
    with common.fleet() as fleet:
        report = fleet.rollback(
            to=to,
            since=moment(since, "--since"),
            product=product,
            select=which.select,
            where=which.where,
            reason=reason,
            actor=actor(),
            job="cli:rollback",
        )
    return finish(report, verb="rollback", as_json=common.json)


def actor() -> str:
    """Who types, for the ledger; nobody where the system knows no name (a container without users)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
