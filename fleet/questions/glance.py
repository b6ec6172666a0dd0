"""How a fleet is, at a glance: what it holds, who is in charge, what became of the last jobs, who is worst.

A handful of queries over aggregates, so that it is there at once on ten thousand assets.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fleet.comparison import Role, Sums, measured
from fleet.metrics import Metric, evaluate, level_of, loss, parse
from fleet.outcome import Cause
from fleet.presence import at_work

if TYPE_CHECKING:
    from store.reading import Snapshot

FloatArray = npt.NDArray[np.float64]

FACTS = """
select (select count(*) from assets) as assets, (select count(*) from actuals) as actuals,
       (select max(valid_time) from actuals) as newest_actual,
       (select max(issue_time) from forecasts where role <> 'backtest') as newest_issue,
       (select max(day) from scores where role <> 'backtest') as newest_scored
"""
CHAMPIONS = """
select recipe, count(*) as n from champions where product = $product group by recipe order by n desc, recipe
"""
JOBS = """
select * from job_runs qualify row_number() over (partition by job order by started_at desc) = 1
order by started_at desc limit $most
"""
# Of each asset the newest judgement of the recipe in charge; ids are in order of time. In life all that was issued.
IN_CHARGE = """
select * from (
    select s.asset_id, s.recipe, s.version_id, any_value(s.recipe_hash) as recipe_hash, {sums}
    from scores s
    semi join champions c on c.asset_id = s.asset_id and c.recipe = s.recipe and c.product = $product
    where s.role = 'backtest' and s.product = $product and s.truth = 'latest'
    group by s.asset_id, s.recipe, s.version_id)
qualify row_number() over (partition by asset_id order by version_id desc) = 1
"""
ISSUED = """
select asset_id, arg_max(recipe, day) as recipe, null::varchar as version_id, arg_max(recipe_hash, day) as recipe_hash,
       {sums}
