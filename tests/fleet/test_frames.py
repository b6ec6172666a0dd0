"""What is known at an issue time, against oracles of a few lines: `History`, the covariates' frame, spans, panels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.frames import Covariate, History, Panel, Rows, Span, covariate_frame, digest, panel_of, spans
from fleet.task import Task
from store.clock import to_micros

HOUR = 3_600_000_000
NAN = math.nan
LENGTH = 9


class Reading(NamedTuple):
    """One row of `actuals_all`; the order of the fields is the order of the view."""

    valid: int
    available: int
    version: int
    value: float


class Clock(NamedTuple):
    """A step and a zone, with the instants of `LENGTH` steps around a change of the clock."""

    freq: str
    tz: str
    steps: tuple[int, ...]


def elapsed(first: datetime, step: timedelta) -> tuple[int, ...]:
    return tuple(to_micros(first + number * step) for number in range(LENGTH))


def midnights(first: datetime, tz: str) -> tuple[int, ...]:
    local = [(first + timedelta(days=number)).replace(tzinfo=ZoneInfo(tz)) for number in range(LENGTH)]
    return tuple(to_micros(at.astimezone(UTC)) for at in local)


def firsts(year: int, tz: str) -> tuple[int, ...]:
    local = [datetime(year, 1 + number, 1, tzinfo=ZoneInfo(tz)) for number in range(LENGTH)]
    return tuple(to_micros(at.astimezone(UTC)) for at in local)


CLOCKS = (
    Clock("1h", "UTC", elapsed(datetime(2024, 1, 1, tzinfo=UTC), timedelta(hours=1))),
    Clock("15min", "Europe/Paris", elapsed(datetime(2024, 10, 27, 0, tzinfo=UTC), timedelta(minutes=15))),
    Clock("1D", "Europe/Paris", midnights(datetime(2024, 3, 28), "Europe/Paris")),  # noqa: DTZ001  local, zone beside
    Clock("1D", "America/New_York", midnights(datetime(2024, 10, 30), "America/New_York")),  # noqa: DTZ001
    # Midnight of 8 September 2024 does not exist in Santiago: the day begins at one o'clock.
    Clock("1D", "America/Santiago", midnights(datetime(2024, 9, 5), "America/Santiago")),  # noqa: DTZ001
    Clock("1MS", "Europe/Paris", firsts(2024, "Europe/Paris")),
)


@st.composite
def histories(draw: st.DrawFn) -> tuple[Clock, list[Reading], int]:
    """A clock, readings with gaps, NaN, revisions and any order of availability, and an issue time."""
    clock = draw(st.sampled_from(CLOCKS))
    end = [*clock.steps[1:], clock.steps[-1] + HOUR]
    delays = st.sampled_from((-2, 0, 0, 0, 1, 30, 49))
    readings = []
    for number, valid in enumerate(clock.steps):
        for delay in draw(st.lists(delays, max_size=3)):
            value = draw(st.sampled_from((NAN, -1.0, 0.0, 1.5, 7.0)))
            readings.append(Reading(valid, end[number] + delay * HOUR, draw(st.integers(1, 4)), value))
    issue = draw(st.sampled_from(clock.steps)) + draw(st.integers(-3, 60)) * HOUR
    return clock, sorted(readings, key=lambda reading: reading[:3]), issue


def rows_of(readings: Sequence[Reading]) -> Rows:
    return Rows(
        np.array([reading.valid for reading in readings], dtype=np.int64),
        np.array([reading.value for reading in readings], dtype=np.float64),
        np.array([reading.available for reading in readings], dtype=np.int64),
        np.array([reading.version for reading in readings], dtype=np.int64),
    )


def oracle(clock: Clock, readings: Sequence[Reading], issue: int) -> list[tuple[int, float]]:
    """Of each step the last reading that is available, from the first such step through the last."""
    known = {reading.valid: reading.value for reading in readings if reading.available <= issue}
    if not known:
        return []
    return [(step, known.get(step, NAN)) for step in clock.steps if min(known) <= step <= max(known)]


def plain(series: pd.Series) -> list[tuple[int, float]]:
    return list(zip(series.index.asi8.tolist(), series.to_list(), strict=True))


def equal(found: object, expected: object) -> None:
    """As text, where NaN equals NaN and -1.0 is not 1.0."""
    assert repr(found) == repr(expected)


@given(histories())
@settings(max_examples=250, deadline=None)
def test_a_history_knows_what_is_available_and_nothing_else(case: tuple[Clock, list[Reading], int]) -> None:
    clock, readings, issue = case
    history = History(rows_of(readings), clock.freq, clock.tz)
    equal(plain(history.known_at(issue)), oracle(clock, readings, issue))


@given(histories(), st.integers(0, 80))
@settings(max_examples=100, deadline=None)
def test_a_window_leaves_out_what_is_older_and_changes_nothing_else(
    case: tuple[Clock, list[Reading], int], hours: int
) -> None:
    clock, readings, issue = case
    history = History(rows_of(readings), clock.freq, clock.tz)
    expected = [pair for pair in oracle(clock, readings, issue) if pair[0] >= issue - hours * HOUR]
    equal(plain(history.known_at(issue, window_us=hours * HOUR)), expected)


@given(histories())
@settings(max_examples=100, deadline=None)
def test_what_becomes_available_after_the_issue_time_changes_nothing(case: tuple[Clock, list[Reading], int]) -> None:
    clock, readings, issue = case
    before = [reading for reading in readings if reading.available <= issue]
    with_later, without = (History(rows_of(some), clock.freq, clock.tz) for some in (readings, before))
    equal(plain(with_later.known_at(issue)), plain(without.known_at(issue)))


@given(histories())
@settings(max_examples=150, deadline=None)
def test_the_truth_is_the_newest_reading_and_the_commit_that_brought_it(
    case: tuple[Clock, list[Reading], int],
) -> None:
    clock, readings, _ = case
    newest = {reading.valid: (reading.value, reading.version) for reading in readings}
    asked = [*clock.steps, clock.steps[0] - HOUR, clock.steps[-1] + HOUR]
    values, versions = History(rows_of(readings), clock.freq, clock.tz).truth(np.array(asked))
    equal(list(zip(values.tolist(), versions.tolist(), strict=True)), [newest.get(at, (NAN, 0)) for at in asked])


@given(histories())
@settings(max_examples=150, deadline=None)
def test_the_data_end_with_the_last_finite_reading_or_the_last_row(case: tuple[Clock, list[Reading], int]) -> None:
    clock, readings, _ = case
    newest = {reading.valid: reading.value for reading in readings}
    finite = [valid for valid, value in newest.items() if math.isfinite(value)]
    last = max(finite or newest, default=None)
    ends = dict(zip(clock.steps, clock.steps[1:], strict=False))
    found = History(rows_of(readings), clock.freq, clock.tz).last_reading_end
    if last is None:
        assert found is None
    elif last in ends:
        assert found == ends[last]


@pytest.mark.parametrize("trailing", [1, 63, 64, 65, 200])
def test_the_data_end_before_any_number_of_missing_readings(trailing: int) -> None:
    values = np.concatenate([np.ones(70), np.full(trailing, NAN)])
    times = np.arange(len(values), dtype=np.int64) * HOUR
    history = History(Rows(times, values, times + HOUR, np.ones_like(times)), "1h", "UTC")
    assert history.last_reading_end == 70 * HOUR


def test_an_unknown_gap_does_not_reach_past_the_last_reading() -> None:
    """At hour 3 the reading of hour 0 is known; that hours 1 to 9 will be missing is not."""
    readings = [Reading(0, HOUR, 1, 1.0), Reading(10 * HOUR, 11 * HOUR, 1, 2.0)]
    history = History(rows_of(readings), "1h", "UTC")
    equal(plain(history.known_at(3 * HOUR)), [(0, 1.0)])


@pytest.mark.parametrize("window", [None, 3 * HOUR])
def test_a_model_that_names_an_index_changes_nothing_for_the_next(window: int | None) -> None:
    times = np.arange(LENGTH, dtype=np.int64) * HOUR
    history = History(Rows(times, np.ones(LENGTH), times + HOUR, np.ones_like(times)), "1h", "UTC")
    target = history.times
    for _ in range(2):
        y, task = history.known_at(LENGTH * HOUR, window), Task(target=target, freq="1h")
        for index in (y.index, task.target):
            assert (index.name, index.freq) == (None, None)
            index.name, index.freq = "ds", "h"


# -- covariates ----------------------------------------------------------------------------------------------------


@st.composite
def forecasts_of_weather(draw: st.DrawFn) -> list[Reading]:
    """Vintages of one covariate, hourly valid times, in the order of the store."""
    vintages = st.tuples(st.integers(0, 7), st.integers(-12, 7), st.integers(1, 3), st.sampled_from((NAN, 1.0, 2.0)))
    found = draw(st.lists(vintages, max_size=14))
    return sorted(
        (Reading(valid * HOUR, issued * HOUR, version, value) for valid, issued, version, value in found),
        key=lambda reading: reading[:3],
    )


def both(first: Sequence[Reading], second: Sequence[Reading]) -> Panel:
    return Panel(path=None, rows=rows_of([*first, *second]))


@given(forecasts_of_weather(), forecasts_of_weather(), st.integers(-13, 9))
@settings(max_examples=150, deadline=None)
def test_covariates_are_those_of_the_newest_vintage_known_at_the_issue_time(
    wind: list[Reading], sun: list[Reading], issue: int
) -> None:
    covariates = [
        Covariate(name="wind", span=Span(0, len(wind)), foresight=False),
        Covariate(name="sun", span=Span(len(wind), len(wind) + len(sun)), foresight=True),
    ]
    index = pd.DatetimeIndex(np.arange(-2, 10) * HOUR * 1000, tz="UTC").as_unit("us")
    frame = covariate_frame(both(wind, sun), covariates, index, issue * HOUR)
    assert frame is not None
    assert frame.columns.to_list() == ["wind", "sun"]
    seen = {reading.valid: reading.value for reading in wind if reading.available <= issue * HOUR}
    whole = {reading.valid: reading.value for reading in sun}
    equal(frame["wind"].to_list(), [seen.get(at, NAN) for at in index.asi8.tolist()])
    equal(frame["sun"].to_list(), [whole.get(at, NAN) for at in index.asi8.tolist()])


def test_without_covariates_there_is_no_frame() -> None:
    index = pd.DatetimeIndex(["2024-01-01"], tz="UTC")
    assert covariate_frame(Panel(path=None, rows=rows_of([])), [], index, 0) is None


# -- where rows lie ------------------------------------------------------------------------------------------------

words = st.sampled_from(("a", "A", "", "b/../c", "é", "🏭", "it's"))


@given(st.lists(st.tuples(words, words), max_size=20), st.integers(1, 4), st.booleans())
@settings(max_examples=150, deadline=None)
def test_spans_say_where_each_key_begins_and_ends(keys: list[tuple[str, str]], parts: int, in_dictionary: bool) -> None:
    keys = sorted(keys)
    cut = max(1, len(keys) // parts)
    columns = []
    for place in (0, 1):
        chunks = [[key[place] for key in keys[start : start + cut]] for start in range(0, len(keys), cut)]
        column = pa.chunked_array(chunks, pa.string())
        columns.append(column.dictionary_encode() if in_dictionary else column)
    expected = {key: (keys.index(key), keys.index(key) + keys.count(key)) for key in keys}
    assert spans(columns) == expected


def test_a_panel_in_a_file_holds_the_rows_that_one_in_memory_holds(tmp_path: Path) -> None:
    times = pa.array([1, 2, 3], pa.int64()).cast(pa.timestamp("us", "UTC"))
    table = pa.table({"valid_time": times, "y": [1.0, None, 3.0], "available_at": times, "_v": [1, 1, 2]})
    mapped = panel_of(table, "y", tmp_path / "panel.arrow")
    kept = panel_of(table, "y", None)
    assert (mapped.rows, kept.path) == (None, None)
    for one, other in zip(mapped.slice(Span(0, 3)), kept.slice(Span(0, 3)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert math.isnan(kept.slice(Span(1, 2)).value[0])


def test_a_digest_depends_on_all_that_a_model_could_see_and_on_nothing_else() -> None:
    first = Reading(0, HOUR, 1, 1.0)
    same_data = first._replace(version=9)
    assert digest(rows_of([first])) == digest(rows_of([same_data]))
    others = [first._replace(valid=HOUR), first._replace(value=2.0), first._replace(available=2 * HOUR)]
    assert len({digest(rows_of(rows)) for rows in ([first], *([other] for other in others), [])}) == 5
