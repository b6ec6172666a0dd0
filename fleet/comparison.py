"""Paired comparison: the same assets, the same points, whatever is missing said beside it.

Cells whose set of points is the same for all recipes are added up from their sums; where an asset's recipes have
different points (one of them failed at an origin, an actual came late), the points in common are taken from the
forecasts. Sums run in a fixed order, so the same store gives the same figures on any number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fleet import cells
from fleet.metrics import Metric, evaluate, level_of

if TYPE_CHECKING:
    from store.reading import Snapshot

Codes = npt.NDArray[np.int64]
Texts = npt.NDArray[np.object_]
Role = Literal["backtest", "live"]
ROLES: Mapping[Role, tuple[str, ...]] = {
    "backtest": ("backtest",),
    "live": ("champion", "challenger", "fallback", "external", "manual"),
}
SUMMED = ("n", "sum_", "pinball_sum_", "covered_", "width_sum_", "winkler_sum_")

# A backtest's version is its run's id, and ids are in order of time: the largest is the newest evaluation.
EVALUATED = """
select s.* from scores s
where s.product = $product and s.truth = 'latest' and list_contains($roles, s.role)
  and list_contains($recipes, s.recipe)
  and ($since::date is null or s.day >= $since::date) and ($until::date is null or s.day < $until::date)
  and (not $newest or (s.asset_id, s.recipe, s.version_id) in (
      select (asset_id, recipe, max(version_id)) from scores
      where role = 'backtest' and product = $product group by asset_id, recipe))
order by s.asset_id, s.recipe, s.day, s.lead_bucket, s.version_id
"""
COMMON = """
select f.*, a.y, t.capacity, a.valid_time::date as day, w.perfect_foresight, 'latest' as truth, 0::bigint as actuals_v
from forecasts f
join wanted w on w.asset_id = f.asset_id and w.recipe = f.recipe and w.version_id = f.version_id
join actuals a on a.asset_id = f.asset_id and a.valid_time = f.valid_time
left join assets t on t.asset_id = f.asset_id
where isfinite(a.y) and ($since::date is null or a.valid_time >= $since::date)
  and ($until::date is null or a.valid_time < $until::date)
qualify count(*) over (partition by f.asset_id, f.issue_time, f.valid_time) = w.judged
"""

SCALES = """
select w.asset_id, w.day, arg_max(s.scale_abs, s.origin) as scale_abs, arg_max(s.scale_sq, s.origin) as scale_sq
from (select distinct asset_id, day from wanted) w
join scales s on s.asset_id = w.asset_id and s.product = $product and s.season = $season
 and s.origin < w.day::timestamp::timestamptz + interval 38 hours
