"""Which assets a verb is about, and their rows in batches that fit in memory.

One question for the whole fleet and one read per batch; never one per asset.
"""

from __future__ import annotations

import fnmatch
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import pyarrow as pa

from fleet import masks
from fleet.config import AssetConfig, FleetConfig
from fleet.errors import ConfigInvalid, NothingSelected
from fleet.frames import EVER, AssetRows, Covariate, Panel, Span, interval_end, panel_of, spans
from fleet.plan import Judgement, Settings
from store.clock import EPOCH, from_micros, to_micros

if TYPE_CHECKING:
    from store.reading import Snapshot

BATCH_ROWS = 2_000_000
LIGHT_ROWS = 500_000
"""Of a batch that no other process waits for: what is smaller stays in the memory that the last one had."""

SUMMARY = """
select a.asset_id, coalesce(d.n, 0) as n, d.first_reading, d.last_reading, d.last_row, to_json(a)::varchar as register
from assets a left join (
    select asset_id, count(*) as n, max(valid_time) as last_row,
           min(valid_time) filter (where isfinite(y)) as first_reading,
           max(valid_time) filter (where isfinite(y)) as last_reading
    from actuals group by asset_id) d using (asset_id)
where a.state is distinct from 'retired'
order by a.asset_id
"""
# Averages in the order of time: else their last bits would depend on the number of threads.
LEVELS = """
select a.kind, median(d.level) as level from assets a join (
    select asset_id, avg(y order by valid_time) as level from actuals
    where isfinite(y) and available_at <= $issue group by asset_id
) d using (asset_id) group by a.kind
"""
# From when which capacity holds: at every bound of an asset's rows, that of the newest row in force. A row that begins
# with 1970 holds since ever.
CAPACITIES = """
with dated as (
    select asset_id, capacity, valid_to,
           coalesce(nullif(valid_from, to_timestamp(0)), timestamptz '0001-01-01 00:00:00+00') as since
    from assets_all
), bounds as (
    select asset_id, since as begins from dated union select asset_id, valid_to from dated where valid_to is not null
)
select b.asset_id, b.begins, arg_max_null(d.capacity, d.since) as capacity
from bounds b
left join dated d on d.asset_id = b.asset_id and d.since <= b.begins and (d.valid_to is null or d.valid_to > b.begins)
group by b.asset_id, b.begins
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One asset of the fleet as a verb sees it.

    Args:
        config: resolved for this asset; shared by all assets with the same overrides.
        settings: index into the population's settings.
        rows: actuals stored.
        data_end: end of the interval of its last finite reading, of its last row where none is finite;
            UTC microseconds, None without rows.
        first_reading: start of the interval of its first finite reading.
        static: register facts.
        capacities: (UTC microseconds from which it holds, capacity; NaN where none is known), in order of time;
            empty when none was ever known.
    """

    asset_id: str
    config: AssetConfig
    settings: int
    rows: int
    data_end: int | None
    first_reading: datetime | None
    static: Mapping[str, object]
    capacities: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """The assets of a verb, sorted by id, and the distinct settings they refer to.

    Args:
        newest: end of the data of the whole fleet, selected or not; UTC microseconds, None without a row.
        product: the one that all of this is about.
    """

    members: tuple[Member, ...]
    settings: tuple[Settings, ...]
    newest: int | None = None
    product: str = "default"


def population(snapshot: Snapshot, config: FleetConfig, *, select: Sequence[str], where: str | None) -> Population:
    """`populations` of the main product, with all assets, whether it is issued for them or not."""
    return _found(snapshot, config, [config.product_names[0]], select, where, whole=True)[0]


def populations(
    snapshot: Snapshot, config: FleetConfig, products: Sequence[str], *, select: Sequence[str], where: str | None
) -> tuple[Population, ...]:
    """By product the assets that match any glob of `select` and the SQL predicate `where` over `assets`.

    Args:
        products: of the configuration; one that is issued for none of these assets has no members.
        select: globs; a single text is one.

    Raises:
        ConfigInvalid: `where` is empty.
        NothingSelected: the selection matches no asset, or the store holds none.
    """
    return _found(snapshot, config, products, select, where, whole=False)


