"""One asset along time: how far off it was day by day, who was in charge when, when it learnt, what it looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fleet.comparison import Role
from fleet.metrics import evaluate, parse

if TYPE_CHECKING:
    from store.reading import Snapshot

FloatArray = npt.NDArray[np.float64]

# Of a judgement the newest of each recipe counts; ids are in order of time. Of what was issued all does.
JUDGED = """
select recipe as series, day, {sums} from mine where role = 'backtest'
  and (recipe, version_id) in (select (recipe, max(version_id)) from mine where role = 'backtest' group by recipe)
group by recipe, day order by recipe, day
"""
ISSUED = """
select recipe || case when role = 'champion' then '' else ' (' || role || ')' end as series, day, {sums}
from mine where role <> 'backtest' group by series, day order by series, day
"""
HELD = """
select asset_id, series_id, name, source, freq, n, missing, first_valid, newest_valid, newest_known
from mine left join series using (series_id) left join counted using (series_id, name)
order by name, series_id
"""
COUNTED = """
select series_id, name, count(*) as n, count(*) filter (where value is null or not isfinite(value)) as missing,
       min(valid_time) as first_valid, max(valid_time) as newest_valid, max(available_at) as newest_known
from read group by series_id, name
"""
#: How far the values of a covariate are read back.
LOOKED_BACK = timedelta(days=14)


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """A metric of one asset by local day.

    Args:
        lines: recipe (and the role, where that is not the champion's) to (k,) values; NaN where nothing was scored.
        in_charge: (since, recipe): whenever another recipe came into charge, the first one included.
        learnt: (until when it knew the readings, recipe) of each training that went well.
    """

    asset_id: str
    metric: str
    role: Role
    days: tuple[date, ...]
    lines: Mapping[str, FloatArray]
    in_charge: tuple[tuple[datetime, str], ...]
    learnt: tuple[tuple[datetime, str], ...]


def life(snapshot: Snapshot, asset_id: str, *, metric: str, product: str = "default", role: Role | None = None) -> Life:
    """One asset from its first scored day to its last.

    Args:
        role: None is what was issued, where any of it was scored, else what was judged.
    """
    asked = parse(metric)
    asked = parse({"mase": "mae", "rmsse": "rmse", "skill": "mae"}.get(asked.family, metric))
    mine = snapshot.table("scores", assets=[asset_id], where={"product": product, "truth": "latest"})
    if role is None:
        role = "live" if bool(pc.any(pc.not_equal(mine["role"], "backtest")).as_py()) else "backtest"
    several = ("pinball_sum_.+",) if asked.family in ("mean_pinball", "crps") else ()
    sums = f"sum(columns('^({'|'.join([*asked.columns(), *several])})$'))"
    query = (JUDGED if role == "backtest" else ISSUED).format(sums=sums)
    days, lines = _laid(snapshot.sql(query, None, {"mine": mine}).arrow(), asked.name)
    history = snapshot.table(
        "champions_all", assets=[asset_id], columns=["since", "recipe", "_v"], where={"product": product}
    )
    runs = snapshot.table(
        "runs",
        assets=[asset_id],
        columns=["recipe", "train_end", "started_at", "run_id"],
        where={"product": product, "kind": "train", "status": "ok"},
    )
    learnt = sorted(
        (row["train_end"] or row["started_at"], row["recipe"] or "")
        for row in runs.to_pylist()
        if row["train_end"] or row["started_at"]
    )
    return Life(
        asset_id=asset_id,
        metric=asked.name,
        role=role,
        days=days,
        lines=lines,
        in_charge=_changes(history.sort_by("_v").to_pylist()),
        learnt=tuple(dict.fromkeys(learnt)),
    )


def _laid(table: pa.Table, metric: str) -> tuple[tuple[date, ...], dict[str, FloatArray]]:
    """Rows of series and day as lines over all days between the first and the last."""
    if not table.num_rows:
        return (), {}
    day = table["day"].cast(pa.int32()).to_numpy().astype(np.int64)
    first, width = int(day.min()), int(day.max() - day.min()) + 1
    names = np.asarray(table["series"].to_pylist(), dtype=object)
    values = evaluate(parse(metric), {name: _floats(table[name]) for name in table.column_names[2:]})
    lines = {}
    for name in dict.fromkeys(names.tolist()):
        line = np.full(width, np.nan)
        line[day[names == name] - first] = values[names == name]
        lines[str(name)] = line
    begin = date(1970, 1, 1) + timedelta(days=first)
    return tuple(begin + timedelta(days=k) for k in range(width)), lines


def _floats(column: pa.ChunkedArray) -> FloatArray:
    values: FloatArray = column.cast(pa.float64()).to_numpy()
    return values


def _changes(rows: Sequence[Mapping[str, Any]]) -> tuple[tuple[datetime, str], ...]:
    """When another recipe came into charge; a new version of the same one changes nobody."""
    made: list[tuple[datetime, str]] = []
    for row in rows:
        if row["recipe"] and row["since"] and (not made or made[-1][1] != row["recipe"]):
            made.append((row["since"], row["recipe"]))
    return tuple(made)


def inputs(snapshot: Snapshot, asset_id: str) -> list[dict[str, Any]]:
    """The series that an asset looks at: what of them is known of the last fortnight before its newest reading, and on.

    A series that nothing is known of has no count.
    """
    links = snapshot.table("links", assets=[asset_id], columns=["asset_id", "series_id", "name", "valid_to"])
    mine = links.filter(links["valid_to"].is_null()).drop_columns(["valid_to"])
    if not mine.num_rows:
        return []
    newest = snapshot.sql("select max(valid_time) as t from actuals where asset_id = $a", {"a": asset_id}).rows()[0][
        "t"
    ]
    read = snapshot.table(
        "covariates",
        assets=sorted(set(mine["series_id"].to_pylist())),
        since=None if newest is None else newest - LOOKED_BACK,
        columns=["series_id", "name", "valid_time", "available_at", "value"],
    )
    counted = snapshot.sql(COUNTED, None, {"read": read}).arrow()
    return snapshot.sql(HELD, None, {"mine": mine, "counted": counted}).rows()