group by all
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Sums of sufficient statistics, one row for each asset and recipe (and lead bucket, where asked).

    Args:
        asset, recipe, recipe_hash, lead: (rows,) names; lead is empty unless asked for.
        foresight: (rows,) whether the recipe saw a covariate's future.
        first_day: (rows,) first local day judged.
        columns: column of `scores` to its (rows,) sums, NaN where a cell has none.
        levels: quantile levels present.
        missing: recipe to the number of assets that some recipe was judged on and it was not.
        paired: False when no asset has been judged with all recipes; each then stands for its own assets.
    """

    asset: Texts
    recipe: Texts
    recipe_hash: Texts
    lead: Texts
    foresight: npt.NDArray[np.bool_]
    first_day: npt.NDArray[np.datetime64]
    columns: Mapping[str, npt.NDArray[np.float64]]
    levels: tuple[float, ...]
    missing: Mapping[str, int]
    paired: bool


def compared(
    snapshot: Snapshot,
    *,
    role: Role,
    recipes: Sequence[str],
    product: str = "default",
    since: date | None = None,
    until: date | None = None,
    by_lead: bool = False,
    assets: set[str] | None = None,
    across: Literal["fleet", "asset"] = "fleet",
) -> Sums:
    """The sums of every recipe over what all of them were judged on.

    Args:
        role: backtest takes each asset's newest evaluation; live everything that was issued, without pairing, since an
            asset usually has one champion at a time.
        since, until: local days, `until` not included.
        assets: only these.
        across: fleet keeps the assets that every recipe was judged on; asset pairs each asset's own recipes.
    """
    table = snapshot.sql(
        EVALUATED,
        {
            "product": product,
            "roles": list(ROLES[role]),
            "recipes": list(recipes),
            "since": since,
            "until": until,
            "newest": role == "backtest",
        },
    ).arrow()
    if assets is not None:
        table = table.filter(pc.is_in(table["asset_id"], pa.array(sorted(assets), pa.string())))
    if role == "live" or not table.num_rows:
        return _summed(table, by_lead=by_lead, missing={}, paired=False)
    table = _newest_definition(table)
    asset, recipe = _codes(table["asset_id"]), _codes(table["recipe"])
    present = np.zeros((asset.max() + 1, recipe.max() + 1), dtype=bool)
    present[asset, recipe] = True
    names = _first_names(table["recipe"], recipe)
    missing = {name: int((~present[:, code]).sum()) for code, name in enumerate(names)}
    common = present.all(axis=1) if across == "fleet" else np.ones(len(present), dtype=bool)
    if not common.any():
        return _summed(table, by_lead=by_lead, missing=missing, paired=False)
    judged = present.sum(axis=1)
    uneven = _uneven(table, asset, judged) & common
    even = table.filter(pa.array((common & ~uneven)[asset]))
    if uneven.any():
        wanted = table.append_column("judged", pa.array(judged[asset])).filter(pa.array(uneven[asset]))
        wanted = wanted.select(["asset_id", "recipe", "version_id", "perfect_foresight", "judged"])
        even = pa.concat_tables([even, _common_points(snapshot, wanted, since, until)], promote_options="permissive")
    return _summed(even, by_lead=by_lead, missing=missing, paired=True)


def measured(snapshot: Snapshot, sums: Sums, metric: Metric, *, product: str = "default") -> npt.NDArray[np.float64]:
    """A metric of every row of `sums`; NaN where it is undefined.

    mase and rmsse divide by the scale that belongs to the evaluation: the last one before the first day judged ended.
    """
    if metric.season:
        scale_abs, scale_sq = _scales(snapshot, sums, metric.season, product)
        return evaluate(metric, sums.columns, scale_abs=scale_abs, scale_sq=scale_sq)
    if metric.recipe:
        return evaluate(metric, sums.columns, baseline=_baseline(sums, metric.recipe))
    return evaluate(metric, sums.columns)


def _scales(
    snapshot: Snapshot, sums: Sums, season: int, product: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    days = pa.table({"asset_id": pa.array(sums.asset, pa.string()), "day": pa.array(sums.first_day.astype("M8[D]"))})
    rows = snapshot.sql(SCALES, {"product": product, "season": season}, {"wanted": days}).rows()
    found = {(row["asset_id"], row["day"]): (row["scale_abs"], row["scale_sq"]) for row in rows}
    nothing = (None, None)
    pairs = [found.get((a, d), nothing) for a, d in zip(sums.asset, sums.first_day.tolist(), strict=True)]
    table = np.array(
        [[np.nan if value is None else value for value in pair] for pair in pairs], dtype=np.float64
    ).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _baseline(sums: Sums, recipe: str) -> dict[str, npt.NDArray[np.float64]]:
    """The baseline's sums beside every row of the same asset and lead bucket; NaN where it was not judged."""
    place = {
        (asset, lead): row
        for row, (asset, name, lead) in enumerate(zip(sums.asset, sums.recipe, sums.lead, strict=True))
        if name == recipe
    }
    rows = np.array([place.get(key, -1) for key in zip(sums.asset, sums.lead, strict=True)], dtype=np.int64)
    return {name: np.where(rows >= 0, values[rows], np.nan) for name, values in sums.columns.items()}


def _newest_definition(table: pa.Table) -> pa.Table:
    """Only the rows of each recipe's newest definition: another hash under the same name is another recipe."""
    newest: dict[str, tuple[str, str]] = {}
    pairs = table.group_by(["recipe", "recipe_hash"]).aggregate([("version_id", "max")]).to_pylist()
    for row in pairs:
        newest[row["recipe"]] = max(newest.get(row["recipe"], ("", "")), (row["version_id_max"], row["recipe_hash"]))
    return table.filter(pc.is_in(table["recipe_hash"], pa.array([found for _, found in newest.values()], pa.string())))


