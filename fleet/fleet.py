"""The fleet as its user holds it: one object, one method for each verb.

A method imports what it works with when it is called: who looks at a fleet does not wait for what trains it.

>>> from fleet import Fleet                                     # doctest: +SKIP
>>> with Fleet.open("fleet.toml") as fleet:                     # doctest: +SKIP
...     fleet.ingest(); fleet.train(promote=True); fleet.forecast()
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fleet import config as configuration
from fleet import showing
from fleet.config import FleetConfig
from fleet.errors import ConfigInvalid, NothingSelected
from fleet.keys import Keyring
from fleet.looking import Looking, Named
from fleet.outcome import Outcome, Report
from fleet.registry import nearest
from fleet.turn import Turn
from store import Store
from store.clock import Clock, system_clock

if TYPE_CHECKING:
    from fleet.driver import Driver
    from fleet.due import Verb
    from fleet.ingest import IngestReport
    from fleet.ledger import Ledger
    from fleet.outcome import Show
    from fleet.own import After, Before
    from fleet.plan import Recipe
    from fleet.population import Population


class Fleet(Looking):
    """A configuration and its store.

    Args:
        config: from `fleet.config.load`.
        store: where everything is remembered.
        clock: tells the time; forecasts say when they were made.
        keyring: signs and checks what runs code; by default this user's own.
    """

    def __init__(
        self, config: FleetConfig, store: Store, clock: Clock = system_clock, keyring: Keyring | None = None
    ) -> None:
        self.config, self.store, self.clock = config, store, clock
        self.keyring = keyring or Keyring.of_user(os.environ, store.path)

    @classmethod
    def open(
        cls,
        config: Path | str | None = None,
        *,
        clock: Clock = system_clock,
        create: bool = True,
        read_only: bool = False,
        trust_pickles: bool | None = None,
    ) -> Fleet:
        """The fleet of a configuration file.

        Args:
            config: the file; None looks at TSFLEET_CONFIG and upward from the working folder.
            create: make the store when there is none yet; otherwise NotFound.
            read_only: write nothing, whatever is called; then there must be a store.
            trust_pickles: whether models kept as pickles may be loaded; None is what the file says.
        """
        path = configuration.find(Path.cwd(), config=config, environment=os.environ.get("TSFLEET_CONFIG"))
        loaded = configuration.load(path)
        if trust_pickles is not None:
            loaded = replace(loaded, fleet=loaded.fleet.model_copy(update={"trust_pickles": trust_pickles}))
        return cls(loaded, Store.open(loaded.store_path, create=create, read_only=read_only, clock=clock), clock)

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Fleet({self.config.fleet.name!r}, {len(self.config.recipes)} recipes, {self.store.path})"

    def add(
        self,
        name: str,
        model: object,
        *,
        before: Before | None = None,
        after: After | None = None,
        covariates: Sequence[str] | None = None,
    ) -> None:
        """Make a model a candidate of this fleet, for every asset and as long as this object lives.

        What it is goes with its versions, so that another process can issue forecasts with them, where pickles are
        trusted. Adding an equal one again changes nothing; another one of the same name takes its place.

        Args:
            name: of the recipe; none of the file's.
            model: an instance with ``fit``, a class that needs no argument, or a function ``f(y, X, task)``.
            before: ``before(y, X, task) -> (y, X)`` sees the history before the model does, at fit and at predict.
            after: ``after(forecast, task) -> forecast`` sees the forecast after the model made it.
            covariates: names of those it may see; None is all.
        """
        from fleet.recipes import added

        recipe = added(self.config, name, model, before=before, after=after, covariates=covariates)
        self.config = self.config.with_recipe(recipe)

    def ingest(
        self,
        source: Any = None,
        *,
        forecasts: Path | str | None = None,
        called: str | None = None,
        progress: Show | None = None,
    ) -> IngestReport:
        """Bring the configured sources into the store.

        Args:
            source: a frame or table of actuals, instead of all that is configured.
            forecasts: a file of somebody else's forecasts, instead of all that is configured.
            called: whose they are: a name of ``[[forecasts]]``, which then says how the file is to be read; by default
                the only one there is, or the name of the file.
        """
        from fleet.ingest import ingest

        if source is not None and forecasts is not None:
            raise ConfigInvalid("actuals and forecasts are ingested one after the other", hint="name one of them")
        outside = [] if forecasts is None else [self.config.outside(Path(forecasts), called)]
        with showing.shown("ingest", progress) as show:
            return ingest(self.store, self.config, clock=self.clock, source=source, forecasts=outside, on_progress=show)

    def backtest(
        self,
        *,
        product: Named = None,
        select: Sequence[str] = (),
        where: str | None = None,
        recipes: Sequence[str] | None = None,
        failed: bool = False,
        force: bool = False,
        dry_run: bool = False,
        workers: int | None = None,
        progress: Show | None = None,
        job: str | Turn = "py:backtest",
    ) -> Report:
        """Judge recipes on past origins; what is judged for the current data and definitions is left alone.

        Args:
            product: one by name or several; None is all that are issued, here and for the other verbs.
            failed: only the assets of which a recipe failed the last time.
            force: judge again whatever is there.
            dry_run: write nothing, tell what would be judged.
        """
        from fleet.backtest import backtest

        products = self._due("backtest", product, select, where, failed=failed, job=job)
        if not products:
            return self._nothing(job, failed=failed)
        with self._driver(job, workers, progress) as driver:
            chosen = self._candidates(driver, recipes)
            if dry_run:
                from fleet.rehearsal import rehearse_backtest

                return rehearse_backtest(driver, products, recipes=chosen, force=force)
            with self._ledger(driver, products) as ledger:
                return backtest(driver, products, ledger, recipes=chosen, force=force)

    def train(  # noqa: PLR0913  the options of the command, each by its name
        self,
        *,
        product: Named = None,
        select: Sequence[str] = (),
        where: str | None = None,
        recipes: Sequence[str] | None = None,
        judge: bool = True,
        promote: bool = False,
        failed: bool = False,
        stale: bool = False,
        force: bool = False,
        dry_run: bool = False,
        workers: int | None = None,
        progress: Show | None = None,
        job: str | Turn = "py:train",
    ) -> Report:
        """Judge what is not judged yet, fit each asset's best recipe on the newest window, put it in charge.

        Args:
            judge: False only fits, every recipe named, on every asset.
            promote: decide who is champion; the command line and jobs do.
            failed: only the assets that failed or fell back in their last training.
            stale: only those without a champion, and those whose champion learnt nothing of the last `stale_after`;
                with `failed`, both.
            force: judge and fit again whatever is there.
            dry_run: write nothing, tell what would be judged and fitted.
        """
        from fleet.training import train

        products = self._due("train", product, select, where, failed=failed, old=stale, job=job)
        if not products:
            return self._nothing(job, failed=failed, old=stale)
        with self._driver(job, workers, progress) as driver:
            chosen = self._candidates(driver, recipes)
            if dry_run:
                from fleet.rehearsal import rehearse_train

                return rehearse_train(driver, products, recipes=chosen, judging=judge, force=force)
            with self._ledger(driver, products) as ledger:
                return train(driver, products, ledger, recipes=chosen, judging=judge, promote=promote, force=force)

    def forecast(
        self,
        *,
        issue_time: datetime | None = None,
        product: Named = None,
        select: Sequence[str] = (),
        where: str | None = None,
        failed: bool = False,
        reissue: bool = False,
        dry_run: bool = False,
        workers: int | None = None,
        progress: Show | None = None,
        job: str | Turn = "py:forecast",
    ) -> Report:
        """Issue forecasts with the champions, and with fallbacks where there is none or it fails.

        Args:
            issue_time: aware; None is the end of each asset's last actual. A product with a timetable is issued at the
                last of its times by then; for None, at the one that the data have come to.
            failed: only the assets whose last forecast failed or fell back; what stood in for them is issued again.
            reissue: issue again what has been issued for this time.
            dry_run: write nothing, tell what would be issued.
        """
        from fleet.inference import forecast

        if issue_time is not None and issue_time.tzinfo is None:
            raise ConfigInvalid(f"issue time {issue_time} has no zone", hint="write it as 2024-06-10T00:00Z")
        products = self._due("forecast", product, select, where, failed=failed, job=job)
        if not products:
            return self._nothing(job, failed=failed)
        again = reissue or failed
        with self._driver(job, workers, progress) as driver:
            if dry_run:
                from fleet.rehearsal import rehearse_forecast

                return rehearse_forecast(driver, products, issue_time=issue_time, reissue=again)
            with self._ledger(driver, products, live=True) as ledger:
                return forecast(driver, products, ledger, issue_time=issue_time, reissue=again)

    def score(self, *, progress: Show | None = None, job: str | Turn = "py:score") -> Report:
        """Score live forecasts of all products whose actuals arrived or changed; one outcome for each asset."""
        from fleet.scoring import score

        people = self.population()
        with self._driver(job, 1, progress) as driver, self._ledger(driver, [people]) as ledger:
            return replace(score(driver, people, ledger), products=self.config.product_names)

    def promote(
        self,
        recipe: str,
        *,
        product: Named = None,
        select: Sequence[str] = (),
        where: str | None = None,
        reason: str = "by hand",
        actor: str = "",
        job: str = "py:promote",
    ) -> Report:
        """Put the newest version of a recipe in charge of the selected assets.

        Args:
            product: has to be named where there are several.
        """
        from fleet.champions import promote_by_hand

        self._known(recipe, self.config.recipes)
        products = self.populations(self._meant(product), select=select, where=where)
        with self._driver(job, 1, None) as driver, self._ledger(driver, products) as ledger:
            return promote_by_hand(driver, products, ledger, recipe=recipe, reason=reason, actor=actor)

    def rollback(
        self,
        *,
        to: str | None = None,
        since: datetime | int | None = None,
        product: Named = None,
        select: Sequence[str] = (),
        where: str | None = None,
        reason: str = "rolled back",
        actor: str = "",
        job: str = "py:rollback",
    ) -> Report:
        """Put an earlier version in charge of the selected assets again: the one before, unless told which.

        Args:
            to: a version's id; its asset alone is meant.
            since: undo what came in charge after this instant (aware), or after this snapshot; of all products.
            product: has to be named where there are several and neither of the two is given.
        """
        from fleet.champions import owner_of, roll_back
        from fleet.due import among

        if to is not None and since is not None:
            raise ConfigInvalid("a version and a time both say how far back", hint="name one of them")
        if to is not None:
            owner, its = owner_of(self.store.snapshot(), to)
            if product is not None and its not in self._named(product):
                raise ConfigInvalid(f"version {to} is of the product {its}", hint="leave --product out")
            found = (among(people, frozenset({owner})) for people in self.populations(its, select=select, where=where))
            products = tuple(people for people in found if people.members)
            if not products:
                raise NothingSelected(f"version {to} is of {owner}, which the selection leaves out")
        else:
            named = product if since is not None else self._meant(product)
            products = self.populations(named, select=select, where=where)
        with self._driver(job, 1, None) as driver, self._ledger(driver, products) as ledger:
            return roll_back(driver, products, ledger, to=to, since=since, reason=reason, actor=actor)

    def _due(
        self,
        verb: Verb,
        product: Named,
        select: Sequence[str],
        where: str | None,
        *,
        failed: bool,
        old: bool = False,
        job: str | Turn = "",
    ) -> tuple[Population, ...]:
        """By product the selected assets; where rules of dueness are named, those of them that one holds for.

        Of a run of a job, those that no earlier attempt at it has finished.
        """
        from fleet.due import among, failing, stale, unfinished

        products = self.populations(product, select=select, where=where)
        if isinstance(job, Turn):
            products = unfinished(self.store.snapshot(), products, job)
        if not (failed or old):
            return products
        snapshot, recipes = self.store.snapshot(), tuple(self.config.recipes)
        found = []
        for people in products:
            again = (
                failing(snapshot, verb, people.product, recipes, self.config.jobs_of(verb)) if failed else frozenset()
            )
            found.append(among(people, again | (stale(snapshot, people) if old else frozenset())))
        return tuple(people for people in found if people.members)

    def _nothing(self, job: str | Turn, *, failed: bool, old: bool = False) -> Report:
        """The report of a verb that nothing was due for, or nothing any more."""
        if isinstance(job, Turn):
            return self._finished(job)
        said = [
            *(["no asset failed or fell back the last time"] if failed else []),
            *(["no champion is stale"] if old else []),
        ]
        note = f"nothing is due: {', '.join(said)}"
        return Report(job=job, slot=self.clock.now(), assets=0, notes=(note,))

    def _finished(self, turn: Turn) -> Report:
        """The report of a run that an earlier attempt has finished but for saying so."""
        from fleet.ledger import done_before

        done = done_before(self.store.snapshot(), turn)
        n = Counter(done.values())
        return Report(
            job=turn.job,
            slot=turn.slot,
            assets=len({asset_id for asset_id, _ in done}),
            ok=n["ok"],
            failed=n["failed"],
            fell_back=n["fell_back"],
            skipped=n["skipped"],
        )

    def _candidates(self, driver: Driver, names: Sequence[str] | None) -> Mapping[str, Recipe]:
        if names is not None and not names:
            raise ConfigInvalid(f"no recipe is named; there are {', '.join(self.config.recipes)}")
        for name in names or ():
            self._known(name, self.config.recipes)
        return {name: driver.recipe(name) for name in (self.config.recipes if names is None else names)}

    def _known(self, recipe: str, among: Mapping[str, object]) -> None:
        if recipe not in among:
            raise ConfigInvalid(f"there is no recipe {recipe!r}{nearest(recipe, among)}")

    @contextmanager
    def _ledger(self, driver: Driver, products: Sequence[Population], *, live: bool = False) -> Iterator[Ledger]:
        """The book of one verb; an error that stops the verb is written down before it goes on."""
        from fleet.ledger import Ledger, done_before

        turn = driver.turn
        before: set[str] = (
            set() if turn is None else {asset_id for asset_id, _ in done_before(self.store.snapshot(), turn)}
        )
        ledger = Ledger(
            self.store,
            clock=self.clock,
            job=driver.job,
            slot=driver.slot,
            total=len({member.asset_id for people in products for member in people.members} | before),
            show=driver.show,
            live=live,
            products=tuple(people.product for people in products),
            turn=turn,
        )
        try:
            yield ledger
        except BaseException as error:
            ledger.fail(error)
            raise

    @contextmanager
    def _driver(self, job: str | Turn, workers: int | None, show: Show | None) -> Iterator[Driver]:
        if workers is not None and workers < 1:
            raise ConfigInvalid(f"workers = {workers}: accepted: a number from 1 up")
        from fleet.driver import Driver
        from store.environment import captured

        turn = job if isinstance(job, Turn) else None
        name, slot = (job.job, job.slot) if isinstance(job, Turn) else (job, self.clock.now())
        with (
            showing.shown(name.rpartition(":")[2], show) as told,
            Driver(
                store=self.store,
                config=self.config,
                clock=self.clock,
                show=told,
                job=name,
                slot=slot,
                turn=turn,
                workers=workers,
                keyring=self.keyring,
                code_version=captured(self.config.folder).code_version or "",
            ) as driver,
        ):
            yield driver


__all__: Sequence[str] = ("Fleet", "Outcome")
