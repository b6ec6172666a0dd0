"""Where an asset has left traces: rows, texts that name it, blobs that only its versions and runs refer to.

A table tells whose a row is by its asset; a row without one belongs to the asset of its run. Rows that belong to nobody
(alerts, jobs, runs over many assets) stay, and the name is taken out of their texts; rows of other assets are never
touched, those that name an erased one are counted. A series that bears an asset's name is its own unless others are
linked to it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from store.catalog import Catalog, Columns, Segment
from store.naming import Redactor
from store.rewriting import groups
from store.schema import STORED, Table

if TYPE_CHECKING:
    import pyarrow as pa

ASSET, RUN, SERIES = "asset_id", "run_id", "series_id"
#: Columns of free text, in which a name may stand.
TEXTS: dict[str, tuple[str, ...]] = {
    "alerts": ("cause", "text"), "alert_actions": ("note",), "deliveries": ("error", "spec"), "job_runs": ("error",),
    "notifications": ("error",), "reports": ("body",), "runs": ("error", "params", "tags"),
}  # fmt: skip
#: Columns that refer to blobs by their hash.
REFERENCES: dict[str, tuple[str, ...]] = {"versions": ("sha256",), "runs": ("params", "tags", "code_version")}
_AT_ONCE = 200
_HASH = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


class Found(NamedTuple):
    """What a segment, or the hot rows of a table, hold of the assets.

    ``rows`` are theirs, in ``texts`` rows of nobody they are named, in ``mentions`` rows of others; ``listed`` says
    that a dictionary has one of them, whether a row uses it or not.
    """

    rows: int = 0
    texts: int = 0
    mentions: int = 0
    listed: bool = False

    @property
    def concerned(self) -> bool:
        """Whether something is to be taken out."""
        return bool(self.rows or self.texts or self.listed)

    def plus(self, other: Found) -> Found:
        """Both together."""
        return Found(
            self.rows + other.rows, self.texts + other.texts, self.mentions + other.mentions,
            self.listed or other.listed,
        )  # fmt: skip


class Traces:
    """Tells what belongs to some assets.

    ``runs`` and ``series`` are the ids of those that are theirs, as far as they are known; ``seen`` are those of the
    assets that had a row.
    """

    def __init__(self, assets: Iterable[str]) -> None:
        self.assets = frozenset(assets)
        self.runs: set[str] = set()
        self.series: set[str] = set()
        self.seen: set[str] = set()
        self.redactor = Redactor(self.assets)
        # Not all in one: a pattern of many thousand names is refused.
        forms = [re.escape(one) for one in self.redactor.forms]
        self._named = ["|".join(forms[at : at + _AT_ONCE]) for at in range(0, len(forms), _AT_ONCE)]

    # ---------------------------------------------------------------- of rows at hand

    def own(self, table: Table, rows: pa.Table) -> pa.ChunkedArray:
        """Which of the rows belong to the assets."""
        import pyarrow.compute as pc

        names = rows.column_names
        if ASSET in names:
            assets = rows.column(ASSET)
            mine = _among(assets, self.assets)
            if RUN not in names or assets.null_count == 0:
                return mine
            return pc.or_(mine, pc.and_(pc.is_null(assets), _among(rows.column(RUN), self.runs)))
        if RUN in names and ASSET in _owners(table):
            return _among(rows.column(RUN), self.runs)
        return _among(rows.column(SERIES), self.series) if SERIES in names else _none(rows)

    def examined(self, table: Table, rows: pa.Table) -> Found:
        """What rows hold of the assets."""
        import pyarrow as pa
        import pyarrow.compute as pc

        mine = self.own(table, rows)
        count = pc.sum(mine).as_py() or 0
        entity = next((name for name in (ASSET, SERIES) if name in rows.column_names), None)
        if count and entity is not None:
            found = pc.unique(rows.column(entity).filter(mine).cast(pa.string())).to_pylist()
            self.seen.update(self.assets.intersection(found))
        named = [self._names(table, name, rows) for name in TEXTS.get(table.name, ()) if name in rows.column_names]
        texts = mentions = 0
        for place in sorted({place for places in named for place in places}):
            if not mine[place].as_py():
                nobody = ASSET not in rows.column_names or not rows.column(ASSET)[place].is_valid
                texts, mentions = texts + nobody, mentions + (not nobody)
        listed = entity is not None and _lists(rows.column(entity), self.assets if entity == ASSET else self.series)
        return Found(count, texts, mentions, listed)

    def without(self, table: Table, rows: pa.Table) -> pa.Table:
        """The rows that are not the assets', and do not name them where they are nobody's."""
        import pyarrow as pa
        import pyarrow.compute as pc

        rows = rows.filter(pc.invert(self.own(table, rows)))
        for name in TEXTS.get(table.name, ()):
            if name in rows.column_names and (places := self._names(table, name, rows)):
                values = rows.column(name).to_pylist()
                for place, text in places.items():
                    if ASSET not in rows.column_names or not rows.column(ASSET)[place].is_valid:
                        values[place] = text
                column = pa.chunked_array([pa.array(values, rows.column(name).type)])
                rows = rows.set_column(rows.column_names.index(name), name, column)
        return rows

    def of_hot(self, table: Table, columns: Columns) -> tuple[list[int], dict[int, dict[str, str]]]:
        """Of hot rows the places of those that go, and by place the new texts of those that stay."""
        import pyarrow.compute as pc

        rows = hot_table_of(table, columns)
        gone = pc.indices_nonzero(self.own(table, rows)).to_pylist()
        new: dict[int, dict[str, str]] = {}
        for name in TEXTS.get(table.name, ()):
            for place, text in self._names(table, name, rows).items():
                if place not in set(gone) and columns.get(ASSET, [None] * rows.num_rows)[place] is None:
                    new.setdefault(place, {})[name] = text
        return gone, new

    def _names(self, table: Table, name: str, rows: pa.Table) -> dict[int, str]:
        """By place the texts of a column that name one of the assets, without the name."""
        import pyarrow as pa
        import pyarrow.compute as pc

        clean = self.redactor.json if table.by_name[name].kind == "json" else self.redactor.text
        texts = rows.column(name).cast(pa.string())
        near = [
            pc.indices_nonzero(pc.fill_null(pc.match_substring_regex(texts, one), False)).to_pylist()
            for one in self._named
        ]
        found = {place: (text := texts[place].as_py(), clean(text)) for places in near for place in places}
        return {place: new for place, (old, new) in found.items() if new != old}


def _lists(values: pa.ChunkedArray, wanted: Collection[str]) -> bool:
    """Whether one of the wanted texts is among the values, or in their dictionary without being used."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types as t

    ids = pa.array(sorted(wanted), pa.string())
    held = [one.dictionary for one in values.chunks] if t.is_dictionary(values.type) else [values]
    return any(pc.any(pc.is_in(one, value_set=ids)).as_py() for one in held)


