"""From questions to figures: what `plot` methods do.

A question is asked of one snapshot, its answer handed to `fleet.figures`; what the figure rests on is said below its
title in the same words everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fleet import figures, questions
from fleet.cells import LEAD_BUCKETS
from fleet.comparison import Role
from fleet.config import AssetConfig, FleetConfig
from fleet.errors import ConfigInvalid
from fleet.metrics import Metric, loss, parse
from fleet.questions.moments import length, week_or_steps
from fleet.registry import nearest

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from fleet.leaderboard import Leaderboard
    from store.reading import Snapshot

FloatArray = npt.NDArray[np.float64]

# Metrics in the unit of the data; the others are shares or ratios.
IN_UNITS = ("mae", "rmse", "bias", "pinball", "mean_pinball", "crps", "width", "winkler")
NOT_PAIRED = "<b>not paired</b>: each recipe stands for its own assets"
CONFIGURED = "select asset_id, timezone, freq, unit, to_json(a)::varchar as register from assets a order by asset_id"


def label(metric: str, unit: str) -> str:
    """A metric with the unit it is in."""
    return f"{metric}, {figures.literal(unit)}" if unit and parse(metric).family in IN_UNITS else metric


def leaderboard(board: Leaderboard, metric: str) -> Figure:
    """The metric of every recipe with its spread over assets; along the leads or groups where there are any."""
    title, axis = f"Leaderboard by {metric}", label(metric, board.unit)
    entries = [_entry(board, row, metric) for row in board.table]
    if board.by is None:
        gone = [f"{figures.literal(row['recipe'])} {row['missing']:,}" for row in board.table if row["missing"]]
        notes = [f"assets that a recipe has no judgement on: {', '.join(gone[:6])}"] if gone else []
        return figures.ranking(entries, title=title, label=axis, said=_said(board), notes=notes)
    return figures.along(
        entries,
        _groups(entries, board.by, parse(metric)),
        title=f"{title} and {figures.literal(board.by)}",
        label=axis,
        by=board.by,
        said=_said(board),
        notes=(),
        ordered=board.by == "lead",
    )


def distribution(board: Leaderboard, metric: str) -> Figure:
    """How a metric is spread over the assets, a box and a histogram for each recipe."""
    values: dict[str, list[FloatArray]] = {}
    assets: dict[str, list[str]] = {}
    for (recipe, _), spread in board.spreads.items():
        known = np.isfinite(spread.values[metric])
        values.setdefault(recipe, []).append(spread.values[metric][known])
        assets.setdefault(recipe, []).extend(np.asarray(spread.assets, dtype=object)[known])
    ordered = dict.fromkeys([row["recipe"] for row in board.table if row["recipe"] in values])
    return figures.distribution(
        {recipe: np.concatenate(values[recipe]) for recipe in ordered},
        assets,
        title=f"{metric} over the assets",
        label=label(metric, board.unit),
        said=[_counted(max((len(known) for known in assets.values()), default=0), "asset"), *_said(board)[1:]],
    )


def _entry(board: Leaderboard, row: Mapping[str, object], metric: str) -> figures.Entry:
    recipe, group, value = str(row["recipe"]), str(row[board.by]) if board.by else "", row[metric]
    spread = board.spreads.get((recipe, group))
    values = np.zeros(0) if spread is None else spread.values[metric]
    return figures.Entry(
        recipe=recipe,
        group=group,
        value=value if isinstance(value, float) else math.nan,
        spread=values[np.isfinite(values)],
        assets=int(str(row["assets"])),
        flag="perfect foresight" if row["perfect_foresight"] else "",
    )


def _said(board: Leaderboard) -> list[str]:
    if not board.table:
        return []
    first = [row for row in board.table if row["recipe"] == board.table[0]["recipe"]]
    points = sum(row["n"] for row in first)
    most = max(row["assets"] for row in board.table)
    if board.by not in (None, "lead"):
        most = sum(row["assets"] for row in first)
    over = _counted(most, "asset")
    average = (
        f"all points of {over}" if board.average == "micro" else f"{board.average} over {over}" if most > 1 else over
    )
    return [average, f"{board.role}, {points:,} points", "" if board.paired else NOT_PAIRED]


def _counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def _groups(entries: Sequence[figures.Entry], by: str, metric: Metric) -> list[str]:
    """Leads in their order; other groups with the highest error first."""
    if by == "lead":
        return [bucket for bucket in LEAD_BUCKETS if any(entry.group == bucket for entry in entries)]
    worst: dict[str, float] = {}
    for entry in entries:
        value = -math.inf if math.isnan(entry.value) else float(loss(metric, np.array([entry.value]))[0])
        worst[entry.group] = max(worst.get(entry.group, -math.inf), value)
    return sorted(worst, key=lambda group: (-worst[group], group))


class Plots:
    """The figures of a fleet, or of one asset of it; each call asks the store as it is then.

    Args:
        snapshot: gives the state to ask.
        only: the assets that are meant; None is all.
        product: whose forecasts; None is the first of the fleet.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        config: FleetConfig,
        only: Sequence[str] | None = None,
        product: str | None = None,
    ) -> None:
        self._snapshot, self._config, self._only = snapshot, config, only
        self._product = product or config.product_names[0]

    def of(self, product: str) -> Plots:
        """The same figures of another product."""
        if product not in self._config.product_names:
            raise ConfigInvalid(f"there is no product {product!r}{nearest(product, self._config.product_names)}")
        return Plots(self._snapshot, self._config, self._only, product)

    def __repr__(self) -> str:
        whose = ", ".join(self._only) if self._only is not None else f"fleet {self._config.fleet.name}"
        return f"Plots of {whose}: errors(), calibration(), extremes()"

    def errors(
        self, metric: str | None = None, *, role: Role = "backtest", recipes: Sequence[str] | None = None
    ) -> Figure:
        """A metric by local hour of the day and by lead, one curve for each recipe.

        Args:
            metric: mae, bias, mase_24, ...; None is the one of [promotion], the mae where that compares recipes.
            role: backtest compares recipes on the points that all of them have; live shows what was issued.
            recipes: only these; those of the file by default.
        """
        name = self._metric(metric)
        snapshot = self._snapshot()
        configs = self._configs(snapshot)
        hours, leads = questions.profiles(
            snapshot,
            metric=name,
            role=role,
            recipes=self._recipes(role, recipes),
            assets=self._only,
            zones={config.asset_id: config.timezone for config in configs},
            product=self._product,
        )
        return figures.errors(
            hours,
            leads,
            title=f"{name} by hour and by lead{self._whose()}",
            label=label(name, _unit(configs)),
            said=_rests_on(role, hours.assets, {k: int(np.nansum(v)) for k, v in hours.points.items()}),
        )

    def calibration(self, *, role: Role = "backtest", recipes: Sequence[str] | None = None) -> Figure:
        """Whether the quantiles keep their word: the share of actuals below each of them, against its level."""
        found = questions.reliability(
            self._snapshot(),
            role=role,
            recipes=self._recipes(role, recipes),
            assets=self._only,
            product=self._product,
        )
        return figures.calibration(
            found,
            title=f"Calibration of the quantiles{self._whose()}",
            said=_rests_on(role, found.assets, found.points),
        )

    def extremes(self, metric: str | None = None, *, history: str | None = None) -> Figure:
        """The worst, the median and the best asset, each with the newest backtest of the recipe in charge.

        Args:
            metric: None is the one of [promotion], the mae where that compares recipes.
            history: how much of the evaluation is shown, up to its end; None is a week, or sixty steps where those
                are longer.
        """
        name = self._metric(metric)
        snapshot = self._snapshot()
        ranked = questions.ranked(snapshot, metric=name, product=self._product)
        if self._only is not None:
            ranked = tuple(one for one in ranked if one.asset_id in self._only)
        places = dict.fromkeys([0, (len(ranked) - 1) // 2, len(ranked) - 1] if ranked else [])
        chosen = [ranked[place] for place in places]
        configs = {config.asset_id: config for config in self._configs(snapshot, [one.asset_id for one in chosen])}
        units = _units(snapshot, [one.asset_id for one in chosen])
        words = {1: ["the only one"], 2: ["worst", "best"]}.get(len(chosen), ["worst", "median", "best"])
        scenes = []
        for word, one in zip(words, chosen, strict=False):
            config, unit = configs[one.asset_id], units.get(one.asset_id, "")
            curve = questions.backtested(snapshot, config, recipe=one.recipe, product=self._product)
            if curve is None:
                continue
            stop = int(curve.times[-1]) + 1
            span = week_or_steps(config.freq) if history is None else length(history)
            first = max(stop - span, int(curve.times[0]))
            value = f"{label(name, '')} {figures.number(one.value)}" + (
                f" {figures.literal(unit)}" if unit and parse(name).family in IN_UNITS else ""
            )
            scenes.append(
                figures.Scene(
                    asset_id=one.asset_id,
                    unit=unit,
                    tz=config.timezone,
                    first=first,
                    stop=stop,
                    known=questions.known_between(snapshot, config, first, stop),
                    curve=questions.since(curve, first),
                    value=f"<b>{word}</b>: {figures.literal(one.asset_id)}, {figures.literal(one.recipe)}, {value}",
                )
            )
        return figures.extremes(
            scenes, metric=name, said=[f"of {_counted(len(ranked), 'asset')}", "recipe in charge, as judged"]
        )

    def _metric(self, metric: str | None) -> str:
        asked = metric or self._config.promotion.metric
        return "mae" if metric is None and parse(asked).recipe else parse(asked).name

    def _recipes(self, role: Role, recipes: Sequence[str] | None) -> list[str] | None:
        """The recipes of the file; in life also those that stood in, or were in charge once."""
        if recipes is not None:
            for name in recipes:
                if role == "backtest" and name not in self._config.recipes:
                    raise ConfigInvalid(f"there is no recipe {name!r}{nearest(name, self._config.recipes)}")
            return [*recipes]
        return [*self._config.recipes] if role == "backtest" else None

    def _whose(self) -> str:
        return f": {', '.join(map(figures.literal, self._only))}" if self._only is not None else ""

    def _configs(self, snapshot: Snapshot, assets: Iterable[str] | None = None) -> list[AssetConfig]:
        only = self._only if assets is None else [*assets]
        rows = snapshot.table("assets", assets=only).to_pylist()
        return [self._config.for_asset(row["asset_id"], row) for row in rows]


def _units(snapshot: Snapshot, assets: Sequence[str]) -> dict[str, str]:
    rows = snapshot.table("assets", assets=assets, columns=["asset_id", "unit"]).to_pylist()
    return {row["asset_id"]: row["unit"] or "" for row in rows}


def _unit(configs: Sequence[AssetConfig]) -> str:
    """The unit of all assets; empty where they have several, or none."""
    units = {str(config.static.get("unit") or "") for config in configs}
    return units.pop() if len(units) == 1 else ""


def _rests_on(role: Role, assets: Mapping[str, int], points: Mapping[str, int]) -> list[str]:
    most = max(assets.values(), default=0)
    each = sorted(set(points.values()))
    counted = f"{each[0]:,} points" if len(each) == 1 else f"{each[0]:,} to {each[-1]:,} points" if each else ""
    least = min(assets.values(), default=0)
    over = _counted(most, "asset") if least == most else f"{least:,} to {_counted(most, 'asset')}"
    average = f"mean over {over}" if most > 1 else ""
    pairing = NOT_PAIRED if role == "live" and len(assets) > 1 else ""
    return [average, f"{role}, {counted} a recipe" if len(assets) > 1 else f"{role}, {counted}", pairing]
