"""What goes in comes out, bit for bit, from hot rows as from segments; what does not fit is refused by name."""

from __future__ import annotations

import math
import struct
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from store import Store
from store.errors import InvalidId, SchemaMismatch
from tests.store.rows import START, insert, reading

DOUBLES = [0.1 + 0.2, math.pi * 1e300, 5e-324, -0.0, 0.0, math.inf, -math.inf, math.nan, 1e15 + 0.3, 2.0**53 + 2, None]
TEXTS = ["", "it's", 'a"b\\c', "nul\0inside", "line\nand\ttab", "é😀\u2028", "\x7f\x1b[0m", "NaN", "null", None]


def bits(value: float | None) -> bytes | None:
    return None if value is None else struct.pack("<d", value)


@pytest.mark.parametrize("flushed", [False, True], ids=["hot", "segment"])
def test_doubles_come_back_bit_for_bit(store: Store, flushed: bool) -> None:
    insert(store, "actuals", [reading("a", hour, y) for hour, y in enumerate(DOUBLES)])
    if flushed:
        store.flush()
    found = store.table("actuals", columns=["y"]).column("y").to_pylist()
    assert [bits(y) for y in found] == [bits(y) for y in DOUBLES]
    assert [bits(row["y"]) for row in store.sql("select y from actuals order by valid_time").rows()] == [
        bits(y) for y in DOUBLES
    ]


@pytest.mark.parametrize("form", ["mappings", "arrow"])
@pytest.mark.parametrize("flushed", [False, True], ids=["hot", "segment"])
def test_text_comes_back_letter_by_letter(store: Store, form: str, flushed: bool) -> None:
    rows = [{"job": "j", "slot": START + timedelta(hours=i), "error": text} for i, text in enumerate(TEXTS)]
    insert(store, "job_runs", rows if form == "mappings" else pa.Table.from_pylist(rows))
    if flushed:
        store.flush()
    assert store.table("job_runs", columns=["error"]).column("error").to_pylist() == TEXTS


@pytest.mark.parametrize("rows", [1, 3_000], ids=["hot", "segment"])
def test_every_kind_of_column_comes_back(store: Store, rows: int) -> None:
    local = timezone(timedelta(hours=2))
    score = {
        "asset_id": "a", "product": "p", "role": "r", "truth": "latest", "lead_bucket": "0-1h",
        "perfect_foresight": True, "day": date(1969, 12, 31), "n": 2**62 + 1, "points": 17, "covered_80": 1,
        "pinball_sum_q025": 0.5,
    }  # fmt: skip
    insert(store, "scores", [score] * rows)
    run = {
        "run_id": "1", "params": {"b": [1, 2.5, None], "a": math.nan, "c": np.float32(0.5)}, "tags": '{"x": 1}',
        "started_at": datetime(1900, 1, 1, 1, 2, 3, 4, tzinfo=local), "ended_at": pd.Timestamp("2300-01-01", tz="UTC"),
        "data_version": np.int64(7), "duration_s": Decimal("0.5"),
    }  # fmt: skip
    insert(store, "runs", [run])
    for _ in range(2):
        found = store.table("scores").slice(0, 1).to_pylist()[0]
        assert found["day"] == date(1969, 12, 31)
        assert (found["n"], found["perfect_foresight"], found["points"]) == (2**62 + 1, True, "17")
        assert (found["covered_80"], found["pinball_sum_q025"], found["sum_e"]) == (1.0, 0.5, None)
        told = store.sql("select * from runs").rows()[0]
        assert told["params"] == '{"a":"nan","b":[1,2.5,null],"c":0.5}'
        assert told["tags"] == '{"x": 1}'
        assert told["started_at"] == run["started_at"]
        assert told["ended_at"] == datetime(2300, 1, 1, tzinfo=UTC)
        assert (told["data_version"], told["duration_s"], told["error"]) == (7, 0.5, None)
        store.flush()


def test_large_integers_sum_to_integers(store: Store) -> None:
    insert(store, "scales", [{"asset_id": "a", "product": "p", "origin": START, "season": 24}])
    found = store.sql("select sum(season) as s, count(*) as n from scales")
    assert found.arrow().schema.field("s").type == pa.int64()
    assert found.rows() == [{"s": 24, "n": 1}]


