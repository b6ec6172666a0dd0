"""The verb `forecast`: issue every asset's forecast with its champion, or with the first of its fallbacks that holds.

An issue that is there already is left alone, so repeating the verb changes nothing; `reissue` issues again and keeps
both. Of a product with a gate, assets that have no forecast when only the budget is left get their fallback, a rule
that runs here at once, and what was being worked on is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from fleet import artefacts, calendar
from fleet.adjustments import Step, Word, spoken, with_words, words_of
from fleet.driver import Batch, Driver
from fleet.due import among, issue_times
from fleet.engines import never
from fleet.errors import FleetError
from fleet.intervals import Past
from fleet.issuing import issue_chunk, issue_groups, lost, lost_groups
from fleet.judging import Finished
from fleet.ledger import Ledger, last_failures
from fleet.outcome import Cause, Failed, Outcome, Report
from fleet.plan import Group, Item, Link, Recipe
from fleet.population import Loaded, Member, Population, peer_levels
from fleet.recipes import LAST_RESORT, Gone, Shelf, gone, last_resort, short_hash
from fleet.residuals import Key, Residuals
from store.clock import from_micros, to_micros
from store.errors import TsfleetError
from store.packs import Place

if TYPE_CHECKING:
    from store.reading import Snapshot

# Of the champion's recipe the version in charge; for an issue in the past the newest that had not seen what came later.
CHAMPIONS = """
select v.asset_id, v.recipe, v.recipe_hash, v.version_id, v.run_id, v.codec, v.sha256, r.params,
       json_extract_string(r.tags, '$.code') as code, 'champion' as role
from champions c
join versions v on v.asset_id = c.asset_id and v.product = c.product and v.recipe = c.recipe
join runs r on r.run_id = v.run_id
join issues i on i.asset_id = c.asset_id
where c.product = $product and r.train_end < i.issue
qualify row_number() over (partition by c.asset_id order by (v.version_id = c.version_id) desc, v.version_id desc) = 1
"""
FALLBACKS = """
select v.asset_id, v.recipe, v.recipe_hash, v.version_id, v.run_id, v.codec, v.sha256, r.params,
       json_extract_string(r.tags, '$.code') as code, 'fallback' as role
