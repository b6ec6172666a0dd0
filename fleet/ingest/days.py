"""Files with a row for each local day: its steps stand side by side, 92, 96 or 100 quarter-hours.

Columns that are called by the clock (``00:15``) are times of that day, and the rules of the source say what the hour
means that the clock shows twice. Any others are counted: the n-th column is the n-th step of the day as it went by,
and a day has no more values than steps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
import pyarrow as pa

from fleet import calendar
from fleet.config import DataSection
from fleet.errors import SeriesInvalid
from fleet.ingest.cleaning import Step
from fleet.ingest.readings import FloatArray, number_of, text_key
from fleet.ingest.stamps import BoolArray
from fleet.sources import Source, identifier, literal, spooled, streamed
from fleet.zones import DAY, IntArray, zone_of

_CLOCK = re.compile(r"(\d{1,2}):(\d{2})")
_MINUTE = 60_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Which columns are the steps of a day; by minute of the day where they are called by the clock."""

    columns: tuple[str, ...]
    minutes: tuple[int, ...] | None


@contextmanager
def in_long_form(
    source: Source, data: DataSection, step_of: Callable[[str], Step]
) -> Iterator[tuple[Source, DataSection]]:
    """The source with a row for each asset and time, and the section that says so.

    Args:
        step_of: the step and the clock of an asset.

    Raises:
        SeriesInvalid: a day has more values than steps, or a field is no number.
    """
    layout = _layout(source, data)
    with spooled(lambda: _tables(source, data, layout, step_of), source.folder, source.label) as found:
        changed: dict[str, object] = {"layout": "long", "columns": None, "time_format": None}
        if layout.minutes is None:
            changed |= {"label": "start", "timezone": None}
        elif data.timezone is None:
            changed |= {"timezone": "local"}
        yield found, data.model_copy(update=changed)


def _layout(source: Source, data: DataSection) -> _Layout:
    source.require("asset", data.asset)
    source.require("time", data.time)
    names = data.columns or tuple(name for name in source.columns if name not in (data.asset, data.time))
    for name in names:
        source.require("columns", name)
    clock = [_CLOCK.fullmatch(name.strip()) for name in names]
    if not names or not all(clock):
        return _Layout(columns=tuple(names), minutes=None)
    return _Layout(columns=tuple(names), minutes=tuple(int(m[1]) * 60 + int(m[2]) for m in clock if m is not None))


def _tables(source: Source, data: DataSection, layout: _Layout, step_of: Callable[[str], Step]) -> Iterator[pa.Table]:
    day = identifier(data.time)
    if data.time_format is not None:
        day = f"try_strptime({day}, {literal(data.time_format)})"
    numbers, unread = zip(*(number_of(source, "columns", name) for name in layout.columns), strict=True)
    texts = [text for text in unread if text is not None]
    said = f"list_filter([{', '.join(texts)}], lambda x: x IS NOT NULL)[1]" if texts else "NULL::VARCHAR"
    select = [
        f"{text_key(data.asset)} AS key",
        f"try_cast({day} AS DATE) AS day",
        f"[{', '.join(numbers)}] AS v",
        f"{said} AS unread",
    ]
    for batch in streamed(source.read(select), source.label):
        if batch.num_rows:
            yield _long(pa.Table.from_batches([batch]), source.label, data, layout, step_of)


def _long(table: pa.Table, label: str, data: DataSection, layout: _Layout, step_of: Callable[[str], Step]) -> pa.Table:
    keys, days = table["key"].to_pylist(), table["day"].to_pylist()
    for key, day, unread in zip(keys, days, table["unread"].to_pylist(), strict=True):
        if key is None or day is None or unread is not None:
            what = "a row without an id" if key is None else "a row without a day" if day is None else f"value {unread}"
            raise SeriesInvalid(f"{label}: {what}, asset {key} on {day}", hint="every row needs id, day and numbers")
    values = table["v"].combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    rows: FloatArray = values.reshape(len(keys), len(layout.columns))
    codes, times, found = [], [], []
    for place, (key, day) in enumerate(zip(keys, days, strict=True)):
        freq, tz = step_of(key)
        midnight = int(np.datetime64(day, "us").astype(np.int64))
        if layout.minutes is None:
            at = _steps_of_day(midnight, data.step or freq, tz)
            mine = rows[place]
            if len(at) != len(mine):
                _check(mine, len(at), f"{label}: asset {key} on {day}")
                mine = mine[: len(at)]
        else:
            at = midnight + np.array(layout.minutes, dtype=np.int64) * _MINUTE
            clock = tz if data.timezone in (None, "local") else str(data.timezone)
            kept = ~_skipped(at, clock) | np.isfinite(rows[place])
            at, mine = at[kept], rows[place][kept]
        codes.append(np.full(len(at), place, dtype=np.int32))
        times.append(at)
        found.append(mine)
    zone = None if layout.minutes is not None else "UTC"
    return pa.table(
        {
            data.asset: pa.DictionaryArray.from_arrays(
                pa.array(np.concatenate(codes)), pa.array(keys, pa.string())
            ).cast(pa.string()),
            data.time: pa.array(np.concatenate(times), pa.timestamp("us", zone)),
            data.target: pa.array(np.concatenate(found)),
        }
    )


def _check(values: FloatArray, steps: int, where: str) -> None:
    """A day with fewer steps than columns leaves the last ones empty; one with more has no place for its values."""
    if len(values) < steps:
        raise SeriesInvalid(
            f"{where}: {len(values)} columns, and the day has {steps} steps",
            hint="call the columns by the clock (00:15) where the file has no place for the hour that stands twice",
        )
    if np.isfinite(values[steps:]).any():
        raise SeriesInvalid(
            f"{where}: {int(np.isfinite(values).sum())} values, and the day has {steps} steps",
            hint="is the zone of the asset right? columns called by the clock (00:15) leave out the hour it skips",
        )


@lru_cache(maxsize=4096)
def _steps_of_day(midnight: int, freq: str, tz: str) -> IntArray:
    """The starts of the steps of a local day, UTC microseconds; the day as the time its midnight shows."""
    zone = zone_of(tz, midnight - DAY, midnight + 2 * DAY)
    first, last = (pd.Timestamp(int(at), unit="us", tz="UTC") for at in zone.utc(np.array([midnight, midnight + DAY])))
    return calendar.micros(calendar.grid_between(first, last, freq, tz))


def _skipped(local: IntArray, tz: str) -> BoolArray:
    zone = zone_of(tz, int(local.min()) - DAY, int(local.max()) + DAY)
    skipped: BoolArray = zone.local(zone.utc(local)) != local
    return skipped
