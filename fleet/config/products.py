"""What is issued: ``[fleet]`` with its own horizon, the products by name, and what stays of their forecasts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Self

from pydantic import model_validator

from fleet.config.sections import Section
from fleet.config.values import (
    Count,
    Days,
    Horizon,
    Levels,
    Number,
    PositiveDuration,
    Real,
    Step,
    Switch,
    Target,
    Text,
    Texts,
    WallTime,
    WallTimes,
    Weekdays,
    Zone,
    days_ahead,
    duration_text,
    wrong,
)


class FleetSection(Section):
    """``[fleet]``: what holds for every asset unless an override says otherwise.

    ``horizon`` counts steps, or is a length such as "36h" that holds for assets of any step; ``seasons`` count steps,
    without them they are a day and a week of the asset's own step. ``horizon`` is the product ``default``, which a file
    that names products without it does not have; ``products`` are those that are issued, all of them when left out, in
    an override those of the assets that it names. ``trust_pickles`` admits models that have no form of their own and
    are kept as pickles, when they carry the signature of this user; unpickling runs their code.
    """

    name: Text = "fleet"
    store: Text = "fleet.store"
    timezone: Zone = "UTC"
    freq: Step = "1h"
    horizon: Horizon = 24
    seasons: tuple[Count, ...] | None = None
    quantiles: Levels = ()
    products: Texts | None = None
    seed: Number = 0
    trust_pickles: Switch = False


class ProductSection(Section):
    """``[products.NAME]``: what is issued, how far it reaches, and when.

    With ``horizon`` (steps, or a length) it rolls: it begins with the first step at or after its issue. With ``target``
    it is a delivery: ``days`` local days from "today" (what is left of it), "tomorrow", "tomorrow+1" on. ``issue`` are
    times on each asset's clock, on ``weekdays`` or every day: of a time that a change of the clock skips the first
    instant after the gap, of one that comes twice the earlier. A rolling product without ``issue`` follows the data.
    ``gate`` is when a forecast has to be there, the first such time at or after its issue: ``budget`` before it assets
    without a forecast get their fallback, and what is stored after it is late and replaces nothing.
    What it says of recipes, fallback, window, quantiles, origins, stride, metric, margin and min_points holds for this
    product instead of what [train], [fleet], [backtest] and [promotion] say.
    """

    issue: WallTimes | None = None
    weekdays: Weekdays | None = None
    target: Target | None = None
    days: Days | None = None
    horizon: Horizon | None = None
    gate: WallTime | None = None
    budget: PositiveDuration | None = None
    recipes: Texts | None = None
    fallback: Texts | None = None
    window: PositiveDuration | None = None
    quantiles: Levels | None = None
    origins: Count | None = None
    stride: PositiveDuration | None = None
    metric: Text | None = None
    margin: Real | None = None
    min_points: Count | None = None

    @model_validator(mode="after")
    def _rolling_or_delivery(self) -> Self:
        if self.target is not None and self.issue is None:
            raise wrong('a delivery product needs issue and target; accepted: issue = "11:30", target = "tomorrow"')
        if self.issue is not None and self.target is None and self.horizon is None:
            raise wrong(
                "a delivery product needs issue and target, a rolling one issue and horizon; "
                'accepted: target = "tomorrow", or horizon = 24'
            )
        if self.horizon is not None and self.target is not None:
            raise wrong("horizon is for a rolling product, target for a delivery product; accepted: one of them")
        if self.days is not None and self.target is None:
            raise wrong('days counts the local days of a delivery product; accepted with target = "tomorrow"')
        if self.weekdays is not None and self.issue is None:
            raise wrong('weekdays says on which days there is an issue; accepted with issue = "11:30"')
        return self

    @model_validator(mode="after")
    def _time_before_the_gate(self) -> Self:
        if self.gate is None:
            if self.budget is not None:
                raise wrong('budget is the time before the gate; accepted with gate = "12:00"')
            return self
        for issue in self.issue or ():
            left = (
                timedelta(hours=self.gate.hour, minutes=self.gate.minute, seconds=self.gate.second)
                - timedelta(hours=issue.hour, minutes=issue.minute, seconds=issue.second)
            ) % timedelta(days=1)
            if left <= self.margin_before_gate:
                raise wrong(
                    f'from issue = "{issue:%H:%M}" to gate = "{self.gate:%H:%M}" there is no more time than the budget '
                    f"of {duration_text(self.margin_before_gate)}, so every asset would get its fallback at once; "
                    'accepted: a later gate, or a shorter budget such as "2min"'
                )
        return self

    @property
    def margin_before_gate(self) -> timedelta:
        """The budget, five minutes when left out."""
        return self.budget or timedelta(minutes=5)

    @property
    def days_ahead(self) -> int | None:
        """Local days from the issue to the first delivery day; None for a rolling product."""
        return None if self.target is None else days_ahead(self.target)


PRODUCT_SAYS: Mapping[str, str] = {
    "recipes": "train",
    "fallback": "train",
    "window": "train",
    "quantiles": "fleet",
    "origins": "backtest",
    "stride": "backtest",
    "metric": "promotion",
    "margin": "promotion",
    "min_points": "promotion",
}
"""Keys of a product that stand in for those of another section, and which that is."""


class RetentionSection(Section):
    """``[retention.PRODUCT]``: what stays of old forecasts. So long after the issue only leads below a length stay."""

    after: PositiveDuration
    leads_below: PositiveDuration
