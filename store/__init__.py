"""The cellar of tsfleet: what is remembered, and that it is never half written.

``from store import Store`` opens a folder. Importing this package loads nothing heavy: DuckDB, pyarrow and pandas
come in with the first question that needs them, and a question that the catalog alone can answer never brings them
in.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.errors import StoreError, TsfleetError

if TYPE_CHECKING:
    from store.clock import Clock, FixedClock, system_clock
    from store.committing import Commit, Conflict
    from store.reading import Result, Snapshot
    from store.store import Store, StoreInfo
    from store.tracking import Run
    from store.writing import Transaction

__all__ = [
    "Clock",
    "Commit",
    "Conflict",
    "FixedClock",
    "Result",
    "Run",
    "Snapshot",
    "Store",
    "StoreError",
    "StoreInfo",
    "Transaction",
    "TsfleetError",
    "system_clock",
]

_HOME = {
    "Clock": "store.clock",
    "Commit": "store.committing",
    "Conflict": "store.committing",
    "FixedClock": "store.clock",
    "Result": "store.reading",
    "Run": "store.tracking",
    "Snapshot": "store.reading",
    "Store": "store.store",
    "StoreInfo": "store.store",
    "Transaction": "store.writing",
    "system_clock": "store.clock",
}


def check_siblings(home: Path, names: tuple[str, ...]) -> None:
    """Refuse to go on when a folder of the user's own stands where a sibling package should be.

    Raises:
        ImportError: naming the offending path and the remedy.
    """
    for name in names:
        spec = find_spec(name)
        if spec is None:
            continue
        found = [Path(place) for place in spec.submodule_search_locations or ()]
        if not found and spec.origin is not None:
            found = [Path(spec.origin)]
        if (home / name).resolve() not in {place.resolve() for place in found}:
            where = ", ".join(str(place) for place in found) or "an unknown place"
            raise ImportError(
                f"{where} hides tsfleet's own package {name!r} of {home}: "
                f"rename it, or run from another folder so that it is not first on sys.path",
                name=name,
                path=str(found[0]) if found else None,
            )


check_siblings(Path(__file__).resolve().parent.parent, ("fleet", "jobs"))


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'store' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value