from scores where role in ('champion', 'fallback', 'manual') and product = $product and truth = 'latest'
group by asset_id
"""
ROLE_SUMS: Mapping[Role, str] = {
    "backtest": """
        select asset_id, recipe, max(recipe_hash) as recipe_hash, version_id,
               bool_or(perfect_foresight) as perfect_foresight, {sums}
        from mine where role = 'backtest' group by asset_id, recipe, version_id
        qualify row_number() over (partition by recipe order by version_id desc) = 1""",
    "live": """
        select asset_id, recipe, max(recipe_hash) as recipe_hash, max(version_id) as version_id,
               bool_or(perfect_foresight) as perfect_foresight, {sums}
        from mine where role <> 'backtest' group by asset_id, recipe""",
}
SPARK_DAYS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The last run of a job, with the causes of what failed: (cause, assets), the most frequent first."""

    job: str
    status: str
    started_at: datetime
    counts: Mapping[str, int]
    causes: tuple[tuple[str, int], ...]
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worst:
    """An asset far off: its recipe, metric, points, and the metric day by day.

    Args:
        days: (k,) days since 1970, one after the other; values: (k,) NaN on a day without a score.
    """

    asset_id: str
    recipe: str
    value: float
    points: int
    days: FloatArray
    values: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What a status card shows.

    Args:
        champions: (recipe, assets), the most frequent first.
        role: of the scores by which `worst` was found; None where there are none.
    """

    assets: int
    actuals: int
    newest_actual: datetime | None
    newest_issue: datetime | None
    newest_scored: date | None
    champions: tuple[tuple[str, int], ...]
    jobs: tuple[Job, ...]
    metric: str
    role: Role | None
    worst: tuple[Worst, ...]


def glance(snapshot: Snapshot, *, folder: Path, metric: str, most: int = 10, product: str = "default") -> Glance:
    """The state of the fleet, with the `most` assets that are furthest off by a metric.

    A skill compares recipes and says nothing of how far off an asset is: its error is taken instead.

    Args:
        folder: of the store; jobs at work show there.
    """
    metric = "mae" if parse(metric).recipe else metric
    # Half of the time goes into planning, which uses one core: two halves at once take two thirds of the time.
    with ThreadPoolExecutor(max_workers=1) as beside:
        held = beside.submit(lambda: (snapshot.sql(FACTS).rows()[0], _jobs(snapshot, folder, most=5)))
        rows = snapshot.sql(CHAMPIONS, {"product": product}).rows()
        champions = tuple((row["recipe"] or "", row["n"]) for row in rows)
        role, worst = _worst(snapshot, metric, most, product, judged=bool(champions))
        facts, jobs = held.result()
    return Glance(
        assets=facts["assets"],
        actuals=facts["actuals"],
        newest_actual=facts["newest_actual"],
        newest_issue=facts["newest_issue"],
        newest_scored=facts["newest_scored"],
        champions=champions,
        jobs=jobs,
        metric=metric,
        role=role,
        worst=worst,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """How one recipe did on one asset: as judged in its newest backtest, or as issued."""

    recipe: str
    role: Role
    value: float
    points: int
    foresight: bool


def scored(snapshot: Snapshot, asset_id: str, metric: str, *, product: str = "default") -> tuple[Scored, ...]:
    """A metric of every recipe that was scored on an asset, the lowest error first; judged before issued."""
    asked = parse(metric)
    rows = snapshot.table("scores", assets=[asset_id], where={"product": product, "truth": "latest"})
    made: list[Scored] = []
    for role, query in ROLE_SUMS.items():
        table = snapshot.sql(query.format(sums=_added(asked)), None, {"mine": rows}).arrow()
        sums = _sums(table)
        values = measured(snapshot, sums, asked, product=product)
        flags = table["perfect_foresight"].to_pylist()
        order = np.lexsort((np.argsort(np.argsort(sums.recipe)), loss(asked, values)))
        made += [
            Scored(
                recipe=sums.recipe[k],
                role=role,
                value=float(values[k]),
                points=int(sums.columns["n"][k]),
                foresight=bool(flags[k]),
            )
            for k in order
        ]
    return tuple(made)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """An asset, its recipe in charge, and how far off that was judged to be."""

    asset_id: str
    recipe: str
    value: float


def ranked(snapshot: Snapshot, *, metric: str, product: str = "default") -> tuple[Ranked, ...]:
    """All assets that have a recipe in charge and a judgement of it, the furthest off first."""
    asked = parse(metric)
    table = snapshot.sql(IN_CHARGE.format(sums=_added(asked)), {"product": product}).arrow()
    sums = _sums(table)
    values = measured(snapshot, sums, asked, product=product)
    order = _highest(table["asset_id"], loss(asked, values), table.num_rows)
    return tuple(Ranked(asset_id=sums.asset[k], recipe=sums.recipe[k], value=float(values[k])) for k in order)


def _jobs(snapshot: Snapshot, folder: Path, *, most: int) -> tuple[Job, ...]:
    rows = snapshot.sql(JOBS, {"most": most}).rows()
    if not rows:
        return ()
    # Read by cause and time instead of asked in SQL: the store leaves out the files that hold older outcomes.
    failures = snapshot.table(
        "outcomes",
        since=min(row["slot"] for row in rows),
        columns=["job", "slot", "cause"],
        where={"cause": [str(cause) for cause in Cause]},
    )
    found: dict[tuple[str, datetime], list[tuple[str, int]]] = {}
    for row in failures.group_by(["job", "slot", "cause"]).aggregate([([], "count_all")]).to_pylist():
        found.setdefault((row["job"], row["slot"]), []).append((row["cause"], row["count_all"]))
    return tuple(
        Job(
            job=row["job"],
            status="killed"
            if row["status"] == "running" and not at_work(folder, row["job"], row["slot"])
            else row["status"],
            started_at=row["started_at"] or row["slot"],
            counts={name: row[name] or 0 for name in ("ok", "failed", "fell_back", "skipped")},
            causes=tuple(sorted(found.get((row["job"], row["slot"]), ()), key=lambda pair: (-pair[1], pair[0]))),
            error=row["error"] or "",
        )
        for row in rows
    )


def _worst(
    snapshot: Snapshot, metric: str, most: int, product: str, *, judged: bool
) -> tuple[Role | None, tuple[Worst, ...]]:
    """The assets furthest off under the recipe in charge: as judged, or as issued where nothing was judged."""
    asked = parse(metric)
    for role, query in (("backtest", IN_CHARGE), ("live", ISSUED)) if judged else (("live", ISSUED),):
        table = snapshot.sql(query.format(sums=_added(asked)), {"product": product}).arrow()
        if not table.num_rows:
            continue
        values = measured(snapshot, _sums(table), asked, product=product)
        chosen = _highest(table["asset_id"], loss(asked, values), most)
        found = table.take(pa.array(chosen)).append_column("value", pa.array(values[chosen]))
        return ("backtest" if role == "backtest" else "live"), _with_days(snapshot, found, metric, product)
    return None, ()


def _highest(names: pa.ChunkedArray, badness: FloatArray, most: int) -> npt.NDArray[np.int64]:
    """The places of the `most` highest values, the highest first, of equals the first by name; NaN has no place."""
    known = np.flatnonzero(~np.isnan(badness))
    if len(known) > most:
        known = known[badness[known] >= np.partition(badness[known], -most)[-most]]
    named = zip(-badness[known], names.take(pa.array(known)).to_pylist(), known.tolist(), strict=True)
    return np.array([place for _, _, place in sorted(named)[:most]], dtype=np.int64)


def _added(metric: Metric) -> str:
    """SQL that adds up the columns of ``scores`` that a metric needs, as far as the store has them."""
    several = ("pinball_sum_.+",) if metric.family in ("mean_pinball", "crps") else ()
    summed = [name for name in (*metric.columns(), *several) if name != "n_q"]
    # A store has no n_q before there were quantiles; where a cell does not tell it, all its points have them.
    bare = ", sum(least(*columns('^(n|n_q)$'))) as n_q" if "n_q" in metric.columns() else ""
    return f"sum(columns('^({'|'.join(summed)})$')){bare}"


def _with_days(snapshot: Snapshot, found: pa.Table, metric: str, product: str) -> tuple[Worst, ...]:
    """The same assets with their metric by day: of the judgement that counts, and of what was issued."""
    asked = parse(metric)
    # A scale is the same for all days of an asset and changes no shape; the curve shows the error that it divides.
    plain = parse({"mase": "mae", "rmsse": "rmse"}.get(asked.family, metric))
    listed = found.select(["asset_id", "recipe", "version_id", "value", "n"]).to_pylist()
    levels = [name for name in found.column_names if name.startswith("pinball_sum_")]
    columns = [name for name in dict.fromkeys([*plain.columns(), *levels]) if name in found.column_names]
    rows = snapshot.table(
        "scores",
        assets=[row["asset_id"] for row in listed],
        columns=["asset_id", "day", "recipe", "role", "version_id", *columns],
        where={"product": product, "truth": "latest"},
    )
    asset, recipe, role, version = (
        np.asarray(rows[name].to_pylist(), dtype=object) for name in ("asset_id", "recipe", "role", "version_id")
    )
    day = rows["day"].cast(pa.int32()).to_numpy().astype(np.int64)
    made = []
    for row in listed:
        mine = (asset == row["asset_id"]) & (recipe == row["recipe"])
        mine &= (role != "backtest") | (version == row["version_id"])
        days, values = _by_day(plain, day[mine], {name: rows[name].filter(pa.array(mine)) for name in columns})
        made.append(
            Worst(
                asset_id=row["asset_id"],
                recipe=row["recipe"],
                value=row["value"],
                points=int(row["n"]),
                days=days,
                values=values,
            )
        )
    return tuple(made)


def _by_day(
    metric: Metric, day: npt.NDArray[np.int64], columns: Mapping[str, pa.ChunkedArray]
) -> tuple[FloatArray, FloatArray]:
    """The last days one after the other, and the metric of each."""
    if not len(day):
        return np.zeros(0), np.zeros(0)
    days = np.arange(max(int(day.min()), int(day.max()) - SPARK_DAYS + 1), day.max() + 1)
    place = day - days[0]
    kept = place >= 0
    sums = {name: _added_up(place[kept], _floats(column)[kept], len(days)) for name, column in columns.items()}
    return days.astype(np.float64), evaluate(metric, sums)


def _added_up(place: npt.NDArray[np.int64], values: FloatArray, width: int) -> FloatArray:
    sums: FloatArray = np.bincount(place, weights=values, minlength=width).astype(np.float64)
    return sums


def _floats(column: pa.ChunkedArray) -> FloatArray:
    values: FloatArray = column.cast(pa.float64()).to_numpy()
    return values


def _sums(table: pa.Table) -> Sums:
    """Rows of added-up columns of ``scores`` in the form that metrics are measured on."""
    names = [name for name in table.column_names if name in ("n", "n_cap", "n_q") or name.partition("_")[0] in _ADDED]

    def texts(name: str) -> npt.NDArray[np.object_]:
        return np.asarray(table[name].to_pylist(), dtype=object)

    return Sums(
        asset=texts("asset_id"),
        recipe=texts("recipe"),
        recipe_hash=texts("recipe_hash"),
        lead=np.full(table.num_rows, "", dtype=object),
        foresight=np.zeros(table.num_rows, dtype=bool),
        columns={name: _floats(table[name]) for name in names},
        levels=tuple(sorted(level_of(n.removeprefix("pinball_sum_")) for n in names if n.startswith("pinball_sum_"))),
        missing={},
        paired=False,
        judged=table.select(["asset_id", "version_id"]),
    )


_ADDED = ("sum", "pinball", "covered", "width", "winkler")
