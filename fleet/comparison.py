"""Paired comparison: the same assets, the same points, whatever is missing said beside it.

Cells whose set of points is the same for all recipes are added up from their sums; where an asset's recipes have
different points (one of them failed at an origin, an actual came late), the points in common are taken from the
forecasts. Sums run in a fixed order, so the same store gives the same figures on any number of threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fleet import cells, tallies
from fleet.masks import UNMASKED
from fleet.metrics import Metric, evaluate, level_of
from fleet.population import CAPACITIES

if TYPE_CHECKING:
    from store.reading import Snapshot

Codes = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Texts = npt.NDArray[np.object_]
Role = Literal["backtest", "live"]
Truth = Literal["latest", "first"]
ROLES: Mapping[Role, tuple[str, ...]] = {
    "backtest": ("backtest",),
    "live": ("champion", "challenger", "fallback", "external", "manual"),
}
SUMMED = ("n", "sum_", "pinball_sum_", "covered_", "width_sum_", "winkler_sum_")

# A backtest's version is its run's id, and ids are in order of time: the largest is the newest evaluation. A recipe
# whose newest judgement failed has none: what an older definition or older data gave must not speak for it. Of somebody
# else's forecasts that were issued here, what was issued speaks for the day, not all that was sent beside it.
EVALUATED = """
select s.* from scores s
where s.product = $product and s.truth = $truth and list_contains($roles, s.role)
  and ($recipes::varchar[] is null or list_contains($recipes, s.recipe))
  and ($since::date is null or s.day >= $since::date) and ($until::date is null or s.day < $until::date)
  and (s.role <> 'external' or not exists (
      select 1 from scores i where i.role not in ('backtest', 'external') and i.asset_id = s.asset_id
      and i.product = s.product and i.recipe = s.recipe and i.truth = s.truth and i.day = s.day))
  and (not $newest or ((s.asset_id, s.recipe, s.version_id) in (
      select (asset_id, recipe, max(version_id)) from scores
      where role = 'backtest' and product = $product group by asset_id, recipe)
    and not exists (
      select 1 from runs r where r.kind = 'backtest' and r.status = 'failed' and r.product = s.product
      and r.asset_id = s.asset_id and r.recipe = s.recipe and r.run_id > s.version_id)))
order by s.asset_id, s.recipe, s.day, s.lead_bucket, s.version_id
"""
COMMON = f"""
with held as ({CAPACITIES}), judged as (
    select f.*, a.y, t.capacity, (a.valid_time at time zone coalesce(c.tz, 'UTC'))::date as day, w.perfect_foresight,
           w.judged, 'latest' as truth, 0::bigint as actuals_v, TOLD as told
    from forecasts f
    join wanted w on w.asset_id = f.asset_id and w.recipe = f.recipe and w.version_id = f.version_id
    join actuals a on a.asset_id = f.asset_id and a.valid_time = f.valid_time
    asof left join held t on t.asset_id = f.asset_id and f.valid_time >= t.begins
    left join clocks c on c.asset_id = f.asset_id
    where isfinite(a.y) and {UNMASKED}
)
select * exclude (judged, told) from judged
where told is not null
  and ($since::date is null or day >= $since::date) and ($until::date is null or day < $until::date)
qualify count(*) over (partition by asset_id, issue_time, valid_time) = judged
"""
# The scale of an evaluation is known at its first issue; of several, the last one that was. An issue earlier than any
# scale takes the first there is, so that one of them does not blank the metric for all the others.
SCALES = """
with firsts as (
    select f.asset_id, min(f.issue_time) as issue from forecasts f
    join judged j on j.asset_id = f.asset_id and j.version_id is not distinct from f.version_id
    where f.product = $product group by f.asset_id
)
select s.asset_id,
       coalesce(arg_max(s.scale_abs, s.origin) filter (where s.origin <= f.issue), arg_min(s.scale_abs, s.origin))
           as scale_abs,
       coalesce(arg_max(s.scale_sq, s.origin) filter (where s.origin <= f.issue), arg_min(s.scale_sq, s.origin))
           as scale_sq
