"""Where the errors lie: by local hour of the day, by lead, and how often the actuals fall below each quantile.

`scores` knows days and lead buckets; hours and quantiles are asked of the forecasts beside their actuals. Recipes of a
backtest are compared on the points that all of them have, with the arithmetic that leaderboards use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fleet.comparison import ROLES, SCALES, Role
from fleet.errors import MetricUnknown
from fleet.metrics import Metric, evaluate, interval_suffix, intervals_of, level_of, parse, quantile_column
from fleet.population import CAPACITIES

if TYPE_CHECKING:
    from store.reading import Snapshot

FloatArray = npt.NDArray[np.float64]
By = Literal["hour", "lead"]

# A backtest counts with its newest evaluation under the newest definition, and not at all where the recipe has failed
# since: as on a leaderboard.
POINTS = """
with newest as (
    select asset_id, recipe, recipe_hash, version_id from (
        select asset_id, recipe, recipe_hash, version_id from scores
        where role = 'backtest' and product = $product group by all) s
    where not exists (
        select 1 from runs r where r.kind = 'backtest' and r.status = 'failed' and r.product = $product
        and r.asset_id = s.asset_id and r.recipe = s.recipe and r.run_id > s.version_id)
    qualify row_number() over (partition by asset_id, recipe order by version_id desc) = 1
        and recipe_hash is not distinct from arg_max(recipe_hash, version_id) over (partition by recipe)
), issued as (
    select f.asset_id, f.recipe, f.version_id, f.issue_time, f.valid_time, {values} from forecasts f {newest}
    where f.product = $product and list_contains($roles, f.role)
      and ($recipes::varchar[] is null or list_contains($recipes, f.recipe))
      and ($assets::varchar[] is null or list_contains($assets, f.asset_id))
), points as (
    select f.*, a.y from issued f join actuals a on a.asset_id = f.asset_id and a.valid_time = f.valid_time
    where isfinite(a.y)
), common as (
    select asset_id, issue_time, valid_time from points group by all
    having count(*) = (
        select count(distinct recipe) from newest
        where ($recipes::varchar[] is null or list_contains($recipes, recipe))
          and ($assets::varchar[] is null or list_contains($assets, asset_id)))
)
"""
JUDGED = """
semi join newest w on w.asset_id = f.asset_id and w.recipe = f.recipe and w.version_id = f.version_id
"""
PAIRED = (
    "points f semi join common p on (p.asset_id, p.issue_time, p.valid_time) = (f.asset_id, f.issue_time, f.valid_time)"
)
# Both profiles from one pass: each row is of an hour, or of a lead.
CELLS = """
select asset_id, recipe, min(version_id) as version_id, hour, lead, {sums}
from (
    select f.*, hour(f.valid_time at time zone coalesce(c.tz, 'UTC')) as hour,
           epoch_us(f.valid_time) - epoch_us(f.issue_time) as lead {capacity}
    from (select * from {points}) f left join clocks c on c.asset_id = f.asset_id {held})
group by grouping sets ((asset_id, recipe, hour), (asset_id, recipe, lead))
"""
CAPACITY = ", t.capacity"
HELD = f"asof left join ({CAPACITIES}) t on t.asset_id = f.asset_id and f.valid_time >= t.begins"
TERMS = {
    "n": "count(*)",
    "sum_e": "sum(mean - y)",
    "sum_abs_e": "sum(abs(mean - y))",
    "sum_sq_e": "sum((mean - y) ** 2)",
    "sum_abs_y": "sum(abs(y))",
    "sum_smape": "sum(coalesce(2 * abs(mean - y) / nullif(abs(y) + abs(mean), 0), 0))",
    "sum_nmae_cap": "sum(abs(mean - y) / capacity) filter (where capacity > 0)",
    "n_cap": "count(*) filter (where capacity > 0)",
}
# More leads than this are gathered by the hour, or by the day.
MOST_LEADS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A metric of each recipe along an axis, averaged over assets.

    Args:
        keys: (k,) hours of the local day, or leads in microseconds.
        values: recipe to (k,) mean over its assets, NaN where none has a point.
        low, high: the same, the 10 % and the 90 % of the assets; only where there are ten or more.
        points: recipe to (k,) points.
        assets: recipe to the assets that count.
    """

    metric: str
    by: By
    role: Role
    keys: npt.NDArray[np.int64]
    values: Mapping[str, FloatArray]
    low: Mapping[str, FloatArray]
    high: Mapping[str, FloatArray]
    points: Mapping[str, FloatArray]
    assets: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """How often the actual lay at or below each quantile, mean over assets.

    Args:
        levels: (k,) nominal; observed: recipe to (k,) share, NaN where the recipe has no such quantile.
        low, high: the middle 80 % of the assets; only where there are ten or more.
        points: recipe to the points of its best covered level.
    """

    role: Role
    levels: FloatArray
    observed: Mapping[str, FloatArray]
    low: Mapping[str, FloatArray]
    high: Mapping[str, FloatArray]
    points: Mapping[str, int]
    assets: Mapping[str, int]


