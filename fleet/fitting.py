"""Fitting recipes on the newest window and turning the fitted models into blobs. Runs in a worker, touches no store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from fleet.engines import Mark
from fleet.errors import NoData, TooShort
from fleet.frames import History
from fleet.judging import Finished, ended, keepable, run_row, scale_rows
from fleet.outcome import Failed, attempt
from fleet.plan import Context, Item, Recipe
from store.ids import new_id


def fit_chunk(context: Context, items: Sequence[Item], mark: Mark) -> Finished:
    """Fit every item's recipes; versions are aligned with the blobs."""
    runs: list[dict[str, Any]] = []
    versions: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    scales: list[dict[str, Any]] = []
    failures: list[tuple[str, str, Failed]] = []
    seconds: dict[str, float] = {}
    for place, item in enumerate(items):
        started = time.perf_counter()
        settings = context.settings[item.settings]
        history = context.history(item.asset, settings)
        end = history.last_reading_end
        if end is not None:
            scales += scale_rows(item.asset.asset_id, settings, history, end)
        for part, (name, fingerprint) in enumerate(zip(item.recipes, item.fingerprints, strict=True)):
            mark(place, part)
            recipe = context.recipes[name]
            run = run_row(context, item, recipe, "train", fingerprint)
            clock = time.perf_counter()
            fitted = attempt(_fitted, context, item, recipe, history)
            if isinstance(fitted, Failed):
                failures.append((item.asset.asset_id, name, fitted))
                run |= {"status": "failed", "error_code": fitted.code, "error": fitted.error}
            else:
                blob, trained = fitted
                run |= trained
                blobs.append(blob)
                versions.append(_version_row(run, recipe, blob))
            runs.append(ended(run, time.perf_counter() - clock))
        seconds[item.asset.asset_id] = time.perf_counter() - started
    tables = {"runs": pa.Table.from_pylist(runs)}
    if versions:
        tables["versions"] = pa.Table.from_pylist(versions)
    if scales:
        tables["scales"] = pa.Table.from_pylist(scales)
    return Finished(tables=tables, failures=tuple(failures), seconds=seconds, blobs=tuple(blobs))


def _fitted(context: Context, item: Item, recipe: Recipe, history: History) -> tuple[bytes, dict[str, Any]]:
    """The saved model, and what the run's row says of the fit."""
    settings = context.settings[item.settings]
    end = history.last_reading_end
    if end is None:
        raise NoData(f"{item.asset.asset_id} has no row to learn from")
    target = settings.target(end, history.anchor)
    y, X = context.inputs(item.asset, recipe, settings, history, end, target)
    if not len(y):
        raise TooShort(f"nothing is known at {target[0]:%Y-%m-%dT%H:%MZ}, the history is too short")
    fitted = recipe.forecaster.fit(y, X, settings.task(target, item.asset.static))
    return keepable(recipe, fitted)(), {"train_start": y.index[0], "train_end": y.index[-1]}


def _version_row(run: dict[str, Any], recipe: Recipe, blob: bytes) -> dict[str, Any]:
    return {
        "version_id": new_id(),
        "asset_id": run["asset_id"],
        "product": run["product"],
        "recipe": recipe.name,
        "recipe_hash": recipe.recipe_hash,
        "run_id": run["run_id"],
        "codec": str(getattr(recipe.forecaster, "codec", "none")),
        "trusted": True,
        "bytes": len(blob),
        "created_at": run["started_at"],
    }
