"""Each way a forecast can be wrong has its reason; each oddity of a history is counted, beside a loop."""

from __future__ import annotations

from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from fleet import calendar, checks
from fleet.checks import check_output, quality_report
from fleet.errors import BadOutput
from fleet.task import Task

TARGET = calendar.grid(pd.Timestamp("2024-03-31", tz="UTC"), 4, "1h", "UTC")


def task(*quantiles: float) -> Task:
    return Task(target=TARGET, freq="1h", quantiles=quantiles)


def frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"mean": [1.0, 2.0, 3.0, 4.0], **columns}, index=TARGET)


def test_a_good_forecast_passes_as_it_is() -> None:
    checked = check_output(frame(q90=[2.0, 3, 4, 5], q10=[0.0, 1, 2, 3]), task(0.1, 0.9))
    assert checked.mean.tolist() == [1, 2, 3, 4]
    assert {level: values.tolist() for level, values in checked.quantiles.items()} == {
        0.1: [0, 1, 2, 3],
        0.9: [2, 3, 4, 5],
    }
    assert list(checked.quantiles) == [0.1, 0.9]
    assert checked.quality == ()
    assert checked.mean.dtype == np.float64


def test_a_model_without_quantiles_passes() -> None:
    assert check_output(frame(), task(0.1, 0.9)).quantiles == {}
    assert check_output(frame(q50=[1.0] * 4), task()).quantiles.keys() == {0.5}


@pytest.mark.parametrize("unit", ["s", "ns"])
def test_the_same_instants_in_another_form_pass(unit: str) -> None:
    form = frame()
    form.index = TARGET.as_unit(unit)
    assert check_output(form, task()).mean.tolist() == [1, 2, 3, 4]
    form.index = TARGET.tz_convert("Europe/Paris")
    assert check_output(form, task()).mean.tolist() == [1, 2, 3, 4]
    assert check_output(frame().astype("float32"), task()).mean.tolist() == [1, 2, 3, 4]
    assert check_output(pd.DataFrame({"mean": [1, 2, 3, 4]}, index=TARGET), task()).mean.tolist() == [1, 2, 3, 4]


def test_what_comes_out_is_not_the_model_s_memory() -> None:
    form = frame(q50=[1.0] * 4)
    checked = check_output(form, task(0.5))
    form.loc[:, :] = 99.0
    assert checked.mean.tolist() == [1, 2, 3, 4]
    assert checked.quantiles[0.5].tolist() == [1] * 4


def test_crossing_quantiles_are_sorted_and_marked() -> None:
    checked = check_output(frame(q10=[1.0, 5, 0, 0], q50=[2.0, 4, 0, 1], q90=[3.0, 3, 0, 2]), task(0.1, 0.5, 0.9))
    assert checked.quality == ("crossing_repaired",)
    assert [values[1] for values in checked.quantiles.values()] == [3, 4, 5]
    assert [values[0] for values in checked.quantiles.values()] == [1, 2, 3]


def wrong_grids() -> dict[str, pd.DataFrame]:
    return {
        "3 rows": frame().iloc[:3],
        "0 rows": frame().iloc[:0],
        "no time zone": frame().tz_localize(None),
        "RangeIndex": frame().reset_index(drop=True),
        "row 0": frame().shift(freq="1h"),
        "row 3": frame().set_axis([*TARGET[:3], TARGET[3] + pd.Timedelta("1us")]),
        "row 1": frame().iloc[[0, 2, 1, 3]],
    }


@pytest.mark.parametrize("reason", wrong_grids())
def test_another_grid_is_refused(reason: str) -> None:
    with pytest.raises(BadOutput, match=reason):
        check_output(wrong_grids()[reason], task())


