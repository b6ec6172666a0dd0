"""From the catalog's state to SQL: which rows of which files a name stands for at a snapshot.

Pure text work: nothing here reads a file. Only the names that a query uses become views, over only those segments that
may hold what is asked.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from store.catalog import Segment, State, quoted
from store.files import segment_file
from store.schema import LATEST, MACROS, STORED, TABLES, VIEWS, Table, View

if TYPE_CHECKING:
    from store.damage import Damage

_EVERY_TIME = ("alive", "raw", "newest", "published")
_WORD = re.compile(r"\w+")
#: Values of this kind are common in questions: a column of ``scores`` says 'latest'.
_AS_TEXT = re.compile("'latest'", re.IGNORECASE)
_ALL_NAMES = {"show", "summarize", "information_schema", "duckdb_views", "duckdb_tables", "duckdb_columns"}
_ID = "\0"
#: ``<view>__v`` shows a view's rows with the commit that stored them.
WITH_V = "__v"


#: Which of the metrics of a key is the newest: of the latest time, of equal times the highest step, of equal steps the
#: last committed. What one commit brought at the same time and step is put in some order that is always the same.
_NEWEST = """row_number() OVER (
    PARTITION BY asset_id, product, recipe, name
    ORDER BY time DESC NULLS LAST, step DESC NULLS LAST, _v DESC, run_id DESC, value DESC NULLS LAST
) = 1"""
#: A forecast that was stored after the gate of its product: the last word of its quality says so.
_LATE = "coalesce(quality = 'late' OR suffix(quality, '+late'), false)"
_KNOWN_BY = f" AND issue_time <= t AND (created_at <= t OR NOT (role = 'manual' OR {_LATE}))"
_SAME_LATEST = " AND ".join(f"l.{name} IS NOT DISTINCT FROM x.{name}" for name in LATEST.key)
_LATEST_COLUMNS = ", ".join(f"l.{name}" for name in LATEST.names if name != "open")


@cache
def template(name: str) -> str:
    """The SQL of a named file of ``store/sql``, without its comments."""
    text = (Path(__file__).parent / "sql" / f"{name}.sql").read_text(encoding="utf-8")
    return "\n".join(line for line in text.splitlines() if not line.startswith("--"))


def among(wanted: Sequence[str], first: str, last: str) -> bool:
    """Whether any of some texts, which are in order, lies between two others or is one of them."""
    place = bisect_left(wanted, first)
    return place < len(wanted) and wanted[place] <= last


class Pruning(NamedTuple):
    """Which segments cannot hold what is asked: bounds of the entity (closed) and of the time (half-open), or None.

    ``among`` are the entities that are asked for, in order.
    """

    first: str | None = None
    last: str | None = None
    since: int | None = None
    until: int | None = None
    among: tuple[str, ...] | None = None

    def keeps(self, segment: Segment) -> bool:
        first, last = segment.min_asset, segment.max_asset
        if self.among is not None and first is not None and last is not None and not among(self.among, first, last):
            return False
        if self.first is not None and segment.max_asset is not None and segment.max_asset < self.first:
            return False
        if self.last is not None and segment.min_asset is not None and segment.min_asset > self.last:
            return False
        if self.since is not None and segment.max_time is not None and segment.max_time < self.since:
            return False
        return not (self.until is not None and segment.min_time is not None and segment.min_time >= self.until)


class Plan(NamedTuple):
    """One reading of the catalog turned into SQL."""

    folder: Path
    snapshot: int
    state: State
    hot: Mapping[str, str]
    now: int
    #: Damaged segments that are left out on request.
    missing: tuple[Damage, ...] = ()
    #: The snapshot up to which ``latest`` has been derived; None where it cannot be used.
    derived: int | None = None
    #: Where DuckDB holds how `latest` has changed since, for a question; None where it has to be asked.
    tail: str | None = None

    def columns(self, table: Table) -> tuple[str, ...]:
        """The columns of a table, with the dynamic ones that the store has."""
        return table.ordered(list(self.state.dynamic[table.name]))

    def view_columns(self, view: View) -> tuple[str, ...]:
        return tuple(name for name in self.columns(view.table) if name not in view.hidden)

    def segments(self, table: Table, pruning: Pruning | None = None) -> list[Segment]:
        """The segments that may hold visible rows, ordered by their first asset."""
        return [
            one
            for one in self.state.segments[table.name]
            if one.min_v <= self.snapshot and (pruning is None or pruning.keeps(one))
        ]

    def rows(self, table: Table, pruning: Pruning | None = None) -> str:
        """SQL of every row of a table visible at the snapshot: its columns and ``_v``, by name."""
        groups: dict[tuple[tuple[str, ...], bool], list[Segment]] = {}
        for one in self.segments(table, pruning):
            groups.setdefault((one.columns, one.v is None), []).append(one)
        names = self.columns(table)
        # Of a union of which no column is wanted, as in count(*), DuckDB 2.0 reads the first: over 50 million rows that
        # takes 20 ms for a constant, 350 for a run id. One list of files alone is counted by its footers.
        lead = "0 AS first__, " if len(groups) + (table.name in self.hot) > 1 else ""
        branches = [self._scan(table, names, lead, *group) for group in groups.items()]
        if table.name in self.hot:
            listed = lead + ", ".join(quoted(name) for name in names)
            branches.append(f"SELECT {listed}, _v FROM {self.hot[table.name]} WHERE _v <= {self.snapshot}")
        if not branches:
            nulls = ", ".join(f"CAST(NULL AS {_sql_type(table, name)}) AS {quoted(name)}" for name in names)
            return f"SELECT {nulls}, CAST(NULL AS BIGINT) AS _v WHERE false"
        return "\nUNION ALL\n".join(branches)

    def _scan(
        self,
        table: Table,
        names: Iterable[str],
        lead: str,
        group: tuple[tuple[str, ...], bool],
        segments: list[Segment],
    ) -> str:
        from store.duck import literal

        present, physical = set(group[0]), group[1]
        listed = lead + ", ".join(
            quoted(name) if name in present else f"CAST(NULL AS {_sql_type(table, name)}) AS {quoted(name)}"
            for name in names
        )
        # Made once and filled in: a Path for each of a thousand segments takes longer than reading the catalog.
        place = literal(str(segment_file(self.folder, table.name, _ID)))
        files = ", ".join(place.replace(_ID, one.id) for one in segments)
        if physical:
            late = any(one.max_v > self.snapshot for one in segments)
            where = f" WHERE _v <= {self.snapshot}" if late else ""
            return f"SELECT {listed}, _v FROM read_parquet([{files}]){where}"
        commits = {one.v for one in segments}
        if len(commits) == 1:
            version = f"CAST({commits.pop()} AS BIGINT)"
        else:
            # file_index counts from 0, lists from 1.
            each = ", ".join(str(one.v) for one in segments)
            version = f"CAST(([{each}])[CAST(file_index AS BIGINT) + 1] AS BIGINT)"
        return f"SELECT {listed}, {version} AS _v FROM read_parquet([{files}])"

    def overlaid(self, table: Table) -> bool:
        """Whether any row of the table was ever replaced."""
        if table.replaced is None:
            return False
        return table.replaced in self.hot or bool(self.segments(STORED[table.replaced]))

    def alive(self, table: Table, pruning: Pruning | None = None) -> str:
        """SQL of the rows that no later row of their key replaced, with ``_v``."""
        rows = self.rows(table, pruning)
        if table.replaced is None or not self.overlaid(table):
            return rows
        companion = STORED[table.replaced]
        outranks = "coalesce(x.win_v, x._v) > r._v"
        for name in reversed(table.rank):
            outranks = f"(x.{name} > r.{name} OR (x.{name} = r.{name} AND {outranks}))"
        return template("alive").format(
            rows=rows, replaced=self.rows(companion), same_key=same_key(table), outranks=outranks
        )

    def after(self, table: Table, since: int, pruning: Pruning | None = None) -> str:
        """SQL of the rows of a table that commits later than a snapshot brought, with ``_v``."""
        late = [one for one in self.segments(table, pruning) if one.max_v > since]
        return f"SELECT * FROM ({narrowed(self, table.name, late).rows(table)}) WHERE _v > {since}"

    def latest(self, pruning: Pruning | None = None) -> str:
        """SQL of the newest metric of each key of ``latest``, with ``open`` and ``_v``."""
        if self.derived is None:
            return template("latest_of_all").format(
                metrics=self.rows(TABLES["metrics"], pruning),
                runs=self.alive(TABLES["runs"]),
                newest=_NEWEST,
                same_key=_SAME_LATEST,
            )
        derived = self.rows(LATEST, pruning)
        if self.latest_is_final:
            return derived
        tail = f"SELECT * FROM {self.tail}" if self.tail else self.latest_tail()
        return template("latest_since").format(
            derived=derived, tail=tail, same_key=_SAME_LATEST, columns=_LATEST_COLUMNS
        )

    def latest_tail(self) -> str:
        """SQL of the rows of ``latest`` whose keys got a metric after what is derived."""
        assert self.derived is not None
        runs = TABLES["runs"]
        return template("latest_tail").format(
            derived=self.rows(LATEST),
            fresh=self.after(TABLES["metrics"], self.derived),
            told=self.after(runs, self.derived),
            runs=self._replace(snapshot=self.derived).alive(runs),
            newest=_NEWEST,
            same_key=_SAME_LATEST,
            columns=_LATEST_COLUMNS,
        )

    @property
    def latest_is_final(self) -> bool:
        """Whether what is derived is the answer as it is."""
        return not self.behind

    @property
    def behind(self) -> bool:
        """Whether anything was written to what ``latest`` is derived from since it was."""
        return self.newest_source > (self.derived or 0)

    @property
    def newest_source(self) -> int:
        """The last commit up to the snapshot, or a little later, that may have changed `latest`."""
        return min(self.snapshot, max(self.state.touched[name] for name in LATEST.derived_from))

    def relabelled(self, since: int) -> str:
        """SQL that counts the runs known at a snapshot whose product has changed since."""
        runs = TABLES["runs"]
        told = self.after(runs, since)
        older = self._replace(snapshot=since).alive(runs)
        return template("latest_relabelled").format(runs=older, told=told)

    def told_late(self, since: int) -> str:
        """SQL that counts the metrics known at a snapshot whose run got its first row, and a product, after it."""
        runs, then = TABLES["runs"], self._replace(snapshot=since)
        return template("latest_late").format(
            metrics=then.rows(TABLES["metrics"]), told=self.after(runs, since), runs=then.rows(runs)
        )

    def view(self, view: View, pruning: Pruning | None = None) -> str:
        """SQL of a view's rows, with ``_v`` and the hidden columns."""
        table = view.table
        match view.shape:
            case "raw":
                return self.rows(table, pruning)
            case "alive":
                return self.alive(table, pruning)
            case "newest":
                return template("newest").format(
                    rows=self.rows(table, pruning), key=", ".join(table.key), rank=", ".join(table.rank)
                )
            case "in_force":
                from store.duck import instant

                return template("in_force").format(rows=self.alive(table, pruning), now=instant(self.now))
            case "latest":
                return self.latest(pruning)
            case "published":
                return self.published(pruning)

    def published(self, pruning: Pruning | None = None, *, known: str = "") -> str:
        """SQL of what was issued, one row each, with ``_v``; of rows that fulfil a further condition."""
        return template("published").format(rows=self.alive(TABLES["forecasts"], pruning), late=_LATE, known=known)

    def definitions(self, names: Iterable[str], prunings: Mapping[str, Pruning] | None = None) -> list[str]:
        """The statements that make these names known; ``prunings`` are for those of which only a part is asked."""
        made = []
        for name in names:
            if name == "forecast_as_of":
                listed = ", ".join(quoted(column) for column in self.view_columns(VIEWS["published"]))
                made.append(template(name).format(columns=listed, rows=self.published(known=_KNOWN_BY)))
                continue
            view = VIEWS[name.removesuffix(WITH_V)]
            columns = [*self.view_columns(view), *(["_v"] if name.endswith(WITH_V) else [])]
            listed = ", ".join(quoted(column) for column in columns)
            rows = self.view(view, prunings.get(name) if prunings else None)
            made.append(f"CREATE TEMP VIEW {quoted(name)} AS SELECT {listed} FROM ({rows})")
        return made


