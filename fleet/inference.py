"""The verb `forecast`: issue every asset's forecast with its champion, or with the first of its fallbacks that holds.

An issue that is there already is left alone, so repeating the verb changes nothing; `reissue` issues again and keeps
both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from fleet import calendar
from fleet.driver import LAST_RESORT, Driver, last_resort, stored_recipe
from fleet.errors import ConfigInvalid
from fleet.issuing import issue_chunk, lost
from fleet.judging import Finished
from fleet.ledger import Ledger, last_failures
from fleet.outcome import Cause, Failed, Outcome, Report
from fleet.plan import Item, Link, Recipe
from fleet.population import Loaded, Member, Population, peer_levels
from store.clock import to_micros

if TYPE_CHECKING:
    from store.reading import Snapshot

CHAMPIONS = """
select v.asset_id, v.recipe, v.recipe_hash, v.version_id, v.run_id, v.sha256, r.params, 'champion' as role
from champions c join versions v on v.version_id = c.version_id join runs r on r.run_id = v.run_id
where c.product = 'default'
"""
FALLBACKS = """
select v.asset_id, v.recipe, v.recipe_hash, v.version_id, v.run_id, v.sha256, r.params, 'fallback' as role
from versions v join runs r on r.run_id = v.run_id
where v.product = 'default' and list_contains($names, v.recipe)
  and v.version_id in (select max(version_id) from versions where product = 'default' group by asset_id, recipe)
"""
UNTRAINED = Failed(code="no-champion", cause=Cause.NO_DATA, error="no champion yet; `tsfleet train` makes one")
ISSUED = """
select distinct asset_id, issue_time from forecasts
where product = 'default' and role in ('champion', 'fallback') and issue_time >= $since
"""


def forecast(
    driver: Driver, people: Population, ledger: Ledger, *, issue_time: datetime | None, reissue: bool
) -> Report:
    """Issue what is due; one outcome per asset.

    Args:
        issue_time: whose knowledge is used, for all assets; None is the end of each asset's last actual.
        reissue: issue again where there is a forecast already.
    """
    snapshot = driver.store.snapshot()
    issues = _issues(people, issue_time)
    there = set() if reissue or not issues else _issued(snapshot, issues.values())
    versions, recipes = _versions(driver, snapshot, people)
    blamed = last_failures(snapshot)
    newcomers = {m.asset_id: issues[m.asset_id] for m in people.members if _is_new(m, issues[m.asset_id])}
    levels = {issue: peer_levels(snapshot, issue) for issue in set(newcomers.values())}

    def plan(loaded: Loaded) -> Callable[[Member], Item | None]:
        def item(member: Member) -> Item | None:
            issue = issues[member.asset_id]
            if (member.asset_id, issue) in there:
                ledger.add(None, [Outcome(asset_id=member.asset_id, status="skipped")])
                return None
            asset = loaded.assets[member.asset_id]
            if member.asset_id in newcomers:
                level = levels[issue].get(asset.static.get("kind"))
                asset = replace(asset, static={**asset.static, "peer_mean": level})
            return Item(
                asset=asset,
                settings=member.settings,
                recipes=(),
                fingerprints=(),
                issue=issue,
                chain=_chain(driver, member, versions[member.asset_id]),
            )

        return item

    for chunk, finished in driver.run(issue_chunk, snapshot, people, plan, recipes, lost):
        ledger.add(finished, _outcomes(chunk, finished, blamed))
    return ledger.close(interrupted=driver.interrupt.asked())


def _is_new(member: Member, issue: int) -> bool:
    """Whether no reading of the asset can be known at the issue time, so that only its peers tell what to expect."""
    return member.first_reading is None or to_micros(member.first_reading) >= issue


def _issues(people: Population, issue_time: datetime | None) -> dict[str, int]:
    """Issue time of every asset; one without any row follows the newest of the others."""
    if issue_time is not None:
        return dict.fromkeys((member.asset_id for member in people.members), calendar.instant(pd.Timestamp(issue_time)))
    ends = {member.asset_id: member.data_end for member in people.members if member.data_end is not None}
    if not ends:
        raise ConfigInvalid("no asset has a single row, so there is no issue time", hint="name one with --issue-time")
    newest = max(ends.values())
    return {member.asset_id: ends.get(member.asset_id, newest) for member in people.members}


def _issued(snapshot: Snapshot, issues: Iterable[int]) -> set[tuple[str, int]]:
    since = pd.Timestamp(min(issues), unit="us", tz="UTC").to_pydatetime()
    table = snapshot.sql(ISSUED, {"since": since}).arrow()
    instants = calendar.micros(pd.DatetimeIndex(table["issue_time"].to_pandas()))
    return set(zip(table["asset_id"].to_pylist(), instants.tolist(), strict=True))


def _versions(
    driver: Driver, snapshot: Snapshot, people: Population
) -> tuple[dict[str, list[Mapping[str, Any]]], dict[str, Recipe]]:
    """By asset the stored versions that may issue; and every recipe of a chain, a version's as it was when trained."""
    names = sorted(set().union(*(member.config.train.fallback for member in people.members)))
    rows = [*snapshot.sql(CHAMPIONS).rows(), *snapshot.sql(FALLBACKS, {"names": names}).rows()]
    versions: dict[str, list[Mapping[str, Any]]] = {member.asset_id: [] for member in people.members}
    recipes: dict[str, Recipe] = {LAST_RESORT: last_resort(), **{name: driver.recipe(name) for name in names}}
    for row in rows:
        if row["asset_id"] in versions:
            versions[row["asset_id"]].append(row)
            if _key(row) not in recipes:
                recipes[_key(row)] = stored_recipe(row["recipe"], row["recipe_hash"], row["params"])
    return versions, recipes


