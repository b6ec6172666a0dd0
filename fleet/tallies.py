"""Sums over the cells of judgements: which there are, whether they hold the same points, what they add up to.

A fleet has thousands of judgements and millions of cells. What is decided by name is decided on the judgements; of the
cells only days, leads and sums come out of the store, some assets at a time. They are added in a fixed order, so the
same store gives the same figures on any number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fleet.cells import LEAD_BUCKETS

if TYPE_CHECKING:
    from store.reading import Snapshot

Codes = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
#: Cells that are added up at once.
CELLS = 2_000_000
#: In the order in which texts are sorted.
LEADS = tuple(sorted(LEAD_BUCKETS))
SUMS = r"n|n_cap|n_q|sum_.+|pinball_sum_.+|covered_\d+|width_sum_\d+|winkler_sum_\d+"

# A version is its run's id, and ids are in order of time: the largest is the newest judgement. A recipe whose newest
# one failed has none: what an older definition or older data gave must not speak for it. Equal sets of cells have equal
# counts and equal prints, in whatever order they are read.
JUDGED = """
with held as (
    select asset_id, recipe, recipe_hash, version_id,
           count(*) filter (where {window}) as cells,
           bit_xor(hash(day, lead_bucket, points)) filter (where {window}) as print,
           coalesce(bool_or(perfect_foresight) filter (where {window}), false) as perfect_foresight
    from scores where role = 'backtest' and product = $product
      and (not $some or asset_id in (select asset_id from meant))
    group by asset_id, recipe, recipe_hash, version_id
), newest as (
    select * from held qualify version_id = max(version_id) over (partition by asset_id, recipe)
)
select asset_id, recipe, recipe_hash, version_id, cells, print::varchar as print, perfect_foresight from newest n
where cells > 0 and ($recipes::varchar[] is null or list_contains($recipes, recipe))
  and not exists (
      select 1 from runs r where r.kind = 'backtest' and r.status = 'failed' and r.product = $product
      and r.asset_id = n.asset_id and r.recipe = n.recipe and r.run_id > n.version_id)
