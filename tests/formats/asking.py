"""Everything there is to ask of a store, as plain JSON: what a release answers must not depend on the release."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from store import Store
from store.errors import SnapshotExpired
from store.schema import VIEWS
from store.verifying import verify

#: The snapshot from which a difference is asked; nothing later was folded away.
FROM = 12


def answers(kept: Path, scratch: Path) -> dict[str, Any]:
    """What a copy of a kept store says: it is kept as it is."""
    shutil.copytree(kept, scratch / "s")
    with Store.open(scratch / "s", create=False, read_only=True) as store:
        return asked(store, {name: list(columns(store, name)) for name in VIEWS}, store.head())


def columns(store: Store, view: str) -> list[str]:
    names: list[str] = store.sql(f"select * from {view} limit 0").arrow().column_names
    return names


def asked(store: Store, views: dict[str, list[str]], head: int) -> dict[str, Any]:
    """Answers at a snapshot and before it.

    Args:
        store: that is asked.
        views: the columns to ask for; later releases may have more.
        head: the newest snapshot to ask about.
    """
    found = verify(store._reader)
    blobs = [row["sha256"] for row in store.at(head).sql("select distinct sha256 from versions order by 1").rows()]
    return {
        "head": head,
        "verified": {"damages": [str(one) for one in found.damages], "digests": found.digests},
        "columns": views,
        "views": {name: _rows(store, name, names, head) for name, names in views.items()},
        "past": {
            str(at): {name: _rows(store, name, views[name], at) for name in ("actuals", "alerts", "forecasts")}
            for at in range(1, head, 5)
        },
        "snapshots": {str(at): store.committed_at(at).isoformat() for at in range(1, head + 1)},
        "diff": dict(store.diff(FROM, head).rows),
        "notes": [one.note for one in store.diff(FROM, head).commits],
        "marks": [store.at(at).mark("scored") for at in range(head + 1)],
        "commit ids": [store.committed(f"job/{turn}") for turn in range(3)],
        "blobs": {sha: store.blob(sha).decode("latin-1") for sha in blobs},
        "as of": _plain(
            store.at(head), "select asset_id, step, mean from forecast_as_of('2024-01-01 01:30Z') order by all"
        ),
    }


def _rows(store: Store, view: str, names: list[str], at: int) -> list[str] | str:
    listed = ", ".join(f'"{name}"' for name in names)
    try:
        return _plain(store.at(at), f"select {listed}, _v from {view}__v order by all")
    except SnapshotExpired as error:
        return error.code


def _plain(snapshot: Any, query: str) -> list[str]:
    """Each row as text, which tells NaN, -0.0, NULL and microseconds apart."""
    return [repr(tuple(_told(value) for value in row.values())) for row in snapshot.sql(query).arrow().to_pylist()]


def _told(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value
