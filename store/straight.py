"""Many rows of one table straight from its segments, in order without a sort.

A segment is sorted, and those of a commit or a merge follow each other; so what is read one after the other, hot rows
last, is in order already or as soon as each asset's rows are brought together. That costs a look instead of a sort.
Where it is not so, where rows were replaced or are later than the snapshot, or where few assets are wanted, DuckDB
answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from store import arrays, segments
from store.catalog import Segment
from store.errors import Damaged
from store.files import segment_file
from store.planning import among
from store.schema import Table, arrow_type
from store.selecting import FEW, Selection

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from store.duck import Question

#: Of more files DuckDB, which keeps their footers, reads faster.
_FILES = 64


def straight(selection: Selection, question: Question) -> pa.Table | None:
    """The rows that a selection means, in its order; None where the question has to be asked whole.

    Args:
        question: is asked for the hot rows.

    Raises:
        Damaged: a segment is missing or does not read.
    """
    table, picked = selection.view.table, _picked(selection)
    if picked is None:
        return None
    import pyarrow as pa

    names = [*dict.fromkeys([*_sort(selection), *selection.columns])]
    parts = [_read(selection, table, one, names) for one in picked]
    if table.name in selection.plan.hot:
        parts.append(_hot(selection, question, names))
    rows = _in_order(table, pa.concat_tables(parts).unify_dictionaries())
    return None if rows is None else _plain(rows.select(selection.columns))


def _sort(selection: Selection) -> tuple[str, ...]:
    table = selection.view.table
    return (*table.sort, "_v") if "_v" in selection.view.sort else table.sort


def _picked(selection: Selection) -> list[Segment] | None:
    """The segments to read, by their first asset and time; None where this is no way to the rows."""
    plan, view, table = selection.plan, selection.view, selection.view.table
    whole = view.shape == "raw" or (view.shape == "alive" and not plan.overlaid(table))
    few = selection.assets is not None and len(selection.assets) <= FEW
    listed = view.sort in (table.sort, (*table.sort, "_v")) and table.sort[:1] == (table.entity,)
    if few or selection.where or not (whole and listed):
        return None
    dated = selection.since is not None or selection.until is not None
    if dated and _kind(table, table.time_column or "") != "instant":
        return None
    if not all(table.by_name[name].required for name in table.sort):
        return None  # DuckDB puts NULL behind everything else
    found = plan.segments(table, selection.pruning())
    if not found or len(found) > _FILES or any(one.max_v > plan.snapshot for one in found):
        return None
    if any(one.min_asset is None for one in found):
        return None
    return sorted(found, key=lambda one: (one.min_asset, one.min_time or 0))


def _read(selection: Selection, table: Table, segment: Segment, names: list[str]) -> pa.Table:
    """The rows of one segment that are wanted, texts as dictionaries."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    stored = [name for name in names if name in segment.columns]
    texts = [name for name in stored if _kind(table, name) == "text"]
    path = segment_file(selection.plan.folder, table.name, segment.id)
    try:
        with pq.ParquetFile(path, read_dictionary=texts, memory_map=True, page_checksum_verification=True) as file:
            rows = file.read_row_groups(_groups(selection, table, file.metadata), columns=stored)
    except (OSError, pa.ArrowException) as cause:
        raise Damaged(f"{path} cannot be read: {str(cause).splitlines()[0]}") from cause
    rows = _wanted(selection, table, rows)
    for name in names:
        if name not in stored:
            rows = rows.append_column(name, _absent(table, name, segment, rows.num_rows))
    return rows.select(names)


def _hot(selection: Selection, question: Question, names: list[str]) -> pa.Table:
    """The hot rows that are wanted, texts as dictionaries."""
    rows = question.arrow(selection.of_hot(names).sql(question))
    for place, name in enumerate(names):
        if _kind(selection.view.table, name) == "text":
            rows = rows.set_column(place, name, rows.column(place).dictionary_encode())
    return rows


def _kind(table: Table, name: str) -> str:
    column = table.column(name)
    return column.kind if column is not None else "bigint"  # _v


def _absent(table: Table, name: str, segment: Segment, count: int) -> pa.Array:
    """A column that the file does not have: the commit that it is of, or nothing."""
    import numpy as np
    import pyarrow as pa

    if name == "_v":
        return arrays.from_numpy(np.full(count, segment.v, dtype=np.int64))
    column = table.column(name)
    assert column is not None
    kind = arrow_type(column.kind)
    return pa.nulls(count, pa.dictionary(pa.int32(), kind) if column.kind == "text" else kind)


def _groups(selection: Selection, table: Table, footer: pq.FileMetaData) -> list[int]:
    """The row groups that may hold an asset that is wanted."""
    if not selection.assets:
        return [*range(footer.num_row_groups)]
    place = footer.schema.names.index(table.entity)
    found = []
    for number in range(footer.num_row_groups):
        told = footer.row_group(number).column(place).statistics
        if told is None or not told.has_min_max or among(selection.assets, told.min, told.max):
            found.append(number)
    return found


def _wanted(selection: Selection, table: Table, rows: pa.Table) -> pa.Table:
    """The rows of the assets and of the time that are asked for."""
    import numpy as np

    wanted = None
    if selection.assets is not None:
        assert table.entity is not None
        column = rows.column(table.entity).unify_dictionaries().combine_chunks()
        known = set(selection.assets)
        listed = np.array([name in known for name in column.dictionary.to_pylist()], dtype=bool)
        if not listed.all():
            wanted = listed[arrays.to_numpy(column.indices)]
    if selection.since is not None or selection.until is not None:
        assert table.time_column is not None
        at = arrays.to_numpy(rows.column(table.time_column).combine_chunks().view("int64"))
        within = np.ones(len(at), dtype=bool)
        if selection.since is not None:
            within &= at >= selection.since
        if selection.until is not None:
            within &= at < selection.until
        wanted = within if wanted is None else wanted & within
    if wanted is None or wanted.all():
        return rows
    return rows.filter(arrays.from_numpy(wanted))


def _in_order(table: Table, rows: pa.Table) -> pa.Table | None:
    """The rows in the table's order: as they are, or with the assets of overlapping segments brought together."""
    import numpy as np

    keys = segments.order_of(table, rows)
    if segments.ordered(keys):
        return rows
    together = np.argsort(keys[0], kind="stable")  # of runs in order, which it merges
    if not segments.ordered([key[together] for key in keys]):
        return None
    return rows.take(arrays.from_numpy(together))


def _plain(rows: pa.Table) -> pa.Table:
    """The texts as such, as DuckDB hands them over."""
    from pyarrow import types as t

    for place, field in enumerate(rows.schema):
        if t.is_dictionary(field.type):
            rows = rows.set_column(place, field.name, rows.column(place).cast(field.type.value_type))
    return rows
