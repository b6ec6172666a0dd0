"""What `tsfleet doctor` looks at: packages, adapters, the fleet in this folder.

Each check is a row; a trouble comes with what to type. What is not installed is trouble where a recipe wants it.
"""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from fleet import libraries
from fleet.errors import AdapterMissing, ConfigInvalid
from fleet.forecaster import Adapter
from fleet.outcome import Failed, attempt
from fleet.registry import ADAPTERS, GROUP, OPTIONAL, library_version, named
from store.errors import NotFound, TsfleetError

if TYPE_CHECKING:
    from fleet import Fleet
    from fleet.config import FleetConfig
    from jobs.cli.console import Row

PACKAGES = ("tsfleet", "duckdb", "pandas", "pyarrow", "numpy")


def package_rows() -> list[Row]:
    """Python and the packages that everything rests on."""
    rows: list[Row] = [_row("python", f"{platform.python_version()} on {platform.platform(terse=True)}")]
    for name in PACKAGES:
        try:
            rows.append(_row(name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            rows.append(_row(name, "", trouble="not installed", do=f"pip install {name}"))
    return rows


def adapter_rows() -> list[Row]:
    """Each adapter, ours and those of other distributions, and whether its library can be loaded here."""
    rows: list[Row] = [_row(f"adapter {name}", *_adapter(name)) for name in ADAPTERS]
    for name, offer in sorted(libraries.plugged(GROUP).items()):
        whose = " and ".join(offer.distributions)
        if name in ADAPTERS:
            rows.append(_row(f"adapter {name} of {whose}", "not used: ours has this name"))
        else:
            rows.append(_row(f"adapter {name} of {whose}", *_adapter(name)))
    return rows


def missing_adapters(names: set[str]) -> dict[str, AdapterMissing]:
    """Those of the named adapters whose library cannot be loaded, and why."""
    found: dict[str, AdapterMissing] = {}
    for name in sorted(names & ADAPTERS.keys()):
        try:
            _bare(name).import_library()
        except AdapterMissing as error:
            found[name] = error
    return found


def fleet_rows(config: Path | None) -> list[Row]:
    """The fleet that a command typed here would use, each of its recipes, and its store."""
    from fleet.config import find, load

    environment = os.environ.get("TSFLEET_CONFIG")
    try:
        path = find(Path.cwd(), config=config, environment=environment)
    except ConfigInvalid as error:
        if config is None and not environment:
            return [_row("fleet", "none here", do=error.hint)]
        return [_row("fleet", "", trouble=error.message, do=error.hint)]
    try:
        found = load(path)
    except TsfleetError as error:
        return [_row("fleet", "", trouble=error.message, do=error.hint)]
    head = _row("fleet", f"{found.fleet.name}, {path}")
    return [head, *(_recipe_row(found, name) for name in found.recipes), _store_row(path)]


def _recipe_row(config: FleetConfig, name: str) -> Row:
    """Whether a recipe can run here."""
    from fleet.recipes import Gone, recipe_of

    recipe = attempt(recipe_of, config.recipe(name), config.folder)
    if isinstance(recipe, Failed):
        return _row(f"recipe {name}", "", trouble=recipe.error)
    error: BaseException | None = recipe.forecaster.error if isinstance(recipe.forecaster, Gone) else None
    if isinstance(recipe.forecaster, Adapter):
        try:
            recipe.forecaster.import_library()
        except TsfleetError as missing:
            error = missing
    if isinstance(error, TsfleetError):
        return _row(f"recipe {name}", "", trouble=error.message, do=error.hint)
    return _row(f"recipe {name}", f"{recipe.adapter}: {recipe.library} {recipe.library_version}".rstrip())


def _store_row(config: Path) -> Row:
    """How the store is, by what its catalog says; nothing is made and no row is read."""
    from fleet import Fleet

    try:
        fleet = Fleet.open(config, create=False, read_only=True)
    except NotFound:
        return _row("store", "none yet", do="tsfleet ingest")
    except TsfleetError as error:
        return _row("store", "", trouble=error.message, do=error.hint)
    try:
        return _row("store", _health(fleet), do="tsfleet store verify reads every hash")
    finally:
        fleet.close()


def _health(fleet: Fleet) -> str:
    info = fleet.store.info()
    rows, hot = sum(info.tables.values()), sum(info.hot.values())
    size = f"{info.bytes / 1e6:,.1f} MB" if info.bytes >= 100_000 else f"{info.bytes:,} bytes"
    told = f"snapshot {info.head}, {rows:,} rows, {hot:,} of them hot, {info.segments} segments, {size}"
    return f"{told}, {info.readers} reading" if info.readers else told


def _adapter(name: str) -> tuple[str, str, str]:
    try:
        adapter = _bare(name)
        adapter.import_library()
    except AdapterMissing as error:
        if name not in OPTIONAL:
            return "", error.message, error.hint
        return error.message if libraries.version_of(name) else "not installed", "", error.hint
    except TsfleetError as error:
        return "", error.message, error.hint
    return f"{adapter.library} {library_version(adapter)}".rstrip(), "", ""


def _bare(name: str) -> Adapter:
    """An adapter without options: whether its library loads does not depend on them, and some have no default."""
    kind: type[Adapter] = named(name)
    return kind.__new__(kind)


def _row(what: str, found: str, trouble: str = "", do: str = "") -> Row:
    return {"what": what, "ok": not trouble, "found": found, "trouble": trouble, "do": do}
