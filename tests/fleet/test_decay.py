"""Two windows beside each other and the day of a change, on days written by hand."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pytest

from fleet.questions import Panel
from fleet.review.decay import change_points, comparable, decay, ordered

FloatArray = npt.NDArray[np.float64]
FIRST = date(2024, 5, 1)


def panel(*daily: list[float] | FloatArray) -> Panel:
    """Assets of 24 points a day with these mean absolute errors; NaN is a day without scores."""
    values = np.array([np.asarray(line, dtype=np.float64) for line in daily])
    n = np.where(np.isfinite(values), 24.0, np.nan)
    return Panel(
        metric="mae", role="live", assets=tuple(f"a{k}" for k in range(len(values))),
        days=tuple(FIRST + timedelta(days=k) for k in range(values.shape[1])), values=values,
        sums={"n": n, "sum_abs_e": 24 * values},
    )  # fmt: skip


def level(days: int, height: float, seed: int = 0) -> FloatArray:
    return height + 0.05 * np.random.default_rng(seed).standard_normal(days)


def test_the_windows_lie_one_after_the_other_and_end_with_the_newest_day() -> None:
    found = decay(panel(level(40, 1.0)), recent=7, history=28, effect=0.2)
    assert (found.recent.stop_before, found.recent.days, found.history.days) == (FIRST + timedelta(days=40), 7, 28)
    assert found.history.stop_before == found.recent.start
    assert len(found.days) == 35


def test_a_window_is_the_metric_of_all_its_points_and_no_mean_of_days() -> None:
    values = np.array([[*level(28, 1.0), 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 8.0]])
    seen = panel(values[0])
    seen.sums["n"][0, -1], seen.sums["sum_abs_e"][0, -1] = 8 * 24.0, 8 * 24 * 8.0
    found = decay(seen, recent=7, history=28, effect=0.2)
    assert found.now[0] == pytest.approx((6 * 24 * 1.0 + 8 * 24 * 8.0) / (6 * 24 + 8 * 24))


def test_a_verdict_needs_the_effect_and_more_than_the_noise_of_the_days() -> None:
    random = np.random.default_rng(3)
    noisy = 1 + 0.9 * random.random(35) + np.where(np.arange(35) >= 28, 0.35, 0.0)
    found = decay(
        panel(
            [*level(28, 1.0), *level(7, 1.5)],
            [*level(28, 1.0), *level(7, 0.5)],
            [*level(28, 1.0), *level(7, 1.1)],
            noisy,
            [*level(28, 1.0), *[np.nan] * 6, 9.0],
            [*[np.nan] * 28, *level(7, 9.0)],
        ),
        recent=7, history=28, effect=0.2,
    )  # fmt: skip
    assert found.verdicts.tolist() == ["worse", "better", "steady", "steady", "unknown", "unknown"]
    assert found.counts == {"worse": 1, "better": 1, "steady": 2, "unknown": 2}
    assert found.change[0] == pytest.approx(0.5, abs=0.1)


def test_the_day_of_a_change_is_found_wherever_in_the_windows_it_lies() -> None:
    for at in (20, 25, 30):
        found = decay(panel([*level(at, 1.0), *level(35 - at, 2.0, seed=1)]), recent=7, history=28, effect=0.2)
        assert found.since == (FIRST + timedelta(days=at),)


def test_the_day_of_a_change_is_that_of_the_best_of_all_partings() -> None:
    """An oracle that tries every day by itself."""
    random = np.random.default_rng(5)
    daily = random.normal(1.0, 0.3, (200, 35)) + np.where(np.arange(35) >= random.integers(5, 30, (200, 1)), 1.2, 0.0)
    daily[random.random(daily.shape) < 0.1] = np.nan

    def best(line: FloatArray) -> int:
        scores = {}
        for place in range(1, len(line)):
            low, high = (part[np.isfinite(part)] for part in (line[:place], line[place:]))
            if len(low) >= 3 and len(high) >= 3 and np.isfinite(line[place]):
                rest = ((low - low.mean()) ** 2).sum() + ((high - high.mean()) ** 2).sum()
                error = np.sqrt(rest / (len(low) + len(high) - 2) * (1 / len(low) + 1 / len(high)))
                scores[place] = abs(high.mean() - low.mean()) / error
        place = max(scores, key=scores.__getitem__)
        return place if scores[place] >= 4.5 else -1

    found = change_points(daily)
    assert found.tolist() == [best(line) for line in daily]
    assert (found >= 0).sum() > 100


def test_noise_alone_has_no_day_of_change() -> None:
    daily = np.random.default_rng(11).normal(1.0, 0.3, (2_000, 35))
    assert (change_points(daily) >= 0).mean() < 0.01


def test_a_day_of_change_does_not_depend_on_the_unit() -> None:
    daily = np.random.default_rng(2).normal(1.0, 0.2, (50, 35)) + np.where(np.arange(35) >= 20, 1.0, 0.0)
    assert np.array_equal(change_points(daily), change_points(1_000 * daily))


def test_the_end_of_the_recent_window_can_be_chosen() -> None:
    daily = [*level(28, 1.0), *level(7, 2.0), *level(7, 1.0)]
    assert decay(panel(daily), recent=7, history=28, effect=0.2).verdicts[0] != "worse"
    before = decay(panel(daily), recent=7, history=28, effect=0.2, until=FIRST + timedelta(days=34))
    assert (before.verdicts[0], before.since[0]) == ("worse", FIRST + timedelta(days=28))


def test_windows_that_lie_outside_of_what_was_scored_are_unknown() -> None:
    assert decay(panel(level(5, 1.0)), recent=7, history=28, effect=0.2).verdicts.tolist() == ["unknown"]
    far = decay(panel(level(40, 1.0)), recent=7, history=28, effect=0.2, until=date(2020, 1, 1))
    assert far.verdicts.tolist() == ["unknown"]
    nobody = panel(np.zeros(0))
    empty = Panel(metric="mae", role="live", assets=(), days=(), values=np.zeros((0, 0)), sums={"n": np.zeros((0, 0))})
    assert decay(empty, recent=7, history=28, effect=0.2).counts["unknown"] == 0
    assert nobody.days == ()


def test_the_worst_come_first_and_the_unknown_last() -> None:
    found = decay(
        panel(
            [*level(28, 1.0), *level(7, 1.5)], [*level(28, 1.0), *[np.nan] * 7], [*level(28, 1.0), *level(7, 3.0)]
        ),
        recent=7, history=28, effect=0.2,
    )  # fmt: skip
    everybody = np.ones(3, dtype=bool)
    assert ordered(found, "-change", everybody).tolist() == [2, 0, 1]
    assert ordered(found, "change", everybody).tolist() == [0, 2, 1]
    assert ordered(found, "asset_id", found.verdicts == "worse").tolist() == [0, 2]


def test_what_has_a_sign_or_a_promise_is_compared_by_its_error() -> None:
    assert [comparable(name) for name in ("mae", "rmse", "bias", "coverage_80", "mean_pinball")] == [
        "mae", "rmse", "mae", "mae", "mean_pinball",
    ]  # fmt: skip
