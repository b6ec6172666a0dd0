"""Who is in force, what was decided last, and how another comes in force: by training, by hand, by going back.

A champion changes only if the one in force is still the one that the decision saw; otherwise the asset's outcome says
so. Every change is a row of the ledger of decisions, with who made it and why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fleet.driver import Driver
from fleet.errors import ConfigInvalid, NoData
from fleet.ledger import Ledger, Move
from fleet.outcome import Outcome, Report, failure_of
from fleet.population import Population
from store.errors import NotFound

if TYPE_CHECKING:
    from store.reading import Snapshot

IN_FORCE = "select asset_id, recipe, version_id from champions where product = $product"
NEWEST = """
select asset_id, recipe, max(version_id) as version_id from versions
where recipe = $recipe and product = $product group by asset_id, recipe
"""
# The version in force before the present one first was: going back twice goes back two steps, not there and back.
BEFORE = """
with history as (select asset_id, recipe, version_id, _v from champions_all__v where product = $product),
first as (
    select h.asset_id, min(h._v) as since from history h
    join champions c on c.asset_id = h.asset_id and c.product = $product and c.version_id = h.version_id
    group by h.asset_id
)
select h.asset_id, arg_max(h.recipe, h._v) as recipe, arg_max(h.version_id, h._v) as version_id
from history h join first f on f.asset_id = h.asset_id where h._v < f.since group by h.asset_id
"""
# By the time that a champion's row tells: when it was decided upon, a moment before its commit.
AT = """
select asset_id, arg_max(recipe, _v) as recipe, arg_max(version_id, _v) as version_id from champions_all__v
where product = $product and since <= $moment group by asset_id
"""
VERSION = "select asset_id, product, recipe, version_id from versions where version_id = $version"
# By asset: was it judged since the last decision, and was that one a person's? One by figures names its metric.
STANDING = """
with judged as (
    select asset_id, max(_v) as v from runs__v where kind = 'backtest' and product = $product group by asset_id
), decided as (
    select asset_id, max(_v) as v, arg_max(metric is null, _v) as by_hand from decisions__v
    where product = $product and verdict <> 'conflict' group by asset_id
)
select asset_id, j.v > coalesce(d.v, 0) as open, d.by_hand
from judged j full join decided d using (asset_id)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where an asset stands before a decision.

    Args:
        recipe, version_id: in force; None when nobody is.
        open: it was judged after the last decision, or never decided upon.
        by_hand: the last decision was a person's.
    """

    recipe: str | None = None
    version_id: str | None = None
    open: bool = False
    by_hand: bool = False

    @property
    def settled_by_hand(self) -> bool:
        """A person decided, and nothing has been learnt since."""
        return self.by_hand and not self.open


def standings(snapshot: Snapshot, product: str) -> dict[str, Standing]:
    """By asset where it stands with a product; an asset without a champion, a judgement or a decision is left out."""
    champions = {row["asset_id"]: row for row in snapshot.sql(IN_FORCE, {"product": product}).rows()}
    rows = snapshot.sql(STANDING, {"product": product}).rows()
    decided = {row["asset_id"]: row for row in rows}
    found = {}
    for asset_id in champions.keys() | decided.keys():
        champion, decision = champions.get(asset_id, {}), decided.get(asset_id, {})
        found[asset_id] = Standing(
            recipe=champion.get("recipe"),
            version_id=champion.get("version_id"),
            open=bool(decision.get("open")),
            by_hand=bool(decision.get("by_hand")),
        )
    return found


def champion_row(asset_id: str, product: str, recipe: str, version_id: str, now: datetime) -> dict[str, Any]:
    """The row that puts a version in force."""
    return {"asset_id": asset_id, "product": product, "recipe": recipe, "version_id": version_id, "since": now}


def promote_by_hand(
    driver: Driver, products: Sequence[Population], ledger: Ledger, *, recipe: str, reason: str, actor: str
) -> Report:
    """Put the newest version of `recipe` in force for every asset of a selection."""
    snapshot = driver.store.snapshot()
    for people in products:
        rows = snapshot.sql(NEWEST, {"recipe": recipe, "product": people.product}).rows()
        newest = {row["asset_id"]: row for row in rows}
        missing = f"has no version of {recipe}; `tsfleet train --recipes {recipe} --no-judge` fits one"
        _moved(driver, snapshot, people, ledger, newest, missing, verdict="promoted", reason=reason, actor=actor)
    return ledger.close()


def roll_back(
    driver: Driver,
    products: Sequence[Population],
    ledger: Ledger,
    *,
    to: str | None,
    since: datetime | int | None,
    reason: str,
    actor: str,
) -> Report:
    """Put an earlier version in force for every asset of a selection: the one before, unless told which.

    Args:
        to: a version's id.
        since: undo what came in force after this instant, or after this snapshot.
    """
    if isinstance(since, datetime) and since.tzinfo is None:
        raise ConfigInvalid(f"{since} has no zone", hint="write it as 2024-06-10T00:00Z")
    snapshot = driver.store.snapshot()
    for people in products:
        product = people.product
        if isinstance(since, datetime):
            earlier = snapshot.sql(AT, {"moment": since, "product": product}).rows()
            missing = "had no champion then"
        elif since is not None:
            earlier = driver.store.at(since).sql(IN_FORCE, {"product": product}).rows()
            missing = "had no champion then"
        elif to is not None:
            earlier = snapshot.sql(VERSION, {"version": to}).rows()
            missing = f"has no version {to}"
        else:
            earlier = snapshot.sql(BEFORE, {"product": product}).rows()
            missing = "has had no champion before the present one"
        wanted = {row["asset_id"]: row for row in earlier}
        _moved(driver, snapshot, people, ledger, wanted, missing, verdict="rolled_back", reason=reason, actor=actor)
    return ledger.close()


def owner_of(snapshot: Snapshot, version_id: str) -> tuple[str, str]:
    """The asset and the product that a version was trained for."""
    rows = snapshot.sql(VERSION, {"version": version_id}).rows()
    if not rows:
        hint = 'tsfleet sql "select version_id, asset_id, product, recipe from versions" lists them'
        raise NotFound(f"there is no version {version_id!r}", hint=hint)
    return str(rows[0]["asset_id"]), str(rows[0]["product"])


def _moved(
    driver: Driver,
    snapshot: Snapshot,
    people: Population,
    ledger: Ledger,
    wanted: Mapping[str, Mapping[str, Any]],
    missing: str,
    *,
    verdict: str,
    reason: str,
    actor: str,
) -> None:
    """Have each member's wanted version come in force; one outcome per asset."""
    now, product = driver.clock.now(), people.product
    held = {row["asset_id"]: row for row in snapshot.sql(IN_FORCE, {"product": product}).rows()}
    for member in people.members:
        asset_id, row, holder = member.asset_id, wanted.get(member.asset_id), held.get(member.asset_id)
        if row is None:
            failure = failure_of(NoData(f"{asset_id} {missing}"))
            ledger.record(Outcome(asset_id=asset_id, product=product, status="failed", failure=failure))
            continue
        outcome = Outcome(asset_id=asset_id, product=product, status="ok", recipe=row["recipe"])
        if holder is not None and holder["version_id"] == row["version_id"]:
            ledger.record(replace(outcome, status="skipped"))
            continue
        ledger.move(
            Move(
                champion=champion_row(asset_id, product, row["recipe"], row["version_id"], now),
                expected=holder["version_id"] if holder else None,
                decision={
                    "asset_id": asset_id,
                    "product": product,
                    "decided_at": now,
                    "champion": holder["recipe"] if holder else None,
                    "challenger": row["recipe"],
                    "verdict": verdict,
                    "reason": reason,
                    "actor": actor,
                },
                outcome=outcome,
            )
        )
