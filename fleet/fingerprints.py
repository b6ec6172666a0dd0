"""What a run of a recipe on an asset depends on, as one hash: what has the same one need not be done again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Literal

from fleet.frames import AssetRows, digest
from fleet.plan import Recipe
from fleet.population import Loaded, Member, Population
from fleet.recipes import short_hash

# Raised when what all recipes share (features, calendar, alignment, checks) computes something else than before.
ARITHMETIC = 1


class Fingerprints:
    """What a run of a recipe on an asset depends on, for a batch; each covariate is hashed once.

    Args:
        kind: backtest or train; only a backtest depends on how the past is cut.
    """

    def __init__(self, loaded: Loaded, people: Population, kind: Literal["backtest", "train"]) -> None:
        self._loaded, self._kind = loaded, kind
        cut = [s if kind == "backtest" else dataclasses.replace(s, judgement=None) for s in people.settings]
        self._settings = [repr(settings) for settings in cut]
        self._seen: dict[tuple[int, int], str] = {}

    def of(self, member: Member, recipe: Recipe) -> str:
        """Equal fingerprints give equal results."""
        asset = self._loaded.assets[member.asset_id]
        parts = [
            f"{self._kind}{ARITHMETIC}",
            asset.asset_id,
            recipe.recipe_hash,
            recipe.library_version,
            self._settings[member.settings],
            json.dumps([member.static, member.capacities], sort_keys=True, default=str),
            digest(self._loaded.panel.slice(asset.span)),
            *self._covariates(asset, recipe),
        ]
        return short_hash("\x1f".join(parts))

    def _covariates(self, asset: AssetRows, recipe: Recipe) -> Iterator[str]:
        for covariate in recipe.sees(asset.covariates):
            assert self._loaded.covariates is not None
            if covariate.span not in self._seen:
                self._seen[covariate.span] = digest(self._loaded.covariates.slice(covariate.span))
            yield f"{covariate.name}:{covariate.foresight}:{self._seen[covariate.span]}"
