from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.cli.console import cell, plain, print_rows

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes(timezones=st.just(UTC)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(ANY)
def test_every_value_becomes_json_that_any_reader_takes(value: object) -> None:
    json.loads(json.dumps(plain(value), allow_nan=False))


def test_instants_are_utc_with_z_and_undefined_numbers_are_null() -> None:
    oslo = timezone(timedelta(hours=2))
    assert plain(datetime(2024, 6, 10, 2, tzinfo=oslo)) == "2024-06-10T00:00:00Z"
    assert plain(date(2024, 6, 10)) == "2024-06-10"
    assert plain([float("nan"), float("inf"), np.float64("nan"), np.int64(3), np.True_]) == [None, None, None, 3, True]


def test_json_is_one_array_of_objects_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"a": float("nan"), "b": "ü"}, {"a": 1.5, "b": None}], as_json=True)
    out = capsys.readouterr()
    assert json.loads(out.out) == [{"a": None, "b": "ü"}, {"a": 1.5, "b": None}]
    assert out.err == ""


def test_no_rows_are_an_empty_array_or_a_word_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([], as_json=True)
    print_rows([], as_json=False, empty="nothing yet")
    out = capsys.readouterr()
    assert json.loads(out.out) == []
    assert out.err == "nothing yet\n"


def test_a_table_in_a_pipe_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"id": "x" * 400, "text": "[bold]no markup[/bold]"}], as_json=False)
    out = capsys.readouterr().out
    assert "x" * 400 in out
    assert "[bold]no markup[/bold]" in out


@given(st.floats() | st.integers() | st.text() | st.none() | st.booleans())
def test_every_value_has_a_cell(value: object) -> None:
    assert isinstance(cell(value), str)
