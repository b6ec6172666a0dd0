"""From a recipe's name and options, or from the row of a stored version, to a recipe that is ready to run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from fleet import registry
from fleet.errors import FleetError
from fleet.forecaster import Fitted
from fleet.plan import Recipe
from fleet.task import Task
from store.errors import TsfleetError

LAST_RESORT = "last_resort"


def recipe_of(name: str, adapter: str, options: Mapping[str, object], covariates: tuple[str, ...] | None) -> Recipe:
    """A recipe ready to run, its options checked and hashed."""
    forecaster = registry.build(adapter, options)
    said = {"adapter": adapter, **options} | ({} if covariates is None else {"covariates": list(covariates)})
    identity = registry.recipe_hash(adapter, options)
    return Recipe(
        name=name,
        recipe_hash=identity if covariates is None else short_hash(f"{identity}|{sorted(covariates)}"),
        adapter=adapter,
        forecaster=forecaster,
        library=str(getattr(forecaster, "library", "custom")),
        library_version=registry.library_version(forecaster),
        covariates=covariates,
        params=json.dumps(said, sort_keys=True, default=list),
    )


def short_hash(text: str) -> str:
    """Sixteen hexadecimal digits that stand for a text.

    >>> short_hash("a") == short_hash("a") != short_hash("b")
    True
    """
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def stored_recipe(name: str, recipe_hash: str, params: str) -> Recipe:
    """The recipe that a version was made with, from its hash and the `params` of its run.

    One that cannot be built any more (its module is gone, an option has another name) fails where it is used, so that
    its assets fall back and the others do not notice.
    """
    options = json.loads(params)
    adapter, covariates = options.pop("adapter"), options.pop("covariates", None)
    seen = None if covariates is None else tuple(covariates)
    try:
        return dataclasses.replace(recipe_of(name, adapter, options, seen), recipe_hash=recipe_hash)
    except FleetError as error:
        return Recipe(
            name=name,
            recipe_hash=recipe_hash,
            adapter=adapter,
            forecaster=Gone(error),
            library="",
            library_version="",
            covariates=seen,
            params=params,
        )


@dataclass(frozen=True)
class Gone:
    """Stands for a model that cannot be built any more."""

    error: TsfleetError

    light: ClassVar[bool] = True
    uses_covariates: ClassVar[bool] = False

    def fit(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> Fitted:
        raise self.error

    def load(self, blob: bytes) -> Fitted:
        raise self.error


def last_resort() -> Recipe:
    """The end of every fallback chain: the asset's own mean, or its peers' level where it never had a reading."""
    return recipe_of(LAST_RESORT, "mean", {}, None)
