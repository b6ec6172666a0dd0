from __future__ import annotations

import numpy as np
import pytest

from fleet import checks
from fleet.frames import History, Rows
from fleet.intervals import ENOUGH, LEAST_ISSUES, Past, around, margins, needed
from fleet.judging import with_intervals

HOUR = 3_600_000_000
LEVELS = (0.1, 0.5, 0.9)


def by_hand(errors: np.ndarray, step: int, level: float, width: int) -> float:
    """The margin of a step, counted out of a sorted list."""
    first = min(max(step - width // 2, 0), errors.shape[1] - width)
    ordered = sorted(e for e in errors[:, first : first + width].ravel() if np.isfinite(e))
    n = len(ordered)
    if level == 0.5:
        return (ordered[(n + 1) // 2 - 1] + ordered[(n + 2) // 2 - 1]) / 2
    # The k-th smallest of n is at or above a further one in k of n + 1 cases, the k-th largest at or below it.
    below = 1 - level if level < 0.5 else level
    k = next(k for k in range(1, n + 1) if k * 1000 >= round(below * 1000) * (n + 1))
    return ordered[k - 1] if level > 0.5 else ordered[n - k]


def test_a_step_with_enough_errors_has_margins_of_its_own() -> None:
    errors = np.random.default_rng(0).gamma(1.0, [1.0, 5.0, 25.0], (ENOUGH + 7, 3))
    found = margins(errors, LEVELS)
    assert found is not None
    for step in range(3):
        assert found[:, step].tolist() == [by_hand(errors, step, level, 1) for level in LEVELS]


def test_a_step_with_few_errors_borrows_from_its_neighbours_as_many_as_it_needs() -> None:
    errors = np.random.default_rng(1).normal(0, np.arange(1, 25), (7, 24))
    found = margins(errors, LEVELS)
    width = -(-ENOUGH // 7)
    assert found is not None
    for step in range(24):
        assert found[:, step].tolist() == pytest.approx([by_hand(errors, step, level, width) for level in LEVELS])
    widths = found[2] - found[0]
    assert widths[0] < widths[12] < widths[23]  # the spread of the errors grows with the lead, and so does this


def test_nineteen_errors_give_the_eighteenth_and_the_second() -> None:
    errors = np.arange(19.0).reshape(19, 1)[::-1]
    found = margins(errors, LEVELS)
    assert found is not None
    assert found.ravel().tolist() == [1.0, 9.0, 17.0]  # ranks 20 x 0.1, 20 x 0.5, 20 x 0.9


@pytest.mark.parametrize(("levels", "least"), [((0.1, 0.9), 9), ((0.5,), 3), ((0.025, 0.975), 39), ((0.2, 0.95), 19)])
def test_with_fewer_errors_than_a_level_needs_there_are_no_margins(levels: tuple[float, ...], least: int) -> None:
    errors = np.arange(float(least)).reshape(-1, 1)
    assert max(needed(levels), LEAST_ISSUES) == least
    assert margins(errors, levels) is not None
    assert margins(errors[:-1], levels) is None


def test_the_errors_of_too_few_issues_are_no_sample_however_many_steps_they_have() -> None:
    errors = np.random.default_rng(2).normal(size=(LEAST_ISSUES, 500))
    assert margins(errors, LEVELS) is not None
    assert margins(errors[:-1], LEVELS) is None
    errors[0] = np.nan
    assert margins(errors, LEVELS) is None


def test_missing_errors_are_left_out_and_infinite_ones_are_missing() -> None:
    errors = np.random.default_rng(3).normal(size=(60, 1))
    errors[::6] = np.nan
    errors[1::6] = np.inf
    kept = errors[np.isfinite(errors)].reshape(-1, 1)
    assert np.array_equal(margins(errors, LEVELS), margins(kept, LEVELS))  # type: ignore[arg-type]  # neither is None


def test_margins_never_cross() -> None:
    random = np.random.default_rng(4)
    levels = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
    for issues in range(3, 40):
        errors = np.where(random.random((issues, 24)) < 0.2, np.nan, random.standard_t(2, (issues, 24)))
        found = margins(errors, levels)
        assert found is None or (np.diff(found, axis=0) >= 0).all()


def test_exchangeable_errors_are_covered_as_often_as_the_levels_say() -> None:
    """Lopsided errors that spread with the lead; the guarantee is for any number of them."""
    random = np.random.default_rng(5)
    for issues in (9, 20, 99):
        below = []
        for _ in range(2_000):
            errors = random.gamma(1.0, 2.0, (issues + 1, 1))
            found = margins(errors[:-1], LEVELS)
            assert found is not None
            below.append(errors[-1, 0] < found[:, 0])
        low, middle, high = np.mean(below, axis=0)
        most = 1 / (issues + 1)
        assert low <= 0.1 + 0.02
        assert low >= 0.1 - most - 0.02
        assert middle == pytest.approx(0.5, abs=0.035)
        assert 0.9 - 0.02 <= high <= 0.9 + most + 0.02


def test_a_target_that_is_longer_than_any_before_takes_the_last_margins() -> None:
    table = np.array([[-1.0, -2.0], [1.0, 2.0]])
    found = around(np.full(4, 10.0), table, (0.1, 0.9))
    assert found[0.1].tolist() == [9.0, 8.0, 8.0, 8.0]
    assert found[0.9].tolist() == [11.0, 12.0, 12.0, 12.0]


def test_errors_lie_in_the_table_by_issue_and_step() -> None:
    past = Past(
        issue_time=np.array([0, 0, 0, 9, 9]),
        valid_time=np.array([0, 1, 2, 9, 10]),
        step=np.array([1, 2, 3, 1, 2]),
        mean=np.array([1.0, 2.0, 3.0, 4.0, 5.0]),
    )
    readings = np.array([2.0, 4.0, 6.0, 8.0, np.nan])
    assert np.array_equal(past.errors(readings), [[1.0, 2.0, 3.0], [4.0, np.nan, np.nan]], equal_nan=True)
    assert past.before(9).errors(readings[:3]).tolist() == [[1.0, 2.0, 3.0]]
    assert past.before(0).errors(readings[:0]).shape == (0, 0)
    assert margins(past.before(0).errors(readings[:0]), LEVELS) is None


def history(values: np.ndarray, *late: tuple[int, float, int]) -> History:
    """Hourly readings, each known an hour after it began; `late` are (hour, value, hour at which it was known)."""
    known = [(hour, value, hour + 1) for hour, value in enumerate(values)]
    rows = sorted([*known, *late], key=lambda row: (row[0], row[2]))
    valid, value, available = (np.array(column) for column in zip(*rows, strict=True))
    return History(
        Rows(valid * HOUR, value.astype(float), available * HOUR, np.ones(len(rows), dtype=np.int64)), "1h", "UTC"
    )


def past_of(issues: int, every: int = 1) -> Past:
    """Forecasts of 0, each hour of one step."""
    issue = np.arange(issues) * every * HOUR
    return Past(issue_time=issue, valid_time=issue, step=np.ones(issues, dtype=np.int64), mean=np.zeros(issues))


def quantiles(past: Past, of: History, issue: int) -> dict[float, float]:
    forecast = checks.Checked(np.zeros(1), {}, ())
    found = with_intervals(forecast, past, of, issue * HOUR, (0.1, 0.9))
    assert found.quality == (("conformal",) if found.quantiles else ())
    return {level: float(values[0]) for level, values in found.quantiles.items()}


def test_an_error_counts_once_its_reading_is_known_and_not_before() -> None:
    values = np.arange(1.0, 12.0)
    readings = history(values)
    assert quantiles(past_of(11), readings, 8) == {}  # eight errors are known, nine are needed
    assert quantiles(past_of(11), readings, 9) == {0.1: 1.0, 0.9: 9.0}
    assert quantiles(past_of(11), readings, 10) == {0.1: 1.0, 0.9: 10.0}


def test_a_reading_revised_later_counts_as_it_was_known_at_the_issue() -> None:
    revised = history(np.arange(1.0, 12.0), (3, 99.0, 10))
    assert quantiles(past_of(11), revised, 9) == {0.1: 1.0, 0.9: 9.0}
    assert quantiles(past_of(11), revised, 10) == {0.1: 1.0, 0.9: 99.0}
    withdrawn = history(np.arange(1.0, 12.0), (8, np.nan, 10))
    assert quantiles(past_of(9), withdrawn, 9) == {0.1: 1.0, 0.9: 9.0}
    assert quantiles(past_of(9), withdrawn, 10) == {}
