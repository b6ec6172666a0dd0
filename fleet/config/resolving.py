"""What one asset gets: the globals, what the register says of it, and the overrides that match it.

The most specific wins: an asset beats a group, a later group an earlier one. Assets that match the same overrides
share one resolved view, so ten thousand assets cost ten thousand look-ups and a handful of validations.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import time
from functools import cached_property
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from fleet.calendar import is_calendar_step, step_of, step_seconds
from fleet.config.candidates import BacktestSection, PromotionSection, TrainSection
from fleet.config.products import PRODUCT_SAYS, FleetSection, ProductSection
from fleet.config.steps import default_seasons, default_stride, holds_step, is_multiple, mixed_window, steps_in
from fleet.config.values import WEEKDAYS
from fleet.errors import ConfigInvalid
from fleet.gate import Gate
from fleet.timetable import Timetable

OVERRIDABLE = MappingProxyType(
    {
        "fleet": ("freq", "horizon", "products", "quantiles", "seasons", "timezone"),
        "train": tuple(sorted(TrainSection.model_fields)),
        "backtest": tuple(sorted(BacktestSection.model_fields)),
        "promotion": tuple(sorted(PromotionSection.model_fields)),
    }
)
_FACTS = ("timezone", "freq")
DEFAULT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetConfig:
    """What holds for one asset and product, everything decided.

    Args:
        horizon: steps of a rolling product.
        recipes: names of its candidates.
        product: which one this is about.
        products: names of all that are issued for the asset.
        days_ahead: of a delivery, local days from the issue to the first one it is about; None for a rolling product.
        days: of a delivery, how many local days.
        timetable: when it is issued; None follows the data.
        gate: until when a forecast counts; None is for ever.
        static: its row of the register, further columns included.
    """

    asset_id: str
    timezone: str
    freq: str
    horizon: int
    seasons: tuple[int, ...]
    quantiles: tuple[float, ...]
    seed: int
    recipes: tuple[str, ...]
    train: TrainSection
    backtest: BacktestSection
    promotion: PromotionSection
    product: str = DEFAULT
    products: tuple[str, ...] = (DEFAULT,)
    days_ahead: int | None = None
    days: int = 1
    timetable: Timetable | None = None
    gate: Gate | None = None
    static: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One value that holds for an asset, and where it comes from."""

    key: str
    value: object
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """``[overrides."column=value"]``: what is different for the assets whose register row says so, or for one asset."""

    key: str
    column: str
    value: str
    sections: Mapping[str, Mapping[str, Any]]

    @property
    def one_asset(self) -> bool:
        """Whether it names an asset and not a group."""
        return self.column == "asset"

    @property
    def products(self) -> Mapping[str, Mapping[str, object]]:
        """What it says of products, by their names."""
        return self.sections.get("products", {})


