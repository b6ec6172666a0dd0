"""From a recipe as it is configured, or from the row of a stored version, to a recipe that is ready to run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from fleet import artefacts, libraries, registry
from fleet.artefacts import Header, Opened, Sign
from fleet.config import FleetConfig, RecipeConfig
from fleet.config.document import STANDARD
from fleet.errors import AdapterMissing, ConfigInvalid, ModelBroken, Untrusted
from fleet.forecaster import Fitted
from fleet.keys import Keyring
from fleet.own import After, Before, Given, Own, Packaged, given, own
from fleet.packages import Package, package_of
from fleet.plan import Recipe
from fleet.task import Task
from store.errors import Damaged, TsfleetError

LAST_RESORT = "last_resort"


def recipe_of(asked: RecipeConfig, folder: Path | None = None, package: Package | None = None) -> Recipe:
    """A recipe ready to run, its options checked and hashed.

    One whose module does not run, or imports what is not installed, fails on each asset that wants it, and stops no
    other.

    Args:
        folder: of fleet.toml, where the modules of the user's own are.
        package: their text, where it is another than lies there today.
    """
    try:
        return _made(asked, folder, package)
    except (AdapterMissing, ModelBroken) as error:
        params = json.dumps({"adapter": asked.adapter, **asked.options}, sort_keys=True, default=_plain)
        return gone(asked, error, short_hash(f"{params}|{error.message}"), params)


def _made(asked: RecipeConfig, folder: Path | None, package: Package | None) -> Recipe:
    if asked.given is not None:
        forecaster = own(asked.given)
        adapter, identity = asked.adapter, short_hash(f"object|{asked.given.digest}")
    else:
        adapter = asked.adapter
        if package is None and folder is not None:
            package = package_of(_modules(asked), folder)
        forecaster = _forecaster(asked, package)
        identity = registry.recipe_hash(adapter, asked.options, package, asked.before, asked.after)
    steps = {"before": asked.before, "after": asked.after}
    said = {"adapter": adapter, **asked.options, **{key: step for key, step in steps.items() if step is not None}}
    if asked.covariates is not None:
        said["covariates"] = list(asked.covariates)
        identity = short_hash(f"{identity}|{sorted(asked.covariates)}")
    mine = isinstance(forecaster, Own)
    return Recipe(
        name=asked.name,
        recipe_hash=identity,
        adapter=adapter,
        forecaster=forecaster,
        library=forecaster.library if mine else registry.library_of(forecaster),
        library_version=forecaster.versions() if mine else registry.library_version(forecaster),
        covariates=asked.covariates,
        params=json.dumps(said, sort_keys=True, default=_plain),
    )


def _forecaster(asked: RecipeConfig, package: Package | None) -> Any:
    if ":" not in asked.adapter and asked.before is None and asked.after is None:
        return registry.build(asked.adapter, asked.options)
    options = json.dumps(dict(asked.options), sort_keys=True, default=_plain)
    return own(
        Packaged(package=package, adapter=asked.adapter, options=options, before=asked.before, after=asked.after)
    )


def _modules(asked: RecipeConfig) -> list[str]:
    """The modules that a recipe names."""
    places = (asked.adapter, asked.before, asked.after)
    return [place.partition(":")[0] for place in places if place is not None and ":" in place]


def _plain(value: object) -> object:
    return list(value) if isinstance(value, Iterable) else str(value)


def added(
    config: FleetConfig,
    name: str,
    model: object,
    *,
    before: Before | None,
    after: After | None,
    covariates: Sequence[str] | None,
) -> RecipeConfig:
    """A recipe that stands in no file; an adapter of the house is one like any other, and needs no trust.

    Raises:
        ConfigInvalid: the name cannot be had, the object is no model, a covariate is not declared.
        Unsaveable: the object cannot be pickled.
    """
    if not name.strip() or not name.isprintable() or "," in name or name != name.strip():
        raise ConfigInvalid(f"{name!r} is no name of a recipe: it takes letters, without a comma")
    if name in (LAST_RESORT, *STANDARD) or (name in config.recipes and name not in config.resolver.added):
        raise ConfigInvalid(f"there is a recipe {name!r} already", hint="choose another name")
    declared = {column for source in config.covariates for column in source.columns}
    for covariate in covariates or ():
        if covariate not in declared:
            raise ConfigInvalid(f"no covariate {covariate!r}{registry.nearest(covariate, declared)}")
    seen = None if covariates is None else tuple(covariates)
    adapter = registry.adapter_of(model)
    if adapter is not None and dataclasses.is_dataclass(model) and before is None and after is None:
        options = {f.name: getattr(model, f.name) for f in dataclasses.fields(model)}
        return RecipeConfig(name=name, adapter=adapter, options=options, covariates=seen)
    definition = given(model, before, after, config.folder)
    return RecipeConfig(name=name, adapter=f"object:{definition.name}", options={}, covariates=seen, given=definition)


def short_hash(text: str) -> str:
    """Sixteen hexadecimal digits that stand for a text.

    >>> short_hash("a") == short_hash("a") != short_hash("b")
    True
    """
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def last_resort() -> Recipe:
    """The end of every fallback chain: the asset's own mean, or its peers' level where it never had a reading."""
    return recipe_of(RecipeConfig(name=LAST_RESORT, adapter="mean", options={}))


def with_code(recipes: Mapping[str, Recipe], sign: Sign) -> tuple[dict[str, Recipe], list[bytes]]:
    """The recipes, each with the hash of the blob that keeps its user's code; and those blobs, to be stored."""
    found, blobs = dict(recipes), []
    for name, recipe in recipes.items():
        if isinstance(recipe.forecaster, Own):
            source = recipe.forecaster.source
            blob = artefacts.sealed(header_of(recipe, source.codec), source.payload(), sign)
            found[name] = dataclasses.replace(recipe, code=sha256(blob).hexdigest())
            blobs.append(blob)
    return found, blobs


