"""Drives a verb over a fleet: batches of assets into the engine, finished chunks into the ledger.

Workers compute, only the driver commits. Recipes that are pure NumPy run in this process; anything else in spawned
ones, started once per command.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fleet.config import FleetConfig
from fleet.engines import Engine, Mark
from fleet.engines.inline import Inline
from fleet.forecaster import Adapter
from fleet.interrupt import Interrupt
from fleet.judging import Finished
from fleet.outcome import Failed, Show, attempt
from fleet.plan import Context, Item, Recipe
from fleet.population import Loaded, Member, Population, batches, load
from fleet.recipes import recipe_of
from fleet.sources import importable
from store.clock import Clock
from store.ids import new_id

if TYPE_CHECKING:
    from store import Store
    from store.reading import Snapshot

Work = Callable[[Context, Sequence[Item], Mark], Finished]
Lost = Callable[[Context, Item, Failed], Finished]
Planned = Callable[[Loaded], Callable[[Member], Item | None]]


@dataclass
class Driver:
    """What one command works with; a context manager that ends the workers and removes the scratch files.

    Args:
        workers: processes; None takes the configuration's, "auto" one per core.
        show: told of progress.
        job, slot: the ledger's name for what is done.
    """

    store: Store
    config: FleetConfig
    clock: Clock
    show: Show | None
    job: str
    slot: datetime
    workers: int | None = None
    code_version: str = ""
    batch_id: str = field(default_factory=new_id)
    interrupt: Interrupt = field(default_factory=Interrupt)

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
            found = self.config.recipe(name)
            self._recipes[name] = recipe_of(name, found.adapter, found.options, found.covariates)
        return self._recipes[name]

    def run(
        self,
        work: Work,
        snapshot: Snapshot,
        people: Population,
        plan: Planned,
        recipes: Mapping[str, Recipe],
        lost: Lost,
        since: datetime | None = None,
    ) -> Iterator[tuple[Sequence[Item], Finished]]:
        """Plan every member and run the items; yield chunks as they finish, in any order.

        Args:
            work: `judge_chunk`, `fit_chunk` or `issue_chunk`, perhaps with arguments bound.
            plan: for a batch, what makes a member's item, or None where nothing is due.
            recipes: those that items may name.
            lost: what to make of an item whose worker died or ran out of time.
            since: leave out actuals that are older.
        """
        engine = self._engine(recipes.values())
        folder = None if isinstance(engine, Inline) else self._scratch_folder()
        with_covariates = any(recipe.sees_any for recipe in recipes.values())
        for number, batch in enumerate(batches(people.members)):
            home = None if folder is None else folder / f"{new_id()}-{number}"
            if home is not None:
                home.mkdir()
            loaded = load(snapshot, self.config, batch, folder=home, with_covariates=with_covariates, since=since)
            items = [item for item in map(plan(loaded), batch) if item is not None]
            context = Context(
                panel=loaded.panel,
                covariates=loaded.covariates,
                recipes=recipes,
                settings=people.settings,
                snapshot=snapshot.id,
                batch_id=self.batch_id,
                clock=self.clock,
                code_version=self.code_version,
            )
            yield from self._worked(engine, partial(work, context), items, partial(lost, context))
            if self.interrupt.asked():
                return

    def _worked(
        self,
        engine: Engine,
        work: Callable[[Sequence[Item], Mark], Finished],
        items: Sequence[Item],
        lost: Callable[[Item, Failed], Finished],
    ) -> Iterator[tuple[Sequence[Item], Finished]]:
        """Chunks as they finish; a lost item comes again, recipe by recipe, so that the guilty one fails alone."""
        limit_s = self.config.train.timeout.total_seconds()
        timeout_s = limit_s * max((len(item.recipes) or 1 for item in items), default=1)
        again: list[Item] = []
        for chunk, result in engine.map_chunks(work, items, timeout_s=timeout_s, stop=self.interrupt.asked):
            if not isinstance(result, Failed):
                yield chunk, result
            elif len(chunk[0].recipes) > 1:
                again += chunk
            else:
                yield chunk, lost(chunk[0], result)
        parts = [part for item in again for part in by_recipe(item)]
        done: dict[str, list[Finished]] = {item.asset.asset_id: [] for item in again}
        for chunk, result in engine.map_chunks(work, parts, timeout_s=limit_s, stop=self.interrupt.asked):
            finished = lost(chunk[0], result) if isinstance(result, Failed) else result
            for part in chunk:
                done[part.asset.asset_id].append(finished)
            yield (), dataclasses.replace(finished, failures=(), seconds={})
        for item in again:
            if len(done[item.asset.asset_id]) == len(item.recipes):
                yield [item], summary(item, done[item.asset.asset_id])

    def _engine(self, recipes: Any) -> Engine:
        heavy = [recipe for recipe in recipes if not recipe.light]
        wanted = self.workers or self.config.train.workers
        count = (os.cpu_count() or 1) if wanted == "auto" else int(wanted)
        if not heavy or count == 1:
            return Inline(pinned=bool(heavy))
        if self._pool is None:
            from fleet.engines.local import Local

            self._pool = Local(count, warm, (tuple(recipe.forecaster for recipe in heavy), self.config.folder))
            self._open.callback(self._pool.close)
        return self._pool

    def _scratch_folder(self) -> Path:
        if self._scratch is None:
            self._scratch = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="tsfleet-")))
        return self._scratch


def by_recipe(item: Item) -> list[Item]:
    """The item once for each of its recipes."""
    marks = zip(item.recipes, item.fingerprints, strict=True)
    return [dataclasses.replace(item, recipes=(name,), fingerprints=(mark,)) for name, mark in marks]


def summary(item: Item, parts: Sequence[Finished]) -> Finished:
    """What failed on an item, and its seconds, after each of its recipes ran by itself; their rows are told already."""
    asset_id = item.asset.asset_id
    failures = {failure[1]: failure for part in parts for failure in part.failures if failure[0] == asset_id}
    seconds = sum({id(part): part.seconds.get(asset_id, 0.0) for part in parts}.values())
    return Finished(tables={}, failures=tuple(failures.values()), seconds={asset_id: seconds})


def due_item(loaded: Loaded, member: Member, due: Mapping[str, str]) -> Item:
    """The item of a member whose recipes (with their fingerprints) are due."""
    return Item(
        asset=loaded.assets[member.asset_id],
        settings=member.settings,
        recipes=tuple(due),
        fingerprints=tuple(due.values()),
    )


def warm(forecasters: Sequence[object], folder: Path | None) -> None:
    """Import in a worker what its recipes need, outside any asset's time limit.

    Args:
        folder: of the configuration; a user's own models are found there.
    """
    if folder is not None and str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    for forecaster in forecasters:
        if isinstance(forecaster, Adapter):
            # A library that is missing becomes the outcome of each asset that wants it, not the end of the worker.
            attempt(forecaster.import_library)
