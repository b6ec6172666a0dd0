"""Merging: many small segments of a table become few, partitioned by its year or month, sorted, with a physical ``_v``.

Level 0 (a commit's own) and level 1 (flushed) lie anywhere in time; from level 2 on a segment belongs to one partition.
Eight runs of a level become one of the next, so a row is written at most three times more, and no answer changes. A
merge may fold: leave out rows that were superseded up to a bound, which only snapshots before it could still tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from itertools import accumulate, groupby, pairwise
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from store.catalog import Segment, quoted
from store.damage import listed, wrong_segment
from store.errors import Damaged
from store.planning import Plan, narrowed, same_key, template
from store.reading import Asking, Reader
from store.schema import STORED, VIEWS, Table
from store.segments import ROW_GROUP, Run, run_of

if TYPE_CHECKING:
    import pyarrow as pa

FAN_IN = 8
#: Level 2 is the first with partitions, level 4 the last: one commit, one flush or none, three merges.
FIRST, LAST = 2, 4
#: A partition that holds more segments than this is merged from its smallest upward until it holds about half.
MOST_SEGMENTS = 20
TARGET_BYTES = 128 << 20
TARGET_ROWS = 16_000_000
#: A piece grows beyond the target where the partition would otherwise fall into more than this many.
_PIECES = 3
#: So many rows are sorted at a time: within the memory that upkeep has, so that nothing is spilled.
PART_ROWS = 1_000_000
_DAY = 86_400_000_000

#: Tables whose superseded rows some view shows: they keep them for ever.
HISTORIES = frozenset(view.table.name for view in VIEWS.values() if view.shape in ("raw", "newest"))
#: What was issued is kept although it was issued again; only an expiry ends it.
ISSUED = frozenset({"forecasts"})


class Merge(NamedTuple):
    """Segments of one table to be merged, and the level of what comes out."""

    table: str
    inputs: tuple[Segment, ...]
    level: int

    @property
    def bytes(self) -> int:
        return sum(one.bytes for one in self.inputs)


class Part(NamedTuple):
    """Rows that a merge sorts at a time, as a condition and what is bound in it."""

    where: str
    params: Mapping[str, str] = MappingProxyType({})


class Merged(NamedTuple):
    """What a merge wrote, how many rows it left out, and from which snapshot on nobody misses them."""

    made: tuple[Segment, ...]
    dropped: int
    whole_from: int


def period(table: Table, micros: int | None) -> int | None:
    """The number of the year or month to which an instant belongs, None where there are no partitions.

    >>> period(STORED["actuals"], 0), period(STORED["metrics"], 0), period(STORED["runs"], 0)
    (1970, 23640, None)
    """
    if table.partition is None or micros is None:
        return None
    days = min(max(micros // _DAY + date(1970, 1, 1).toordinal(), 1), date.max.toordinal())
    at = date.min + timedelta(days=days - 1)
    return at.year if table.partition == "year" else at.year * 12 + at.month - 1


def partitions(table: Table, segments: Iterable[Segment]) -> dict[int | None, list[Segment]]:
    """The partitioned segments of a table by their year or month."""
    found: dict[int | None, list[Segment]] = {}
    for one in segments:
        if one.level >= FIRST:
            found.setdefault(period(table, one.min_time), []).append(one)
    return found


def due(
    table: Table, segments: Sequence[Segment], *, most_bytes: int | None = None, thorough: bool = False
) -> Merge | None:
    """The next merge that a table wants; of several the one nearest to the commits.

    Args:
        table: that is looked at.
        segments: all it has.
        most_bytes: leave alone what would read more; None for no bound.
        thorough: also where fewer lie anywhere in time than make a merge, but so many rows that questions feel it: one
            about a time reads them all, and files with and without a physical ``_v`` are two scans to any question (a
            count over 10 million rows took 10 ms so, and 5 after). Nor are there two files of a partition that one of
            the target size could hold: an asset's rows lie in each of them (seven assets over two months of 50 million
            rows took 1.5 times as long). A call writes at most a target's worth of bytes again for each partition.
    """
    loose = _fitting([one for one in segments if one.level < FIRST], most_bytes)
    wanted = []
    apart = len(segments) > 1 or _strewn(table, loose)
    if len(_runs(loose)) >= FAN_IN or (thorough and apart and sum(one.rows for one in loose) >= ROW_GROUP):
        wanted.append(Merge(table.name, tuple(loose), FIRST))
    for held in partitions(table, segments).values():
        for level in range(FIRST, LAST):
            if len(_runs(one for one in held if one.level == level)) >= FAN_IN:
                wanted.append(Merge(table.name, tuple(one for one in held if one.level <= level), level + 1))
                break
        else:
            if len(held) > MOST_SEGMENTS:
                smallest = sorted(held, key=lambda one: one.bytes)[: len(held) - MOST_SEGMENTS // 2 + 1]
                wanted.append(_within(table, smallest))
            elif thorough and len(_runs(small := _together(held))) > 1 and sum(one.rows for one in small) >= ROW_GROUP:
                wanted.append(_within(table, small))
    fits = (one for one in wanted if most_bytes is None or one.bytes <= most_bytes)
    return next(fits, None)


def _fitting(segments: list[Segment], most_bytes: int | None) -> list[Segment]:
    """All of them, or the smallest that may be read: a large one must not keep the others waiting."""
    if most_bytes is None or sum(one.bytes for one in segments) <= most_bytes:
        return segments
    ordered = sorted(segments, key=lambda one: one.bytes)
    within = accumulate(one.bytes for one in ordered)
    return [one for one, total in zip(ordered, within, strict=True) if total <= most_bytes]


def _within(table: Table, segments: Sequence[Segment]) -> Merge:
    """A merge that stays on its level."""
    return Merge(table.name, tuple(segments), max(one.level for one in segments))


def _together(segments: Iterable[Segment]) -> list[Segment]:
    """The runs of a partition, the smallest first, that fit into one segment of the target size."""
    found: list[Segment] = []
    by_run = [list(run) for _, run in groupby(sorted(segments, key=run_of), key=run_of)]
    for run in sorted(by_run, key=lambda run: sum(one.bytes for one in run)):
        if sum(one.bytes for one in (*found, *run)) > TARGET_BYTES:
            break
        found += run
    return found


def _strewn(table: Table, segments: Iterable[Segment]) -> bool:
    """Whether segments hold more than one partition, all together."""
    ends = {period(table, at) for one in segments for at in (one.min_time, one.max_time)}
    return len(ends) > 1


def _runs(segments: Iterable[Segment]) -> set[str]:
    return {run_of(one) for one in segments}


# ------------------------------------------------------------------------------------------------------- doing it


def folds(table: Table, *, thorough: bool = False) -> bool:
    """Whether superseded rows of a table may go; ``thorough`` when snapshots are ended on purpose."""
    return table.replaced is not None and table.name not in HISTORIES and (thorough or table.name not in ISSUED)


def merge(reader: Reader, asked: Merge, *, fold: int | None, thorough: bool = False) -> Merged:
    """Write the merged segments; the caller puts them in the place of the old ones.

    Args:
        reader: asks about the store; its memory is bounded, for a merge may be larger.
        asked: what to merge.
        fold: leave out rows superseded up to this snapshot; None for none.
        thorough: also where they are kept as a rule.
    """
    table = STORED[asked.table]
    return reader.answer(lambda asking: _merge(asking, table, asked, fold if folds(table, thorough=thorough) else None))


def _merge(asking: Asking, table: Table, asked: Merge, fold: int | None) -> Merged:
    plan = asking.plan([table.name, *([table.replaced] if fold is not None and table.replaced else [])], None)
    check(plan, asked.inputs)
    rows = cold(plan, asked.inputs).rows(table)
    whole_from = 0
    if fold is not None:
        whole_from = _newest_companion(asking, plan, table, fold)
        if whole_from:
            rows = template("fold").format(rows=rows, dead=_dead(plan, table, fold), same_key=same_key(table))
    made = _written(asking, table, asked, rows, plan)
    dropped = sum(one.rows for one in asked.inputs) - sum(one.rows for one in made)
    return Merged(made, dropped, whole_from if dropped else 0)


def check(plan: Plan, inputs: Sequence[Segment]) -> None:
    """Refuse damaged segments: what they hold would get a new hash, and nobody would find it any more."""
    wrong = [damage for one in inputs if (damage := wrong_segment(plan.folder, one)) is not None]
    if wrong:
        raise Damaged(f"{plan.folder} is damaged: {listed(wrong)}", hint="restore it from a backup")


def merge_companions(reader: Reader, table: Table, inputs: Sequence[Segment]) -> Merged:
    """The companion rows of a table in these segments without those that speak of no row any more."""

    def ask(asking: Asking) -> Merged:
        assert table.replaced is not None
        companion = STORED[table.replaced]
        plan = asking.plan([table.name, companion.name], None)
        check(plan, inputs)
        rows = template("spoken").format(
            replaced=cold(plan, inputs).rows(companion),
            rows=plan.rows(table),
            listed=", ".join(f"x.{quoted(name)}" for name in table.key),
            same_key=same_key(table),
        )
        asked = Merge(companion.name, tuple(inputs), max(FIRST, *(one.level for one in inputs)))
        made = _written(asking, companion, asked, rows, plan)
        return Merged(made, sum(one.rows for one in inputs) - sum(one.rows for one in made), 0)

    return reader.answer(ask)


def superseded(reader: Reader, table: Table, segments: Sequence[Segment], bound: int) -> dict[str, int]:
    """How many rows of each segment were superseded up to a snapshot; segments without such rows are left out."""

    def ask(asking: Asking) -> dict[str, int]:
        assert table.replaced is not None
        plan = asking.plan([table.name, table.replaced], None)
        if not _newest_companion(asking, plan, table, bound):
            return {}
        dead = _dead(plan, table, bound)
        found = {}
        for one in segments:
            question = asking.engine.cursor()
            rows = cold(plan, [one]).rows(table)
            same = f"{same_key(table)} AND x.below__ > r._v"
            query = f"SELECT count(*) AS n FROM ({rows}) AS r SEMI JOIN ({dead}) AS x ON ({same})"
            count = question.arrow(query).column("n")[0].as_py()
            if count:
                found[one.id] = count
        return found

    return reader.answer(ask)


def cold(plan: Plan, segments: Sequence[Segment]) -> Plan:
    """The plan over these segments of one table alone, without its hot rows."""
    name = segments[0].table
    return narrowed(plan, name, segments)._replace(hot={key: value for key, value in plan.hot.items() if key != name})


def _newest_companion(asking: Asking, plan: Plan, table: Table, bound: int) -> int:
    assert table.replaced is not None
    rows = plan.rows(STORED[table.replaced])
    query = f"SELECT coalesce(max(_v), 0) AS newest FROM ({rows}) WHERE _v <= {bound}"
    return int(asking.engine.cursor().arrow(query).column("newest")[0].as_py())


def _dead(plan: Plan, table: Table, bound: int) -> str:
    assert table.replaced is not None
    key = ", ".join(map(quoted, table.key))
    return template("dead").format(key=key, replaced=plan.rows(STORED[table.replaced]), bound=bound)


def _written(asking: Asking, table: Table, asked: Merge, rows: str, plan: Plan) -> tuple[Segment, ...]:
    """Rows sorted by DuckDB, which spills what it cannot keep, and streamed into new segments."""
    import pyarrow as pa

    present = {name for one in asked.inputs for name in one.columns}
    names = [name for name in plan.columns(table) if name in present]
    order = ["period__", *table.sort, "_v"]
    schema = _schema(table, names)
    share = _pieces(table, asked.inputs, plan.state.segments[table.name])
    most = {"most_bytes": max(TARGET_BYTES, share[0]), "most_rows": max(TARGET_ROWS, share[1])}
    with Run(plan.folder, table, schema, level=asked.level, **most) as run:
        for part in _parts(asking, table, asked, plan):
            query = template("merge").format(
                columns=", ".join(map(quoted, names)),
                rows=rows,
                period=_period_sql(table),
                part=part.where,
                order=", ".join(f"{quoted(name)} NULLS FIRST" for name in order),
            )
            for batch in asking.engine.cursor().stream(query, ROW_GROUP, part.params):
                for value, stretch in _by_period(pa.Table.from_batches([batch])):
                    run.add(value, stretch.cast(schema))
    return tuple(run.made)


def _parts(asking: Asking, table: Table, asked: Merge, plan: Plan) -> Sequence[Part]:
    """What a merge sorts at a time, in the order in which it is written."""
    entity = table.entity if table.sort[:1] == (table.entity,) else None
    if entity is None or sum(one.rows for one in asked.inputs) <= PART_ROWS:
        return [Part("true")]
    query = template("parts").format(
        period=_period_sql(table), entity=quoted(entity), rows=cold(plan, asked.inputs).rows(table)
    )
    counted = asking.engine.cursor().arrow(query)
    rows = zip(*(counted.column(name).to_pylist() for name in ("period__", "entity__", "n")), strict=True)
    return list(cut(rows, period=_period_sql(table), entity=quoted(entity)))


def cut(counted: Iterable[tuple[int | None, str | None, int]], *, period: str, entity: str) -> Iterable[Part]:
    """Parts of few rows: several partitions together, or some assets of one.

    Args:
        counted: (partition, asset, rows), in the order of a merge, NULL first.
        period, entity: SQL of both.
    """
    together: list[int | None] = []
    rows = 0
    for value, group in groupby(counted, key=itemgetter(0)):
        held = [(one, count) for _, one, count in group]
        total = sum(count for _, count in held)
        if together and rows + total > PART_ROWS:
            yield Part(_between(period, together[0], together[-1]))
            together, rows = [], 0
        if total <= PART_ROWS:
            together.append(value)
            rows += total
        else:
            yield from _cut_by_asset(held, _between(period, value, value), entity)
    if together:
        yield Part(_between(period, together[0], together[-1]))


def _between(period: str, first: int | None, last: int | None) -> str:
    if last is None:
        return f"{period} IS NULL"
    return f"({period} IS NULL OR {period} <= {last})" if first is None else f"{period} BETWEEN {first} AND {last}"


def _cut_by_asset(held: Sequence[tuple[str | None, int]], where: str, entity: str) -> Iterable[Part]:
    starts: list[str | None] = []
    rows = 0
    for one, count in held:
        if one is not None and rows and rows + count > PART_ROWS:
            starts.append(one)
            rows = 0
        rows += count
    for low, high in pairwise([None, *starts, None]):
        tests = [where]
        if high is not None:
            tests.append(f"({entity} < $high OR {entity} IS NULL)" if low is None else f"{entity} < $high")
        if low is not None:
            tests.append(f"{entity} >= $low")
        params = {name: text for name, text in (("low", low), ("high", high)) if text is not None}
        yield Part(" AND ".join(tests), params)


def _pieces(table: Table, inputs: Sequence[Segment], segments: Sequence[Segment]) -> tuple[int, int]:
    """(bytes, rows) that a piece may have so that no partition it comes to falls into too many."""
    spans = [
        at for one in inputs for at in (period(table, one.min_time), period(table, one.max_time)) if at is not None
    ]
    first, last = (min(spans), max(spans)) if spans else (None, None)
    known = {one.id for one in inputs}
    beside = [
        one
        for at, held in partitions(table, segments).items()
        if at is None or first is None or last is None or first <= at <= last
        for one in held
        if one.id not in known
    ]
    parts = _PIECES * (1 if first is None or last is None else last - first + 1)
    together = [*inputs, *beside]
    return sum(one.bytes for one in together) // parts, sum(one.rows for one in together) // parts


def _schema(table: Table, names: Sequence[str]) -> pa.Schema:
    import pyarrow as pa

    from store.schema import arrow_type

    kinds = [table.column(name) for name in names]
    fields = [pa.field(column.name, arrow_type(column.kind)) for column in kinds if column is not None]
    return pa.schema([*fields, pa.field("_v", pa.int64())])


def _period_sql(table: Table) -> str:
    name = table.time_column
    if table.partition is None or name is None:
        return "CAST(NULL AS BIGINT)"
    # Of a plain timestamp: the calendar of one with a zone is a hundred times slower.
    at = quoted(name) if table.by_name[name].kind == "date" else f"make_timestamp(epoch_us({quoted(name)}))"
    whole = f"year({at})" if table.partition == "year" else f"year({at}) * 12 + month({at}) - 1"
    return f"CAST({whole} AS BIGINT)"


def _by_period(rows: pa.Table) -> Iterable[tuple[int | None, pa.Table]]:
    """The stretches of rows of one partition, without the column that says which."""
    import pyarrow.compute as pc

    periods = rows.column("period__")
    rest = rows.drop_columns("period__")
    start = 0
    while start < rest.num_rows:
        value = periods[start].as_py()
        ahead = periods.slice(start)
        other = pc.is_valid(ahead) if value is None else pc.not_equal(ahead, value)
        found = pc.index(other, value=True).as_py()
        stop = rest.num_rows if found < 0 else start + found
        yield value, rest.slice(start, stop - start)
        start = stop