def header_of(recipe: Recipe, codec: str) -> Header:
    """What the envelope says of something of this recipe."""
    bare = codec == artefacts.SOURCE  # text depends on no library's release
    return Header(
        codec=codec,
        library="" if bare else recipe.library,
        library_version="" if bare else recipe.library_version,
        recipe_hash=recipe.recipe_hash,
        python=libraries.python() if codec == artefacts.PICKLE else "",
    )


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """What a store holds of recipes and fitted models, read with this user's key and trust.

    Args:
        read: the bytes of a blob by its SHA-256.
        keyring: checks signatures.
        trusting: whether what is signed may run its code.
        folder: of fleet.toml, where today's code is.
        today: a recipe as it is defined now; None where none has this name.
    """

    read: Callable[[str], bytes]
    keyring: Keyring
    trusting: bool
    folder: Path
    today: Callable[[str], Recipe | None]

    def recipe(self, row: Mapping[str, Any]) -> Recipe:
        """The recipe that a version was made with: its options, and the code that it was judged with.

        One that cannot be made any more (its module is gone, an option has another name, its code is not trusted)
        fails where it is used, so that its assets fall back and the others do not notice.

        Args:
            row: recipe and recipe_hash of the version, params and code of its run.
        """
        params = row["params"] or "{}"
        options = json.loads(params)
        seen = options.pop("covariates", None)
        asked = RecipeConfig(
            name=row["recipe"],
            adapter=str(options.pop("adapter", "")),
            covariates=None if seen is None else tuple(seen),
            before=options.pop("before", None),
            after=options.pop("after", None),
            options=options,
        )
        try:
            own_code = ":" in asked.adapter or asked.before is not None or asked.after is not None
            made = self._with_its_code(asked, row) if own_code else recipe_of(asked)
        except TsfleetError as error:
            return gone(asked, error, row["recipe_hash"], params)
        return dataclasses.replace(made, recipe_hash=row["recipe_hash"])

    def _with_its_code(self, asked: RecipeConfig, row: Mapping[str, Any]) -> Recipe:
        """Today's recipe where it is the same, else what is stored.

        What is read from rows names no code that is run: a name such as `subprocess:Popen` would be as good as a
        pickle. It is today's configuration that names it, or a definition with this user's signature.
        """
        today = self.today(asked.name)
        same = today is not None and today.params == row["params"]
        if today is not None and same and (today.recipe_hash == row["recipe_hash"] or not row["code"]):
            return today
        if not row["code"]:
            raise Untrusted(f"the definition of {asked.name} changed since, and none is stored; {artefacts.TRAIN}")
        blob, hashed = self.read(row["code"]), row["recipe_hash"]
        header, payload = artefacts.read(blob)
        if header is None or header.codec not in (artefacts.PICKLE, artefacts.SOURCE):
            raise Damaged(f"the code of {asked.name} is not what it should be", hint="`tsfleet train --force`")
        if header.codec == artefacts.PICKLE:
            self._open(blob, header.codec, hashed, f"the definition of {asked.name} is kept as a pickle")
            return recipe_of(dataclasses.replace(asked, given=Given.from_payload(payload)))
        then = Packaged.from_payload(payload, str(self.folder))
        now = package_of(_modules(asked), self.folder)
        if not (then.package == now or (then.package and now and now.does_as(then.package))):
            self._open(blob, header.codec, hashed, _changed(then.package, now))
            return recipe_of(_asked(asked, then), package=then.package)
        if today is not None and same:
            return today
        what = f"the options of {asked.name} changed since this version was trained; those from then are in the store"
        # The code is today's; what has to be vouched for is what it is called with.
        self._open(blob, header.codec, hashed, what, trusting=True)
        return recipe_of(_asked(asked, then), self.folder)

    def opened(self, blob: bytes, codec: str, recipe_hash: str) -> Opened:
        """A stored model out of its envelope, when it may be loaded.

        Raises:
            TsfleetError: as `artefacts.opened` says.
        """
        return self._open(blob, codec, recipe_hash, "the model is kept as a pickle")

    def _open(self, blob: bytes, codec: str, recipe_hash: str, what: str, *, trusting: bool = False) -> Opened:
        return artefacts.opened(
            blob,
            codec=codec,
            recipe_hash=recipe_hash,
            signed=self.keyring.signed,
            trusting=trusting or self.trusting,
            what=what,
        )


