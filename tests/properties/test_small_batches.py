"""Small batches are taken in a column at a time; what comes of a row does not depend on those beside it."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.errors import SchemaMismatch, StoreError
from store.rows import from_mappings
from store.schema import TABLES

_NOON = datetime(2024, 6, 1, 12, tzinfo=UTC)
# Values that are equal, or of one kind, and yet are not taken alike.
_VALUES: list[Any] = [
    None, True, False, 0, 1, 1.0, -0.0, math.nan, math.inf, np.float64(1.0), np.int64(1), np.bool_(True), 1 << 63,
    "", "1", "é", "e\u0301", "\ud800", np.str_("1"), b"1", _NOON, _NOON.astimezone(timezone(timedelta(hours=2))),
    _NOON.replace(tzinfo=None), pd.Timestamp(_NOON), pd.NaT, date(2024, 6, 1), {"a": 1}, np.array([1, 1]),
]  # fmt: skip


def _taken(rows: list[dict[str, Any]], column: str) -> list[Any] | None:
    """The column as it would be stored, None where it is refused."""
    try:
        columns = from_mappings(TABLES["runs"], rows)
    except (SchemaMismatch, StoreError):
        return None
    return [repr(value) for value in columns.get(column, [None] * len(rows))]


@pytest.mark.parametrize("column", ["asset_id", "kind", "duration_s", "data_version", "started_at", "params"])
def test_a_row_is_taken_as_it_would_be_alone(column: str) -> None:
    alone = [_taken([{"run_id": "0", column: value}], column) for value in _VALUES]
    for first, second in product(range(len(_VALUES)), repeat=2):
        rows = [{"run_id": str(place), column: _VALUES[one]} for place, one in enumerate((first, second))]
        one, other = alone[first], alone[second]
        assert _taken(rows, column) == (None if one is None or other is None else one + other), rows


@given(names=st.lists(st.lists(st.sampled_from(["kind", "recipe", "duration_s"]), unique=True), min_size=1, max_size=5))
def test_rows_with_other_names_or_in_another_order_keep_their_own(names: list[list[str]]) -> None:
    values: dict[str, Any] = {"kind": "train", "recipe": "gbm", "duration_s": 2.0}
    rows = [{"run_id": str(place), **{name: values[name] for name in given_}} for place, given_ in enumerate(names)]
    columns = from_mappings(TABLES["runs"], rows)
    for place, row in enumerate(rows):
        assert {name: held[place] for name, held in columns.items() if held[place] is not None} == row
