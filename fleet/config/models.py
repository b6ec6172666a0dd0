"""The sections of ``fleet.toml``, each a frozen model whose attributes are its keys.

A key that is not here is an error; a key left out has the default that stands here. What one asset gets in the end,
after overrides, is in ``fleet.config.resolving``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from fleet.config.values import (
    ENERGY,
    POWER,
    Count,
    Days,
    Duration,
    Horizon,
    Instant,
    Levels,
    Memory,
    NonNegative,
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
    Workers,
    Zone,
    days_ahead,
    duration_text,
    wrong,
    zone,
)

if TYPE_CHECKING:
    from fleet.own import Given

Label = Literal["start", "end"]
Ambiguous = Literal["infer", "first", "second", "refuse"]


class Section(BaseModel):
    """A table of the file: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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


class Origin(Section):
    """Where a table comes from: files, a DuckDB query, or a Python function. At most one of the three."""

    path: Texts | None = None
    sql: Text | None = None
    python: Text | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = [key for key in ("path", "sql", "python") if getattr(self, key) is not None]
        if len(given) > 1:
            raise wrong(f"{given[0]} and {given[1]} both say where the data are; accepted: one of path, sql, python")
        if self.python is not None and not all(part.strip() for part in self.python.partition(":")):
            raise wrong(f'python = "{self.python}": accepted: "module:function"')
        return self

    @property
    def given(self) -> bool:
        """Whether the section says where its data are."""
        return self.path is not None or self.sql is not None or self.python is not None


class AssetsSection(Origin):
    """``[assets]``: the register, one row for each asset. The keys name its columns; further columns are kept too."""

    asset: Text = "asset_id"
    kind: Text = "kind"
    region: Text = "region"
    capacity: Text = "capacity"
    unit: Text = "unit"
    timezone: Text = "timezone"
    freq: Text = "freq"
    state: Text = "state"
    valid_from: Text = "valid_from"
    valid_to: Text = "valid_to"


class Stamps(Origin):
    """How a source writes its times and what becomes of rows that break a rule, shared by data and covariates.

    ``time_format`` is for text that is not ISO 8601, as strptime takes it. ``timezone`` is the clock of stamps
    without a zone: an IANA name, or ``local`` for the clock of each asset.

    When a value was known: ``delay`` after the end of its interval, or at the time in the column ``available_at``, to
    which ``publication_delay`` is added (of a weather run its start is told, and hours later it is there). A value that
    takes the place of another one, from a source without that column, was known when it was ingested; with
    ``revisions = "known_then"`` as early as the one before, which is meant for errors put right in old files. When most
    of what is stored of an asset changes at once, the source has to say which of the two is meant.
    """

    time: Text = "ds"
    time_format: Text | None = None
    label: Label = "start"
    timezone: Text | None = None
    ambiguous: Ambiguous = "refuse"
    delay: Duration | None = None
    available_at: Text | None = None
    publication_delay: Duration | None = None
    revisions: Literal["known_now", "known_then"] | None = None
    on_bad: Literal["refuse", "keep_aside"] = "refuse"
    duplicates: Literal["refuse", "first", "last"] = "refuse"

    @model_validator(mode="after")
    def _one_availability(self) -> Self:
        if self.delay is not None and self.available_at is not None:
            raise wrong("delay and available_at both say when a value was known; accepted: one of them")
        if self.publication_delay is not None and self.available_at is None:
            raise wrong(
                "publication_delay is added to the times of the column available_at; accepted: both, or delay, which "
                "counts from the end of the interval"
            )
        if self.timezone is not None and self.timezone != "local":
            # Checked here and not by its type: "local" is no zone but the clock of each asset.
            zone(self.timezone)
        return self


