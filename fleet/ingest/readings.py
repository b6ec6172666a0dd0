"""The rows of a source as numbers, in batches of whole series: read as a stream, sorted by series and time.

A Parquet file is usually sorted already; looking costs a tenth of sorting and no memory, so it is looked at first.
Text stays beside a number only where the number could not be read from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fleet.config.inputs import Stamps
from fleet.errors import SeriesInvalid
from fleet.ingest.stamps import BoolArray
from fleet.sources import Source, identifier, literal, streamed
from fleet.zones import IntArray

FloatArray = npt.NDArray[np.float64]

BATCH_ROWS = 1_000_000
ABSENT = np.iinfo(np.int64).min
"""In place of a time that is missing or cannot be read."""

_ZONE = r"(Z|z|[+-]\d{2}(:?\d{2})?| [A-Za-z_]+(/[A-Za-z_/]+)?)$"
_MISSING = ("", "na", "n/a", "nan", "null", "none", "#n/a")


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What a source's columns are called: the series (None: all are one), time, values, when they were known."""

    key: str | None
    key_option: str
    time: str
    values: tuple[str, ...]
    available_at: str | None


@dataclass(slots=True, kw_only=True, eq=False)
class Batch:
    """Rows of whole series.

    Args:
        keys: of the series; None where the id is missing.
        codes: (rows,) place in `keys`, ascending.
        times: (rows,) microseconds, of UTC or of a clock; `ABSENT` where there is none.
        zoned: whether times are UTC; (rows,) where rows differ, which only text can.
        values: (rows,) float64 for each value column; NaN is missing.
        unread: for each value column the text of rows that no number could be read from, else None.
        unread_time: the text of rows without a time that had one.
        available: (rows,) as times, or None.
    """

    keys: list[str | None]
    codes: IntArray
    times: IntArray
    zoned: BoolArray | bool
    values: list[FloatArray]
    unread: list[pa.Array | None]
    unread_time: pa.Array | None
    available: IntArray | None
    available_zoned: BoolArray | bool

    def __len__(self) -> int:
        return len(self.times)

    def taken(self, rows: npt.NDArray[np.int64] | BoolArray) -> Batch:
        """Some of the rows, or all in another order; series that lose their last row stay in `keys`."""

        def of(column: pa.Array | None) -> pa.Array | None:
            if column is None:
                return None
            return column.filter(pa.array(rows)) if rows.dtype == bool else column.take(pa.array(rows))

        return Batch(
            keys=self.keys,
            codes=self.codes[rows],
            times=self.times[rows],
            zoned=self.zoned if isinstance(self.zoned, bool) else self.zoned[rows],
            values=[column[rows] for column in self.values],
            unread=[of(column) for column in self.unread],
            unread_time=of(self.unread_time),
            available=None if self.available is None else self.available[rows],
            available_zoned=self.available_zoned
            if isinstance(self.available_zoned, bool)
            else self.available_zoned[rows],
        )


def batches(source: Source, columns: Columns, stamps: Stamps, *, rows: int = BATCH_ROWS) -> Iterator[Batch]:
    """The rows of a source, sorted by series and time (equal ones in the order of the source), cut between series.

    Args:
        source: where they are.
        columns: what is read of it.
        stamps: how it writes times.
        rows: about so many a batch; a series is never cut.

    Raises:
        SeriesInvalid: a column is missing, or its type cannot be a time or a value.
        SourceUnreadable: the files break while they are read.
    """
    query = _Query(source, columns, stamps)
    stream = streamed(query.read(), source.label)
    for table in _whole_series(stream, rows):
        yield query.batch(table)


def text_key(name: str) -> str:
    """SQL of an id column: text, one and the same however Unicode writes it.

    >>> print(text_key("asset"))
    nfc_normalize(CAST("asset" AS VARCHAR))
    """
    return f"nfc_normalize(CAST({identifier(name)} AS VARCHAR))"


