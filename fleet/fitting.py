"""Fitting recipes on the newest window and turning the fitted models into blobs. Runs in a worker, touches no store.

A worker puts each model into its envelope; what needs a signature gets it from the driver, which alone has the key.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from fleet import artefacts, libraries
from fleet.engines import Mark
from fleet.errors import NoData, TooShort
from fleet.forecaster import Fitted, Question
from fleet.frames import History
from fleet.judging import Finished, ended, run_row, scale_rows, with_vintages
from fleet.keys import Keyring
from fleet.outcome import Failed, attempt, attempt_part, failure_of
from fleet.own import Kept, kept
from fleet.plan import Context, Group, Item, Recipe
from fleet.recipes import header_of
from fleet.together import LEAST, fitted_many
from store.ids import new_id


def fit_chunk(context: Context, items: Sequence[Item], mark: Mark) -> Finished:
    """Fit every item's recipes; versions are aligned with the blobs."""
    rows = _Rows(context)
    ready = _learnt_at_once(context, items)
    for place, item in enumerate(items):
        started = time.perf_counter()
        settings = context.settings[item.settings]
        history = context.history(item.asset, settings)
        end = history.last_reading_end
        if end is not None:
            rows.scales += scale_rows(item.asset.asset_id, settings, history, end)
        for part, (name, fingerprint) in enumerate(zip(item.recipes, item.fingerprints, strict=True)):
            mark(place, part)
            recipe = context.recipes[name]
            run = run_row(context, item, recipe, "train", fingerprint)
            clock = time.perf_counter()
            found = ready.get((place, name), _Fit())
            fitted = attempt_part(_fitted, context, item, recipe, history, found)
            rows.add(run, recipe, fitted, time.perf_counter() - clock + found.seconds)
        rows.seconds[item.asset.asset_id] = time.perf_counter() - started
    return rows.finished()


def fit_groups(context: Context, groups: Sequence[Group], mark: Mark) -> Finished:
    """Fit one model to each group; every asset that wants it has a run and a version of its own, of one blob."""
    rows = _Rows(context)
    for place, group in enumerate(groups):
        mark(place, 0)
        started = time.perf_counter()
        recipe, wanted = context.recipes[group.recipe], group.wanted
        runs = [run_row(context, item, recipe, "train", item.fingerprints[0]) for item in wanted]
        done = attempt_part(_of_group, context, group, recipe)
        share = (time.perf_counter() - started) / max(1, len(wanted))
        for item, run in zip(wanted, runs, strict=True):
            asset_id, settings = item.asset.asset_id, context.settings[item.settings]
            history = context.history(item.asset, settings)
            if (end := history.last_reading_end) is not None:
                rows.scales += scale_rows(asset_id, settings, history, end)
            rows.add(run, recipe, done if isinstance(done, Failed) else done[asset_id], share)
            rows.seconds[asset_id] = share
    return rows.finished()


_Learnt = tuple[Kept, dict[str, Any], dict[str, str]]
"""The model as bytes, what the run's row says of the fit, and the vintages that the newest target saw."""


