"""Every metric beside scikit-learn or a short loop, on arrays and from sums; names; undefined cases."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import sklearn.metrics as reference
from numpy.testing import assert_allclose

from fleet import losses, metrics
from fleet.errors import MetricUnknown
from fleet.losses import FloatArray
from fleet.metrics import evaluate, parse

CLOSE = {"rtol": 1e-9, "atol": 1e-9}
LEVELS = (0.025, 0.1, 0.5, 0.9, 0.975)


@pytest.fixture(params=range(5))
def points(request: pytest.FixtureRequest) -> tuple[FloatArray, FloatArray, dict[float, FloatArray]]:
    """Actuals, forecasts and quantiles of 4 assets x 97 points, some of them both 0."""
    rng = np.random.default_rng(request.param)
    actual, forecast = rng.normal(5, 40, (4, 97)), rng.normal(5, 40, (4, 97))
    actual[:, ::7] = 0.0
    forecast[:, ::14] = 0.0
    quantiles = np.sort(rng.normal(5, 40, (len(LEVELS), 4, 97)), axis=0)
    return actual, forecast, dict(zip(LEVELS, quantiles, strict=True))


def sums_of(actual: FloatArray, forecast: FloatArray, quantiles: dict[float, FloatArray]) -> dict[str, FloatArray]:
    """What the cells of each asset add up to, point by point."""
    rows = []
    for asset in range(len(actual)):
        total = dict.fromkeys(
            ["n", "sum_e", "sum_abs_e", "sum_sq_e", "sum_abs_y", "sum_smape", "sum_nmae_cap", "n_cap"], 0.0
        )
        for place, (y, f) in enumerate(zip(actual[asset], forecast[asset], strict=True)):
            total["n"] += 1
            total["sum_e"] += f - y
            total["sum_abs_e"] += abs(f - y)
            total["sum_sq_e"] += (f - y) ** 2
            total["sum_abs_y"] += abs(y)
            total["sum_smape"] += 2 * abs(f - y) / (abs(y) + abs(f)) if y or f else 0
            total["n_cap"] += 1
            total["sum_nmae_cap"] += abs(f - y) / 200
            for level, quantile in quantiles.items():
                q = quantile[asset, place]
                key = f"pinball_sum_{metrics.quantile_column(level)}"
                total[key] = total.get(key, 0.0) + (level * (y - q) if y > q else (1 - level) * (q - y))
            low, high = quantiles[0.1][asset, place], quantiles[0.9][asset, place]
            total["covered_80"] = total.get("covered_80", 0.0) + (low <= y <= high)
            total["width_sum_80"] = total.get("width_sum_80", 0.0) + high - low
            outside = low - y if y < low else y - high if y > high else 0.0
            total["winkler_sum_80"] = total.get("winkler_sum_80", 0.0) + high - low + 2 / 0.2 * outside
        rows.append(total)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def each(metric: Callable[..., float], *arrays: FloatArray) -> list[float]:
    return [float(metric(*rows)) for rows in zip(*arrays, strict=True)]


Points = tuple[FloatArray, FloatArray, dict[float, FloatArray]]


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("mae", losses.mae, reference.mean_absolute_error),
        ("mse", losses.mse, reference.mean_squared_error),
        ("rmse", losses.rmse, reference.root_mean_squared_error),
        ("bias", losses.bias, lambda y, f: sum(f - y) / len(y)),
        ("wape", losses.wape, lambda y, f: sum(abs(f - y)) / sum(abs(y))),
        (
            "smape",
            losses.smape,
            lambda y, f: (
                sum(2 * abs(b - a) / (abs(a) + abs(b)) if a or b else 0 for a, b in zip(y, f, strict=True)) / len(y)
            ),
        ),
    ],
)
def test_point_metrics(
    points: Points, name: str, ours: Callable[..., FloatArray], theirs: Callable[..., float]
) -> None:
    actual, forecast, quantiles = points
    expected = each(theirs, actual, forecast)
    assert_allclose(ours(actual, forecast), expected, **CLOSE)
    assert_allclose(evaluate(parse(name), sums_of(actual, forecast, quantiles)), expected, **CLOSE)


def test_scaled_metrics(points: Points) -> None:
    actual, forecast, quantiles = points
    sums = sums_of(actual, forecast, quantiles)
    scale = np.array([1.0, 2.0, 0.5, 10.0])
    mae = np.array(each(reference.mean_absolute_error, actual, forecast))
    rmse = np.array(each(reference.root_mean_squared_error, actual, forecast))
    assert_allclose(losses.mase(actual, forecast, scale), mae / scale, **CLOSE)
    assert_allclose(evaluate(parse("mase_24"), sums, scale_abs=scale), mae / scale, **CLOSE)
    assert_allclose(losses.rmsse(actual, forecast, scale), rmse / scale**0.5, **CLOSE)
    assert_allclose(evaluate(parse("rmsse_168"), sums, scale_sq=scale), rmse / scale**0.5, **CLOSE)
    assert_allclose(losses.nmae_cap(actual, forecast, np.full(actual.shape, 200.0)), mae / 200, **CLOSE)
    assert_allclose(evaluate(parse("nmae_cap"), sums), mae / 200, **CLOSE)


def test_skill_against_a_baseline(points: Points) -> None:
    actual, forecast, quantiles = points
    zero = np.zeros(actual.shape)
    expected = 1 - np.array(each(reference.mean_absolute_error, actual, forecast)) / abs(actual).mean(axis=1)
    assert_allclose(losses.skill(actual, forecast, zero), expected, **CLOSE)
    found = evaluate(
        parse("skill_zero"), sums_of(actual, forecast, quantiles), baseline=sums_of(actual, zero, quantiles)
    )
    assert_allclose(found, expected, **CLOSE)


@pytest.mark.parametrize("level", LEVELS)
def test_pinball(points: Points, level: float) -> None:
    actual, forecast, quantiles = points
    expected = [reference.mean_pinball_loss(y, q, alpha=level) for y, q in zip(actual, quantiles[level], strict=True)]
    assert_allclose(losses.pinball(actual, quantiles[level], level), expected, **CLOSE)
    name = f"pinball_{metrics.quantile_column(level)}"
    assert_allclose(evaluate(parse(name), sums_of(actual, forecast, quantiles)), expected, **CLOSE)


def test_mean_pinball_and_crps(points: Points) -> None:
    actual, forecast, quantiles = points
    sums = sums_of(actual, forecast, quantiles)
    each_level = np.array([losses.pinball(actual, quantiles[level], level) for level in LEVELS])
    assert_allclose(losses.mean_pinball(actual, quantiles), each_level.mean(axis=0), **CLOSE)
    assert_allclose(evaluate(parse("mean_pinball"), sums), each_level.mean(axis=0), **CLOSE)
    crps = np.zeros(4)
    for place, level in enumerate(LEVELS):
        below = 0.0 if place == 0 else (LEVELS[place - 1] + level) / 2
        above = 1.0 if place == len(LEVELS) - 1 else (LEVELS[place + 1] + level) / 2
        crps += 2 * (above - below) * each_level[place]
    assert_allclose(losses.crps(actual, quantiles), crps, **CLOSE)
    assert_allclose(evaluate(parse("crps"), sums), crps, **CLOSE)


def test_crps_nears_that_of_the_distribution() -> None:
    # Gneiting & Raftery (2007): of N(0, 1) at y it is y (2 Phi(y) - 1) + 2 phi(y) - 1 / sqrt(pi)
    from scipy.stats import norm

    actual = np.linspace(-2, 2, 9)
    levels = (np.arange(1000) + 0.5) / 1000
    quantiles = {float(level): np.full(9, norm.ppf(level)) for level in levels}
    exact = actual * (2 * norm.cdf(actual) - 1) + 2 * norm.pdf(actual) - 1 / math.sqrt(math.pi)
    assert_allclose(losses.crps(actual, quantiles), exact.mean(), atol=2e-4)


def test_intervals(points: Points) -> None:
    actual, forecast, quantiles = points
    sums = sums_of(actual, forecast, quantiles)
    low, high = quantiles[0.1], quantiles[0.9]
    n = actual.shape[1]
    for name, values in {
        "coverage_80": losses.coverage(actual, low, high),
        "width_80": losses.width(actual, low, high),
        "winkler_80": losses.winkler(actual, low, high, 0.8),
    }.items():
        kind = {"coverage": "covered", "width": "width_sum", "winkler": "winkler_sum"}[name[:-3]]
        assert_allclose(values, sums[f"{kind}_80"] / n, **CLOSE)
        assert_allclose(evaluate(parse(name), sums), values, **CLOSE)


def test_winkler_is_the_pinball_of_its_ends(points: Points) -> None:
    actual, _, quantiles = points
    ends = losses.pinball(actual, quantiles[0.1], 0.1) + losses.pinball(actual, quantiles[0.9], 0.9)
    assert_allclose(losses.winkler(actual, quantiles[0.1], quantiles[0.9], 0.8), ends * 2 / 0.2, **CLOSE)


# what is missing


def test_points_without_an_actual_are_left_out(points: Points) -> None:
    actual, forecast, quantiles = points
    gone = actual.copy()
    gone[:, 50:] = np.nan
    for metric in (losses.mae, losses.mse, losses.rmse, losses.bias, losses.wape, losses.smape):
        assert_allclose(metric(gone, forecast), metric(actual[:, :50], forecast[:, :50]), **CLOSE)
    half = {level: quantile[:, :50] for level, quantile in quantiles.items()}
    assert_allclose(losses.crps(gone, quantiles), losses.crps(actual[:, :50], half), **CLOSE)
    low, high = quantiles[0.1], quantiles[0.9]
    assert_allclose(
        losses.coverage(gone, low, high), losses.coverage(actual[:, :50], low[:, :50], high[:, :50]), **CLOSE
    )


def test_a_missing_forecast_is_never_left_out() -> None:
    actual, forecast = np.array([[1.0, 2.0]]), np.array([[1.0, np.nan]])
    for metric in (losses.mae, losses.mse, losses.rmse, losses.bias, losses.wape, losses.smape):
        assert np.isnan(metric(actual, forecast)).all()
    for lower, upper in ((forecast, actual), (actual, forecast)):
        assert np.isnan(losses.coverage(actual, lower, upper)).all()


@pytest.mark.parametrize("name", metrics.EXAMPLES)
def test_no_points_are_undefined_without_a_warning(name: str) -> None:
    sums = {column: np.zeros(2) for column in parse(name).columns(LEVELS)}
    found = evaluate(parse(name), sums, scale_abs=np.ones(2), scale_sq=np.ones(2), baseline=sums)
    assert found.shape == (2,)
    assert np.isnan(found).all()


@pytest.mark.parametrize("name", metrics.EXAMPLES)
def test_columns_that_are_absent_or_null_are_undefined(name: str) -> None:
    for sums in ({"n": np.ones(2)}, {c: np.array([None, None], dtype=object) for c in parse(name).columns(LEVELS)}):
        assert np.isnan(evaluate(parse(name), sums)).tolist() == [True, True]


@pytest.mark.parametrize("name", metrics.EXAMPLES)
def test_no_groups_give_no_values(name: str) -> None:
    assert evaluate(parse(name), {column: np.zeros(0) for column in parse(name).columns(LEVELS)}).shape == (0,)


def test_zero_denominators() -> None:
    sums = {
        "n": np.array([2.0]),
        "sum_abs_e": np.array([1.0]),
        "sum_abs_y": np.array([0.0]),
        "sum_sq_e": np.array([1.0]),
    }
    sums |= {"sum_nmae_cap": np.array([0.0]), "n_cap": np.array([0.0])}
    perfect = {"n": np.array([2.0]), "sum_abs_e": np.array([0.0])}
    zero = np.array([0.0])
    assert np.isnan(evaluate(parse("wape"), sums))
    assert np.isnan(evaluate(parse("mase_24"), sums, scale_abs=zero))
    assert np.isnan(evaluate(parse("mase_24"), sums, scale_abs=np.array([np.nan])))
    assert np.isnan(evaluate(parse("rmsse_24"), sums, scale_sq=zero))
    assert np.isnan(evaluate(parse("nmae_cap"), sums))
    assert np.isnan(evaluate(parse("skill_perfect"), sums, baseline=perfect))


def test_skill_needs_the_same_points() -> None:
    sums, other = ({"n": np.array([n, 2.0]), "sum_abs_e": np.array([1.0, 1.0])} for n in (2.0, 3.0))
    found = evaluate(parse("skill_naive"), sums, baseline=other)
    assert np.isnan(found[0])
    assert found[1] == 0


def test_quantile_metrics_take_the_levels_that_a_group_has() -> None:
    sums = {
        "n": np.array([10, 10, 10]),
        "pinball_sum_q10": np.array([1.0, np.nan, np.nan]),
        "pinball_sum_q50": np.array([2.0, 2.0, np.nan]),
        "pinball_sum_q90": np.array([3.0, np.nan, np.nan]),
    }
    assert_allclose(evaluate(parse("mean_pinball"), sums), [0.2, 0.2, np.nan])
    assert_allclose(evaluate(parse("crps"), sums), [2 * (0.3 * 0.1 + 0.4 * 0.2 + 0.3 * 0.3), 0.4, np.nan])
    assert np.isnan(evaluate(parse("crps"), {"n": np.array([1.0])})).all()


# names


@pytest.mark.parametrize("name", [*metrics.EXAMPLES, "skill_my recipe_2", "pinball_q025", "coverage_995", "mase_1"])
def test_a_name_reads_back(name: str) -> None:
    assert parse(name).name == name
    assert hash(parse(name)) == hash(parse(name))


@pytest.mark.parametrize(("name", "near"), [
    ("mea", "mae"), ("mase", "mase_24"), ("MAE", "mae"), ("mase_", "mase_24"), ("mase_x", "mase_24"),
    ("mase_0", "mase_24"), ("pinball_10", "q10"), ("pinball_q100", "10"), ("pinball_q1", "10"), ("coverage_8", "80"),
    ("coverage_x", "10"),
    ("skill", "skill_daily_naive"), ("smap", "smape"), ("", "mae"), ("r2", "mae"), ("crsp", "crps"),
    ("mase_024", "mase_24"),
])  # fmt: skip
def test_a_wrong_name_is_refused_with_the_right_one(name: str, near: str) -> None:
    with pytest.raises(MetricUnknown) as refused:
        parse(name)
    assert near in refused.value.hint


@pytest.mark.parametrize(
    ("level", "column"),
    [(0.1, "q10"), (0.5, "q50"), (0.025, "q025"), (0.95, "q95"), (0.05, "q05"), (0.01, "q01"), (0.001, "q001"),
     (0.3 - 0.1 - 0.1, "q10"), (1 / 3, "q3333333333"), (0.999, "q999")],
)  # fmt: skip
def test_quantile_columns(level: float, column: str) -> None:
    assert metrics.quantile_column(level) == column
    assert metrics.level_of(column) == pytest.approx(level, abs=1e-10)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, 1.1, float("nan"), 1e-13])
def test_a_level_outside_is_refused(level: float) -> None:
    with pytest.raises(MetricUnknown):
        metrics.quantile_column(level)


@pytest.mark.parametrize("column", ["", "q", "q1", "q100", "mean", "q1e", "q-1", "q00", "Q10", "q١٠"])
def test_a_column_that_is_no_quantile_is_refused(column: str) -> None:
    with pytest.raises(MetricUnknown):
        metrics.level_of(column)


def test_intervals_are_symmetric_pairs() -> None:
    assert metrics.intervals_of((0.025, 0.05, 0.1, 0.5, 0.9, 0.975)) == {0.8: (0.1, 0.9), 0.95: (0.025, 0.975)}
    assert metrics.intervals_of((0.1, 0.5)) == {}
    assert metrics.intervals_of((0.3, 0.7)) == {0.4: (0.3, 0.7)}


def test_loss_is_smaller_when_better() -> None:
    assert metrics.loss(parse("bias"), np.array([-3.0]))[0] == 3.0
    assert metrics.loss(parse("mae"), np.array([2.0]))[0] == 2.0
    assert metrics.loss(parse("skill_x"), np.array([0.5]))[0] == -0.5
    assert_allclose(metrics.loss(parse("coverage_80"), np.array([0.9, 0.7])), [0.1, 0.1])
    assert parse("coverage_80").probabilistic
    assert not parse("mae").probabilistic
