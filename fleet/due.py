"""Which assets are due: those that failed the last time, those whose champion has grown old.

Each rule is one question for the whole fleet. An asset's last word counts, from whichever job of the verb it came
(`cli:train`, `py:train`, `nightly:train`); a job that left it alone said nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from fleet.errors import ConfigInvalid
from fleet.frames import interval_end
from fleet.ledger import done_before
from fleet.plan import Settings
from fleet.population import Member, Population
from fleet.turn import Turn
from store.clock import to_micros

if TYPE_CHECKING:
    from store.reading import Snapshot

Verb = Literal["backtest", "train", "forecast"]

# The last word on each asset; `_v` is the order in which words were committed.
LAST = """
select asset_id, arg_max(status, _v) as status, arg_max(struct_pack(c := cause), _v).c as cause,
       arg_max(struct_pack(c := error_code), _v).c as error_code
from outcomes__v
where product = $product and status <> 'skipped'
    and (job = $verb or suffix(job, ':' || $verb) or list_contains($jobs, job))
group by asset_id
"""
# A judgement is of one recipe: an asset is due when any of its recipes failed the last time.
JUDGED_BADLY = """
select distinct asset_id from (
    select asset_id, arg_max(status, run_id) as status from runs
    where kind = 'backtest' and product = $product and list_contains($recipes, recipe)
    group by asset_id, recipe)
where status = 'failed'
"""
LEARNT = """
select c.asset_id, r.train_end from champions c
left join versions v on v.version_id = c.version_id left join runs r on r.run_id = v.run_id
where c.product = $product
"""


# When the newest reading of the fleet became known.
KNOWN = """
select max(available_at) as known from actuals
where isfinite(y) and valid_time = (select max(valid_time) from actuals where isfinite(y))
"""


def failing(
    snapshot: Snapshot, verb: Verb, product: str, recipes: Sequence[str] = (), jobs: Sequence[str] = ()
) -> frozenset[str]:
    """The assets whose last outcome of a verb, for a product, was a failure or a fallback.

    Args:
        recipes: of these, for `backtest`.
        jobs: names of the jobs whose kind is the verb.
    """
    if verb == "backtest":
        asked = {"product": product, "recipes": list(recipes)}
        return frozenset(row["asset_id"] for row in snapshot.sql(JUDGED_BADLY, asked).rows())
    rows = snapshot.sql(LAST, {"product": product, "verb": verb, "jobs": list(jobs)}).rows()
    return frozenset(row["asset_id"] for row in rows if row["status"] in ("failed", "fell_back"))


def stale(snapshot: Snapshot, people: Population) -> frozenset[str]:
    """The assets without a champion, and those whose champion learnt nothing of the last `stale_after`."""
    rows = snapshot.sql(LEARNT, {"product": people.product}).rows()
    learnt = {row["asset_id"]: row["train_end"] for row in rows}
    return frozenset(m.asset_id for m in people.members if _is_stale(m, people.settings[m.settings], learnt))


def _is_stale(member: Member, settings: Settings, learnt: Mapping[str, datetime | None]) -> bool:
    if member.asset_id not in learnt:
        return True
    last = learnt[member.asset_id]
    if last is None or member.data_end is None:
        return False
    end = interval_end(to_micros(last), member.config.freq, member.config.timezone)
    return settings.fit_issue(member.data_end) - end >= member.config.train.stale_after.total_seconds() * 1e6


def issue_times(snapshot: Snapshot, people: Population, issue_time: datetime | None, now: datetime) -> dict[str, int]:
    """Issue time of every asset for a product, UTC microseconds.

    A product that follows the data is issued at the end of an asset's last actual; an asset without any row follows
    the newest of the fleet. One with a timetable is issued at the first of its times that the data of the fleet reach
    to, if that is not in the future, or else at the last before now: all assets of a zone together, also those whose
    meter is silent.

    Args:
        issue_time: of a timetable the last time by then, for any other product this instant itself.
    """
    if issue_time is not None:
        at = to_micros(issue_time)
        last = [_last_issue(settings, at) for settings in people.settings]
        return {member.asset_id: last[member.settings] for member in people.members}
    if people.newest is None:
        raise ConfigInvalid("no asset has a single row, so there is no issue time", hint="name one with --issue-time")
    found = {m.asset_id: people.newest if m.data_end is None else m.data_end for m in people.members}
    if any(settings.timetable for settings in people.settings):
        row = snapshot.sql(KNOWN).rows()[0]
        known = people.newest if row["known"] is None else max(people.newest, to_micros(row["known"]))
        reached = [_reached(settings, known, to_micros(now)) for settings in people.settings]
        found |= {m.asset_id: due for m in people.members if (due := reached[m.settings]) is not None}
    return found


def _last_issue(settings: Settings, at: int) -> int:
    return at if settings.timetable is None else settings.timetable.last(at, settings.tz)


def _reached(settings: Settings, known: int, now: int) -> int | None:
    """The issue of a timetable that data known by then have come to; None without a timetable."""
    if settings.timetable is None:
        return None
    first = settings.timetable.next(known, settings.tz)
    return first if first <= now else settings.timetable.last(now, settings.tz)


def unfinished(snapshot: Snapshot, products: Sequence[Population], turn: Turn) -> tuple[Population, ...]:
    """The populations without what earlier attempts at the same run of a job have finished; none that is empty."""
    done: dict[str | None, set[str]] = {}
    for asset_id, product in done_before(snapshot, turn):
        done.setdefault(product, set()).add(asset_id)
    if not done:
        return tuple(products)
    left = []
    for people in products:
        over = done.get(people.product, set())
        left.append(replace(people, members=tuple(one for one in people.members if one.asset_id not in over)))
    return tuple(people for people in left if people.members)


def among(people: Population, assets: frozenset[str]) -> Population:
    """The population without its other members."""
    return replace(people, members=tuple(member for member in people.members if member.asset_id in assets))