def _chain(driver: Driver, member: Member, rows: Sequence[Mapping[str, Any]]) -> tuple[Link, ...]:
    """Champion, then the fallbacks in the configured order, then the last resort."""
    champion = next((row for row in rows if row["role"] == "champion"), None)
    trained = {row["recipe"]: row for row in rows if row["role"] == "fallback"}
    links = [_stored(driver, champion)] if champion else []
    for name in member.config.train.fallback:
        if champion is not None and champion["recipe"] == name:
            continue
        if not driver.recipe(name).learns:
            links.append(Link(recipe=name, role="fallback", version_id="", run_id="", blob=None))
        elif name in trained:
            links.append(_stored(driver, trained[name]))
    return (*links, Link(recipe=LAST_RESORT, role="fallback", version_id="", run_id="", blob=None))


def _stored(driver: Driver, row: Mapping[str, Any]) -> Link:
    return Link(
        recipe=_key(row),
        role=row["role"],
        version_id=row["version_id"],
        run_id=row["run_id"],
        blob=driver.store.blob(row["sha256"]),
    )


def _key(row: Mapping[str, Any]) -> str:
    """A version runs with the definition it was trained with, whatever the configuration says today."""
    return f"{row['recipe']}@{row['recipe_hash']}"


def _outcomes(chunk: Sequence[Item], finished: Finished, blamed: Mapping[str, Failed]) -> list[Outcome]:
    """Ok from the champion, fell_back from another with the cause, failed when the whole chain did."""
    issued = {}
    if "forecasts" in finished.tables:
        table = finished.tables["forecasts"]
        first = table.filter(table["step"].to_numpy() == 1)
        columns = (first[name].to_pylist() for name in ("asset_id", "role", "recipe"))
        issued = {asset_id: (role, recipe) for asset_id, role, recipe in zip(*columns, strict=True)}
    failures: dict[str, Failed] = {}
    for asset_id, _, failed in finished.failures:
        failures.setdefault(asset_id, failed)
    found = []
    for item in chunk:
        asset_id = item.asset.asset_id
        role, recipe = issued.get(asset_id, (None, None))
        failure = None if role == "champion" else failures.get(asset_id) or blamed.get(asset_id, UNTRAINED)
        found.append(
            Outcome(
                asset_id=asset_id,
                status="ok" if role == "champion" else "fell_back" if role else "failed",
                recipe=recipe,
                failure=failure,
                duration_s=finished.seconds.get(asset_id, 0.0),
            )
        )
    return found
