"""Judging recipes on the past of assets: fit before the first origin, forecast at each, beside what happened.

Runs in a worker and touches no store. What it returns are the finished rows of a chunk, so that the driver only
commits.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from fleet import calendar, cells, checks, intervals, masks, rounds, rows
from fleet.engines import Mark
from fleet.frames import History
from fleet.metrics import evaluate, parse
from fleet.origins import origins, timetable_origins
from fleet.outcome import Failed, attempt, attempt_part
from fleet.plan import Context, Group, Item, Recipe, Settings
from fleet.rounds import Course, Past
from fleet.rows import Block
from fleet.task import FloatArray, IntArray
from fleet.together import LEAST
from store.ids import new_id

RUN_METRICS = ("mae", "rmse", "wape", "bias")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The rows of a chunk, by table; per asset and recipe what failed; seconds by asset."""

    tables: Mapping[str, pa.Table]
    failures: tuple[tuple[str, str, Failed], ...]
    seconds: Mapping[str, float]
    blobs: tuple[bytes, ...] = ()


def judge_chunk(context: Context, items: Sequence[Item], mark: Mark) -> Finished:
    """Backtest every item's recipes; a recipe that fails on an asset costs that asset and recipe only."""
    found = _Rows(context)
    ready = _judged_at_once(context, items)
    for place, item in enumerate(items):
        started = time.perf_counter()
        course = _course(context, item)
        found.scale(course)
        for part, (name, fingerprint) in enumerate(zip(item.recipes, item.fingerprints, strict=True)):
            mark(place, part)
            run = run_row(context, item, context.recipes[name], "backtest", fingerprint)
            clock = time.perf_counter()
            past, before = ready.get((place, name), (None, 0.0))
            done = attempt_part(_judged, context, course, context.recipes[name], run["run_id"], past)
            found.add(run, name, done, time.perf_counter() - clock + before)
        found.seconds[item.asset.asset_id] = time.perf_counter() - started
    return found.finished()


def judge_groups(context: Context, groups: Sequence[Group], mark: Mark) -> Finished:
    """Backtest a recipe on groups of assets that it learns from together; an asset that fails alone costs itself."""
    found = _Rows(context)
    for place, group in enumerate(groups):
        mark(place, 0)
        started = time.perf_counter()
        recipe, name = context.recipes[group.recipe], group.recipe
        runs = [run_row(context, item, recipe, "backtest", item.fingerprints[0]) for item in group.wanted]
        courses = [_course(context, item) for item in group.items]
        pasts = attempt_part(rounds.Together(context, recipe, courses).pasts)
        if isinstance(pasts, Failed):
            pasts = [pasts] * len(courses)
        wanted = [(course, past) for course, past in zip(courses, pasts, strict=True) if course.wanted]
        share = (time.perf_counter() - started) / max(1, len(wanted))
        for run, (course, past) in zip(runs, wanted, strict=True):
            found.scale(course)
            found.add(run, name, attempt(_judged, context, course, recipe, run["run_id"], past), share)
            found.seconds[run["asset_id"]] = share
    return found.finished()


def _course(context: Context, item: Item) -> Course:
    settings = context.settings[item.settings]
    history = context.history(item.asset, settings)
    issues = issues_of(history.last_reading_end, settings)
    return Course(item=item, history=history, issues=issues, wanted=bool(item.recipes))


def _judged_at_once(context: Context, items: Sequence[Item]) -> dict[tuple[int, str], tuple[Past | Failed, float]]:
    """By place and recipe what vectorised models say of a chunk's past, and its seconds; others are judged singly."""
    found: dict[tuple[int, str], tuple[Past | Failed, float]] = {}
    for name in dict.fromkeys(name for item in items for name in item.recipes):
        places = [place for place, item in enumerate(items) if name in item.recipes]
        if context.recipes[name].many is None or len(places) < LEAST:
            continue
        started = time.perf_counter()
        courses = [_course(context, items[place]) for place in places]
        pasts = attempt(rounds.Together(context, context.recipes[name], courses).pasts)
        share = (time.perf_counter() - started) / len(places)
        for place, past in zip(places, pasts, strict=True) if isinstance(pasts, list) else ():
            # What may come through a moment later is tried again by itself, and then the engine hears of it.
            if not (isinstance(past, Failed) and past.passing):
                found[place, name] = past, share
    return found


