"""Segments: immutable, sorted Parquet files, written whole and named by the catalog with their hash.

A segment of a commit (level 0) does not hold ``_v``, for its snapshot is not known while it is written; a flushed or
merged one does. Sorted input is noticed and not sorted again. What is written together is one run: sorted, split
between assets where it is large, its pieces named alike up to a dash.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from store import arrays
from store.catalog import Segment
from store.files import Writing, segment_file
from store.ids import new_id
from store.schema import Table

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

ROW_GROUP = 122_880
SPLIT_ROWS = 4_000_000
_LEVEL = 1  # of zstd: a third of the time of the default for a few per cent more bytes
#: Four pages a row group. DuckDB read a leaderboard 12 % slower in the default ones of 20,000 rows, no faster in one
#: for all, and the history of an asset a third slower in that.
_PAGE_ROWS, _PAGE_BYTES = ROW_GROUP // 4, 8 << 20
_LOWEST = -(1 << 63)
#: pyarrow 26 writes the whole dictionary of a column into every row group: a million run ids took 20 times the CPU to
#: write and six times to read. From this size on the texts are handed over, of which each row group makes its own.
_DICTIONARY = 1_000


def write(folder: Path, table: Table, rows: pa.Table, *, level: int = 0) -> list[Segment]:
    """Write rows as one segment, or as several split between assets when there are very many.

    Args:
        folder: of the store.
        table: whose rows these are.
        rows: of the declared types; a physical ``_v`` column for levels above 0.
        level: 0 for a commit's own segment.
    """
    rows = in_order(table, rows)
    codes = _codes(table, rows) if rows.num_rows > SPLIT_ROWS else None
    run, schema = new_id(), _handed_over(rows)
    pieces: list[Segment] = []
    start = 0
    while start < rows.num_rows:
        stop = _split_at(codes, start, rows.num_rows)
        piece = Piece(folder, table, schema, level, f"{run}-{len(pieces)}" if codes is not None else run)
        with piece:
            piece.add(_used(rows.slice(start, stop - start)))
        pieces.append(piece.segment())
        start = stop
    return pieces


def _handed_over(rows: pa.Table) -> pa.Schema:
    """The schema in which rows are written: texts with a large dictionary as they are."""
    import pyarrow as pa
    from pyarrow import types as t

    fields = []
    for field, column in zip(rows.schema, rows.columns, strict=True):
        large = t.is_dictionary(field.type) and any(len(one.dictionary) > _DICTIONARY for one in column.chunks)
        fields.append(pa.field(field.name, pa.string()) if large else field)
    return pa.schema(fields)


def _used(rows: pa.Table) -> pa.Table:
    """The rows with dictionaries of only those texts that they use: a file tells of no asset but its own."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import types as t

    for place, field in enumerate(rows.schema):
        column = rows.column(place)
        if not t.is_dictionary(field.type) or column.num_chunks != 1 or len(column.chunk(0).dictionary) > _DICTIONARY:
            continue  # a large one is handed over as texts
        held = column.chunk(0)
        used = np.zeros(len(held.dictionary), dtype=bool)
        for start in range(0, len(held), ROW_GROUP):  # few columns need more than the first rows
            used[arrays.to_numpy(held.indices.slice(start, ROW_GROUP).drop_null())] = True
            if used.all():
                break
        else:
            rank, kept = arrays.from_numpy(np.cumsum(used, dtype=np.int32) - 1), arrays.from_numpy(used)
            kept = pa.DictionaryArray.from_arrays(
                rank.take(held.indices), held.dictionary.filter(arrays.from_numpy(used))
            )
            rows = rows.set_column(place, field, kept)
    return rows


def run_of(segment: Segment) -> str:
    """What the pieces that were written together have in common."""
    return segment.id.partition("-")[0]


def _split_at(codes: np.ndarray[Any, Any] | None, start: int, rows: int) -> int:
    stop = start + SPLIT_ROWS
    if stop >= rows:
        return rows
    if codes is None:
        return stop
    import numpy as np

    # Back to the first row of the asset that stands at the limit; forward when that asset alone is larger.
    begin = int(np.searchsorted(codes, codes[stop], side="left"))
    return begin if begin > start else int(np.searchsorted(codes, codes[stop], side="right"))