@dataclass(frozen=True, kw_only=True)
class Resolver:
    """The globals as they stand in the file, and the overrides in the order they win in, the last one strongest.

    Args:
        recipes: names of those of the file.
        outside: of those that are somebody else's forecasts the product they are of; they compete in no other unasked.
        products: by name what the file says of them.
        added: names of candidates that stand in no file; every asset has them.
    """

    base: Mapping[str, Mapping[str, object]]
    overrides: tuple[Override, ...]
    recipes: tuple[str, ...]
    products: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    outside: Mapping[str, str] = field(default_factory=dict)
    _views: dict[object, AssetConfig] = field(default_factory=dict)

    @cached_property
    def _groups(self) -> dict[str, dict[str, list[int]]]:
        """By column and value: the places in `overrides`."""
        groups: dict[str, dict[str, list[int]]] = {}
        for number, override in enumerate(self.overrides):
            groups.setdefault(override.column, {}).setdefault(override.value, []).append(number)
        return groups

    def matching(self, asset_id: str, facts: Mapping[str, object]) -> tuple[int, ...]:
        """The overrides that hold for an asset, weakest first."""
        found: list[int] = []
        for column, values in self._groups.items():
            value = asset_id if column == "asset" else as_text(facts.get(column))
            found += values.get(value, ()) if value is not None else ()
        return tuple(sorted(found))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What the file has: ``default``, where [fleet] has a horizon or no product is named, and the products."""
        rolling = not self.products or "horizon" in self.base["fleet"] or DEFAULT in self.products
        return (*((DEFAULT,) if rolling else ()), *(name for name in self.products if name != DEFAULT))

    @property
    def main(self) -> str:
        """The product that is meant where none is named."""
        return self.names[0]

    def for_asset(self, asset_id: str, register: Mapping[str, object], product: str | None = None) -> AssetConfig:
        """The view of one asset and product (None is the main one); cheap after the first of its kind."""
        facts = facts_of(register)
        timezone, freq, product = facts.get("timezone"), facts.get("freq"), product or self.main
        found = self.matching(asset_id, facts) if self.overrides else ()
        view = self._views.get((found, timezone, freq, product))
        if view is None:
            view = self._views[found, timezone, freq, product] = self._resolved(found, facts, product)
        return replace(view, asset_id=asset_id, static=facts)

    def _resolved(self, found: tuple[int, ...], facts: Mapping[str, object], product: str) -> AssetConfig:
        merged, rules = self._merged(found, facts), self._rules(found)
        raw = {name: {key: value for key, (value, _) in keys.items()} for name, keys in merged.items()}
        other_step = self._other_step(merged)
        if other_step and merged["fleet"].get("seasons", (None, ""))[1] == "[fleet]":
            # Seasons are counted in steps: those of [fleet] mean nothing to an asset with another step.
            del raw["fleet"]["seasons"]
        fleet, rule = _fleet_section(raw["fleet"]), rules[product]
        own = {key: getattr(rule, key) for key in PRODUCT_SAYS if getattr(rule, key) is not None}
        for key, value in own.items():
            raw[PRODUCT_SAYS[key]][key] = value
        train = TrainSection.model_validate(raw["train"])
        if other_step and "window" not in raw["train"] and (window := mixed_window(fleet.freq)):
            train = train.model_copy(update={"window": window})
        steps = steps_in(rule.horizon or fleet.horizon, fleet.freq)
        foreign = other_step and "stride" not in own and merged["backtest"].get("stride", (None, ""))[1] == "[backtest]"
        backtest = _backtest_section(raw["backtest"], rule, fleet.freq, steps, foreign=foreign)
        promotion = PromotionSection.model_validate(raw["promotion"])
        if "min_points" not in raw["promotion"] and (other_step or product != DEFAULT):
            most = backtest.origins * (steps if rule.target is None else steps_in(f"{rule.days or 1}D", fleet.freq))
            promotion = promotion.model_copy(update={"min_points": min(promotion.min_points, most)})
        mine = tuple(name for name in self.recipes if self.outside.get(name, product) == product)
        wanted = self.names if fleet.products is None else fleet.products
        return AssetConfig(
            asset_id="",
            timezone=fleet.timezone,
            freq=fleet.freq,
            horizon=steps,
            seasons=default_seasons(fleet.freq) if fleet.seasons is None else fleet.seasons,
            quantiles=own.get("quantiles", fleet.quantiles),
            seed=fleet.seed,
            recipes=(*(mine if train.recipes is None else train.recipes), *self.added),
            train=train,
            backtest=backtest,
            promotion=promotion,
            product=product,
            products=tuple(name for name in wanted if suited(rules[name], fleet.freq)),
            days_ahead=rule.days_ahead,
            days=rule.days or 1,
            timetable=timetable_of(rule),
            gate=gate_of(rule),
        )

    def _other_step(self, merged: Mapping[str, Mapping[str, tuple[object, str]]]) -> bool:
        return merged["fleet"].get("freq", ("",))[0] != self.base["fleet"].get("freq", "")

    def _rules(self, found: Iterable[int]) -> dict[str, ProductSection]:
        """Every product as it is for the assets that these overrides hold for."""
        raw = {name: dict(self.products.get(name, {})) for name in self.names}
        for number in found:
            for name, keys in self.overrides[number].products.items():
                raw[name].update(keys)
        return {name: ProductSection.model_validate(keys) for name, keys in raw.items()}

    def _merged(self, found: Iterable[int], facts: Mapping[str, object]) -> dict[str, dict[str, tuple[object, str]]]:
        """By section and key: the value as the file writes it, and where it stands."""
        merged: dict[str, dict[str, tuple[object, str]]] = {
            name: {key: (value, f"[{name}]") for key, value in self.base.get(name, {}).items()} for name in OVERRIDABLE
        }
        for key in _FACTS:
            if facts.get(key) not in (None, ""):
                merged["fleet"][key] = (facts[key], f"register, column {key}")
        for number in found:
            override = self.overrides[number]
            for name, keys in override.sections.items():
                if name not in OVERRIDABLE:
                    continue
                origin = f'[overrides."{override.key}".{name}]'
                merged[name].update({key: (value, origin) for key, value in keys.items()})
        return merged

    def show(self, asset_id: str, register: Mapping[str, object], product: str | None = None) -> list[Setting]:
        """Every value that holds for an asset and product, with where it comes from."""
        view, facts = self.for_asset(asset_id, register, product), facts_of(register)
        found = self.matching(asset_id, facts)
        merged, said = self._merged(found, facts), self._said(found)
        sections: dict[str, dict[str, Any]] = {
            "fleet": {key: getattr(view, key) for key in (*OVERRIDABLE["fleet"], "seed")},
            "train": {**dict(view.train), "recipes": view.recipes},
            "backtest": dict(view.backtest),
            "promotion": dict(view.promotion),
        }
        rows = []
        for name, values in sections.items():
            for key, value in values.items():
                origin = merged[name][key][1] if key in merged[name] else "default"
                if PRODUCT_SAYS.get(key) == name:
                    origin = said[view.product].get(key, origin)
                rows.append(Setting(key=f"{name}.{key}", value=value, origin=origin))
        rules = self._rules(found)
        for name in view.products:
            for key, origin in said[name].items():
                rows.append(Setting(key=f"products.{name}.{key}", value=getattr(rules[name], key), origin=origin))
        return rows

    def _said(self, found: Iterable[int]) -> dict[str, dict[str, str]]:
        """By product and key where it stands, of what the file and these overrides say."""
        origins = {name: dict.fromkeys(self.products.get(name, ()), f"[products.{name}]") for name in self.names}
        for number in found:
            override = self.overrides[number]
            for name, keys in override.products.items():
                origins[name].update(dict.fromkeys(keys, f'[overrides."{override.key}".products.{name}]'))
        return origins


def _fleet_section(raw: Mapping[str, object]) -> FleetSection:
    try:
        return FleetSection.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # The file was checked when it was read; what is left to be wrong came with the register.
        raise ConfigInvalid(f'register: {first["loc"][0]} = "{first["input"]}": {first["msg"]}') from error


def _backtest_section(
    raw: Mapping[str, object], rule: ProductSection, freq: str, steps: int, *, foreign: bool
) -> BacktestSection:
    """How a product is judged, the stride decided.

    Args:
        foreign: the stride was written with another step in mind, and holds only where this one fits into it.
    """
    section = BacktestSection.model_validate(raw)
    stride = section.stride
    if foreign and stride is not None and not is_multiple(stride, freq):
        stride = None
    if stride is None and rule.issue is None:
        stride = default_stride(freq, steps)
    return section.model_copy(update={"stride": stride})


def timetable_of(rule: ProductSection) -> Timetable | None:
    """When a product is issued; None where it follows the data.

    >>> timetable_of(ProductSection(issue="00:30", target="today", weekdays=["mon"]))
    Timetable(times=(1800000000,), weekdays=(0,))
    """
    if rule.issue is None:
        return None
    return Timetable(
        times=tuple(map(_after_midnight, rule.issue)), weekdays=tuple(map(WEEKDAYS.index, rule.weekdays or ()))
    )


def gate_of(rule: ProductSection) -> Gate | None:
    """Until when a forecast of a product counts.

    >>> gate_of(ProductSection(issue="11:30", target="tomorrow", gate="12:00", budget="10min"))
    Gate(at=43200000000, budget=600000000)
    """
    if rule.gate is None:
        return None
    return Gate(at=_after_midnight(rule.gate), budget=round(rule.margin_before_gate.total_seconds() * 1e6))


def _after_midnight(at: time) -> int:
    """Microseconds that the clock shows."""
    return ((at.hour * 60 + at.minute) * 60 + at.second) * 1_000_000 + at.microsecond


def suited(rule: ProductSection, freq: str) -> bool:
    """Whether a product means anything to an asset of this step: what it is about holds a step.

    >>> day, hours = ProductSection(issue="11:30", target="tomorrow"), ProductSection(horizon="6h")
    >>> [(suited(day, freq), suited(hours, freq)) for freq in ("15min", "1D", "1W")]
    [(True, True), (True, False), (False, False)]
    """
    if rule.target is None or rule.issue is None:
        return not isinstance(rule.horizon, str) or holds_step(rule.horizon, freq)
    length = step_seconds(freq)
    if is_calendar_step(freq) and (step_of(freq).months or length > (rule.days or 1) * 86_400):
        return False
    last = rule.issue[-1]
    since_midnight = (last.hour * 60 + last.minute) * 60 + last.second
    # Of the day of the issue only what is left counts.
    return bool(rule.days_ahead) or (rule.days or 1) > 1 or since_midnight <= 86_400 - length


def facts_of(register: Mapping[str, object]) -> Mapping[str, object]:
    """A register row with the columns that the store keeps in ``meta`` beside its own.

    >>> facts_of({"asset_id": "b1", "meta": '{"floors": 5}'})
    {'floors': 5, 'asset_id': 'b1'}
    """
    meta = register.get("meta")
    if meta is None:
        return register
    facts = {key: value for key, value in register.items() if key != "meta"}
    more = json.loads(meta) if isinstance(meta, str) and meta else meta
    return {**more, **facts} if isinstance(more, Mapping) and more else facts


def as_text(value: object) -> str | None:
    """A register value as an override's key writes it.

    >>> as_text("north"), as_text(100.0), as_text(True)
    ('north', '100', 'true')
    """
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.15g}" if isinstance(value, float) else str(value)
