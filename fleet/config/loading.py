"""From the text of ``fleet.toml`` to a frozen configuration, or to one line that says what is wrong with it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from fleet.config.alerting import AlertSection, ChannelSection
from fleet.config.candidates import BacktestSection, PromotionSection, RecipeConfig, TrainSection
from fleet.config.delivering import DeliverySection
from fleet.config.document import STANDARD, FleetConfig, standard_recipes
from fleet.config.inputs import (
    AssetsSection,
    CovariateSection,
    DataSection,
    ForecastSection,
    MaskPolicySection,
    MaskSection,
)
from fleet.config.messages import invalid, meant, place, syntax_error, toml_text
from fleet.config.products import FleetSection, ProductSection, RetentionSection
from fleet.config.resolving import OVERRIDABLE, Override, Resolver
from fleet.config.scheduling import JobSection
from fleet.errors import AdapterMissing, ConfigInvalid, MetricUnknown, ModelBroken

FILE_NAME = "fleet.toml"
_SECTIONS: dict[str, type[BaseModel]] = {
    "fleet": FleetSection,
    "assets": AssetsSection,
    "data": DataSection,
    "covariates": CovariateSection,
    "forecasts": ForecastSection,
    "masks": MaskSection,
    "train": TrainSection,
    "backtest": BacktestSection,
    "promotion": PromotionSection,
}
_NAMED: dict[str, type[BaseModel]] = {
    "products": ProductSection,
    "retention": RetentionSection,
    "mask_policy": MaskPolicySection,
    "jobs": JobSection,
    "channels": ChannelSection,
    "deliveries": DeliverySection,
}
_KNOWN = (*_SECTIONS, *_NAMED, "recipes", "overrides", "alerts")

Model = TypeVar("Model", bound=BaseModel)


def find(start: Path, *, config: Path | str | None = None, environment: str | None = None) -> Path:
    """The configuration to use: the one named, the one of ``TSFLEET_CONFIG``, or the first one upward from a folder.

    Args:
        start: the folder to begin in.
        config: what ``--config`` says; a folder stands for the file in it.
        environment: the value of ``TSFLEET_CONFIG``; this function reads no environment.
    """
    for given, said in ((config, "--config"), (environment, "TSFLEET_CONFIG")):
        if given:
            path = Path(given) / FILE_NAME if Path(given).is_dir() else Path(given)
            if not path.is_file():
                raise ConfigInvalid(f"{path}: no such file, named by {said}", hint="`tsfleet init` writes a first one")
            return path
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    raise ConfigInvalid(
        f"no {FILE_NAME} in {start.resolve()} or any folder above it",
        hint="`tsfleet init` writes one; --config names one elsewhere",
    )


def load(path: Path | str, *, check_recipes: bool = True) -> FleetConfig:
    """Reads and checks a configuration.

    Args:
        path: the file, or the folder it is in.
        check_recipes: also have the adapters check their options, which imports them; a reader of the store need not.
    """
    file = Path(path) / FILE_NAME if Path(path).is_dir() else Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigInvalid(f"{file}: byte {error.start + 1} is not UTF-8") from error
    except OSError as error:
        raise ConfigInvalid(f"{file}: {error.strerror}", hint="`tsfleet init` writes a first one") from error
    return parse(text, file, check_recipes=check_recipes)


def parse(text: str, file: Path, *, check_recipes: bool = True) -> FleetConfig:
    """A configuration from its text; `file` says where it would stand."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise syntax_error(file.name, error, text) from error
    return _Reader(file).config(raw, check_recipes=check_recipes)


