"""Segments: immutable, sorted Parquet files, written whole and named by the catalog with their hash.

A segment of a commit (level 0) does not hold ``_v``, for its snapshot is not known while it is written; a flushed one
does. Sorted input is noticed and not sorted again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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
_LOWEST = -(1 << 63)


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
    pieces = []
    start = 0
    while start < rows.num_rows:
        stop = _split_at(codes, start, rows.num_rows)
        pieces.append(_write_one(folder, table, rows.slice(start, stop - start), level))
        start = stop
    return pieces


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


def _write_one(folder: Path, table: Table, rows: pa.Table, level: int) -> Segment:
    import pyarrow.parquet as pq
    from pyarrow import types as t

    name = new_id()
    texts = [f.name for f in rows.schema if t.is_dictionary(f.type)]
    whole = [f.name for f in rows.schema if t.is_integer(f.type) or t.is_temporal(f.type)]
    with Writing(segment_file(folder, table.name, name)) as file:
        pq.write_table(
            rows,
            file,
            compression="zstd",
            compression_level=_LEVEL,
            row_group_size=ROW_GROUP,
            use_dictionary=texts,
            column_encoding=dict.fromkeys(whole, "DELTA_BINARY_PACKED"),
            write_page_checksum=True,
            store_schema=False,
        )
    low, high = _range(rows, "_v")
    min_asset, max_asset = _range(rows, table.entity)
    min_time, max_time = _range(rows, table.time_column)
    return Segment(
        id=name, table=table.name, level=level, v=None, min_v=low or 0, max_v=high or 0, rows=rows.num_rows,
        bytes=file.size, sha256=file.sha256, columns=tuple(rows.column_names),
        min_asset=min_asset, max_asset=max_asset, min_time=min_time, max_time=max_time,
    )  # fmt: skip


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
    names = [name for name in (*table.sort, "_v") if name in rows.column_names]
    if not names or rows.num_rows < 2:
        return rows
    import numpy as np
    import pyarrow as pa

    keys = [_order(rows.column(name)) for name in names]
    if _in_order(keys):
        return rows
    return rows.take(pa.array(np.lexsort(keys[::-1]))).combine_chunks()


def _codes(table: Table, rows: pa.Table) -> np.ndarray[Any, Any] | None:
    entity = table.entity
    return _order(rows.column(entity)) if entity is not None and table.sort[:1] == (entity,) else None


def vintages(table: Table, rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Sorted rows of a ranked table: those to store (of equal key and rank the last), and companion rows.

    The companion names, for each key that comes with several vintages, the rank of the newest.
    """
    import numpy as np
    import pyarrow as pa

    def repeats(names: tuple[str, ...]) -> np.ndarray[Any, Any]:
        """Whether the row after each has the same values."""
        same = np.ones(max(rows.num_rows - 1, 0), dtype=bool)
        for name in names:
            values = _order(rows.column(name))
            same &= values[1:] == values[:-1]
        return np.append(same, False)

    twice = repeats((*table.key, *table.rank))
    if twice.any():
        rows = rows.filter(pa.array(~twice))
    more = repeats(table.key)
    newest = ~more & np.append(False, more[:-1])
    companion = rows.select([*table.key, *table.rank])
    return rows, companion.filter(pa.array(newest)) if newest.any() else companion.slice(0, 0)


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
        rank[pc.sort_indices(array.dictionary).to_numpy()] = np.arange(len(array.dictionary))
        codes = array.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        found: np.ndarray[Any, Any] = np.where(codes < 0, -1, rank[codes]) if len(rank) else codes
        return found
    whole = array.cast(pa.int32()) if t.is_date(array.type) else array
    whole = whole.cast(pa.int64())
    if whole.null_count:
        whole = whole.fill_null(_LOWEST)
    return whole.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _in_order(keys: list[np.ndarray[Any, Any]]) -> bool:
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