from versions v join runs r on r.run_id = v.run_id join issues i on i.asset_id = v.asset_id
where v.product = $product and list_contains($names, v.recipe) and r.train_end < i.issue
qualify row_number() over (partition by v.asset_id, v.recipe order by v.version_id desc) = 1
"""
IN_CHARGE = "select asset_id from champions where product = $product"
TOO_NEW = Failed(
    code="champion-too-new",
    cause=Cause.EXCEPTION,
    error="every version of the champion was trained on data later than the issue time",
)
NEAR_GATE = Failed(
    code="gate-near", cause=Cause.CANCELLED, error="not done when only the budget before the gate was left"
)
UNTRAINED = Failed(code="no-champion", cause=Cause.NO_DATA, error="no champion yet; `tsfleet train` makes one")
ISSUED = """
select distinct asset_id, issue_time from forecasts
where product = $product and role in ('champion', 'fallback') and issue_time >= $since
"""

AT_ONCE = 1000
"""Assets of a group that are forecast in one call, so that they fit into memory and several workers share them."""


def forecast(
    driver: Driver, products: Sequence[Population], ledger: Ledger, *, issue_time: datetime | None, reissue: bool
) -> Report:
    """Issue what is due; one outcome per asset and product.

    Args:
        products: the assets of each.
        issue_time: whose knowledge is used, for all assets: of a product with a timetable its last issue by then; None
            is the end of each asset's last actual, or the issue of the timetable that the data have come to.
        reissue: issue again where there is a forecast already.
    """
    snapshot, now = driver.store.snapshot(), driver.clock.now()
    due = [(people, issue_times(snapshot, people, issue_time, now)) for people in products]
    for people, issues in sorted(due, key=lambda one: _first_deadline(*one)):
        if len(products) > 1:
            ledger.begin("", people)
        _forecast(driver, people, ledger, issues, reissue=reissue)
        if driver.interrupt.asked():
            break
    return ledger.close(interrupted=driver.interrupt.asked())


def _forecast(driver: Driver, people: Population, ledger: Ledger, issues: Mapping[str, int], *, reissue: bool) -> None:
    snapshot, product = driver.store.snapshot(), people.product
    issued = already_issued(snapshot, product, issues.values()) if issues else set()
    there = set() if reissue else issued
    for line in _told(people, issues):
        ledger.note(line)
    versions, recipes = _versions(driver, snapshot, people, issues)
    in_charge = snapshot.sql(IN_CHARGE, {"product": product}).rows()
    blamed = {**last_failures(snapshot, product), **{row["asset_id"]: TOO_NEW for row in in_charge}}
    newcomers = {
        m.asset_id: issues[m.asset_id]
        for m in people.members
        if _is_silent(m, issues[m.asset_id], people.settings[m.settings].window_us)
    }
    levels = {issue: peer_levels(snapshot, issue) for issue in set(newcomers.values())}
    past = Residuals(snapshot, product, _with_quantiles(people, issues))

    through: set[str] = set()

    def plan(loaded: Loaded, *, quick: bool = False) -> Callable[[Member], Item | None]:
        chains = {m.asset_id: _chain(driver, m, versions[m.asset_id], recipes) for m in loaded.members}
        named = {
            asset: {(recipes[link.recipe].name, recipes[link.recipe].recipe_hash) for link in chain}
            for asset, chain in chains.items()
        }
        pasts = past.of(list(chains), named)

        def item(member: Member) -> Item | None:
            issue = issues[member.asset_id]
            if (member.asset_id, issue) in there:
                through.add(member.asset_id)
                ledger.add(None, [Outcome(asset_id=member.asset_id, product=product, status="skipped")])
                return None
            asset = loaded.assets[member.asset_id]
            if member.asset_id in newcomers:
                level = levels[issue].get(asset.static.get("kind"))
                asset = replace(asset, static={**asset.static, "peer_mean": level})
            chain = _with_past(member.asset_id, chains[member.asset_id], recipes, pasts)
            return Item(
                asset=asset,
                settings=member.settings,
                recipes=(),
                fingerprints=(),
                issue=issue,
                chain=_quick(chain, recipes) if quick else chain,
            )

        return item

    since = _needed_since(people, issues, past.since)
    voiced = partial(_with_words, *_words(snapshot, product, issues, reissue=reissue))
    rules = {name: recipe for name, recipe in recipes.items() if recipe.light}
    due = {asset for asset, issue in issues.items() if (asset, issue) not in there}
    for deadline, group in _by_deadline(people, issues, issued, to_micros(driver.clock.now())):
        cut = _reached(driver, deadline)
        if not cut():
            whole = _of_groups(group, versions, recipes, due)
            for items, finished in _issued_whole(driver, snapshot, group, whole, plan, recipes, since, cut):
                through.update(item.asset.asset_id for item in items)
                ledger.add(voiced(finished), _outcomes(product, items, finished, blamed))
            left = among(group, frozenset(m.asset_id for m in group.members) - through) if whole else group
            for chunk, finished in driver.run(issue_chunk, snapshot, left, plan, recipes, lost, since, cut):
                through.update(one.asset.asset_id for one in chunk)
                ledger.add(voiced(finished), _outcomes(product, chunk, finished, blamed))
        missing = frozenset(m.asset_id for m in group.members) - through
        if deadline is None or not missing or driver.interrupt.asked():
            continue
        near = dict.fromkeys(missing, NEAR_GATE)
        rest, at_once = among(group, missing), partial(plan, quick=True)
        for chunk, finished in driver.run(issue_chunk, snapshot, rest, at_once, rules, lost, since):
            ledger.add(voiced(finished), _outcomes(product, chunk, finished, near))
        ledger.commit()  # at once: the gate is near
        ledger.note(
            f"{product}: {len(missing):,} assets were not done at {from_micros(deadline):%H:%MZ}, near the gate"
        )


def _words(
    snapshot: Snapshot, product: str, issues: Mapping[str, int], *, reissue: bool
) -> tuple[tuple[Word, ...], frozenset[Step]]:
    """What people say of a product, and the steps of these issues of which somebody has said something before."""
    words = words_of(snapshot, product)
    again = reissue and bool(issues)
    return words, spoken(snapshot, product, from_micros(min(issues.values()))) if again else frozenset()


def _with_words(words: Sequence[Word], said: Collection[Step], finished: Finished) -> Finished:
    """A chunk whose forecasts are followed by what people make of them."""
    if "forecasts" not in finished.tables or not (words or said):
        return finished
    table = with_words(finished.tables["forecasts"], words, said)
    return replace(finished, tables={**finished.tables, "forecasts": table})


def _first_deadline(people: Population, issues: Mapping[str, int]) -> float:
    """When the first of these assets has to have its forecast; infinity without a gate."""
    return min((_deadline(people, member, issues) for member in people.members), default=inf)


def _deadline(people: Population, member: Member, issues: Mapping[str, int]) -> float:
    settings = people.settings[member.settings]
    return inf if settings.gate is None else settings.gate.deadline(issues[member.asset_id], settings.tz)


def _by_deadline(
    people: Population, issues: Mapping[str, int], issued: Container[tuple[str, int]], now: int
) -> Iterator[tuple[int | None, Population]]:
    """The assets in groups with the instant at which what is missing gets its fallback, the earliest first.

    There is none for an asset that has a forecast already, and none behind the gate, where nothing can be late any
    more; all instants are UTC microseconds.
    """
    groups: dict[float, set[str]] = {}
    for member in people.members:
        settings, issue = people.settings[member.settings], issues[member.asset_id]
        deadline = inf if (member.asset_id, issue) in issued else _deadline(people, member, issues)
        if settings.gate is not None and settings.gate.closes(issue, settings.tz) < now:
            deadline = inf
        groups.setdefault(deadline, set()).add(member.asset_id)
    for deadline in sorted(groups):
        whole = len(groups) == 1
        yield (
            None if deadline == inf else int(deadline),
            people if whole else among(people, frozenset(groups[deadline])),
        )


def _reached(driver: Driver, deadline: int | None) -> Callable[[], bool]:
    return never if deadline is None else lambda: to_micros(driver.clock.now()) >= deadline


def _quick(chain: Sequence[Link], recipes: Mapping[str, Recipe]) -> tuple[Link, ...]:
    """The links that take no time: rules that learn nothing; the last resort is one."""
    return tuple(link for link in chain if recipes[link.recipe].light and not isinstance(link.blob, Place))


def _of_groups(
    people: Population,
    versions: Mapping[str, Sequence[Mapping[str, Any]]],
    recipes: dict[str, Recipe],
    due: set[str],
) -> dict[tuple[str, str], list[Member]]:
    """By recipe and blob the assets whose champion is a model that many share."""
    found: dict[tuple[str, str], list[Member]] = {}
    for member in people.members:
        champion = next((row for row in versions[member.asset_id] if row["role"] == "champion"), None)
        if champion is not None and member.asset_id in due and recipes[_key(champion)].together:
            found.setdefault((_key(champion), champion["sha256"]), []).append(member)
    return found


def _issued_whole(
    driver: Driver,
    snapshot: Snapshot,
    people: Population,
    whole: Mapping[tuple[str, str], Sequence[Member]],
    plan: Callable[[Loaded], Callable[[Member], Item | None]],
    recipes: Mapping[str, Recipe],
    since: datetime | None,
    cut: Callable[[], bool],
) -> Iterator[tuple[list[Item], Finished]]:
    """Issue with models that many share, all assets of one in one call; who is not served is left to its chain."""

    def made_of(name: str, members: tuple[Member, ...]) -> Batch[Group]:
        def lots(loaded: Loaded) -> Iterator[Group]:
            items = [item for item in map(plan(loaded), members) if item is not None]
            yield Group(recipe=name, items=tuple(items))

        return members, lots

    lots = (
        made_of(name, tuple(members[start : start + AT_ONCE]))
        for (name, _), members in whole.items()
        for start in range(0, len(members), AT_ONCE)
    )
    for chunk, finished in (
        driver.run_groups(issue_groups, snapshot, people, lots, recipes, lost_groups, since, cut) if whole else ()
    ):
        served = set(finished.seconds)
        yield [item for group in chunk for item in group.items if item.asset.asset_id in served], finished


def _told(people: Population, issues: Mapping[str, int]) -> Iterator[str]:
    """Which issue of a timetable is meant, since nobody typed it."""
    found = {issues[m.asset_id] for m in people.members if people.settings[m.settings].timetable is not None}
    if found:
        first, last = (f"{from_micros(at):%Y-%m-%dT%H:%MZ}" for at in (min(found), max(found)))
        yield f"{people.product}: issue of {first}" + (
            f" to {last}, by the clock of each asset" if first != last else ""
        )


def _with_quantiles(people: Population, issues: Mapping[str, int]) -> pa.Table:
    """The assets of which quantiles are asked, with their issues."""
    wanted = [m.asset_id for m in people.members if people.settings[m.settings].quantiles]
    times = pa.array([issues[asset] for asset in wanted], pa.int64()).cast(pa.timestamp("us", "UTC"))
    return pa.table({"asset_id": pa.array(wanted, pa.string()), "issue": times})


def _with_past(
    asset_id: str, chain: tuple[Link, ...], recipes: Mapping[str, Recipe], pasts: Mapping[Key, Past]
) -> tuple[Link, ...]:
    """The links of a chain with what their recipes forecast in a backtest."""
    if not pasts:
        return chain
    keys = ((asset_id, recipes[link.recipe].name, recipes[link.recipe].recipe_hash) for link in chain)
    return tuple(replace(link, past=pasts.get(key)) for link, key in zip(chain, keys, strict=True))


def _needed_since(people: Population, issues: Mapping[str, int], past: datetime | None) -> datetime | None:
    """What no model of these assets looks back beyond; None when one looks at everything.

    Args:
        past: what happened since then tells the errors that intervals are made of.
    """
    windows = [people.settings[member.settings].window_us for member in people.members]
    if any(window is None for window in windows):
        return None
    starts = (issues[m.asset_id] - (window or 0) for m, window in zip(people.members, windows, strict=True))
    since = from_micros(min(starts))
    return since if past is None else min(since, past)


def _is_silent(member: Member, issue: int, window_us: int | None) -> bool:
    """Whether no reading of the asset is known in the issue's window, so that only its peers say what to expect."""
    if member.first_reading is None or member.data_end is None or to_micros(member.first_reading) >= issue:
        return True
    return window_us is not None and member.data_end <= issue - window_us


