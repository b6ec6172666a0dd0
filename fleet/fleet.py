"""The fleet as its user holds it: one object, one method for each verb.

>>> from fleet import Fleet                                     # doctest: +SKIP
>>> with Fleet.open("fleet.toml") as fleet:                     # doctest: +SKIP
...     fleet.ingest(); fleet.train(promote=True); fleet.forecast()
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fleet import config as configuration
from fleet.backtest import backtest
from fleet.comparison import Role
from fleet.config import FleetConfig
from fleet.driver import Driver
from fleet.errors import ConfigInvalid
from fleet.inference import forecast
from fleet.ingest import IngestReport, ingest
from fleet.leaderboard import Average, Leaderboard, leaderboard, worst
from fleet.ledger import Ledger
from fleet.outcome import Outcome, Report, Show
from fleet.plan import Recipe
from fleet.population import Population, population
from fleet.registry import nearest
from fleet.scoring import score
from fleet.training import promote_by_hand, train
from store import Store
from store.clock import Clock, system_clock

DEFAULT_METRICS = ("mae", "rmse", "wape", "bias")


class Fleet:
    """A configuration and its store.

    Args:
        config: from `fleet.config.load`.
        store: where everything is remembered.
        clock: tells the time; forecasts say when they were made.
    """

    def __init__(self, config: FleetConfig, store: Store, clock: Clock = system_clock) -> None:
        self.config, self.store, self.clock = config, store, clock

    @classmethod
    def open(cls, config: Path | str | None = None, *, clock: Clock = system_clock, create: bool = True) -> Fleet:
        """The fleet of a configuration file.

        Args:
            config: the file; None looks at TSFLEET_CONFIG and upward from the working folder.
            create: make the store when there is none yet; otherwise NotFound.
        """
        path = configuration.find(Path.cwd(), config=config, environment=os.environ.get("TSFLEET_CONFIG"))
        loaded = configuration.load(path)
        return cls(loaded, Store.open(loaded.store_path, create=create, clock=clock), clock)

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

    def ingest(self, source: Any = None, *, progress: Show | None = None) -> IngestReport:
        """Bring the configured sources (or `source`, a frame or table of actuals) into the store."""
        return ingest(self.store, self.config, clock=self.clock, source=source, on_progress=progress)

    def backtest(
        self,
        *,
        select: Sequence[str] = (),
        where: str | None = None,
        recipes: Sequence[str] | None = None,
        force: bool = False,
        workers: int | None = None,
        progress: Show | None = None,
        job: str = "py:backtest",
    ) -> Report:
        """Judge recipes on past origins; what is judged for the current data and definitions is left alone."""
        people = self.population(select=select, where=where)
        with self._driver(job, workers, progress) as driver, self._ledger(driver, people) as ledger:
            return backtest(driver, people, ledger, recipes=self._candidates(driver, recipes), force=force)

    def train(
        self,
        *,
        select: Sequence[str] = (),
        where: str | None = None,
        recipes: Sequence[str] | None = None,
        judge: bool = True,
        promote: bool = False,
        force: bool = False,
        workers: int | None = None,
        progress: Show | None = None,
        job: str = "py:train",
    ) -> Report:
        """Judge what is not judged yet, fit each asset's best recipe on the newest window, put it in charge.

        Args:
            judge: False only fits, every recipe named, on every asset.
            promote: decide who is champion; the command line and jobs do.
        """
        people = self.population(select=select, where=where)
        with self._driver(job, workers, progress) as driver, self._ledger(driver, people) as ledger:
            chosen = self._candidates(driver, recipes)
            return train(driver, people, ledger, recipes=chosen, judging=judge, promote=promote, force=force)

    def forecast(
        self,
        *,
        issue_time: datetime | None = None,
        select: Sequence[str] = (),
        where: str | None = None,
        reissue: bool = False,
        workers: int | None = None,
        progress: Show | None = None,
        job: str = "py:forecast",
    ) -> Report:
        """Issue forecasts with the champions, and with fallbacks where there is none or it fails.

        Args:
            issue_time: aware; None is the end of each asset's last actual.
            reissue: issue again what has been issued for this time.
        """
        if issue_time is not None and issue_time.tzinfo is None:
            raise ConfigInvalid(f"issue time {issue_time} has no zone", hint="write it as 2024-06-10T00:00Z")
        people = self.population(select=select, where=where)
        with self._driver(job, workers, progress) as driver, self._ledger(driver, people, live=True) as ledger:
            return forecast(driver, people, ledger, issue_time=issue_time, reissue=reissue)

    def score(self, *, progress: Show | None = None, job: str = "py:score") -> Report:
        """Score live forecasts whose actuals arrived or changed."""
        people = self.population()
        with self._driver(job, 1, progress) as driver, self._ledger(driver, people) as ledger:
            return score(driver, people, ledger)

    def promote(
        self,
        recipe: str,
        *,
        select: Sequence[str] = (),
        where: str | None = None,
        reason: str = "by hand",
        actor: str = "",
        job: str = "py:promote",
    ) -> Report:
        """Put the newest version of a recipe in charge of the selected assets."""
        self._known(recipe, self.config.recipes)
        people = self.population(select=select, where=where)
        with self._driver(job, 1, None) as driver, self._ledger(driver, people) as ledger:
            return promote_by_hand(driver, people, ledger, recipe=recipe, reason=reason, actor=actor)

    def leaderboard(
        self,
        *,
        role: Role = "backtest",
        metrics: Sequence[str] | None = None,
        average: Average = "mean",
        since: date | None = None,
        until: date | None = None,
        by: str | None = None,
        select: Sequence[str] = (),
        where: str | None = None,
    ) -> Leaderboard:
        """Which recipe is best over the fleet, on the points that all were judged on."""
        groups, assets = None, None
        if select or where or since or until or by not in (None, "asset", "lead"):
            people = self.population(select=select, where=where)
            if by not in (None, "asset", "lead") and not any(by in member.static for member in people.members):
                known = sorted({"asset", "lead"}.union(*(member.static for member in people.members)))
                raise ConfigInvalid(f"no asset has a column {by!r}{nearest(str(by), known)}")
            assets = {member.asset_id: member.config.timezone for member in people.members}
            groups = {member.asset_id: str(member.static.get(by or "", "")) for member in people.members}
        return leaderboard(
            self.store.snapshot(),
            recipes=self._shown(role),
            metrics=tuple(metrics or self.default_metrics()),
            sort_by=metrics[0] if metrics else self.config.promotion.metric,
            role=role,
            average=average,
            by=by,
            groups=groups,
            assets=assets,
            since=since,
            until=until,
        )

    def worst(self, n: int = 10, *, metric: str | None = None, role: Role = "backtest") -> list[dict[str, Any]]:
        """The assets with the highest error under the recipe in charge."""
        snapshot = self.store.snapshot()
        champions = {
            row["asset_id"]: row["recipe"] for row in snapshot.sql("select asset_id, recipe from champions").rows()
        }
        return worst(
            snapshot,
            recipes=self._shown(role),
            metric=metric or self.config.promotion.metric,
            role=role,
            champions=champions,
            n=n,
        )

    def status(self) -> dict[str, Any]:
        """How the fleet is, in one row: assets, champions, newest data and forecast, scores, the last jobs."""
        snapshot = self.store.snapshot()
        return {"name": self.config.fleet.name, "store": str(self.store.path), **snapshot.sql(STATUS).rows()[0]}

    def default_metrics(self) -> tuple[str, ...]:
        """What a leaderboard shows unless told: the promotion metric, the common errors, MASE by season."""
        seasons = self.config.for_asset("").seasons
        return tuple(dict.fromkeys([self.config.promotion.metric, *DEFAULT_METRICS, *(f"mase_{m}" for m in seasons)]))

    def population(self, *, select: Sequence[str] = (), where: str | None = None) -> Population:
        """The assets that a selection names, with their settings."""
        return population(self.store.snapshot(), self.config, select=select, where=where)

    def _candidates(self, driver: Driver, names: Sequence[str] | None) -> Mapping[str, Recipe]:
        if names is not None and not names:
            raise ConfigInvalid(f"no recipe is named; there are {', '.join(self.config.recipes)}")
        for name in names or ():
            self._known(name, self.config.recipes)
        return {name: driver.recipe(name) for name in (self.config.recipes if names is None else names)}

    def _shown(self, role: Role) -> list[str] | None:
        """The recipes of the file; in life also those that stood in, or were in charge once."""
        return [*self.config.recipes] if role == "backtest" else None

    def _known(self, recipe: str, among: Mapping[str, object]) -> None:
        if recipe not in among:
            raise ConfigInvalid(f"there is no recipe {recipe!r}{nearest(recipe, among)}")

    @contextmanager
    def _ledger(self, driver: Driver, people: Population, *, live: bool = False) -> Iterator[Ledger]:
        """The book of one verb; an error that stops the verb is written down before it goes on."""
        ledger = Ledger(
            self.store,
            clock=self.clock,
            job=driver.job,
            slot=driver.slot,
            total=len(people.members),
            show=driver.show,
            live=live,
        )
        try:
            yield ledger
        except BaseException as error:
            ledger.fail(error)
            raise

    @contextmanager
    def _driver(self, job: str, workers: int | None, show: Show | None) -> Iterator[Driver]:
        if workers is not None and workers < 1:
            raise ConfigInvalid(f"workers = {workers}: accepted: a number from 1 up")
        slot = self.clock.now()
        with Driver(
            store=self.store, config=self.config, clock=self.clock, show=show, job=job, slot=slot, workers=workers
        ) as driver:
            yield driver


STATUS = """
select (select count(*) from assets) as assets,
       (select count(*) from champions where product = 'default') as champions,
       (select count(distinct asset_id) from forecasts where role = 'fallback') as fell_back,
       (select count(*) from actuals) as actuals,
       (select max(valid_time) from actuals) as newest_actual,
       (select count(*) from forecasts where role <> 'backtest') as forecast_steps,
       (select max(issue_time) from forecasts where role <> 'backtest') as newest_issue,
       (select max(day) from scores where role <> 'backtest') as newest_scored_day,
       (select arg_max(job || ' ' || status, started_at) from job_runs) as last_job
"""

__all__: Sequence[str] = ("Fleet", "Outcome")