class _Reader:
    """Reads the sections of one file; every error names it."""

    def __init__(self, file: Path) -> None:
        self.file, self.name = file, file.name

    def config(self, raw: Mapping[str, Any], *, check_recipes: bool) -> FleetConfig:
        for key in raw:
            if key not in _KNOWN:
                raise self.refused(f"[{key}]: unknown section{meant(key, _KNOWN)}")
        fleet = self.section(FleetSection, raw, "fleet")
        outside = self.forecasts(raw.get("forecasts", []))
        recipes = self.recipes(raw.get("recipes", {}), fleet)
        recipes |= {
            section.recipe: RecipeConfig(
                name=section.recipe, adapter="external", options={"name": section.name}, covariates=(section.recipe,)
            )
            for section in outside
        }
        train = self.section(TrainSection, raw, "train")
        base = {name: self.table(raw.get(name, {}), [name]) for name in OVERRIDABLE}
        products = self.named(ProductSection, raw, "products")
        overrides = self.overrides(raw.get("overrides", {}), base, raw.get("products", {}))
        resolver = Resolver(
            base=base, overrides=overrides, recipes=tuple(recipes), products=dict(raw.get("products", {}))
        )
        main = {"product": resolver.main}
        outside = tuple(s if "product" in s.model_fields_set else s.model_copy(update=main) for s in outside)
        resolver = replace(resolver, outside={section.recipe: section.product for section in outside})
        config = FleetConfig(
            file=self.file,
            fleet=fleet,
            assets=self.section(AssetsSection, raw, "assets") if "assets" in raw else None,
            data=self.section(DataSection, raw, "data"),
            covariates=self.covariates(raw.get("covariates", [])),
            forecasts=outside,
            masks=self.masks(raw.get("masks", [])),
            mask_policy=self.named(MaskPolicySection, raw, "mask_policy"),
            products=products,
            retention=self.named(RetentionSection, raw, "retention"),
            recipes=recipes,
            train=train,
            backtest=self.section(BacktestSection, raw, "backtest"),
            promotion=self.section(PromotionSection, raw, "promotion"),
            jobs=self.named(JobSection, raw, "jobs"),
            alerts=self.alerts(raw.get("alerts", [])),
            channels=self.named(ChannelSection, raw, "channels"),
            deliveries=self.deliveries(raw, resolver.main),
            overrides=overrides,
            resolver=resolver,
        )
        self.check_names(config)
        if check_recipes:
            self.check_options(recipes.values())
            self.check_metrics(config)
        return config

    def refused(self, text: str, *, hint: str = "") -> ConfigInvalid:
        return ConfigInvalid(f"{self.name}: {text}", hint=hint)

    def table(self, raw: object, where: list[str | int]) -> Mapping[str, Any]:
        if not isinstance(raw, Mapping):
            raise self.refused(f"{'.'.join(map(str, where))} = {toml_text(raw)}: expected a section {place(where)}")
        return raw

    def checked(self, model: type[Model], raw: object, where: list[str | int]) -> Model:
        try:
            return model.model_validate(dict(self.table(raw, where)))
        except ValidationError as error:
            raise invalid(self.name, where, error, model, _SECTIONS) from error

    def section(self, model: type[Model], raw: Mapping[str, Any], name: str) -> Model:
        return self.checked(model, raw.get(name, {}), [name])

    def named(self, model: type[Model], raw: Mapping[str, Any], name: str) -> dict[str, Model]:
        tables = self.table(raw.get(name, {}), [name])
        return {key: self.checked(model, table, [name, key]) for key, table in tables.items()}

    def deliveries(self, raw: Mapping[str, Any], main: str) -> dict[str, DeliverySection]:
        """Each of its product, by default the first of the fleet."""
        found = self.named(DeliverySection, raw, "deliveries")
        return {
            name: section if "product" in section.model_fields_set else section.model_copy(update={"product": main})
            for name, section in found.items()
        }

    def covariates(self, raw: object) -> tuple[CovariateSection, ...]:
        if not isinstance(raw, list):
            raise self.refused("[covariates]: there may be several; write [[covariates]]")
        found = tuple(self.checked(CovariateSection, table, ["covariates", n]) for n, table in enumerate(raw))
        for number, covariate in enumerate(found):
            if not covariate.given:
                where = place(["covariates", number])
                raise self.refused(f"{where}: nothing says where the data are; accepted: one of path, sql, python")
        columns = [name for covariate in found for name in covariate.columns]
        for name in columns:
            if columns.count(name) > 1:
                raise self.refused(f'[[covariates]] columns: "{name}" stands twice', hint="rename it with sql")
        return found

    def masks(self, raw: object) -> tuple[MaskSection, ...]:
        if not isinstance(raw, list):
            raise self.refused("[masks]: there may be several; write [[masks]]")
        found = tuple(self.checked(MaskSection, table, ["masks", n]) for n, table in enumerate(raw))
        for number, masks in enumerate(found):
            if not masks.given:
                where = place(["masks", number])
                raise self.refused(f"{where}: nothing says where the masks are; accepted: one of path, sql, python")
        return found

    def forecasts(self, raw: object) -> tuple[ForecastSection, ...]:
        if not isinstance(raw, list):
            raise self.refused("[forecasts]: there may be several; write [[forecasts]]")
        found = tuple(self.checked(ForecastSection, table, ["forecasts", n]) for n, table in enumerate(raw))
        names = [section.name for section in found]
        for name in names:
            if names.count(name) > 1:
                raise self.refused(f'[[forecasts]] name: "{name}" stands twice')
        return found

    def alerts(self, raw: object) -> tuple[AlertSection, ...]:
        if not isinstance(raw, list):
            raise self.refused("[alerts]: there may be several; write [[alerts]]")
        found = tuple(self.checked(AlertSection, table, ["alerts", n]) for n, table in enumerate(raw))
        names = [rule.name for rule in found]
        for name in names:
            if names.count(name) > 1:
                raise self.refused(f"[[alerts]] name: {toml_text(name)} stands twice")
        return found

    def recipes(self, raw: object, fleet: FleetSection) -> dict[str, RecipeConfig]:
        found = {}
        for name, table in self.table(raw, ["recipes"]).items():
            options = dict(self.table(table, ["recipes", name]))
            adapter = options.pop("adapter", None)
            if not isinstance(adapter, str) or not adapter:
                got = "no adapter" if adapter is None else f"adapter = {toml_text(adapter)}"
                near = meant(next(iter(options), ""), ["adapter"]) if adapter is None else ""
                where = place(["recipes", name])
                raise self.refused(f"{where}: {got}{near}", hint='such as adapter = "seasonal_naive"')
            seen = self.seen_covariates(name, options.pop("covariates", None))
            before, after = (self.function(name, key, options.pop(key, None)) for key in ("before", "after"))
            found[name] = RecipeConfig(
                name=name, adapter=adapter, options=options, covariates=seen, before=before, after=after
            )
        if found:
            return found
        standard = standard_recipes(fleet)
        weekly = ("weekly_naive",) if standard["weekly_naive"].options else ()
        return {name: standard[name] for name in ("daily_naive", *weekly)}

    def function(self, recipe: str, key: str, raw: object) -> str | None:
        if raw is None:
            return None
        if not isinstance(raw, str) or not all(part.strip() for part in raw.partition(":")):
            where = place(["recipes", recipe])
            raise self.refused(f'{where} {key} = {toml_text(raw)}: accepted: "module:function"')
        return raw

    def seen_covariates(self, recipe: str, raw: object) -> tuple[str, ...] | None:
        if raw is None:
            return None
        names = [raw] if isinstance(raw, str) else raw
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            where = place(["recipes", recipe])
            raise self.refused(f"{where} covariates = {toml_text(raw)}: accepted: a list of names, [] for none")
        return tuple(names)

    def check_options(self, recipes: Iterable[RecipeConfig]) -> None:
        """Has every adapter check its options; a user's own model is checked when used, for importing runs its code."""
        from fleet.registry import build

        for recipe in recipes:
            if ":" in recipe.adapter:
                continue
            try:
                build(recipe.adapter, recipe.options)
            except (AdapterMissing, ModelBroken):
                continue  # of another distribution, and it does not load: that costs the recipe, not the fleet
            except ConfigInvalid as error:
                raise self.refused(f"{place(['recipes', recipe.name])} {error.message}", hint=error.hint) from error

    def check_metrics(self, config: FleetConfig) -> None:
        """Every metric that decides has a definition, and a skill a baseline that is judged: a configured recipe."""
        from fleet.metrics import parse as metric_of

        sections: list[tuple[list[str | int], PromotionSection]] = [(["promotion"], config.promotion)]
        for override in config.overrides:
            if "promotion" in override.sections:
                raw = {**config.resolver.base["promotion"], **override.sections["promotion"]}
                sections.append((["overrides", override.key, "promotion"], PromotionSection.model_validate(raw)))
        named = [(where, section.metric) for where, section in sections]
        named += [(where, product.metric) for where, product in self.products(config) if product.metric is not None]
        for where, name in named:
            try:
                metric = metric_of(name)
            except MetricUnknown as error:
                raise self.refused(f"{place(where)} metric: {error.message}; {error.hint}") from error
            if metric.family == "skill" and metric.recipe:
                self.known(where, "metric", (metric.recipe,), config.recipes, "recipe")

    def overrides(
        self, raw: object, base: Mapping[str, Mapping[str, Any]], products: Mapping[str, Mapping[str, Any]]
    ) -> tuple[Override, ...]:
        """The overrides, weakest first: groups in the order of the file, then single assets."""
        found = []
        for key, sections in self.table(raw, ["overrides"]).items():
            column, equals, value = key.partition("=")
            if not (column.strip() and equals and value):
                raise self.refused(
                    f'{place(["overrides", key])}: accepted: "asset=ID", or "column=value" with a register column',
                    hint=f'such as [overrides."region={key}".train]' if not equals else "",
                )
            for name, keys in self.table(sections, ["overrides", key]).items():
                if name == "products":
                    self.override_products(key, keys, products)
                else:
                    self.override_section(key, name, keys, base)
            found.append(Override(key=key, column=column.strip(), value=value.strip(), sections=sections))
        return tuple(sorted(found, key=lambda override: override.one_asset))

    def override_section(self, key: str, name: str, keys: object, base: Mapping[str, Mapping[str, Any]]) -> None:
        where: list[str | int] = ["overrides", key, name]
        if name not in OVERRIDABLE:
            raise self.refused(f"{place(where)}: cannot be overridden{meant(name, [*OVERRIDABLE, 'products'])}")
        given = self.table(keys, where)
        for one in given:
            if one not in OVERRIDABLE[name]:
                fixed = one in _SECTIONS[name].model_fields
                what = "holds for the whole fleet;" if fixed else "unknown key"
                ending = f" accepted here: {', '.join(OVERRIDABLE[name])}" if fixed else meant(one, OVERRIDABLE[name])
                raise self.refused(f"{place(where)} {one}: {what}{ending}")
        self.checked(_SECTIONS[name], {**base[name], **given}, where)

    def override_products(self, key: str, tables: object, products: Mapping[str, Mapping[str, Any]]) -> None:
        for name, keys in self.table(tables, ["overrides", key, "products"]).items():
            where: list[str | int] = ["overrides", key, "products", name]
            if name not in products:
                raise self.refused(f"{place(where)}: no product {toml_text(name)}{meant(name, products)}")
            self.checked(ProductSection, {**products[name], **self.table(keys, where)}, where)

    def products(self, config: FleetConfig) -> list[tuple[list[str | int], ProductSection]]:
        """The products of the fleet and those of the overrides, with where each stands."""
        found: list[tuple[list[str | int], ProductSection]] = [
            (["products", name], product) for name, product in config.products.items()
        ]
        for override in config.overrides:
            for name, keys in override.products.items():
                raw = {**config.resolver.products[name], **keys}
                found.append((["overrides", override.key, "products", name], ProductSection.model_validate(raw)))
        return found

    def check_names(self, config: FleetConfig) -> None:
        """Every recipe, covariate and job that is named somewhere exists."""
        anywhere = {*config.recipes, *STANDARD}
        for where, train in self.trainings(config):
            self.known(where, "fallback", train.fallback, anywhere, "recipe")
            self.known(where, "recipes", train.recipes or (), config.recipes, "recipe")
        for where, product in self.products(config):
            self.known(where, "fallback", product.fallback or (), anywhere, "recipe")
            self.known(where, "recipes", product.recipes or (), config.recipes, "recipe")
        issued: list[tuple[list[str | int], Any]] = [(["fleet"], config.fleet.products)]
        issued += [
            (["overrides", o.key, "fleet"], o.sections.get("fleet", {}).get("products")) for o in config.overrides
        ]
        for issued_where, names in issued:
            wanted = (names,) if isinstance(names, str) else tuple(names or ())
            self.known(issued_where, "products", wanted, config.product_names, "product")
        covariates = {name for covariate in config.covariates for name in covariate.columns}
        covariates |= {section.recipe for section in config.forecasts}
        for recipe in config.recipes.values():
            self.known(["recipes", recipe.name], "covariates", recipe.covariates or (), covariates, "covariate")
        for name in config.retention:
            if name not in config.product_names:
                said = f"no product {toml_text(name)}{meant(name, config.product_names)}"
                raise self.refused(f"{place(['retention', name])}: {said}")
        for number, section in enumerate(config.forecasts):
            self.known(["forecasts", number], "product", (section.product,), config.product_names, "product")
        for number, rule in enumerate(config.alerts):
            named = (rule.product,) if rule.product else ()
            self.known(["alerts", number], "product", named, config.product_names, "product")
            self.known(["alerts", number], "channels", rule.channels or (), config.channels, "channel")
            meaning: dict[str, tuple[Iterable[str], str]] = {
                "inputs": (covariates, "covariate"),
                "jobs": (config.jobs, "job"),
            }
            accepted, what = meaning.get(rule.kind, ((), "name"))
            self.known(["alerts", number], "only", rule.only, accepted, what)
        for name, delivery in config.deliveries.items():
            self.known(["deliveries", name], "product", (delivery.product,), config.product_names, "product")
        for name, job in config.jobs.items():
            self.known(["jobs", name], "recipes", job.recipes or (), anywhere, "recipe")
            self.known(["jobs", name], "after", (job.after,) if job.after else (), config.jobs, "job")
            self.known(
                ["jobs", name], "product", (job.product,) if job.product else (), config.product_names, "product"
            )

    def known(
        self, where: Sequence[str | int], key: str, names: Iterable[str], accepted: Iterable[str], what: str
    ) -> None:
        for name in names:
            if name not in accepted:
                raise self.refused(f"{place(where)} {key}: no {what} {toml_text(name)}{meant(name, accepted)}")

    def trainings(self, config: FleetConfig) -> list[tuple[list[str | int], TrainSection]]:
        """The [train] of the fleet and those of the overrides, with where each stands."""
        found: list[tuple[list[str | int], TrainSection]] = [(["train"], config.train)]
        for override in config.overrides:
            if "train" in override.sections:
                raw = {**config.resolver.base["train"], **override.sections["train"]}
                found.append((["overrides", override.key, "train"], TrainSection.model_validate(raw)))
        return found