from firsts f join scales s on s.asset_id = f.asset_id
where s.product = $product and s.season = $season group by s.asset_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Sums of sufficient statistics, one row for each asset and recipe (and lead bucket, where asked).

    Args:
        asset, recipe, recipe_hash, lead: (rows,) names; lead is empty unless asked for.
        foresight: (rows,) whether the recipe saw a covariate's future.
        columns: column of `scores` to its (rows,) sums, NaN where a cell has none.
        levels: quantile levels present.
        missing: recipe to the number of assets that others were judged on and it was not, or on no common point.
        paired: False when no asset has been judged with all recipes; each then stands for its own assets.
        judged: asset_id and version_id of all that went into the sums.
    """

    asset: Texts
    recipe: Texts
    recipe_hash: Texts
    lead: Texts
    foresight: npt.NDArray[np.bool_]
    columns: Mapping[str, npt.NDArray[np.float64]]
    levels: tuple[float, ...]
    missing: Mapping[str, int]
    paired: bool
    judged: pa.Table


def compared(  # noqa: PLR0913  # a keyword for each way to cut it, as of a leaderboard
    snapshot: Snapshot,
    *,
    role: Role,
    recipes: Sequence[str] | None,
    product: str = "default",
    since: date | None = None,
    until: date | None = None,
    by_lead: bool = False,
    assets: Mapping[str, str] | None = None,
    across: Literal["fleet", "asset"] = "fleet",
    truth: Truth = "latest",
    quantiles: bool = False,
    scored_masks: Sequence[str] = (),
    columns: Sequence[str] | None = None,
) -> Sums:
    """The sums of every recipe over what all of them were judged on.

    Args:
        role: backtest takes each asset's newest evaluation; live everything that was issued, without pairing, since an
            asset usually has one champion at a time.
        recipes: only these; None is all.
        since, until: local days, `until` not included.
        assets: only these; asset to the zone whose days are meant, UTC where it is not said.
        across: fleet keeps the assets that every recipe was judged on; asset pairs each asset's own recipes.
        truth: what live forecasts were scored against; a backtest knows the latest reading only.
        scored_masks: reasons of masks whose readings count all the same.
        quantiles: only points of which every recipe has quantiles, and no recipe without any.
        columns: of `scores` that are wanted, as far as the store has them; None is all sums.
    """
    if role == "backtest" and not quantiles:
        asked = tallies.Asked(product=product, truth="latest", since=since, until=until)
        return _paired(
            snapshot,
            asked,
            recipes=recipes,
            by_lead=by_lead,
            assets=assets,
            across=across,
            scored_masks=scored_masks,
            columns=columns,
        )
    table = snapshot.sql(
        EVALUATED,
        {
            "product": product,
            "roles": list(ROLES[role]),
            "recipes": None if recipes is None else list(recipes),
            "since": since,
            "until": until,
            "newest": role == "backtest",
            "truth": truth if role == "live" else "latest",
        },
    ).arrow()
    if assets is not None:
        table = table.filter(pc.is_in(table["asset_id"], pa.array(sorted(assets), pa.string())))
    if role == "live" or not table.num_rows:
        return _summed(table, by_lead=by_lead, missing={}, paired=False)
    table = _newest_definition(table)
    table = _with_quantiles(table)
    if not table.num_rows:
        return _summed(table, by_lead=by_lead, missing={}, paired=False)
    asset, recipe = _codes(table["asset_id"]), _codes(table["recipe"])
    present = np.zeros((asset.max() + 1, recipe.max() + 1), dtype=bool)
    present[asset, recipe] = True
    names = _first_names(table["recipe"], recipe)
    missing = dict.fromkeys(recipes or (), len(present))
    missing |= {name: int((~present[:, code]).sum()) for code, name in enumerate(names)}
    common = present.all(axis=1) if across == "fleet" else np.ones(len(present), dtype=bool)
    if not common.any():
        return _summed(table, by_lead=by_lead, missing=missing, paired=False)
    judged = present.sum(axis=1)
    uneven = _uneven(table, asset, judged) & common
    even = table.filter(pa.array((common & ~uneven)[asset]))
    if uneven.any():
        wanted = table.append_column("judged", pa.array(judged[asset])).filter(pa.array(uneven[asset]))
        wanted = wanted.select(["asset_id", "recipe", "version_id", "perfect_foresight", "judged"])
        points = _common_points(snapshot, wanted, since, until, assets or {}, scored_masks, quantiles=quantiles)
        apart = int(uneven.sum()) - len(pc.unique(points["asset_id"]))
        missing = {name: count + apart for name, count in missing.items()}
        even = pa.concat_tables([even, points], promote_options="permissive")
    return _summed(even, by_lead=by_lead, missing=missing, paired=True)


def _paired(
    snapshot: Snapshot,
    asked: tallies.Asked,
    *,
    recipes: Sequence[str] | None,
    by_lead: bool,
    assets: Mapping[str, str] | None,
    across: Literal["fleet", "asset"],
    scored_masks: Sequence[str],
    columns: Sequence[str] | None,
) -> Sums:
    """Judgements on the points that all of them have; cells are read only as numbers, and only where they are even."""
    table = tallies.judgements(snapshot, asked, recipes=recipes, assets=None if assets is None else sorted(assets))
    table = _newest_definition(table)
    if not table.num_rows:
        return _of_judgements(snapshot, asked, table, columns=columns, by_lead=by_lead, missing={}, paired=False)
    asset, recipe = _codes(table["asset_id"]), _codes(table["recipe"])
    present = np.zeros((asset.max() + 1, recipe.max() + 1), dtype=bool)
    present[asset, recipe] = True
    missing = dict.fromkeys(recipes or (), len(present))
    missing |= {name: int((~present[:, code]).sum()) for code, name in enumerate(_first_names(table["recipe"], recipe))}
    common = present.all(axis=1) if across == "fleet" else np.ones(len(present), dtype=bool)
    if not common.any():
        return _of_judgements(snapshot, asked, table, columns=columns, by_lead=by_lead, missing=missing, paired=False)
    uneven = _differ(asset, table["cells"].to_numpy(), _codes(table["print"])) & common
    points = None
    if uneven.any():
        judged = present.sum(axis=1)
        wanted = table.append_column("judged", pa.array(judged[asset])).filter(pa.array(uneven[asset]))
        wanted = wanted.select(["asset_id", "recipe", "version_id", "perfect_foresight", "judged"])
        points = _common_points(snapshot, wanted, asked.since, asked.until, assets or {}, scored_masks, quantiles=False)
        apart = int(uneven.sum()) - len(pc.unique(points["asset_id"]))
        missing = {name: count + apart for name, count in missing.items()}
    even = table.filter(pa.array((common & ~uneven)[asset]))
    sums = _of_judgements(snapshot, asked, even, columns=columns, by_lead=by_lead, missing=missing, paired=True)
    return sums if points is None else _together(sums, _summed(points, by_lead=by_lead, missing=missing, paired=True))


def _differ(asset: Codes, *marks: Codes) -> npt.NDArray[np.bool_]:
    """(assets,) True where two judgements of an asset have different marks; rows are in order of assets."""
    starts = np.flatnonzero(np.concatenate([[True], asset[1:] != asset[:-1]]))
    apart: npt.NDArray[np.bool_] = np.logical_or.reduce(
        [np.minimum.reduceat(mark, starts) != np.maximum.reduceat(mark, starts) for mark in marks]
    )
    return apart


def _of_judgements(
    snapshot: Snapshot,
    asked: tallies.Asked,
    table: pa.Table,
    *,
    columns: Sequence[str] | None,
    by_lead: bool,
    missing: Mapping[str, int],
    paired: bool,
) -> Sums:
    """What the cells of some judgements add up to, whatever points they hold."""
    place, lead, sums, n_q = tallies.totals(snapshot, asked, table, columns=columns, by_lead=by_lead)

    def texts(column: str) -> Texts:
        return np.asarray(table[column].take(pa.array(place)).to_pylist(), dtype=object)

    return Sums(
        asset=texts("asset_id"),
        recipe=texts("recipe"),
        recipe_hash=texts("recipe_hash"),
        lead=np.asarray(tallies.LEADS if by_lead else [""], dtype=object)[lead],
        foresight=table["perfect_foresight"].to_numpy()[place],
        columns={**sums, "n_q": n_q},
        levels=_levels(sums),
        missing=missing,
        paired=paired,
        judged=table.select(["asset_id", "version_id"]),
    )


def _together(one: Sums, other: Sums) -> Sums:
    """The rows of two sets of assets that have none in common, in order."""
    asset, recipe, lead = (
        np.concatenate([getattr(one, name), getattr(other, name)]) for name in ("asset", "recipe", "lead")
    )
    order = np.lexsort(
        tuple(_codes(pa.chunked_array([pa.array(texts, pa.string())])) for texts in (lead, recipe, asset))
    )

    def both(name: str) -> FloatArray:
        parts = [sums.columns.get(name, np.full(len(sums.asset), np.nan)) for sums in (one, other)]
        return np.concatenate(parts)[order]

    return Sums(
        asset=asset[order],
        recipe=recipe[order],
        recipe_hash=np.concatenate([one.recipe_hash, other.recipe_hash])[order],
        lead=lead[order],
        foresight=np.concatenate([one.foresight, other.foresight])[order],
        columns={name: both(name) for name in dict.fromkeys([*one.columns, *other.columns])},
        levels=tuple(sorted({*one.levels, *other.levels})),
        missing=one.missing,
        paired=one.paired,
        judged=pa.concat_tables([one.judged, other.judged.select(one.judged.column_names)]),
    )


def _levels(names: Iterable[str]) -> tuple[float, ...]:
    """The quantile levels that there are sums of."""
    return tuple(sorted(level_of(name[len("pinball_sum_") :]) for name in names if name.startswith("pinball_sum_")))


def measured(snapshot: Snapshot, sums: Sums, metric: Metric, *, product: str = "default") -> npt.NDArray[np.float64]:
    """A metric of every row of `sums`; NaN where it is undefined.

    mase and rmsse divide by the scale that was known when the asset was first forecast in this evaluation.
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
    rows = snapshot.sql(SCALES, {"product": product, "season": season}, {"judged": sums.judged}).rows()
    found = {row["asset_id"]: (row["scale_abs"], row["scale_sq"]) for row in rows}
    pairs = [found.get(asset, (None, None)) for asset in sums.asset]
    table = np.array([[np.nan if value is None else value for value in pair] for pair in pairs], dtype=np.float64)
    scale_abs, scale_sq = table.reshape(-1, 2).T
    return scale_abs, scale_sq


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
    if len(newest) == len(pairs):
        return table
    hashes = pa.array([newest[name][1] for name in table["recipe"].to_pylist()], pa.string())
    return table.filter(pc.equal(table["recipe_hash"], hashes))


