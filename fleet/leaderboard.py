"""Which recipe is best, and which assets are worst: tables over paired sums, ready to print or to plot.

A leaderboard compares recipes on the assets and points that all of them were judged on, says for each how many assets
it is missing and for how many a metric is undefined, and never averages a NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fleet import cards
from fleet.cells import LEAD_BUCKETS
from fleet.comparison import Role, Sums, Truth, compared, measured
from fleet.errors import MetricUnknown
from fleet.metrics import evaluate, loss, parse

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from store.reading import Snapshot

Average = Literal["mean", "median", "micro"]
By = Literal["asset", "lead"]
Groups = Mapping[str, str]
FloatArray = npt.NDArray[np.float64]

LIBRARIES = "select recipe, recipe_hash, max(library) as library from runs group by recipe, recipe_hash"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """What one row averages: its assets, and every metric of each of them, NaN where it is undefined."""

    assets: tuple[str, ...]
    values: Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaderboard:
    """Rows of a leaderboard, best first, and what they were made of.

    Args:
        columns: in order.
        paired: whether all recipes stand for the same assets and points.
        outdated: assets of which a judged reading was revised after the judgement.
        by: what the rows are grouped by, beside the recipe.
        unit: of the assets, where all have the same.
        spreads: by recipe and group what the row averages.
    """

    columns: tuple[str, ...]
    table: tuple[Mapping[str, Any], ...]
    role: str
    average: str
    metric: str
    paired: bool
    outdated: int = 0
    by: str | None = None
    unit: str = ""
    spreads: Mapping[tuple[str, str], Spread] = field(default_factory=dict, repr=False, compare=False)

    def rows(self) -> list[dict[str, Any]]:
        """One dict for each recipe (and group); an undefined metric is None."""
        return [dict(row) for row in self.table]

    def arrow(self) -> pa.Table:
        """The same as an Arrow table."""
        return pa.table({name: [row[name] for row in self.table] for name in self.columns})

    def df(self) -> pd.DataFrame:
        """The same as a pandas frame."""
        frame: pd.DataFrame = self.arrow().to_pandas()
        return frame

    def __repr__(self) -> str:
        best = self.table[0]["recipe"] if self.table else "nothing judged yet"
        return f"Leaderboard({self.role}, {len(self.table)} rows, {self.average} {self.metric}, best: {best})"

    def _repr_html_(self) -> str:
        return cards.leaderboard_card(self)

    def plot(self, metric: str | None = None) -> Figure:
        """The metric of every recipe, with its spread over assets; along the leads or groups where there are any.

        Args:
            metric: one of the columns; None is the one that orders the rows.
        """
        from fleet import plots

        return plots.leaderboard(self, self._column(metric))

    def plot_distribution(self, metric: str | None = None) -> Figure:
        """How the metric is spread over the assets, a box and a histogram for each recipe.

        Args:
            metric: one of the columns; None is the one that orders the rows.
        """
        from fleet import plots

        return plots.distribution(self, self._column(metric))

    def _column(self, metric: str | None) -> str:
        name = metric or self.metric
        known = self.columns[self.columns.index("perfect_foresight") + 1 :]
        if name not in known:
            raise MetricUnknown(f"this leaderboard has no {name}", hint=f"it has {', '.join(known)}")
        return name


def leaderboard(  # noqa: PLR0913  # a keyword for each way to cut it, as on the command line
    snapshot: Snapshot,
    *,
    recipes: Sequence[str] | None,
    metrics: Sequence[str],
    sort_by: str,
    role: Role = "backtest",
    average: Average = "mean",
    by: str | None = None,
    groups: Groups | None = None,
    assets: Mapping[str, str] | None = None,
    since: date | None = None,
    until: date | None = None,
    product: str = "default",
    truth: Truth = "latest",
    scored_masks: Sequence[str] = (),
) -> Leaderboard:
    """The leaderboard of the recipes named; one that failed on every asset has a row that says so.

    Args:
        recipes: their names; None is all that there are.
        metrics: names that `fleet.metrics.parse` reads; `sort_by` is the one that orders the rows.
        average: over assets; micro adds all assets up first.
        by: None, "asset", "lead", or the name of the register column that `groups` holds.
        groups: asset to its group.
        assets: only these; asset to its zone.
        since, until: local days, `until` not included.
        truth: what live forecasts were scored against.
        scored_masks: reasons of masks whose readings count all the same.
    """
    names = list(dict.fromkeys([*metrics, *([sort_by] if sort_by not in metrics else [])]))
    comparing = partial(
        compared,
        snapshot,
        role=role,
        recipes=recipes,
        product=product,
        since=since,
        until=until,
        by_lead=by == "lead",
        assets=assets,
        truth=truth,
        scored_masks=scored_masks,
    )
    plain = [parse(name) for name in names if not parse(name).probabilistic]
    sums = comparing(columns=sorted({"n", "n_cap", *(column for one in plain for column in one.columns())}))
    # Intervals are compared where all recipes have them: those out of past errors begin only after some of these.
    shared = comparing(quantiles=True) if any(parse(name).probabilistic for name in names) else sums
    of = {name: _beside(sums, shared) if parse(name).probabilistic else sums for name in names}
    values = {name: measured(snapshot, of[name], parse(name), product=product) for name in names}
    micro = average == "micro"
    units = snapshot.sql("select distinct unit from assets limit 2").rows()
    libraries = {(row["recipe"], row["recipe_hash"]): row["library"] for row in snapshot.sql(LIBRARIES).rows()}
    label = _labels(sums, by, groups)
    table = []
    spreads: dict[tuple[str, str], Spread] = {}
    places: dict[tuple[str, str], list[int]] = {}
    for place, key in enumerate(zip(sums.recipe, label, strict=True)):
        places.setdefault(key, []).append(place)
    for (recipe, group), mine in places.items():
        row: dict[str, Any] = {
            "recipe": recipe,
            "library": libraries.get((recipe, sums.recipe_hash[mine[0]]), ""),
            **({by: group} if by else {}),
            "assets": len(set(sums.asset[mine])),
            "n": int(sums.columns["n"][mine].sum()),
            "missing": sums.missing.get(recipe, 0),
            "undefined": int(np.isnan(values[sort_by][mine]).sum()),
            "perfect_foresight": bool(sums.foresight[mine].any()),
        }
        spreads[recipe, group] = Spread(
            assets=tuple(sums.asset[mine]), values={name: values[name][mine] for name in names}
        )
        for name in names:
            row[name] = _micro(of[name], mine, name) if micro else _average(values[name][mine], average)
        table.append(row)
    if by is None:
        table += [_absent(recipe, sums, names) for recipe in sums.missing if recipe not in sums.recipe]
    order = sorted(table, key=lambda row: _rank(row, sort_by, by))
    columns = [
        "recipe",
        "library",
        *([by] if by else []),
        "assets",
        "n",
        "missing",
        "undefined",
        "perfect_foresight",
        *names,
    ]
    return Leaderboard(
        columns=tuple(columns),
        table=tuple(order),
        role=role,
        average=average,
        metric=sort_by,
        paired=sums.paired,
        by=by,
        unit=(units[0]["unit"] or "") if len(units) == 1 else "",
        spreads=spreads,
    )


def worst(
    snapshot: Snapshot,
    *,
    recipes: Sequence[str] | None,
    metric: str,
    role: Role,
    champions: Mapping[str, str],
    n: int,
    product: str = "default",
    assets: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """The assets with the highest error, each with the recipe in charge (the best judged one where none is).

    Args:
        champions: asset to the recipe in charge.
        n: rows at most.
        assets: only these; asset to its zone.
    """
    sums = compared(snapshot, role=role, recipes=recipes, product=product, assets=assets, across="asset")
    values = measured(snapshot, sums, parse(metric), product=product)
    chosen: dict[str, dict[str, Any]] = {}
    for asset, recipe, value, points in zip(sums.asset, sums.recipe, values, sums.columns["n"], strict=True):
        if np.isnan(value) or (role == "backtest" and champions.get(asset, recipe) != recipe):
            continue
        held = chosen.get(asset)
        if held is None or _badness(value, metric) < _badness(held[metric], metric):
            chosen[asset] = {"asset_id": asset, "recipe": recipe, "n": int(points), metric: float(value)}
    return sorted(chosen.values(), key=lambda row: (-_badness(row[metric], metric), row["asset_id"]))[:n]


def _beside(sums: Sums, shared: Sums) -> Sums:
    """The sums of the points with quantiles in the rows of all points; NaN where a row has no such point."""
    if shared is sums:
        return sums
    place = {key: row for row, key in enumerate(zip(shared.asset, shared.recipe, shared.lead, strict=True))}
    rows = np.array([place.get(key, -1) for key in zip(sums.asset, sums.recipe, sums.lead, strict=True)], dtype=int)
    columns = {
        name: np.where(rows >= 0, values[rows], np.nan) if len(values) else np.full(len(rows), np.nan)
        for name, values in shared.columns.items()
    }
    return replace(sums, columns=columns, levels=shared.levels)


def _absent(recipe: str, sums: Sums, names: Sequence[str]) -> dict[str, Any]:
    """The row of a recipe that stands for no asset."""
    nothing = {"assets": 0, "n": 0, "missing": sums.missing[recipe], "undefined": 0, "perfect_foresight": False}
    return {"recipe": recipe, "library": "", **nothing, **dict.fromkeys(names)}


def _labels(sums: Sums, by: str | None, groups: Groups | None) -> npt.NDArray[np.object_]:
    if by is None:
        return np.full(len(sums.asset), "", dtype=object)
    if by == "lead":
        return sums.lead
    if by == "asset":
        return sums.asset
    return np.array([(groups or {}).get(asset, "") for asset in sums.asset], dtype=object)


def _average(values: npt.NDArray[np.float64], average: Average) -> float | None:
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None
    return float(np.median(defined) if average == "median" else defined.mean())


def _micro(sums: Sums, mine: list[int], name: str) -> float | None:
    """All assets added up first; a scaled or relative metric has no such form, since its assets differ in unit."""
    metric = parse(name)
    if metric.season or metric.recipe:
        return None
    if metric.probabilistic:
        mine = [row for row in mine if sums.columns["n_q"][row] > 0]
    total = {column: np.array([values[mine].sum()]) for column, values in sums.columns.items()}
    value = float(evaluate(metric, total)[0])
    return None if math.isnan(value) else value


def _rank(row: Mapping[str, Any], sort_by: str, by: str | None) -> tuple[Any, ...]:
    value = row[sort_by]
    group = str(row[by]) if by else ""
    place = LEAD_BUCKETS.index(group) if by == "lead" and group in LEAD_BUCKETS else 0
    return (place, group, value is None, 0.0 if value is None else _badness(value, sort_by), row["recipe"])


def _badness(value: float, metric: str) -> float:
    """Errors are better low, skill high, bias near zero, coverage near what it should be."""
    return float(loss(parse(metric), np.array([value]))[0])
