"""Exponential smoothing with fixed parameters, in floats: the state after a reading, and the forecast from a state.

The single-source-of-error form of Hyndman et al. (2008), which holds Holt-Winters, ETS and the level of Theta. The
library has it too, but only inside a fit over a complete history; here a missing reading is simply no news, and a model
forecasts without importing the library at all. The tests hold it against the library's own filters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fleet.task import FloatArray, IntArray

Kind = Literal["add", "mul"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoothing:
    """What a fit learns and a forecast keeps.

    Args:
        trend: how the trend joins the level; None for no trend.
        seasonal: how the season joins both; None for no season.
        alpha: weight of a surprise in the level.
        beta: weight in the trend, per unit of surprise (the library's Holt-Winters gives ``beta / alpha``).
        gamma: weight in the season; of a multiplicative one after the level, the library's ``gamma / (1 - alpha)``.
        phi: damping of the trend, 1 for none.
        after_level: a multiplicative season learns from the level after the reading, as the library's ETS has it, or
            from the one before, as its Holt-Winters has it.
    """

    trend: Kind | None = None
    seasonal: Kind | None = None
    alpha: float = 0.0
    beta: float = 0.0
    gamma: float = 0.0
    phi: float = 1.0
    after_level: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where a series stands after its last reading.

    Args:
        level: without season.
        trend: change per step: a difference, or a ratio when it is multiplicative.
        season: (season,) terms of the steps that follow, the next one first; empty without a season.
    """

    level: float
    trend: float
    season: tuple[float, ...]


def advanced(state: State, values: Sequence[float], rule: Smoothing) -> State:
    """The state after more readings; NaN is no news.

    Cost: half a microsecond a step.

    >>> advanced(State(level=10.0, trend=0.0, season=()), [12.0, float("nan")], Smoothing(alpha=0.5))
    State(level=11.0, trend=0.0, season=())
    """
    level, trend, season = state.level, state.trend, list(state.season)
    alpha, beta, gamma, phi = rule.alpha, rule.beta, rule.gamma, rule.phi
    ratio, product = rule.trend == "mul", rule.seasonal == "mul"
    phase, period = 0, len(season)
    for value in values:
        step = trend**phi if ratio else phi * trend
        base = level * step if ratio else level + step
        term = season[phase] if period else (1.0 if product else 0.0)
        if math.isfinite(value):
            surprise = value / term - base if product else value - base - term
            trend = step + beta * (surprise / level if ratio else surprise)
            level = base + alpha * surprise
            if period:
                plain = level if rule.after_level else base
                season[phase] = term + gamma * (value / plain - term if product else surprise)
        else:
            trend, level = step, base
        phase = phase + 1 if phase + 1 < period else 0
    return State(level=level, trend=trend, season=tuple(season[phase:] + season[:phase]))


def forecast(state: State, ahead: IntArray, rule: Smoothing) -> FloatArray:
    """The mean so many steps after the last reading.

    >>> rule = Smoothing(trend="add", seasonal="add")
    >>> forecast(State(level=10.0, trend=1.0, season=(5.0, -5.0)), np.array([1, 2]), rule)
    array([16.,  7.])
    """
    damped = np.cumsum(rule.phi ** np.arange(1.0, float(ahead.max()) + 1.0))[ahead - 1]
    mean: FloatArray = np.full(len(ahead), state.level)
    if rule.trend == "mul":
        mean = mean * state.trend**damped
    elif rule.trend == "add":
        mean = mean + state.trend * damped
    return seasoned(mean, state, ahead, rule)


def seasoned(mean: FloatArray, state: State, ahead: IntArray, rule: Smoothing) -> FloatArray:
    """Values without season with the terms of their steps."""
    if rule.seasonal is None or not state.season:
        return mean
    terms: FloatArray = np.array(state.season)[(ahead - 1) % len(state.season)]
    return mean * terms if rule.seasonal == "mul" else mean + terms


def relative_variance(ahead: IntArray, season: int, rule: Smoothing) -> FloatArray:
    """Variance of the forecast error, in units of the one-step variance, when nothing is multiplicative.

    Source: Hyndman et al. (2008), class 1: one plus the squares of what each surprise on the way adds.

    >>> relative_variance(np.array([1, 2]), 1, Smoothing(alpha=0.5))
    array([1.  , 1.25])
    """
    steps = np.arange(1.0, float(ahead.max()))
    weights = rule.alpha + (rule.beta * np.cumsum(rule.phi**steps) if rule.trend else 0.0) * np.ones(len(steps))
    if rule.seasonal:
        weights = weights + rule.gamma * (steps % season == 0)
    total = np.concatenate([[1.0], 1.0 + np.cumsum(weights**2)])
    found: FloatArray = total[ahead - 1]
    return found


def restarted(state: State, shift: int, values: FloatArray, rule: Smoothing) -> State:
    """A state for a history that does not continue the one it was learnt on: its shape, the level of the first season.

    Args:
        state: the state at the end of what was learnt on.
        shift: steps from there to the first value, of any sign.
        values: the other history; its first value is a reading.
        rule: the smoothing.
    """
    period = len(state.season)
    turn = shift % period if period else 0
    season = state.season[turn:] + state.season[:turn]
    first = np.asarray(values[: max(period, 1)], dtype=np.float64)
    terms = np.array(season[: len(first)]) if period else np.full(1, 1.0 if rule.seasonal == "mul" else 0.0)
    plain = first / terms if rule.seasonal == "mul" else first - terms
    level = float(np.median(plain[np.isfinite(plain)]))
    return replace(state, level=level, trend=1.0 if rule.trend == "mul" else 0.0, season=season)
