"""The candidates: the recipes, how they are trained and judged, and when a challenger takes over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from pydantic import model_validator

from fleet.config.sections import Section
from fleet.config.values import (
    Count,
    Duration,
    Instant,
    Memory,
    NonNegative,
    PositiveDuration,
    Real,
    Switch,
    Text,
    Texts,
    Workers,
    wrong,
)

if TYPE_CHECKING:
    from fleet.own import Given


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeConfig:
    """``[recipes.NAME]``: an adapter and its options, checked by the adapter itself.

    Args:
        covariates: names of those it may see; None is all that the file declares, () none.
        before: ``module:function`` that sees the history before the model does, at fit and at predict.
        after: ``module:function`` that sees the forecast after the model made it.
        given: the model itself, where it was handed over as an object and stands in no file.
    """

    name: str
    adapter: str
    options: Mapping[str, object]
    covariates: tuple[str, ...] | None = None
    before: str | None = None
    after: str | None = None
    given: Given | None = None


class TrainSection(Section):
    """``[train]``: the window of history, the workers, what takes over when a model fails.

    ``recipes`` are the candidates, all of [recipes] when left out; in an override, those of the assets that it
    names. ``fallback`` is tried in order and may name the rules that every fleet has: daily_naive, weekly_naive,
    naive, mean. ``timeout`` and ``memory`` are for one asset and recipe, the latter for its worker process; causes that
    can pass are tried again ``retries`` times, after ``backoff`` and twice as long each time. A champion whose training
    ended ``stale_after`` before its asset's newest reading is due.
    """

    window: PositiveDuration = timedelta(days=365)
    workers: Workers = "auto"
    timeout: PositiveDuration = timedelta(seconds=60)
    memory: Memory = "auto"
    retries: NonNegative = 1
    backoff: Duration = timedelta(seconds=1)
    stale_after: PositiveDuration = timedelta(days=7)
    recipes: Texts | None = None
    fallback: Texts = ("daily_naive", "naive", "mean")


class BacktestSection(Section):
    """``[backtest]``: which past issue times judge the recipes.

    Without ``stride`` they are a day apart, or the whole horizon where that is longer.
    """

    origins: Count = 7
    stride: PositiveDuration | None = None
    refit: Switch = False
    first: Instant | None = None


class PromotionSection(Section):
    """``[promotion]``: when a challenger takes over."""

    metric: Text = "mae"
    margin: Real = 0.02
    min_points: Count = 168

    @model_validator(mode="after")
    def _margin_is_a_fraction(self) -> Self:
        if not 0.0 <= self.margin < 1.0:
            raise wrong(f"margin = {self.margin:g}: accepted: a fraction of the champion's error, from 0 to below 1")
        return self
