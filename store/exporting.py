"""Export: the views as plain Parquet files, one folder each, with a small manifest, for whoever has no tsfleet.

Times are instants in UTC, values doubles, ids and JSON text. Files of a view follow one another in its sort order.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from store.catalog import quoted
from store.clock import from_micros
from store.errors import NotFound, SchemaMismatch
from store.files import Writing, check_empty, make_folder, sync_folder, told, write_whole
from store.ids import new_id
from store.planning import needed
from store.reading import Asking, Reader
from store.schema import TABLES, VIEWS, View, arrow_type

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "export.json"
ROW_GROUP = 122_880
#: A file holds so many rows at most; a larger view becomes several.
FILE_ROWS = 4_000_000
#: What `export` writes when no views are named: all rows in force, and what only a history tells.
USUAL = (*TABLES, "assets_all", "actuals_all", "covariates_all", "champions_all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What was written: rows per view, files and bytes of all."""

    path: Path
    snapshot: int
    rows: dict[str, int]
    files: int
    bytes: int
    seconds: float


def export(reader: Reader, folder: Path, *, snapshot: int, tables: Sequence[str] | None = None) -> Export:
    """Write views at a snapshot to a folder that is absent or empty; it has its name when it is whole.

    Raises:
        NotFound: there is no such view.
        AlreadyExists: the folder holds something.
    """
    began = time.monotonic()
    names = list(dict.fromkeys(USUAL if tables is None else tables))
    for name in names:
        if name not in VIEWS:
            raise NotFound(f"there is no view {name!r}", hint=f"there are {', '.join(sorted(VIEWS))}")
    if not names:
        raise SchemaMismatch("no view was named", hint="leave the names out for all")
    target = folder.absolute()
    check_empty(target)
    make_folder(target.parent)
    making = target.with_name(f".{target.name}.{new_id()}.tmp")
    with told(making):
        making.mkdir()
    try:
        written = {name: _write(reader, making / name, VIEWS[name], snapshot) for name in names}
        told_of = {
            "snapshot": snapshot,
            "committed_at": from_micros(reader.catalog.snapshot_time(snapshot)).isoformat() if snapshot else None,
            "views": written,
        }
        write_whole(making / MANIFEST, [json.dumps(told_of, indent=1).encode()])
        with told(target):
            making.rename(target)
            sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    return Export(
        path=target,
        snapshot=snapshot,
        rows={name: one["rows"] for name, one in written.items()},
        files=sum(len(one["files"]) for one in written.values()),
        bytes=sum(one["bytes"] for one in written.values()),
        seconds=time.monotonic() - began,
    )


def _write(reader: Reader, folder: Path, view: View, snapshot: int) -> dict[str, Any]:
    """Write one view; what the manifest tells of it."""

    def ask(asking: Asking) -> dict[str, Any]:
        shutil.rmtree(folder, ignore_errors=True)  # a question may be asked again when a merge came in between
        plan = asking.plan(needed([view.name]), snapshot)
        names = plan.view_columns(view)
        listed = ", ".join(map(quoted, names))
        order = f" ORDER BY {', '.join(view.sort)}" if view.sort else ""
        batches = asking.engine.cursor().stream(f"SELECT {listed} FROM ({plan.view(view)}){order}", ROW_GROUP)
        kinds = {name: column.kind for name in names if (column := view.table.column(name)) is not None}
        files = _Files(folder, kinds)
        with files:
            for batch in batches:
                files.add(batch)
        return {
            "rows": files.rows,
            "bytes": files.bytes,
            "columns": {name: str(arrow_type(kind)) for name, kind in kinds.items()},
            "files": files.names,
        }

    return reader.answer(ask)


class _Files:
    """The files of one view, begun anew when one is full; at least one, so that also an empty view has its columns."""

    def __init__(self, folder: Path, kinds: dict[str, Any]) -> None:
        import pyarrow as pa

        self._folder = folder
        self._schema: pa.Schema = pa.schema([pa.field(name, arrow_type(kind)) for name, kind in kinds.items()])
        self._file: Writing | None = None
        self._parquet: Any = None
        self._held = 0
        self.names: list[str] = []
        self.rows = self.bytes = 0

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._end(kind, *rest)

    def add(self, batch: pa.RecordBatch) -> None:
        import pyarrow as pa

        if self._held >= FILE_ROWS:
            self._end(None, None, None)
            self._begin()
        self._parquet.write_table(pa.Table.from_batches([batch]).cast(self._schema))
        self._held += batch.num_rows
        self.rows += batch.num_rows

    def _begin(self) -> None:
        import pyarrow.parquet as pq

        name = f"part-{len(self.names):04d}.parquet"
        self._file = Writing(self._folder / name).__enter__()
        self._parquet = pq.ParquetWriter(self._file, self._schema, compression="zstd", write_page_checksum=True)
        self.names.append(f"{self._folder.name}/{name}")
        self._held = 0

    def _end(self, kind: type[BaseException] | None, *rest: object) -> None:
        assert self._file is not None
        try:
            self._parquet.close()
        finally:
            self._file.__exit__(kind, *rest)
        self.bytes += self._file.size