def _asked(asked: RecipeConfig, then: Packaged) -> RecipeConfig:
    """A recipe as its signed definition says."""
    options = json.loads(then.options)
    return dataclasses.replace(asked, adapter=then.adapter, options=options, before=then.before, after=then.after)


def _changed(then: Package | None, now: Package | None) -> str:
    """What is different today from when a version was trained."""
    before, there = dict(then.files) if then else {}, dict(now.files) if now else {}
    names = sorted(path for path, text in {**there, **before}.items() if there.get(path) != before.get(path))
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    what = "changed" if names[0] in there else "was taken away"
    return f"{names[0]}{more} {what} since this version was trained; the code from then is in the store"


@dataclass(frozen=True)
class Gone:
    """Stands for a model that cannot be made any more."""

    error: TsfleetError

    light: ClassVar[bool] = True
    uses_covariates: ClassVar[bool] = False

    def fit(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> Fitted:
        raise self.error

    def load(self, blob: bytes) -> Fitted:
        raise self.error


def gone(asked: RecipeConfig, error: TsfleetError, recipe_hash: str, params: str) -> Recipe:
    """The recipe of a model that cannot be made: it fails with the reason wherever it is used."""
    return Recipe(
        name=asked.name,
        recipe_hash=recipe_hash,
        adapter=asked.adapter,
        forecaster=Gone(error),
        library="custom",
        library_version="",
        covariates=asked.covariates,
        params=params,
    )
