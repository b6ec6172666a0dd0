"""The verb `score`: what was forecast beside what happened, as sums that any window can be made of later.

A cell is one asset, version, role, truth, local day and lead bucket. It is computed again, whole, when an actual or a
forecast in it is newer than the watermark; one whose last actual was taken back counts nothing from then on. The stale
days are taken in slices, so that memory does not grow with their number. Cells and how far they reach are one commit,
so that nothing is counted twice and nothing lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from datetime import time as clock_time
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from fleet import cells
from fleet.calendar import step_seconds
from fleet.comparison import Truth
from fleet.driver import Driver
from fleet.ledger import Ledger
from fleet.masks import UNMASKED
from fleet.metrics import level_of
from fleet.outcome import Outcome, Report
from fleet.passes import Pass, slices
from fleet.population import CAPACITIES, Population
from store.thinning import MARK, Extent

if TYPE_CHECKING:
    from store import Store
    from store.reading import Snapshot

DAY_S = 86_400

# The local day of a forecast's valid time is the cell's day; every cell that a new row touches is computed again. Those
# of a backtest came with its forecasts, from the actuals that its run had seen: they are stale when one is newer.
# Instants are counted before they are told as local days, there are a hundred times fewer of them. The first time all
# forecasts are fresh: to keep them for the two questions that need them takes gigabytes, to read them twice a moment.
STALE = """
with told as (select asset_id, valid_time, _v from ACTUALS where _v > $seen and valid_time >= $told_since),
known as (
    select asset_id, valid_time, _v from ACTUALS where _v <= $seen and isfinite(y) and valid_time >= $fresh_since),
fresh as not materialized (select asset_id, valid_time, role, run_id from forecasts__v where _v > $seen),
judged as (
    select f.asset_id, f.valid_time, r.data_version from fresh f join runs r on r.run_id = f.run_id
    where f.role = 'backtest' and $backtests
), touched as (
    select f.asset_id, f.valid_time, false as backtest, count(*) as issued
    from forecasts f semi join told a on a.asset_id = f.asset_id and a.valid_time = f.valid_time
    where f.role <> 'backtest' group by f.asset_id, f.valid_time
    union all
    select f.asset_id, f.valid_time, false as backtest, count(*) as issued
    from fresh f semi join known a on a.asset_id = f.asset_id and a.valid_time = f.valid_time
    where f.role <> 'backtest' group by f.asset_id, f.valid_time
    union all
    select f.asset_id, f.valid_time, true as backtest, count(*) as issued
    from (select * from forecasts where role = 'backtest' and $backtests) f
    join told a on a.asset_id = f.asset_id and a.valid_time = f.valid_time
    join runs r on r.run_id = f.run_id
    where a._v > r.data_version group by f.asset_id, f.valid_time
    union all
    select f.asset_id, f.valid_time, true as backtest, count(*) as issued
    from judged f join known a on a.asset_id = f.asset_id and a.valid_time = f.valid_time
    where a._v > f.data_version group by f.asset_id, f.valid_time
    union all
    select f.asset_id, f.valid_time, false as backtest, count(*) as issued
    from forecasts f
    join (select asset_id, min(valid_from) as since from masks__v where _v > $seen group by asset_id) m
    on m.asset_id = f.asset_id and f.valid_time >= m.since
    where f.role <> 'backtest' group by f.asset_id, f.valid_time
)
select t.asset_id, (t.valid_time at time zone c.tz)::date as day,
       (any_value(c.steps) * (coalesce(max(t.issued) filter (where t.backtest), 0)
                            + coalesce(max(t.issued) filter (where not t.backtest), 0)))::bigint as points,
       bool_or(not t.backtest) as live, bool_or(t.backtest) as backtest
