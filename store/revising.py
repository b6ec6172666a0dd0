"""What a replacement supersedes: a small one against the catalog inside its commit, a large one in a question before.

For tables with a rank (actuals, covariates) a row equal to the one before it in rank order is no revision and is left
out. The answer of a question holds for the snapshot at which it was looked up; the commit asks again when the table
was written since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from store.catalog import Columns, Writer, quoted
from store.planning import Pruning, same_key, template
from store.reading import Asking, Reader
from store.rows import from_arrow
from store.schema import STORED, Table

if TYPE_CHECKING:
    import pyarrow as pa

    from store.catalog.hot import HotBatch
    from store.duck import Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """The rows worth storing, the companion rows that name what they replace, and the snapshot this was true at."""

    rows: pa.Table
    companions: pa.Table | None
    looked_up: int


def revise(reader: Reader, table: Table, new: pa.Table) -> Revision:
    """Compare new rows with the store's; see the module."""
    return reader.answer(lambda asking: _revise(asking, table, new))


def _revise(asking: Asking, table: Table, new: pa.Table) -> Revision:
    import numpy as np
    import pyarrow as pa

    plan = asking.plan([table.name], None)
    question = asking.engine.cursor()
    asked = [*table.key, *table.rank, *table.same_if]
    given = {
        name: new.column(name) if name in new.column_names else pa.nulls(new.num_rows, table.arrow.field(name).type)
        for name in asked
    }
    question.register("new__rows", pa.table(given | {"row__": pa.array(np.arange(new.num_rows, dtype=np.int64))}))
    rows = plan.rows(table, _bounds(table, new))
    done = _ranked(question, table, new, rows) if table.rank else _plain(question, table, new, rows)
    companions = done[1]
    if companions is not None and table.replaced is not None:
        companions = from_arrow(STORED[table.replaced], companions)
    return Revision(rows=done[0], companions=companions, looked_up=plan.state.head)


def _bounds(table: Table, new: pa.Table) -> Pruning:
    import pyarrow as pa
    import pyarrow.compute as pc

    first = last = since = until = None
    if table.entity in table.key:
        ids = pc.unique(new.column(table.entity)).to_pylist()
        ids = sorted(one for one in ids if one is not None)
        if ids:
            first, last = ids[0], ids[-1]
    name = table.time_column
    if name in table.key and name in new.column_names and table.by_name[name].required:
        bounds = pc.min_max(new.column(name).cast(pa.timestamp("us")).cast(pa.int64())).as_py()
        since, until = bounds["min"], bounds["max"] + 1
    return Pruning(first=first, last=last, since=since, until=until)


def _ranked(question: Question, table: Table, new: pa.Table, rows: str) -> tuple[pa.Table, pa.Table | None]:
    key, rank = ", ".join(map(quoted, table.key)), ", ".join(map(quoted, table.rank))
    same = " AND ".join(f"{quoted(c)} IS NOT DISTINCT FROM lag({quoted(c)}) OVER in_rank" for c in table.same_if)
    columns = ", ".join(map(quoted, (*table.key, *table.rank, *table.same_if)))
    question.define(
        [template("revise").format(
            columns=columns, rows=rows, same_key=same_key(table), key=key, rank=rank, same_values=same
        )]
    )  # fmt: skip
    keep = question.arrow("SELECT row__ FROM revised WHERE row__ >= 0 ORDER BY row__").column("row__")
    kept = new if len(keep) == new.num_rows else new.take(keep)
    if table.replaced is None or kept.num_rows == 0:
        return kept, None
    return kept, question.arrow(template("winners").format(key=key, rank=rank))


def _plain(question: Question, table: Table, new: pa.Table, rows: str) -> tuple[pa.Table, pa.Table | None]:
    key = ", ".join(map(quoted, table.key))
    found = question.arrow(template("lookup").format(rows=rows, same_key=same_key(table), key=key))
    kept = new if found.num_rows == new.num_rows else new.take(found.column("row__"))
    names = [name for name in table.key if name in kept.column_names]
    return kept, kept.select(names).filter(found.column("known"))


