"""The verb `score`: what was forecast beside what happened, as sums that any window can be made of later.

A cell is one asset, version, role, truth, local day and lead bucket. It is computed again, whole, when an actual or a
forecast in it is newer than the watermark; one whose last actual was taken back counts nothing from then on. Cells and
watermark are one commit, so that nothing is counted twice and nothing lost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from fleet import cells
from fleet.comparison import Truth
from fleet.driver import Driver
from fleet.ledger import Ledger
from fleet.masks import UNMASKED
from fleet.metrics import level_of
from fleet.outcome import Outcome, Report
from fleet.population import CAPACITIES, Population
from store.thinning import MARK, Extent

if TYPE_CHECKING:
    from store.reading import Snapshot

WATERMARK = "score"
# The local day of a forecast's valid time is the cell's day; every cell that a new row touches is computed again.
STALE = """
with live as (
    select f.asset_id, f.valid_time, f._v from forecasts__v f semi join clocks c on c.asset_id = f.asset_id
    where f.role <> 'backtest'
), touched as (
    select f.asset_id, f.valid_time from live f
    semi join (select asset_id, valid_time from actuals__v where _v > $seen) a
    on a.asset_id = f.asset_id and a.valid_time = f.valid_time
    union all
    select f.asset_id, f.valid_time from (select * from live where _v > $seen) f
    join (select asset_id, valid_time from actuals__v where _v <= $seen and isfinite(y)) a
    on a.asset_id = f.asset_id and a.valid_time = f.valid_time
    union all
    select f.asset_id, f.valid_time from live f
    join (select asset_id, min(valid_from) as since from masks__v where _v > $seen group by asset_id) m
    on m.asset_id = f.asset_id and f.valid_time >= m.since
)
select distinct t.asset_id, (t.valid_time at time zone c.tz)::date as day
from touched t join clocks c on c.asset_id = t.asset_id
"""
# Against what forecasts are scored: the reading in force, or the first one there was of an instant.
TRUTHS: Mapping[Truth, str] = {
    "latest": "select asset_id, valid_time, y, _v from actuals__v",
    "first": """select asset_id, valid_time, arg_min(y, (available_at, _v)) as y, arg_min(_v, (available_at, _v)) as _v
                from actuals_all__v where isfinite(y) group by asset_id, valid_time""",
}
ROWS = f"""
with held as ({CAPACITIES}), truth as (select * from (TRUTH) a where {UNMASKED})
select f.*, a.y, a._v as actuals_v, t.capacity, $truth as truth, s.day,
       coalesce(json_extract_string(r.tags, '$.perfect_foresight') = 'true', false) as perfect_foresight
from forecasts f
join clocks c on c.asset_id = f.asset_id
join stale s on s.asset_id = f.asset_id and s.day = (f.valid_time at time zone c.tz)::date
join truth a on a.asset_id = f.asset_id and a.valid_time = f.valid_time
asof left join held t on t.asset_id = f.asset_id and f.valid_time >= t.begins
left join runs r on r.run_id = f.run_id
where f.role <> 'backtest' and isfinite(a.y)
order by f.asset_id, f.issue_time, f.valid_time
"""
# Cells that have lost their last actual, which was taken back.
EMPTIED = """
select s.asset_id, s.product, s.recipe, s.recipe_hash, s.version_id, s.role, s.truth, s.perfect_foresight, s.day,
       s.lead_bucket
from scores s join stale d on d.asset_id = s.asset_id and d.day = s.day
where s.role <> 'backtest' and s.truth = $truth and s.n > 0 and not exists (
    select 1 from scored c
    where c.asset_id = s.asset_id and c.product = s.product and c.recipe is not distinct from s.recipe
      and c.recipe_hash is not distinct from s.recipe_hash and c.version_id is not distinct from s.version_id
      and c.role = s.role and c.truth = s.truth and c.perfect_foresight is not distinct from s.perfect_foresight
      and c.day = s.day and c.lead_bucket = s.lead_bucket)
