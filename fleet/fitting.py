"""Fitting recipes on the newest window and turning the fitted models into blobs. Runs in a worker, touches no store.

A worker puts each model into its envelope; what needs a signature gets it from the driver, which alone has the key.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from fleet import artefacts, libraries
from fleet.engines import Mark
from fleet.errors import NoData, TooShort
from fleet.frames import History
from fleet.judging import Finished, ended, run_row, scale_rows, with_vintages
from fleet.keys import Keyring
from fleet.outcome import Failed, attempt_part
from fleet.own import Kept, kept
from fleet.plan import Context, Item, Recipe
from fleet.recipes import header_of
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
            fitted = attempt_part(_fitted, context, item, recipe, history)
            if isinstance(fitted, Failed):
                failures.append((item.asset.asset_id, name, fitted))
                run |= {"status": "failed", "error_code": fitted.code, "error": fitted.error}
            else:
                model, trained, vintages = fitted
                run = with_vintages(run | trained, vintages)
                blobs.append(artefacts.sealed(header_of(recipe, model.codec), model.payload))
                versions.append(_version_row(run, recipe, model.codec, blobs[-1]))
            runs.append(ended(run, time.perf_counter() - clock))
        seconds[item.asset.asset_id] = time.perf_counter() - started
    tables = {"runs": pa.Table.from_pylist(runs)}
    if versions:
        tables["versions"] = pa.Table.from_pylist(versions)
    if scales:
        tables["scales"] = pa.Table.from_pylist(scales)
    return Finished(tables=tables, failures=tuple(failures), seconds=seconds, blobs=tuple(blobs))


def _fitted(
    context: Context, item: Item, recipe: Recipe, history: History
) -> tuple[Kept, dict[str, Any], dict[str, str]]:
    """The model as bytes, what the run's row says of the fit, and the vintages that the newest target saw."""
    settings = context.settings[item.settings]
    end = history.last_reading_end
    if end is None:
        raise NoData(f"{item.asset.asset_id} has no row to learn from")
    issue = settings.fit_issue(end)
    target = settings.target(issue, history.anchor)
    y, X = context.inputs(item.asset, recipe, settings, history, issue, target)
    if not len(y):
        raise TooShort(f"nothing is known at {target[0]:%Y-%m-%dT%H:%MZ}, the history is too short")
    fitted = recipe.forecaster.fit(y, X, settings.task(target, item.asset.static))
    trained = {"train_start": y.index[0], "train_end": y.index[-1]}
    vintages = context.vintages(item.asset, recipe, issue, target)
    return kept(recipe.forecaster, fitted, y, context.no_pickles), trained, vintages


def _version_row(run: dict[str, Any], recipe: Recipe, codec: str, blob: bytes) -> dict[str, Any]:
    return {
        "version_id": new_id(),
        "asset_id": run["asset_id"],
        "product": run["product"],
        "recipe": recipe.name,
        "recipe_hash": recipe.recipe_hash,
        "run_id": run["run_id"],
        "codec": codec,
        "trusted": not artefacts.CODECS[codec].code,
        "bytes": len(blob),
        "created_at": run["started_at"],
    }


def signed(finished: Finished, keyring: Keyring) -> Finished:
    """A finished chunk whose pickles carry the signature of this user; runs in the driver."""
    versions = finished.tables["versions"].to_pylist() if "versions" in finished.tables else []
    loose = [number for number, version in enumerate(versions) if not version["trusted"]]
    if not loose:
        return finished
    blobs, runs = list(finished.blobs), finished.tables["runs"].to_pylist()
    marks = {versions[number]["run_id"]: pickle_mark(keyring) for number in loose}
    for number in loose:
        blobs[number] = artefacts.signed(blobs[number], keyring.sign)
        versions[number]["bytes"] = len(blobs[number])
    for run in runs:
        if run["run_id"] in marks:
            run["tags"] = json.dumps({**json.loads(run["tags"] or "{}"), "pickle": marks[run["run_id"]]})
    schemas = {name: finished.tables[name].schema for name in ("versions", "runs")}
    tables = {
        "versions": pa.Table.from_pylist(versions, schema=schemas["versions"]),
        "runs": pa.Table.from_pylist(runs, schema=schemas["runs"].set(*_text(schemas["runs"], "tags"))),
    }
    return replace(finished, tables={**finished.tables, **tables}, blobs=tuple(blobs))


def _text(schema: pa.Schema, name: str) -> tuple[int, pa.Field]:
    """A column that may have been empty so far, as one of text."""
    return schema.get_field_index(name), pa.field(name, pa.string())


def pickle_mark(keyring: Keyring) -> str:
    """Who can open the pickles that are made here: a pickle of another Python or another key is fitted again."""
    return f"python {libraries.python()}, key {keyring.name}"