# ------------------------------------------------------------------------------------------------------- small batches


def size(columns: Columns) -> int:
    """The number of rows in columns."""
    return len(next(iter(columns.values()), ()))


def joined(parts: list[Columns]) -> Columns:
    """Several batches as one; what a batch lacks is NULL there."""
    if len(parts) == 1:
        return parts[0]
    names = dict.fromkeys(name for part in parts for name in part)
    sizes = [size(part) for part in parts]
    return {
        name: [value for part, size in zip(parts, sizes, strict=True) for value in part.get(name, [None] * size)]
        for name in names
    }


def last_of_each_key(table: Table, columns: Columns) -> tuple[Columns, int]:
    """The rows that count when a key comes several times, and how many they are."""
    keys = _keys(table, columns)
    last = {key: place for place, key in enumerate(keys)}
    if len(last) == len(keys):
        return columns, len(keys)
    keep = sorted(last.values())
    return {name: [values[i] for i in keep] for name, values in columns.items()}, len(keep)


def _keys(table: Table, columns: Columns) -> list[tuple[Any, ...]]:
    rows = size(columns)
    return list(zip(*(columns.get(name, [None] * rows) for name in table.key), strict=True))


def replace_small(writer: Writer, table: Table, columns: Columns, batch: HotBatch) -> int:
    """Add hot rows, and name in the companion the keys that may have older rows; exact, being inside the commit.

    Args:
        writer: of the commit.
        table: whose rows these are.
        columns: the rows.
        batch: the same, made ready before the lock.
    """
    keys = _keys(table, columns)
    places = [list(column) for column in zip(*keys, strict=True)]
    covered = writer.segments(table.name)
    known = [True] * batch.rows if _overlaps(table, columns, covered) else writer.hot_keys(table, keys)
    writer.add_batch(batch)
    again = [i for i, old in enumerate(known) if old]
    if again:
        assert table.replaced is not None
        companion: Columns = {n: [place[i] for i in again] for n, place in zip(table.key, places, strict=True)}
        writer.add_hot(table.replaced, companion, len(again))
    return batch.rows


def _overlaps(
    table: Table, columns: Columns, covered: Sequence[tuple[str | None, str | None, int | None, int | None]]
) -> bool:
    """Whether a segment may hold one of the keys, as far as its bounds tell."""
    entity, time = table.entity, table.time_column
    assets = columns.get(entity) if entity in table.key else None
    times = columns.get(time) if time in table.key and table.by_name[time].kind == "instant" else None
    if times is not None and None in times:
        times = None
    for min_asset, max_asset, min_time, max_time in covered:
        apart = False
        if assets is not None and min_asset is not None and max_asset is not None:
            # Python compares code points, the catalog UTF-8 bytes: the same order.
            apart = not any(min_asset <= one <= max_asset for one in assets)
        if times is not None and min_time is not None and max_time is not None:
            apart = apart or max(times) < min_time or min(times) > max_time
        if not apart:
            return True
    return False


def small_vintages(table: Table, columns: Columns) -> tuple[Columns, Columns]:
    """Inserted rows of a ranked table: those to store, and companion rows for keys that come with several vintages."""
    keys = _keys(table, columns)
    ranks = list(zip(*(columns[name] for name in table.rank), strict=True))
    last = {pair: place for place, pair in enumerate(zip(keys, ranks, strict=True))}
    if len(last) < len(keys):
        keep = sorted(last.values())
        columns = {name: [values[i] for i in keep] for name, values in columns.items()}
    newest: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    several = set()
    for key, rank in last:
        if key in newest:
            several.add(key)
        newest[key] = max(newest.get(key, rank), rank)
    names = (*table.key, *table.rank)
    found = [(*key, *newest[key]) for key in sorted(several)]
    return columns, {name: [row[i] for row in found] for i, name in enumerate(names)}