def profiles(
    snapshot: Snapshot,
    *,
    metric: str,
    role: Role = "backtest",
    recipes: Sequence[str] | None = None,
    assets: Sequence[str] | None = None,
    zones: Mapping[str, str],
    product: str = "default",
) -> tuple[Profile, Profile]:
    """A metric by local hour of the valid time, and by lead.

    Args:
        recipes, assets: only these; None is all.
        zones: asset to its time zone.
    """
    asked = parse(metric)
    if asked.recipe:
        raise MetricUnknown(f"{metric} compares two recipes", hint="show the mae: both recipes stand beside each other")
    levels = _levels(snapshot) if asked.probabilistic else ()
    terms = _terms(asked, levels)
    by_capacity = asked.family == "nmae_cap"
    query = _points(role, levels) + CELLS.format(
        sums=", ".join(f"{term} as {name}" for name, term in terms.items()),
        points=PAIRED if role == "backtest" else "points f",
        capacity=CAPACITY if by_capacity else "",
        held=HELD if by_capacity else "",
    )
    clocks = pa.table({"asset_id": pa.array(zones, pa.string()), "tz": pa.array(zones.values(), pa.string())})
    table = snapshot.sql(query, _asked(role, recipes, assets, product), {"clocks": clocks}).arrow()
    asset, names = _coded(table["asset_id"])
    sums = {name: table[name].cast(pa.float64()).to_numpy() for name in terms}
    scale_abs, scale_sq = _scales(snapshot, asked, table, names, product)
    values = evaluate(asked, sums, scale_abs=scale_abs[asset], scale_sq=scale_sq[asset])
    recipe, recipe_names = _coded(table["recipe"])
    cells = _Cells(asset=asset, recipe=recipe, recipes=recipe_names, values=values, points=sums["n"])
    hours, leads = (_profile(cells, table[by], metric, by, role) for by in ("hour", "lead"))
    return hours, leads


class _Cells(NamedTuple):
    """One row for each asset, recipe and hour or lead: codes, the metric, and how many points it rests on."""

    asset: npt.NDArray[np.int64]
    recipe: npt.NDArray[np.int64]
    recipes: list[str]
    values: FloatArray
    points: FloatArray


def _profile(cells: _Cells, column: pa.ChunkedArray, metric: str, by: By, role: Role) -> Profile:
    """Of the rows that have a key the averages over assets."""
    known = column.is_valid().to_numpy()
    keys, place = np.unique(_gathered(column.drop_null().cast(pa.int64()).to_numpy(), by), return_inverse=True)
    asset, recipe, values, points = (part[known] for part in (cells.asset, cells.recipe, cells.values, cells.points))
    found = {name: recipe == code for code, name in enumerate(cells.recipes)}
    grids = {name: _grid(asset[mine], place[mine], values[mine], len(keys)) for name, mine in found.items()}
    return Profile(
        metric=metric,
        by=by,
        role=role,
        keys=keys,
        values={name: _over_assets(grid, "mean") for name, grid in grids.items()},
        low={name: _over_assets(grid, 10.0) for name, grid in grids.items() if len(grid) >= 10},
        high={name: _over_assets(grid, 90.0) for name, grid in grids.items() if len(grid) >= 10},
        points={name: _counted(place[mine], points[mine], len(keys)) for name, mine in found.items()},
        assets={name: len(grid) for name, grid in grids.items()},
    )


def reliability(
    snapshot: Snapshot,
    *,
    role: Role = "backtest",
    recipes: Sequence[str] | None = None,
    assets: Sequence[str] | None = None,
    product: str = "default",
) -> Reliability:
    """The share of actuals at or below each quantile, of every recipe that has quantiles."""
    levels = _levels(snapshot)
    if not levels:
        none: dict[str, FloatArray] = {}
        return Reliability(role=role, levels=np.zeros(0), observed=none, low=none, high=none, points={}, assets={})
    counted = ", ".join(
        f"count({q}) as n_{q}, count(*) filter (where y <= {q}) as hit_{q}" for q in map(quantile_column, levels)
    )
    points = PAIRED if role == "backtest" else "points f"
    query = f"{_points(role, levels)} select asset_id, recipe, {counted} from {points} group by all order by all"
    table = snapshot.sql(query, _asked(role, recipes, assets, product)).arrow()
    recipe = np.asarray(table["recipe"].to_pylist(), dtype=object)
    counts = np.stack([table[f"n_{quantile_column(q)}"].to_numpy() for q in levels], axis=1).astype(np.float64)
    hits = np.stack([table[f"hit_{quantile_column(q)}"].to_numpy() for q in levels], axis=1).astype(np.float64)
    shares = np.divide(hits, counts, out=np.full(hits.shape, np.nan), where=counts > 0)
    found = {name: recipe == name for name in sorted(set(recipe)) if counts[recipe == name].any()}
    return Reliability(
        role=role,
        levels=np.array(levels),
        observed={name: _over_assets(shares[mine], "mean") for name, mine in found.items()},
        low={name: _over_assets(shares[mine], 10.0) for name, mine in found.items() if mine.sum() >= 10},
        high={name: _over_assets(shares[mine], 90.0) for name, mine in found.items() if mine.sum() >= 10},
        points={name: int(counts[mine].sum(axis=0).max()) for name, mine in found.items()},
        assets={name: int(mine.sum()) for name, mine in found.items()},
    )