order by asset_id, recipe
"""
WINDOW = """truth = $truth and ($since::date is null or day >= $since::date)
    and ($until::date is null or day < $until::date)"""
CELLS_OF = """
select w.place, s.day, list_position($leads, s.lead_bucket) as lead, columns('^({columns})$')
from scores s
join wanted w on w.asset_id = s.asset_id and w.recipe = s.recipe and w.version_id = s.version_id
where s.role = 'backtest' and s.product = $product and s.asset_id >= $first and s.asset_id <= $last and {window}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which cells count.

    Args:
        since, until: local days, `until` not included.
    """

    product: str
    truth: str
    since: date | None
    until: date | None

    @property
    def values(self) -> dict[str, object]:
        """As a query takes them."""
        return {"product": self.product, "truth": self.truth, "since": self.since, "until": self.until}


def judgements(
    snapshot: Snapshot, asked: Asked, *, recipes: Sequence[str] | None, assets: Sequence[str] | None
) -> pa.Table:
    """Each asset's newest judgement by each recipe: how many cells it has, and a print of what is in them.

    Args:
        recipes, assets: only these; None is all.
    """
    values = {**asked.values, "recipes": None if recipes is None else list(recipes), "some": assets is not None}
    meant = pa.table({"asset_id": pa.array(assets or (), pa.string())})
    return snapshot.sql(JUDGED.format(window=WINDOW), values, {"meant": meant}).arrow()


def totals(
    snapshot: Snapshot, asked: Asked, wanted: pa.Table, *, columns: Sequence[str] | None, by_lead: bool
) -> tuple[Codes, Codes, Mapping[str, FloatArray], FloatArray]:
    """What the cells of judgements add up to.

    Args:
        wanted: judgements with cells, in order of their assets.
        columns: of `scores`, as far as there are any of that name; None is all that are sums.

    Returns:
        (rows,) places in `wanted`; (rows,) leads by their place in `LEADS`, 0 unless asked for; column to (rows,) sums,
        NaN where no cell has one; (rows,) points that have quantiles.
    """
    found = [_added(_cells(snapshot, asked, part, first, columns), by_lead=by_lead) for first, part in _parts(wanted)]
    names = dict.fromkeys(name for _, _, sums, _ in found for name in sums)
    sums = {
        name: np.concatenate([sums.get(name, np.full(len(place), np.nan)) for place, _, sums, _ in found])
        for name in names
    }
    return _joined(found, 0, np.int64), _joined(found, 1, np.int64), sums, _joined(found, 3, np.float64)


def _joined(found: Sequence[tuple[Any, ...]], which: int, kind: type) -> npt.NDArray[Any]:
    return np.concatenate([np.zeros(0, kind), *(part[which] for part in found)])


def _parts(wanted: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Whole assets at a time, with the place of the first row."""
    if not wanted.num_rows:
        return
    size = np.cumsum(wanted["cells"].to_numpy()) // CELLS
    names = wanted["asset_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    cuts = 1 + np.flatnonzero(np.diff(size) > 0)
    starts = np.unique(np.searchsorted(names, names[cuts]))  # in order of assets, codes are in order, too
    edges = [0, *(int(one) for one in starts if one), wanted.num_rows]
    for first, stop in pairwise(edges):
        yield first, wanted.slice(first, stop - first)


def _cells(snapshot: Snapshot, asked: Asked, part: pa.Table, first: int, columns: Sequence[str] | None) -> pa.Table:
    place = pa.array(np.arange(first, first + part.num_rows, dtype=np.int32))
    named = part.select(["asset_id", "recipe", "version_id"]).append_column("place", place)
    query = CELLS_OF.format(columns=SUMS if columns is None else "|".join(columns), window=WINDOW)
    values = {**asked.values, "leads": list(LEADS), "first": part["asset_id"][0].as_py(),
              "last": part["asset_id"][-1].as_py()}  # fmt: skip
    return snapshot.sql(query, values, {"wanted": named}).arrow()


def _added(table: pa.Table, *, by_lead: bool) -> tuple[Codes, Codes, Mapping[str, FloatArray], FloatArray]:
    """Cells added up by judgement, and by lead where that is asked for; in order of days and leads."""
    place, lead = (table[name].cast(pa.int64()).to_numpy() for name in ("place", "lead"))
    day = table["day"].cast(pa.int32()).to_numpy().astype(np.int64)
    lead = lead - 1  # SQL counts from 1
    group = place * len(LEADS) + (lead if by_lead else 0)
    since = day - day.min(initial=0) if len(day) else day
    key = (group * (since.max(initial=0) + 1) + since) * len(LEADS) + lead
    order = np.argsort(key, kind="stable")
    group = group[order]
    starts = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]])) if len(order) else order
    n_q = points_with_quantiles(table)[order]

    def added(values: FloatArray) -> FloatArray:
        return np.add.reduceat(values, starts) if len(starts) else values[:0]

    def summed(name: str) -> FloatArray:
        column = table[name].cast(pa.float64())
        if not name.startswith(QUANTILES):
            return added(column.to_numpy()[order])
        # Of the cells that have any; NaN where none has this one.
        some = added((column.is_valid().to_numpy()[order] & (n_q > 0)).astype(np.float64))
        return np.where(some > 0, added(column.fill_null(0.0).to_numpy()[order]), np.nan)

    names = [name for name in table.column_names[3:] if name != "n_q"]
    return group[starts] // len(LEADS), group[starts] % len(LEADS), {name: summed(name) for name in names}, added(n_q)


QUANTILES = ("pinball_sum_", "covered_", "width_sum_", "winkler_sum_")


def points_with_quantiles(table: pa.Table) -> FloatArray:
    """(cells,) how many points of each have quantiles: all where it is not told, none where there is no sum of any."""
    import pyarrow.compute as pc

    sums = [table[name] for name in table.column_names if name.startswith("pinball_sum_")]
    if not sums:
        return np.zeros(table.num_rows)
    points: FloatArray = table["n"].cast(pa.float64()).to_numpy()
    if "n_q" in table.column_names:
        points = pc.coalesce(table["n_q"].cast(pa.float64()), pa.chunked_array([points])).to_numpy()
    bare = np.logical_and.reduce([column.is_null().to_numpy() for column in sums])
    return np.where(bare, 0.0, points)
