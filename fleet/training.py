"""The verb `train`: judge what is not judged yet, decide who is in charge, fit it on the newest window, put it there.

Each chunk of assets is one commit: the fitted versions with their champions and decisions, each champion compared with
the one the decision saw. A kill anywhere costs the chunks in hand: the next run goes on with what no commit holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from fleet.backtest import Due, candidates, judge
from fleet.champions import Standing, champion_row, standings
from fleet.comparison import compared, measured
from fleet.driver import Driver, due_item
from fleet.due import failing
from fleet.errors import NoData
from fleet.fingerprints import Fingerprints
from fleet.fitting import fit_chunk, pickle_mark, signed
from fleet.judging import Finished, lost
from fleet.ledger import Ledger, Move, last_failures
from fleet.metrics import loss, parse
from fleet.outcome import Failed, Outcome, Report, Status, failure_of
from fleet.plan import Item, Recipe
from fleet.population import Loaded, Member, Population
from fleet.promotion import Candidate, Decision, decide
from fleet.recipes import with_code
from fleet.scaling import Scales

if TYPE_CHECKING:
    from store.reading import Snapshot

# The newest fit of each recipe; what an older one rested on is not what the newest rests on. A pickle that cannot be
# opened here is none: it was made by another Python, or signed with another key.
TRAINED = """
select asset_id, recipe, arg_max(fingerprint, run_id) as fingerprint, arg_max(version_id, run_id) as version_id
from (select r.asset_id, r.recipe, r.fingerprint, r.run_id, v.version_id from runs r
      join versions v on v.run_id = r.run_id where r.kind = 'train' and r.status = 'ok' and r.product = $product
      and (v.codec <> 'cloudpickle' or json_extract_string(r.tags, '$.pickle') = $openable))
group by asset_id, recipe
"""
NOBODY = Standing()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `train` means to do with one asset, before any fit.

    Args:
        chosen: the recipe in charge from now on; None when none could be judged, or none is to be chosen.
        recipes: what is fitted, the chosen one first.
        standing: where the asset stood when this was planned.
        decision: None where none is to be taken.
        blamed: why nothing could be judged.
    """

    chosen: str | None
    recipes: tuple[str, ...]
    standing: Standing = NOBODY
    decision: Decision | None = None
    blamed: Failed | None = None


def train(
    driver: Driver,
    products: Sequence[Population],
    ledger: Ledger,
    *,
    recipes: Mapping[str, Recipe],
    judging: bool,
    promote: bool,
    force: bool,
) -> Report:
    """Judge, decide, fit and promote; one outcome per asset and product.

    Args:
        products: the assets of each.
        recipes: candidates by name.
        judging: False fits every candidate as it is, without a backtest or a decision.
        promote: False leaves champions and decisions alone.
        force: judge and fit again whatever is there.
    """
    for people in products:
        mine = candidates(people, recipes)
        _train(driver, people, ledger, recipes=mine, judging=judging, promote=promote, force=force)
        if driver.interrupt.asked():
            break
    return ledger.close(interrupted=driver.interrupt.asked())


def _train(
    driver: Driver,
    people: Population,
    ledger: Ledger,
    *,
    recipes: Mapping[str, Recipe],
    judging: bool,
    promote: bool,
    force: bool,
) -> None:
    judged: dict[str, dict[str, Failed]] = {}
    if judging:
        judged = judge(driver, driver.store.snapshot(), people, ledger, recipes=recipes, force=force, tell=False)
        ledger.commit()
        if driver.interrupt.asked():
            return
    snapshot = driver.store.snapshot()
    if judging:
        plans = planned(driver, snapshot, people, recipes, judged)
    else:
        plans = {member.asset_id: fit_all(member, recipes) for member in people.members}
    for asset_id, failures in judged.items():
        for recipe, failed in failures.items():
            if plans[asset_id].chosen is not None:
                ledger.blame(asset_id, recipe, failed)
    settling = _Settling(
        product=people.product,
        plans=plans,
        ledger=ledger,
        promote=promote and judging,
        now=driver.clock.now(),
        news=frozenset(judged) | failing(snapshot, "train", people.product, jobs=driver.config.jobs_of("train")),
    )
    _fit(driver, snapshot, people, settling, force=force)


def fit_all(member: Member, recipes: Mapping[str, Recipe]) -> Plan:
    """Every recipe of an asset, and nothing decided."""
    return Plan(chosen=None, recipes=tuple(name for name in member.config.recipes if name in recipes))


