"""Drives a verb over a fleet: batches of assets into the engine, finished chunks into the ledger.

Workers compute, only the driver commits. Recipes that are pure NumPy run in this process; anything else in others,
started once per command.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from shutil import rmtree
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from fleet.config import FleetConfig
from fleet.engines import Engine, Mark, never
from fleet.engines.inline import Inline
from fleet.engines.retrying import Parts, Patience, seen_through
from fleet.interrupt import Interrupt
from fleet.judging import Finished
from fleet.keys import Keyring
from fleet.outcome import Failed, Show
from fleet.plan import Context, Group, Item, Recipe
from fleet.population import LIGHT_ROWS, Loaded, Member, Population, batches, load
from fleet.recipes import recipe_of
from fleet.scratch import scratch_folder
from fleet.sources import importable
from fleet.turn import Turn
from fleet.warming import warm, warmed
from store.clock import Clock
from store.ids import new_id

if TYPE_CHECKING:
    from store import Store
    from store.reading import Snapshot

Lot = TypeVar("Lot", Item, Group)
"""What an engine takes as one piece: an asset, or a group of them."""
Work = Callable[[Context, Sequence[Lot], Mark], Finished]
Lost = Callable[[Context, Lot, Failed], Finished]
Planned = Callable[[Loaded], Callable[[Member], Item | None]]
Batch = tuple[tuple[Member, ...], Callable[[Loaded], Iterable[Lot | None]]]
"""Members whose rows are in memory together, and what makes lots of them; None where nothing is due."""


@dataclass
class Driver:
    """What one command works with; a context manager that ends the workers and removes the scratch files.

    Args:
        workers: processes; None takes the configuration's, "auto" one per core.
        show: told of progress.
        job, slot: the ledger's name for what is done.
        turn: the run of a job that it is the work of, if it is.
        keyring: signs what only this user may have stored; by default there is no key.
    """

    store: Store
    config: FleetConfig
    clock: Clock
    show: Show | None
    job: str
    slot: datetime
    turn: Turn | None = None
    workers: int | None = None
    code_version: str = ""
    batch_id: str = field(default_factory=new_id)
    interrupt: Interrupt = field(default_factory=Interrupt)
    keyring: Keyring = field(default_factory=lambda: Keyring(None))

    def __post_init__(self) -> None:
        self._recipes: dict[str, Recipe] = {}
        self._pool: Engine | None = None
        self._scratch: Path | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._open.enter_context(self.interrupt)
        self._open.enter_context(importable(self.config.folder))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def recipe(self, name: str) -> Recipe:
        """A recipe of the configuration, or one that every fleet has for its fallbacks, ready to run."""
        if name not in self._recipes:
            self._recipes[name] = recipe_of(self.config.recipe(name), self.config.folder)
        return self._recipes[name]

    def run(
        self,
        work: Work[Item],
        snapshot: Snapshot,
        people: Population,
        plan: Planned,
        recipes: Mapping[str, Recipe],
        lost: Lost[Item],
        since: datetime | None = None,
        cut: Callable[[], bool] = never,
    ) -> Iterator[tuple[Sequence[Item], Finished]]:
        """Plan every member and run the items; yield chunks as they finish, in any order.

        Args:
            work: `judge_chunk`, `fit_chunk` or `issue_chunk`, perhaps with arguments bound.
            plan: for a batch, what makes a member's item, or None where nothing is due.
            recipes: those that items may name.
            lost: what to make of an item's part that its worker died of, or ran out of time with.
            since: leave out actuals that are older.
            cut: once true, work that is not done is dropped; its items are never yielded.
        """

        def made_of(batch: tuple[Member, ...]) -> Batch[Item]:
            return batch, lambda loaded: map(plan(loaded), batch)

        light = all(recipe.light for recipe in recipes.values())
        lots = map(made_of, batches(people.members, LIGHT_ROWS if light else None))
        yield from self._run(work, snapshot, people, lots, recipes, lost, Made(recipes), since, cut)

    def run_groups(
        self,
        work: Work[Group],
        snapshot: Snapshot,
        people: Population,
        lots: Iterable[Batch[Group]],
        recipes: Mapping[str, Recipe],
        lost: Lost[Group],
        since: datetime | None = None,
        cut: Callable[[], bool] = never,
    ) -> Iterator[tuple[Sequence[Group], Finished]]:
        """Run groups as `run` does items; a group has the time of all its assets.

        Args:
            work: `judge_groups`, `fit_groups` or `issue_groups`.
            people: whose settings the groups' items refer to.
        """
        yield from self._run(work, snapshot, people, lots, recipes, lost, Whole(), since, cut)

    def _run(
        self,
        work: Work[Lot],
        snapshot: Snapshot,
        people: Population,
        lots: Iterable[Batch[Lot]],
        recipes: Mapping[str, Recipe],
        lost: Lost[Lot],
        made: _Made[Lot],
        since: datetime | None,
        cut: Callable[[], bool],
    ) -> Iterator[tuple[Sequence[Lot], Finished]]:
        engine = self._engine(recipes.values(), work)
        inline = isinstance(engine, Inline)
        with_covariates = any(recipe.sees_any for recipe in recipes.values())
        for batch, lots_of in lots:
            with nullcontext() if inline else self._batch_folder() as home:
                loaded = load(snapshot, self.config, batch, folder=home, with_covariates=with_covariates, since=since)
                items: list[Lot] = []
                for item in lots_of(loaded):
                    if item is not None:
                        items.append(item)
                        engine.start(len(items))  # while the others are planned
                context = Context(
                    panel=loaded.panel,
                    covariates=loaded.covariates,
                    recipes=recipes,
                    settings=people.settings,
                    snapshot=snapshot.id,
                    batch_id=self.batch_id,
                    clock=self.clock,
                    code_version=self.code_version,
                    no_pickles=self._no_pickles(),
                )
                yield from self._worked(
                    engine, partial(work, context), recipes, items, made, partial(lost, context), cut
                )
                if cut():
                    self._drop(engine)
                    return
            if self.interrupt.asked():
                return

    def _drop(self, engine: Engine) -> None:
        """End workers with something in hand that nobody waits for any more."""
        if engine is self._pool:
            engine.close()
            self._pool = None

    def _worked(
        self,
        engine: Engine,
        work: Callable[[Sequence[Lot], Mark], Finished],
        recipes: Mapping[str, Recipe],
        items: Sequence[Lot],
        made: _Made[Lot],
        lost: Callable[[Lot, Failed], Finished],
        cut: Callable[[], bool],
    ) -> Iterator[tuple[Sequence[Lot], Finished]]:
        """Chunks as they finish, each item once; what was lost on the way is in the failures of its chunk."""
        train = self.config.train
        patience = Patience(
            timeout_s=train.timeout.total_seconds() * max(map(made.assets, items), default=1),
            retries=train.retries,
            backoff_s=train.backoff.total_seconds(),
        )
        there = work if isinstance(engine, Inline) else partial(warmed, recipes, work)
        for chunk, result, charges in seen_through(
            engine, there, items, made, patience, stop=self.interrupt.asked, cut=cut, here=work
        ):
            finished = result or Finished(tables={}, failures=(), seconds={})
            failures = list(finished.failures)
            for place, lost_parts in charges.items():
                for part, failed in lost_parts.items():
                    one = lost(made.only(chunk[place], [part]), failed)
                    failures += one.failures
                    yield (), dataclasses.replace(one, failures=())
            if charges:
                order = {key: n for lot in chunk for n, key in enumerate(made.keys(lot))}
                failures.sort(key=lambda failure: order[failure[:2]])
                finished = dataclasses.replace(finished, failures=tuple(failures))
            yield chunk, finished

    def _no_pickles(self) -> str:
        if not self.config.fleet.trust_pickles:
            return "[fleet] trust_pickles = true admits that; a save() and load() of its own need no trust"
        return self.keyring.trouble()

    def _engine(self, recipes: Iterable[Recipe], work: Work[Any]) -> Engine:
        heavy = [recipe.forecaster for recipe in recipes if not recipe.light]
        wanted = self.workers or self.config.train.workers
        if not heavy or wanted == 1:
            return Inline(pinned=bool(heavy))
        if self._pool is None:
            from fleet.engines.local import Local

            prepared = tuple(heavy), work.__module__
            self._pool = Local(
                cores() if wanted == "auto" else int(wanted), warm, prepared, memory=self.config.train.memory
            )
            self._open.callback(self._pool.close)
        return self._pool

    @contextmanager
    def _batch_folder(self) -> Iterator[Path]:
        """For the files of one batch, which workers map."""
        if self._scratch is None:
            self._scratch = self._open.enter_context(scratch_folder())
        home = self._scratch / new_id()
        home.mkdir()
        yield home
        rmtree(home, ignore_errors=True)


class _Made(Parts[Lot], Protocol[Lot]):
    """How lots are made of parts, for the driver."""

    def keys(self, lot: Lot) -> Sequence[tuple[str, str]]:
        """The asset and recipe of each part."""
        ...

    def assets(self, lot: Lot) -> int:
        """How many one part is about."""
        ...


@dataclass(frozen=True)
class Made:
    """How items are made of parts: of recipes to judge or fit, or of the links of a chain.

    Args:
        recipes: that items name.
    """

    recipes: Mapping[str, Recipe]

    def names(self, item: Item) -> tuple[str, ...]:
        """The recipe of each part."""
        return tuple(link.recipe for link in item.chain) or item.recipes

    def count(self, item: Item) -> int:
        """See `fleet.engines.retrying.Parts`, as the next ones."""
        return len(self.names(item))

    def only(self, item: Item, places: Sequence[int]) -> Item:
        """An item of some of the parts."""
        if item.chain:
            return dataclasses.replace(item, chain=tuple(item.chain[place] for place in places))
        recipes, marks = zip(*((item.recipes[place], item.fingerprints[place]) for place in places), strict=True)
        return dataclasses.replace(item, recipes=recipes, fingerprints=marks)

    def safe(self, item: Item) -> bool:
        """Whether this process may do it."""
        return all(self.recipes[name].light for name in self.names(item))

    def keys(self, item: Item) -> list[tuple[str, str]]:
        """See `_Made`, as the next one."""
        return [(item.asset.asset_id, name) for name in self.names(item)]

    def assets(self, item: Item) -> int:
        return 1


@dataclass(frozen=True)
class Whole:
    """A group is one part: it is lost whole, or not at all."""

    def count(self, group: Group) -> int:
        """See `fleet.engines.retrying.Parts`, as the next ones."""
        return 1

    def only(self, group: Group, places: Sequence[int]) -> Group:
        return group

    def safe(self, group: Group) -> bool:
        return False

    def keys(self, group: Group) -> list[tuple[str, str]]:
        """See `_Made`, as the next one."""
        return [(item.asset.asset_id, group.recipe) for item in group.wanted]

    def assets(self, group: Group) -> int:
        return len(group.items)


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def due_item(loaded: Loaded, member: Member, due: Mapping[str, str]) -> Item:
    """The item of a member whose recipes (with their fingerprints) are due."""
    return Item(
        asset=loaded.assets[member.asset_id],
        settings=member.settings,
        recipes=tuple(due),
        fingerprints=tuple(due.values()),
    )
