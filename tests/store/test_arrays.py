"""Arrow arrays made without pandas are those that pyarrow makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from store import arrays
from store.schema import Kind, arrow_type

VALUES: dict[Kind, list[Any]] = {
    "text": ["", "plant-7", "Münchenbuchsee", "\U0001f32c"],
    "json": ["{}", '{"a":1}'],
    "double": [0.0, -0.0, 1.5, float("nan"), float("inf"), 5e-324],
    "bigint": [0, -1, (1 << 63) - 1, -(1 << 63)],
    "bool": [0, 1, 1, 1, 0, 1, 0, 0, 1],
    "instant": [0, -1, 1_717_200_000_000_000],
    "date": [0, -25_567, 19_875],
}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("absent", ["none", "first", "all", "no rows"])
def test_a_list_becomes_the_array_that_pyarrow_makes_of_it(kind: Kind, absent: str) -> None:
    values = {
        "none": VALUES[kind],
        "first": [None, *VALUES[kind]],
        "all": [None] * 9,
        "no rows": [],
    }[absent]
    made = arrays.from_list(values, kind)
    plain = [bool(one) if kind == "bool" and one is not None else one for one in values]
    wanted = pa.array(plain, arrow_type(kind))
    made.validate(full=True)
    assert made.type == wanted.type
    assert made.null_count == wanted.null_count
    assert repr(made.to_pylist()) == repr(wanted.to_pylist())  # tells NaN, -0.0 and 0.0 apart


@pytest.mark.parametrize(
    "values",
    [np.array([3, -1], dtype=np.int64), np.arange(20, dtype=np.int32)[::2], np.arange(11) % 3 == 0, np.zeros(0)],
)
def test_an_array_of_numpy_becomes_the_one_that_pyarrow_makes_of_it(values: np.ndarray[Any, Any]) -> None:
    made = arrays.from_numpy(values)
    made.validate(full=True)
    assert made.equals(pa.array(values))


@pytest.mark.parametrize("kind", [pa.int32(), pa.int64(), pa.uint64()])
def test_numpy_sees_the_values_of_a_part_of_an_array(kind: pa.DataType) -> None:
    whole = pa.array([5, None, 7, 8], kind)
    assert arrays.to_numpy(whole, absent=3).tolist() == [5, 3, 7, 8]
    assert arrays.to_numpy(whole.slice(2)).tolist() == [7, 8]
    assert arrays.to_numpy(whole.slice(4)).tolist() == []


def test_a_flush_loads_no_pandas(tmp_path: Path) -> None:
    code = f"""
import sys
from store import Store
with Store.open({str(tmp_path / "s")!r}) as store:
    for asset in ("b", "a"):
        with store.run(asset=asset, recipe="gbm") as run:
            run.log_metrics({{"mae": 1.0}})
    assert {{"runs", "metrics"}} <= store.flush().keys()
print("pandas" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
