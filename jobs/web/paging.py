"""Pages by key: the next one begins behind the last row of this one, at the same snapshot, whatever is written then.

A cursor is no secret and no authority: it holds the snapshot and the key of a row, and what it asks for is checked
like any other question.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from jobs.web.problems import Refused

#: An IN of at most so many values lets the store leave the files of other assets unread.
FEW = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What can be listed: columns of a view in the order of a key.

    Args:
        source: the view; beside it the rest is our own text, too.
        inner: what of it is selected before pages are cut; qualify: which of the rows that the filters leave count.
        key: column to the SQL type of its values, in order; together they name a row.
        backwards: the newest first.
        filters: name of a parameter to the condition that it sets, over ``$name``.
    """

    source: str
    key: Mapping[str, str]
    columns: str = "*"
    inner: str = "*"
    qualify: str = ""
    backwards: bool = False
    filters: Mapping[str, str] = field(default_factory=dict)

    def query(self, given: Mapping[str, object], assets: Sequence[str] | None, after: Sequence[Any] | None) -> Asked:
        """The SQL of one page and its values.

        Args:
            given: values of filters; those that are None are left out.
            assets: only these; None is all.
            after: the key of the last row of the page before.
        """
        which: list[str] = ["true"]
        values: dict[str, object] = {}
        bound = "true"
        for name, value in given.items():
            if value is not None:
                which.append(self.filters[name])
                values[name] = value
        tables = {}
        if assets is not None and len(assets) <= FEW:
            values |= {f"asset{place}": name for place, name in enumerate(assets)}
            listed = ", ".join(f"$asset{place}" for place in range(len(assets)))
            which.append(f"asset_id in ({listed})" if assets else "false")
        elif assets is not None:
            tables["wanted"] = pa.table({"asset_id": pa.array(assets, pa.string())})
            which.append("asset_id in (select asset_id from wanted)")
        names = [f"coalesce({name}::varchar, '')" if kind == "VARCHAR" else name for name, kind in self.key.items()]
        if after is not None:
            values |= {f"key{place}": value for place, value in enumerate(after)}
            bounds = [f"$key{place}::{kind}" for place, kind in enumerate(self.key.values())]
            bound = f"row({', '.join(names)}) {'<' if self.backwards else '>'} row({', '.join(bounds)})"
        order = ", ".join(f"{name} {'desc' if self.backwards else 'asc'}" for name in names)
        rows = f"select {self.inner} from {self.source} where {' and '.join(which)} {self.qualify}"  # noqa: S608  our own text
        sql = f"select {self.columns} from ({rows}) where {bound} order by {order} limit $most"  # noqa: S608  as above
        return Asked(sql, values, tables)

    def cursor(self, snapshot: int, page: pa.Table) -> str:
        """Where the next page begins."""
        last = page.slice(page.num_rows - 1).to_pylist()[0]
        key = [_told(last[name]) for name in self.key]
        return base64.urlsafe_b64encode(json.dumps([snapshot, key]).encode()).decode().rstrip("=")

    def begins(self, cursor: str) -> tuple[int, list[str]]:
        """The snapshot and the key in a cursor.

        Raises:
            Refused: 400, it is none of this listing.
        """
        try:
            snapshot, key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
            if type(snapshot) is int and len(key) == len(self.key) and all(isinstance(part, str) for part in key):
                return snapshot, key
        except (ValueError, TypeError):
            pass
        raise Refused(400, "after is no cursor of this list", kind="cursor-invalid", hint="take it from next")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question: SQL, values, tables."""

    sql: str
    values: dict[str, object]
    tables: dict[str, pa.Table]


def _told(value: object) -> str:
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, datetime | date) else str(value)