def _uneven(table: pa.Table, asset: Codes, judged: Codes) -> npt.NDArray[np.bool_]:
    """(assets,) True where a cell lacks a recipe, holds other points for one, or has quantiles for some points only."""
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
    uneven[asset[tallies.points_with_quantiles(table) < table["n"].to_numpy()]] = True
    return uneven


def _with_quantiles(table: pa.Table) -> pa.Table:
    """Without the recipes that have no quantiles on an asset, and without the cells that another one has none in."""
    n_q = tallies.points_with_quantiles(table)
    asset, recipe = _codes(table["asset_id"]), _codes(table["recipe"])
    pair = asset * (recipe.max(initial=0) + 1) + recipe
    able = np.bincount(pair, weights=n_q)[pair] > 0
    table, n_q, asset = table.filter(pa.array(able)), n_q[able], asset[able]
    day, lead = table["day"].cast(pa.int32()).to_numpy().astype(np.int64), _codes(table["lead_bucket"])
    since = day - day.min(initial=0)
    key = (asset * (since.max(initial=0) + 1) + since) * (lead.max(initial=0) + 1) + lead
    _, cell = np.unique(key, return_inverse=True)
    least = np.full(len(cell), np.inf)
    np.minimum.at(least, cell, n_q)
    return table.filter(pa.array(least[cell] > 0))