@dataclass(slots=True)
class _Rows:
    """The rows of a chunk as they come."""

    context: Context
    blocks: list[Block] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    scales: list[dict[str, Any]] = field(default_factory=list)
    failures: list[tuple[str, str, Failed]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def scale(self, course: Course) -> None:
        """What the scores of an asset are divided by, as of its first origin."""
        if len(course.issues):
            settings = self.context.settings[course.item.settings]
            self.scales += scale_rows(course.item.asset.asset_id, settings, course.history, course.issues[0])

    def add(self, run: dict[str, Any], name: str, done: _Judged | Failed, seconds: float) -> None:
        """A run that has ended."""
        if isinstance(done, Failed):
            self.failures.append((run["asset_id"], name, done))
            run |= {"status": "failed", "error_code": done.code, "error": done.error}
        else:
            self.blocks += done[0]
            run = with_vintages(run | done[1], done[2])
        self.runs.append(ended(run, seconds))

    def finished(self) -> Finished:
        """All of it, the forecasts scored."""
        tables = {"runs": pa.Table.from_pylist(self.runs)}
        if self.scales:
            tables["scales"] = pa.Table.from_pylist(self.scales)
        if self.blocks:
            tables["forecasts"] = rows.forecasts(self.blocks)
            levels = tuple(sorted({level for block in self.blocks for level in block.quantiles}))
            tables["scores"] = cells.score_cells(rows.judged(self.blocks, tables["forecasts"]), levels=levels)
            named = {b.recipe: self.context.recipes[b.recipe] for b in self.blocks}
            tables["metrics"] = _metric_rows(self.context, tables["scores"], named)
        return Finished(tables=tables, failures=tuple(self.failures), seconds=self.seconds)


def _metric_rows(context: Context, scores: pa.Table, recipes: Mapping[str, Recipe]) -> pa.Table:
    """What a run is searched by: its errors over all its origins, one row a metric."""
    wanted = ("n", "sum_e", "sum_abs_e", "sum_sq_e", "sum_abs_y")
    runs = pa.TableGroupBy(scores, ["version_id", "asset_id", "recipe"], use_threads=False)
    summed = runs.aggregate([(name, "sum") for name in wanted])
    sums = {name: summed[f"{name}_sum"].cast(pa.float64()).to_numpy() for name in wanted}
    parts = []
    for name in RUN_METRICS:
        values = evaluate(parse(name), sums)
        parts.append(
            pa.table(
                {
                    "run_id": summed["version_id"],
                    "asset_id": summed["asset_id"],
                    "recipe": summed["recipe"],
                    "library": [recipes[recipe].library for recipe in summed["recipe"].to_pylist()],
                    "name": pa.repeat(name, len(values)),
                    "time": pa.repeat(pa.scalar(context.clock.now(), rows.UTC), len(values)),
                    "value": pa.array(values),
                }
            )
        )
    return pa.concat_tables(parts)


@lru_cache(maxsize=4096)
def issues_of(end: int | None, settings: Settings) -> tuple[int, ...]:
    """The origins of an asset whose data end there; UTC microseconds."""
    cut = settings.judgement
    if end is None or cut is None:
        return ()
    last = pd.Timestamp(end, unit="us", tz="UTC")
    if settings.timetable is not None:
        found = timetable_origins(
            settings.timetable,
            cut.first,
            last,
            cut.count,
            cut.stride,
            days_ahead=settings.days_ahead,
            days=settings.days,
            horizon=settings.horizon,
            freq=settings.freq,
            tz=settings.tz,
        )
        return tuple(calendar.micros(found).tolist())
    found = origins(cut.first, last, cut.count, cut.stride, settings.horizon, settings.freq, settings.tz)
    return tuple(calendar.micros(found).tolist())


_Judged = tuple[list[Block], dict[str, Any], dict[str, str]]
"""The forecasts of all origins, what the run's row says of the fit, and the vintages that the last origin saw."""


def _judged(
    context: Context, course: Course, recipe: Recipe, run_id: str, past: Past | Failed | None
) -> _Judged | Failed:
    """An asset's past as rows; None has the model asked now."""
    if isinstance(past, Failed):
        return past
    past = past or rounds.alone(context, recipe, course)
    settings, asset = context.settings[course.item.settings], course.item.asset
    checked = _with_intervals(course.history, course.issues, past.targets, past.checked, settings.quantiles)
    made = list(zip(course.issues, past.targets, checked, strict=True))
    # The rows of a block have the same quantiles; the first issues may have none.
    parts = ([one for one in made if bool(one[2].quantiles) is there] for there in (False, True))
    blocks = [_block(course.item, recipe, settings, course.history, part, run_id) for part in parts if part]
    return blocks, past.trained, context.vintages(asset, recipe, course.issues[-1], past.targets[-1])


def _with_intervals(
    history: History,
    issues: Sequence[int],
    targets: Sequence[pd.DatetimeIndex],
    checked: Sequence[checks.Checked],
    levels: tuple[float, ...],
) -> Sequence[checks.Checked]:
    """With quantiles for a model that has none: each issue's from the errors of earlier ones, as far as then known."""
    if not levels or any(forecast.quantiles for forecast in checked):
        return checked
    sizes = [len(target) for target in targets]
    past = intervals.Past(
        issue_time=np.repeat(np.array(issues), sizes),
        valid_time=np.concatenate([calendar.micros(target) for target in targets]),
        step=np.concatenate([np.arange(1, size + 1) for size in sizes]),
        mean=np.concatenate([forecast.mean for forecast in checked]),
    )
    return [
        with_intervals(forecast, past.before(issue), history, issue, levels)
        for issue, forecast in zip(issues, checked, strict=True)
    ]


def with_intervals(
    forecast: checks.Checked, past: intervals.Past, history: History, issue: int, levels: tuple[float, ...]
) -> checks.Checked:
    """A forecast with conformal quantiles, where enough of its recipe's errors were known at the issue."""
    margins = intervals.margins(past.errors(history.readings(past.valid_time, issue)), levels)
    if margins is None:
        return forecast
    quantiles = intervals.around(forecast.mean, margins, levels)
    return checks.Checked(forecast.mean, dict(quantiles), (*forecast.quality, "conformal"))


def _block(
    item: Item,
    recipe: Recipe,
    settings: Settings,
    history: History,
    made: Sequence[tuple[int, pd.DatetimeIndex, checks.Checked]],
    run_id: str,
) -> Block:
    issues, targets, checked = zip(*made, strict=True)
    sizes = [len(target) for target in targets]
    valid = np.concatenate([calendar.micros(target) for target in targets])
    truth, version = history.truth(valid)
    if item.asset.unscored:
        truth = np.where(masks.under(valid, item.asset.unscored), np.nan, truth)
    flags = {flag for forecast in checked for flag in forecast.quality}
    return Block(
        asset_id=item.asset.asset_id,
        product=settings.product,
        recipe=recipe.name,
        recipe_hash=recipe.recipe_hash,
        # A backtest keeps no model: its rows carry the run's id as their version, so two backtests never mix.
        version_id=run_id,
        run_id=run_id,
        role="backtest",
        quality="+".join(sorted(flags)) or "ok",
        tz=settings.tz,
        issue_time=np.repeat(np.array(issues), sizes),
        valid_time=valid,
        step=np.concatenate([np.arange(1, size + 1) for size in sizes]),
        mean=np.concatenate([forecast.mean for forecast in checked]),
        quantiles=_joined_quantiles(checked),
        foresight=any(covariate.foresight for covariate in recipe.sees(item.asset.covariates)),
        capacity=capacity_at(item, valid),
        truth=truth,
        truth_version=version,
    )


def _joined_quantiles(checked: Sequence[checks.Checked]) -> dict[float, FloatArray]:
    return {level: np.concatenate([f.quantiles[level] for f in checked]) for level in checked[0].quantiles}


def capacity_at(item: Item, valid: IntArray) -> FloatArray | None:
    """(rows,) the asset's capacity at each instant (UTC microseconds), NaN where unknown; None where it never was."""
    if not item.asset.capacities:
        return None
    since, capacity = (np.array(column) for column in zip(*item.asset.capacities, strict=True))
    place = np.searchsorted(since, valid, side="right") - 1
    return np.where(place >= 0, capacity[np.maximum(place, 0)], np.nan)


def scale_rows(asset_id: str, settings: Settings, history: History, before: int) -> list[dict[str, Any]]:
    """What mase and rmsse divide by: one row per season over all history known before an instant (UTC microseconds)."""
    values, times = history.known_arrays(before)
    found = []
    for season in settings.seasons:
        scale_abs, scale_sq = cells.seasonal_scale_micros(values, times, season, settings.freq, settings.tz)
        found.append(
            {
                "asset_id": asset_id,
                "product": settings.product,
                "origin": datetime.fromtimestamp(before / 1e6, UTC),
                "season": season,
                "scale_abs": _or_none(scale_abs),
                "scale_sq": _or_none(scale_sq),
            }
        )
    return found


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def run_row(context: Context, item: Item, recipe: Recipe, kind: str, fingerprint: str) -> dict[str, Any]:
    """The `runs` row of a run that begins now."""
    tags: dict[str, Any] = {}
    if any(covariate.foresight for covariate in recipe.sees(item.asset.covariates)):
        tags["perfect_foresight"] = True
    if kind == "train" and recipe.code:
        tags["code"] = recipe.code
    return {
        "run_id": new_id(),
        "asset_id": item.asset.asset_id,
        "product": context.settings[item.settings].product,
        "recipe": recipe.name,
        "recipe_hash": recipe.recipe_hash,
        "library": recipe.library,
        "library_version": recipe.library_version,
        "kind": kind,
        "status": "ok",
        "started_at": context.clock.now(),
        "params": recipe.params,
        "tags": json.dumps(tags) if tags else None,
        "data_version": context.snapshot,
        "code_version": context.code_version,
        "fingerprint": fingerprint,
        "batch_id": context.batch_id,
        "train_start": None,
        "train_end": None,
        "error_code": None,
        "error": None,
    }


def with_vintages(run: dict[str, Any], vintages: Mapping[str, str], **more: str) -> dict[str, Any]:
    """The row of a run with its lineage: when the newest value became known that it was shown of each covariate."""
    if not vintages:
        return run
    tags = json.loads(run["tags"] or "{}")
    return run | {"tags": json.dumps({**tags, "vintages": dict(vintages), **more})}


def ended(run: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The row of a run that took so long."""
    return run | {"ended_at": run["started_at"] + timedelta(seconds=seconds), "duration_s": seconds}


def lost(kind: str, context: Context, lot: Item | Group, failed: Failed) -> Finished:
    """The rows of an item or group whose worker died: a failed run for each of its recipes."""
    runs, failures = [], []
    for item in lot.wanted if isinstance(lot, Group) else (lot,):
        for name, fingerprint in zip(item.recipes, item.fingerprints, strict=True):
            run = run_row(context, item, context.recipes[name], kind, fingerprint)
            runs.append(ended(run | {"status": "failed", "error_code": failed.code, "error": failed.error}, 0.0))
            failures.append((item.asset.asset_id, name, failed))
    return Finished(tables={"runs": pa.Table.from_pylist(runs)}, failures=tuple(failures), seconds={})
