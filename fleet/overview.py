"""How a fleet is: what state its assets are in, what failed and why, what ran last. Each a question to the store.

A job that says it is running is asked for its sign of life; one without has been killed, whatever its row says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet.comparison import ROLES, Role
from fleet.due import LAST, Verb, stale
from fleet.errors import NothingSelected
from fleet.population import Population
from fleet.presence import at_work

if TYPE_CHECKING:
    from store.reading import Snapshot

VERBS: tuple[Verb, ...] = ("train", "forecast")

TOTALS = """
select (select count(*) from assets) as assets,
       (select count(*) from champions where list_contains($products, product)) as champions,
       (select count(*) from actuals) as actuals,
       (select max(valid_time) from actuals) as newest_actual,
       (select count(*) from forecasts where role <> 'backtest') as forecast_steps,
       (select max(issue_time) from forecasts where role <> 'backtest') as newest_issue,
       (select max(day) from scores where role <> 'backtest') as newest_scored_day
"""
BY_RECIPE = """
select recipe, count(*) as assets from champions where list_contains($products, product)
group by recipe order by assets desc, recipe
"""
ISSUED = """
select (select count(*) from champions where product = $product) as champions,
       (select max(issue_time) from forecasts where role <> 'backtest' and product = $product) as newest_issue
"""
# Why the last word of each asset was a failure. An outcome knows cause and code; the text is that of the asset's newest
# failed run, where that is what the outcome speaks of.
WHY = f"""
with last as ({LAST}),
failed as (
    select asset_id, error_code, max_by(recipe, run_id) as recipe, max_by(error, run_id) as error from runs
    where status = 'failed' and kind in ('backtest', 'train') and product = $product group by asset_id, error_code
)
select l.cause, l.error_code, l.status, count(*) as assets, min(l.asset_id) as asset_id,
       min_by(f.recipe, l.asset_id) as recipe, min_by(f.error, l.asset_id) as error
from last l semi join assets a on a.asset_id = l.asset_id
left join failed f on f.asset_id = l.asset_id and f.error_code = l.error_code
where l.status in ('failed', 'fell_back')
group by l.cause, l.error_code, l.status order by assets desc, l.cause, l.error_code
"""
JOBS = """
select job, slot, status, started_at, ended_at, assets, ok, failed, fell_back, skipped, error from job_runs
order by started_at desc, job limit $limit
"""
RUNNING = "select * from job_runs where status = 'running' order by started_at"
RUNS = """
select started_at, asset_id, recipe, product, kind, status, duration_s, error_code, error, run_id from runs
where ($status::varchar is null or status = $status) and ($recipe::varchar is null or recipe = $recipe)
  and ($kind::varchar is null or kind = $kind) and {which}
  and (tags is null or not contains(tags, '"deleted"') or json_extract(tags, '$.deleted') is null)