def _common_points(
    snapshot: Snapshot,
    wanted: pa.Table,
    since: date | None,
    until: date | None,
    assets: Mapping[str, str],
    scored_masks: Sequence[str],
    *,
    quantiles: bool,
) -> pa.Table:
    distinct = wanted.group_by(wanted.column_names).aggregate([])
    clocks = pa.table({"asset_id": pa.array(assets, pa.string()), "tz": pa.array(assets.values(), pa.string())})
    query = COMMON.replace("TOLD", "coalesce(*columns('^q[0-9]+$'))" if quantiles else "mean")
    rows = snapshot.sql(
        query, {"since": since, "until": until, "scored": list(scored_masks)}, {"wanted": distinct, "clocks": clocks}
    ).arrow()
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
    n_q = tallies.points_with_quantiles(table)
    firsts = pa.array(order[starts])

    def texts(column: str) -> Texts:
        return np.asarray(table[column].take(firsts).to_pylist(), dtype=object)

    def summed(column: str) -> FloatArray:
        return added(table[column].cast(pa.float64()).to_numpy()[order])

    def added(values: FloatArray) -> FloatArray:
        return np.add.reduceat(values, starts) if len(starts) else values[:0]

    def of_quantiles(column: str) -> FloatArray:
        """Of the cells that have any; NaN where none has this one."""
        sums: FloatArray = table[column].cast(pa.float64()).fill_null(0.0).to_numpy()
        some = added((table[column].is_valid().to_numpy() & (n_q > 0))[order].astype(np.float64))
        return np.where(some > 0, added(sums[order]), np.nan)

    return Sums(
        asset=texts("asset_id"),
        recipe=texts("recipe"),
        recipe_hash=texts("recipe_hash"),
        lead=texts("lead_bucket") if by_lead else np.full(len(starts), "", dtype=object),
        foresight=summed("perfect_foresight") > 0,
        columns={name: of_quantiles(name) if name.startswith(SUMMED[2:]) else summed(name) for name in names}
        | {"n_q": added(n_q[order])},
        levels=_levels(names),
        missing=missing,
        paired=paired,
        judged=table.select(["asset_id", "version_id"]).group_by(["asset_id", "version_id"]).aggregate([]),
    )


def _codes(column: pa.ChunkedArray) -> Codes:
    """Whole numbers that stand for the distinct values, in the values' own order."""
    if not len(column):
        return np.zeros(0, dtype=np.int64)
    column = column.fill_null("") if column.null_count else column
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
