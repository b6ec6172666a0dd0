"""A fleet of any size whose scores are written straight into its store, as a quarter of a year of work would leave it.

Every asset was judged by three recipes on each of ninety days, one has been in charge and was scored on all of them;
readings of a month and forecasts of a week stand behind the newest days. Everything is drawn from one seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from fleet.cells import LEAD_BUCKETS
from store import FixedClock, Store

if TYPE_CHECKING:
    import numpy.typing as npt

START = datetime(2024, 4, 1, tzinfo=UTC)
RECIPES = ("daily_naive", "gbm", "weekly_naive")
BUCKETS = LEAD_BUCKETS[:3]  # a day ahead in hours
POINTS = (1, 5, 18)
QUANTILES = (10, 50, 90)
KINDS = ("feeder", "school", "solar", "wind", "works")
REGIONS = tuple(f"region {letter}" for letter in "ABCDEFGH")
CHUNK = 1_000  # assets a commit
UTC_US = pa.timestamp("us", "UTC")
CONFIG = """[fleet]
name = "many plants"
store = "many.store"
freq = "1h"
horizon = 24
seasons = [24, 168]
quantiles = [0.1, 0.5, 0.9]
[data]
path = "nothing.parquet"
[recipes.daily_naive]
adapter = "seasonal_naive"
season = 24
[recipes.weekly_naive]
adapter = "seasonal_naive"
season = 168
[recipes.gbm]
adapter = "lightgbm"
lags = [24, 168]
"""


def asset(number: int) -> str:
    return f"plant-{number:05d}"


def version(recipe: int, number: int, again: int = 0) -> str:
    """The id of a judgement; later ones sort behind."""
    return f"{again:04d}{recipe:02d}{number:020d}"


def stock(folder: Path, assets: int, days: int) -> Path:
    """Write the fleet; its configuration's path."""
    config = folder / "fleet.toml"
    config.write_text(CONFIG, encoding="utf-8")
    end = START + timedelta(days=days)
    with Store.open(folder / "many.store", clock=FixedClock(end)) as store:
        for first in range(0, assets, CHUNK):
            numbers = np.arange(first, min(first + CHUNK, assets))
            transaction = store.begin(note="stock")
            _people(transaction, numbers, end)
            for recipe in range(len(RECIPES)):
                for name, table in judged(recipe, numbers, days, end).items():
                    transaction.insert(name, table)
            transaction.insert("scores", scores(1, numbers, days, "champion"))
            transaction.insert("actuals", _actuals(numbers, end, 30))
            transaction.insert("forecasts", _forecasts(numbers, end, 7))
            transaction.commit()
        _jobs(store, assets, end)
        store.upkeep(fold_after=timedelta(0), grace=timedelta(0))
    return config


def judged(recipe: int, numbers: npt.NDArray[np.int64], days: int, at: datetime, again: int = 0) -> dict[str, pa.Table]:
    """What a judgement of some assets by a recipe leaves: runs, versions, metrics, scores."""
    ids = [version(recipe, int(one), again) for one in numbers]
    names = [asset(int(one)) for one in numbers]
    many = len(ids)
    chance = np.random.default_rng([recipe, int(numbers[0]), again])
    common = {"asset_id": names, "product": ["default"] * many, "recipe": [RECIPES[recipe]] * many,
              "recipe_hash": [f"{recipe:016d}"] * many, "run_id": ids}  # fmt: skip
    stamps = pa.array([at] * many, UTC_US)
    runs = pa.table(
        common
        | {
            "library": ["tsfleet"] * many,
            "kind": ["backtest"] * many,
            "status": ["ok"] * many,
            "started_at": stamps,
            "ended_at": stamps,
            "duration_s": chance.uniform(0.1, 2, many),
            "train_end": stamps,
            "params": ['{"season": 24}'] * many,
        }
    )
    versions = pa.table(
        common
        | {
            "version_id": ids,
            "codec": ["json"] * many,
            "trusted": [True] * many,
            "bytes": [100] * many,
            "created_at": stamps,
        }
    )
    metrics = pa.table(
        {name: common[name] * 2 for name in ("run_id", "asset_id", "recipe")}
        | {
            "name": ["mae"] * many + ["rmse"] * many,
            "time": pa.array([at] * 2 * many, UTC_US),
            "value": chance.uniform(1, 9, 2 * many),
        }
    )
    return {
        "runs": runs,
        "versions": versions,
        "metrics": metrics,
        "scores": scores(recipe, numbers, days, again=again),
    }


