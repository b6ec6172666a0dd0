"""Metrics by name, and their values from the sums that the ``scores`` table keeps.

The definitions stand in `fleet.losses`; here are their names, and how summed cells give (to rounding) the same value as
the points themselves. Undefined (no points, a zero denominator, no such quantile) is NaN, never 0 and no exception.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fleet.errors import MetricUnknown
from fleet.losses import FloatArray, Weights, crps_weights, equal_weights, over_levels, ratio

Family = Literal[
    "mae", "mse", "rmse", "bias", "wape", "smape", "mase", "rmsse", "skill", "nmae_cap",
    "pinball", "mean_pinball", "crps", "coverage", "width", "winkler",
]  # fmt: skip

_PLAIN: tuple[Family, ...] = (
    "mae", "mse", "rmse", "bias", "wape", "smape", "nmae_cap", "mean_pinball", "crps",
)  # fmt: skip
_WITH_TAIL: dict[Family, str] = {
    "mase": "mase_24", "rmsse": "rmsse_168", "skill": "skill_daily_naive", "pinball": "pinball_q10",
    "coverage": "coverage_80", "width": "width_80", "winkler": "winkler_80",
}  # fmt: skip

EXAMPLES: tuple[str, ...] = (*_PLAIN, *_WITH_TAIL.values())
"""A name of each metric, for help texts."""


def quantile_column(level: float) -> str:
    """The column of a quantile: ``q`` and the decimals of its level, at least two.

    >>> [quantile_column(level) for level in (0.1, 0.5, 0.025, 0.95, 0.05)]
    ['q10', 'q50', 'q025', 'q95', 'q05']
    """
    return "q" + _decimals(level)


def level_of(column: str) -> float:
    """The level of a quantile column; the inverse of `quantile_column`.

    >>> level_of("q025")
    0.025
    """
    if column[:1] != "q":
        raise MetricUnknown(f"{column!r} names no quantile", hint='such as "q10" for 0.1')
    return _level(column[1:], column)


def interval_suffix(share: float) -> str:
    """How columns and metrics of the central interval end: the decimals of the share it is to hold.

    >>> interval_suffix(0.8), interval_suffix(0.995)
    ('80', '995')
    """
    return _decimals(share)


def intervals_of(levels: tuple[float, ...]) -> dict[float, tuple[float, float]]:
    """The central intervals that symmetric pairs of levels make: share -> (lower, upper), the narrowest first.

    >>> intervals_of((0.1, 0.25, 0.5, 0.75, 0.9))
    {0.5: (0.25, 0.75), 0.8: (0.1, 0.9)}
    """
    upper = {round(level, 10): level for level in levels}
    return {
        round(1 - 2 * level, 10): (level, upper[round(1 - level, 10)])
        for level in sorted(levels, reverse=True)
        if level < 0.5 and round(1 - level, 10) in upper
    }


def _decimals(level: float) -> str:
    if not 1e-10 <= level <= 1 - 1e-10:
        raise MetricUnknown(f"a level lies between 0 and 1, got {level}", hint="0.1 is the lower decile")
    return f"{level:.10f}".split(".")[1].rstrip("0").ljust(2, "0")


def _level(decimals: str, name: str) -> float:
    level = float(f"0.{decimals}") if decimals.isascii() and decimals.isdigit() else 0.0
    if not level:
        raise MetricUnknown(
            f"{name!r} names no level", hint='write its decimals, at least two: 0.1 is "10", 0.025 "025"'
        )
    if _decimals(level) != decimals:
        raise MetricUnknown(f"{name!r} is not how {level} is written", hint=f"its decimals are {_decimals(level)!r}")
    return level


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric with its parameter, as a name says it.

    Args:
        family: which definition.
        season: of mase and rmsse, in steps.
        level: of pinball the quantile's level, of coverage, width and winkler the share of the interval.
        recipe: the baseline of skill.
    """

    family: Family
    season: int = 0
    level: float = 0.0
    recipe: str = ""

    @property
    def name(self) -> str:
        """The name that `parse` reads."""
        match self.family:
            case "mase" | "rmsse":
                return f"{self.family}_{self.season}"
            case "skill":
                return f"skill_{self.recipe}"
            case "pinball":
                return f"pinball_{quantile_column(self.level)}"
            case "coverage" | "width" | "winkler":
                return f"{self.family}_{interval_suffix(self.level)}"
            case _:
                return self.family

    @property
    def probabilistic(self) -> bool:
        """Whether it judges quantiles, not the mean."""
        return self.family in ("pinball", "mean_pinball", "crps", "coverage", "width", "winkler")

    @property
    def parts(self) -> tuple[str, str]:
        """The two columns of ``scores`` whose sums divide; mean_pinball and crps have one for each level instead."""
        total, count = _PARTS[self.family]
        return (total + self.name.rpartition("_")[2], count) if total.endswith("_") else (total, count)

    def columns(self, levels: tuple[float, ...] = ()) -> tuple[str, ...]:
        """The columns of ``scores`` that `evaluate` needs the sums of.

        Args:
            levels: the quantile levels that the store holds; only mean_pinball and crps ask.
        """
        if self.family in ("mean_pinball", "crps"):
            return "n", "n_q", *(f"pinball_sum_{quantile_column(level)}" for level in sorted(levels))
        total, count = self.parts
        return (*(("n",) if count == "n_q" else ()), count, total)