def planned(
    driver: Driver,
    snapshot: Snapshot,
    people: Population,
    recipes: Mapping[str, Recipe],
    judged: Mapping[str, Mapping[str, Failed]],
) -> dict[str, Plan]:
    """The decision over every asset, from what its recipes did on the points they have in common.

    Args:
        judged: by asset judged a moment ago, the recipes that failed on it.
    """
    standing = standings(snapshot, people.product)
    figures = _figures(driver, snapshot, people, recipes, standing)
    before = last_failures(snapshot, people.product)
    chains = {member.config.train.fallback for member in people.members}
    learning = {chain: [name for name in chain if driver.recipe(name).learns] for chain in chains}
    plans = {}
    for member in people.members:
        asset_id, learners = member.asset_id, learning[member.config.train.fallback]
        stands = standing.get(asset_id, NOBODY)
        if stands.settled_by_hand:
            plans[asset_id] = Plan(chosen=stands.recipe, recipes=tuple(learners), standing=stands)
            continue
        candidates = [c for c in figures.get(asset_id, ()) if c.recipe in member.config.recipes]
        decision = decide(
            candidates,
            champion=stands.recipe,
            margin=member.config.promotion.margin,
            min_points=member.config.promotion.min_points,
        )
        failures = judged.get(asset_id, {})
        chosen = decision.chosen if decision.chosen in {*recipes, *(c.recipe for c in candidates)} else None
        plans[asset_id] = Plan(
            chosen=chosen,
            recipes=tuple(dict.fromkeys([*([chosen] if chosen else []), *learners])),
            standing=stands,
            decision=decision,
            blamed=next(iter(failures.values()), before.get(asset_id)) if chosen is None else None,
        )
    return plans


def _figures(
    driver: Driver,
    snapshot: Snapshot,
    people: Population,
    recipes: Mapping[str, Recipe],
    standing: Mapping[str, Standing],
) -> dict[str, list[Candidate]]:
    """By asset its candidates; a champion is one of them although only others were named."""
    groups: dict[tuple[str, str], dict[str, str]] = {}
    for member in people.members:
        holder = standing.get(member.asset_id, NOBODY).recipe or ""
        extra = holder if holder in driver.config.recipes and holder not in recipes else ""
        group = groups.setdefault((member.config.promotion.metric, extra), {})
        group[member.asset_id] = member.config.timezone
    figures: dict[str, list[Candidate]] = {}
    for (name, extra), assets in groups.items():
        metric, names = parse(name), [*recipes, *([extra] if extra else [])]
        product = people.product
        sums = compared(snapshot, role="backtest", recipes=names, product=product, assets=assets, across="asset")
        errors = loss(metric, measured(snapshot, sums, metric, product=product))
        for asset_id, recipe, error, points, foresight in zip(
            sums.asset, sums.recipe, errors, sums.columns["n"], sums.foresight, strict=True
        ):
            figures.setdefault(asset_id, []).append(
                Candidate(recipe=recipe, error=float(error), points=int(points), foresight=bool(foresight))
            )
    return figures


def unfitted(
    snapshot: Snapshot,
    people: Population,
    recipes: Mapping[str, Recipe],
    plans: Mapping[str, Plan],
    versions: dict[tuple[str, str], str | Failed],
    *,
    openable: str,
    force: bool,
) -> Callable[[Loaded], Due]:
    """For a batch, what tells a member's planned recipes that are due to be fitted, with their fingerprints.

    Args:
        versions: told of the versions there are already, by (asset, recipe).
        openable: the mark of the pickles that can be opened here.
    """
    asked = {"openable": openable, "product": people.product}
    trained = () if force else snapshot.sql(TRAINED, asked).rows()
    known = {row["fingerprint"]: row["version_id"] for row in trained}

    def of_batch(loaded: Loaded) -> Due:
        prints = Fingerprints(loaded, people, "train")

        def due(member: Member) -> Mapping[str, str]:
            asset_id = member.asset_id
            marks = prints.of(member, {name: recipes[name] for name in plans[asset_id].recipes})
            versions.update({(asset_id, name): known[mark] for name, mark in marks.items() if mark in known})
            return {name: mark for name, mark in marks.items() if mark not in known}

        return due

    return of_batch


