"""What the store knows at an instant about every asset: a handful of questions, none of them per asset."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fleet.config.values import ENERGY, POWER
from fleet.due import LAST
from fleet.errors import FleetError, NothingSelected
from fleet.population import wanted
from fleet.registry import build
from fleet.review.grids import Grids, Window, grids, windows
from fleet.review.readings import Readings, readings
from jobs.due import jobs_of, known_since, overdue
from store.clock import from_micros

if TYPE_CHECKING:
    from fleet import Fleet
    from fleet.config import AlertSection, FleetConfig
    from fleet.population import Member, Population
    from store.reading import Snapshot

FloatArray = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]

# How far each series reaches, and how dense it was in two windows; bounded in time, so that old files stay unread. Of
# a source that does not say when its forecasts were known, models see all of them, and so does this.
FEEDS = """
select c.series_id, c.name, any_value(s.source) as source, max(c.valid_time) as reach,
       count(distinct c.valid_time) filter (where c.valid_time >= $middle and c.valid_time < $stop) as recent,
       count(distinct c.valid_time) filter (where c.valid_time < $middle) as before
from covariates_all c left join series s on s.series_id = c.series_id
where c.valid_time >= $start and isfinite(c.value) and (c.available_at <= $stop or list_contains($foresight, c.name))
group by c.series_id, c.name order by c.series_id, c.name
"""
LINKED = """
select l.asset_id, l.series_id, l.name, s.source from links l left join series s on s.series_id = l.series_id
where l.valid_to is null or l.valid_to > $at order by l.asset_id, l.name, l.series_id
"""
CHAMPIONS = "select asset_id, product, recipe from champions"
# Of each job the last word, the last success, and the first time that it was heard of.
JOBS = """
select job, max(started_at) filter (where status = 'ok') as last_ok, min(started_at) as first,
       arg_max(status, slot) filter (where status <> 'running') as status, max(slot) as slot,
       arg_max(struct_pack(e := error), slot).e as error
