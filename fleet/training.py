"""The verb `train`: judge what is not judged yet, decide who is in charge, fit it on the newest window, put it there.

Two commits carry it: the fitted versions in chunks, then champions and decisions together, each champion compared
with the one the decision saw. A kill in between costs nothing: the next run finds the versions by their fingerprints
and goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from fleet.backtest import judge
from fleet.comparison import compared, measured
from fleet.driver import Driver, due_item
from fleet.errors import NoData
from fleet.fingerprints import Fingerprints
from fleet.fitting import fit_chunk
from fleet.judging import Finished, lost
from fleet.ledger import Ledger, last_failures
from fleet.metrics import loss, parse
from fleet.outcome import Failed, Outcome, Report, failure_of
from fleet.plan import Item, Recipe
from fleet.population import Loaded, Member, Population
from fleet.promotion import Candidate, Decision, decide

if TYPE_CHECKING:
    from store.reading import Snapshot

TRAINED = """
select r.asset_id, r.recipe, r.fingerprint, max(v.version_id) as version_id
from runs r join versions v on v.run_id = r.run_id
where r.kind = 'train' and r.status = 'ok' group by r.asset_id, r.recipe, r.fingerprint
"""
NEWEST = """
select asset_id, max(version_id) as version_id from versions
where recipe = $recipe and product = 'default' group by asset_id
"""
CHAMPIONS = "select asset_id, recipe, version_id from champions where product = $product"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `train` means to do with one asset, before any fit.

    Args:
        chosen: the recipe in charge from now on; None when none could be judged.
        recipes: what is fitted, the chosen one first.
        blamed: why nothing could be judged.
    """

    chosen: str | None
    recipes: tuple[str, ...]
    decision: Decision | None = None
    blamed: Failed | None = None


def train(
    driver: Driver,
    people: Population,
    ledger: Ledger,
    *,
    recipes: Mapping[str, Recipe],
    judging: bool,
    promote: bool,
    force: bool,
) -> Report:
    """Judge, decide, fit and promote; one outcome per asset.

    Args:
        recipes: candidates by name.
        judging: False fits every candidate as it is, without a backtest or a decision.
        promote: False leaves champions and decisions alone.
        force: judge and fit again whatever is there.
    """
    judged: dict[str, dict[str, Failed]] = {}
    if judging:
        judged = judge(driver, driver.store.snapshot(), people, ledger, recipes=recipes, force=force, tell=False)
        ledger.commit()
        if driver.interrupt.asked():
            return ledger.close(interrupted=True)
    snapshot = driver.store.snapshot()
    champions = {row["asset_id"]: row for row in snapshot.sql(CHAMPIONS, {"product": "default"}).rows()}
    if judging:
        plans = decided(driver, snapshot, people, recipes, champions, judged)
    else:
        plans = {member.asset_id: _fit_all(member, recipes) for member in people.members}
    wanted = {name for plan in plans.values() for name in plan.recipes}
    ready = {name: driver.recipe(name) for name in sorted(wanted)}
    versions = _fit(driver, snapshot, people, ledger, plans, ready, judged=judged, force=force)
    ledger.commit()
    for asset_id, failures in judged.items():
        for recipe, failed in failures.items():
            if plans[asset_id].chosen is not None:
                ledger.blame(asset_id, recipe, failed)
    if promote and judging:
        _promote(driver, people, ledger, plans, champions, versions, judged)
    return ledger.close(interrupted=driver.interrupt.asked())


def decided(
    driver: Driver,
    snapshot: Snapshot,
    people: Population,
    recipes: Mapping[str, Recipe],
    champions: Mapping[str, Mapping[str, Any]],
    judged: Mapping[str, Mapping[str, Failed]],
) -> dict[str, Plan]:
    """The decision over every asset, from what its recipes did on the points they have in common."""
    figures = _figures(driver, snapshot, people, recipes, champions)
    before = last_failures(snapshot)
    chains = {member.config.train.fallback for member in people.members}
    learning = {chain: [name for name in chain if driver.recipe(name).learns] for chain in chains}
    plans = {}
    for member in people.members:
        holder = champions.get(member.asset_id)
        candidates = [c for c in figures.get(member.asset_id, ()) if c.recipe in member.config.recipes]
        decision = decide(
            candidates,
            champion=holder["recipe"] if holder else None,
            margin=member.config.promotion.margin,
            min_points=member.config.promotion.min_points,
        )
        failures = judged.get(member.asset_id, {})
        chosen = decision.chosen if decision.chosen in {*recipes, *(c.recipe for c in candidates)} else None
        plans[member.asset_id] = Plan(
            chosen=chosen,
            recipes=tuple(dict.fromkeys([*([chosen] if chosen else []), *learning[member.config.train.fallback]])),
            decision=decision,
            blamed=next(iter(failures.values()), before.get(member.asset_id)) if chosen is None else None,
        )
    return plans


