"""Deriving: the newest metric of every asset, product, recipe and name, kept beside the metrics it was found in.

A derived segment speaks for one snapshot, its ``max_v``; whoever asks about a later one adds what came after. It is
never the truth: what it says could be asked of all metrics, and when it is lost or damaged it is made anew. To bring it
up to date costs what has come since and what it holds, however many metrics there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from store.catalog import Catalog, Segment, State, quoted
from store.merging import check
from store.planning import Plan, needed
from store.reading import Asking, Reader
from store.schema import LATEST, TABLES
from store.segments import Run

if TYPE_CHECKING:
    import pyarrow as pa

#: While no more metrics lie in segments that it does not know, `latest` finds them in a moment.
FEW_ROWS = 20_000
#: Where it holds very much, it is made anew when they are at least this part of it.
_WORTH = 1 / 4
#: The tables that it is told from. Of runs, what was superseded later than it was made must stay: it tells whether a
#: run has got another product.
SOURCES = frozenset(needed([LATEST.name]) - {LATEST.name})
#: Small groups, so that two threads share the reading.
_ROW_GROUP = 20_480
_LEVEL = 2
_UNBOUNDED = 1 << 62


def upto(segments: Iterable[Segment]) -> int | None:
    """The snapshot for which derived segments speak, None when there are none."""
    return max((one.max_v for one in segments), default=None)


def unknown(state: State) -> list[Segment]:
    """The segments of metrics that hold what has not been derived."""
    since = upto(state.segments[LATEST.name]) or 0
    return [one for one in state.segments["metrics"] if one.max_v > since]


def due(catalog: Catalog, *, most_bytes: int) -> bool:
    """Whether so much has come that it should be derived now; what would read more than so many bytes is left alone."""
    state = catalog.state([LATEST.name, "metrics"])
    waiting = unknown(state)
    held = sum(one.rows for one in state.segments[LATEST.name])
    rows = sum(one.rows for one in waiting)
    return rows >= max(FEW_ROWS, held * _WORTH) and sum(one.bytes for one in waiting) <= most_bytes


def foldable(catalog: Catalog, table: str, bound: int | None) -> int | None:
    """The snapshot up to which superseded rows of a table may go, when as such it is ``bound``."""
    since = upto(catalog.segments(LATEST.name)) if table in SOURCES else None
    return bound if bound is None or since is None else min(bound, since) or None


def derive(reader: Reader) -> tuple[Segment, ...] | None:
    """Write what is the newest now, from what it was and what has come since; the caller swaps it in.

    Returns:
        The new segments; None when what there is needs no change, or there is little to tell.

    Raises:
        Damaged: a segment that would have to be read is not what was written.
    """
    return reader.answer(_derived)


def _derived(asking: Asking) -> tuple[Segment, ...] | None:
    plan = asking.plan({LATEST.name, *SOURCES}, None)
    if plan.derived is not None and not plan.behind:
        return None
    if not plan.state.segments[LATEST.name] and _rows(plan) < FEW_ROWS:
        return None
    # What is found in damaged segments would get a hash of its own.
    since = plan.derived or 0
    check(plan, [one for name in LATEST.derived_from for one in plan.segments(TABLES[name]) if one.max_v > since])
    listed = ", ".join(map(quoted, (*LATEST.names, "_v")))
    order = ", ".join(f"{quoted(name)} NULLS FIRST" for name in (*LATEST.sort, "run_id"))
    found = plan.latest(unknown="r.run_id IS NULL")
    rows = asking.engine.cursor().arrow(f"SELECT {listed} FROM ({found}) ORDER BY {order}")
    return _written(plan, rows)


def _rows(plan: Plan) -> int:
    return plan.state.hot_count["metrics"] + sum(one.rows for one in plan.state.segments["metrics"])


def _written(plan: Plan, rows: pa.Table) -> tuple[Segment, ...]:
    """Rows as segments that speak for the plan's snapshot; without ``by_run`` where it says nothing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pc.any(rows.column("by_run")).as_py():
        rows = rows.drop_columns("by_run")
    kinds = {**{field.name: field.type for field in LATEST.arrow}, "_v": pa.int64()}
    schema = pa.schema([pa.field(name, kinds[name]) for name in rows.column_names])
    bounds = {"most_bytes": _UNBOUNDED, "most_rows": _UNBOUNDED, "row_group": _ROW_GROUP}
    with Run(plan.folder, LATEST, schema, level=_LEVEL, **bounds) as run:
        run.add(None, rows.cast(schema))
    return tuple(one._replace(min_v=plan.snapshot, max_v=plan.snapshot) for one in run.made)
