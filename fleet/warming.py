"""What a worker imports before its work, so that it costs no asset's time limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

from fleet.forecaster import Adapter
from fleet.outcome import attempt

if TYPE_CHECKING:
    from fleet.engines import Mark
    from fleet.judging import Finished
    from fleet.plan import Recipe

Lot = TypeVar("Lot")


def warm(forecasters: Iterable[object], module: str | None = None) -> None:
    """Import what recipes need, and the module of the work."""
    if module is not None:
        import_module(module)
    for forecaster in forecasters:
        if isinstance(forecaster, Adapter):
            # A library that is missing becomes the outcome of each asset that wants it, not the end of the worker.
            attempt(forecaster.import_library)


def warmed(
    recipes: Mapping[str, Recipe], work: Callable[[Sequence[Lot], Mark], Finished], items: Sequence[Lot], mark: Mark
) -> Finished:
    """The work, once everything that its recipes need is imported: at the first chunk, which is of no asset yet."""
    warm(recipe.forecaster for recipe in recipes.values())
    return work(items, mark)
