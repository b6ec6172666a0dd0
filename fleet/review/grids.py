"""What was scored of a fleet, day by day: one question for all assets, a dense grid for each sum.

A grid has a row for each asset and a column for each local day. Cells are added up in a fixed order, so the same store
gives the same figures on any number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fleet.comparison import Truth
from fleet.metrics import Metric, evaluate

if TYPE_CHECKING:
    from store.reading import Snapshot

FloatArray = npt.NDArray[np.float64]
Texts = npt.NDArray[np.object_]

#: What models issued for use: the recipe in charge, and what stood in for it.
ISSUED = ("champion", "fallback")
_EPOCH = date(1970, 1, 1)

CELLS = """
select p.place, s.day, {columns}
from scores s join places p on p.asset_id = s.asset_id
where s.product = $product and s.truth = $truth and s.role = $role and s.day >= $since and s.day < $until
order by p.place, s.day, s.lead_bucket, s.recipe, s.recipe_hash, s.version_id, s.perfect_foresight
"""
NEWEST = """
select p.place, arg_max(s.recipe, (s.day, s.version_id)) as recipe
from scores s join places p on p.asset_id = s.asset_id
where s.product = $product and s.truth = $truth and list_contains($roles, s.role) and s.day >= $since and s.day < $until
group by p.place
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Local days from `start` on, `stop_before` not included."""

    start: date
    stop_before: date

    @property
    def days(self) -> int:
        """How many."""
        return (self.stop_before - self.start).days

    def __str__(self) -> str:
        return f"{self.start} to {self.stop_before - timedelta(days=1)}"


def windows(end: date, recent: int, history: int) -> tuple[Window, Window]:
    """The days before `end`: the `recent` last ones, and the `history` that came before them.

    >>> recent, before = windows(date(2024, 6, 10), 7, 28)
    >>> str(recent), before.days
    ('2024-06-03 to 2024-06-09', 28)
    """
    middle = end - timedelta(days=recent)
    return Window(start=middle, stop_before=end), Window(start=middle - timedelta(days=history), stop_before=middle)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grids:
    """Sums of scores by asset and local day.

    Args:
        assets: (assets,) names, sorted.
        recipes: (assets,) whose forecast was the last to be issued; empty where none was.
        start: the first day.
        sums: role to column of `scores` to its (assets, days) sums; 0 where there is no cell.
    """

    assets: Texts
    recipes: Texts
    start: date
    days: int
    sums: Mapping[str, Mapping[str, FloatArray]]

    def over(self, window: Window, roles: Sequence[str] = ISSUED) -> dict[str, FloatArray]:
        """Column to its (assets,) sums over a window, for `evaluate`."""
        part = self._part(window)
        return {
            name: np.add.reduce([self.sums[role][name][:, part].sum(axis=1) for role in roles]) for name in self.columns
        }

    def _part(self, window: Window) -> slice:
        first = (window.start - self.start).days
        return slice(max(first, 0), max(first + window.days, 0))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that there are sums of."""
        return tuple(next(iter(self.sums.values())))

    def daily(self, metric: Metric, window: Window) -> FloatArray:
        """The metric of every asset and day of a window: (assets, days), NaN where nothing was scored."""
        part = self._part(window)
        added = {name: np.add.reduce([self.sums[role][name][:, part] for role in ISSUED]) for name in self.columns}
        return evaluate(metric, added)

    def share(self, window: Window, role: str) -> FloatArray:
        """(assets,) the share of a window's points that a role issued; NaN where there is none."""
        mine, whole = self.over(window, [role])["n"], self.over(window)["n"]
        made: FloatArray = np.divide(mine, whole, out=np.full(len(whole), np.nan), where=whole > 0)
        return made


def grids(snapshot: Snapshot, assets: Sequence[str], *, product: str, window: Window, truth: Truth = "latest") -> Grids:
    """The live scores of these assets in a window of local days.

    Args:
        assets: their ids; the rows of the grids are in their sorted order.
    """
    names = sorted(assets)
    places = pa.table({"asset_id": pa.array(names, pa.string()), "place": pa.array(range(len(names)), pa.int32())})
    known = snapshot.sql("select * from scores limit 0").arrow().column_names
    columns = [name for name in known if name in ("n", "n_cap") or name.startswith(_SUMMED)]
    asked = {"product": product, "truth": truth, "since": window.start, "until": window.stop_before}
    question = CELLS.format(columns=", ".join(f's."{name}"' for name in columns))
    sums = {
        role: _grid(snapshot.sql(question, {**asked, "role": role}, {"places": places}).arrow(), len(names), window)
        for role in ISSUED
    }
    recipes = np.full(len(names), "", dtype=object)
    for row in snapshot.sql(NEWEST, {**asked, "roles": list(ISSUED)}, {"places": places}).rows():
        recipes[row["place"]] = row["recipe"] or ""
    return Grids(assets=np.array(names, dtype=object), recipes=recipes, start=window.start, days=window.days, sums=sums)


_SUMMED = ("sum_", "pinball_sum_", "covered_", "width_sum_", "winkler_sum_")


def _grid(cells: pa.Table, assets: int, window: Window) -> dict[str, FloatArray]:
    place = cells["place"].to_numpy().astype(np.int64)
    day = cells["day"].cast(pa.int32()).to_numpy().astype(np.int64) - (window.start - _EPOCH).days
    flat = place * window.days + day
    starts = np.flatnonzero(np.diff(flat, prepend=-1))
    made = {}
    for name in cells.column_names[2:]:
        grid = np.zeros(assets * window.days)
        if len(starts):
            # A cell without a quantile has no sum of it, and the day's sum then is not known.
            grid[flat[starts]] = np.add.reduceat(cells[name].cast(pa.float64()).to_numpy(), starts)
        made[name] = grid.reshape(assets, window.days)
    return made