class DataSection(Stamps):
    """``[data]``: the actuals, in long form: one row for each asset and time.

    What is odd is told and never changed: fewer readings than ``completeness`` (a share of the steps), one value
    for more than ``flat_steps``, a reading below ``minimum`` or above ``maximum``.

    What the numbers are: ``unit`` is that of the source, and they become that of the asset where the register tells
    one; ``scale`` and ``sign`` multiply them. ``kind`` is power (the mean of an interval), energy (its amount) or
    register (a counter that rolls over after ``digits`` nines and takes steps of at most ``max_step``; its rows are
    instants, and what it counted between them is stored). ``step`` is that of the source where it is shorter than the
    asset's: energy adds up, of power the mean counts, and an interval with less than ``min_share`` of its readings is
    missing. In the ``layout = "days"`` a row is a local day and its ``columns`` (all others, when left out) are its
    steps one after another, 92, 96 or 100 quarter-hours, unless they are called by the clock: ``00:15``.

    Readings are revised. ``truth = "first"`` has live forecasts also scored against the first reading of each instant,
    and live leaderboards show that score; a backtest is judged by the latest reading always.
    """

    asset: Text = "unique_id"
    target: Text = "y"
    layout: Literal["long", "days"] = "long"
    columns: Texts | None = None
    unit: Text | None = None
    kind: Literal["power", "energy", "register"] | None = None
    sign: Literal[1, -1] = 1
    scale: Real = 1.0
    digits: Count | None = None
    max_step: Real | None = None
    step: Step | None = None
    min_share: Real = 1.0
    truth: Literal["latest", "first"] = "latest"
    completeness: Real = 0.9
    flat_steps: Count | None = None
    minimum: Real | None = None
    maximum: Real | None = None

    @model_validator(mode="after")
    def _thresholds(self) -> Self:
        if not 0.0 <= self.completeness <= 1.0:
            raise wrong(f"completeness = {self.completeness:g}: accepted: a share from 0 to 1")
        if not 0.0 < self.min_share <= 1.0:
            raise wrong(f"min_share = {self.min_share:g}: accepted: a share above 0 up to 1")
        if self.minimum is not None and self.maximum is not None and self.minimum >= self.maximum:
            raise wrong(f"minimum = {self.minimum:g} is not below maximum = {self.maximum:g}")
        return self

    @model_validator(mode="after")
    def _one_meter(self) -> Self:
        implied = "power" if self.unit in POWER else "energy" if self.unit in ENERGY else None
        fits = {None: (self.kind,), "power": (None, "power"), "energy": (None, "energy", "register")}[implied]
        if self.kind not in fits:
            said = " or ".join(f'kind = "{kind}"' for kind in fits if kind is not None)
            raise wrong(f'kind = "{self.kind}" is not counted in {self.unit}; accepted: {said}')
        if self.kind != "register":
            for key in ("digits", "max_step"):
                if getattr(self, key) is not None:
                    raise wrong(f'{key} is of a register; accepted: with kind = "register"')
        if self.step is not None and self.measured is None:
            raise wrong('step puts readings together; accepted: with kind = "power" or "energy", or with their unit')
        if self.columns is not None and self.layout != "days":
            raise wrong('columns are the steps of a day; accepted: with layout = "days"')
        return self

    @property
    def measured(self) -> str | None:
        """What the numbers are: the kind, or what the unit implies."""
        return self.kind or ("power" if self.unit in POWER else "energy" if self.unit in ENERGY else None)


class CovariateSection(Stamps):
    """``[[covariates]]``: what a model may look at beside the history.

    Its ``columns`` are the names models see. A row belongs to the asset in column ``asset``, or to the series in column
    ``series``, which an asset sees when the register's column ``link`` (by default of the same name) holds its id; with
    neither, all rows are one series that every asset sees. Where several stations or grid points make up what an asset
    sees, the file ``map`` says which: columns asset, series, weight, valid_from and valid_to (the last three may be
    left out); the value is their weighted mean, and known where all of them are.

    ``known = "future"`` without ``available_at`` is perfect foresight. With it, a model is shown at each step of the
    past what was known when that step would have been forecast.
    """

    name: Text | None = None
    columns: Texts
    known: Literal["future", "past"] = "past"
    asset: Text | None = None
    series: Text | None = None
    link: Text | None = None
    map: Text | None = None
    freq: Step | None = None

    @model_validator(mode="after")
    def _one_owner(self) -> Self:
        if self.asset is not None and self.series is not None:
            raise wrong("asset and series both say what a value belongs to; accepted: one of them, or neither")
        if self.link is not None and self.series is None:
            raise wrong(
                'link names a register column that holds series ids; it needs series = "a column of this source"'
            )
        if self.map is not None and (self.series is None or self.link is not None):
            raise wrong(
                'map says which series an asset sees; accepted: with series = "a column of this source", no link'
            )
        return self


