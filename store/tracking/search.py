"""Runs by keywords and by SQL: what a keyword asks is bound, never joined into the text of the question.

A condition of the user's own is SQL over ``runs``; where it names ``metrics['mae']``, the last values stand beside each
run. Parameters and tags are reached as in any JSON: ``params->>'lags'``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from store.catalog import quoted
from store.environment import alive
from store.errors import SchemaMismatch
from store.planning import template
from store.rows import to_json
from store.schema import TABLES
from store.tracking.values import plain

if TYPE_CHECKING:
    import pandas as pd

    from store.reading import Result

_COLUMNS = TABLES["runs"].names
_WILD = re.compile(r"[*?\[]")
#: Cannot match inside a text of the condition's: there a quote stands twice.
_METRIC = re.compile(r"\bmetrics\s*\[\s*'((?:[^']|'')+)'\s*\]", re.IGNORECASE)
_ORDER = re.compile(r"(?P<name>\S.*?)(?:\s+(?P<way>asc|desc))?", re.IGNORECASE | re.DOTALL)
_NEWEST = ("started_at desc", "run_id desc")
_DELETED = """coalesce(contains(tags, '"deleted"') AND json_exists(tags, '/deleted'), false)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What runs are asked for; see ``Store.runs``."""

    where: str | None = None
    limit: int | None = None
    columns: Mapping[str, str | Sequence[str] | None] = field(default_factory=dict)
    parent: str | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Sequence[str] = ()
    order_by: Sequence[str] = ()
    deleted: bool | None = False


def find(sql: Callable[..., Result], search: Search) -> pd.DataFrame:
    """The runs as pandas, with a column for each metric asked for, and ``alive`` last."""
    shown = _names(sql, search.metrics)
    query = _Query(search, shown)
    frame = sql(query.text(), query.bound or None).df()
    # Named here: to SQL "MAE" and "mae" are one column.
    frame.columns = [*_COLUMNS, *(f"metrics.{name}" for name in shown)]
    return _with_alive(frame)


def _names(sql: Callable[..., Result], patterns: Sequence[str]) -> list[str]:
    """The metrics that patterns stand for, each once."""
    names: dict[str, None] = {}
    for pattern in patterns:
        if _WILD.search(pattern):
            asked = "SELECT DISTINCT name FROM metrics WHERE name = $p OR name GLOB $p ORDER BY name"
            names |= dict.fromkeys(row["name"] for row in sql(asked, {"p": pattern}).rows())
        else:
            names[pattern] = None
    return list(names)


class _Query:
    """The text of one search and what is bound to it."""

    def __init__(self, search: Search, shown: Sequence[str]) -> None:
        self.bound: dict[str, Any] = {}
        self._search, self._shown = search, shown
        self._joined: dict[str, str] = {}
        for name in shown:
            self._join(name)
        orders = search.order_by or _NEWEST
        self._order = ", ".join(part for one in orders for part in self._ordered(one))
        tests = [
            *self._column_tests(),
            *self._json_tests("tags", search.tags),
            *self._json_tests("params", search.params),
        ]
        if search.parent is not None:
            tests += self._json_tests("tags", {"parent": search.parent})
        if search.deleted is not None:
            tests.append(_DELETED if search.deleted else f"NOT {_DELETED}")
        if search.where:
            where = _METRIC.sub(lambda found: self._join(found[1].replace("''", "'")), search.where)
            tests.append(f"(\n{where}\n)")  # on lines of its own: it may end in a comment
        self._tests = tests

    def text(self) -> str:
        listed = ", ".join([*map(quoted, _COLUMNS), *(self._joined[name] for name in self._shown)])
        where = f"\nWHERE {' AND '.join(self._tests)}" if self._tests else ""
        limit = f"\nLIMIT {int(self._search.limit)}" if self._search.limit is not None else ""
        return f"SELECT {listed} FROM ({self._rows()}) AS runs{where}\nORDER BY {self._order}{limit}"

    def _rows(self) -> str:
        """SQL of all runs, beside each the metrics that the question names."""
        if not self._joined:
            return "SELECT * FROM runs"
        names = [(self._bind(name), column) for name, column in self._joined.items()]
        each = ", ".join(f"max(value) FILTER (name = {bound}) AS {column}" for bound, column in names)
        wanted = ", ".join(bound for bound, _ in names)
        named = f"SELECT run_id, {each} FROM ({template('last_metrics')}) WHERE name IN ({wanted}) GROUP BY run_id"
        return f"SELECT r.*, {', '.join(self._joined.values())} FROM runs AS r LEFT JOIN ({named}) USING (run_id)"

    def _join(self, metric: str) -> str:
        return self._joined.setdefault(metric, f"metric__{len(self._joined)}")

    def _bind(self, value: Any) -> str:
        name = f"b{len(self.bound)}"
        self.bound[name] = value
        return f"${name}"

    def _column_tests(self) -> list[str]:
        tests = []
        for column, wanted in self._search.columns.items():
            if wanted is None:
                continue
            each = []
            for text in [wanted] if isinstance(wanted, str) else wanted:
                bound = self._bind(str(text))
                each.append(f"{quoted(column)} = {bound}")
                if _WILD.search(str(text)):
                    each.append(f"{quoted(column)} GLOB {bound}")
            tests.append(f"({' OR '.join(each)})" if each else "false")
        return tests

    def _json_tests(self, column: str, wanted: Mapping[str, Any]) -> list[str]:
        return [self._json_test(column, name, plain(f"{column}.{name}", value)) for name, value in wanted.items()]

    def _json_test(self, column: str, name: str, value: Any) -> str:
        place = self._bind(_pointer(name))
        text, kind = f"json_extract_string({column}, {place})", f"json_type({column}, {place})"
        if isinstance(value, str):
            return f"({kind} = 'VARCHAR' AND {text} = {self._bind(value)})"
        if isinstance(value, bool) or value is None:
            return f"(json_extract({column}, {place}) = {self._bind(json.dumps(value))})"
        if isinstance(value, (int, float)):
            numbers = "('BIGINT', 'UBIGINT', 'HUGEINT', 'DOUBLE')"
            return f"({kind} IN {numbers} AND TRY_CAST({text} AS DOUBLE) = {self._bind(float(value))})"
        # Both sides are written by DuckDB: 1e-07 and 1e-7 are the same number.
        held, asked = f"json_extract({column}, {place})", f"json({self._bind(to_json(value))})"
        return f"(CAST({held} AS VARCHAR) = CAST({asked} AS VARCHAR))"

    def _ordered(self, asked: str) -> list[str]:
        found = _ORDER.fullmatch(asked.strip())
        if found is None:
            raise SchemaMismatch("an order names nothing", hint="order_by='metrics.mae desc'")
        name, way = found["name"], (found["way"] or "asc").upper()
        house, _, inner = name.partition(".")
        if house == "metrics" and inner:
            return [f"{self._join(inner)} {way} NULLS LAST"]
        if house in {"params", "tags"} and inner:
            text = f"json_extract_string({house}, {self._bind(_pointer(inner))})"
            return [f"TRY_CAST({text} AS DOUBLE) {way} NULLS LAST", f"{text} {way} NULLS LAST"]
        if name not in _COLUMNS:
            raise SchemaMismatch(
                f"runs cannot be ordered by {name!r}",
                hint=f"by metrics.<name>, params.<name>, tags.<name> or one of {', '.join(_COLUMNS)}",
            )
        return [f"{quoted(name)} {way} NULLS LAST"]


def _pointer(name: str) -> str:
    """A JSON pointer to a member of an object.

    >>> _pointer("a/b")
    '/a~1b'
    """
    return "/" + name.replace("~", "~0").replace("/", "~1")


def _with_alive(frame: pd.DataFrame) -> pd.DataFrame:
    """Whether the process of a running run still runs; NA for an ended one, and where this machine cannot know."""
    import pandas as pd

    told: list[bool | None] = [None] * len(frame)
    for place, (status, tags) in enumerate(zip(frame["status"], frame["tags"], strict=True)):
        if status == "running" and isinstance(tags, str):
            told[place] = alive(json.loads(tags).get("environment", {}))
    frame["alive"] = pd.array(told, dtype="boolean")
    return frame