from touched t join clocks c on c.asset_id = t.asset_id
group by all order by t.asset_id, day
"""
FRESH = "select min(valid_time) as since from forecasts__v where _v > $seen"
EVER, NEVER = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
# A reading that comes late may be older than the one in force, and so change the first one only.
TOLD: Mapping[Truth, str] = {"latest": "actuals__v", "first": "actuals_all__v"}
# Against what forecasts are scored: the reading in force, or the first one there was of an instant.
TRUTHS: Mapping[Truth, str] = {
    "latest": "select asset_id, valid_time, y, _v from actuals__v where BOUNDS",
    "first": """select asset_id, valid_time, arg_min(y, (available_at, _v)) as y, arg_min(_v, (available_at, _v)) as _v
                from actuals_all__v where isfinite(y) and BOUNDS group by asset_id, valid_time""",
}
BOUNDS = "asset_id >= $first and asset_id <= $last and valid_time >= $since and valid_time < $until"
# What happened in a slice: all that depends on the instant alone, before it meets the many forecasts of the instant.
HAPPENED = f"""
with held as ({CAPACITIES}), read as (
    select a.asset_id, a.valid_time, a.y, a._v as actuals_v, (a.valid_time at time zone c.tz)::date as day
    from (TRUTH) a join clocks c on c.asset_id = a.asset_id where isfinite(a.y) and {UNMASKED}
)
select r.*, s.live, s.backtest, t.capacity
from read r
join slice s on s.asset_id = r.asset_id and s.day = r.day
asof left join held t on t.asset_id = r.asset_id and r.valid_time >= t.begins
order by r.asset_id, r.valid_time
"""
# Not sorted: the sums are made in an order of their own, and to sort whole rows takes longer than all the rest.
POINTS = """
select f.* exclude (run_id, step, quality, created_at), a.y, a.actuals_v, a.capacity, a.day,
       SEES as perfect_foresight
from forecasts f join happened a on a.asset_id = f.asset_id and a.valid_time = f.valid_time
where f.asset_id >= $first and f.asset_id <= $last and f.valid_time >= $since and f.valid_time < $until
  and (f.role <> 'backtest' or $backtests) and case when f.role = 'backtest' then a.backtest else a.live end
"""
# Which runs saw the future. Where none did the question is not put: to look up every run takes a third of the reading.
SEES = "coalesce(f.run_id in (select run_id from seeing), false)"
SEEING = """
select run_id from runs
where contains(tags, 'perfect_foresight') and json_extract_string(tags, '$.perfect_foresight') = 'true'
"""
# Cells that have lost their last actual, which was taken back.
EMPTIED = """
select s.asset_id, s.product, s.recipe, s.recipe_hash, s.version_id, s.role, s.truth, s.perfect_foresight, s.day,
       s.lead_bucket
from scores s join slice d on d.asset_id = s.asset_id and d.day = s.day
where s.asset_id >= $first and s.asset_id <= $last and s.day >= $since::date and s.day < $until::date
  and case when s.role = 'backtest' then d.backtest else d.live end
  and s.truth = $truth and s.n > 0 and not exists (
    select 1 from scored c
    where c.asset_id = s.asset_id and c.product = s.product and c.recipe is not distinct from s.recipe
      and c.recipe_hash is not distinct from s.recipe_hash and c.version_id is not distinct from s.version_id
      and c.role = s.role and c.truth = s.truth and c.perfect_foresight is not distinct from s.perfect_foresight
      and c.day = s.day and c.lead_bucket = s.lead_bucket)
"""
NEWEST = "select max(issue_time) as at from forecasts where role <> 'backtest'"
HIDDEN = "select min(valid_from) as since from masks where not list_contains($scored::varchar[], reason)"
MASKED = f"""
select count(*) as n from (
    select asset_id, valid_time from forecasts where role <> 'backtest' and valid_time >= $since) f
join actuals a on a.asset_id = f.asset_id and a.valid_time = f.valid_time where isfinite(a.y) and not ({UNMASKED})
"""
OPEN = """
select count(*) as n from forecasts f
anti join (select asset_id, valid_time from actuals where isfinite(y)) a
on a.asset_id = f.asset_id and a.valid_time = f.valid_time
where f.role <> 'backtest' and f.issue_time >= $since
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How much is taken at once; the scores do not depend on it.

    Args:
        points: about so many forecast points are read and summed: 400,000 take 150 MB.
        cells: so many are committed together,
        seconds: or what was made in that time.
    """

    points: int = 400_000
    cells: int = 200_000
    seconds: float = 5.0


PACE = Pace()


def score(driver: Driver, people: Population, ledger: Ledger) -> Report:
    """Score every live forecast whose actuals arrived or changed; one outcome per asset that had something to score.

    Always against the reading in force; where ``[data] truth`` says so against the first one too. A backtest is scored
    again where a reading was revised that it was judged by.
    """
    waiting = not_yet_scorable(driver.store.snapshot())
    if waiting:
        ledger.note(f"{waiting:,} forecast steps of the last 7 days are not yet scorable: they have no actual yet")
    clocks, done = clocks_of(people), set[str]()
    stopped, kept = driver.interrupt.asked, driver.config.scored_masks
    if hidden := masked(driver.store.snapshot(), kept):
        ledger.note(f"{hidden:,} forecast steps are not scored: their readings are masked")
    for truth in ("latest", "first") if driver.config.data.truth == "first" else ("latest",):
        ledger.begin("scoring", people)
        for step in renewed(driver.store, clocks, truth, kept, stopped=stopped, note=ledger.job):
            for _ in step.assets:
                ledger.step("ok")
            done |= step.assets
            ledger.count(step.written)
            ledger.add(None)
    ledger.begin("", people)
    outcomes = [
        Outcome(asset_id=one.asset_id, product=people.product, status="ok" if one.asset_id in done else "skipped")
        for one in people.members
        if one.asset_id in done or not stopped()
    ]
    ledger.add(None, outcomes)
    return ledger.close(interrupted=stopped())


def masked(snapshot: Snapshot, kept: Sequence[str]) -> int:
    """Live forecast steps that are not scored because their readings are masked, but for masks of the reasons kept."""
    since = snapshot.sql(HIDDEN, {"scored": list(kept)}).rows()[0]["since"]
    return int(snapshot.sql(MASKED, {"scored": list(kept), "since": since}).rows()[0]["n"]) if since else 0


def not_yet_scorable(snapshot: Snapshot) -> int:
    """Live forecast steps, issued in the 7 days up to the newest issue, that have no actual yet."""
    newest = snapshot.sql(NEWEST).rows()[0]["at"]
    if newest is None:
        return 0
    return int(snapshot.sql(OPEN, {"since": newest - timedelta(days=7)}).rows()[0]["n"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What came of a slice: the assets that it was the first to reach, the rows that were committed by table."""

    assets: frozenset[str]
    written: Mapping[str, int]