def number_of(source: Source, option: str, name: str) -> tuple[str, str | None]:
    """SQL of a value column as a number, and of its text where no number could be read."""
    kind, column = source.require(option, name), identifier(name)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return f"CAST({column} AS DOUBLE)", None
    if not _is_text(kind):
        raise SeriesInvalid(f"{source.label}: column {name} ({option}) holds {kind}, not numbers")
    words = ", ".join(literal(word) for word in _MISSING)
    number = f"try_cast(trim({column}) AS DOUBLE)"
    return number, f"CASE WHEN {number} IS NULL AND lower(trim({column})) NOT IN ({words}) THEN {column} END"


class _Query:
    """The SQL that turns a source's columns into numbers."""

    def __init__(self, source: Source, columns: Columns, stamps: Stamps) -> None:
        self.source, self.columns, self.stamps = source, columns, stamps
        self.key = "NULL::VARCHAR"
        if columns.key is not None:
            source.require(columns.key_option, columns.key)
            self.key = text_key(columns.key)
        self.time, self.zoned = self._time("time", columns.time)
        self.available, self.available_zoned = "NULL", "true"
        if columns.available_at is not None:
            self.available, self.available_zoned = self._time("available_at", columns.available_at)
        option = "target" if len(columns.values) == 1 else "columns"
        self.values = [number_of(source, option, name) for name in columns.values]
        self.time_is_text = _is_text(source.columns[columns.time])

    def read(self) -> pa.RecordBatchReader:
        """The rows in order: as they lie where they are sorted already, else sorted."""
        select = [f"{self.key} AS key", f"{self.time} AS us"]
        if self.zoned not in ("true", "false"):
            select.append(f"{self.zoned} AS zoned")
        if self.time_is_text:
            select.append(f"CASE WHEN us IS NULL THEN {identifier(self.columns.time)} END AS unread_time")
        for place, (number, unread) in enumerate(self.values):
            select.append(f"{number} AS v{place}")
            if unread is not None:
                select.append(f"{unread} AS u{place}")
        order = "key, us"
        if self.columns.available_at is not None:
            select.append(f"{self.available} AS available")
            if self.available_zoned not in ("true", "false"):
                select.append(f"{self.available_zoned} AS available_zoned")
            order += ", available"
        if self.source.stored and self._sorted():
            return self.source.read(select)
        if self.stamps.duplicates != "refuse" or self.zoned != "true":
            # DuckDB's sort is not stable, and of two equal times the order of the source says which one is meant.
            select.append("row_number() OVER () AS place")
            order += ", place"
        return self.source.read(select, tail=f"ORDER BY {order}")

    def _sorted(self) -> bool:
        """Whether series follow each other in ascending order, each in the order of its times."""
        last_key: str | None = None
        last_time = ABSENT
        for batch in streamed(self.source.read([f"{self.key} AS key", f"{self.time} AS us"]), self.source.label):
            keys, times = batch.column(0), batch.column(1)
            if not len(times):
                continue
            if times.null_count or (keys.null_count and self.columns.key is not None):
                return False
            runs = pc.run_end_encode(keys)
            ends, names = runs.run_ends.to_numpy(), runs.values.to_pylist()
            us = times.to_numpy()
            falls = np.flatnonzero(us[1:] < us[:-1]) + 1
            if len(np.setdiff1d(falls, ends, assume_unique=True)):
                return False
            known = [name for name in names if name is not None]
            if any(a >= b for a, b in pairwise(known)):
                return False
            if last_key is not None and (known[0] < last_key or (known[0] == last_key and us[0] < last_time)):
                return False
            if not known and us[0] < last_time:
                return False
            last_key, last_time = (known[-1] if known else None), int(us[-1])
        return True

    def _time(self, option: str, name: str) -> tuple[str, str]:
        """SQL of the microseconds of a time column, and of whether they are UTC."""
        kind, column = self.source.require(option, name), identifier(name)
        if pa.types.is_timestamp(kind):
            # Without the test one 'infinity' in a column would end the whole query; nanoseconds have no isfinite.
            micros = f"CAST({column} AS {'TIMESTAMPTZ' if kind.tz else 'TIMESTAMP'})"
            return f"CASE WHEN isfinite({micros}) THEN epoch_us({micros}) END", "true" if kind.tz else "false"
        if pa.types.is_date(kind):
            return f"CASE WHEN isfinite({column}) THEN epoch_us({column}::TIMESTAMP) END", "false"
        if not _is_text(kind):
            raise SeriesInvalid(
                f"{self.source.label}: column {name} ({option}) holds {kind}, not times",
                hint=f"make them times in sql, such as TIMESTAMPTZ '2020-01-01 00:00+00' + {column} * INTERVAL 1 hour",
            )
        form = self.stamps.time_format
        if form is not None:
            zoned = "true" if "%z" in form.lower() else "false"
            return f"epoch_us(try_strptime({column}, {literal(form)}))", zoned
        text = f"trim({column})"
        test = f"coalesce(regexp_matches({text}, {literal(_ZONE)}) AND length({text}) > 10, false)"
        instant, local = (f"epoch_us(try_cast({text} AS {kind}))" for kind in ("TIMESTAMPTZ", "TIMESTAMP"))
        return f"CASE WHEN {test} THEN {instant} ELSE {local} END", test

    def batch(self, table: pa.Table) -> Batch:
        """A table of the query as arrays."""
        runs = pc.run_end_encode(table["key"].combine_chunks())
        ends = runs.run_ends.to_numpy()
        codes = np.repeat(np.arange(len(ends), dtype=np.int64), np.diff(ends, prepend=0))
        names = set(table.column_names)
        return Batch(
            keys=runs.values.to_pylist(),
            codes=codes,
            times=_micros(table["us"]),
            zoned=_flag(table, "zoned", self.zoned),
            values=[_doubles(table[f"v{place}"]) for place in range(len(self.values))],
            unread=[_texts(table, f"u{place}") for place in range(len(self.values))],
            unread_time=_texts(table, "unread_time"),
            available=_micros(table["available"]) if "available" in names else None,
            available_zoned=_flag(table, "available_zoned", self.available_zoned),
        )