def already_issued(snapshot: Snapshot, product: str, issues: Iterable[int]) -> set[tuple[str, int]]:
    """The assets and issue times (UTC microseconds) that a product is issued for, from the earliest of `issues` on."""
    since = pd.Timestamp(min(issues), unit="us", tz="UTC").to_pydatetime()
    table = snapshot.sql(ISSUED, {"product": product, "since": since}).arrow()
    instants = calendar.micros(pd.DatetimeIndex(table["issue_time"].to_pandas()))
    return set(zip(table["asset_id"].to_pylist(), instants.tolist(), strict=True))


def _versions(
    driver: Driver, snapshot: Snapshot, people: Population, issues: Mapping[str, int]
) -> tuple[dict[str, list[Mapping[str, Any]]], dict[str, Recipe]]:
    """By asset the stored versions that may issue; and every recipe of a chain, a version's as it was when trained."""
    names = sorted(set().union(*(member.config.train.fallback for member in people.members)))
    times = pa.array(list(issues.values()), pa.int64()).cast(pa.timestamp("us", "UTC"))
    tables = {"issues": pa.table({"asset_id": pa.array(list(issues), pa.string()), "issue": times})}
    champions = snapshot.sql(CHAMPIONS, {"product": people.product}, tables).rows()
    rows = [*champions, *snapshot.sql(FALLBACKS, {"product": people.product, "names": names}, tables).rows()]
    places = driver.store.places(row["sha256"] for row in rows)
    versions: dict[str, list[Mapping[str, Any]]] = {member.asset_id: [] for member in people.members}
    recipes: dict[str, Recipe] = {LAST_RESORT: last_resort(), **{name: _today(driver, name) for name in names}}
    shelf = _shelf(driver)
    for row in rows:
        if row["asset_id"] in versions:
            versions[row["asset_id"]].append({**row, "place": places.get(row["sha256"])})
            if _key(row) not in recipes:
                recipes[_key(row)] = shelf.recipe(row)
    return versions, recipes