def _figures(
    driver: Driver,
    snapshot: Snapshot,
    people: Population,
    recipes: Mapping[str, Recipe],
    champions: Mapping[str, Mapping[str, Any]],
) -> dict[str, list[Candidate]]:
    """By asset its candidates; a champion is one of them although only others were named."""
    groups: dict[tuple[str, str], dict[str, str]] = {}
    for member in people.members:
        holder = champions[member.asset_id]["recipe"] if member.asset_id in champions else ""
        extra = holder if holder in driver.config.recipes and holder not in recipes else ""
        group = groups.setdefault((member.config.promotion.metric, extra), {})
        group[member.asset_id] = member.config.timezone
    figures: dict[str, list[Candidate]] = {}
    for (name, extra), assets in groups.items():
        metric, names = parse(name), [*recipes, *([extra] if extra else [])]
        sums = compared(snapshot, role="backtest", recipes=names, assets=assets, across="asset")
        errors = loss(metric, measured(snapshot, sums, metric))
        for asset_id, recipe, error, points, foresight in zip(
            sums.asset, sums.recipe, errors, sums.columns["n"], sums.foresight, strict=True
        ):
            figures.setdefault(asset_id, []).append(
                Candidate(recipe=recipe, error=float(error), points=int(points), foresight=bool(foresight))
            )
    return figures


def _fit_all(member: Member, recipes: Mapping[str, Recipe]) -> Plan:
    return Plan(chosen=None, recipes=tuple(name for name in member.config.recipes if name in recipes))


def _fit(
    driver: Driver,
    snapshot: Snapshot,
    people: Population,
    ledger: Ledger,
    plans: Mapping[str, Plan],
    recipes: Mapping[str, Recipe],
    *,
    judged: Mapping[str, Mapping[str, Failed]],
    force: bool,
) -> dict[tuple[str, str], str | Failed]:
    """Fit what is due; by (asset, recipe) the newest version of all that is planned, or why there is none."""
    known = {} if force else {row["fingerprint"]: row["version_id"] for row in snapshot.sql(TRAINED).rows()}
    versions: dict[tuple[str, str], str | Failed] = {}

    def plan(loaded: Loaded) -> Callable[[Member], Item | None]:
        prints = Fingerprints(loaded, people, "train")

        def item(member: Member) -> Item | None:
            marks = {name: prints.of(member, recipes[name]) for name in plans[member.asset_id].recipes}
            versions.update({(member.asset_id, name): known[mark] for name, mark in marks.items() if mark in known})
            due = {name: mark for name, mark in marks.items() if mark not in known}
            if due:
                return due_item(loaded, member, due)
            new = member.asset_id in judged
            ledger.add(None, [_outcome(member.asset_id, plans[member.asset_id], {}, 0.0, "ok" if new else "skipped")])
            return None

        return item

    for chunk, finished in driver.run(fit_chunk, snapshot, people, plan, recipes, partial(lost, "train")):
        failures: dict[str, dict[str, Failed]] = {item.asset.asset_id: {} for item in chunk}
        for asset_id, recipe, failed in finished.failures:
            failures[asset_id][recipe] = failed
            versions[asset_id, recipe] = failed
        versions.update(_versions(finished))
        ledger.add(
            finished,
            [
                _outcome(asset_id, plans[asset_id], failed, finished.seconds.get(asset_id, 0.0), "ok")
                for asset_id, failed in failures.items()
            ],
        )
    return versions


def _versions(finished: Finished) -> Iterator[tuple[tuple[str, str], str]]:
    table = finished.tables.get("versions")
    if table is not None:
        columns = (table[name].to_pylist() for name in ("asset_id", "recipe", "version_id"))
        for asset_id, recipe, version_id in zip(*columns, strict=True):
            yield (asset_id, recipe), version_id


def _outcome(asset_id: str, plan: Plan, failed: Mapping[str, Failed], seconds: float, otherwise: str) -> Outcome:
    """A failed fit of the chosen recipe is a failure; an asset that nothing could judge is left to its fallbacks."""
    if plan.decision is None:
        recipe, failure = next(iter(failed.items()), (None, None))
    else:
        recipe, failure = plan.chosen, failed.get(plan.chosen or "")
    if plan.decision is not None and plan.chosen is None:
        blamed = plan.blamed or failure_of(NoData("no recipe could be judged on this asset"))
        return Outcome(asset_id=asset_id, status="fell_back", failure=blamed, duration_s=seconds)
    status = "failed" if failure else otherwise
    return Outcome(asset_id=asset_id, status=status, recipe=recipe, failure=failure, duration_s=seconds)  # type: ignore[arg-type]  # a Status


