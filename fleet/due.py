"""Which assets are due: those that failed the last time, those whose champion has grown old.

Each rule is one question for the whole fleet. An asset's last word counts, from whichever job of the verb it came
(`cli:train`, `py:train`, `nightly:train`); a job that left it alone said nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from fleet.frames import interval_end
from fleet.population import Member, Population
from store.clock import to_micros

if TYPE_CHECKING:
    from store.reading import Snapshot

Verb = Literal["backtest", "train", "forecast"]

# The last word on each asset; `_v` is the order in which words were committed.
LAST = """
select asset_id, arg_max(status, _v) as status, arg_max(struct_pack(c := cause), _v).c as cause,
       arg_max(struct_pack(c := error_code), _v).c as error_code
from outcomes__v
where product = 'default' and status <> 'skipped' and (job = $verb or suffix(job, ':' || $verb))
group by asset_id
"""
# A judgement is of one recipe: an asset is due when any of its recipes failed the last time.
JUDGED_BADLY = """
select distinct asset_id from (
    select asset_id, arg_max(status, run_id) as status from runs
    where kind = 'backtest' and product = 'default' and list_contains($recipes, recipe)
    group by asset_id, recipe)
where status = 'failed'
"""
LEARNT = """
select c.asset_id, r.train_end from champions c
left join versions v on v.version_id = c.version_id left join runs r on r.run_id = v.run_id
where c.product = 'default'
"""


def failing(snapshot: Snapshot, verb: Verb, recipes: Sequence[str] = ()) -> frozenset[str]:
    """The assets whose last outcome of a verb was a failure or a fallback.

    Args:
        recipes: of these, for `backtest`.
    """
    if verb == "backtest":
        return frozenset(row["asset_id"] for row in snapshot.sql(JUDGED_BADLY, {"recipes": list(recipes)}).rows())
    rows = snapshot.sql(LAST, {"verb": verb}).rows()
    return frozenset(row["asset_id"] for row in rows if row["status"] in ("failed", "fell_back"))


def stale(snapshot: Snapshot, people: Population) -> frozenset[str]:
    """The assets without a champion, and those whose champion learnt nothing of the last `stale_after`."""
    learnt = {row["asset_id"]: row["train_end"] for row in snapshot.sql(LEARNT).rows()}
    return frozenset(member.asset_id for member in people.members if _is_stale(member, learnt))


def _is_stale(member: Member, learnt: Mapping[str, datetime | None]) -> bool:
    if member.asset_id not in learnt:
        return True
    last = learnt[member.asset_id]
    if last is None or member.data_end is None:
        return False
    end = interval_end(to_micros(last), member.config.freq, member.config.timezone)
    return member.data_end - end >= member.config.train.stale_after.total_seconds() * 1e6


def among(people: Population, assets: frozenset[str]) -> Population:
    """The population without its other members."""
    return replace(people, members=tuple(member for member in people.members if member.asset_id in assets))
