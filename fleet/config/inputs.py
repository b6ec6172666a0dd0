"""What comes in: the register, readings, covariates, other people's forecasts, masks.

A section says where its table is, what its columns are called and what its stamps mean; reading it is of
``fleet.sources`` and ``fleet.ingest``.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from fleet.config.sections import Origin, Section
from fleet.config.values import ENERGY, POWER, Count, Duration, Real, Step, Text, Texts, Zone, wrong, zone

Label = Literal["start", "end"]
Ambiguous = Literal["infer", "first", "second", "refuse"]


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