def _promote(
    driver: Driver,
    people: Population,
    ledger: Ledger,
    plans: Mapping[str, Plan],
    champions: Mapping[str, Mapping[str, Any]],
    versions: Mapping[tuple[str, str], str | Failed],
    judged: Mapping[str, object],
) -> None:
    """Put the fitted versions in charge and write down every decision that was taken anew."""
    now = driver.clock.now()
    rows: list[dict[str, Any]] = []
    expected: list[str | None] = []
    decisions: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    for member in people.members:
        plan = plans[member.asset_id]
        holder = champions.get(member.asset_id)
        version = versions.get((member.asset_id, plan.chosen or ""))
        if plan.chosen is not None and version is None:
            continue  # interrupted before its turn: the next run decides
        unfit = isinstance(version, Failed)
        moved = version is not None and not unfit and (holder is None or holder["version_id"] != version)
        if not moved and member.asset_id not in judged:
            continue
        decision = _decision_row(member, plan, now)
        if isinstance(version, Failed):
            decision |= {"verdict": "not_fitted", "reason": f"{plan.chosen} could not be fitted: {version.error}"}
        if not moved:
            others.append(decision)
            continue
        rows.append(
            {
                "asset_id": member.asset_id,
                "product": "default",
                "recipe": plan.chosen,
                "version_id": version,
                "since": now,
            }
        )
        expected.append(holder["version_id"] if holder else None)
        decisions.append(decision)
    if not rows and not others:
        return
    transaction = driver.store.begin(note=ledger.job)
    if rows:
        transaction.promote(rows, expected, decisions)
    if others:
        transaction.insert("decisions", others)
    done = transaction.commit()
    ledger.count(done.written)
    for conflict in done.conflicts:
        ledger.note(f"{conflict.asset_id}: another promotion came first; its champion stays")


def _decision_row(member: Member, plan: Plan, now: datetime) -> dict[str, Any]:
    decision = plan.decision
    assert decision is not None
    return {
        "asset_id": member.asset_id,
        "product": "default",
        "decided_at": now,
        "champion": decision.champion,
        "challenger": decision.challenger,
        "metric": member.config.promotion.metric,
        "champion_value": decision.champion_value,
        "challenger_value": decision.challenger_value,
        "margin": member.config.promotion.margin,
        "n": decision.points,
        "verdict": decision.verdict,
        "reason": decision.reason,
        "actor": "tsfleet",
    }


def promote_by_hand(
    driver: Driver, people: Population, ledger: Ledger, *, recipe: str, reason: str, actor: str
) -> Report:
    """Put the newest version of `recipe` in charge of every asset of a selection, and write down who said so."""
    snapshot = driver.store.snapshot()
    champions = {row["asset_id"]: row for row in snapshot.sql(CHAMPIONS, {"product": "default"}).rows()}
    newest = {
        row["asset_id"]: row["version_id"]
        for row in snapshot.sql(
            NEWEST,
            {"recipe": recipe},
        ).rows()
    }
    now = driver.clock.now()
    rows, expected, decisions = [], [], []
    outcomes: list[Outcome] = []
    for member in people.members:
        version, holder = newest.get(member.asset_id), champions.get(member.asset_id)
        if version is None:
            how = f"`tsfleet train --recipes {recipe} --no-judge` fits one"
            missing = failure_of(NoData(f"{member.asset_id} has no version of {recipe}; {how}"))
            outcomes.append(Outcome(asset_id=member.asset_id, status="failed", recipe=recipe, failure=missing))
            continue
        if holder is not None and holder["version_id"] == version:
            outcomes.append(Outcome(asset_id=member.asset_id, status="skipped", recipe=recipe))
            continue
        rows.append(
            {"asset_id": member.asset_id, "product": "default", "recipe": recipe, "version_id": version, "since": now}
        )
        expected.append(holder["version_id"] if holder else None)
        decisions.append(
            {
                "asset_id": member.asset_id,
                "product": "default",
                "decided_at": now,
                "champion": holder["recipe"] if holder else None,
                "challenger": recipe,
                "verdict": "promoted",
                "reason": reason,
                "actor": actor,
            }
        )
        outcomes.append(Outcome(asset_id=member.asset_id, status="ok", recipe=recipe))
    if rows:
        transaction = driver.store.begin(note=ledger.job)
        transaction.promote(rows, expected, decisions)
        done = transaction.commit()
        ledger.count(done.written)
        for conflict in done.conflicts:
            ledger.note(f"{conflict.asset_id}: another promotion came first; its champion stays")
    ledger.add(None, outcomes)
    return ledger.close()


__all__: Sequence[str] = ("promote_by_hand", "train")
