"""The verb `backtest`: judge recipes on past origins, and score its own rows in the same commit.

What has been judged for the current fingerprint (definition, rules, library, data) is not judged again, so a second
run changes nothing and a killed one goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from fleet.driver import Driver, due_item
from fleet.fingerprints import Fingerprints
from fleet.judging import judge_chunk, lost
from fleet.ledger import Ledger
from fleet.outcome import Failed, Outcome, Report
from fleet.plan import Item, Recipe
from fleet.population import Loaded, Member, Population
from fleet.scaling import Scales

if TYPE_CHECKING:
    from store.reading import Snapshot

# Only the newest: a definition that comes back after another has to be judged again, since the newest judgement counts.
# A history that was too short stays too short until the data change; every other failure is tried again.
JUDGED = """
select fingerprint from (
    select arg_max(fingerprint, run_id) as fingerprint, arg_max(status, run_id) as status,
           arg_max(coalesce(error_code, ''), run_id) as error_code
    from runs where kind = 'backtest' group by asset_id, product, recipe)
where status = 'ok' or error_code in ('too-short', 'no-data')
"""

Due = Callable[[Member], Mapping[str, str]]


def backtest(
    driver: Driver, products: Sequence[Population], ledger: Ledger, *, recipes: Mapping[str, Recipe], force: bool
) -> Report:
    """Judge every asset's recipes that have no rows for the current fingerprint; one outcome per asset and product.

    Args:
        products: the assets of each.
        recipes: candidates by name; an asset is judged with those of them that its configuration lists.
        force: judge again whatever is there.
    """
    for people in products:
        mine = candidates(people, recipes)
        judge(driver, driver.store.snapshot(), people, ledger, recipes=mine, force=force, tell=True)
        if driver.interrupt.asked():
            break
    return ledger.close(interrupted=driver.interrupt.asked())


def candidates(people: Population, recipes: Mapping[str, Recipe]) -> Mapping[str, Recipe]:
    """Those of the recipes that an asset of the product may have."""
    wanted = set().union(*(member.config.recipes for member in people.members))
    return {name: recipe for name, recipe in recipes.items() if name in wanted}


def unjudged(
    snapshot: Snapshot, people: Population, recipes: Mapping[str, Recipe], *, force: bool
) -> Callable[[Loaded], Due]:
    """For a batch, what tells a member's recipes that are due to be judged, with their fingerprints."""
    known = set() if force else {row["fingerprint"] for row in snapshot.sql(JUDGED).rows()}

    def of_batch(loaded: Loaded) -> Due:
        prints = Fingerprints(loaded, people, "backtest")

        def due(member: Member) -> Mapping[str, str]:
            mine = {name: recipes[name] for name in member.config.recipes if name in recipes}
            return {name: mark for name, mark in prints.of(member, mine).items() if mark not in known}

        return due

    return of_batch


def judge(
    driver: Driver,
    snapshot: Snapshot,
    people: Population,
    ledger: Ledger,
    *,
    recipes: Mapping[str, Recipe],
    force: bool,
    tell: bool,
) -> dict[str, dict[str, Failed]]:
    """Judge what is due into the ledger; by asset judged, the recipes that failed on it.

    Args:
        tell: also record each asset's outcome.
    """
    of_batch = unjudged(snapshot, people, recipes, force=force)
    scales = Scales(snapshot, people, "backtest")

    def plan(loaded: Loaded) -> Callable[[Member], Item | None]:
        due = of_batch(loaded)

        def item(member: Member) -> Item | None:
            found = due(member)
            if found:
                return due_item(loaded, member, found)
            if tell:
                ledger.record(Outcome(asset_id=member.asset_id, product=people.product, status="skipped"))
            else:
                ledger.step("skipped")
            ledger.add(scales.renewed(loaded, member))
            return None

        return item

    ledger.begin("judging", people)
    judged: dict[str, dict[str, Failed]] = {}
    for chunk, finished in driver.run(judge_chunk, snapshot, people, plan, recipes, partial(lost, "backtest")):
        failures: dict[str, dict[str, Failed]] = {item.asset.asset_id: {} for item in chunk}
        for asset_id, recipe, failed in finished.failures:
            failures[asset_id][recipe] = failed
        judged |= failures
        outcomes = _outcomes(people.product, chunk, failures, finished.seconds)
        if tell:
            for outcome in outcomes:
                others = {name: f for name, f in failures[outcome.asset_id].items() if name != outcome.recipe}
                for name, failed in others.items():
                    ledger.blame(outcome.asset_id, name, failed)
            ledger.add(finished, outcomes)
        else:
            for outcome in outcomes:
                ledger.step(outcome.status)
            ledger.add(finished)
    return judged


def _outcomes(
    product: str, chunk: Sequence[Item], failures: Mapping[str, Mapping[str, Failed]], seconds: Mapping[str, float]
) -> list[Outcome]:
    """An asset on which any recipe failed has failed, with the first of them as the reason."""
    found = []
    for item in chunk:
        asset_id = item.asset.asset_id
        recipe, failed = next(iter(failures[asset_id].items()), (None, None))
        found.append(
            Outcome(
                asset_id=asset_id,
                product=product,
                status="failed" if failed else "ok",
                recipe=recipe,
                failure=failed,
                duration_s=seconds.get(asset_id, 0.0),
            )
        )
    return found
