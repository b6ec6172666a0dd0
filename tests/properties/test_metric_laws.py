"""Laws that every metric obeys, whatever the numbers: scale, order, shift, perfection, and naive = 1.

Metrics are taken the way the fleet takes them: points into cells, cells added up, sums evaluated.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from fleet import calendar, cells, losses, metrics
from fleet.losses import FloatArray
from fleet.metrics import evaluate, parse

HOUR = 3_600_000_000
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
UNIT = ("mae", "rmse", "bias", "pinball_q10", "mean_pinball", "crps", "width_80", "winkler_50")
UNITLESS = ("wape", "smape", "coverage_80", "coverage_50")
LESS_IS_BETTER = ("mae", "mse", "rmse", "wape", "pinball_q10", "pinball_q75", "mean_pinball", "crps", "winkler_80")

Points = tuple[FloatArray, FloatArray, FloatArray]
values = st.floats(-1e4, 1e4).map(lambda value: round(value, 3))
lengths = st.integers(1, 40)


@st.composite
def forecasts(draw: st.DrawFn) -> Points:
    """Actuals, means and (levels, points) quantiles in order."""
    n = draw(lengths)
    y, mean = (draw(arrays(np.float64, n, elements=values)) for _ in range(2))
    quantiles = np.sort(draw(arrays(np.float64, (len(LEVELS), n), elements=values)), axis=0)
    return y, mean, quantiles


def cells_of(y: FloatArray, mean: FloatArray, quantiles: FloatArray, order: FloatArray | None = None) -> pa.Table:
    n = len(y)
    issue = np.arange(n, dtype=np.int64) // 7 * 5 * HOUR
    valid = issue + np.arange(n) * 3 * HOUR
    text = dict.fromkeys(
        ("asset_id", "product", "recipe", "recipe_hash", "version_id", "role", "truth"), pa.array(["x"] * n)
    )
    rows = pa.table(
        {
            **text,
            "perfect_foresight": pa.array([False] * n),
            "issue_time": pa.array(issue).cast(pa.timestamp("us", "UTC")),
            "valid_time": pa.array(valid).cast(pa.timestamp("us", "UTC")),
            "day": pa.array(calendar.local_day_micros(valid, "UTC")),
            "mean": mean,
            **{metrics.quantile_column(level): row for level, row in zip(LEVELS, quantiles, strict=True)},
            "y": y,
            "capacity": np.full(n, 100.0),
            "actuals_v": np.ones(n, dtype=np.int64),
        }
    )
    return cells.score_cells(rows if order is None else rows.take(order), levels=LEVELS)


def sums_of(table: pa.Table) -> dict[str, FloatArray]:
    columns = (*cells.SUMS, *cells.dynamic_columns(LEVELS))
    return {name: np.array([table[name].to_numpy().astype(float).sum()]) for name in columns}


def judge(y: FloatArray, mean: FloatArray, quantiles: FloatArray) -> Callable[[str], float]:
    """The value of any metric by its name."""
    sums = sums_of(cells_of(y, mean, quantiles))
    return lambda name: float(evaluate(parse(name), sums)[0])


@settings(max_examples=40, deadline=None)
@given(forecasts(), st.sampled_from([0.5, 2.0, 1024.0, 0.001]))
def test_scale(points: Points, factor: float) -> None:
    scaled = tuple(part * factor for part in points)
    found, plain = judge(*scaled), judge(*points)
    for name in UNIT:
        assert_allclose(found(name), factor * plain(name), rtol=1e-9, atol=1e-9, err_msg=name)
    for name in UNITLESS:
        assert_allclose(found(name), plain(name), rtol=1e-9, atol=1e-9, err_msg=name)
    assert_allclose(found("mse"), factor**2 * plain("mse"), rtol=1e-9, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(forecasts())
def test_mirror(points: Points) -> None:
    y, mean, quantiles = points
    found, plain = judge(-y, -mean, -quantiles[::-1]), judge(*points)
    for name in (
        "mae",
        "mse",
        "rmse",
        "wape",
        "smape",
        "crps",
        "mean_pinball",
        "coverage_80",
        "width_80",
        "winkler_80",
    ):
        assert_allclose(found(name), plain(name), rtol=1e-9, atol=1e-9, err_msg=name)
    assert_allclose(found("bias"), -plain("bias"), rtol=1e-9, atol=1e-9)
    assert_allclose(found("pinball_q90"), plain("pinball_q10"), rtol=1e-9, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(forecasts(), st.sampled_from([-64.0, 0.25, 4096.0]))
def test_shift(points: Points, by: float) -> None:
    found, plain = judge(*(part + by for part in points)), judge(*points)
    for name in ("mae", "mse", "rmse", "bias", "crps", "mean_pinball", "width_80", "winkler_80"):
        assert_allclose(found(name), plain(name), rtol=1e-6, atol=1e-6, err_msg=name)


@settings(max_examples=40, deadline=None)
@given(forecasts(), st.randoms(use_true_random=False))
def test_order(points: Points, random: np.random.Generator) -> None:
    order = list(range(len(points[0])))
    random.shuffle(order)
    assert cells_of(*points, order=np.array(order)).equals(cells_of(*points))


@settings(max_examples=40, deadline=None)
@given(forecasts())
def test_a_perfect_forecast_costs_nothing(points: Points) -> None:
    y = points[0]
    found = judge(y, y, np.tile(y, (len(LEVELS), 1)))
    for name in (*LESS_IS_BETTER, "smape", "bias", "nmae_cap", "width_80"):
        assert found(name) == 0 or (name == "wape" and not y.any()), name
    assert found("coverage_80") == 1


@settings(max_examples=40, deadline=None)
@given(forecasts(), st.floats(0.0, 1.0))
def test_nearer_is_no_worse(points: Points, share: float) -> None:
    y, mean, quantiles = points
    nearer, plain = judge(y, y + share * (mean - y), y + share * (quantiles - y)), judge(*points)
    for name in LESS_IS_BETTER:
        better, worse = nearer(name), plain(name)
        assert np.isnan(worse) or better <= worse + 1e-9 * (1 + abs(worse)), name


@settings(max_examples=40, deadline=None)
@given(forecasts())
def test_bounds(points: Points) -> None:
    found, rounding = judge(*points), 1 + 1e-9
    assert 0 <= found("smape") <= 2 * rounding
    assert 0 <= found("coverage_80") <= 1
    assert found("coverage_50") <= found("coverage_80")
    assert abs(found("bias")) <= found("mae") * rounding
    assert found("mae") <= found("rmse") * rounding + 1e-9
    assert found("width_80") <= found("winkler_80") * rounding
    certain = judge(points[0], points[1], np.tile(points[1], (len(LEVELS), 1)))
    assert_allclose(certain("crps"), found("mae"), atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(forecasts())
def test_skill_is_nothing_against_oneself(points: Points) -> None:
    sums = sums_of(cells_of(*points))
    found = evaluate(parse("skill_self"), sums, baseline=sums)[0]
    assert found == 0 or (np.isnan(found) and sums["sum_abs_e"][0] == 0)


@pytest.mark.parametrize("tz", ["UTC", "Europe/Paris", "America/Santiago"])
@settings(max_examples=25, deadline=None)
@given(
    history=arrays(np.float64, 300, elements=st.one_of(values, st.just(np.nan))),
    season=st.sampled_from([1, 24, 48]),
    start=st.sampled_from(["2024-03-28", "2024-10-22", "2024-09-02", "2024-04-02"]),
)
def test_seasonal_naive_on_its_own_history_is_one(tz: str, history: FloatArray, season: int, start: str) -> None:
    times = calendar.grid(pd.Timestamp(start, tz="UTC"), len(history), "1h", tz)
    naive = calendar.lagged(history, times, times, season, "1h", tz)
    both = ~np.isnan(naive) & ~np.isnan(history)
    scale_abs, scale_sq = cells.seasonal_scale(history, times, season, "1h", tz)
    y, forecast = history[both], naive[both]
    if not both.any() or not (y - forecast).any():
        assert np.isnan(losses.mase(y, forecast, np.array(scale_abs)))
        return
    assert_allclose(losses.mase(y, forecast, np.array(scale_abs)), 1.0, rtol=1e-9)
    assert_allclose(losses.rmsse(y, forecast, np.array(scale_sq)), 1.0, rtol=1e-9)
    sums = sums_of(cells_of(y, forecast, np.tile(forecast, (len(LEVELS), 1))))
    assert_allclose(evaluate(parse(f"mase_{season}"), sums, scale_abs=np.array([scale_abs])), 1.0, rtol=1e-9)
    assert_allclose(evaluate(parse(f"rmsse_{season}"), sums, scale_sq=np.array([scale_sq])), 1.0, rtol=1e-9)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 999), min_size=1, max_size=30, unique=True))
def test_weights_of_levels_fill_the_interval(thousandths: list[int]) -> None:
    levels = np.sort(np.array(thousandths)) / 1000
    weights = losses.crps_weights(levels)
    assert (weights > 0).all()
    assert_allclose(weights.sum(), 1.0, rtol=1e-12)
    columns = [metrics.quantile_column(level) for level in levels.tolist()]
    assert [metrics.level_of(column) for column in columns] == levels.tolist()
    assert len(set(columns)) == len(columns)
