"""Upkeep: hot rows become segments. No snapshot sees a difference, for rows keep the ``_v`` they were committed with.

One process at a time does it (a lock file of its own); rows leave the catalog in the same transaction in which their
segment enters it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from store.catalog import Catalog
from store.errors import StoreBusy, StoreError
from store.lock import WriterLock
from store.rows import columns_to_arrow
from store.schema import STORED


def flush(folder: Path, catalog: Catalog, tables: Iterable[str] | None = None) -> dict[str, int]:
    """Write the hot rows of tables (all by default) as segments; rows moved per table.

    When another process is at it already, nothing is done.
    """
    lease = WriterLock(folder / "upkeep.lock")
    moved = {}
    try:
        with lease.held(wait_s=0.0):
            for name in STORED if tables is None else tables:
                rows = _flush_table(folder, catalog, name)
                if rows:
                    moved[name] = rows
    except StoreBusy:
        return {}
    finally:
        lease.close()
    return moved


def _flush_table(folder: Path, catalog: Catalog, name: str) -> int:
    head, columns = catalog.hot_rows(name)
    if not columns["_v"]:
        return 0
    from store import segments

    table = STORED[name]
    absent = [c for c, values in columns.items() if c not in table.by_name and all(v is None for v in values)]
    count = len(columns["_v"])
    rows = columns_to_arrow(table, {c: values for c, values in columns.items() if c not in absent})
    made = segments.write(folder, table, rows, level=1)
    with catalog.writing() as writer:
        for segment in made:
            writer.add_segment(segment)
        gone = writer.drop_hot(name, head)
        if gone != count:
            raise StoreError(f"{gone} hot rows of {name} would leave for {count} in the segment")
    return count
