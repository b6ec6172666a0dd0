"""Every asset on every day: how far off the recipe in charge was, as a field of numbers.

One question adds up the cells of `scores` by asset and day; windows, medians and changes are then made of the sums, so
that they are exact whatever the window. Where nothing was scored there is NaN, which is not zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fleet.comparison import Role
from fleet.metrics import evaluate, level_of, loss, parse

if TYPE_CHECKING:
    from store.reading import Snapshot

FloatArray = npt.NDArray[np.float64]
DAYS = 90
WINDOW = 7

HELD = """
select count(distinct day) filter (where role in ('champion', 'fallback', 'manual')) as live,
       count(*) filter (where role = 'backtest') as backtest
from scores where product = $product and truth = 'latest'
"""
# Of each asset the newest judgement of the recipe in charge; ids are in order of time.
JUDGED = """
with newest as (
    select s.asset_id, max(s.version_id) as version_id from scores s
    semi join champions c on c.asset_id = s.asset_id and c.recipe = s.recipe and c.product = $product
    where s.role = 'backtest' and s.product = $product and s.truth = 'latest' group by s.asset_id
), mine as (
    select s.* from scores s semi join newest w on w.asset_id = s.asset_id and w.version_id = s.version_id
    where s.role = 'backtest' and s.product = $product and s.truth = 'latest'
)"""
ISSUED = """
with mine as (
    select * from scores
    where role in ('champion', 'fallback', 'manual') and product = $product and truth = 'latest'
)"""
# A store has no n_q before there were quantiles; where a cell does not tell it, all its points have them.
ADDED = """
select asset_id, day, {sums}, sum(least(*columns('^(n|n_q)$'))) as n_q from mine
where day > (select max(day) from mine) - $days::integer and (not $some or asset_id in (select asset_id from meant))
group by asset_id, day
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A metric of assets by day.

    Args:
        metric: the name of what is in ``values``: a scaled error without its scale, which is the same on all days.
        assets: (n,) ids, in order; days: (d,) one after the other, the last is the newest scored of all.
        values: (n, d), NaN where nothing was scored.
        sums: column of `scores` to its (n, d) sums, NaN where there is none.
    """

    metric: str
    role: Role
    assets: tuple[str, ...]
    days: tuple[date, ...]
    values: FloatArray
    sums: Mapping[str, FloatArray]

    def over(self, first: int, stop: int, metric: str | None = None) -> FloatArray:
        """(n,) a metric over days by their place, ``stop`` not included; negative places count from the end."""
        width = len(self.days)
        part = slice(*(max(0, place + width if place < 0 else min(place, width)) for place in (first, stop)))
        known = {name: cells[:, part] for name, cells in self.sums.items()}
        added = {
            name: np.where(np.isfinite(cells).any(axis=1), np.nansum(cells, axis=1), np.nan) if cells.size else
            np.full(len(self.assets), np.nan)
            for name, cells in known.items()
        }  # fmt: skip
        return evaluate(parse(metric or self.metric), added)

    @property
    def newest(self) -> FloatArray:
        """(n,) the metric over the last week."""
        return self.over(-WINDOW, len(self.days))

    @property
    def before(self) -> FloatArray:
        """(n,) the metric over the week before the last."""
        return self.over(-2 * WINDOW, -WINDOW) if len(self.days) > WINDOW else np.full(len(self.assets), np.nan)

    @property
    def coverage(self) -> tuple[str, FloatArray] | None:
        """The metric of the widest interval there is, and (n,) its value over the last week."""
        names = [name for name in self.sums if name.startswith("covered_")]
        if not names:
            return None
        widest = max(names, key=lambda name: level_of("q" + name.removeprefix("covered_")))
        name = f"coverage_{widest.removeprefix('covered_')}"
        return name, self.over(-WINDOW, len(self.days), name)

    def worst(self, most: int) -> npt.NDArray[np.int64]:
        """Places of the assets that are furthest off over the last week, the furthest first."""
        badness = loss(parse(self.metric), self.newest)
        order = np.lexsort((np.arange(len(badness)), -np.where(np.isnan(badness), -np.inf, badness)))
        return order[~np.isnan(badness[order])][:most]


def panel(
    snapshot: Snapshot,
    *,
    metric: str,
    product: str = "default",
    role: Role | None = None,
    days: int = DAYS,
    only: tuple[str, ...] | None = None,
) -> Panel:
    """The last days of every asset.

    Args:
        role: of the forecasts; None is what was issued where there is a week of it, else what was judged.
        only: ids of the assets that are meant; None is all.
    """
    asked = parse(metric)
    asked = parse({"mase": "mae", "rmsse": "rmse", "skill": "mae"}.get(asked.family, metric))
    if role is None:
        held = snapshot.sql(HELD, {"product": product}).rows()[0]
        role = "live" if held["live"] >= WINDOW or not held["backtest"] else "backtest"
    several = ("pinball_sum_.+",) if asked.family in ("mean_pinball", "crps") else ()
    plain = [name for name in asked.columns() if name != "n_q"]
    wanted = "|".join([*plain, *several, "n", r"covered_\d+"])
    query = (JUDGED if role == "backtest" else ISSUED) + ADDED.format(sums=f"sum(columns('^({wanted})$'))")
    given = {"product": product, "days": days, "some": only is not None}
    named = pa.table({"asset_id": pa.array(only or (), pa.string())})
    table = snapshot.sql(query, given, {"meant": named}).arrow()
    return _laid(table, asked.name, role)


def _laid(table: pa.Table, metric: str, role: Role) -> Panel:
    """Rows of asset and day as a field."""
    coded = table["asset_id"].combine_chunks().dictionary_encode()
    names = np.asarray(coded.dictionary.to_pylist(), dtype=object)
    order = np.argsort(names)
    down = np.argsort(order)[coded.indices.to_numpy()] if len(names) else np.zeros(0, dtype=np.int64)
    day = table["day"].cast(pa.int32()).to_numpy().astype(np.int64)
    first = int(day.min()) if len(day) else 0
    width = int(day.max()) - first + 1 if len(day) else 0
    sums = {}
    for name in table.column_names[2:]:
        cells = np.full((len(names), width), np.nan)
        cells[down, day - first] = pc.cast(table[name], pa.float64()).to_numpy()
        sums[name] = cells
    flat = {name: cells.ravel() for name, cells in sums.items()}
    values = evaluate(parse(metric), flat).reshape(len(names), width) if width else np.zeros((len(names), 0))
    begin = date(1970, 1, 1) + timedelta(days=first)
    return Panel(
        metric=metric,
        role=role,
        assets=tuple(names[order].tolist()),
        days=tuple(begin + timedelta(days=k) for k in range(width)),
        values=values,
        sums=sums,
    )
