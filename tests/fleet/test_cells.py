"""Cells beside a loop over rows: what they hold, that they add up again, and that company and order change no bit."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose

from fleet import calendar, cells, losses
from fleet.cells import score_cells, seasonal_scale
from fleet.losses import FloatArray
from fleet.metrics import EXAMPLES, evaluate, parse
from store.schema import TABLES

LEVELS = (0.1, 0.5, 0.9)
HOUR = 3_600_000_000
UTC = pa.timestamp("us", "UTC")


def made(seed: int = 0, *, missing: float = 0.1) -> pa.Table:
    """Forecast points of 5 assets, 2 recipes, hourly issues, two days ahead, on the clock of Paris."""
    rng = np.random.default_rng(seed)
    start = calendar.instant(pd.Timestamp("2024-03-30 12:00", tz="UTC"))
    labels = [(f"a{a}", recipe) for a in rng.permutation(5) for recipe in ("gbm", "naive")]
    issue, step = (
        part.ravel() for part in np.meshgrid(start + np.arange(0, 40, 5) * HOUR, np.arange(60), indexing="ij")
    )
    n = len(issue) * len(labels)
    issue, valid = np.tile(issue, len(labels)), np.tile(issue + step * HOUR, len(labels))
    asset, recipe = (np.repeat([label[part] for label in labels], len(step)) for part in (0, 1))
    y = np.where(rng.random(n) < missing, np.nan, np.round(rng.normal(2, 5, n)))
    quantiles = np.sort(rng.normal(2, 5, (3, n)), axis=0)
    return pa.table(
        {
            "asset_id": asset,
            "product": pa.array(["default"] * n),
            "recipe": recipe,
            "recipe_hash": np.char.add("h-", recipe),
            "version_id": pa.array([None if r == "naive" else f"v-{a}" for a, r in zip(asset, recipe, strict=True)]),
            "role": pa.array(["backtest"] * n),
            "issue_time": pa.array(issue).cast(UTC),
            "valid_time": pa.array(valid).cast(UTC),
            "mean": np.round(rng.normal(2, 5, n)),
            "q10": quantiles[0],
            "q50": quantiles[1],
            "q90": quantiles[2],
            "y": pa.array(y, from_pandas=True),
            "capacity": pa.array(np.where(rng.random(n) < 0.3, np.nan, 50.0), from_pandas=True),
            "day": pa.array(calendar.local_day_micros(valid, "Europe/Paris")),
            "perfect_foresight": pa.array(recipe == "gbm"),
            "truth": pa.array(["latest"] * n),
            "actuals_v": rng.integers(1, 9, n),
        }
    )


def looped(rows: pa.Table) -> dict[tuple[Any, ...], dict[str, float]]:
    """The same cells, one row at a time."""
    found: dict[tuple[Any, ...], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for row in rows.to_pylist():
        y, f, cap = row["y"], row["mean"], row["capacity"]
        if y is None:
            continue
        hours = (row["valid_time"] - row["issue_time"]).total_seconds() / 3600
        label = next(
            name for name, end in zip(cells.LEAD_BUCKETS, [1, 6, 24, 48, 168, 1e9], strict=True) if hours < end
        )
        cell = found[(*(row[name] for name in cells.IDENTITY), row["day"], label)]
        cell["n"] += 1
        cell["sum_e"] += f - y
        cell["sum_abs_e"] += abs(f - y)
        cell["sum_sq_e"] += (f - y) ** 2
        cell["sum_abs_y"] += abs(y)
        cell["sum_smape"] += 2 * abs(f - y) / (abs(f) + abs(y)) if f or y else 0.0
        cell["sum_nmae_cap"] += abs(f - y) / cap if cap else 0.0
        cell["n_cap"] += bool(cap)
        cell["n_q"] += 1
        for level in LEVELS:
            q = row[f"q{int(level * 100)}"]
            cell[f"pinball_sum_q{int(level * 100)}"] += max(level * (y - q), (level - 1) * (y - q))
        low, high = row["q10"], row["q90"]
        cell["covered_80"] += low <= y <= high
        cell["width_sum_80"] += high - low
        cell["winkler_sum_80"] += high - low + 10 * (max(low - y, 0) + max(y - high, 0))
        cell["actuals_v"] = max(cell["actuals_v"], row["actuals_v"])
    return found


def test_cells_are_the_sums_of_their_rows() -> None:
    rows = made()
    expected, found = looped(rows), score_cells(rows, levels=LEVELS)
    assert found.num_rows == len(expected) > 100
    for cell in found.to_pylist():
        want = expected[(*(cell[name] for name in cells.IDENTITY), cell["day"], cell["lead_bucket"])]
        for name in (*cells.SUMS, *cells.dynamic_columns(LEVELS), "actuals_v"):
            assert cell[name] == pytest.approx(want[name], rel=1e-9, abs=1e-9), name


def test_cells_fit_the_table_of_the_store() -> None:
    table = TABLES["scores"]
    fixed = set(table.arrow.names)
    for name in cells.cells_schema((*LEVELS, 0.025, 0.975)).names:
        assert name in fixed or re.fullmatch(str(table.dynamic), name), name
    assert set(table.key) <= set(cells.cells_schema(()).names)
    assert set(cells.SUMS) < fixed


def test_cells_are_sorted_by_their_key_and_unique() -> None:
    found = score_cells(made(), levels=LEVELS).to_pylist()
    # the lead buckets sort as time does, not as text; a missing version comes first
    keys = [
        (
            *(cell[name] or "" for name in cells.IDENTITY[:-1]),
            cell["day"],
            cells.LEAD_BUCKETS.index(cell["lead_bucket"]),
        )
        for cell in found
    ]
    assert keys == sorted(set(keys))


@pytest.mark.parametrize("seed", range(3))
def test_order_and_company_change_no_bit(seed: int) -> None:
    rows = made(seed)
    whole = score_cells(rows, levels=LEVELS)
    shuffled = rows.take(np.random.default_rng(seed).permutation(rows.num_rows))
    assert score_cells(shuffled, levels=LEVELS).equals(whole)
    parts = [score_cells(rows.filter(pa.array(np.array(rows["asset_id"]) == f"a{a}")), levels=LEVELS) for a in range(5)]
    assert pa.concat_tables(parts).equals(whole)


def test_form_of_the_input_changes_nothing() -> None:
    rows = made()
    whole = score_cells(rows, levels=LEVELS)
    chunked = pa.concat_tables([rows.slice(0, 1000), rows.slice(1000, 1), rows.slice(1001)])
    encoded = chunked
    for name in cells.IDENTITY[:-1]:
        encoded = encoded.set_column(encoded.column_names.index(name), name, chunked[name].dictionary_encode())
    nans = rows.set_column(rows.column_names.index("y"), "y", pa.array(rows["y"].to_numpy(), pa.float64()))
    for form in (chunked, encoded, nans, rows.cast(_large(rows.schema))):
        assert score_cells(form, levels=LEVELS).equals(whole)


def _large(schema: pa.Schema) -> pa.Schema:
    return pa.schema([f.with_type(pa.large_string()) if f.type == pa.string() else f for f in schema])


@pytest.mark.parametrize("groups", [[], ["asset_id"], ["recipe"], ["lead_bucket"], ["day", "recipe"]])
def test_added_up_cells_are_the_points_themselves(groups: list[str]) -> None:
    rows = made()
    known = rows.to_pandas().dropna(subset=["y"])
    lead = (known["valid_time"] - known["issue_time"]).to_numpy()
    known["lead_bucket"] = cells.lead_bucket(lead)
    found = score_cells(rows, levels=LEVELS).to_pandas()
    scale = 3.0
    for key, points in known.groupby(groups) if groups else [((), known)]:
        mine = found
        for name, value in zip(groups, key, strict=True):
            mine = mine[mine[name] == value]
        sums = {name: np.array([mine[name].sum()]) for name in (*cells.SUMS, *cells.dynamic_columns(LEVELS))}
        y, f = points["y"].to_numpy(), points["mean"].to_numpy()
        q = {level: points[f"q{int(level * 100)}"].to_numpy() for level in LEVELS}
        direct: dict[str, FloatArray] = {
            "mae": losses.mae(y, f), "mse": losses.mse(y, f), "rmse": losses.rmse(y, f), "bias": losses.bias(y, f),
            "wape": losses.wape(y, f), "smape": losses.smape(y, f), "mase_24": losses.mase(y, f, np.float64(scale)),
            "rmsse_168": losses.rmsse(y, f, np.float64(scale)),
            "nmae_cap": losses.nmae_cap(y, f, points["capacity"].to_numpy()),
            "pinball_q10": losses.pinball(y, q[0.1], 0.1), "mean_pinball": losses.mean_pinball(y, q),
            "crps": losses.crps(y, q), "coverage_80": losses.coverage(y, q[0.1], q[0.9]),
            "width_80": losses.width(y, q[0.1], q[0.9]), "winkler_80": losses.winkler(y, q[0.1], q[0.9], 0.8),
        }  # fmt: skip
        assert {*direct, "skill_daily_naive"} == set(EXAMPLES)
        for name, value in direct.items():
            ours = evaluate(parse(name), sums, scale_abs=np.array([scale]), scale_sq=np.array([scale]))
            assert_allclose(ours, value, rtol=1e-9, atol=1e-12, err_msg=name)


def test_points_tell_sets_of_issues_and_steps_apart() -> None:
    rows = made(missing=0.0)
    found = score_cells(rows, levels=()).to_pandas()
    by_place = found.groupby(["asset_id", "day", "lead_bucket"])["points"]
    assert (by_place.nunique() == 1).all(), "both recipes have the same points"
    assert found["points"].str.fullmatch("[0-9a-f]{16}").all()
    per_cell = found[found["recipe"] == "gbm"].groupby(["day", "lead_bucket"])["points"].first()
    assert per_cell.is_unique
    less = score_cells(rows.slice(1), levels=()).to_pandas()
    assert (less["points"].to_numpy() != found["points"].to_numpy()).sum() == 1


def one_cell(issue: list[int], valid: list[int], mean: list[float]) -> dict[str, Any]:
    """The only cell of points given in minutes, whose actuals are 0."""
    n = len(issue)
    rows = made(missing=0.0).slice(0, 1).take([0] * n)
    times = {"issue_time": issue, "valid_time": valid}
    new = {name: pa.array(np.array(minutes) * HOUR // 60).cast(UTC) for name, minutes in times.items()}
    for name, column in (new | {"mean": pa.array(mean), "y": pa.array([0.0] * n)}).items():
        rows = rows.set_column(rows.column_names.index(name), name, column)
    found = score_cells(rows, levels=())
    assert found.num_rows == 1
    return dict(found.to_pylist()[0])


def test_issue_and_valid_time_are_not_interchangeable() -> None:
    assert one_cell([0], [30], [1.0])["points"] != one_cell([30], [0], [1.0])["points"]
    assert one_cell([0], [0], [1.0])["points"] != one_cell([5], [5], [1.0])["points"]


def test_sums_go_by_issue_and_then_by_valid_time() -> None:
    # beside 1e16 a small number is rounded, so the sum tells the order in which it was made
    issue, valid, mean = [0, 1, 2, 3], [30, 31, 33, 32], [1.0, 1e16, -1e16, 3.0]
    by_issue, by_valid = (np.add.reduceat(np.array(mean)[np.argsort(key)], [0])[0] for key in (issue, valid))
    assert by_issue != by_valid
    assert one_cell(issue, valid, mean)["sum_e"] == by_issue
    assert one_cell(issue[::-1], valid[::-1], mean[::-1])["sum_e"] == by_issue
    assert one_cell([0] * 4, valid, mean)["sum_e"] == by_valid


def test_rows_without_an_actual_make_no_cell() -> None:
    rows = made()
    none = rows.set_column(rows.column_names.index("y"), "y", pa.nulls(rows.num_rows, pa.float64()))
    for empty in (score_cells(none, levels=LEVELS), score_cells(rows.slice(0, 0), levels=LEVELS)):
        assert empty.num_rows == 0
        assert empty.schema == cells.cells_schema(LEVELS)


def test_quantiles_that_are_absent_are_null_and_half_there_are_nan() -> None:
    rows = made(missing=0.0)
    n = rows.num_rows
    gbm = np.array(rows["recipe"]) == "gbm"
    q10 = pa.array(rows["q10"].to_numpy(), mask=~gbm)
    first = int(np.flatnonzero(gbm)[0])
    q90 = pa.array(rows["q90"].to_numpy(), mask=np.arange(n) == first)
    rows = rows.set_column(9, "q10", q10).set_column(11, "q90", q90)
    found = score_cells(rows, levels=(0.05, *LEVELS))
    assert found["pinball_sum_q05"].null_count == found.num_rows
    naive = np.array(found["recipe"]) == "naive"
    assert np.array(found["pinball_sum_q10"].is_null()).tolist() == naive.tolist()
    assert np.array(found["covered_80"].is_null())[naive].all()
    broken = np.isnan(found["pinball_sum_q90"].to_numpy())
    assert broken.sum() == 1
    assert found["pinball_sum_q90"].null_count == 0
    assert np.isnan(found["winkler_sum_80"].to_numpy()[broken]).all()


def test_a_missing_mean_is_not_passed_over() -> None:
    rows = made(missing=0.0)
    mean = pa.array(rows["mean"].to_numpy(), mask=np.arange(rows.num_rows) == 0)
    found = score_cells(rows.set_column(8, "mean", mean), levels=())
    assert np.isnan(found["sum_abs_e"].to_numpy()).sum() == 1
    assert not np.isnan(found["sum_abs_y"].to_numpy()).any()


def test_lead_buckets_hold_their_lower_end() -> None:
    hours = np.array([-1.0, 0, 0.999, 1, 5.999, 6, 23.999, 24, 47.999, 48, 167.999, 168, 1000])
    labels = ["0-1h"] * 3 + ["1-6h"] * 2 + ["6-24h"] * 2 + ["1-2d"] * 2 + ["2-7d"] * 2 + ["7d+"] * 2
    assert cells.lead_bucket((hours * HOUR).astype(np.int64)).tolist() == labels
    assert cells.lead_bucket((hours * HOUR).astype("m8[us]")).tolist() == labels
    assert cells.lead_bucket((hours * HOUR).astype("m8[us]").astype("m8[ns]")).tolist() == labels


def test_a_cell_belongs_to_the_local_day() -> None:
    found = score_cells(made(missing=0.0), levels=()).to_pandas()
    day = found[(found["asset_id"] == "a0") & (found["recipe"] == "gbm")].groupby("day")["n"].sum()
    # issues at 12:00, 17:00, 22:00 UTC, and midnight in Paris is 23:00 UTC
    assert day[date(2024, 3, 30)] == 11 + 6 + 1
    assert day.sum() == 8 * 60


# scales


@pytest.mark.parametrize("season", [1, 24, 168])
def test_scale_is_the_mean_seasonal_step(season: int) -> None:
    rng = np.random.default_rng(season)
    y = np.where(rng.random(500) < 0.1, np.nan, rng.normal(0, 10, 500))
    hours = calendar.grid(pd.Timestamp("2024-03-20", tz="UTC"), 500, "1h", "UTC")
    steps = [y[i] - y[i - season] for i in range(season, 500) if not np.isnan(y[i] - y[i - season])]
    found = seasonal_scale(y, hours, season, "1h", "UTC")
    assert found == pytest.approx((np.mean(np.abs(steps)), np.mean(np.square(steps))), rel=1e-12)


def test_scale_compares_equal_local_times() -> None:
    hours = calendar.grid(pd.Timestamp("2024-03-25", tz="Europe/Paris"), 24 * 14, "1h", "Europe/Paris")
    shown = np.array([float(time.hour) for time in hours.tz_convert("Europe/Paris")])
    scale_abs, _ = seasonal_scale(shown, hours, 24, "1h", "Europe/Paris")
    # only the hour after the one that was skipped differs, when it is compared with the day of the change
    assert scale_abs == pytest.approx(1 / (24 * 13), rel=1e-9)
    assert seasonal_scale(shown, hours, 24, "1h", "UTC")[0] > 20 * scale_abs


def test_scale_of_a_history_with_absent_rows() -> None:
    hours = calendar.grid(pd.Timestamp("2024-01-01", tz="UTC"), 6, "1h", "UTC")[[0, 1, 3, 4, 5]]
    assert seasonal_scale(np.array([1.0, 2.0, 9.0, 4.0, 8.0]), hours, 1, "1h", "UTC")[0] == pytest.approx(
        (1 + 5 + 4) / 3
    )


@pytest.mark.parametrize("length", [0, 1, 24])
def test_scale_without_a_pair_is_undefined(length: int) -> None:
    hours = calendar.grid(pd.Timestamp("2024-01-01", tz="UTC"), length, "1h", "UTC")
    assert np.isnan(seasonal_scale(np.ones(length), hours, 24, "1h", "UTC")).all()
    assert np.isnan(seasonal_scale(np.full(length, np.nan), hours, 1, "1h", "UTC")).all()


def test_scale_of_a_constant_is_zero() -> None:
    days = calendar.grid(pd.Timestamp("2024-01-01", tz="Europe/Paris"), 200, "1D", "Europe/Paris")
    assert seasonal_scale(np.ones(200), days, 7, "1D", "Europe/Paris") == (0.0, 0.0)