order by started_at desc, run_id desc limit $limit
"""
# Of each recipe's newest judgement the points whose reading is of a later commit than any that it was scored with.
OUTDATED = """
with judged as (
    select asset_id, recipe, version_id, max(actuals_v) as v from scores
    where role = 'backtest' and truth = 'latest' and product = $product and list_contains($recipes, recipe)
    group by asset_id, recipe, version_id
    qualify version_id = max(version_id) over (partition by asset_id, recipe)
), changed as (
    select asset_id, valid_time, _v from actuals__v where _v > (select min(v) from judged)
)
select distinct j.asset_id from forecasts f
join judged j on j.asset_id = f.asset_id and j.version_id = f.version_id
join changed c on c.asset_id = f.asset_id and c.valid_time = f.valid_time
where f.role = 'backtest' and c._v > j.v
"""
DAYS = "select min(day) as first, max(day) as last from scores where list_contains($roles, role) and n > 0"


def status(
    snapshot: Snapshot,
    names: Sequence[str],
    products: Sequence[Population],
    folder: Path,
    *,
    jobs: int = 5,
    jobs_of: Callable[[str], Sequence[str]] = lambda _: (),
) -> dict[str, Any]:
    """How the fleet is.

    Args:
        names: of its products.
        products: the assets of each, as far as there are any.
        folder: of the store.
        jobs: how many of the last jobs are told.
        jobs_of: the names of the jobs whose kind is a verb.

    Returns:
        totals over all products; `recipes` in force with their assets; `states`: by verb the assets by their last
        outcome; `stale`: assets without a champion or with one that has grown old; `products`: the same for each;
        `failures`: why, by product, verb and cause; `jobs`, the newest first, and `killed`: those that ended without
        a word.
    """
    totals = snapshot.sql(TOTALS, {"products": list(names)}).rows()[0]
    called = {verb: list(jobs_of(verb)) for verb in VERBS}
    told = [_product(snapshot, people, called) for people in products]
    unfinished = [row for row in snapshot.sql(RUNNING).rows() if not at_work(folder, row["job"], row["slot"])]
    dead = {(row["job"], row["slot"]) for row in unfinished}
    ran = [_ended(row, dead) for row in snapshot.sql(JOBS, {"limit": jobs}).rows()]
    states = {verb: _added(one["states"][verb] for one in told) for verb in VERBS}
    return {
        **totals,
        "fell_back": states["forecast"].get("fell_back", 0),
        "stale": sum(one["stale"] for one in told),
        "recipes": {row["recipe"]: row["assets"] for row in snapshot.sql(BY_RECIPE, {"products": list(names)}).rows()},
        "states": states,
        "products": told,
        "failures": [
            {"product": name, "verb": verb, **row}
            for name in names
            for verb in VERBS
            for row in snapshot.sql(WHY, {"product": name, "verb": verb, "jobs": called[verb]}).rows()
        ],
        "jobs": ran,
        "killed": [f"{row['job']} {row['slot']:%Y-%m-%dT%H:%M:%SZ}" for row in unfinished],
        "last_job": f"{ran[0]['job']} {ran[0]['status']}" if ran else None,
    }


def _product(snapshot: Snapshot, people: Population, jobs: Mapping[Verb, Sequence[str]]) -> dict[str, Any]:
    """How one product is."""
    living, asked = frozenset(member.asset_id for member in people.members), {"product": people.product}
    last = {verb: snapshot.sql(LAST, {**asked, "verb": verb, "jobs": jobs[verb]}).rows() for verb in VERBS}
    states = {verb: _counted(row["status"] for row in rows if row["asset_id"] in living) for verb, rows in last.items()}
    found = snapshot.sql(ISSUED, asked).rows()[0]
    return {
        "product": people.product,
        "assets": len(living),
        **found,
        "stale": len(stale(snapshot, people)),
        "states": states,
    }


def _added(states: Iterable[Mapping[str, int]]) -> dict[str, int]:
    return _counted(name for counts in states for name, count in counts.items() for _ in range(count))


def _counted(states: Iterable[str]) -> dict[str, int]:
    found = Counter(states)
    return {state: found[state] for state in ("ok", "failed", "fell_back") if found[state]}


def _ended(row: Mapping[str, Any], dead: set[tuple[str, datetime]]) -> dict[str, Any]:
    killed = (row["job"], row["slot"]) in dead
    seconds = (row["ended_at"] - row["started_at"]).total_seconds() if row["ended_at"] else None
    return {**row, "status": "killed" if killed else row["status"], "seconds": seconds}


def runs(
    snapshot: Snapshot,
    *,
    select: Sequence[str],
    where: str | None,
    status: str | None,
    recipe: str | None,
    kind: str | None,
    limit: int,
) -> list[dict[str, Any]]:
    """The newest runs, of whatever asset: one that was only tracked need not be in the register.

    Args:
        select, where: as for the verbs; where is a condition over `assets`.

    Raises:
        NothingSelected: no asset that the store knows matches.
    """
    which = ["true"]
    params: dict[str, Any] = {"status": status, "recipe": recipe, "kind": kind, "limit": limit}
    if select:
        params |= {f"glob{number}": glob for number, glob in enumerate(select)}
        globs = " or ".join(f"asset_id glob $glob{number}" for number in range(len(select)))
        which.append(f"({globs})")
    if where is not None:
        which.append(f"asset_id in (select asset_id from assets where (\n{where}\n))")
    found = snapshot.sql(RUNS.format(which=" and ".join(which)), params).rows()
    if not found and len(which) > 1 and not _matches(snapshot, which, {k: v for k, v in params.items() if "glob" in k}):
        raise NothingSelected("no asset with a run matches --select/--where", hint="tsfleet runs shows the newest")
    return found


def _matches(snapshot: Snapshot, which: Sequence[str], params: Mapping[str, Any]) -> bool:
    ids = "(select asset_id from assets union select asset_id from runs)"
    return bool(snapshot.sql(f"select 1 as x from {ids} where {' and '.join(which)} limit 1", params).rows())


def outdated(snapshot: Snapshot, recipes: Sequence[str], product: str) -> frozenset[str]:
    """The assets that were judged before one of the readings they were judged on was revised."""
    rows = snapshot.sql(OUTDATED, {"product": product, "recipes": list(recipes)}).rows()
    return frozenset(row["asset_id"] for row in rows)


def scored_days(snapshot: Snapshot, role: Role) -> tuple[date, date] | None:
    """The first and the last local day that was scored."""
    row = snapshot.sql(DAYS, {"roles": list(ROLES[role])}).rows()[0]
    return None if row["first"] is None else (row["first"], row["last"])
