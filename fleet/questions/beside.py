"""Several runs beside each other: what they are, what they were given, what they measured, and where they differ."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fleet.metrics import loss, parse
from store.errors import TsfleetError

if TYPE_CHECKING:
    from store.reading import Snapshot

RUNS = "select * from runs where list_contains($ids, run_id)"
# Of each run and name the value that was logged last.
METRICS = """
select run_id, name, arg_max(value, (coalesce(step, 0), time)) as value from {source} where list_contains($ids, run_id)
group by run_id, name
"""
FACTS = ("asset_id", "product", "recipe", "recipe_hash", "library", "library_version", "kind", "status", "started_at",
         "duration_s", "data_version", "train_start", "train_end", "code_version", "error_code", "error")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One name and its value in each run; None where a run has none.

    Args:
        best: the place of the lowest error, where the name is that of a metric whose least is best.
    """

    name: str
    values: tuple[object, ...]
    best: int | None = None

    @property
    def differs(self) -> bool:
        """Whether the runs do not all say the same."""
        return len({_key(value) for value in self.values}) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Runs in the order that was asked for; `absent` are ids that nobody knows, or may see."""

    ids: tuple[str, ...]
    facts: tuple[Line, ...]
    params: tuple[Line, ...]
    metrics: tuple[Line, ...]
    tags: tuple[Line, ...]
    absent: tuple[str, ...]


def beside(snapshot: Snapshot, ids: Sequence[str], sees: Callable[[str | None], bool] = lambda _: True) -> Beside:
    """Runs side by side.

    Args:
        sees: whether the runs of an asset may be told.
    """
    rows = {row["run_id"]: row for row in snapshot.sql(RUNS, {"ids": list(ids)}).rows() if sees(row["asset_id"])}
    known = [one for one in dict.fromkeys(ids) if one in rows]
    given = [_flat(rows[one]["params"]) for one in known]
    tagged = [_flat(rows[one]["tags"]) for one in known]
    measured = _measured(snapshot, [rows[one] for one in known])
    return Beside(
        ids=tuple(known),
        facts=tuple(
            line for line in _lines([rows[one] for one in known], FACTS) if any(v is not None for v in line.values)
        ),
        params=_lines(given),
        metrics=tuple(_with_best(line) for line in _lines([measured.get(one, {}) for one in known])),
        tags=_lines(tagged),
        absent=tuple(one for one in dict.fromkeys(ids) if one not in rows),
    )


def _measured(snapshot: Snapshot, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """By run the last value of each of its metrics."""
    ids = [row["run_id"] for row in rows]
    assets = {row["asset_id"] for row in rows}
    if None in assets or not ids:
        found = snapshot.sql(METRICS.format(source="metrics"), {"ids": ids}).rows() if ids else []
    else:  # read by asset: the store leaves the files of others unread
        mine = snapshot.table(
            "metrics", assets=sorted(assets), columns=["run_id", "name", "step", "time", "value"], where={"run_id": ids}
        )
        found = snapshot.sql(METRICS.format(source="mine"), {"ids": ids}, {"mine": mine}).rows()
    made: dict[str, dict[str, float]] = {}
    for row in found:
        made.setdefault(row["run_id"], {})[row["name"]] = row["value"]
    return made


def _lines(given: Sequence[Mapping[str, Any]], names: Sequence[str] = ()) -> tuple[Line, ...]:
    """A line for each name that any of the runs has, in order."""
    every = names or sorted({name for one in given for name in one})
    return tuple(Line(name=name, values=tuple(one.get(name) for one in given)) for name in every)


def _with_best(line: Line) -> Line:
    """The same with the place of the lowest error, where two at least can be compared and differ."""
    places = [place for place, value in enumerate(line.values) if isinstance(value, float) and math.isfinite(value)]
    if len(places) < 2 or not line.differs:
        return line
    try:
        asked = parse(line.name)
    except TsfleetError:
        return line  # somebody's own name: which way is better, nobody says
    lost = loss(asked, np.array([line.values[place] for place in places], dtype=np.float64))
    return Line(name=line.name, values=line.values, best=places[int(lost.argmin())])


def _flat(text: str | None, prefix: str = "") -> dict[str, Any]:
    """A JSON object as names with dots and plain values.

    >>> _flat('{"lags": [1, 2], "tree": {"leaves": 31}}')
    {'lags': '[1, 2]', 'tree.leaves': 31}
    """
    told = json.loads(text) if text else {}
    return dict(_pairs(told, prefix)) if isinstance(told, dict) else {"": str(told)}


def _pairs(told: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    made: list[tuple[str, Any]] = []
    for name, value in told.items():
        if isinstance(value, dict) and value:
            made += _pairs(value, f"{prefix}{name}.")
        else:
            plain = isinstance(value, str | int | float | bool | None)
            made.append((f"{prefix}{name}", value if plain else json.dumps(value, ensure_ascii=False)))
    return made


def _key(value: object) -> object:
    """What makes two values the same: NaN is NaN, and 1 is not true."""
    return ("nan",) if value != value else (type(value) is bool, value)  # noqa: PLR0124  as above
