"""What a verb would do, without doing it: which recipes it would judge, fit or issue with, on how many assets.

The same rules as the verbs', over the same rows; nothing is started and nothing is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from fleet.backtest import Due, candidates, judged_circles, judged_marks, unjudged
from fleet.champions import standings
from fleet.driver import Driver
from fleet.due import issue_times
from fleet.fitting import pickle_mark
from fleet.inference import already_issued
from fleet.outcome import Failed, Planned, Report
from fleet.plan import Recipe
from fleet.population import Loaded, Population, batches, load
from fleet.training import Plan, fit_all, fitted_circles, planned, trained_marks, unfitted

if TYPE_CHECKING:
    from store.reading import Snapshot

Act = Literal["judge", "fit", "issue"]
Work = Counter[tuple[str, Act, str | None]]
"""By product, act and recipe the number of assets."""


def rehearse_backtest(
    driver: Driver, products: Sequence[Population], *, recipes: Mapping[str, Recipe], force: bool
) -> Report:
    """What `backtest` would judge."""
    snapshot = driver.store.snapshot()
    work: Work = Counter()
    busy: set[str] = set()
    for people in products:
        mine = candidates(people, recipes)
        of_batch = unjudged(snapshot, people, mine, force=force)
        for asset_id, names in _due(driver, snapshot, people, mine, of_batch):
            work.update((people.product, "judge", name) for name in names)
            busy.update([asset_id] if names else ())
        for asset_id, name in _groups_judged(driver, snapshot, people, mine, force=force):
            work.update([(people.product, "judge", name)])
            busy.add(asset_id)
    return _report(driver, products, work, busy)


def rehearse_train(
    driver: Driver, products: Sequence[Population], *, recipes: Mapping[str, Recipe], judging: bool, force: bool
) -> Report:
    """What `train` would judge and fit. What an asset to be judged is fitted with stands under no name yet."""
    snapshot = driver.store.snapshot()
    work: Work = Counter()
    busy: set[str] = set()
    for people in products:
        mine = candidates(people, recipes)
        busy |= _trained(driver, snapshot, people, work, recipes=mine, judging=judging, force=force)
    return _report(driver, products, work, busy)


def _trained(
    driver: Driver,
    snapshot: Snapshot,
    people: Population,
    work: Work,
    *,
    recipes: Mapping[str, Recipe],
    judging: bool,
    force: bool,
) -> set[str]:
    """Count what would be done for one product; the assets that there is something to do for."""
    unknown: set[str] = set()
    if judging:
        of_batch = unjudged(snapshot, people, recipes, force=force)
        for asset_id, names in _due(driver, snapshot, people, recipes, of_batch):
            work.update((people.product, "judge", name) for name in names)
            unknown.update([asset_id] if names else ())
        for asset_id, name in _groups_judged(driver, snapshot, people, recipes, force=force):
            work.update([(people.product, "judge", name)])
            unknown.add(asset_id)
        plans = planned(driver, snapshot, people, recipes, {})
    else:
        plans = {member.asset_id: fit_all(member, recipes) for member in people.members}
    work.update([(people.product, "fit", None)] * len(unknown))
    # Of an asset that is judged first only the fallbacks are known.
    plans = {
        asset_id: Plan(chosen=None, recipes=tuple(n for n in plan.recipes if n != plan.chosen))
        if asset_id in unknown
        else plan
        for asset_id, plan in plans.items()
    }
    wanted = {name: driver.recipe(name) for name in sorted({n for plan in plans.values() for n in plan.recipes})}
    versions: dict[tuple[str, str], str | Failed] = {}
    openable = pickle_mark(driver.keyring)
    of_batch = unfitted(snapshot, people, wanted, plans, versions, openable=openable, force=force)
    busy = set(unknown)
    for asset_id, names in _due(driver, snapshot, people, wanted, of_batch):
        work.update((people.product, "fit", name) for name in names)
        busy.update([asset_id] if names else ())
    known = trained_marks(snapshot, people, openable=openable, force=force)
    for asset_id, name in fitted_circles(driver, snapshot, people, wanted, plans).rehearsed(driver, snapshot, known):
        work.update([(people.product, "fit", name)])
        busy.add(asset_id)
    return busy


def _groups_judged(
    driver: Driver, snapshot: Snapshot, people: Population, recipes: Mapping[str, Recipe], *, force: bool
) -> Iterator[tuple[str, str]]:
    """The assets and the global recipes that would be judged on them."""
    known = judged_marks(snapshot, force=force)
    circles = judged_circles(driver, snapshot, people, recipes)
    yield from circles.rehearsed(driver, snapshot, known)


def rehearse_forecast(
    driver: Driver, products: Sequence[Population], *, issue_time: datetime | None, reissue: bool
) -> Report:
    """What `forecast` would issue with; under no name stand the assets that have no champion."""
    snapshot = driver.store.snapshot()
    work: Work = Counter()
    busy: set[str] = set()
    for people in products:
        issues = issue_times(snapshot, people, issue_time, driver.clock.now())
        there = set() if reissue or not issues else already_issued(snapshot, people.product, issues.values())
        standing = standings(snapshot, people.product)
        due = [asset_id for asset_id, issue in issues.items() if (asset_id, issue) not in there]
        champions = (standing[asset_id].recipe if asset_id in standing else None for asset_id in due)
        work.update((people.product, "issue", recipe) for recipe in champions)
        busy.update(due)
    return _report(driver, products, work, busy)


def _due(
    driver: Driver,
    snapshot: Snapshot,
    people: Population,
    recipes: Mapping[str, Recipe],
    of_batch: Callable[[Loaded], Due],
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each asset with its due recipes."""
    with_covariates = any(recipe.sees_any for recipe in recipes.values())
    for batch in batches(people.members):
        loaded = load(snapshot, driver.config, batch, folder=None, with_covariates=with_covariates)
        due = of_batch(loaded)
        for member in batch:
            yield member.asset_id, tuple(due(member))


def _report(driver: Driver, products: Sequence[Population], work: Work, busy: set[str]) -> Report:
    acts, names = ("judge", "fit", "issue"), [people.product for people in products]
    rows = sorted(
        work.items(), key=lambda row: (names.index(row[0][0]), acts.index(row[0][1]), -row[1], row[0][2] or "")
    )
    assets = {member.asset_id for people in products for member in people.members}
    return Report(
        job=driver.job,
        slot=driver.slot,
        assets=len(assets),
        skipped=len(assets) - len(busy),
        products=tuple(names),
        planned=tuple(
            Planned(act=act, recipe=recipe, assets=count, product=product) for (product, act, recipe), count in rows
        ),
    )
