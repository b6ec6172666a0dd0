"""One asset's readings and forecasts as curves: what a fan chart and a small picture show.

A step without a reading is NaN in its place, so that a curve breaks where something is missing. All times are UTC
microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fleet import calendar
from fleet.comparison import ROLES, Role
from fleet.metrics import level_of
from store.clock import from_micros, to_micros

if TYPE_CHECKING:
    from fleet.config import AssetConfig
    from store.reading import Snapshot

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

NEWEST = """
select max(issue_time) as issue from forecasts
where asset_id = $asset and product = $product and list_contains($roles, role)
  and ($recipe::varchar is null or recipe = $recipe)
"""
NEAREST = """
select issue_time as issue from forecasts
where asset_id = $asset and product = $product and list_contains($roles, role)
  and ($recipe::varchar is null or recipe = $recipe)
order by abs(epoch_us(issue_time) - $wanted), issue_time limit 1
"""
# Ids are in order of time: the largest is the newest evaluation.
EVALUATION = """
select recipe, max(version_id) as version_id from forecasts
where asset_id = $asset and product = $product and role = 'backtest' and ($recipe::varchar is null or recipe = $recipe)
group by recipe order by recipe
"""
# What was issued: a person's word before the champion's, that before a fallback's; what came after the gate last (as in
# the view `published`).
STANDING = ("manual", "champion", "fallback", "challenger", "external")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Readings of an asset in order of time.

    Args:
        times: (n,) start of each interval; y: (n,) NaN where there is no reading.
        missing: steps between the first and the last row that have no reading.
    """

    times: IntArray
    y: FloatArray
    missing: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A forecast, or several issues one after the other.

    Args:
        issue: of the newest one.
        times: (n,) valid times; mean: (n,) NaN between issues that leave a gap.
        quantiles: level to (n,) values, ascending; only those that the forecast has.
        foresight: it saw a covariate's future.
        cause: why a fallback stood in, where that is known.
    """

    asset_id: str
    recipe: str
    role: str
    issue: int
    times: IntArray
    mean: FloatArray
    quantiles: Mapping[float, FloatArray] = field(default_factory=dict)
    quality: tuple[str, ...] = ()
    foresight: bool = False
    cause: str = ""


def known_between(snapshot: Snapshot, config: AssetConfig, first: int, stop: int) -> Known:
    """The readings whose interval begins at or after an instant and before another."""
    table = snapshot.table(
        "actuals",
        assets=[config.asset_id],
        since=from_micros(first),
        until=from_micros(stop),
        columns=["valid_time", "y"],
    )
    times, y = _instants(table["valid_time"]), table["y"].cast(pa.float64()).to_numpy()
    grid, values = broken(times, y, config.freq, config.timezone)
    absent = _absent(times, config.freq, config.timezone)
    return Known(times=grid, y=values, missing=int(np.isnan(y).sum()) + absent)


def broken(times: IntArray, values: FloatArray, freq: str, tz: str) -> tuple[IntArray, FloatArray]:
    """The same with a NaN wherever the next instant is not the end of this interval.

    >>> hour = 3_600_000_000
    >>> broken(np.array([0, hour, 4 * hour]), np.array([1.0, 2.0, 5.0]), "1h", "UTC")[1]
    array([ 1.,  2., nan,  5.])
    """
    gaps = np.flatnonzero(_next_late(times, freq, tz))
    ends = _ends(times[gaps], freq, tz)
    return np.insert(times, gaps + 1, ends), np.insert(values, gaps + 1, np.nan)


def _next_late(times: IntArray, freq: str, tz: str) -> npt.NDArray[np.bool_]:
    """(n - 1,) whether a step is missing before the next row."""
    return times[1:] > _ends(times[:-1], freq, tz)


def _ends(times: IntArray, freq: str, tz: str) -> IntArray:
    return calendar.micros(calendar.interval_end(calendar.from_micros(times), freq, tz)) if len(times) else times


def _absent(times: IntArray, freq: str, tz: str) -> int:
    """How many steps between the first and the last row have no row."""
    if len(times) < 2:
        return 0
    places = calendar.positions_micros(times, times[:1], freq, tz)
    return int(places[-1]) + 1 - len(np.unique(places))


def newest_issue(
    snapshot: Snapshot, asset_id: str, *, role: Role, recipe: str | None = None, product: str = "default"
) -> int | None:
    """When the asset's newest forecast of a kind was issued."""
    asked = {"asset": asset_id, "product": product, "roles": list(ROLES[role]), "recipe": recipe}
    found = snapshot.sql(NEWEST, asked).rows()[0]["issue"]
    return None if found is None else to_micros(found)


def nearest_issue(
    snapshot: Snapshot, asset_id: str, wanted: int, *, role: Role, recipe: str | None, product: str = "default"
) -> int | None:
    """When the forecast nearest to an instant was issued."""
    asked = {"asset": asset_id, "product": product, "roles": list(ROLES[role]), "recipe": recipe, "wanted": wanted}
    rows = snapshot.sql(NEAREST, asked).rows()
    return to_micros(rows[0]["issue"]) if rows else None