from job_runs where started_at <= $at group by job order by job
"""
REGISTER = "select asset_id, to_json(a)::varchar as facts from assets a"
#: So long a job may wait for others to end before people are told that it is late.
BUSY = timedelta(minutes=10)
#: A feed that gave fewer of its usual values in the recent window has a gap.
DENSE = 0.9
_UNKNOWN: Mapping[str, Any] = {"reach": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """One covariate of one series.

    Args:
        reach: its last value; None where there is none within the windows.
        ahead: whether it has to reach as far as forecasts do.
        gap: share of its usual values that the recent window lacks.
        assets: (k,) places of the assets that see it, and whose recipe in charge looks at it.
    """

    series: str
    name: str
    source: str
    reach: datetime | None
    ahead: bool
    gap: float
    assets: Places


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What one product says of the assets.

    Args:
        issued: (assets,) whether it is issued for the asset.
        grids: of live scores; its rows are the assets.
        recipes: (assets,) in charge, empty for none.
        last: verb to (assets,) of (status, cause); None where nothing was said.
        ahead_h: (assets,) how many hours after now inputs have to be known.
    """

    issued: Flags
    grids: Grids
    recipes: Sequence[str]
    last: Mapping[str, Sequence[tuple[str, str] | None]]
    ahead_h: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """What became of a job: its last success, its last word."""

    job: str
    last_ok: datetime | None
    first: datetime | None
    status: str | None
    slot: datetime | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that rules look at, asset by asset in the order of `assets`.

    Args:
        ends: (assets,) end of the last reading; None where there never was one.
        gap: (assets,) share of the usual readings that the recent window lacks, NaN where unknown.
        flat: (assets,) whether the readings stand still.
        stake: (assets,) capacity, or the usual size of a reading: in kW or kWh where the unit says so; times the price
            where every asset has one.
        recent, before: windows of local days that gaps are about.
        scheduled: names of the jobs of the configuration.
        overdue: by job the slot that nobody has begun although it is due by the job's own clock.
        chosen: name of a rule to (assets,) whether it is about the asset.
        groups: name of a rule to (assets,) the value of its register column.
    """

    at: datetime
    assets: Sequence[str]
    ends: Sequence[datetime | None]
    gap: FloatArray
    flat: Flags
    stake: FloatArray
    products: Mapping[str, Served]
    feeds: Sequence[Feed]
    jobs: Sequence[JobState]
    scheduled: Sequence[str] = ()
    overdue: Mapping[str, datetime] = field(default_factory=dict)
    chosen: Mapping[str, Flags] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)


def gathered(fleet: Fleet, rules: Sequence[AlertSection], at: datetime) -> Evidence:
    """The evidence that these rules need at an instant."""
    snapshot, config = fleet.store.snapshot(), fleet.config
    people = {one.product: one for one in fleet.populations()}
    members: dict[str, Member] = {}
    for one in people.values():
        members |= {m.asset_id: m for m in one.members if m.static.get("state") in (None, "active")}
    assets = sorted(members)
    place = {asset: k for k, asset in enumerate(assets)}
    recent, history = _widest(rules)
    now, before = windows(at.date(), recent, history)
    seen = readings(
        snapshot, assets, start=at - timedelta(days=recent + history), middle=at - timedelta(days=recent), stop=at
    )
    champions: dict[tuple[str, str], str] = {
        (row["asset_id"], row["product"]): row["recipe"] or "" for row in snapshot.sql(CHAMPIONS).rows()
    }
    products = {
        name: _served(
            snapshot, config, one, assets, place, champions, Window(start=before.start, stop_before=now.stop_before)
        )
        for name, one in people.items()
    }
    chosen, groups = _chosen(snapshot, rules, assets)
    ends = [None if (end := members[asset].data_end) is None else from_micros(end) for asset in assets]
    return Evidence(
        at=at,
        assets=assets,
        ends=ends,
        gap=_gaps(seen, recent, history),
        flat=seen.flat,
        stake=_stakes([members[asset] for asset in assets], seen),
        products=products,
        feeds=_feeds(snapshot, config, champions, place, at, recent, history),
        jobs=[JobState(**row) for row in snapshot.sql(JOBS, {"at": at}).rows()],
        scheduled=tuple(config.jobs),
        overdue=_overdue(fleet, rules, at),
        chosen=chosen,
        groups=groups,
    )


def _overdue(fleet: Fleet, rules: Iterable[AlertSection], at: datetime) -> dict[str, datetime]:
    if not any(rule.kind == "jobs" for rule in rules):
        return {}
    known = known_since(fleet.config.file)
    late = {name: overdue(fleet.store, job, at, known=known, grace=BUSY) for name, job in jobs_of(fleet.config).items()}
    return {name: slot for name, slot in late.items() if slot is not None}


def _widest(rules: Iterable[AlertSection]) -> tuple[int, int]:
    """Days of the windows that gaps are looked for in: those of the widest rule."""
    pairs = [(rule.window.days, rule.history.days) for rule in rules if rule.kind == "metric"] or [(7, 28)]
    return max(w for w, _ in pairs), max(h for _, h in pairs)


def _gaps(seen: Readings, recent: int, history: int) -> FloatArray:
    """(assets,) the share of the recent readings that are missing, beside how many there were a day before."""
    usual = seen.n[1] / history * recent
    lacking = np.full(len(usual), np.nan)
    np.divide(usual - seen.n[0], usual, out=lacking, where=usual > 0)
    share: FloatArray = np.clip(lacking, 0.0, 1.0)
    return share


def _stakes(members: Sequence[Member], seen: Readings) -> FloatArray:
    """(assets,) what an error of 100 % would be: capacity or usual size, in common units; 0 where nothing is known."""
    size = np.where(np.isnan(seen.size[1]), seen.size[0], seen.size[1])
    stake = np.zeros(len(members))
    prices = []
    for k, member in enumerate(members):
        capacity, unit = member.static.get("capacity"), str(member.static.get("unit") or "")
        known = float(capacity) if isinstance(capacity, int | float) and capacity > 0 else float(size[k])
        factor = POWER.get(unit, ENERGY.get(unit, 1e3)) / 1e3
        stake[k] = known * factor if np.isfinite(known) else 0.0
        prices.append(_price(member.static))
    if prices and all(price is not None for price in prices):
        return stake * np.array(prices, dtype=np.float64)
    return stake


def _price(static: Mapping[str, object]) -> float | None:
    found = static.get("price")
    try:
        return float(found) if isinstance(found, int | float | str) and not isinstance(found, bool) else None
    except ValueError:
        return None


def _served(
    snapshot: Snapshot,
    config: FleetConfig,
    people: Population,
    assets: Sequence[str],
    place: Mapping[str, int],
    champions: Mapping[tuple[str, str], str],
    window: Window,
) -> Served:
    issued, ahead = np.zeros(len(assets), dtype=bool), np.zeros(len(assets))
    for member in people.members:
        if (k := place.get(member.asset_id)) is not None:
            issued[k], ahead[k] = True, _ahead_h(member)
    last: dict[str, list[tuple[str, str] | None]] = {}
    for verb in ("train", "forecast"):
        last[verb] = [None] * len(assets)
        asked = {"product": people.product, "verb": verb, "jobs": list(config.jobs_of(verb))}
        for row in snapshot.sql(LAST, asked).rows():
            if (k := place.get(row["asset_id"])) is not None:
                last[verb][k] = (row["status"], row["cause"] or row["error_code"] or "")
    return Served(
        issued=issued,
        grids=grids(snapshot, assets, product=people.product, window=window, truth=config.data.truth),
        recipes=[champions.get((asset, people.product), "") for asset in assets],
        last=last,
        ahead_h=ahead,
    )


def _ahead_h(member: Member) -> float:
    """Hours from an issue to the end of what it forecasts."""
    config = member.config
    if config.days_ahead is not None:
        return 24.0 * (config.days_ahead + (config.days or 1))
    from fleet.calendar import step_seconds

    return config.horizon * step_seconds(config.freq) / 3600


def _feeds(
    snapshot: Snapshot,
    config: FleetConfig,
    champions: Mapping[tuple[str, str], str],
    place: Mapping[str, int],
    at: datetime,
    recent: int,
    history: int,
) -> list[Feed]:
    if not config.covariates:
        return []
    start, middle = at - timedelta(days=recent + history), at - timedelta(days=recent)
    asked_of = {"start": start, "middle": middle, "stop": at, "foresight": sorted(config.foresight_names())}
    rows = snapshot.sql(FEEDS, asked_of).rows()
    known = {(row["series_id"], row["name"]): row for row in rows}
    looks = {recipe: looked_at(config, recipe) for recipe in set(champions.values()) if recipe}
    asked: dict[str, frozenset[str] | None] = {}
    for (asset, _), recipe in champions.items():
        sees = looks.get(recipe, frozenset())
        before = asked.get(asset, frozenset())
        asked[asset] = None if sees is None or before is None else before | sees
    seen: dict[tuple[str, str, str], list[int]] = {}
    for row in snapshot.sql(LINKED, {"at": at}).rows():
        asset, name = row["asset_id"], row["name"]
        sees = asked.get(asset, frozenset())
        used = asset in place and (sees is None or name in sees)
        seen.setdefault((row["series_id"], name, row["source"] or ""), []).extend([place[asset]] if used else [])
    ahead = {name for section in config.covariates if section.known == "future" for name in section.columns}
    return [
        Feed(
            series=series,
            name=name,
            source=source,
            reach=known.get((series, name), _UNKNOWN)["reach"],
            ahead=name in ahead,
            gap=_lacking(known.get((series, name)), recent, history),
            assets=np.array(sorted(set(places)), dtype=np.int64),
        )
        for (series, name, source), places in sorted(seen.items())
    ]


def _lacking(row: Mapping[str, Any] | None, recent: int, history: int) -> float:
    if row is None:
        return 1.0
    usual = row["before"] / history * recent
    return 0.0 if usual <= 0 else float(np.clip(1 - row["recent"] / usual, 0.0, 1.0))


def looked_at(config: FleetConfig, recipe: str) -> frozenset[str] | None:
    """The covariates that a recipe looks at; None is all of them, also where that cannot be known."""
    try:
        found = config.recipe(recipe)
        if found.covariates is not None:
            return frozenset(found.covariates)
        if ":" in found.adapter or found.given is not None:
            return None
        return None if getattr(build(found.adapter, found.options), "uses_covariates", True) else frozenset()
    except FleetError:
        return None


def _chosen(
    snapshot: Snapshot, rules: Sequence[AlertSection], assets: Sequence[str]
) -> tuple[dict[str, Flags], dict[str, list[str]]]:
    """By rule the assets that it is about, and the group of each."""
    chosen: dict[str, Flags] = {}
    groups: dict[str, list[str]] = {}
    facts: dict[str, dict[str, Any]] = {}
    for rule in rules:
        try:
            ids = wanted(snapshot, assets, rule.select, rule.where) if assets else set()
        except NothingSelected:
            ids = set()
        mask = np.array([asset in ids for asset in assets], dtype=bool)
        chosen[rule.name] = mask
        if rule.group is None:
            groups[rule.name] = [""] * len(assets)
            continue
        if not facts:
            facts = {row["asset_id"]: json.loads(row["facts"]) for row in snapshot.sql(REGISTER).rows()}
        groups[rule.name] = [_fact(facts.get(asset, {}), rule.group) for asset in assets]
    return chosen, groups


def _fact(row: Mapping[str, Any], column: str) -> str:
    meta = row.get("meta")
    if column not in row and isinstance(meta, str):
        meta = json.loads(meta)
    found = row.get(column, meta.get(column) if isinstance(meta, dict) else None)
    return "" if found is None else str(found)