def _among(values: pa.ChunkedArray, wanted: Collection[str]) -> pa.ChunkedArray:
    """Which of the values are one of the wanted texts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not _lists(values, wanted):  # most row groups: their rows need not be looked at
        return pa.chunked_array([pa.repeat(pa.scalar(False), len(values))])
    return pc.is_in(values.cast(pa.string()), value_set=pa.array(sorted(wanted), pa.string()))


def _none(rows: pa.Table) -> pa.ChunkedArray:
    import pyarrow as pa

    return pa.chunked_array([pa.repeat(pa.scalar(False), rows.num_rows)])


def _owners(table: Table) -> tuple[str, ...]:
    """The columns that say whose the rows are, of the table that a companion speaks of."""
    return STORED[table.name.partition("__")[0]].names


def looked_at(table: Table) -> tuple[str, ...]:
    """The columns in which a table's rows may tell of an asset, whose sizes matter: no more are read."""
    names = []
    if ASSET in table.by_name:
        names.append(ASSET)
    if RUN in table.by_name and ASSET in _owners(table) and not (ASSET in names and table.by_name[ASSET].required):
        names.append(RUN)
    if table.entity == SERIES:
        names.append(SERIES)
    return (*names, *TEXTS.get(table.name, ()))


class Survey:
    """What the store holds of some assets; what a segment holds is looked up once.

    ``head`` is the snapshot at which it is complete, ``held`` the segments of each table, ``found`` what they hold.
    """

    def __init__(self, folder: Path, catalog: Catalog, assets: Iterable[str], *, series: bool = False) -> None:
        self._folder, self._catalog, self._all_series = folder, catalog, series
        self.traces = Traces(assets)
        self.head = 0
        self.held: dict[str, tuple[Segment, ...]] = {}
        self.hot: dict[str, Columns] = {}
        self.found: dict[str, Found] = {}
        #: Series that stay although only the assets are linked to them, or although they bear the name of one.
        self.series: list[str] = []

    def look(self) -> None:
        """Look at everything that has come since the last time."""
        state = self._catalog.state(STORED)
        self.head, self.held = state.head, state.segments
        self.hot = {name: self._catalog.hot_rows(name)[1] for name in STORED if state.hot_count[name]}
        # Runs first: other tables know some of their rows by the run alone.
        known = len(self.traces.runs) + len(self.traces.series)
        self._settle_series()
        for mine, _ in self.parted("runs", (ASSET, RUN)):
            self.traces.runs.update(mine.column(RUN).to_pylist() if RUN in mine.column_names else ())
        if len(self.traces.runs) + len(self.traces.series) > known:
            self.found = {}
        for segments in self.held.values():
            for one in segments:
                if one.id not in self.found:
                    self.found[one.id] = self._examined(one)

    def _examined(self, segment: Segment) -> Found:
        table, found = STORED[segment.table], Found()
        for rows in groups(self._folder, segment, looked_at(table), [ASSET, SERIES]):
            found = found.plus(self.traces.examined(table, rows))
        return found

    def found_in(self, name: str) -> Found:
        """What a table holds."""
        found = self.hot_found(name)
        for one in self.held[name]:
            found = found.plus(self.found[one.id])
        return found

    def hot_found(self, name: str) -> Found:
        """What the hot rows of a table hold."""
        rows = hot_table_of(STORED[name], self.hot.get(name, {}))
        return self.traces.examined(STORED[name], rows) if rows.num_rows else Found()

    def parted(self, name: str, columns: Iterable[str]) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Rows of a table, piece by piece: those of the assets, and the others."""
        import pyarrow.compute as pc

        table = STORED[name]
        wanted = tuple(dict.fromkeys((*looked_at(table), *columns)))
        cold = (rows for one in self.held[name] for rows in groups(self._folder, one, wanted))
        for rows in chain(cold, [hot_table_of(table, self.hot.get(name, {}), wanted)]):
            mine = self.traces.own(table, rows)
            yield rows.filter(mine), rows.filter(pc.invert(mine))

    def blobs(self) -> tuple[set[str], set[str]]:
        """The hashes that the assets' rows refer to: those that nobody else does, and those that others do too."""
        mine: set[str] = set()
        for name, columns in REFERENCES.items():
            for own, _ in self.parted(name, columns):
                mine |= referred(own, columns)
        if not mine:
            return set(), set()
        shared: set[str] = set()
        for name, columns in REFERENCES.items():
            for _, others in self.parted(name, columns):
                shared |= referred(others, columns) & mine
        return mine - shared, shared

    def _settle_series(self) -> None:
        """Which series are the assets' own, and which stay."""
        mine: set[str] = set()
        rest: set[str] = set()
        for own, others in self.parted("links", (SERIES,)):
            for ids, rows in ((mine, own), (rest, others)):
                ids.update(rows.column(SERIES).to_pylist() if SERIES in rows.column_names else ())
        named = set(self.traces.assets)
        self.traces.series |= ((mine | named) if self._all_series else named) - rest
        self.series = sorted(((mine - rest) | (named & rest)) - self.traces.series)


def referred(rows: pa.Table, columns: Iterable[str]) -> set[str]:
    """The hashes that stand in some columns."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found: set[str] = set()
    for name in columns:
        if name in rows.column_names:
            texts = rows.column(name).cast(pa.string())
            for text in pc.unique(texts.filter(pc.match_substring_regex(texts, "[0-9a-f]{64}"))).to_pylist():
                found.update(_HASH.findall(text or ""))
    return found


def hot_table_of(table: Table, columns: Columns, names: Iterable[str] | None = None) -> pa.Table:
    """Text columns of hot rows as Arrow, those in which an asset may be told of unless others are named."""
    import pyarrow as pa

    wanted = looked_at(table) if names is None else names
    return pa.table({name: pa.array(columns[name], pa.string()) for name in wanted if name in columns})