def scores(recipe: int, numbers: npt.NDArray[np.int64], days: int, role: str = "backtest", again: int = 0) -> pa.Table:
    """Cells of one recipe: an asset's level and the recipe's skill, a drift in one asset of ten, some noise."""
    chance = np.random.default_rng([recipe, int(numbers[0]), again, len(role)])
    shape = (len(numbers), days, len(BUCKETS))
    rows = int(np.prod(shape))
    level = np.exp(np.random.default_rng(7).normal(2, 1, int(numbers[-1]) + 1))[numbers][:, None, None]
    drift = np.where(numbers % 10 == 3, np.linspace(1, 2, days)[:, None], 1.0).T[:, :, None]
    skill = (1.0, 0.8, 1.1)[recipe]
    off = level * drift * skill * np.exp(chance.normal(0, 0.2, shape)) * np.array([0.7, 0.9, 1.1])
    n = np.broadcast_to(np.array(POINTS), shape)
    flat = {
        "sum_e": (off * n * chance.uniform(-0.5, 0.5, shape)), "sum_abs_e": off * n, "sum_sq_e": 1.5 * off**2 * n,
        "sum_abs_y": 10 * level * n, "sum_smape": 0.1 * n, "sum_nmae_cap": off / level * n * 0.02,
    }  # fmt: skip
    if recipe == 1:
        flat |= {f"pinball_sum_q{level}": 0.3 * off * n for level in QUANTILES}
        flat |= {"covered_80": chance.binomial(n, 0.8).astype(float), "width_sum_80": 3 * off * n,
                 "winkler_sum_80": 4 * off * n}  # fmt: skip
    first = (START.date() - date(1970, 1, 1)).days
    day = np.broadcast_to(np.arange(first, first + days)[:, None], shape).ravel()
    each = np.repeat(np.arange(len(numbers)), days * len(BUCKETS))
    return pa.table(
        {
            "asset_id": pa.array([asset(int(one)) for one in numbers]).take(pa.array(each)),
            "product": pa.repeat("default", rows),
            "recipe": pa.repeat(RECIPES[recipe], rows),
            "recipe_hash": pa.repeat(f"{recipe:016d}", rows),
            "version_id": pa.array([version(recipe, int(one), again) for one in numbers]).take(pa.array(each)),
            "role": pa.repeat(role, rows),
            "truth": pa.repeat("latest", rows),
            "perfect_foresight": pa.repeat(False, rows),
            "day": pa.array(day.astype(np.int32), pa.int32()).cast(pa.date32()),
            "lead_bucket": pa.array(BUCKETS).take(pa.array(np.tile(np.arange(len(BUCKETS)), rows // len(BUCKETS)))),
            "n": pa.array(np.ascontiguousarray(n).ravel(), pa.int64()),
            "points": pa.array([f"{k:016x}" for k in range(days * len(BUCKETS))]).take(
                pa.array(np.tile(np.arange(days * len(BUCKETS)), len(numbers)))
            ),
            **{name: np.broadcast_to(values, shape).ravel() for name, values in flat.items()},
            "n_cap": pa.array(np.ascontiguousarray(n).ravel(), pa.int64()),
            "actuals_v": pa.repeat(pa.scalar(1, pa.int64()), rows),
        }
    )  # fmt: skip


def _people(transaction: object, numbers: npt.NDArray[np.int64], end: datetime) -> None:
    names = [asset(int(one)) for one in numbers]
    many = len(names)
    stamps = pa.array([end] * many, UTC_US)
    transaction.replace(
        "assets",
        pa.table(
            {
                "asset_id": names,
                "kind": [KINDS[one % 5] for one in numbers],
                "region": [REGIONS[one % 8] for one in numbers],
                "capacity": np.random.default_rng(int(numbers[0])).uniform(1, 90, many),
                "unit": ["MW"] * many,
                "timezone": ["UTC"] * many,
                "freq": ["1h"] * many,
                "state": ["active"] * many,
            }
        ),
    )
    transaction.insert(
        "scales",
        pa.table(
            {
                "asset_id": names * 2,
                "product": ["default"] * 2 * many,
                "origin": pa.array([START] * 2 * many, UTC_US),
                "season": [24] * many + [168] * many,
                "scale_abs": np.full(2 * many, 5.0),
                "scale_sq": np.full(2 * many, 40.0),
            }
        ),
    )
    transaction.promote(
        pa.table(
            {
                "asset_id": names,
                "product": ["default"] * many,
                "recipe": ["gbm"] * many,
                "version_id": [version(1, int(one)) for one in numbers],
                "since": stamps,
            }
        ),
        [None] * many,
        pa.table(
            {
                "asset_id": names,
                "product": ["default"] * many,
                "decided_at": stamps,
                "champion": ["daily_naive"] * many,
                "challenger": ["gbm"] * many,
                "metric": ["mae"] * many,
                "champion_value": np.full(many, 5.0),
                "challenger_value": np.full(many, 4.0),
                "margin": np.full(many, 0.2),
                "n": [2160] * many,
                "verdict": ["promoted"] * many,
                "reason": ["better by 20 %"] * many,
                "actor": ["train"] * many,
            }
        ),
    )


def _hours(end: datetime, days: int) -> pa.Array:
    return pa.array([end - timedelta(hours=one) for one in range(24 * days, 0, -1)], UTC_US)


def _tiled(numbers: Sequence[int] | npt.NDArray[np.int64], times: pa.Array) -> tuple[pa.Array, pa.Array]:
    each = pa.array(np.repeat(np.arange(len(numbers)), len(times)))
    return (
        pa.array([asset(int(one)) for one in numbers]).take(each),
        times.take(pa.array(np.tile(np.arange(len(times)), len(numbers)))),
    )


def _actuals(numbers: npt.NDArray[np.int64], end: datetime, days: int) -> pa.Table:
    names, times = _tiled(numbers, _hours(end, days))
    values = np.random.default_rng([3, int(numbers[0])]).normal(50, 8, len(names))
    return pa.table({"asset_id": names, "valid_time": times, "y": values, "available_at": times})


def _forecasts(numbers: npt.NDArray[np.int64], end: datetime, days: int) -> pa.Table:
    """A champion's forecast at each midnight of the last days."""
    names, times = _tiled(numbers, _hours(end, days))
    rows, hours = len(names), np.tile(np.arange(24 * days), len(numbers))
    mean = np.random.default_rng([4, int(numbers[0])]).normal(50, 5, rows)
    versions = pa.array([version(1, int(one)) for one in numbers]).take(
        pa.array(np.repeat(np.arange(len(numbers)), 24 * days))
    )
    issued = pa.array([end - timedelta(days=one) for one in range(days, 0, -1)], UTC_US).take(pa.array(hours // 24))
    return pa.table(
        {
            "asset_id": names, "product": pa.repeat("default", rows), "recipe": pa.repeat("gbm", rows),
            "recipe_hash": pa.repeat(f"{1:016d}", rows), "version_id": versions, "run_id": versions,
            "role": pa.repeat("champion", rows), "issue_time": issued, "valid_time": times,
            "step": pa.array(hours % 24 + 1), "mean": mean, "quality": pa.repeat("ok", rows), "created_at": issued,
            "q10": mean - 9, "q50": mean, "q90": mean + 9,
        }
    )  # fmt: skip


def _jobs(store: Store, assets: int, end: datetime) -> None:
    """A month of nightly work; one asset in two hundred failed the last time."""
    rows, outcomes = [], []
    for back in range(30):
        slot = end - timedelta(days=back)
        failed = assets // 200
        rows.append(
            {
                "job": "forecast",
                "slot": slot,
                "attempt": 1,
                "status": "ok",
                "started_at": slot,
                "ended_at": slot + timedelta(minutes=9),
                "assets": assets,
                "ok": assets - failed,
                "failed": failed,
                "fell_back": 0,
                "skipped": 0,
            }
        )
    names = [asset(one) for one in range(assets)]
    bad = [one % 200 == 0 for one in range(assets)]
    outcomes = pa.table(
        {
            "job": ["forecast"] * assets,
            "slot": pa.array([end] * assets, UTC_US),
            "asset_id": names,
            "product": ["default"] * assets,
            "recipe": ["gbm"] * assets,
            "status": ["failed" if one else "ok" for one in bad],
            "error_code": ["fit-failed" if one else None for one in bad],
            "cause": ["exception" if one else None for one in bad],
            "duration_s": [0.2] * assets,
        }
    )
    transaction = store.begin(note="jobs")
    transaction.insert("job_runs", rows)
    transaction.insert("outcomes", outcomes)
    transaction.commit()
