"""The whole of ``fleet.toml`` as one frozen value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fleet.config.alerting import AlertSection, ChannelSection
from fleet.config.candidates import BacktestSection, PromotionSection, RecipeConfig, TrainSection
from fleet.config.delivering import DeliverySection
from fleet.config.inputs import (
    AssetsSection,
    CovariateSection,
    DataSection,
    ForecastSection,
    MaskPolicySection,
    MaskSection,
)
from fleet.config.messages import meant
from fleet.config.products import FleetSection, ProductSection, RetentionSection
from fleet.config.resolving import AssetConfig, Override, Resolver, Setting
from fleet.config.scheduling import JobSection
from fleet.config.steps import default_seasons
from fleet.errors import ConfigInvalid

REGISTER_COLUMNS = ("kind", "region", "capacity", "unit", "timezone", "freq", "state")


@dataclass(frozen=True, kw_only=True)
class FleetConfig:
    """A fleet as its file describes it; attributes are named as the sections.

    Args:
        file: where it was read; paths inside are relative to its folder.
        assets: None when the fleet has no register.
        recipes: the candidates, in the order of the file.
        retention: by product; what is not named is kept whole.
    """

    file: Path
    fleet: FleetSection
    assets: AssetsSection | None
    data: DataSection
    covariates: tuple[CovariateSection, ...]
    products: Mapping[str, ProductSection]
    retention: Mapping[str, RetentionSection]
    recipes: Mapping[str, RecipeConfig]
    train: TrainSection
    backtest: BacktestSection
    promotion: PromotionSection
    jobs: Mapping[str, JobSection]
    overrides: tuple[Override, ...]
    resolver: Resolver = field(repr=False)
    forecasts: tuple[ForecastSection, ...] = ()
    alerts: tuple[AlertSection, ...] = ()
    channels: Mapping[str, ChannelSection] = field(default_factory=dict)
    deliveries: Mapping[str, DeliverySection] = field(default_factory=dict)
    masks: tuple[MaskSection, ...] = ()
    mask_policy: Mapping[str, MaskPolicySection] = field(default_factory=dict)

    @property
    def learnt_masks(self) -> tuple[str, ...]:
        """Reasons of masks whose readings models learn from all the same."""
        return tuple(sorted(name for name, policy in self.mask_policy.items() if policy.training == "keep"))

    @property
    def scored_masks(self) -> tuple[str, ...]:
        """Reasons of masks whose readings are scored all the same."""
        return tuple(sorted(name for name, policy in self.mask_policy.items() if policy.scoring == "keep"))

    def jobs_of(self, kind: str) -> tuple[str, ...]:
        """The names of the jobs of a kind."""
        return tuple(name for name, section in self.jobs.items() if (section.kind or name) == kind)

    @property
    def folder(self) -> Path:
        """The folder of the file."""
        return self.file.parent

    @property
    def store_path(self) -> Path:
        """Where the store is."""
        return self.folder / self.fleet.store

    @property
    def product_names(self) -> tuple[str, ...]:
        """What may be issued: the products of the file, and ``default``, the horizon of [fleet], before them.

        A file that names products and no horizon in [fleet] has no ``default``.
        """
        return self.resolver.names

    def for_asset(
        self, asset_id: str, register: Mapping[str, object] | None = None, product: str | None = None
    ) -> AssetConfig:
        """What holds for one asset, given its row of the register (a row of the store's ``assets``).

        Args:
            product: which of `product_names`; None is the first.
        """
        return self.resolver.for_asset(asset_id, register or {}, product)

    def show(
        self, asset_id: str, register: Mapping[str, object] | None = None, product: str | None = None
    ) -> list[Setting]:
        """Every value that holds for one asset and product, with where it comes from."""
        return self.resolver.show(asset_id, register or {}, product)

    def recipe(self, name: str) -> RecipeConfig:
        """A recipe by name: one of the file, or one that every fleet has for its fallbacks."""
        found = self.recipes.get(name) or standard_recipes(self.fleet).get(name)
        if found is None:
            raise ConfigInvalid(f"{self.file.name}: no recipe {name}{meant(name, {*self.recipes, *STANDARD})}")
        return found

    def with_recipe(self, recipe: RecipeConfig) -> FleetConfig:
        """The same fleet with one candidate more for every asset; in the place of one of this name."""
        resolver = replace(self.resolver, added=tuple(dict.fromkeys((*self.resolver.added, recipe.name))), _views={})
        return replace(self, recipes={**self.recipes, recipe.name: recipe}, resolver=resolver)

    def outside(self, path: Path, name: str | None = None) -> ForecastSection:
        """How a file of somebody else's forecasts is read: as ``[[forecasts]]`` says under this name, or as usual.

        Args:
            path: of the file; a relative one begins in the working folder.
            name: None is the only one of the file, or that of the path.
        """
        only = self.forecasts[0].name if len(self.forecasts) == 1 else path.name.split(".")[0]
        name = only if name is None else name
        found = next((section for section in self.forecasts if section.name == name), None) or ForecastSection(
            name=name, product=self.resolver.main
        )
        return found.model_copy(update={"path": (str(path.resolve()),), "sql": None, "python": None})

    def foresight_names(self) -> frozenset[str]:
        """The covariates whose future values are used although the source does not say when they became known."""
        sources = (source for source in self.covariates if source.known == "future" and source.available_at is None)
        return frozenset(name for source in sources for name in source.columns)

    def vintage_names(self) -> frozenset[str]:
        """The covariates that are forecasts and say when each of their values was known."""
        sources = (source for source in self.covariates if source.known == "future" and source.available_at is not None)
        return frozenset(name for source in sources for name in source.columns)

    def check_register(self, columns: Iterable[str]) -> None:
        """Refuses an override whose column the register does not have.

        Args:
            columns: those of the register, further ones included.
        """
        known = {"asset", *REGISTER_COLUMNS, *columns}
        for override in self.overrides:
            if override.column not in known:
                raise ConfigInvalid(
                    f'{self.file.name}: [overrides."{override.key}"]: the register has no column '
                    f"{override.column}{meant(override.column, known)}"
                )


STANDARD = ("daily_naive", "weekly_naive", "naive", "mean")


def standard_recipes(fleet: FleetSection) -> dict[str, RecipeConfig]:
    """The rules that every fleet has under these names unless its file says otherwise.

    ``daily_naive`` repeats the first season, ``weekly_naive`` the second where there is one.

    >>> standard_recipes(FleetSection())["weekly_naive"].options
    {'season': 168}
    """
    seasons = default_seasons(fleet.freq) if fleet.seasons is None else fleet.seasons
    # Without the option an asset of another step than the fleet's repeats its own first season.
    weekly: dict[str, object] = {"season": seasons[1]} if len(seasons) > 1 else {}
    options: dict[str, tuple[str, dict[str, object]]] = {
        "daily_naive": ("seasonal_naive", {}),
        "weekly_naive": ("seasonal_naive", weekly),
        "naive": ("naive", {}),
        "mean": ("mean", {}),
    }
    return {name: RecipeConfig(name=name, adapter=adapter, options=given) for name, (adapter, given) in options.items()}
