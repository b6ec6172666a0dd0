"""The verb `backtest`: judge recipes on past origins, and score its own rows in the same commit.

What has been judged for the current fingerprint (definition, rules, library, data) is not judged again, so a second
run changes nothing and a killed one goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from fleet.driver import Driver, due_item
from fleet.fingerprints import Fingerprints
from fleet.groups import Circle, Circles, Done, Marks, apart, circles_of, new_of
from fleet.judging import judge_chunk, judge_groups, lost
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


def judged_marks(snapshot: Snapshot, *, force: bool) -> set[str]:
    """The fingerprints of what has been judged; none where all of it is judged again."""
    return set() if force else {row["fingerprint"] for row in snapshot.sql(JUDGED).rows()}


def judged_circles(driver: Driver, snapshot: Snapshot, people: Population, recipes: Mapping[str, Recipe]) -> Circles:
    """The groups that global ones of the recipes are judged on."""
    wanted = {
        name: frozenset(member.asset_id for member in people.members if name in member.config.recipes)
        for name, recipe in recipes.items()
        if recipe.together
    }
    return circles_of(driver, snapshot, people, recipes, wanted, "backtest")


def unjudged(
    snapshot: Snapshot, people: Population, recipes: Mapping[str, Recipe], *, force: bool
) -> Callable[[Loaded], Due]:
    """For a batch, what tells a member's recipes that are due to be judged, with their fingerprints; no global one."""
    known = judged_marks(snapshot, force=force)

    def of_batch(loaded: Loaded) -> Due:
        prints = Fingerprints(loaded, people, "backtest")

        def due(member: Member) -> Mapping[str, str]:
            names = (name for name in member.config.recipes if name in recipes)
            mine = {name: recipes[name] for name in names if not recipes[name].together}
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
            telling.left(member, groups)
            ledger.add(scales.renewed(loaded, member))
            return None

        return item

    telling = _Telling(product=people.product, ledger=ledger, tell=tell)
    ledger.begin("judging", people)
    groups = _judge_groups(driver, snapshot, people, ledger, recipes=recipes, scales=scales, force=force)
    judged = dict(groups.failures)
    if driver.interrupt.asked():
        return judged
    singly, others = apart(people, lambda member: (recipes[name] for name in member.config.recipes if name in recipes))
    for member in others:
        telling.left(member, groups)
    ledger.add(None)
    for chunk, finished in driver.run(judge_chunk, snapshot, singly, plan, recipes, partial(lost, "backtest")):
        failures = {item.asset.asset_id: dict(judged.get(item.asset.asset_id, {})) for item in chunk}
        for asset_id, recipe, failed in finished.failures:
            failures[asset_id][recipe] = failed
        judged |= failures
        telling.judged(failures, groups.and_these(finished.seconds))
        ledger.add(finished)
    return judged


@dataclass(frozen=True, slots=True, kw_only=True)
class _Telling:
    """What the ledger is told of assets that are through.

    Args:
        tell: outcomes; else only that there is one less to do.
    """

    product: str
    ledger: Ledger
    tell: bool

    def judged(self, failures: Mapping[str, Mapping[str, Failed]], seconds: Mapping[str, float]) -> None:
        """Assets with what failed on them."""
        for asset_id, failed in failures.items():
            outcome = _outcome(self.product, asset_id, failed, seconds.get(asset_id, 0.0))
            if not self.tell:
                self.ledger.step(outcome.status)
                continue
            for name, failure in failed.items():
                if name != outcome.recipe:
                    self.ledger.blame(asset_id, name, failure)
            self.ledger.record(outcome)

    def left(self, member: Member, groups: Done) -> None:
        """An asset of which nothing is due beside what its groups did."""
        asset_id = member.asset_id
        if asset_id in groups.failures:
            self.judged({asset_id: groups.failures[asset_id]}, groups.seconds)
        elif self.tell:
            self.ledger.record(Outcome(asset_id=asset_id, product=self.product, status="skipped"))
        else:
            self.ledger.step("skipped")


def _judge_groups(
    driver: Driver,
    snapshot: Snapshot,
    people: Population,
    ledger: Ledger,
    *,
    recipes: Mapping[str, Recipe],
    scales: Scales,
    force: bool,
) -> Done:
    """Judge what is due of the global recipes into the ledger."""
    circles, done = judged_circles(driver, snapshot, people, recipes), Done()
    known = judged_marks(snapshot, force=force) if circles.circles else set()
    members = {member.asset_id: member for member in people.members}

    def due(_: Circle, loaded: Loaded, marks: Marks) -> Marks:
        for asset_id in marks.keys() - new_of(marks, known).keys():
            ledger.add(scales.renewed(loaded, members[asset_id]))
        return new_of(marks, known)

    for items, finished in circles.run(driver, snapshot, judge_groups, recipes, partial(lost, "backtest"), due):
        done.take(items, finished)
        ledger.add(finished)
    return done


def _outcome(product: str, asset_id: str, failures: Mapping[str, Failed], seconds: float) -> Outcome:
    """An asset on which any recipe failed has failed, with the first of them as the reason."""
    recipe, failed = next(iter(failures.items()), (None, None))
    return Outcome(
        asset_id=asset_id,
        product=product,
        status="failed" if failed else "ok",
        recipe=recipe,
        failure=failed,
        duration_s=seconds,
    )