@pytest.mark.parametrize(
    ("table", "row", "word"),
    [
        ("actuals", {"asset_id": "a", "valid_time": START, "available_at": START, "why": 1}, "why"),
        ("actuals", {"asset_id": "a", "valid_time": START}, "available_at"),
        ("actuals", {"asset_id": "a", "valid_time": None, "available_at": START}, "valid_time"),
        ("actuals", {"asset_id": "a", "valid_time": START, "available_at": START, "y": "1.0"}, "y"),
        ("actuals", {"asset_id": "a", "valid_time": START.replace(tzinfo=None), "available_at": START}, "valid_time"),
        ("runs", {"run_id": "1", "params": "{not json"}, "params"),
        ("runs", {"run_id": "1", "data_version": 1.5}, "data_version"),
        ("runs", {"run_id": "1", "data_version": 2**63}, "data_version"),
        ("runs", {"run_id": "1", "recipe": "\ud800"}, "recipe"),
        ("runs", {"run_id": "1", "recipe": b"bytes"}, "recipe"),
        ("scores", {"asset_id": "a", "product": "p", "covered": 1.0}, "covered"),
        ("versions", {"version_id": "v", "trusted": "yes"}, "trusted"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(store: Store, table: str, row: dict[str, object], word: str) -> None:
    with pytest.raises(SchemaMismatch, match=word):
        insert(store, table, [row])
    assert store.head() == 0


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("valid_time", pa.array([START.replace(tzinfo=None)])),
        ("y", pa.array(["1"])),
        ("asset_id", pa.array([7])),
        ("available_at", pa.array([None], pa.timestamp("us", "UTC"))),
        ("valid_time", pa.array([1], pa.timestamp("ns", "UTC"))),
    ],
)
def test_arrow_columns_that_do_not_fit_are_refused_by_name(store: Store, column: str, values: pa.Array) -> None:
    rows = pa.Table.from_pylist([reading("a", 0, 1.0)]).drop_columns("quality")
    with pytest.raises(SchemaMismatch, match=column):
        insert(store, "actuals", rows.set_column(rows.column_names.index(column), column, values))


def test_arrow_types_that_mean_the_same_are_taken(store: Store) -> None:
    ids = pa.array(["b", "a", "b"]).dictionary_encode()
    berlin = pa.array([START] * 3, pa.timestamp("s", "Europe/Berlin"))
    rows = {"asset_id": ids, "valid_time": berlin, "available_at": berlin, "y": pa.array([1, 2, None], pa.int8())}
    rows["valid_time"] = pa.array([START, START, START + timedelta(hours=1)], pa.timestamp("ms", "UTC"))
    insert(store, "actuals", pa.table(rows))
    found = store.table("actuals", columns=["asset_id", "valid_time", "y"]).to_pylist()
    assert [tuple(row.values()) for row in found] == [
        ("a", START, 2.0),
        ("b", START, 1.0),
        ("b", START + timedelta(hours=1), None),
    ]


def test_ids_that_look_alike_stay_distinct_and_equal_ones_are_one(store: Store) -> None:
    ids = ["a", "A", "../a", "a'b", 'a"b', "a b", "🏭", "caf\u00e9"]
    insert(store, "actuals", [reading(name, 0, float(i)) for i, name in enumerate(ids)])
    assert sorted(store.table("actuals").column("asset_id").to_pylist()) == sorted(ids)
    for i, name in enumerate(ids):
        assert values_of(store, name) == [float(i)]
    decomposed = "cafe\u0301"
    assert values_of(store, decomposed) == [7.0]
    table = pa.Table.from_pylist([reading(decomposed, 1, 8.0)]).drop_columns("quality")
    insert(store, "actuals", table)
    assert values_of(store, "caf\u00e9") == [7.0, 8.0]


def values_of(store: Store, asset: str) -> list[float]:
    found: list[float] = store.table("actuals", assets=[asset]).column("y").to_pylist()
    return found


@pytest.mark.parametrize("name", ["", "a\0", "a\n", "x" * 513, "é" * 257, "\ud800", "\x85"])
@pytest.mark.parametrize("form", ["mappings", "arrow"])
def test_ids_that_cannot_be_names_are_refused(store: Store, name: str, form: str) -> None:
    row = reading("a", 0, 1.0)
    if form == "arrow" and name == "\ud800":
        pytest.skip("Arrow cannot hold it either")
    rows = [row | {"asset_id": name}]
    with pytest.raises(InvalidId):
        insert(store, "actuals", rows if form == "mappings" else pa.Table.from_pylist(rows).drop_columns("quality"))
