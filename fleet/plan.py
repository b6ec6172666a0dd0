"""What a worker is told: recipes, settings and assets, all frozen and small enough to pickle with every chunk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import cast

import pandas as pd

from fleet import calendar
from fleet.forecaster import Forecaster, Many, Question, scope_of
from fleet.frames import AssetRows, Covariate, History, Panel, covariate_frame, shown
from fleet.gate import Gate
from fleet.intervals import Past
from fleet.task import IntArray, Task
from fleet.timetable import Timetable
from fleet.vintages import listed_issues, own_issues
from store.clock import Clock, from_micros
from store.packs import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A named model definition, ready to run.

    Args:
        name: the name in the configuration.
        recipe_hash: its identity: adapter, options, features, covariates, the text of a user's code.
        adapter: the adapter's name, which rebuilds the forecaster where a version is loaded.
        forecaster: the adapter with its options.
        library: distribution that does the arithmetic, with its version.
        covariates: names of the covariates it may see; None is all that are declared, () none.
        params: the options as JSON, for the runs table.
        code: SHA-256 of the blob that keeps the user's code, for the runs that train; empty when there is none.
    """

    name: str
    recipe_hash: str
    adapter: str
    forecaster: Forecaster
    library: str
    library_version: str
    covariates: tuple[str, ...] | None
    params: str
    code: str = ""

    @property
    def light(self) -> bool:
        """Pure NumPy: can neither hang nor crash, so it may run in the driver's process."""
        return bool(getattr(self.forecaster, "light", False))

    @property
    def many(self) -> Many | None:
        """The forecaster, where it takes many assets at once."""
        return cast(Many, self.forecaster) if scope_of(self.forecaster) != "asset" else None

    @property
    def together(self) -> bool:
        """Whether one model is fitted to a group of assets, and a fit is therefore of the group."""
        return scope_of(self.forecaster) == "global"

    @property
    def learns(self) -> bool:
        """Whether a fit leaves anything to keep; a rule that learns nothing needs no version to stand in.

        One that looks at covariates needs its run, which says whether it saw their future.
        """
        return getattr(self.forecaster, "codec", "") != "none" or self.sees_any

    @property
    def sees_any(self) -> bool:
        """Whether it looks at covariates at all."""
        return bool(getattr(self.forecaster, "uses_covariates", True)) and self.covariates != ()

    def sees(self, covariates: tuple[Covariate, ...]) -> tuple[Covariate, ...]:
        """Those of an asset's covariates that this recipe is given."""
        if not self.sees_any:
            return ()
        if self.covariates is None:
            return tuple(c for c in covariates if not c.outside)
        return tuple(c for c in covariates if (c.outside or c.name) in self.covariates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """How a backtest cuts the past.

    Args:
        first: the first origin for every asset; None takes each asset's last ones that have actuals.
        stride: between origins.
        refit: fit again at every origin instead of once before the first.
    """

    count: int
    stride: pd.Timedelta
    first: pd.Timestamp | None
    refit: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What holds for a group of assets: the product's grid and the training window.

    Args:
        window_us: history a model sees before the issue time, microseconds; None is all.
        days_ahead: of a delivery product, local days from the issue to the delivery day; None for a rolling one.
        days: of a delivery product, how many.
        timetable: when the product is issued; None follows the data.
        gate: until when its forecasts count; None is for ever.
    """

    product: str
    tz: str
    freq: str
    horizon: int
    seasons: tuple[int, ...]
    quantiles: tuple[float, ...]
    seed: int
    window_us: int | None
    judgement: Judgement | None
    days_ahead: int | None = None
    # Not in the repr, which is a part of fingerprints from before there were any; `rule` tells them.
    days: int = field(default=1, repr=False)
    timetable: Timetable | None = field(default=None, repr=False)
    gate: Gate | None = field(default=None, repr=False)

    @property
    def rule(self) -> str:
        """What sets a product apart beside its horizon and its days; empty where nothing does."""
        return "" if self.timetable is None and self.days == 1 else f"{self.days} {self.timetable}"

    def fit_issue(self, end: int) -> int:
        """Whose knowledge a model is fitted with when the data end there; UTC microseconds.

        The last issue of a timetable, so that the model learns with the gap before its target that it will meet.
        """
        return end if self.timetable is None else self.timetable.last(end, self.tz)

    def target(self, issue: int, anchor: int | None) -> pd.DatetimeIndex:
        """The instants that an issue is about, from its first step at or after the issue time.

        Args:
            issue: UTC microseconds.
            anchor: any step of the asset's grid, UTC microseconds; None where it has no row, then the issue is one.
        """
        return _target(issue, anchor, self.days_ahead, self.days, self.horizon, self.freq, self.tz)

    def own_issues(self, at: pd.DatetimeIndex, target: pd.DatetimeIndex, issue: int) -> IntArray:
        """The issue time whose knowledge each step is shown; see `fleet.vintages`.

        Args:
            issue: UTC microseconds.
            target: of this issue.
        """
        steps, wanted = at.asi8, target.asi8
        if self.timetable is None:
            return own_issues(steps, wanted, issue, self.freq, self.tz)
        end = int(calendar.grid(target[-1], 2, self.freq, self.tz).asi8[-1])
        return listed_issues(
            steps, (int(wanted[0]), end), issue, self.timetable, self.tz, days=self.days_ahead is not None
        )

    def task(self, target: pd.DatetimeIndex, static: Mapping[str, object]) -> Task:
        """The question for one asset and issue."""
        return Task(
            target=target,
            freq=self.freq,
            tz=self.tz,
            seasons=self.seasons,
            quantiles=self.quantiles,
            seed=self.seed,
            static=static,
        )


@lru_cache(maxsize=4096)
def _target(
    issue: int, anchor: int | None, days_ahead: int | None, days: int, horizon: int, freq: str, tz: str
) -> pd.DatetimeIndex:
    """Shared, since most assets of a fleet are asked about the same instants."""
    if days_ahead is not None:
        at = pd.Timestamp(issue, unit="us", tz="UTC")
        return calendar.delivery_day(at, days_ahead, freq, tz, days=days, anchor=anchor)
    first = issue if anchor is None else calendar.first_step(issue, anchor, freq, tz)
    return calendar.grid(pd.Timestamp(first, unit="us", tz="UTC"), horizon, freq, tz)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What all items of a batch share.

    Args:
        panel: rows of the actuals.
        covariates: rows of the covariates, None when no recipe sees any.
        settings: referred to by index from the items.
        snapshot: the data version the panels were read at.
        batch_id: groups the runs of one verb.
        no_pickles: why no model may be kept as a pickle; empty where it may.
    """

    panel: Panel
    covariates: Panel | None
    recipes: Mapping[str, Recipe]
    settings: tuple[Settings, ...]
    snapshot: int
    batch_id: str
    clock: Clock
    code_version: str = ""
    no_pickles: str = ""

    def history(self, asset: AssetRows, settings: Settings) -> History:
        """One asset's series on its grid."""
        return History(self.panel.slice(asset.span), settings.freq, settings.tz)

    def inputs(
        self,
        asset: AssetRows,
        recipe: Recipe,
        settings: Settings,
        history: History,
        issue: int,
        target: pd.DatetimeIndex,
    ) -> tuple[pd.Series[float], pd.DataFrame | None]:
        """(y, X) as known at an issue time, for `fit` and `predict` alike.

        Args:
            issue: UTC microseconds.
            target: the instants to forecast; X reaches through the last of them.
        """
        y = history.known_at(issue, settings.window_us)
        seen = recipe.sees(asset.covariates)
        if not seen or self.covariates is None or not len(y):
            return y, None
        end = target[-1] + pd.Timedelta(1, "us")
        index = calendar.grid_between(y.index[0], end, settings.freq, settings.tz)
        own = settings.own_issues(index, target, issue) if any(c.vintages for c in seen) else None
        return y, covariate_frame(self.covariates, seen, index, issue, own)

    def question(self, item: Item, recipe: Recipe, history: History, issue: int) -> Question:
        """What a recipe is given for an item at an issue time (UTC microseconds)."""
        settings = self.settings[item.settings]
        target = settings.target(issue, history.anchor)
        y, X = self.inputs(item.asset, recipe, settings, history, issue, target)
        return Question(y, X, settings.task(target, item.asset.static))

    def vintages(self, asset: AssetRows, recipe: Recipe, issue: int, target: pd.DatetimeIndex) -> dict[str, str]:
        """By name, when the newest value became known that an issue is shown of the covariates with vintages."""
        found: dict[str, int] = {}
        for covariate in recipe.sees(asset.covariates):
            counts = covariate.since <= int(target.asi8[-1]) and int(target.asi8[0]) < covariate.until
            if covariate.vintages and counts and self.covariates is not None:
                rows = shown(self.covariates, covariate, target.asi8, issue)
                if len(rows.available_at):
                    found[covariate.name] = max(int(rows.available_at.max()), found.get(covariate.name, issue - 2**62))
        return {name: from_micros(at).isoformat() for name, at in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One version that may issue the forecast: the champion first, then the fallbacks.

    Args:
        recipe: name in the context's recipes.
        blob: the fitted model as saved, out of its envelope, or where it lies in the store, for the worker to read;
            None fits on the spot (a recipe that learns nothing).
        codec: the form of the blob.
        past: what the recipe forecast in its backtest, for the intervals of a model that has none; None where no
            quantiles are asked for, or it was not judged.
    """

    recipe: str
    role: str
    version_id: str
    run_id: str
    blob: bytes | Place | None
    codec: str = ""
    past: Past | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One asset's work in a verb.

    Args:
        settings: index into the context's settings.
        recipes: names of the recipes to judge or fit.
        fingerprints: of each recipe, aligned.
        issue: issue time, UTC microseconds, when forecasts are issued.
        chain: what may issue them, in order.
    """

    asset: AssetRows
    settings: int
    recipes: tuple[str, ...]
    fingerprints: tuple[str, ...]
    issue: int | None = None
    chain: tuple[Link, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The assets that one model of a recipe is fitted to.

    Args:
        items: all that it learns from; those with the recipe among theirs are what it is fitted for.
    """

    recipe: str
    items: tuple[Item, ...]

    @property
    def wanted(self) -> tuple[Item, ...]:
        """What it is fitted for."""
        return tuple(item for item in self.items if item.recipes)
