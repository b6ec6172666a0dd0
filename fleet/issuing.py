"""Issuing forecasts: load the champion, predict, check; the next of the chain where that fails. Runs in a worker."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from fleet import artefacts, calendar, checks, rows
from fleet.engines import Mark
from fleet.errors import NoData
from fleet.forecaster import Fitted, Question
from fleet.judging import Finished, ended, run_row, with_intervals, with_vintages
from fleet.outcome import Failed, attempt, attempt_part
from fleet.own import restored
from fleet.plan import Context, Group, Item, Link, Recipe
from fleet.rows import Block
from fleet.together import LEAST, predicted_many
from store.clock import from_micros
from store.packs import Place

KEPT = 4
"""Models of groups that a process holds, for the assets that are yet to come."""
_LOADED: dict[tuple[str | bytes, str, str], Fitted] = {}


def issue_chunk(context: Context, items: Sequence[Item], mark: Mark) -> Finished:
    """Issue every item's forecast with the first link of its chain that holds; earlier failures are told."""
    blocks: list[Block] = []
    runs: list[dict[str, Any]] = []
    failures: list[tuple[str, str, Failed]] = []
    seconds: dict[str, float] = {}
    ready = _told_at_once(context, items)
    for place, item in enumerate(items):
        started = time.perf_counter()
        told = ready.get(place, _Told())
        for part, link in enumerate(item.chain):
            mark(place, part)
            issued = attempt_part(_issued, context, item, link, _Told() if part else told)
            if not isinstance(issued, Failed):
                blocks.append(issued)
                runs += _lineage(context, item, link, issued, time.perf_counter() - started)
                break
            failures.append((item.asset.asset_id, link.recipe, issued))
        seconds[item.asset.asset_id] = time.perf_counter() - started + told.seconds
    tables = {"forecasts": rows.forecasts(blocks)} if blocks else {}
    if runs:
        tables["runs"] = pa.Table.from_pylist(runs)
    return Finished(tables=tables, failures=tuple(failures), seconds=seconds)


def issue_groups(context: Context, groups: Sequence[Group], mark: Mark) -> Finished:
    """Issue what the shared model of a group says of its assets; those that it fails for are left out, in silence."""
    blocks: list[Block] = []
    runs: list[dict[str, Any]] = []
    seconds: dict[str, float] = {}
    for place, group in enumerate(groups):
        mark(place, 0)
        for which, told in _told_at_once(context, group.items).items():
            item = group.items[which]
            issued = attempt(_issued, context, item, item.chain[0], told)
            if not isinstance(issued, Failed):
                blocks.append(issued)
                runs += _lineage(context, item, item.chain[0], issued, told.seconds)
                seconds[item.asset.asset_id] = told.seconds
    tables = {"forecasts": rows.forecasts(blocks)} if blocks else {}
    if runs:
        tables["runs"] = pa.Table.from_pylist(runs)
    return Finished(tables=tables, failures=(), seconds=seconds)


@dataclass(frozen=True, slots=True)
class _Told:
    """What a call of `predict_many` left of an asset's first link: question and forecast, or why there is none."""

    question: Question | None = None
    forecast: pd.DataFrame | Failed | None = None
    seconds: float = 0.0


def _told_at_once(context: Context, items: Sequence[Item]) -> dict[int, _Told]:
    """By place what the champions say whose models take many at once; the others of a chunk are asked one by one."""
    found: dict[int, _Told] = {}
    places: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        if item.chain and item.chain[0].blob is not None and context.recipes[item.chain[0].recipe].many is not None:
            places.setdefault(item.chain[0].recipe, []).append(place)
    for name, mine in places.items():
        if len(mine) < LEAST:
            continue
        started, recipe = time.perf_counter(), context.recipes[name]
        asked = {place: attempt(_question, context, items[place], recipe) for place in mine}
        models = {place: attempt(_model, recipe, items[place].chain[0]) for place in mine}
        questions: list[Question] = []
        fitted: list[Fitted] = []
        whose: list[int] = []
        for place in mine:
            question, model = asked[place], models[place]
            if not isinstance(question, Failed) and not isinstance(model, Failed):
                questions.append(question)
                fitted.append(model)
                whose.append(place)
        done = attempt(predicted_many, recipe, fitted, questions) if len(questions) >= LEAST else None
        share = (time.perf_counter() - started) / len(mine)
        for place, question, frame in zip(whose, questions, done, strict=True) if isinstance(done, list) else ():
            # What may come through a moment later is tried again by itself, and then the engine hears of it.
            if not (isinstance(frame, Failed) and frame.passing):
                found[place] = _Told(question, frame, share)
    return found


def _question(context: Context, item: Item, recipe: Recipe) -> Question:
    assert item.issue is not None
    history = context.history(item.asset, context.settings[item.settings])
    question = context.question(item, recipe, history, item.issue)
    if not len(question.y):
        raise NoData(f"no reading of {item.asset.asset_id} is known in the window before the issue")
    return question


def _model(recipe: Recipe, link: Link) -> Fitted:
    """The fitted model of a link; those that share a blob are loaded once in a while."""
    assert link.blob is not None
    key = (link.blob.sha256 if isinstance(link.blob, Place) else link.blob, link.codec, recipe.recipe_hash)
    if recipe.together and key in _LOADED:
        return _LOADED[key]
    fitted = restored(recipe.forecaster, link.codec, _payload(link.blob, link.codec, recipe))
    if recipe.together:
        while len(_LOADED) >= KEPT:
            _LOADED.pop(next(iter(_LOADED)))
        _LOADED[key] = fitted
    return fitted


def _issued(context: Context, item: Item, link: Link, told: _Told) -> Block | Failed:
    if isinstance(told.forecast, Failed):
        return told.forecast
    settings = context.settings[item.settings]
    recipe = context.recipes[link.recipe]
    assert item.issue is not None
    if told.forecast is not None and told.question is not None:
        task, frame = told.question.task, told.forecast
    elif link.blob is None:
        history = context.history(item.asset, settings)
        question = context.question(item, recipe, history, item.issue)
        task, frame = question.task, recipe.forecaster.fit(*question).predict(*question)
    else:
        question = _question(context, item, recipe)
        task, frame = question.task, _model(recipe, link).predict(*question)
    target = task.target
    checked = checks.check_output(frame, task)
    if link.past is not None and not checked.quantiles:
        history = context.history(item.asset, settings)
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
        gate=None if settings.gate is None else settings.gate.closes(item.issue, settings.tz),
    )


def _lineage(context: Context, item: Item, link: Link, issued: Block, seconds: float) -> list[dict[str, Any]]:
    """A run of kind `forecast` that tells the vintages of the covariates; none where the model saw none."""
    recipe = context.recipes[link.recipe]
    if not recipe.sees(item.asset.covariates):
        return []
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


def lost_groups(_context: Context, _group: Group, _failed: Failed) -> Finished:
    """Nothing: the assets of a group that is lost go through their chains one by one, and what fails there is told."""
    return Finished(tables={}, failures=(), seconds={})


def lost(_context: Context, item: Item, failed: Failed) -> Finished:
    """What is said of a link that its worker died of; the rest of the chain gets its turn."""
    failures = tuple((item.asset.asset_id, link.recipe, failed) for link in item.chain)
    return Finished(tables={}, failures=failures, seconds={})