def _shelf(driver: Driver) -> Shelf:
    return Shelf(
        read=driver.store.blob,
        keyring=driver.keyring,
        trusting=driver.config.fleet.trust_pickles,
        folder=driver.config.folder,
        today=lambda name: _today(driver, name) if name in driver.config.recipes else None,
    )


def _today(driver: Driver, name: str) -> Recipe:
    """A recipe as it is configured; one that cannot be made is no reason to leave other assets without a forecast."""
    try:
        return driver.recipe(name)
    except FleetError as error:
        return gone(driver.config.recipe(name), error, "", "")


def _chain(
    driver: Driver, member: Member, rows: Sequence[Mapping[str, Any]], recipes: dict[str, Recipe]
) -> tuple[Link, ...]:
    """Champion, then the fallbacks in the configured order, then the last resort."""
    champion = next((row for row in rows if row["role"] == "champion"), None)
    trained = {row["recipe"]: row for row in rows if row["role"] == "fallback"}
    links = [_stored(driver, champion, recipes)] if champion else []
    for name in member.config.train.fallback:
        if champion is not None and champion["recipe"] == name:
            continue
        if not recipes[name].learns:
            links.append(Link(recipe=name, role="fallback", version_id="", run_id="", blob=None))
        elif name in trained:
            links.append(_stored(driver, trained[name], recipes))
    return (*links, Link(recipe=LAST_RESORT, role="fallback", version_id="", run_id="", blob=None))