class ForecastSection(Stamps):
    """``[[forecasts]]``: what somebody else forecasts for these assets, a candidate called ``external:NAME``.

    ``time`` is the valid time, ``available_at`` the column of the issue time, to which ``publication_delay`` is added.
    ``quantiles`` maps names such as q10 to columns; without it, columns that are called so are taken. A model sees
    these forecasts when its recipe lists ``external:NAME`` among its covariates. They are a candidate of ``product``
    (by default the first one of the fleet), and of another one only where its ``recipes`` say so.
    """

    name: Text
    asset: Text = "unique_id"
    available_at: Text = "issue_time"
    mean: Text = "mean"
    quantiles: dict[Text, Text] | None = None
    product: Text = "default"

    @model_validator(mode="after")
    def _a_name(self) -> Self:
        if not self.name.isprintable() or set(self.name) & set(",:") or self.name != self.name.strip():
            raise wrong(f'name = "{self.name}": accepted: a name without comma and colon')
        return self

    @property
    def recipe(self) -> str:
        """The candidate that these forecasts are."""
        return f"external:{self.name}"


class MaskSection(Origin):
    """``[[masks]]``: stretches of time in which the readings of an asset tell nothing, such as outages.

    The keys name columns. A reading is masked when its interval begins at or after ``valid_from`` and before
    ``valid_to``, which may be empty while it lasts; ``timezone`` is the clock of times without a zone, by default that
    of [fleet]. Without ``available_at`` a mask is known from its first ingest on.
    """

    asset: Text = "asset_id"
    valid_from: Text = "valid_from"
    valid_to: Text = "valid_to"
    reason: Text = "reason"
    available_at: Text = "available_at"
    actor: Text = "actor"
    timezone: Zone | None = None


class MaskPolicySection(Section):
    """``[mask_policy.REASON]``: what becomes of readings that are masked for a reason; left out unless it says keep.

    ``training`` is about what models learn from, ``scoring`` about backtests and live scores, and with them about
    promotion.
    """

    training: Literal["drop", "keep"] = "drop"
    scoring: Literal["leave_out", "keep"] = "leave_out"


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


class JobSection(Section):
    """``[jobs.NAME]``: what runs when. Its kind is its name unless it says another.

    ``cron`` is on the clock of ``timezone`` (of the fleet, when left out): of a time that a change of the clock skips
    the first instant after the gap is meant (with ``daylight = "skip"`` none), of one that comes twice the earlier
    (with "twice" both). ``every`` counts elapsed time. ``after`` names a job whose slots it follows, once they went
    well. What was missed while nothing ran is caught up: the last slot, none, or all up to ``catch_up_limit``. A run
    that failed is tried again ``retries`` times, after ``backoff`` and twice as long each time; one that takes longer
    than ``timeout`` is ended and has failed.
    """

    kind: Text | None = None
    cron: Text | None = None
    every: PositiveDuration | None = None
    after: Text | None = None
    timezone: Zone | None = None
    daylight: Literal["once", "twice", "skip"] = "once"
    catch_up: Literal["none", "last", "all"] = "last"
    catch_up_limit: Count = 24
    retries: NonNegative = 0
    backoff: Duration = timedelta(seconds=30)
    timeout: PositiveDuration | None = None
    product: Text | None = None
    recipes: Texts | None = None
    select: Text | None = None
    where: Text | None = None
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_clock(self) -> Self:
        given = [key for key in ("cron", "every", "after") if getattr(self, key) is not None]
        if len(given) != 1:
            said = " and ".join(given) or "nothing"
            raise wrong(f"{said} says when it runs; accepted: exactly one of cron, every, after")
        return self
