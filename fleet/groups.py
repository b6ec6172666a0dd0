"""Which assets a global recipe learns from together, and what of that is due.

A group has one rule, one step and one value of the fact that the recipe names (all assets where it names none), and is
drawn from the whole fleet, whatever was selected: who asks for one asset gets the model that all of them would get. No
model may know more than an issue that it serves, so what a group learns it learns at the earliest of its assets'
issues; one whose data ended more than a day (or a horizon) before the newest is in a group of its own kind.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fleet.driver import Batch, Driver, Lost, Work
from fleet.fingerprints import Fingerprints, Kind
from fleet.judging import Finished, issues_of
from fleet.outcome import Failed
from fleet.plan import Group, Item, Recipe, Settings
from fleet.population import BATCH_ROWS, Loaded, Member, Population, load, populations
from fleet.recipes import short_hash

if TYPE_CHECKING:
    from store.reading import Snapshot

DAY_US = 86_400_000_000

Marks = Mapping[str, str]
"""By asset the fingerprint of its run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circle:
    """The members of a group and the recipe that learns from them.

    Args:
        wanted: those of them that it is to be fitted or judged for.
    """

    recipe: Recipe
    members: tuple[Member, ...]
    wanted: frozenset[str]

    @property
    def rows(self) -> int:
        """Of actuals that it takes to learn from."""
        return sum(member.rows for member in self.members)

    def marks(self, loaded: Loaded, people: Population, kind: Kind) -> Marks:
        """The fingerprints of those that are wanted; each depends on the data of all."""
        prints = Fingerprints(loaded, people, kind)
        own = {m.asset_id: prints.of(m, {self.recipe.name: self.recipe})[self.recipe.name] for m in self.members}
        shared = short_hash("\x1f".join(own.values()))
        return {name: short_hash(f"{mark}|{shared}") for name, mark in own.items() if name in self.wanted}

    def group(self, loaded: Loaded, due: Marks) -> Group:
        """What a worker is given, for those that are due."""
        name = self.recipe.name
        items = (
            Item(
                asset=loaded.assets[member.asset_id],
                settings=member.settings,
                recipes=(name,) if member.asset_id in due else (),
                fingerprints=(due[member.asset_id],) if member.asset_id in due else (),
            )
            for member in self.members
        )
        return Group(recipe=name, items=tuple(items))


