"""The field of assets and days: windows are exact, what is missing is missing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from fleet import figures, questions
from store import Store

HASH, ISSUE = "h", datetime(2024, 1, 1, tzinfo=UTC)


def row(
    asset: str, day: date, n: int, error: float, *, role: str = "champion", version: str = "v1"
) -> dict[str, object]:
    return {
        "asset_id": asset, "product": "default", "recipe": "r", "recipe_hash": HASH, "version_id": version,
        "role": role, "truth": "latest", "perfect_foresight": False, "day": day, "lead_bucket": "0-1h", "n": n,
        "sum_abs_e": error, "covered_80": float(n) / 2,
    }  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "s")
    days = [date(2024, 1, day) for day in range(1, 17)]
    rows = [row("a", day, 2, 4.0 if day.day <= 9 else 8.0) for day in days]
    rows += [row("b", days[0], 1, 3.0), row("b", days[-1], 1, 5.0), row("b", days[-1], 9, 0.0, role="backtest")]
    change = opened.begin()
    change.insert("scores", rows)
    champion = {"asset_id": "a", "product": "default", "recipe": "r", "version_id": "v1"}
    decision = {"asset_id": "a", "product": "default", "verdict": "promoted"}
    change.promote([champion], [None], [decision])
    change.commit()
    yield opened
    opened.close()


def test_a_window_is_the_ratio_of_its_sums(store: Store) -> None:
    seen = questions.panel(store.snapshot(), metric="mae")
    assert (seen.role, seen.assets, len(seen.days)) == ("live", ("a", "b"), 16)
    assert seen.newest.tolist() == [4.0, 5.0]
    assert np.array_equal(seen.before, [2.0, np.nan], equal_nan=True)
    assert seen.over(0, 16).tolist() == [pytest.approx((9 * 4 + 7 * 8) / 32), 4.0]
    assert seen.coverage is not None
    assert (seen.coverage[0], seen.coverage[1].tolist()) == ("coverage_80", [0.5, 0.5])


def test_points_without_an_interval_are_not_points_beside_it(store: Store) -> None:
    """Of four points two have an interval, and one of them lies within; on another day none has any."""
    days = date(2024, 1, 15), date(2024, 1, 14)
    bare = [row("c", days[0], 4, 4.0) | {"n_q": 2.0, "covered_80": 1.0}, row("c", days[1], 4, 4.0) | {"n_q": 0.0}]
    bare[1]["covered_80"] = None
    change = store.begin()
    for one in bare:
        change.insert("scores", [one])
    change.commit()
    seen = questions.panel(store.snapshot(), metric="mae")
    assert seen.coverage is not None
    assert (seen.assets, seen.coverage[1].tolist()) == (("a", "b", "c"), [0.5, 0.5, 0.5])
    assert questions.panel(store.snapshot(), metric="coverage_80").newest.tolist() == [0.5, 0.5, 0.5]


def test_a_day_without_a_score_is_missing_and_not_zero(store: Store) -> None:
    values = questions.panel(store.snapshot(), metric="mae").values
    assert np.isnan(values[1, 1:-1]).all()
    assert not np.isnan(values[0]).any()


def test_only_the_assets_that_are_meant_count(store: Store) -> None:
    assert questions.panel(store.snapshot(), metric="mae", only=("b",)).assets == ("b",)
    assert questions.panel(store.snapshot(), metric="mae", only=()).assets == ()


def test_the_worst_come_first_and_those_without_a_value_not_at_all(store: Store) -> None:
    seen = questions.panel(store.snapshot(), metric="mae")
    assert [seen.assets[place] for place in seen.worst(5)] == ["b", "a"]
    assert seen.worst(1).tolist() == [1]


def test_what_was_judged_is_of_the_recipe_in_charge(store: Store) -> None:
    change = store.begin()
    change.insert("scores", [row("a", date(2024, 1, 3), 1, 7.0, role="backtest", version=v) for v in ("v1", "v0")])
    change.commit()
    seen = questions.panel(store.snapshot(), metric="mae", role="backtest")
    assert (seen.assets, seen.values.tolist()) == (("a",), [[7.0]])


def test_a_field_paints_no_day_that_was_not_scored(store: Store) -> None:
    seen = questions.panel(store.snapshot(), metric="mae")
    made = figures.heat(seen.assets, seen.values, seen.days, title="t", label="mae", said=[])
    rows = [one for one in figures.tabled(made) if one["y"] == "b"]
    assert [one["value"] for one in rows if one["value"] is not None] == [3.0, 5.0]
    assert made.data[0].hoverongaps is False
    counted = figures.density(seen.values, seen.days, title="t", label="mae", said=[])
    assert np.nansum(np.asarray(counted.data[0].z, dtype=float)) == np.isfinite(seen.values).sum()
    bars = figures.spread(seen.newest, title="t", label="mae", said=[])
    assert sum(bars.data[0].y) == 2