def _found(
    snapshot: Snapshot,
    config: FleetConfig,
    products: Sequence[str],
    select: Sequence[str],
    where: str | None,
    *,
    whole: bool,
) -> tuple[Population, ...]:
    if where is not None and not where.strip():
        raise ConfigInvalid("where is empty", hint="leave it out for all assets, or say for example: kind = 'large'")
    found = snapshot.sql(SUMMARY).rows()
    if not found:
        raise NothingSelected("the store holds no asset", hint="tsfleet ingest brings them in")
    globs = (select,) if isinstance(select, str) else select
    chosen = wanted(snapshot, [row["asset_id"] for row in found], globs, where)
    capacities = _capacities(snapshot)
    settings: dict[str, dict[Settings, int]] = {product: {} for product in products}
    members: dict[str, list[Member]] = {product: [] for product in products}
    for row in found:
        if row["asset_id"] not in chosen:
            continue
        register = json.loads(row["register"])
        for product in products:
            resolved = config.for_asset(row["asset_id"], register, product)
            if not whole and product not in resolved.products:
                continue
            known = settings[product]
            members[product].append(
                Member(
                    asset_id=row["asset_id"],
                    config=resolved,
                    settings=known.setdefault(settings_of(resolved), len(known)),
                    rows=row["n"],
                    data_end=_data_end(row["last_reading"] or row["last_row"], resolved),
                    first_reading=row["first_reading"],
                    static={k: v for k, v in resolved.static.items() if v is not None},
                    capacities=capacities.get(row["asset_id"], ()),
                )
            )
    newest = _newest(found, config)
    return tuple(
        Population(members=tuple(members[product]), settings=tuple(settings[product]), newest=newest, product=product)
        for product in products
    )


def _newest(found: Sequence[Mapping[str, Any]], config: FleetConfig) -> int | None:
    ends = {row["last_reading"] or row["last_row"]: row for row in found}
    last = max((moment for moment in ends if moment is not None), default=None)
    if last is None:
        return None
    return _data_end(last, config.for_asset(ends[last]["asset_id"], json.loads(ends[last]["register"])))


def _capacities(snapshot: Snapshot) -> dict[str, tuple[tuple[int, float], ...]]:
    """What is known of the capacities of the fleet; only assets of which something is."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in snapshot.sql(f"select * from ({CAPACITIES}) order by asset_id, begins").rows():
        value = math.nan if row["capacity"] is None else row["capacity"]
        found.setdefault(row["asset_id"], []).append((to_micros(row["begins"]), value))
    return {asset: tuple(held) for asset, held in found.items() if any(math.isfinite(value) for _, value in held)}


def settings_of(config: AssetConfig) -> Settings:
    """The product's grid and the training window of an asset."""
    return Settings(
        product=config.product,
        tz=config.timezone,
        freq=config.freq,
        horizon=config.horizon,
        seasons=tuple(config.seasons),
        quantiles=tuple(config.quantiles),
        seed=config.seed,
        window_us=_microseconds(config.train.window),
        judgement=Judgement(
            count=config.backtest.origins,
            stride=pd.Timedelta(config.backtest.stride or timedelta(days=1)),
            first=None if config.backtest.first is None else pd.Timestamp(config.backtest.first),
            refit=config.backtest.refit,
        ),
        days_ahead=config.days_ahead,
        days=config.days,
        timetable=config.timetable,
        gate=config.gate,
    )


def _microseconds(length: timedelta | None) -> int | None:
    return None if length is None else round(length.total_seconds() * 1e6)