def _stored(driver: Driver, row: Mapping[str, Any], recipes: dict[str, Recipe]) -> Link:
    """The link of a stored version; one that may not be loaded fails where it is used, and the asset falls back."""
    recipe, codec = _key(row), row["codec"]
    blob: bytes | Place | None = None
    try:
        if not recipes[recipe].learns:
            blob = b""
        elif row["place"] is not None and not artefacts.runs_code(codec):
            blob = row["place"]
        elif not isinstance(recipes[recipe].forecaster, Gone):
            stored = driver.store.blob(row["sha256"])
            found = _shelf(driver).opened(stored, row["codec"], row["recipe_hash"])
            blob, codec = found.payload, found.codec
    except TsfleetError as error:
        recipe = f"{recipe}#{short_hash(error.message)}"
        recipes[recipe] = replace(recipes[_key(row)], forecaster=Gone(error))
    return Link(
        recipe=recipe, role=row["role"], version_id=row["version_id"], run_id=row["run_id"], blob=blob, codec=codec
    )


def _key(row: Mapping[str, Any]) -> str:
    """A version runs with the definition it was trained with, whatever the configuration says today."""
    code = f"/{row['code'][:8]}" if row["code"] else ""
    return f"{row['recipe']}@{row['recipe_hash']}{code}"


def _outcomes(product: str, chunk: Sequence[Item], finished: Finished, blamed: Mapping[str, Failed]) -> list[Outcome]:
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
                product=product,
                status="ok" if role == "champion" else "fell_back" if role else "failed",
                recipe=recipe,
                failure=failure,
                duration_s=finished.seconds.get(asset_id, 0.0),
            )
        )
    return found
