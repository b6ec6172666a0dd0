"""Judging one recipe on one asset's past: fit before the first origin, forecast at each, beside what happened.

Runs in a worker and touches no store. What it returns are the finished rows of a chunk, so that the driver only
commits.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from fleet import calendar, cells, checks, intervals, masks, rows
from fleet.engines import Mark
from fleet.errors import NoData, TooShort
from fleet.forecaster import Fitted
from fleet.frames import History
from fleet.metrics import evaluate, parse
from fleet.origins import origins, timetable_origins
from fleet.outcome import Failed, attempt_part
from fleet.own import check_keepable
from fleet.plan import Context, Item, Recipe, Settings
from fleet.rows import Block
from fleet.task import FloatArray, IntArray
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
    blocks: list[Block] = []
    runs: list[dict[str, Any]] = []
    scales: list[dict[str, Any]] = []
    failures: list[tuple[str, str, Failed]] = []
    seconds: dict[str, float] = {}
    for place, item in enumerate(items):
        started = time.perf_counter()
        settings = context.settings[item.settings]
        history = context.history(item.asset, settings)
        issues = issues_of(history.last_reading_end, settings)
        if len(issues):
            scales += scale_rows(item.asset.asset_id, settings, history, issues[0])
        for part, (name, fingerprint) in enumerate(zip(item.recipes, item.fingerprints, strict=True)):
            mark(place, part)
            run = run_row(context, item, context.recipes[name], "backtest", fingerprint)
            clock = time.perf_counter()
            done = attempt_part(_judged, context, item, context.recipes[name], history, issues, run["run_id"])
            if isinstance(done, Failed):
                failures.append((item.asset.asset_id, name, done))
                run |= {"status": "failed", "error_code": done.code, "error": done.error}
            else:
                blocks += done[0]
                run = with_vintages(run | done[1], done[2])
            runs.append(ended(run, time.perf_counter() - clock))
        seconds[item.asset.asset_id] = time.perf_counter() - started
    tables = {"runs": pa.Table.from_pylist(runs)}
    if scales:
        tables["scales"] = pa.Table.from_pylist(scales)
    if blocks:
        tables["forecasts"] = rows.forecasts(blocks)
        levels = tuple(sorted({level for block in blocks for level in block.quantiles}))
        tables["scores"] = cells.score_cells(rows.judged(blocks, tables["forecasts"]), levels=levels)
        tables["metrics"] = _metric_rows(
            context, tables["scores"], {b.recipe: context.recipes[b.recipe] for b in blocks}
        )
    return Finished(tables=tables, failures=tuple(failures), seconds=seconds)


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


def _judged(
    context: Context, item: Item, recipe: Recipe, history: History, issues: Sequence[int], run_id: str
) -> tuple[list[Block], dict[str, Any], dict[str, str]]:
    """The forecasts of all origins, what the run's row says of the fit, and the vintages that the last origin saw."""
    if not len(issues) or not np.isfinite(history.values).any():
        raise NoData(f"{item.asset.asset_id} has no reading to judge on")
    settings = context.settings[item.settings]
    fitted: Fitted | None = None
    trained: dict[str, Any] = {}
    checked: list[checks.Checked] = []
    targets: list[pd.DatetimeIndex] = []
    for issue in issues:
        target = settings.target(issue, history.anchor)
        y, X = context.inputs(item.asset, recipe, settings, history, issue, target)
        if not len(y):
            raise TooShort(f"nothing is known at the origin {target[0]:%Y-%m-%dT%H:%MZ}, the history is too short")
        task = settings.task(target, item.asset.static)
        if fitted is None or (settings.judgement and settings.judgement.refit):
            fitted = recipe.forecaster.fit(y, X, task)
            if not trained:
                check_keepable(recipe.forecaster, fitted, y, context.no_pickles)
            trained = trained or {"train_start": y.index[0], "train_end": y.index[-1]}
        checked.append(checks.check_output(fitted.predict(y, X, task), task))
        targets.append(target)
    made = list(
        zip(issues, targets, _with_intervals(history, issues, targets, checked, settings.quantiles), strict=True)
    )
    # The rows of a block have the same quantiles; the first issues may have none.
    parts = ([one for one in made if bool(one[2].quantiles) is there] for there in (False, True))
    blocks = [_block(item, recipe, settings, history, part, run_id) for part in parts if part]
    return blocks, trained, context.vintages(item.asset, recipe, issues[-1], targets[-1])


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
        scale_abs, scale_sq = cells.seasonal_scale(values, times, season, settings.freq, settings.tz)
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


def lost(kind: str, context: Context, item: Item, failed: Failed) -> Finished:
    """The rows of an item whose worker died: a failed run for each of its recipes."""
    runs = []
    for name, fingerprint in zip(item.recipes, item.fingerprints, strict=True):
        run = run_row(context, item, context.recipes[name], kind, fingerprint)
        runs.append(ended(run | {"status": "failed", "error_code": failed.code, "error": failed.error}, 0.0))
    return Finished(
        tables={"runs": pa.Table.from_pylist(runs)},
        failures=tuple((item.asset.asset_id, name, failed) for name in item.recipes),
        seconds={},
    )