Due = Callable[[Circle, Loaded, Marks], Marks]
"""Of the fingerprints of those that want a group's model those that have to be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circles:
    """The groups of a verb, drawn from the whole fleet.

    Args:
        people: all assets of the product.
        kind: what the groups are for.
    """

    people: Population
    circles: tuple[Circle, ...]
    kind: Kind

    def batches(self) -> Iterator[tuple[tuple[Member, ...], tuple[Circle, ...]]]:
        """Groups whose rows are read together, with their members in order."""
        batch: list[Circle] = []
        size = 0
        for circle in self.circles:
            if batch and size + circle.rows > BATCH_ROWS:
                yield _members(batch), tuple(batch)
                batch, size = [], 0
            batch.append(circle)
            size += circle.rows
        if batch:
            yield _members(batch), tuple(batch)

    def run(
        self,
        driver: Driver,
        snapshot: Snapshot,
        work: Work[Group],
        recipes: Mapping[str, Recipe],
        lost: Lost[Group],
        due: Due,
    ) -> Iterator[tuple[list[Item], Finished]]:
        """Work on the groups of which something is due; yield what was wanted with its rows, in any order.

        Args:
            recipes: those of the groups, among others.
        """

        def made_of(batch: tuple[tuple[Member, ...], tuple[Circle, ...]]) -> Batch[Group]:
            def lots(loaded: Loaded) -> Iterator[Group | None]:
                for circle in batch[1]:
                    found = due(circle, loaded, circle.marks(loaded, self.people, self.kind))
                    yield circle.group(loaded, found) if found else None

            return batch[0], lots

        named = {circle.recipe.name: recipes[circle.recipe.name] for circle in self.circles}
        lots = map(made_of, self.batches())
        for chunk, finished in driver.run_groups(work, snapshot, self.people, lots, named, lost) if named else ():
            yield [item for group in chunk for item in group.wanted], finished

    def rehearsed(self, driver: Driver, snapshot: Snapshot, known: Container[str]) -> Iterator[tuple[str, str]]:
        """The assets and recipes that `run` would work on, when what these fingerprints stand for is there."""
        with_covariates = any(circle.recipe.sees_any for circle in self.circles)
        for members, circles in self.batches():
            loaded = load(snapshot, driver.config, members, folder=None, with_covariates=with_covariates)
            for circle in circles:
                for asset_id in new_of(circle.marks(loaded, self.people, self.kind), known):
                    yield asset_id, circle.recipe.name


@dataclass(slots=True)
class Done:
    """What became of the assets that a global model was wanted for: by asset what failed, and the seconds."""

    failures: dict[str, dict[str, Failed]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def take(self, items: Sequence[Item], finished: Finished) -> None:
        """The rows of groups that are through."""
        for item in items:
            self.failures.setdefault(item.asset.asset_id, {})
        for asset_id, recipe, failed in finished.failures:
            self.failures[asset_id][recipe] = failed
        for asset_id, seconds in finished.seconds.items():
            self.seconds[asset_id] = self.seconds.get(asset_id, 0.0) + seconds

    def and_these(self, seconds: Mapping[str, float]) -> dict[str, float]:
        """The seconds of assets together with what else was done for them."""
        return {asset_id: more + self.seconds.get(asset_id, 0.0) for asset_id, more in seconds.items()}


def new_of(marks: Marks, known: Container[str]) -> Marks:
    """The fingerprints that nothing is known of.

    >>> new_of({"a": "1", "b": "2"}, {"1"})
    {'b': '2'}
    """
    return {asset_id: mark for asset_id, mark in marks.items() if mark not in known}


def apart(
    people: Population, recipes_of: Callable[[Member], Iterable[Recipe]]
) -> tuple[Population, tuple[Member, ...]]:
    """The assets that also want a recipe by itself, or none at all, and those that want global ones alone."""
    wanting = {member.asset_id: [recipe.together for recipe in recipes_of(member)] for member in people.members}
    alone = tuple(m for m in people.members if wanting[m.asset_id] and all(wanting[m.asset_id]))
    left = {member.asset_id for member in alone}
    return replace(people, members=tuple(m for m in people.members if m.asset_id not in left)), alone


def _members(circles: Sequence[Circle]) -> tuple[Member, ...]:
    found = {member.asset_id: member for circle in circles for member in circle.members}
    return tuple(found[asset_id] for asset_id in sorted(found))


def circles_of(
    driver: Driver,
    snapshot: Snapshot,
    people: Population,
    recipes: Mapping[str, Recipe],
    wanted: Mapping[str, frozenset[str]],
    kind: Kind,
) -> Circles:
    """The groups of the global ones of these recipes; none where no asset wants one.

    Args:
        wanted: by recipe the assets that it is to be fitted or judged for.
    """
    named = [recipes[name] for name, assets in wanted.items() if assets and recipes[name].together]
    if not named:
        return Circles(people=people, circles=(), kind=kind)
    (whole,) = populations(snapshot, driver.config, [people.product], select=(), where=None)
    found = []
    for recipe in named:
        for members in _groups(whole, recipe, kind):
            mine = wanted[recipe.name] & {member.asset_id for member in members}
            if mine:
                found.append(Circle(recipe=recipe, members=members, wanted=mine))
    return Circles(people=whole, circles=tuple(found), kind=kind)


def _groups(whole: Population, recipe: Recipe, kind: Kind) -> Iterator[tuple[Member, ...]]:
    """The assets that may have a recipe, by what they have to share."""
    fact = getattr(recipe.forecaster, "group", None)
    rules = [replace(settings, tz="") for settings in whole.settings]
    alike: dict[tuple[Settings, object], list[Member]] = {}
    for member in whole.members:
        if recipe.name in member.config.recipes:
            key = rules[member.settings], member.static.get(fact) if fact else None
            alike.setdefault(key, []).append(member)
    for members in alike.values():
        yield from _by_end(members, whole.settings, kind)


def _by_end(members: Sequence[Member], settings: Sequence[Settings], kind: Kind) -> Iterator[tuple[Member, ...]]:
    """Members whose first issues lie within a day or a horizon of each other; those without one are with the newest."""
    issues = {member.asset_id: _first_issue(member, settings[member.settings], kind) for member in members}
    left = list(members)
    while left:
        newest = max((at for member in left if (at := issues[member.asset_id]) is not None), default=None)
        if newest is None:
            yield tuple(left)
            return
        target = settings[left[0].settings].target(newest, None).asi8
        earliest = newest - max(DAY_US, int(target[-1] - target[0]))
        near = [m for m in left if (at := issues[m.asset_id]) is None or at > earliest]
        yield tuple(near)
        chosen = {member.asset_id for member in near}
        left = [member for member in left if member.asset_id not in chosen]


def _first_issue(member: Member, settings: Settings, kind: Kind) -> int | None:
    """UTC microseconds; None where an asset has none."""
    if member.data_end is None:
        return None
    if kind == "train":
        return settings.fit_issue(member.data_end)
    return next(iter(issues_of(member.data_end, settings)), None)
