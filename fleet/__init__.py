"""What a model is; how many are trained, judged and promoted.

`Fleet` is the entry: ``Fleet.open("fleet.toml")``. Importing this package imports no library; `Fleet` is loaded when
asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet.fleet import Fleet as Fleet


def __getattr__(name: str) -> object:
    if name == "Fleet":
        from fleet.fleet import Fleet

        return Fleet
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["Fleet"]