@pytest.mark.parametrize(("columns", "reason"), [
    ({"mean": [1.0, np.nan, 3, np.nan]}, "mean is nan at 2024-03-31T01:00:00.00:00 .2 of 4 steps"),
    ({"mean": [1.0, 2, 3, np.inf]}, "mean is inf"), ({"mean": [None] * 4}, "mean is nan"),
    ({"q10": [np.nan] * 4, "q90": [1.0] * 4}, "q10 is nan"), ({"q10": [1.0] * 4}, "lacks .'q90'."),
    ({"extra": [1.0] * 4}, "'extra' is neither"), ({"q1": [1.0] * 4}, "'q1' is neither"),
    ({7: [1.0] * 4}, "7 is neither"), ({"mean": ["a"] * 4}, "not numeric"),
])  # fmt: skip
def test_other_values_and_columns_are_refused(columns: dict[Any, Any], reason: str) -> None:
    form = frame()
    for name, values in columns.items():
        form[name] = values
    with pytest.raises(BadOutput, match=reason):
        check_output(form, task(0.1, 0.9))


def test_what_is_no_forecast_is_refused() -> None:
    with pytest.raises(BadOutput, match="no column 'mean'"):
        check_output(frame().rename(columns={"mean": "yhat"}), task())
    with pytest.raises(BadOutput, match="column twice"):
        check_output(pd.concat([frame(), frame()], axis=1), task())
    for thing in (None, frame()["mean"], np.ones(4)):
        with pytest.raises(BadOutput, match="not a DataFrame"):
            check_output(thing, task())  # type: ignore[arg-type]


# histories


def history(**assets: tuple[pd.DatetimeIndex, Any]) -> pa.Table:
    return pa.table(
        {
            "asset_id": [name for name, (times, _) in assets.items() for _ in times],
            "valid_time": pa.array(np.concatenate([times.asi8 for times, _ in assets.values()])).cast(
                pa.timestamp("us", "UTC")
            ),
            "y": pa.array(np.concatenate([np.asarray(y, dtype=float) for _, y in assets.values()])),
        }
    )


def hours(*places: int) -> pd.DatetimeIndex:
    return TARGET[0] + pd.to_timedelta(list(places), unit="h").as_unit("us")


def found(table: pa.Table, **options: Any) -> list[dict[str, Any]]:
    return quality_report(table, **({"freq": "1h"} | options)).to_pylist()


def test_findings_name_what_is_odd() -> None:
    rng = np.random.default_rng(0)
    many = hours(*range(100))
    good = rng.normal(100, 10, 100)
    spiked, flat, nights = good.copy(), good.copy(), good.copy()
    spiked[50] = 1e9
    flat[20:50] = 7.0
    nights[20:36] = 0.0
    report = {
        row["asset_id"]: row["findings"]
        for row in found(
            history(
                good=(many, good), spiked=(many, spiked), flat=(many, flat), nights=(many, nights),
                zero=(many, np.zeros(100)), constant=(many, np.full(100, 5.0)), negative=(many, -good),
                nothing=(many, np.full(100, np.nan)), infinite=(many[:2], [1.0, np.inf]), one=(many[:1], [3.0]),
                gap=(hours(0, 1, 5, 6, 9), [1.0, 2, 3, 4, 5]),
                shifted=(hours(0, 1).append(hours(2) + pd.Timedelta("10min")), [1.0, 2, 3]),
            )
        )
    }  # fmt: skip
    assert report == {
        "good": "", "spiked": "outliers", "flat": "flat_line", "nights": "",
        "zero": "constant+zero", "constant": "constant",
        "negative": "negative", "nothing": "no_data+missing", "infinite": "missing", "one": "", "gap": "gaps",
        "shifted": "off_grid",
    }  # fmt: skip


def test_numbers_of_one_history() -> None:
    row = found(history(a=(hours(0, 1, 2, 3, 6, 7), [5.0, 5.0, 5.0, np.nan, 0.0, -1.0])))[0]
    assert row["rows"] == 6
    assert (row["gaps"], row["absent"], row["missing"]) == (1, 2, 1)
    assert row["completeness"] == 5 / 8
    assert (row["longest_flat"], row["flat_value"]) == (3, 5.0)
    assert (row["zeros"], row["negatives"], row["minimum"], row["maximum"]) == (1, 1, -1.0, 5.0)
    assert row["first"] == TARGET[0]
    assert row["last"] == hours(7)[0]


