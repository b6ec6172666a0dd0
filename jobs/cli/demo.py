"""`tsfleet demo`: the main job, end to end, on real buildings, in a folder of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.cli.console import Row, print_rows, say
from jobs.cli.exits import Exit
from jobs.cli.options import Debug, Workers
from jobs.cli.progress import shown
from jobs.cli.reports import finish, ingest_line
from jobs.demo import ISSUE_TIME, deliver, lay_out

if TYPE_CHECKING:
    from fleet import Fleet
    from fleet.outcome import Report

_PROMOTED = "select recipe, count(*) as buildings from champions group by recipe order by buildings desc, recipe"


def demo(folder: Path = Path("tsfleet-demo"), /, *, workers: Workers = None, debug: Debug = False) -> int:
    """See it work: 101 real buildings, from their meter readings to scored forecasts, in about a minute.

    Makes a fleet in ./tsfleet-demo, ingests, judges five recipes on every building, promotes the best of each,
    trains, issues the next day's forecast, and scores it with the readings held back. It is the path of any fleet;
    run again, it changes nothing.

    For example:

    - `tsfleet demo`
    - `tsfleet demo /tmp/look`

    Args:
        folder: Where to make it.
        workers: Number of processes; without it, one per core.
        debug: On an error, show the traceback.
    """
    del debug  # main() reads it
    from fleet import Fleet

    started = time.monotonic()
    lay_out(folder)
    with Fleet.open(folder / "fleet.toml") as fleet:
        code = Exit.OK if _day_is_known(fleet) else _until_forecast(fleet, workers)
        if code is Exit.INTERRUPTED:
            return code
        deliver(folder)
        say("the next day: its readings arrive")
        _ingest(fleet)
        code = max(code, _step("score", fleet.score))
        _tell(fleet)
    say(f"done in {time.monotonic() - started:.0f} s; all of it is in {folder}, delete the folder to forget it")
    _next_steps(folder)
    return code


def _day_is_known(fleet: Fleet) -> bool:
    """True when an earlier demo came as far as the day held back: what led there is not done again."""
    rows = fleet.store.sql(
        "select count(*) as n from actuals where valid_time >= $issued", {"issued": ISSUE_TIME}
    ).rows()
    known = bool(rows[0]["n"])
    if known:
        say("this demo is complete: what is unchanged is left alone")
    return known


def _until_forecast(fleet: Fleet, workers: int | None) -> Exit:
    recipes = _usable(fleet)
    code = Exit.OK
    _ingest(fleet)
    say(f"judging {len(recipes)} recipes on the last 7 days of every building")
    steps: tuple[tuple[str, Callable[..., Report]], ...] = (
        ("backtest", partial(fleet.backtest, recipes=recipes, workers=workers)),
        ("train", partial(fleet.train, recipes=recipes, promote=True, workers=workers)),
        ("forecast", partial(fleet.forecast, issue_time=ISSUE_TIME, workers=workers)),
    )
    for verb, act in steps:
        code = max(code, _step(verb, act))
        if code is Exit.INTERRUPTED:
            break
    return code


def _ingest(fleet: Fleet) -> None:
    with shown("ingest") as show:
        report = fleet.ingest(progress=show)
    say(ingest_line(report))
    odd = [f"{row['check']} in {row['assets']} ({row['example']}: {row['detail']})" for row in report.summary()]
    say(f"  odd, told and never changed: {', '.join(odd)}")


def _step(verb: str, act: Callable[..., Report]) -> Exit:
    with shown(verb) as show:
        report = act(progress=show, job=f"demo:{verb}")
    return finish(report, verb=verb, as_json=False)


def _usable(fleet: Fleet) -> tuple[str, ...]:
    """The recipes whose library can be loaded; for each of the others, one line on what that costs."""
    from jobs.cli.checks import missing_adapters

    configured = fleet.config.recipes
    missing = missing_adapters({recipe.adapter for recipe in configured.values()})
    for name, recipe in configured.items():
        if recipe.adapter in missing:
            error = missing[recipe.adapter]
            say(f"without {name}: {error.message}; the other recipes are judged all the same ({error.hint})")
    return tuple(name for name, recipe in configured.items() if recipe.adapter not in missing)


def _tell(fleet: Fleet) -> None:
    """The tables that the demo is about."""
    metrics = ("mae", "wape", "mase_24", "skill_weekly_naive", "coverage_80")
    print_rows(
        fleet.leaderboard(metrics=metrics).rows(),
        as_json=False,
        title="Judged on the last 7 days (mean over buildings)",
    )
    print_rows(fleet.store.sql(_PROMOTED).rows(), as_json=False, title="Promoted: each building its own best")
    print_rows(
        fleet.leaderboard(role="live", metrics=metrics[:3]).rows(),
        as_json=False,
        title="The next day, issued by each building's champion and then scored",
    )
    print_rows(fleet.worst(5, role="live"), as_json=False, title="Furthest off that day")
    say(_foresight(fleet.store.sql("select distinct perfect_foresight from scores where perfect_foresight").rows()))


def _foresight(flagged: Sequence[Row]) -> str:
    if flagged:
        return "Rows marked perfect_foresight used weather observed after the issue time."
    return "The weather was observed, so models see only its past: no score here is perfect foresight."


def _next_steps(folder: Path) -> None:
    say("\nNow type:")
    say(f"  cd {folder}")
    say("  tsfleet leaderboard --by lead                 # which recipe, how far ahead")
    say(
        '  tsfleet sql "select kind, recipe, count(*) as buildings '
        'from champions join assets using (asset_id) group by all order by all"'
    )
    say("  tsfleet forecast                              # the day after, from the readings that came in")
    say("  tsfleet config show b20                       # what holds for one building, and why")
    say("\nYour own data: `tsfleet init` in your folder, then the same verbs.")
