"""Which rows are asked for: the SQL of one ``table`` call, and what the WHERE of a free question leaves unread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from datetime import datetime
from typing import TYPE_CHECKING

from store.catalog import quoted
from store.clock import to_micros
from store.errors import SchemaMismatch
from store.ids import check_asset_id
from store.planning import Plan, Pruning, narrowed, prunable
from store.schema import View

if TYPE_CHECKING:
    from store.duck import Question
    from store.tree import Said

#: Assets that are named one by one.
FEW = 64
#: A WHERE may compare instants with dates, or with the time of a moment ago: its bounds are taken two days wider.
_WIDER = 2 * 86_400_000_000


def prunings(told: Iterable[tuple[Said, list[int] | list[str]]]) -> dict[str, Pruning]:
    """By view, what need not be read for a question whose WHERE says this.

    >>> from store.tree import Said
    >>> prunings([(Said("metrics", "among", ()), ["b", "a"])])["metrics"].among
    ('a', 'b')
    """
    found: dict[str, Pruning] = {}
    for said, values in told:
        before = found.get(said.view, Pruning())
        if said.how == "among":
            listed = {str(value) for value in values}
            both = listed if before.among is None else listed & set(before.among)
            found[said.view] = before._replace(among=tuple(sorted(both)))
        elif said.how == "from":
            since = max(int(value) for value in values) - _WIDER
            found[said.view] = before._replace(since=since if before.since is None else max(since, before.since))
        else:
            until = min(int(value) for value in values) + _WIDER
            found[said.view] = before._replace(until=until if before.until is None else min(until, before.until))
    return found


class Selection:
    """The SQL of one ``table`` call."""

    def __init__(
        self,
        plan: Plan,
        view: View,
        assets: Sequence[str] | None,
        since: datetime | None,
        until: datetime | None,
        columns: Sequence[str] | None,
        where: Mapping[str, str | Sequence[str]] | None,
    ) -> None:
        self.plan, self.view = plan, view
        self.assets = None if assets is None else sorted({check_asset_id(one) for one in assets})
        self.since = None if since is None else _bound(since)
        self.until = None if until is None else _bound(until)
        self.columns = list(plan.view_columns(view)) if columns is None else list(columns)
        self.where = where or {}
        known = {*plan.columns(view.table), "_v"}
        for name in (*self.columns, *self.where):
            if name not in known:
                raise SchemaMismatch(f"{view.name} has no column {name!r}", hint=f"it has {', '.join(sorted(known))}")
        if self.assets is not None and view.table.entity is None:
            raise SchemaMismatch(f"{view.name} holds nothing per asset")
        if (since or until) and view.table.time_column is None:
            raise SchemaMismatch(f"{view.name} has no time column")

    def sql(self, question: Question) -> str:
        tests = [*self._asset_tests(question), *self._time_tests(), *self._where_tests()]
        pruning = self.pruning()
        rows = self.plan.view(self.view, pruning)
        where = f" WHERE {' AND '.join(tests)}" if tests else ""
        listed = ", ".join(quoted(name) for name in self.columns)
        # Files one after the other would be in order, but two threads hand their row groups over as they come:
        # measured on 2 million rows, the pieces were out of order. Sorting them costs 80 ns a row.
        order = f" ORDER BY {', '.join(self.view.sort)}" if self.view.sort else ""
        return f"SELECT {listed} FROM ({rows}){where}{order}"

    def of_hot(self, columns: list[str]) -> Selection:
        """These columns of those rows that are in no segment yet."""
        of = copy(self)
        of.plan, of.columns = narrowed(self.plan, self.view.table.name, ()), columns
        return of

    def pruning(self) -> Pruning:
        """What of the segments need not be read."""
        by_asset, by_time = prunable(self.view.name)
        return Pruning(
            among=tuple(self.assets) if by_asset and self.assets else None,
            since=self.since if by_time else None,
            until=self.until if by_time else None,
        )

    def _asset_tests(self, question: Question) -> list[str]:
        from store.duck import literal

        if self.assets is None:
            return []
        entity = self.view.table.entity
        if not self.assets:
            return ["false"]
        if len(self.assets) <= FEW:
            return [f"{entity} IN ({', '.join(map(literal, self.assets))})"]
        import pyarrow as pa

        question.register("wanted__assets", pa.table({"id": self.assets}))
        return [
            f"{entity} BETWEEN {literal(self.assets[0])} AND {literal(self.assets[-1])}",
            f"{entity} IN (SELECT id FROM wanted__assets)",
        ]

    def _time_tests(self) -> list[str]:
        from store.duck import instant

        name = self.view.table.time_column
        tests = []
        if self.since is not None:
            tests.append(f"{name} >= {instant(self.since)}")
        if self.until is not None:
            tests.append(f"{name} < {instant(self.until)}")
        return tests

    def _where_tests(self) -> list[str]:
        from store.duck import literal

        tests = []
        for name, wanted in self.where.items():
            values = [wanted] if isinstance(wanted, str) else list(wanted)
            listed = ", ".join(literal(str(value)) for value in values)
            column = self.view.table.column(name)
            text = column is not None and column.sql_type == "VARCHAR"
            operand = quoted(name) if text else f"CAST({quoted(name)} AS VARCHAR)"
            tests.append(f"{operand} IN ({listed})" if values else "false")
        return tests


def _bound(at: datetime) -> int:
    if at.tzinfo is None:
        raise SchemaMismatch(f"{at.isoformat()} has no time zone", hint="give an aware datetime")
    return to_micros(at)