def _whole_series(stream: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """The record batches put together to tables of about so many rows, cut where a series ends."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in stream:
        if not batch.num_rows:
            continue
        held.append(batch)
        count += batch.num_rows
        if count < rows:
            continue
        cut = _last_run(batch.column(0))
        if cut == 0 and held[:-1] and _ends_with(held[-2].column(0), batch.column(0)[0]):
            continue
        done = pa.Table.from_batches([*held[:-1], batch.slice(0, cut)])
        if done.num_rows:
            yield done
        held, count = [batch.slice(cut)], batch.num_rows - cut
    if held:
        yield pa.Table.from_batches(held)


def _last_run(keys: pa.Array) -> int:
    """Where the last series of a batch begins."""
    ends = pc.run_end_encode(keys).run_ends
    return int(ends[len(ends) - 2].as_py()) if len(ends) > 1 else 0


def _ends_with(keys: pa.Array, key: pa.Scalar) -> bool:
    last = keys[len(keys) - 1]
    return bool(last.as_py() == key.as_py())


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _micros(column: pa.ChunkedArray) -> IntArray:
    filled = column.cast(pa.int64())
    found: IntArray = (pc.fill_null(filled, ABSENT) if column.null_count else filled).to_numpy()
    return found


def _doubles(column: pa.ChunkedArray) -> FloatArray:
    found: FloatArray = (pc.fill_null(column, float("nan")) if column.null_count else column).to_numpy()
    return found


def _flag(table: pa.Table, name: str, sql: str) -> BoolArray | bool:
    if name not in table.column_names:
        return sql == "true"
    flags: BoolArray = table[name].combine_chunks().to_numpy(zero_copy_only=False).astype(bool)
    return bool(flags[0]) if flags.size and (flags == flags[0]).all() else flags


def _texts(table: pa.Table, name: str) -> pa.Array | None:
    if name not in table.column_names or table[name].null_count == table.num_rows:
        return None
    column = table[name].combine_chunks()
    return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
