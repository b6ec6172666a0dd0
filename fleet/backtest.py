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

if TYPE_CHECKING:
    from store.reading import Snapshot

# Only the newest: a definition that comes back after another has to be judged again, since the newest judgement counts.
# A history that was too short stays too short until the data change; every other failure is tried again.
JUDGED = """
select fingerprint from (
    select * from runs where kind = 'backtest'
    qualify run_id = max(run_id) over (partition by asset_id, product, recipe))
where status = 'ok' or error_code in ('too-short', 'no-data')
"""


def backtest(
    driver: Driver, people: Population, ledger: Ledger, *, recipes: Mapping[str, Recipe], force: bool
) -> Report:
    """Judge every asset's recipes that have no rows for the current fingerprint; one outcome per asset.

    Args:
        recipes: candidates by name; an asset is judged with those of them that its configuration lists.
        force: judge again whatever is there.
    """
    judge(driver, driver.store.snapshot(), people, ledger, recipes=recipes, force=force, tell=True)
    return ledger.close(interrupted=driver.interrupt.asked())


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
    known = set() if force else {row["fingerprint"] for row in snapshot.sql(JUDGED).rows()}

    def plan(loaded: Loaded) -> Callable[[Member], Item | None]:
        prints = Fingerprints(loaded, people, "backtest")

        def item(member: Member) -> Item | None:
            marks = {name: prints.of(member, recipes[name]) for name in member.config.recipes if name in recipes}
            due = {name: mark for name, mark in marks.items() if mark not in known}
            if due:
                return due_item(loaded, member, due)
            if tell:
                ledger.add(None, [Outcome(asset_id=member.asset_id, status="skipped")])
            return None

        return item

    judged: dict[str, dict[str, Failed]] = {}
    for chunk, finished in driver.run(judge_chunk, snapshot, people, plan, recipes, partial(lost, "backtest")):
        failures: dict[str, dict[str, Failed]] = {item.asset.asset_id: {} for item in chunk}
        for asset_id, recipe, failed in finished.failures:
            failures[asset_id][recipe] = failed
        judged |= failures
        ledger.add(finished, _outcomes(chunk, failures, finished.seconds) if tell else ())
    return judged


def _outcomes(
    chunk: Sequence[Item], failures: Mapping[str, Mapping[str, Failed]], seconds: Mapping[str, float]
) -> list[Outcome]:
    """An asset on which any recipe failed has failed, with the first of them as the reason."""
    found = []
    for item in chunk:
        asset_id = item.asset.asset_id
        recipe, failed = next(iter(failures[asset_id].items()), (None, None))
        found.append(
            Outcome(
                asset_id=asset_id,
                status="failed" if failed else "ok",
                recipe=recipe,
                failure=failed,
                duration_s=seconds.get(asset_id, 0.0),
            )
        )
    return found