def prunable(name: str) -> tuple[str | None, str | None]:
    """The columns of a view for the entity and for the time by which segments may be left out unread, or None.

    Only columns of the key may: of the others, a row left out could have replaced one that then shows. Nor may the time
    where a view shows the newest of several times.
    """
    view = VIEWS[name.removesuffix(WITH_V)]
    table = view.table
    entity = table.entity if not table.keyed or table.entity in table.key else None
    time = table.time_column if not table.keyed or table.time_column in table.key else None
    return entity, time if view.shape in _EVERY_TIME else None


def narrowed(plan: Plan, table: str, segments: Sequence[Segment]) -> Plan:
    """The plan with only these segments of a table."""
    state = copy(plan.state)
    state.segments = {**state.segments, table: tuple(segments)}
    return plan._replace(state=state)


def _sql_type(table: Table, name: str) -> str:
    column = table.column(name)
    assert column is not None
    return column.sql_type


def same_key(table: Table) -> str:
    """SQL that holds when ``x`` and ``r`` have the same key; NULL equals NULL where the key admits it."""
    tests = []
    for name in table.key:
        equals = "=" if table.by_name[name].required else "IS NOT DISTINCT FROM"
        tests.append(f"x.{quoted(name)} {equals} r.{quoted(name)}")
    return " AND ".join(tests)


def needed(names: Iterable[str]) -> set[str]:
    """The stored tables behind names of views and macros."""
    tables = {TABLES["forecasts"] if name in MACROS else VIEWS[name.removesuffix(WITH_V)].table for name in names}
    tables |= {TABLES[name] for table in tables for name in table.derived_from}
    return {t.name for t in tables} | {t.replaced for t in tables if t.replaced is not None}


def names_in(query: str) -> list[str]:
    """The views and macros that a query mentions.

    >>> names_in("select max(y) from Actuals join assets using (asset_id)")
    ['actuals', 'assets']
    """
    words = {word.lower() for word in _WORD.findall(_AS_TEXT.sub("''", query))}
    if words & _ALL_NAMES:
        words |= VIEWS.keys() | set(MACROS)
    known = [*VIEWS, *MACROS, *(name + WITH_V for name in VIEWS)]
    return sorted(name for name in known if name in words)