@dataclass(slots=True)
class _Rows:
    """The rows of a chunk as they come."""

    context: Context
    runs: list[dict[str, Any]] = field(default_factory=list)
    versions: list[dict[str, Any]] = field(default_factory=list)
    blobs: list[bytes] = field(default_factory=list)
    scales: list[dict[str, Any]] = field(default_factory=list)
    failures: list[tuple[str, str, Failed]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    _sealed: tuple[Kept, bytes] | None = None

    def add(self, run: dict[str, Any], recipe: Recipe, fitted: _Learnt | Failed, seconds: float) -> None:
        """A run that has ended."""
        if isinstance(fitted, Failed):
            self.failures.append((run["asset_id"], recipe.name, fitted))
            run |= {"status": "failed", "error_code": fitted.code, "error": fitted.error}
        else:
            model, trained, vintages = fitted
            run = with_vintages(run | trained, vintages)
            if self._sealed is None or self._sealed[0] is not model:  # the assets of a group share one
                self._sealed = model, artefacts.sealed(header_of(recipe, model.codec), model.payload)
            self.blobs.append(self._sealed[1])
            self.versions.append(_version_row(run, recipe, model.codec, self.blobs[-1]))
        self.runs.append(ended(run, seconds))

    def finished(self) -> Finished:
        """All of it."""
        tables = {"runs": pa.Table.from_pylist(self.runs)} if self.runs else {}
        if self.versions:
            tables["versions"] = pa.Table.from_pylist(self.versions)
        if self.scales:
            tables["scales"] = pa.Table.from_pylist(self.scales)
        return Finished(tables=tables, failures=tuple(self.failures), seconds=self.seconds, blobs=tuple(self.blobs))


@dataclass(frozen=True, slots=True)
class _Fit:
    """What a call of `fit_many` left of an asset's fit: its question and model, or why there is none."""

    question: Question | None = None
    fitted: Fitted | Failed | None = None
    seconds: float = 0.0


def _learnt_at_once(context: Context, items: Sequence[Item]) -> dict[tuple[int, str], _Fit]:
    """By place and recipe what vectorised models learnt of a chunk; what is not here is fitted by itself."""
    found: dict[tuple[int, str], _Fit] = {}
    for name in dict.fromkeys(name for item in items for name in item.recipes):
        recipe = context.recipes[name]
        places = [place for place, item in enumerate(items) if name in item.recipes]
        if recipe.many is None or len(places) < LEAST:
            continue
        started = time.perf_counter()
        asked = {place: attempt(_question, context, items[place], recipe) for place in places}
        questions = {place: question for place, question in asked.items() if not isinstance(question, Failed)}
        done = attempt(fitted_many, recipe, [*questions.values()]) if len(questions) >= LEAST else None
        if not isinstance(done, list):
            continue
        share = (time.perf_counter() - started) / len(questions)
        for (place, question), one in zip(questions.items(), done, strict=True):
            # What may come through a moment later is tried again by itself, and then the engine hears of it.
            if not (isinstance(one, Failed) and one.passing):
                found[place, name] = _Fit(question, one, share)
    return found


def _question(context: Context, item: Item, recipe: Recipe, history: History | None = None) -> Question:
    """What a recipe learns from at the end of an asset's data."""
    settings = context.settings[item.settings]
    history = history or context.history(item.asset, settings)
    end = history.last_reading_end
    if end is None:
        raise NoData(f"{item.asset.asset_id} has no row to learn from")
    return _asked(context, item, recipe, history, settings.fit_issue(end))


def _asked(context: Context, item: Item, recipe: Recipe, history: History, issue: int) -> Question:
    question = context.question(item, recipe, history, issue)
    if not len(question.y):
        at = f"{question.task.target[0]:%Y-%m-%dT%H:%MZ}"
        raise TooShort(f"nothing is known at {at}, the history is too short")
    return question


def _fitted(context: Context, item: Item, recipe: Recipe, history: History, found: _Fit) -> _Learnt | Failed:
    if isinstance(found.fitted, Failed):
        return found.fitted
    question = found.question or _question(context, item, recipe, history)
    y = question.y
    fitted = found.fitted or recipe.forecaster.fit(*question)
    end = history.last_reading_end
    assert end is not None
    issue = context.settings[item.settings].fit_issue(end)
    vintages = context.vintages(item.asset, recipe, issue, question.task.target)
    trained = {"train_start": y.index[0], "train_end": y.index[-1]}
    return kept(recipe.forecaster, fitted, y, context.no_pickles), trained, vintages


def _of_group(context: Context, group: Group, recipe: Recipe) -> dict[str, _Learnt | Failed]:
    """By asset what one fit to all of them left; what the group learns, it learns at the earliest of their issues."""
    histories = {
        item.asset.asset_id: context.history(item.asset, context.settings[item.settings]) for item in group.items
    }
    ends = {
        item.asset.asset_id: context.settings[item.settings].fit_issue(end)
        for item in group.items
        if (end := histories[item.asset.asset_id].last_reading_end) is not None
    }
    found: dict[str, _Learnt | Failed] = {}
    items: list[Item] = []
    questions: list[Question] = []
    issue = min(ends.values(), default=0)
    for item in group.items:
        asset_id = item.asset.asset_id
        if asset_id not in ends:
            found[asset_id] = failure_of(NoData(f"{asset_id} has no row to learn from"))
            continue
        asked = attempt(_asked, context, item, recipe, histories[asset_id], issue)
        if isinstance(asked, Failed):
            found[asset_id] = asked
        else:
            items.append(item)
            questions.append(asked)
    if not questions:
        return found
    done = fitted_many(recipe, questions)
    # No version may issue for a time before what any of its group has learnt from.
    last = max(
        (q.y.index[-1] for q, one in zip(questions, done, strict=True) if not isinstance(one, Failed)), default=None
    )
    blobs: dict[int, Kept | Failed] = {}
    for item, question, one in zip(items, questions, done, strict=True):
        asset_id = item.asset.asset_id
        if isinstance(one, Failed) or not item.recipes:
            found |= {asset_id: one} if isinstance(one, Failed) else {}
            continue
        if id(one) not in blobs:
            blobs[id(one)] = attempt(kept, recipe.forecaster, one, question.y, context.no_pickles)
        blob = blobs[id(one)]
        vintages = context.vintages(item.asset, recipe, issue, question.task.target)
        trained = {"train_start": question.y.index[0], "train_end": last}
        found[asset_id] = blob if isinstance(blob, Failed) else (blob, trained, vintages)
    return found


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
