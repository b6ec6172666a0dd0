"""What a large replacement supersedes: new rows against the rows the store has, in one question.

For tables with a rank (actuals, covariates) a row equal to the one before it in rank order is no revision and is left out.
The answer holds for the snapshot at which it was looked up; the commit asks again when the table was written since.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from store.catalog import quoted
from store.reading import Pruning, Reader, same_key, template
from store.rows import from_arrow
from store.schema import STORED, Table

if TYPE_CHECKING:
    import pyarrow as pa

    from store.duck import Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """The rows worth storing, the companion rows that name what they replace, and the snapshot this was true at."""

    rows: pa.Table
    companions: pa.Table | None
    looked_up: int


def revise(reader: Reader, table: Table, new: pa.Table) -> Revision:
    """Compare new rows with the store's; see the module."""
    import pyarrow as pa

    engine = reader.engine
    with engine.running():
        plan = reader.plan([table.name], None)
        question = engine.cursor()
        asked = [*table.key, *table.rank, *table.same_if]
        given = {
            name: new.column(name) if name in new.column_names else pa.nulls(new.num_rows, table.arrow.field(name).type)
            for name in asked
        }
        question.register("new__rows", pa.table(given | {"row__": pa.array(range(new.num_rows), pa.int64())}))
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