def wanted(snapshot: Snapshot, ids: Sequence[str], select: Sequence[str], where: str | None) -> set[str]:
    """Those of these assets that match any glob of `select` and the SQL predicate `where`.

    Raises:
        NothingSelected: none does.
    """
    found = set(ids)
    if select:
        found = {i for i in ids if any(i == glob or fnmatch.fnmatchcase(i, glob) for glob in select)}
    if where is not None:
        found &= {row["asset_id"] for row in snapshot.sql(f"select asset_id from assets where (\n{where}\n)").rows()}
    if not found:
        said = " ".join([*(f"--select {glob}" for glob in select), *([f"--where {where}"] if where else [])])
        raise NothingSelected(f"{said} matches none of {len(ids)} assets", hint=f"an id is for example {ids[0]}")
    return found


def peer_levels(snapshot: Snapshot, issue: int) -> dict[object, float]:
    """By kind the median level of its assets, from what was known at an issue time (UTC microseconds).

    What an asset without a single reading can be expected to be like.
    """
    return {row["kind"]: row["level"] for row in snapshot.sql(LEVELS, {"issue": from_micros(issue)}).rows()}


def _data_end(last: datetime | None, config: AssetConfig) -> int | None:
    return None if last is None else interval_end(to_micros(last), config.freq, config.timezone)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A batch in memory, or in files that workers map."""

    members: tuple[Member, ...]
    assets: Mapping[str, AssetRows]
    panel: Panel
    covariates: Panel | None


def batches(members: Sequence[Member], rows: int | None = None) -> Iterator[tuple[Member, ...]]:
    """Members in order, cut so that a batch holds about so many rows, `BATCH_ROWS` by default."""
    most = BATCH_ROWS if rows is None else rows
    batch: list[Member] = []
    size = 0
    for member in members:
        if batch and size + member.rows > most:
            yield tuple(batch)
            batch, size = [], 0
        batch.append(member)
        size += member.rows
    if batch:
        yield tuple(batch)


def load(
    snapshot: Snapshot,
    config: FleetConfig,
    members: tuple[Member, ...],
    *,
    folder: Path | None,
    with_covariates: bool,
    since: datetime | None = None,
    now: datetime | None = None,
) -> Loaded:
    """Read the rows of a batch: all revisions of the actuals, and all vintages of the covariates where they are wanted.

    Args:
        folder: where to write the files that other processes map; None keeps the rows here.
        since: leave out what is older.
        now: a link that ends later is in force; None takes only links without an end.

    Raises:
        ConfigInvalid: an asset is linked to two series under one name.
    """
    ids = [member.asset_id for member in members]
    table = snapshot.table(
        "actuals_all", assets=ids, since=since, columns=["asset_id", "valid_time", "y", "available_at", "_v"]
    )
    masked = snapshot.table("masks", assets=ids)
    unscored: Mapping[str, tuple[tuple[int, int], ...]] = {}
    if masked.num_rows:
        table = masks.with_masks(table, masked, config.learnt_masks)
        unscored = masks.stretches(masked, config.scored_masks)
    at = {key[0]: span for key, span in spans([table["asset_id"]]).items()}
    panel = panel_of(table, "y", folder / "actuals.arrow" if folder else None)
    covariates, linked = _covariates(snapshot, config, ids, folder, now) if with_covariates else (None, {})
    assets = {
        member.asset_id: AssetRows(
            asset_id=member.asset_id,
            span=at.get(member.asset_id, Span(0, 0)),
            covariates=linked.get(member.asset_id, ()),
            static=member.static,
            capacities=member.capacities,
            unscored=unscored.get(member.asset_id, ()),
        )
        for member in members
    }
    return Loaded(members=members, assets=assets, panel=panel, covariates=covariates)


def _covariates(
    snapshot: Snapshot, config: FleetConfig, ids: Sequence[str], folder: Path | None, now: datetime | None
) -> tuple[Panel | None, dict[str, tuple[Covariate, ...]]]:
    """The covariate panel of these assets, and what each is linked to."""
    links = _links(snapshot, config, ids, now)
    outside = _outside(snapshot, config, ids)
    if not links and not outside.num_rows:
        return None, {}
    series = sorted({part.series for parts in links.values() for part in parts})
    table = snapshot.table("covariates_all", assets=series, columns=outside.column_names)
    table = pa.concat_tables([table.cast(outside.schema), outside])
    at = spans([table["series_id"], table["name"]])
    foresight, vintages = config.foresight_names(), config.vintage_names()
    linked: dict[str, tuple[Covariate, ...]] = {}
    for (asset, name), parts in links.items():
        if any((part.series, name) in at for part in parts):
            linked[asset] = (
                *linked.get(asset, ()),
                *(
                    Covariate(
                        name=name,
                        span=at.get((part.series, name), Span(0, 0)),
                        foresight=name in foresight,
                        vintages=name in vintages,
                        weight=part.weight,
                        since=part.since,
                        until=part.until,
                    )
                    for part in parts
                ),
            )
    for asset, name in sorted(at) if outside.num_rows else ():
        if name.startswith("external:"):
            recipe = name.rpartition(":")[0]
            covariate = Covariate(name=name, span=at[asset, name], foresight=False, vintages=True, outside=recipe)
            linked[asset] = (*linked.get(asset, ()), covariate)
    return panel_of(table, "value", folder / "covariates.arrow" if folder else None), linked


_OUTSIDE = pa.schema(
    [
        *((name, pa.string()) for name in ("series_id", "name")),
        *((name, pa.timestamp("us", "UTC")) for name in ("valid_time", "available_at")),
        ("value", pa.float64()),
        ("_v", pa.int64()),
    ]
)


def _outside(snapshot: Snapshot, config: FleetConfig, ids: Sequence[str]) -> pa.Table:
    """The forecasts that others made for these assets, as covariates with vintages: the mean and each quantile."""
    parts = [_OUTSIDE.empty_table()]
    for section in config.forecasts:
        theirs = {"role": "external", "recipe": section.recipe, "product": section.product}
        table = snapshot.table("forecasts", assets=ids, where=theirs)
        if not table.num_rows:
            continue
        order = [(name, "ascending") for name in ("asset_id", "valid_time", "issue_time")]
        table = table.sort_by(order)
        for column in table.column_names:
            if column == "mean" or (column[0] == "q" and column[1:].isdigit()):
                known = table.filter(table[column].is_valid())
                named = pa.repeat(f"{section.recipe}:{column}", known.num_rows)
                version = pa.repeat(0, known.num_rows)
                times = (known[name] for name in ("valid_time", "issue_time"))
                values = [known["asset_id"], named, *times, known[column], version]
                parts.append(pa.Table.from_arrays(values, names=_OUTSIDE.names).cast(_OUTSIDE))
    return pa.concat_tables(parts)


class _Part(NamedTuple):
    """One series under a name: its weight among several (None: it is the only one), and when it holds, as instants."""

    series: str
    weight: float | None
    since: int
    until: int


def _links(
    snapshot: Snapshot, config: FleetConfig, ids: Sequence[str], now: datetime | None
) -> dict[tuple[str, str], list[_Part]]:
    """The series that each of these assets sees under each configured name, sorted by asset and name."""
    declared = {name for section in config.covariates for name in section.columns}
    if not declared:
        return {}
    found: dict[tuple[str, str], list[_Part]] = {}
    for row in snapshot.table("links", assets=ids, where={"name": sorted(declared)}).to_pylist():
        key, weight, ends = (row["asset_id"], row["name"]), row.get("weight"), row["valid_to"]
        if weight is None:
            if ends is None or (now is not None and ends > now):
                found.setdefault(key, []).append(_Part(row["series_id"], None, EVER[0], EVER[1]))
            continue
        since = EVER[0] if row["valid_from"] == EPOCH else to_micros(row["valid_from"])
        until = EVER[1] if ends is None else to_micros(ends)
        if until > to_micros(row["valid_from"]):
            found.setdefault(key, []).append(_Part(row["series_id"], weight, since, until))
    for (asset, name), parts in found.items():
        series = {part.series for part in parts}
        if len(series) > 1 and any(part.weight is None for part in parts):
            raise ConfigInvalid(
                f"asset {asset}: {name} is linked to {' and '.join(sorted(series))}",
                hint="tsfleet ingest closes the links that the configuration does not name",
            )
    return dict(sorted(found.items()))