"""
MASKED = f"""
select count(*) as n from (select asset_id, valid_time from forecasts where role <> 'backtest') f
join actuals a on a.asset_id = f.asset_id and a.valid_time = f.valid_time where isfinite(a.y) and not ({UNMASKED})
"""
OPEN = """
with issued as (select asset_id, valid_time, issue_time from forecasts where role <> 'backtest'),
newest as (select asset_id, valid_time from issued
    where issue_time >= (select max(issue_time) from issued) - interval 7 day)
select count(*) as n from newest f
anti join (select asset_id, valid_time from actuals where isfinite(y)) a
on a.asset_id = f.asset_id and a.valid_time = f.valid_time
"""


def score(driver: Driver, people: Population, ledger: Ledger) -> Report:
    """Score every live forecast whose actuals arrived or changed; one outcome per asset that had something to score.

    Always against the reading in force; where ``[data] truth`` says so against the first one too.
    """
    snapshot = driver.store.snapshot()
    clocks = pa.table(
        {
            "asset_id": pa.array([member.asset_id for member in people.members], pa.string()),
            "tz": pa.array([member.config.timezone for member in people.members], pa.string()),
        }
    )
    waiting = snapshot.sql(OPEN).rows()[0]["n"]
    if waiting:
        ledger.note(f"{waiting:,} forecast steps of the last 7 days have no actual yet")
    transaction = driver.store.begin(note=ledger.job)
    done: set[str] = set()
    kept = driver.config.scored_masks
    if hidden := snapshot.sql(MASKED, {"scored": list(kept)}).rows()[0]["n"]:
        ledger.note(f"{hidden:,} forecast steps are not scored: their readings are masked")
    truths: tuple[Truth, ...] = ("latest", "first") if driver.config.data.truth == "first" else ("latest",)
    for truth in truths:
        mark = WATERMARK if truth == "latest" else f"{WATERMARK} {truth}"
        policy = f"{mark} masks"  # another policy about masks is another score of everything
        seen = int(snapshot.mark(mark) or 0) if (snapshot.mark(policy) or "[]") == json.dumps(kept) else 0
        stale = snapshot.sql(STALE, {"seen": seen}, {"clocks": clocks}).arrow()
        if stale.num_rows:
            transaction.replace("scores", _open(snapshot, _cells(snapshot, clocks, stale, truth, kept)))
            transaction.mark(mark, str(snapshot.id))
            transaction.mark(policy, json.dumps(kept))
            done |= set(stale["asset_id"].to_pylist())
    if done:
        ledger.count(transaction.commit().written)
    else:
        transaction.abort()
    ledger.add(
        None,
        [
            Outcome(
                asset_id=member.asset_id,
                product=people.product,
                status="ok" if member.asset_id in done else "skipped",
            )
            for member in people.members
        ],
    )
    return ledger.close()


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


def rows_against(truth: Truth) -> str:
    """The question for the rows of stale cells, each beside what counts as the truth."""
    return ROWS.replace("TRUTH", TRUTHS[truth])


def _cells(
    snapshot: Snapshot, clocks: pa.Table, stale: pa.Table, truth: Truth, scored_masks: Sequence[str]
) -> pa.Table:
    rows = snapshot.sql(
        rows_against(truth), {"truth": truth, "scored": list(scored_masks)}, {"clocks": clocks, "stale": stale}
    ).arrow()
    levels = tuple(sorted(level_of(name) for name in rows.column_names if name[0] == "q" and name[1:].isdigit()))
    scored = cells.score_cells(rows, levels=levels)
    emptied = snapshot.sql(EMPTIED, {"truth": truth}, {"stale": stale, "scored": scored}).arrow()
    if not emptied.num_rows:
        return scored
    nothing = {name: pa.repeat(0, emptied.num_rows) for name in (*cells.SUMS, *cells.dynamic_columns(levels))}
    nothing |= {name: emptied[name] for name in emptied.column_names}
    nothing["points"] = pa.repeat("0" * 16, emptied.num_rows)
    nothing["actuals_v"] = pa.repeat(snapshot.id, emptied.num_rows)
    columns = [nothing[field.name].cast(field.type) for field in scored.schema]
    return pa.concat_tables([scored, pa.table(columns, schema=scored.schema)])