def looped(times: pd.DatetimeIndex, y: np.ndarray) -> dict[str, Any]:
    place = [(time - times[0]) // pd.Timedelta("1h") for time in times]
    steps = dict(zip(place, y.tolist(), strict=True))
    line = [steps.get(step, np.nan) for step in range(place[-1] + 1)]
    runs = [(value, len(list(run))) for value, run in groupby(line) if np.isfinite(value)]
    known = [value for value in y.tolist() if np.isfinite(value)]
    longest = max((length for _, length in runs), default=0)
    return {
        "rows": len(y), "gaps": sum(b - a > 1 for a, b in pairwise(place)),
        "absent": place[-1] + 1 - len(y), "missing": len(y) - len(known), "completeness": len(known) / (place[-1] + 1),
        "longest_flat": longest, "flat_value": next((value for value, length in runs if length == longest), None),
        "zeros": sum(value == 0 for value in known), "negatives": sum(value < 0 for value in known),
        "minimum": min(known, default=None), "maximum": max(known, default=None), "off_grid": 0,
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_numbers_are_those_of_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assets = {}
    for name in "abcdefgh":
        keep = np.sort(rng.choice(60, rng.integers(1, 60), replace=False))
        assets[name] = hours(*keep), rng.choice([-1.0, 0.0, 0.0, 2.0, np.nan, np.inf], len(keep))
    table = history(**assets)
    rows = found(table)
    assert [row["asset_id"] for row in rows] == list(assets)
    for row in rows:
        expected = looped(*assets[row["asset_id"]])
        assert {name: row[name] for name in expected} == expected
    encoded = table.set_column(0, "asset_id", table["asset_id"].dictionary_encode())
    assert found(pa.concat_tables([encoded.slice(0, 5), encoded.slice(5)])) == rows


def test_steps_and_zones_by_asset() -> None:
    paris, months = "Europe/Paris", calendar.grid(pd.Timestamp("2024-01-01", tz="UTC"), 5, "1MS", "UTC")
    days = calendar.grid(pd.Timestamp("2024-03-01", tz=paris), 60, "1D", paris)
    table = history(
        quarter=(hours(0, 1, 2), [1.0, 2, 3]), day=(days, np.arange(60)), month=(months[[0, 1, 3, 4]], np.arange(4))
    )
    rows = found(
        table,
        freq={"quarter": "15min", "day": "1D", "month": "1MS"},
        tz={"quarter": "UTC", "day": paris, "month": "UTC"},
    )
    assert [(row["gaps"], row["absent"], row["findings"]) for row in rows] == [
        (2, 6, "gaps"),
        (0, 0, ""),
        (1, 1, "gaps"),
    ]
    assert rows[1]["completeness"] == 1.0
    naive = found(table.slice(3, 60), freq="1D", tz="UTC")[0]
    assert naive["gaps"] == 0


def test_one_asset_s_rows_say_nothing_of_the_next() -> None:
    noon = hours(12)
    rows = found(history(a=(noon, [1.0]), b=(noon, [1.0]), c=(noon, [1.0])), freq="1D", tz="UTC")
    assert [(row["off_grid"], row["longest_flat"], row["findings"]) for row in rows] == [(0, 1, "")] * 3
    twice = found(history(a=(noon, [1.0]), b=(hours(12, 13), [1.0, 2.0])), freq="1D", tz="UTC")
    assert [row["off_grid"] for row in twice] == [0, 1]


def test_an_empty_table_has_an_empty_report() -> None:
    table = history(a=(hours(0), [1.0])).slice(0, 0)
    assert quality_report(table, freq="1h").num_rows == 0


def test_the_report_says_what_far_out_is() -> None:
    values = np.arange(101.0)
    values[100] = 75 + checks.FAR_OUT * 50 + 1
    assert found(history(a=(hours(*range(101)), values)))[0]["outliers"] == 1
    values[100] -= 1
    assert found(history(a=(hours(*range(101)), values)))[0]["outliers"] == 0