# total, count; a total that ends with _ takes the tail of the metric's name
_PARTS: dict[Family, tuple[str, str]] = {
    "mae": ("sum_abs_e", "n"),
    "mse": ("sum_sq_e", "n"),
    "rmse": ("sum_sq_e", "n"),
    "bias": ("sum_e", "n"),
    "wape": ("sum_abs_e", "sum_abs_y"),
    "smape": ("sum_smape", "n"),
    "mase": ("sum_abs_e", "n"),
    "rmsse": ("sum_sq_e", "n"),
    "skill": ("sum_abs_e", "n"),
    "nmae_cap": ("sum_nmae_cap", "n_cap"),
    "pinball": ("pinball_sum_", "n_q"),
    "coverage": ("covered_", "n_q"),
    "width": ("width_sum_", "n_q"),
    "winkler": ("winkler_sum_", "n_q"),
}


def parse(name: str) -> Metric:
    """The metric of a name; MetricUnknown with the nearest name when there is none.

    >>> parse("mase_24").season, parse("pinball_q10").level, parse("coverage_80").level, parse("skill_weekly").recipe
    (24, 0.1, 0.8, 'weekly')
    """
    for plain in _PLAIN:
        if name == plain:
            return Metric(plain)
    for family, example in _WITH_TAIL.items():
        if name == family or name.startswith(f"{family}_"):
            return _with_tail(family, name[len(family) + 1 :], example)
    near = difflib.get_close_matches(name, EXAMPLES, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise MetricUnknown(f"no metric is named {name!r}", hint=f"{hint}there are {', '.join(EXAMPLES)}")


def _with_tail(family: Family, tail: str, example: str) -> Metric:
    if not tail:
        raise MetricUnknown(f"{family!r} alone says too little", hint=f"write, for example, {example!r}")
    match family:
        case "mase" | "rmsse":
            if not re.fullmatch("[1-9][0-9]*", tail):
                raise MetricUnknown(f"the season of {family}_{tail} is no number of steps", hint=f"such as {example!r}")
            return Metric(family, season=int(tail))
        case "skill":
            return Metric(family, recipe=tail)
        case "pinball":
            return Metric(family, level=level_of(tail))
        case _:
            return Metric(family, level=_level(tail, f"{family}_{tail}"))


def loss(metric: Metric, values: FloatArray) -> FloatArray:
    """The values turned so that smaller is better: a bias by its size, coverage by its distance from what it should be.

    >>> loss(parse("coverage_80"), np.array([0.7, 0.8])).round(2), loss(parse("skill_naive"), np.array([0.2]))
    (array([0.1, 0. ]), array([-0.2]))
    """
    match metric.family:
        case "bias":
            return np.abs(values)
        case "coverage":
            return np.abs(values - metric.level)
        case "skill":
            return -values
        case _:
            return values


def evaluate(
    metric: Metric,
    sums: Mapping[str, FloatArray],
    *,
    scale_abs: FloatArray | None = None,
    scale_sq: FloatArray | None = None,
    baseline: Mapping[str, FloatArray] | None = None,
) -> FloatArray:
    """The metric of each group of cells, from the sums of their columns of ``scores``.

    Args:
        metric: from `parse`.
        sums: column -> (groups,) sum over the cells of each group; `Metric.columns` tells which are needed. A
            column that is absent, or NaN, makes the metric NaN. mean_pinball and crps take the levels that a group has.
        scale_abs: (groups,) mean absolute seasonal step, for mase.
        scale_sq: (groups,) mean squared seasonal step, for rmsse.
        baseline: the sums of the baseline on the same points, for skill; where ``n`` differs the result is NaN.

    Returns:
        (groups,) float64, NaN where the metric is undefined.

    >>> evaluate(parse("mae"), {"n": np.array([2, 0]), "sum_abs_e": np.array([3.0, 0.0])})
    array([1.5, nan])
    """
    match metric.family:
        case "rmse":
            return np.sqrt(_per_point(metric, sums))
        case "mase":
            return ratio(_per_point(metric, sums), _given(scale_abs, sums))
        case "rmsse":
            return ratio(np.sqrt(_per_point(metric, sums)), np.sqrt(_given(scale_sq, sums)))
        case "skill":
            return _skill(metric, sums, baseline or {})
        case "mean_pinball":
            return _from_levels(sums, equal_weights)
        case "crps":
            return 2.0 * _from_levels(sums, crps_weights)
        case _:
            return _per_point(metric, sums)


def _column(sums: Mapping[str, FloatArray], name: str) -> FloatArray:
    if name == "n_q":
        # Where it is not told, all points have quantiles.
        told, n = _given(sums.get(name), sums), _column(sums, "n")
        return np.where(np.isnan(told), n, told)
    return _given(sums.get(name), sums)


def _given(values: FloatArray | None, sums: Mapping[str, FloatArray]) -> FloatArray:
    if values is None:
        return np.full(np.shape(next(iter(sums.values()), np.nan)), np.nan)
    return np.asarray(values, dtype=np.float64)


def _per_point(metric: Metric, sums: Mapping[str, FloatArray]) -> FloatArray:
    total, count = metric.parts
    return ratio(_column(sums, total), _column(sums, count))


def _skill(metric: Metric, sums: Mapping[str, FloatArray], baseline: Mapping[str, FloatArray]) -> FloatArray:
    same = _column(sums, "n") == _column(baseline, "n")
    share = ratio(_per_point(metric, sums), _per_point(metric, baseline))
    return np.where(same, 1.0 - share, np.nan)


def _from_levels(sums: Mapping[str, FloatArray], weights: Weights) -> FloatArray:
    n = _column(sums, "n_q")
    found = [name for name in sums if name.startswith("pinball_sum_q")]
    if not found:
        return np.full(n.shape, np.nan)
    means = {level_of(name.removeprefix("pinball_sum_")): ratio(_column(sums, name), n) for name in found}
    return over_levels(means, weights)