def forecast_of(
    snapshot: Snapshot, asset_id: str, issue: int, *, role: Role, recipe: str | None = None, product: str = "default"
) -> Curve | None:
    """The forecast of one issue; of several the one that stood, or that of a recipe."""
    rows = _forecasts(snapshot, asset_id, product, role, recipe, issue)
    if not rows.num_rows:
        return None
    columns = rows.select(["recipe", "role", "version_id", "created_at", "quality"]).to_pylist()
    said = [k for k, row in enumerate(columns) if row["role"] != "manual"]
    best = min(said or range(len(columns)), key=lambda k: _standing(columns[k]))
    chosen = [
        place
        for place, row in enumerate(columns)
        if all(row[name] == columns[best][name] for name in ("recipe", "role", "version_id"))
    ]
    if recipe is None:
        chosen = _with_words(_instants(rows["valid_time"]), columns, chosen)
    return _curve(snapshot, asset_id, rows.take(pa.array(chosen)))


def _with_words(times: IntArray, rows: Sequence[Mapping[str, object]], chosen: Sequence[int]) -> list[int]:
    """The places of a forecast, in order of time, with what a person said of some of its steps where that stood."""
    places = {int(times[k]): k for k in chosen}
    for k, row in enumerate(rows):
        known = places.get(int(times[k]), k)
        if row["role"] == "manual" and (known == k or _standing(row) < _standing(rows[known])):
            places[int(times[k])] = k
    return [places[at] for at in sorted(places)]


def _standing(row: Mapping[str, object]) -> tuple[object, ...]:
    place = STANDING.index(str(row["role"])) if row["role"] in STANDING else len(STANDING)
    created = row["created_at"]
    late = "late" in str(row["quality"] or "").split("+")
    return late, place, -created.timestamp() if hasattr(created, "timestamp") else 0.0, str(row["version_id"])


def backtested(
    snapshot: Snapshot, config: AssetConfig, *, recipe: str | None, issue: int | None = None, product: str = "default"
) -> Curve | None:
    """A recipe's newest evaluation as one curve: at each valid time the newest of its issues, or one issue alone."""
    asked = {"asset": config.asset_id, "product": product, "recipe": recipe}
    found = snapshot.sql(EVALUATION, asked).rows()
    if not found:
        return None
    rows = _forecasts(snapshot, config.asset_id, product, "backtest", found[0]["recipe"], issue)
    rows = rows.filter(pc.equal(rows["version_id"], found[0]["version_id"]))
    if not rows.num_rows:
        return None
    order = np.lexsort((_instants(rows["issue_time"]), _instants(rows["valid_time"])))
    valid = _instants(rows["valid_time"])[order]
    last = np.append(valid[1:] != valid[:-1], True)
    return _curve(snapshot, config.asset_id, rows.take(pa.array(order[last])), config)


def since(curve: Curve, first: int) -> Curve:
    """The part of a curve from an instant on."""
    kept = curve.times >= first
    return replace(
        curve,
        times=curve.times[kept],
        mean=curve.mean[kept],
        quantiles={level: values[kept] for level, values in curve.quantiles.items()},
    )


def _forecasts(
    snapshot: Snapshot, asset_id: str, product: str, role: Role, recipe: str | None, issue: int | None
) -> pa.Table:
    where: dict[str, str | Sequence[str]] = {"product": product, "role": ROLES[role]}
    if recipe is not None:
        where["recipe"] = recipe
    since, until = (None, None) if issue is None else (from_micros(issue), from_micros(issue + 1))
    return snapshot.table("forecasts", assets=[asset_id], since=since, until=until, where=where)


def _curve(snapshot: Snapshot, asset_id: str, rows: pa.Table, config: AssetConfig | None = None) -> Curve:
    """The rows, which are in order of valid time, as a curve; gaps between issues are left where a grid is given."""
    times = _instants(rows["valid_time"])

    def laid(name: str) -> tuple[IntArray, FloatArray]:
        values = rows[name].cast(pa.float64()).to_numpy()
        return (times, values) if config is None else broken(times, values, config.freq, config.timezone)

    levels = {level_of(name): name for name in rows.column_names if name[0] == "q" and name[1:].isdigit()}
    present = {level: name for level, name in sorted(levels.items()) if rows[name].null_count < rows.num_rows}
    grid, mean = laid("mean")
    newest = int(np.argmax(_instants(rows["issue_time"])))
    role = rows["role"][newest].as_py()
    flags = sorted({flag for text in rows["quality"].to_pylist() for flag in (text or "").split("+") if flag})
    return Curve(
        asset_id=asset_id,
        recipe=rows["recipe"][newest].as_py() or "",
        role=role,
        issue=int(_instants(rows["issue_time"])[newest]),
        times=grid,
        mean=mean,
        quantiles={level: laid(name)[1] for level, name in present.items()},
        quality=tuple(flag for flag in flags if flag != "ok"),
        foresight=_saw_the_future(snapshot, asset_id, set(rows["run_id"].to_pylist())),
        cause=_cause(snapshot, asset_id) if role == "fallback" else "",
    )


def _saw_the_future(snapshot: Snapshot, asset_id: str, runs: set[str | None]) -> bool:
    ids = sorted(run for run in runs if run)
    if not ids:
        return False
    asked = "select count(*) as n from mine where json_extract_string(tags, '$.perfect_foresight') = 'true'"
    mine = snapshot.table("runs", assets=[asset_id], columns=["tags"], where={"run_id": ids})
    return bool(snapshot.sql(asked, None, {"mine": mine}).rows()[0]["n"])


def _cause(snapshot: Snapshot, asset_id: str) -> str:
    """Why the asset last fell back."""
    table = snapshot.table("outcomes", assets=[asset_id], columns=["slot", "cause"], where={"status": "fell_back"})
    return str(table["cause"][-1].as_py() or "") if table.num_rows else ""


def _instants(column: pa.ChunkedArray) -> IntArray:
    values: IntArray = column.cast(pa.int64()).to_numpy()
    return values