def _fit(driver: Driver, snapshot: Snapshot, people: Population, settling: _Settling, *, force: bool) -> None:
    """Fit what is due, and settle every asset whose turn comes."""
    ledger, versions = settling.ledger, settling.versions
    wanted = {name for plan in settling.plans.values() for name in plan.recipes}
    recipes, code = with_code({name: driver.recipe(name) for name in sorted(wanted)}, driver.keyring.sign)
    ledger.enclose(code)
    if code and (reason := driver.keyring.trouble()):
        ledger.note(f"what is stored of your code has no signature: {reason}")
    openable = pickle_mark(driver.keyring)
    of_batch = unfitted(snapshot, people, recipes, settling.plans, versions, openable=openable, force=force)
    scales = Scales(snapshot, people, "train")

    def plan(loaded: Loaded) -> Callable[[Member], Item | None]:
        due = of_batch(loaded)

        def item(member: Member) -> Item | None:
            found = due(member)
            if found:
                return due_item(loaded, member, found)
            settling.settle(member, {}, 0.0, "ok" if member.asset_id in settling.news else "skipped")
            ledger.add(scales.renewed(loaded, member))
            return None

        return item

    members = {member.asset_id: member for member in people.members}
    ledger.begin("fitting", people)
    for chunk, done in driver.run(fit_chunk, snapshot, people, plan, recipes, partial(lost, "train")):
        finished = signed(done, driver.keyring)
        failures: dict[str, dict[str, Failed]] = {item.asset.asset_id: {} for item in chunk}
        for asset_id, recipe, failed in finished.failures:
            failures[asset_id][recipe] = failed
            versions[asset_id, recipe] = failed
        versions.update(_versions(finished))
        for asset_id, mine in failures.items():
            settling.settle(members[asset_id], mine, finished.seconds.get(asset_id, 0.0), "ok")
        ledger.add(finished)


def _versions(finished: Finished) -> Iterator[tuple[tuple[str, str], str]]:
    table = finished.tables.get("versions")
    if table is not None:
        columns = (table[name].to_pylist() for name in ("asset_id", "recipe", "version_id"))
        for asset_id, recipe, version_id in zip(*columns, strict=True):
            yield (asset_id, recipe), version_id


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settling:
    """What becomes of an asset when its fits are done: its outcome, its champion, the decision written down.

    Args:
        promote: whether champions and decisions are touched at all.
        now: when the decisions were taken.
        news: assets about which there is something to say although nothing was fitted: they were judged a moment
            ago, or failed the last time.
        versions: by (asset, recipe) the newest version of all that is planned, or why there is none.
    """

    product: str
    plans: Mapping[str, Plan]
    ledger: Ledger
    promote: bool
    now: datetime
    news: frozenset[str]
    versions: dict[tuple[str, str], str | Failed] = field(default_factory=dict)

    def settle(self, member: Member, failed: Mapping[str, Failed], seconds: float, otherwise: Status) -> None:
        """Write an asset's end into the ledger.

        Args:
            failed: its fits that failed, by recipe.
            otherwise: its status where nothing is wrong and nobody moves.
        """
        plan = self.plans[member.asset_id]
        outcome = replace(_outcome(member.asset_id, plan, failed, seconds, otherwise), product=self.product)
        for recipe, failure in failed.items():
            if failure is not outcome.failure:
                self.ledger.blame(member.asset_id, recipe, failure)
        if not self.promote or plan.decision is None:
            self.ledger.record(outcome)
            return
        version = self.versions.get((member.asset_id, plan.chosen or ""))
        decision = _decision_row(member, plan.decision, self.now)
        if isinstance(version, str) and version != plan.standing.version_id:
            self._move(member.asset_id, plan, version, decision, seconds)
            return
        if isinstance(version, Failed):
            decision |= {"verdict": "not_fitted", "reason": f"{plan.chosen} could not be fitted: {version.error}"}
        if plan.standing.open:
            self.ledger.decide(decision)
        if plan.standing.open and outcome.status == "skipped":
            outcome = replace(outcome, status="ok")
        self.ledger.record(outcome)

    def _move(self, asset_id: str, plan: Plan, version: str, decision: Mapping[str, Any], seconds: float) -> None:
        assert plan.chosen is not None
        self.ledger.move(
            Move(
                champion=champion_row(asset_id, self.product, plan.chosen, version, self.now),
                expected=plan.standing.version_id,
                decision=decision,
                outcome=Outcome(
                    asset_id=asset_id, product=self.product, status="ok", recipe=plan.chosen, duration_s=seconds
                ),
            )
        )


def _outcome(asset_id: str, plan: Plan, failed: Mapping[str, Failed], seconds: float, otherwise: Status) -> Outcome:
    """A failed fit of the chosen recipe is a failure; an asset that nothing could judge is left to its fallbacks."""
    if plan.decision is not None and plan.chosen is None:
        blamed = plan.blamed or failure_of(NoData("no recipe could be judged on this asset"))
        return Outcome(asset_id=asset_id, status="fell_back", failure=blamed, duration_s=seconds)
    recipe, failure = plan.chosen, failed.get(plan.chosen or "")
    if plan.chosen is None:
        recipe, failure = next(iter(failed.items()), (None, None))
    status = "failed" if failure else otherwise
    return Outcome(asset_id=asset_id, status=status, recipe=recipe, failure=failure, duration_s=seconds)


def _decision_row(member: Member, decision: Decision, now: datetime) -> dict[str, Any]:
    return {
        "asset_id": member.asset_id,
        "product": member.config.product,
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