def renewed(
    store: Store,
    clocks: pa.Table,
    truth: Truth,
    kept: tuple[str, ...] = (),
    *,
    pace: Pace = PACE,
    stopped: Callable[[], bool] = lambda: False,
    note: str = "",
) -> Iterator[Step]:
    """Score what is stale, slice by slice; first what an older pass had left.

    Args:
        clocks: as of `stale_days`.
        kept: reasons of masks whose readings are scored all the same.
        stopped: asked after each slice; True commits what is there and ends.
    """
    finishing = True
    while finishing and not stopped():
        snapshot = store.snapshot()
        now = Pass.next_of(snapshot, truth, kept)
        finishing = now.upto is not None
        yield from _passed(store, snapshot, clocks, now, pace, stopped, note)


def _passed(
    store: Store, snapshot: Snapshot, clocks: pa.Table, now: Pass, pace: Pace, stopped: Callable[[], bool], note: str
) -> Iterator[Step]:
    """Do what is left of a pass, or as much of it as there is time for."""
    stale = now.left(stale_days(snapshot, clocks, now))
    left = stale.num_rows
    if not left and now.upto is not None:
        yield Step(assets=frozenset(), written=_commit(store, now, [], note, whole=True))
    held: list[pa.Table] = []
    before, began, ended = "", time.monotonic(), False
    for slice_, scored in scored_slices(snapshot, clocks, stale, now.truth, pace.points, now.kept):
        held.append(scored)
        now, left = now.reached(slice_), left - slice_.num_rows
        late = time.monotonic() - began > pace.seconds or sum(one.num_rows for one in held) >= pace.cells
        ended = stopped()
        written: Mapping[str, int] = {}
        if late or ended or not left:
            written = _commit(store, now, held, note, whole=not left)
            held, began = [], time.monotonic()
        assets = slice_["asset_id"].to_pylist()
        yield Step(assets=frozenset(assets) - {before}, written=written)
        before = assets[-1]
        if ended:
            return


def _commit(store: Store, now: Pass, held: Sequence[pa.Table], note: str, *, whole: bool) -> Mapping[str, int]:
    """Cells, and how far they reach, at once; the rows that this stored."""
    transaction = store.begin(note=note)
    for scored in held:
        transaction.replace("scores", scored)
    now.mark(transaction, whole=whole)
    return transaction.commit().written


def clocks_of(people: Population) -> pa.Table:
    """By asset its zone, and how many steps a day has."""
    return pa.table(
        {
            "asset_id": pa.array([member.asset_id for member in people.members], pa.string()),
            "tz": pa.array([member.config.timezone for member in people.members], pa.string()),
            "steps": [max(1, round(DAY_S / step_seconds(member.config.freq))) for member in people.members],
        }
    )


def stale_days(snapshot: Snapshot, clocks: pa.Table, now: Pass) -> pa.Table:
    """The local days of assets whose cells a row after the watermark touches, in order.

    Args:
        clocks: columns asset_id, tz and steps (of a day).

    Returns:
        asset_id, day, points (about how many forecast points there are), live and backtest (whose cells are meant).
    """
    fresh = snapshot.sql(FRESH, {"seen": now.seen}).rows()[0]["since"] or NEVER
    # The first time all forecasts are fresh, and years of readings lie before the first of them.
    told = EVER if now.seen else fresh
    asked = {"seen": now.seen, "backtests": now.truth == "latest", "told_since": told, "fresh_since": fresh}
    return snapshot.sql(STALE.replace("ACTUALS", TOLD[now.truth]), asked, {"clocks": clocks}).arrow()


