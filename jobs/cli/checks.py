"""What `tsfleet doctor` looks at: packages, adapters, the fleet in this folder.

Each check is a row; a trouble comes with what to type.
"""

from __future__ import annotations

import os
import platform
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import AdapterMissing, ConfigInvalid
from fleet.forecaster import Adapter
from fleet.registry import ADAPTERS, library_version
from store.errors import TsfleetError

if TYPE_CHECKING:
    from jobs.cli.console import Row

PACKAGES = ("tsfleet", "duckdb", "pandas", "pyarrow", "numpy")


def package_rows() -> list[Row]:
    """Python and the packages that everything rests on."""
    rows: list[Row] = [_row("python", platform.python_version())]
    for name in PACKAGES:
        try:
            rows.append(_row(name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            rows.append(_row(name, "", trouble="not installed", do=f"pip install {name}"))
    return rows


def adapter_rows() -> list[Row]:
    """Each adapter, and whether its library can be loaded here."""
    return [_row(f"adapter {name}", *_adapter(place)) for name, place in ADAPTERS.items()]


def missing_adapters(names: set[str]) -> dict[str, AdapterMissing]:
    """Those of the named adapters whose library cannot be loaded, and why."""
    found: dict[str, AdapterMissing] = {}
    for name in sorted(names & ADAPTERS.keys()):
        try:
            _bare(ADAPTERS[name]).import_library()
        except AdapterMissing as error:
            found[name] = error
    return found


def fleet_row(config: Path | None) -> Row:
    """The fleet that a command typed here would use."""
    from fleet import Fleet
    from fleet.config import find

    environment = os.environ.get("TSFLEET_CONFIG")
    if config is None and not environment:
        try:
            find(Path.cwd())
        except ConfigInvalid as error:
            return _row("fleet", "none here", do=error.hint)
    try:
        fleet = Fleet.open(config)
    except TsfleetError as error:
        return _row("fleet", "", trouble=error.message, do=error.hint)
    try:
        return _row("fleet", f"{fleet.config.fleet.name}, snapshot {fleet.store.head()}")
    finally:
        fleet.store.close()


def _adapter(place: str) -> tuple[str, str, str]:
    adapter = _bare(place)
    try:
        adapter.import_library()
    except AdapterMissing as error:
        return "", error.message, error.hint
    return f"{adapter.library} {library_version(adapter)}", "", ""


def _bare(place: str) -> Adapter:
    """An adapter without options: whether its library loads does not depend on them, and some have no default."""
    module, _, name = place.partition(":")
    kind: type[Adapter] = getattr(import_module(module), name)
    return kind.__new__(kind)


def _row(what: str, found: str, trouble: str = "", do: str = "") -> Row:
    return {"what": what, "ok": not trouble, "found": found, "trouble": trouble, "do": do}
