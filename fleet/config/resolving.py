"""What one asset gets: the globals, what the register says of it, and the overrides that match it.

The most specific wins: an asset beats a group, a later group an earlier one. Assets that match the same overrides
share one resolved view, so ten thousand assets cost ten thousand look-ups and a handful of validations.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from fleet.config.models import BacktestSection, FleetSection, PromotionSection, TrainSection
from fleet.errors import ConfigInvalid

OVERRIDABLE = MappingProxyType(
    {
        "fleet": ("freq", "horizon", "quantiles", "seasons", "timezone"),
        "train": tuple(sorted(TrainSection.model_fields)),
        "backtest": tuple(sorted(BacktestSection.model_fields)),
        "promotion": tuple(sorted(PromotionSection.model_fields)),
    }
)
_FACTS = ("timezone", "freq")
_STEP_SECONDS = {"s": 1, "min": 60, "h": 3_600, "D": 86_400, "W": 604_800, "MS": 2_629_800, "QS": 7_889_400}
_STEP_SECONDS["YS"] = 31_557_600
_SEASONS = {"D": 7, "W": 52, "MS": 12, "QS": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetConfig:
    """What holds for one asset, everything decided.

    Args:
        recipes: names of its candidates.
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
    sections: Mapping[str, Mapping[str, object]]

    @property
    def one_asset(self) -> bool:
        """Whether it names an asset and not a group."""
        return self.column == "asset"


@dataclass(frozen=True, kw_only=True)
class Resolver:
    """The globals as they stand in the file, and the overrides in the order they win in, the last one strongest.

    Args:
        recipes: names of those of the file.
        added: names of candidates that stand in no file; every asset has them.
    """

    base: Mapping[str, Mapping[str, object]]
    overrides: tuple[Override, ...]
    recipes: tuple[str, ...]
    added: tuple[str, ...] = ()
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

    def for_asset(self, asset_id: str, register: Mapping[str, object]) -> AssetConfig:
        """The view of one asset; cheap after the first of its kind."""
        facts = facts_of(register)
        timezone, freq = facts.get("timezone"), facts.get("freq")
        found = self.matching(asset_id, facts) if self.overrides else ()
        view = self._views.get((found, timezone, freq))
        if view is None:
            view = self._views[found, timezone, freq] = self._resolved(found, facts)
        return AssetConfig(
            asset_id=asset_id,
            timezone=view.timezone,
            freq=view.freq,
            horizon=view.horizon,
            seasons=view.seasons,
            quantiles=view.quantiles,
            seed=view.seed,
            recipes=view.recipes,
            train=view.train,
            backtest=view.backtest,
            promotion=view.promotion,
            static=facts,
        )

    def _resolved(self, found: tuple[int, ...], facts: Mapping[str, object]) -> AssetConfig:
        merged = self._merged(found, facts)
        other_step = merged["fleet"].get("freq", ("",))[0] != self.base["fleet"].get("freq", "")
        if other_step and merged["fleet"].get("seasons", (None, ""))[1] == "[fleet]":
            # Seasons are counted in steps: those of [fleet] mean nothing to an asset with another step.
            del merged["fleet"]["seasons"]
        raw = {name: {key: value for key, (value, _) in keys.items()} for name, keys in merged.items()}
        try:
            fleet = FleetSection.model_validate(raw["fleet"])
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            # The file was checked when it was read; what is left to be wrong came with the register.
            raise ConfigInvalid(f'register: {first["loc"][0]} = "{first["input"]}": {first["msg"]}') from error
        train = TrainSection.model_validate(raw["train"])
        backtest = BacktestSection.model_validate(raw["backtest"])
        if backtest.stride is None:
            backtest = backtest.model_copy(update={"stride": default_stride(fleet.freq, fleet.horizon)})
        return AssetConfig(
            asset_id="",
            timezone=fleet.timezone,
            freq=fleet.freq,
            horizon=fleet.horizon,
            seasons=default_seasons(fleet.freq) if fleet.seasons is None else fleet.seasons,
            quantiles=fleet.quantiles,
            seed=fleet.seed,
            recipes=(*(self.recipes if train.recipes is None else train.recipes), *self.added),
            train=train,
            backtest=backtest,
            promotion=PromotionSection.model_validate(raw["promotion"]),
        )

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
                origin = f'[overrides."{override.key}".{name}]'
                merged[name].update({key: (value, origin) for key, value in keys.items()})
        return merged

    def show(self, asset_id: str, register: Mapping[str, object]) -> list[Setting]:
        """Every value that holds for an asset, with where it comes from."""
        view, facts = self.for_asset(asset_id, register), facts_of(register)
        merged = self._merged(self.matching(asset_id, facts), facts)
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
                rows.append(Setting(key=f"{name}.{key}", value=value, origin=origin))
        return rows


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


def split_step(freq: str) -> tuple[int, str]:
    """The number and the unit of a step.

    >>> split_step("15min")
    (15, 'min')
    """
    unit = freq.lstrip("0123456789")
    return int(freq[: len(freq) - len(unit)] or 1), unit


def default_seasons(freq: str) -> tuple[int, ...]:
    """A day and a week in steps; a week of days, a year of weeks, months or quarters.

    >>> default_seasons("1h"), default_seasons("15min"), default_seasons("1D"), default_seasons("1MS")
    ((24, 168), (96, 672), (7,), (12,))
    """
    count, unit = split_step(freq)
    if unit in _SEASONS:
        return (_SEASONS[unit] // count,) if _SEASONS[unit] % count == 0 else (1,)
    day, rest = divmod(86_400, count * _STEP_SECONDS.get(unit, 86_400))
    return (1,) if rest or unit == "YS" else (day, 7 * day)


def default_stride(freq: str, horizon: int) -> timedelta:
    """From one origin to the next: a day, or the whole horizon where that is longer.

    >>> default_stride("1h", 24), default_stride("1h", 48)
    (datetime.timedelta(days=1), datetime.timedelta(days=2))
    """
    count, unit = split_step(freq)
    return max(timedelta(days=1), timedelta(seconds=count * _STEP_SECONDS[unit] * horizon))
