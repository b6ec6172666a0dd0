"""Questions at a snapshot: which rows of which files a name stands for, and the answers.

A snapshot is a number. Every question reads the catalog once, shortly, and from then on stands on what it read: the
segments and hot rows of today, of which it shows those with ``_v`` up to its number. Only names that a query uses
become views.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from store.catalog import Catalog, Segment, State
from store.clock import Clock, to_micros
from store.errors import Damaged, NotFound, QueryInvalid
from store.files import segment_file
from store.planning import Plan, names_in, needed, prunable
from store.readers import Presence
from store.schema import DERIVED, LATEST, MACROS, REPLACED, VIEWS
from store.selecting import Selection, prunings

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from store.damage import Damage
    from store.duck import Engine, Held, Params

#: So much is read at most to find out which segment a question stumbled over.
_SEARCHED_BYTES = 2 << 30
_READ_THE_REST = (
    "restore it from a backup (`tsfleet store restore`), or read the rest with Store.open(..., skip_damaged=True)"
)

T = TypeVar("T")


class Result:
    """The rows of one answer, in the form that is asked for.

    ``missing`` names the damaged segments that were left out, in a store opened with ``skip_damaged``.
    """

    def __init__(
        self, *, arrow: pa.Table | None = None, held: Held | None = None, missing: tuple[Damage, ...] = ()
    ) -> None:
        self._arrow, self._held, self.missing = arrow, held, missing

    def arrow(self) -> pa.Table:
        """As an Arrow table."""
        if self._arrow is None:
            assert self._held is not None
            self._arrow = _tidy(self._held.arrow())
            self._held = None
        return self._arrow

    def df(self) -> pd.DataFrame:
        """As a pandas DataFrame."""
        frame: pd.DataFrame = self.arrow().to_pandas()
        return frame

    def rows(self) -> list[dict[str, Any]]:
        """As a list of dicts of Python values."""
        if self._arrow is None and self._held is not None:
            plain = self._held.plain()
            if plain is not None:
                names, rows = plain
                return [dict(zip(names, row, strict=True)) for row in rows]
        try:
            listed: list[dict[str, Any]] = self.arrow().to_pylist()
        except OverflowError as cause:
            raise QueryInvalid(
                "an instant of the answer lies beyond the years 1 to 9999", hint="cast the column to VARCHAR"
            ) from cause
        return listed

    def __len__(self) -> int:
        return int(self.arrow().num_rows)

    def __repr__(self) -> str:
        table = self.arrow()
        from store.damage import listed

        less = f"; without {listed(self.missing)}" if self.missing else ""
        return f"Result({table.num_rows} rows: {', '.join(table.column_names)}{less})"


def _tidy(table: pa.Table) -> pa.Table:
    """Sums of whole numbers come as decimals of 38 digits; as int64 where they fit, they are numbers again."""
    import pyarrow as pa
    from pyarrow import types as t

    for place, field in enumerate(table.schema):
        if t.is_decimal(field.type) and field.type.scale == 0 and field.type.precision == 38:
            try:
                whole = table.column(place).cast(pa.int64())
            except pa.ArrowInvalid:
                continue
            table = table.set_column(place, field.name, whole)
    return table


class Reader:
    """What snapshots share: the catalog, DuckDB when first needed, the clock, and being seen by upkeep.

    ``memory`` bounds, in bytes, what DuckDB keeps before it spills; None leaves it DuckDB's default. ``skip_damaged``
    checks each segment against its hash before the first question that needs it, and leaves the damaged ones out.
    """

    def __init__(
        self,
        folder: Path,
        catalog: Catalog,
        clock: Clock,
        *,
        memory: int | None = None,
        skip_damaged: bool = False,
    ) -> None:
        self.folder, self.catalog, self.clock = folder.absolute(), catalog, clock
        self._memory = memory
        self._skip_damaged = skip_damaged
        self._checked: dict[str, Damage | None] = {}
        #: The derived segment and the newest commit to runs last looked at: had every run still its product?
        self._products: tuple[str, int, bool] = ("", 0, True)
        self._engine: Engine | None = None
        self._engine_lock = threading.Lock()
        self._presence = Presence(self.folder)

    @property
    def engine(self) -> Engine:
        with self._engine_lock:
            if self._engine is None:
                from store.duck import Engine

                self._engine = Engine(self.folder, memory=self._memory)
            return self._engine

    def close(self) -> None:
        with self._engine_lock:
            if self._engine is not None:
                self._engine.close()
                self._engine = None
        self._presence.close()

    def answer(self, attempt: Callable[[Asking], T]) -> T:
        """What an attempt at a question returns; tried once more when a merge took away a file it was planned over."""
        engine = self.engine
        with self._presence.reading() as question, engine.running():
            asking = Asking(self, engine, question, [])
            try:
                return attempt(asking)
            except Damaged as error:
                # Only who cannot be seen by upkeep comes to this: a folder that is not writable, or a day's question.
                if not asking.outdated():
                    found = self._culprits(asking, error.message)
                    if not found:
                        raise
                    if found := self._not_derived(found):
                        from store.damage import listed

                        raise Damaged(f"{self.folder} is damaged: {listed(found)}", hint=_READ_THE_REST) from error
            return attempt(asking)

    @contextmanager
    def standing(self, tables: Iterable[str]) -> Iterator[State]:
        """What the catalog names for these tables now; none of the files is deleted while the block runs."""
        with self._presence.reading() as question:
            state = self.catalog.state(tables)
            self._presence.stand(question, state.generation)
            yield state

    def _culprits(self, asking: Asking, told: str) -> list[Damage]:
        """The segments of the newest plan that are damaged: the one that an error names, else those a search finds."""
        from store.damage import of_segment, wrong_segment

        planned = [one for held in asking.plans[-1].state.segments.values() for one in held] if asking.plans else []
        named = [one for one in planned if str(segment_file(self.folder, one.table, one.id)) in told]
        found, room = [], _SEARCHED_BYTES
        for one in named or planned:
            room -= one.bytes
            if room < 0 and not named:
                break
            if (damage := wrong_segment(self.folder, one)) is not None:
                found.append(damage)
        return found or [of_segment(self.folder, one, told) for one in named]

    def _not_derived(self, found: list[Damage]) -> list[Damage]:
        """The damages that matter: a derived segment is not used any more, and the question is asked again."""
        self._checked |= {one.path.stem: one for one in found if one.table in DERIVED}
        return [one for one in found if one.table not in DERIVED]

    def _derived(self, engine: Engine, plan: Plan) -> int | None:
        """The snapshot up to which `latest` has been derived, None where this plan has to ask all metrics.

        That is so at an older snapshot, over damage (each file is checked against its hash before it is first used),
        and when a run whose metrics it knew has got another product, or its first: they have to move.
        """
        segments = plan.state.segments[LATEST.name]
        if not segments or self._skip_damaged:
            return None
        since = segments[0].max_v
        if since > plan.snapshot or not all(self._is_sound(one) for one in segments):
            return None
        newest = plan.state.touched["runs"]
        if newest > since and self._products[:2] != (segments[0].id, newest):
            now = plan._replace(snapshot=plan.state.head)
            asked = [now.relabelled(since)] if plan.state.touched["runs" + REPLACED] > since else []
            if any("open" in one.columns for one in segments):
                asked.append(now.told_late(since))
            moved = any(engine.cursor().arrow(one).column("n")[0].as_py() for one in asked)
            self._products = (segments[0].id, newest, not moved)
        return since if newest <= since or self._products[2] else None

    def _is_sound(self, segment: Segment) -> bool:
        if segment.id not in self._checked:
            from store.damage import wrong_segment

            self._checked[segment.id] = wrong_segment(self.folder, segment)
        return self._checked[segment.id] is None

    def _sound(self, state: State) -> tuple[Damage, ...]:
        """Take damaged segments out of a state; what they were."""
        missing = []
        for table, segments in state.segments.items():
            state.segments[table] = tuple(one for one in segments if self._is_sound(one))
            missing += [damage for one in segments if (damage := self._checked[one.id]) is not None]
        return tuple(one for one in missing if one.table not in DERIVED)

    def plan(self, engine: Engine, question: object, tables: Iterable[str], snapshot: int | None) -> Plan:
        """See :meth:`Asking.plan`."""
        names = sorted(tables)
        with engine.planning:
            state = self.catalog.state(names, loaded=engine.loaded())
            hot = engine.absorb(state)
        self._presence.stand(question, state.generation)
        if snapshot is not None and state.oldest:
            self.catalog.admit(snapshot, state.oldest, ("", *names))
        missing = self._sound(state) if self._skip_damaged else ()
        return Plan(
            folder=self.folder,
            snapshot=state.head if snapshot is None else snapshot,
            state=state,
            hot=hot,
            now=to_micros(self.clock.now()),
            missing=missing,
        )

    def with_derived(self, engine: Engine, plan: Plan) -> Plan:
        """A plan that stands on what is derived, as far as that goes."""
        segments = plan.state.segments.get(LATEST.name)
        if not segments:
            return plan
        plan = plan._replace(derived=self._derived(engine, plan))
        if plan.derived is None or plan.latest_is_final:
            return plan
        return plan._replace(tail=engine.tail((segments[0].id, plan.newest_source), plan.latest_tail))


class Asking(NamedTuple):
    """One question while it runs: the files of its plans stay until it ends."""

    reader: Reader
    engine: Engine
    question: object
    plans: list[Plan]

    def plan(self, tables: Iterable[str], snapshot: int | None) -> Plan:
        """One reading of the catalog for these tables, hot rows brought up to date.

        Raises:
            SnapshotExpired: a table is not whole at the snapshot any more.
        """
        plan = self.reader.plan(self.engine, self.question, tables, snapshot)
        self.plans.append(plan)  # before files are read: an error finds them here
        return self.reader.with_derived(self.engine, plan)

    def outdated(self) -> bool:
        """Whether the newest plan names a segment that the catalog names no more."""
        if not self.plans:
            return False
        planned = self.plans[-1].state.segments
        now = self.reader.catalog.state(planned).segments
        return any(set(segments) - set(now[table]) for table, segments in planned.items())


class Snapshot:
    """The store as one commit left it; later commits do not show."""

    def __init__(self, reader: Reader, snapshot: int, guard: Any) -> None:
        self._reader, self.id, self._guard = reader, snapshot, guard

    def __repr__(self) -> str:
        return f"Snapshot({self.id})"

    def mark(self, name: str) -> str | None:
        """The value of a watermark at this snapshot, None before it was first set."""
        self._guard()
        return self._reader.catalog.mark(name, self.id)

    def sql(self, query: str, params: Params = None, tables: Mapping[str, pa.Table] | None = None) -> Result:
        """The answer to one SELECT over the views.

        A WHERE that compares the asset or the time of a view with something constant leaves the other segments unread.

        Args:
            query: SQL; ``?`` or ``$name`` stand for parameters.
            params: a list for ``?``, a mapping for ``$name``.
            tables: Arrow tables of the caller's that the query may name.

        Raises:
            QueryInvalid: on one line, what DuckDB makes of the query.
        """
        self._guard()
        given = tables or {}
        names = [name for name in names_in(query) if name not in given]

        def ask(asking: Asking) -> Result:
            question = asking.engine.cursor()
            checked = question.check(query, {name: prunable(name) for name in names_in(query) if name not in MACROS})
            missing: tuple[Damage, ...] = ()
            if names:
                plan = asking.plan(needed(names), self.id)
                missing = plan.missing
                question.define(plan.definitions(names, prunings(question.narrowing(checked, params))))
            for name, table in given.items():
                question.register(name, table)
            if "pyarrow" in sys.modules:
                return Result(arrow=_tidy(question.arrow(checked.query, params)), missing=missing)
            return Result(held=question.held(checked.query, params), missing=missing)

        return self._reader.answer(ask)

    def table(
        self,
        name: str,
        *,
        assets: Sequence[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        columns: Sequence[str] | None = None,
        where: Mapping[str, str | Sequence[str]] | None = None,
    ) -> pa.Table:
        """Rows of a view, in its sort order.

        Args:
            name: of the view.
            assets: only these; for series, their series ids.
            since: only rows whose time column is at or after this.
            until: only rows whose time column is before this.
            columns: these, in this order; may name ``_v``.
            where: column to one text or several, any of which it may equal.

        Returns:
            The rows; where damaged segments were left out, the schema's metadata names them under ``missing``.
        """
        self._guard()
        view = VIEWS.get(name)
        if view is None:
            raise NotFound(f"there is no view {name!r}", hint=f"there are {', '.join(sorted(VIEWS))}")

        def ask(asking: Asking) -> pa.Table:
            from store.straight import straight

            plan = asking.plan(needed([name]), self.id)
            selection, question = Selection(plan, view, assets, since, until, columns, where), asking.engine.cursor()
            try:
                rows = straight(selection, question)
                if rows is None:
                    rows = question.arrow(selection.sql(question))
            except QueryInvalid as cause:  # the query is our own: only what it stands on can be wrong
                raise Damaged(f"a segment cannot be read: {cause.message}", hint=cause.hint) from cause
            if not plan.missing:
                return rows
            from store.damage import listed

            return rows.replace_schema_metadata({"missing": listed(plan.missing)})

        return self._reader.answer(ask)