def _asked(role: Role, recipes: Sequence[str] | None, assets: Sequence[str] | None, product: str) -> dict[str, object]:
    return {
        "product": product,
        "roles": list(ROLES[role]),
        "recipes": None if recipes is None else list(recipes),
        "assets": None if assets is None else list(assets),
    }


def _points(role: Role, levels: tuple[float, ...]) -> str:
    """SQL of the points that count, with the mean and these quantiles."""
    values = ", ".join(f"f.{name}" for name in ("mean", *map(quantile_column, levels)))
    return POINTS.format(values=values, newest=JUDGED if role == "backtest" else "")


def _levels(snapshot: Snapshot) -> tuple[float, ...]:
    """The quantile levels that the store's forecasts have."""
    names = snapshot.sql("select * from forecasts limit 0").arrow().column_names
    return tuple(sorted(level_of(name) for name in names if name[0] == "q" and name[1:].isdigit()))


def _terms(metric: Metric, levels: tuple[float, ...]) -> dict[str, str]:
    """SQL of the sums that a metric divides."""
    terms = dict(TERMS)
    if levels:
        terms["n_q"] = f"count(coalesce({', '.join(map(quantile_column, levels))}))"
    for level in levels:
        under = f"(y - {quantile_column(level)})"
        terms[f"pinball_sum_{quantile_column(level)}"] = f"sum(greatest({level} * {under}, ({level} - 1) * {under}))"
    for share, pair in intervals_of(levels).items():
        low, high = map(quantile_column, pair)
        tail = interval_suffix(share)
        outside = f"greatest({low} - y, 0) + greatest(y - {high}, 0)"
        terms[f"covered_{tail}"] = f"sum((y between {low} and {high})::double)"
        terms[f"width_sum_{tail}"] = f"sum({high} - {low})"
        terms[f"winkler_sum_{tail}"] = f"sum({high} - {low} + 2 / (1 - {share}) * ({outside}))"
    return {name: terms[name] for name in metric.columns(levels) if name in terms} | {"n": TERMS["n"]}


def _coded(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Each text as a number, in the order of the texts; and the texts."""
    encoded = column.combine_chunks().dictionary_encode()
    names = encoded.dictionary.to_pylist()
    rank = np.argsort(np.argsort(np.asarray(names, dtype=object)))
    return rank[encoded.indices.to_numpy()], sorted(names)


def _scales(
    snapshot: Snapshot, metric: Metric, table: pa.Table, names: Sequence[str], product: str
) -> tuple[FloatArray, FloatArray]:
    """By place in `names`: what mase and rmsse divide by, as known at the first issue that counts."""
    scales = np.full((2, max(1, len(names))), np.nan)
    if metric.season:
        judged = table.group_by(["asset_id", "version_id"]).aggregate([])
        found = snapshot.sql(SCALES, {"product": product, "season": metric.season}, {"judged": judged}).rows()
        place = {name: k for k, name in enumerate(names)}
        for row in found:
            scales[:, place[row["asset_id"]]] = [
                np.nan if row[name] is None else row[name] for name in ("scale_abs", "scale_sq")
            ]
    return scales[0], scales[1]


def _gathered(keys: npt.NDArray[np.int64], by: By) -> npt.NDArray[np.int64]:
    """Leads by the hour, or by the day, where there are too many."""
    for size in (3_600_000_000, 86_400_000_000):
        if by == "hour" or len(np.unique(keys)) <= MOST_LEADS:
            break
        keys = keys // size * size
    return keys


def _grid(asset: npt.NDArray[np.int64], place: npt.NDArray[np.int64], values: FloatArray, width: int) -> FloatArray:
    """(assets, width) the values of each asset at each place; a place that is gathered from several has their mean."""
    names, row = np.unique(asset, return_inverse=True)
    known = np.isfinite(values)
    shape = (len(names), width)
    total, count = np.zeros(shape), np.zeros(shape)
    np.add.at(total, (row[known], place[known]), values[known])
    np.add.at(count, (row[known], place[known]), 1.0)
    means: FloatArray = np.divide(total, count, out=np.full(shape, np.nan), where=count > 0)
    return means


def _counted(place: npt.NDArray[np.int64], points: FloatArray, width: int) -> FloatArray:
    counts: FloatArray = np.bincount(place, weights=points, minlength=width).astype(np.float64)
    return counts


def _over_assets(grid: FloatArray, how: float | Literal["mean"]) -> FloatArray:
    """(width,) mean or percentile of the assets that have a value; NaN where none has."""
    made = np.full(grid.shape[1], np.nan)
    for place in np.flatnonzero(np.isfinite(grid).any(axis=0)):
        column = grid[np.isfinite(grid[:, place]), place]
        made[place] = column.mean() if how == "mean" else np.percentile(column, how)
    return made