def scored_slices(
    snapshot: Snapshot, clocks: pa.Table, stale: pa.Table, truth: Truth, points: int, kept: tuple[str, ...] = ()
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Stale days in slices of about so many points, each with its cells.

    A cell depends on its own points alone, so the slices together are what all days at once would be.
    """
    seeing = snapshot.sql(SEEING).arrow()
    for slice_ in slices(stale, points):
        yield slice_, _open(snapshot, _cells(snapshot, clocks, slice_, seeing, truth, kept))


def _open(snapshot: Snapshot, scored: pa.Table) -> pa.Table:
    """Without the cells whose forecasts were thinned: what was scored of them before is all that there will be."""
    for product in scored.column("product").unique().to_pylist():
        extent = Extent.from_mark(snapshot.mark(MARK + product))
        if extent is not None:
            # A day later, for the local day of the last of them.
            last = pa.scalar((extent.valid_upto + timedelta(days=1)).date())
            buckets = pa.array(cells.buckets_from(extent.leads_from), pa.string())
            far = pc.and_(
                pc.is_in(scored.column("lead_bucket"), value_set=buckets), pc.less_equal(scored.column("day"), last)
            )
            thinned = pc.and_(pc.equal(scored.column("product"), product), far)
            scored = scored.filter(pc.invert(thinned))
    return scored


def points_of(
    snapshot: Snapshot,
    clocks: pa.Table,
    slice_: pa.Table,
    seeing: pa.Table,
    truth: Truth,
    kept: tuple[str, ...] = (),
) -> pa.Table:
    """The forecasts of stale days, each beside what counts as the truth, in no order; see `cells.score_cells`."""
    bounds = _bounds(slice_)
    question = HAPPENED.replace("TRUTH", TRUTHS[truth].replace("BOUNDS", BOUNDS))
    happened = snapshot.sql(question, {**bounds, "scored": list(kept)}, {"clocks": clocks, "slice": slice_}).arrow()
    if happened.num_rows:
        times = pc.min_max(happened["valid_time"]).as_py()
        bounds |= {"since": times["min"], "until": times["max"] + timedelta(microseconds=1)}
    backtests = pc.any(slice_["backtest"]).as_py()
    tables = {"happened": happened, "seeing": seeing}
    question = POINTS.replace("SEES", SEES if seeing.num_rows else "false")
    rows = snapshot.sql(question, {**bounds, "backtests": backtests}, tables).arrow()
    truths = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), rows.num_rows), pa.array([truth]))
    return rows.append_column("truth", truths)


def _bounds(slice_: pa.Table) -> dict[str, object]:
    """What every row of a slice lies between: assets, and UTC instants a day wider than the local days."""
    days = pc.min_max(slice_["day"]).as_py()
    since = datetime.combine(days["min"], clock_time(), UTC) - timedelta(days=1)
    until = datetime.combine(days["max"], clock_time(), UTC) + timedelta(days=2)
    assets = slice_["asset_id"]
    return {"first": assets[0].as_py(), "last": assets[-1].as_py(), "since": since, "until": until}


def _cells(
    snapshot: Snapshot,
    clocks: pa.Table,
    slice_: pa.Table,
    seeing: pa.Table,
    truth: Truth,
    kept: tuple[str, ...],
) -> pa.Table:
    rows = points_of(snapshot, clocks, slice_, seeing, truth, kept)
    levels = tuple(sorted(level_of(name) for name in rows.column_names if name[0] == "q" and name[1:].isdigit()))
    scored = cells.score_cells(rows, levels=levels)
    tables = {"slice": slice_, "scored": scored}
    emptied = snapshot.sql(EMPTIED, {**_bounds(slice_), "truth": truth}, tables).arrow()
    if not emptied.num_rows:
        return scored
    nothing = {name: pa.repeat(0, emptied.num_rows) for name in (*cells.SUMS, *cells.dynamic_columns(levels))}
    nothing |= {name: emptied[name] for name in emptied.column_names}
    nothing["points"] = pa.repeat("0" * 16, emptied.num_rows)
    nothing["actuals_v"] = pa.repeat(snapshot.id, emptied.num_rows)
    columns = [nothing[field.name].cast(field.type) for field in scored.schema]
    return pa.concat_tables([scored, pa.table(columns, schema=scored.schema)])
