"""Issuing forecasts: load the champion, predict, check; the next of the chain where that fails. Runs in a worker."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fleet import artefacts, calendar, checks, rows
from fleet.engines import Mark
from fleet.errors import NoData
from fleet.frames import History
from fleet.judging import Finished, ended, run_row, with_intervals, with_vintages
from fleet.outcome import Failed, attempt_part
from fleet.own import restored
from fleet.plan import Context, Item, Link, Recipe
from fleet.rows import Block
from store.clock import from_micros
from store.packs import Place


def issue_chunk(context: Context, items: Sequence[Item], mark: Mark) -> Finished:
    """Issue every item's forecast with the first link of its chain that holds; earlier failures are told."""
    blocks: list[Block] = []
    runs: list[dict[str, Any]] = []
    failures: list[tuple[str, str, Failed]] = []
    seconds: dict[str, float] = {}
    for place, item in enumerate(items):
        started = time.perf_counter()
        history = context.history(item.asset, context.settings[item.settings])
        for part, link in enumerate(item.chain):
            mark(place, part)
            issued = attempt_part(_issued, context, item, link, history)
            if not isinstance(issued, Failed):
                blocks.append(issued)
                runs += _lineage(context, item, link, issued, time.perf_counter() - started)
                break
            failures.append((item.asset.asset_id, link.recipe, issued))
        seconds[item.asset.asset_id] = time.perf_counter() - started
    tables = {"forecasts": rows.forecasts(blocks)} if blocks else {}
    if runs:
        tables["runs"] = pa.Table.from_pylist(runs)
    return Finished(tables=tables, failures=tuple(failures), seconds=seconds)


def _issued(context: Context, item: Item, link: Link, history: History) -> Block:
    settings = context.settings[item.settings]
    recipe = context.recipes[link.recipe]
    assert item.issue is not None
    target = settings.target(item.issue, history.anchor)
    y, X = context.inputs(item.asset, recipe, settings, history, item.issue, target)
    if link.blob is not None and not len(y):
        raise NoData(f"no reading of {item.asset.asset_id} is known in the window before the issue")
    task = settings.task(target, item.asset.static)
    if link.blob is None:
        fitted = recipe.forecaster.fit(y, X, task)
    else:
        fitted = restored(recipe.forecaster, link.codec, _payload(link.blob, link.codec, recipe))
    checked = checks.check_output(fitted.predict(y, X, task), task)
    if link.past is not None and not checked.quantiles:
        checked = with_intervals(checked, link.past, history, item.issue, settings.quantiles)
    flags = set(checked.quality) | ({"fallback"} if link.role == "fallback" else set())
    return Block(
        asset_id=item.asset.asset_id,
        product=settings.product,
        recipe=recipe.name,
        recipe_hash=recipe.recipe_hash,
        version_id=link.version_id,
        run_id=link.run_id,
        role=link.role,
        quality="+".join(sorted(flags)) or "ok",
        tz=settings.tz,
        issue_time=np.full(len(target), item.issue),
        valid_time=calendar.micros(target),
        step=np.arange(1, len(target) + 1),
        mean=checked.mean,
        quantiles=checked.quantiles,
    )


def _lineage(context: Context, item: Item, link: Link, issued: Block, seconds: float) -> list[dict[str, Any]]:
    """A run of kind `forecast` that tells the vintages of the covariates; none where the model saw none."""
    recipe = context.recipes[link.recipe]
    issue = int(issued.issue_time[0])
    vintages = context.vintages(item.asset, recipe, issue, calendar.from_micros(issued.valid_time))
    if not vintages:
        return []
    run = ended(run_row(context, item, recipe, "forecast", ""), seconds)
    more = {"issue_time": from_micros(issue).isoformat(), "version_id": issued.version_id, "role": issued.role}
    return [with_vintages(run, vintages, **more)]


def _payload(blob: bytes | Place, codec: str, recipe: Recipe) -> bytes:
    """The model out of its envelope; what runs no code is read here, not by the driver."""
    if isinstance(blob, bytes):
        return blob
    found = artefacts.opened(
        blob.read(), codec=codec, recipe_hash=recipe.recipe_hash, signed=lambda *_: False, trusting=False
    )
    return found.payload


def lost(_context: Context, item: Item, failed: Failed) -> Finished:
    """What is said of a link that its worker died of; the rest of the chain gets its turn."""
    failures = tuple((item.asset.asset_id, link.recipe, failed) for link in item.chain)
    return Finished(tables={}, failures=failures, seconds={})