def _uneven(table: pa.Table, asset: Codes, judged: Codes) -> npt.NDArray[np.bool_]:
    """(assets,) True where some cell lacks a recipe, or holds different points for two of them."""
    day = table["day"].cast(pa.int32()).to_numpy().astype(np.int64)
    lead, points = _codes(table["lead_bucket"]), _codes(table["points"].cast(pa.string()))
    order = np.lexsort((lead, day, asset))
    asset_s, day_s, lead_s, points_s = asset[order], day[order], lead[order], points[order]
    new = (asset_s[1:] != asset_s[:-1]) | (day_s[1:] != day_s[:-1]) | (lead_s[1:] != lead_s[:-1])
    starts = np.concatenate([[0], np.flatnonzero(new) + 1])
    sizes = np.diff(np.append(starts, len(order)))
    differ = np.minimum.reduceat(points_s, starts) != np.maximum.reduceat(points_s, starts)
    uneven = np.zeros(asset.max() + 1, dtype=bool)
    uneven[asset_s[starts[(sizes != judged[asset_s[starts]]) | differ]]] = True
    return uneven


def _common_points(snapshot: Snapshot, wanted: pa.Table, since: date | None, until: date | None) -> pa.Table:
    distinct = wanted.group_by(wanted.column_names).aggregate([])
    rows = snapshot.sql(COMMON, {"since": since, "until": until}, {"wanted": distinct}).arrow()
    levels = tuple(sorted(level_of(name) for name in rows.column_names if name[0] == "q" and name[1:].isdigit()))
    return cells.score_cells(rows, levels=levels)


def _summed(table: pa.Table, *, by_lead: bool, missing: Mapping[str, int], paired: bool) -> Sums:
    asset, recipe = _codes(table["asset_id"]), _codes(table["recipe"])
    lead = _codes(table["lead_bucket"]) if by_lead else np.zeros(len(asset), dtype=np.int64)
    day = table["day"].cast(pa.int32()).to_numpy().astype(np.int64)
    order = np.lexsort(
        (_codes(table["version_id"]), lead if by_lead else _codes(table["lead_bucket"]), day, lead, recipe, asset)
    )
    if len(order):
        a, r, b = asset[order], recipe[order], lead[order]
        starts = np.concatenate([[0], np.flatnonzero((a[1:] != a[:-1]) | (r[1:] != r[:-1]) | (b[1:] != b[:-1])) + 1])
    else:
        starts = np.zeros(0, dtype=np.int64)
    names = [c for c in table.column_names if c in ("n", "n_cap") or c.startswith(SUMMED[1:])]
    firsts = pa.array(order[starts])

    def texts(column: str) -> Texts:
        return np.asarray(table[column].take(firsts).to_pylist(), dtype=object)

    def summed(column: str) -> npt.NDArray[np.float64]:
        values = table[column].cast(pa.float64()).to_numpy()[order]
        return np.add.reduceat(values, starts) if len(starts) else values[:0]

    return Sums(
        asset=texts("asset_id"),
        recipe=texts("recipe"),
        recipe_hash=texts("recipe_hash"),
        lead=texts("lead_bucket") if by_lead else np.full(len(starts), "", dtype=object),
        foresight=np.asarray(table["perfect_foresight"].take(firsts).to_pylist(), dtype=bool),
        first_day=(np.minimum.reduceat(day[order], starts) if len(starts) else day[:0]).astype("M8[D]"),
        columns={name: summed(name) for name in names},
        levels=tuple(
            sorted(level_of(name[len("pinball_sum_") :]) for name in names if name.startswith("pinball_sum_"))
        ),
        missing=missing,
        paired=paired,
    )


def _codes(column: pa.ChunkedArray) -> Codes:
    """Whole numbers that stand for the distinct values, in the values' own order."""
    if not len(column):
        return np.zeros(0, dtype=np.int64)
    encoded = (
        column.combine_chunks().dictionary_encode()
        if not pa.types.is_dictionary(column.type)
        else column.combine_chunks()
    )
    encoded = encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) else encoded
    rank = np.argsort(
        np.argsort(np.asarray(encoded.dictionary.to_pylist(), dtype=object), kind="stable"), kind="stable"
    )
    codes: Codes = rank[encoded.indices.to_numpy()].astype(np.int64)
    return codes


def _first_names(column: pa.ChunkedArray, codes: Codes) -> list[str]:
    _, places = np.unique(codes, return_index=True)
    names: list[str] = column.take(pa.array(places)).to_pylist()
    return names