class Piece:
    """One segment while it is written, row group by row group; a block that fails leaves no file."""

    def __init__(
        self, folder: Path, table: Table, schema: pa.Schema, level: int, name: str, row_group: int = ROW_GROUP
    ) -> None:
        self._table, self._schema, self._level, self.name = table, schema, level, name
        self._row_group = row_group
        self.path = segment_file(folder, table.name, name)
        self._file = Writing(self.path)
        self._waiting: list[pa.Table] = []
        self._rows = 0
        self._bounds: dict[str, tuple[Any, Any]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        import pyarrow.parquet as pq
        from pyarrow import types as t

        texts = [c.name for c in self._table.columns if c.kind == "text" and c.name in self._schema.names]
        whole = [f.name for f in self._schema if t.is_integer(f.type) or t.is_temporal(f.type)]
        self._stack.enter_context(self._file)
        self._parquet = self._stack.enter_context(
            pq.ParquetWriter(
                self._file,
                self._schema,
                compression="zstd",
                compression_level=_LEVEL,
                use_dictionary=texts,
                column_encoding=dict.fromkeys(whole, "DELTA_BINARY_PACKED"),
                max_rows_per_page=_PAGE_ROWS,
                data_page_size=_PAGE_BYTES,
                write_page_checksum=True,
                store_schema=False,
            )
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._write(self._waiting)
        except BaseException:
            self._stack.__exit__(*sys.exc_info())
            raise
        self._stack.__exit__(kind, error, trace)

    @property
    def rows(self) -> int:
        return self._rows

    @property
    def bytes(self) -> int:
        """What has been written so far."""
        return self._file.size

    def add(self, rows: pa.Table) -> None:
        """Add rows that sort after those before."""
        self._rows += rows.num_rows
        self._waiting.append(rows)
        ready = sum(one.num_rows for one in self._waiting)
        if ready >= self._row_group:
            import pyarrow as pa

            together = pa.concat_tables(self._waiting, promote_options="none")
            whole = ready - ready % self._row_group
            self._write([together.slice(0, whole)])
            self._waiting = [together.slice(whole)] if whole < ready else []

    def _write(self, waiting: list[pa.Table]) -> None:
        if not waiting:
            return
        import pyarrow as pa

        rows = pa.concat_tables(waiting, promote_options="none").cast(self._schema)
        self._parquet.write_table(rows, row_group_size=self._row_group)
        for name in {"_v", self._table.entity, self._table.time_column} & {*rows.column_names}:
            assert name is not None
            found = [value for value in (*_range(rows, name), *self._bounds.get(name, ())) if value is not None]
            if found:
                self._bounds[name] = (min(found), max(found))

    def segment(self) -> Segment:
        """What the catalog is to know of the finished file."""
        none = (None, None)
        low, high = self._bounds.get("_v", none)
        min_asset, max_asset = self._bounds.get(self._table.entity or "", none)
        min_time, max_time = self._bounds.get(self._table.time_column or "", none)
        return Segment(
            id=self.name, table=self._table.name, level=self._level, v=None, min_v=low or 0, max_v=high or 0,
            rows=self._rows, bytes=self._file.size, sha256=self._file.sha256, columns=tuple(self._schema.names),
            min_asset=min_asset, max_asset=max_asset, min_time=min_time, max_time=max_time,
        )  # fmt: skip


class Run:
    """Sorted rows written as one run, with only a few row groups in memory; a block that fails leaves no file.

    Args:
        folder: of the store.
        table: whose rows these are.
        schema: of the rows, ``_v`` among its columns.
        level: of the segments.
        most_bytes: at this size a piece ends with its asset, at twice the size in the middle of one.
        most_rows: as above.
        row_group: so many rows are packed together.
    """

    def __init__(
        self,
        folder: Path,
        table: Table,
        schema: pa.Schema,
        *,
        level: int,
        most_bytes: int,
        most_rows: int,
        row_group: int = ROW_GROUP,
    ) -> None:
        self._folder, self._table, self._schema, self._level = folder, table, schema, level
        self._row_group = row_group
        self._most_bytes, self._most_rows = most_bytes, most_rows
        # Where nobody gave the asset there is no column of it to split by.
        self._entity = table.entity if table.sort[:1] == (table.entity,) and table.entity in schema.names else None
        self._name = new_id()
        self._piece: Piece | None = None
        self._period: int | None = None
        self._last: str | None = None
        self.made: list[Segment] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._end()
            return
        if self._piece is not None:
            self._piece.__exit__(kind, error, trace)
        for segment in self.made:
            segment_file(self._folder, self._table.name, segment.id).unlink(missing_ok=True)

    def add(self, period: int | None, rows: pa.Table) -> None:
        """Add rows of one partition that sort after those before."""
        if period != self._period:
            self._end()
            self._period = period
        while rows.num_rows:
            room = self._room(rows)
            if room:
                if self._piece is None:
                    name = f"{self._name}-{len(self.made)}"
                    piece = Piece(self._folder, self._table, self._schema, self._level, name, self._row_group)
                    self._piece = piece.__enter__()
                self._piece.add(rows.slice(0, room))
                self._last = rows.column(self._entity)[room - 1].as_py() if self._entity else None
            if room < rows.num_rows:
                self._end()
            rows = rows.slice(room)

    def _room(self, rows: pa.Table) -> int:
        """How many of the rows still belong to the piece being written."""
        if self._piece is None:
            return int(rows.num_rows)
        full = max(self._piece.bytes / self._most_bytes, self._piece.rows / self._most_rows)
        if full < 1:
            return int(rows.num_rows)
        if full >= 2 or self._entity is None:
            return 0
        import pyarrow.compute as pc

        found = pc.index(pc.not_equal(rows.column(self._entity), self._last), value=True).as_py()
        return int(rows.num_rows if found < 0 else found)

    def _end(self) -> None:
        if self._piece is not None:
            piece, self._piece = self._piece, None
            piece.__exit__(None, None, None)
            self.made.append(piece.segment())


def _range(rows: pa.Table, name: str | None) -> tuple[Any, Any]:
    """Smallest and largest value of a column as the catalog keeps them."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types as t

    if name is None or name not in rows.column_names:
        return None, None
    values = rows.column(name)
    if t.is_date(values.type):
        values = values.cast(pa.timestamp("us"))
    if t.is_timestamp(values.type):
        values = values.cast(pa.int64())
    if t.is_dictionary(values.type):
        # Over the values in use, not over the rows: a slice keeps the whole dictionary.
        values = pc.unique(values).dictionary_decode()
    found = pc.min_max(values).as_py()
    return found["min"], found["max"]


def in_order(table: Table, rows: pa.Table) -> pa.Table:
    """Rows in the table's sort order; as they are when they are in it already."""
    rows = rows.combine_chunks()
    if rows.num_rows < 2:
        return rows
    import numpy as np

    keys = order_of(table, rows)
    if ordered(keys):
        return rows
    return rows.take(arrays.from_numpy(np.lexsort(keys[::-1]))).combine_chunks()


def order_of(table: Table, rows: pa.Table) -> list[np.ndarray[Any, Any]]:
    """What rows are sorted by, as whole numbers: column after column, the first one first."""
    return [_order(rows.column(name)) for name in (*table.sort, "_v") if name in rows.column_names]


def _codes(table: Table, rows: pa.Table) -> np.ndarray[Any, Any] | None:
    entity = table.entity
    return _order(rows.column(entity)) if entity is not None and table.sort[:1] == (entity,) else None


def vintages(table: Table, rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Sorted rows of a ranked table: those to store (of equal key and rank the last), and companion rows.

    The companion names, for each key that comes with several vintages, the rank of the newest.
    """
    import numpy as np

    def repeats(names: tuple[str, ...]) -> np.ndarray[Any, Any]:
        """Whether the row after each has the same values."""
        same = np.ones(max(rows.num_rows - 1, 0), dtype=bool)
        for name in names:
            values = _order(rows.column(name))
            same &= values[1:] == values[:-1]
        return np.append(same, False)

    twice = repeats((*table.key, *table.rank))
    if twice.any():
        rows = rows.filter(arrays.from_numpy(~twice))
    more = repeats(table.key)
    newest = ~more & np.append(False, more[:-1])
    companion = rows.select([*table.key, *table.rank])
    return rows, companion.filter(arrays.from_numpy(newest)) if newest.any() else companion.slice(0, 0)


def _order(values: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    """Integers that sort as the values do (text by its UTF-8 bytes); NULL first."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types as t

    array = values.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    if t.is_dictionary(array.type):
        rank = np.empty(len(array.dictionary), dtype=np.int64)
        rank[arrays.to_numpy(pc.sort_indices(array.dictionary))] = np.arange(len(array.dictionary))
        codes = arrays.to_numpy(array.indices, absent=-1)
        found: np.ndarray[Any, Any] = np.where(codes < 0, -1, rank[codes]) if len(rank) else codes
        return found
    whole = array.cast(pa.int32()) if t.is_date(array.type) else array
    whole = whole.cast(pa.int64())
    return arrays.to_numpy(whole, absent=_LOWEST)


def ordered(keys: list[np.ndarray[Any, Any]]) -> bool:
    """Whether rows with these keys are in order."""
    import numpy as np

    equal = None
    for key in keys:
        before, after = key[:-1], key[1:]
        wrong = before > after
        if equal is not None:
            wrong &= equal
        if wrong.any():
            return False
        same = before == after
        equal = same if equal is None else np.logical_and(equal, same)
        if not equal.any():
            return True
    return True
