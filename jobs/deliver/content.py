"""What a delivery holds: published forecasts at a snapshot as a table in the receiver's layout and units, and as bytes.

A pure function of snapshot, slot and configuration, so that a number can be sent again; no clock, no order by chance.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fleet import calendar
from fleet.config.delivering import SAID
from fleet.config.values import ENERGY, POWER
from fleet.metrics import quantile_column
from fleet.population import populations
from fleet.timetable import local_date
from fleet.zones import DAY, zone_of
from jobs.errors import DeliveryInvalid
from store.clock import to_micros

if TYPE_CHECKING:
    from fleet.config import DeliverySection, FleetConfig
    from fleet.population import Member, Population
    from store.reading import Snapshot

INSTANT = pa.timestamp("us", "UTC")
LONG = ("asset_id", "issue_time", "valid_time", "mean")
NEWEST = "select max(issue_time) as issue from published where product = $product and issue_time <= $slot"
ROWS = """
select p.*, w.factor, w.tz, w.freq from published p
join wanted w on w.asset_id = p.asset_id and w.issue = p.issue_time
where p.product = $product order by p.asset_id, p.valid_time
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What is sent under one number.

    Args:
        table: in the receiver's columns and units.
        data: as bytes; for sql the CSV form, whose hash stands for the rows.
        issue: the newest issue in it, day: the first local day; None where there is no row.
        assets: that are in it, of the missing ones nothing was published for this issue.
    """

    table: pa.Table
    data: bytes
    issue: datetime | None
    day: date | None
    assets: int
    missing: tuple[str, ...]

    @property
    def sha256(self) -> str:
        return sha256(self.data).hexdigest()


class _Want(NamedTuple):
    asset_id: str
    issue: int
    factor: float
    tz: str
    freq: str


def content_of(snapshot: Snapshot, config: FleetConfig, section: DeliverySection, slot: datetime) -> Content:
    """The published forecasts of the issue that a slot is about.

    Args:
        slot: of a product with a timetable its last issue by then, on each asset's clock; of any other the newest.

    Raises:
        DeliveryInvalid: an asset's register has no unit that can be turned into the one asked for.
    """
    people = _people(snapshot, config, section)
    newest = snapshot.sql(NEWEST, {"product": section.product, "slot": slot}).rows()[0]["issue"]
    wanted = [
        _Want(
            member.asset_id,
            _issue(people, member, to_micros(slot), newest),
            _factor(section, member),
            member.config.timezone,
            member.config.freq,
        )
        for member in people.members
    ]
    columns: dict[str, Any] = {
        name: pa.array([getattr(one, name) for one in wanted]) for name in ("asset_id", "factor", "tz", "freq")
    }
    columns["issue"] = pa.array([one.issue for one in wanted], pa.int64()).cast(INSTANT)
    rows = snapshot.sql(ROWS, {"product": section.product}, {"wanted": pa.table(columns)}).arrow()
    values = _values(rows, section)
    table = _long(rows, values, section) if section.layout == "long" else _local_days(rows, values)
    there = set(rows["asset_id"].to_pylist())
    first = rows["valid_time"][0].as_py() if rows.num_rows else None
    return Content(
        table=table,
        data=_bytes(table, section),
        issue=pc.max(rows["issue_time"]).as_py(),
        day=None if first is None else _date(local_date(to_micros(first), rows["tz"][0].as_py())),
        assets=len(there),
        missing=tuple(one.asset_id for one in wanted if one.asset_id not in there),
    )


def _people(snapshot: Snapshot, config: FleetConfig, section: DeliverySection) -> Population:
    return populations(snapshot, config, [section.product], select=section.select, where=section.where)[0]


def _issue(people: Population, member: Member, slot: int, newest: datetime | None) -> int:
    """The issue that a slot is about, UTC microseconds; -1 before there was any."""
    settings = people.settings[member.settings]
    if settings.timetable is not None:
        return settings.timetable.last(slot, settings.tz)
    return -1 if newest is None else to_micros(newest)


def _factor(section: DeliverySection, member: Member) -> float:
    """From the asset's unit to the one that is delivered."""
    if section.unit is None:
        return section.scale
    own = member.static.get("unit")
    for units in (POWER, ENERGY):
        if section.unit in units and own in units:
            return units[str(own)] / units[section.unit] * section.scale
    raise DeliveryInvalid(
        f"{member.asset_id} is counted in {own or 'no unit'}, which cannot be turned into {section.unit}",
        hint="give it a unit in the register, or leave unit out and say scale",
    )


def _values(rows: pa.Table, section: DeliverySection) -> dict[str, pa.Array]:
    """Mean and quantiles in the receiver's unit, rounded as it wishes."""
    named = [name for name in section.columns or {} if name not in SAID]
    wanted = named or ["mean", *(quantile_column(level) for level in section.quantiles)]
    made = {}
    for name in wanted:
        given = rows[name] if name in rows.column_names else pa.nulls(rows.num_rows, pa.float64())
        value = pc.multiply(given.cast(pa.float64()), rows["factor"])
        made[name] = value if section.decimals is None else pc.round(value, section.decimals)
    return made


def _long(rows: pa.Table, values: Mapping[str, pa.Array], section: DeliverySection) -> pa.Table:
    """A row for each step; columns as the receiver calls them."""
    given = section.columns or {name: name for name in [*LONG[:-1], *values]}
    made = {theirs: values[ours] if ours in values else _said(rows, ours) for ours, theirs in given.items()}
    return pa.table(made)


def _said(rows: pa.Table, name: str) -> pa.ChunkedArray | pa.Array:
    """A column beside the values; text has no dictionary, so that equal content has equal bytes."""
    if name in ("local_time", "date"):
        instants = rows["valid_time"].cast(pa.int64()).to_numpy()
        zones = rows["tz"].to_numpy(zero_copy_only=False)
        texts = np.empty(len(instants), dtype=object)
        for tz in sorted(set(zones)):
            mine = zones == tz
            shown = calendar.from_micros(instants[mine]).tz_convert(tz)
            texts[mine] = [at.date().isoformat() if name == "date" else at.isoformat() for at in shown]
        return pa.array(texts, pa.string())
    column = rows[name]
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def _local_days(rows: pa.Table, values: Mapping[str, pa.Array]) -> pa.Table:
    """A row for each asset, local day and value; the columns are the steps of the day, from midnight on the clock."""
    instants = rows["valid_time"].cast(pa.int64()).to_numpy()
    zones, freqs, assets = (rows[name].to_numpy(zero_copy_only=False) for name in ("tz", "freq", "asset_id"))
    days, places = np.zeros(len(instants), np.int64), np.zeros(len(instants), np.int64)
    width = 0
    for tz, freq in sorted(set(zip(zones.tolist(), freqs.tolist(), strict=True))):
        mine = np.flatnonzero((zones == tz) & (freqs == freq))
        days[mine], places[mine], steps = _placed(instants[mine], tz, freq)
        width = max(width, steps)
    keys = sorted(set(zip(assets.tolist(), days.tolist(), strict=True)))
    line = {key: k for k, key in enumerate(keys)}
    at = np.array([line[key] for key in zip(assets.tolist(), days.tolist(), strict=True)], dtype=np.int64)
    names = list(values)
    cells = np.full((len(keys), len(names), width), np.nan)
    for k, name in enumerate(names):
        cells[at, k, places] = values[name].to_numpy(zero_copy_only=False)
    flat = cells.reshape(len(keys) * len(names), width)
    made: dict[str, pa.Array] = {
        "asset_id": pa.array([asset for asset, _ in keys for _ in names], pa.string()),
        "date": pa.array([_date(day).isoformat() for _, day in keys for _ in names], pa.string()),
        "value": pa.array(names * len(keys), pa.string()),
    }
    made |= {str(k + 1): pa.array(flat[:, k], from_pandas=True) for k in range(width)}
    return pa.table(made)


def _placed(instants: np.ndarray[Any, Any], tz: str, freq: str) -> tuple[Any, Any, int]:
    """Of each instant its local day and which step of it it is; and how many the longest of these days has."""
    if calendar.is_calendar_step(freq):
        raise DeliveryInvalid(
            f"steps of {freq} have no local-day layout", hint='layout = "long" holds for steps of any length'
        )
    length = round(calendar.step_seconds(freq) * 1e6)
    zone = zone_of(tz, int(instants.min()) - DAY, int(instants.max()) + 2 * DAY)
    days = zone.local(instants) // DAY
    begins, ends = zone.utc(days * DAY), zone.utc((days + 1) * DAY)
    return days, (instants - begins) // length, int(((ends - begins) // length).max())


def _date(day: int) -> date:
    return datetime.fromtimestamp(day * 86_400, UTC).date()


def _bytes(table: pa.Table, section: DeliverySection) -> bytes:
    form = {"csv": "csv", "sql": "csv", "parquet": "parquet", "http": section.body}[section.format]
    if form == "parquet":
        import pyarrow.parquet as pq

        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        return sink.getvalue()
    texts = texted(table)
    if form == "json":
        return json.dumps(texts.to_pylist(), ensure_ascii=False, separators=(",", ":")).encode()
    from pyarrow import csv

    sink = io.BytesIO()
    csv.write_csv(texts, sink, csv.WriteOptions(quoting_style="needed"))
    return sink.getvalue()


def texted(table: pa.Table) -> pa.Table:
    """Instants as ISO 8601 text with Z.

    >>> texted(pa.table({"t": pa.array([0], pa.int64()).cast(INSTANT)}))["t"].to_pylist()
    ['1970-01-01T00:00:00Z']
    """
    made: dict[str, Sequence[Any]] = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_timestamp(column.type):
            column = pc.strftime(column.cast(pa.timestamp("s", "UTC")), format="%Y-%m-%dT%H:%M:%SZ")
        made[name] = column
    return pa.table(made)


def filled(pattern: str, content: Content, product: str, number: int) -> str:
    """A path pattern with its placeholders; nothing in it can begin another folder.

    Raises:
        DeliveryInvalid: the product's name holds a character that is no part of a file's name.
    """
    if "/" in product or "\0" in product or product.startswith("."):
        raise DeliveryInvalid(f"the product {product!r} is no part of a file's name", hint="leave {product} out")
    issue = "" if content.issue is None else f"{content.issue.astimezone(UTC):%Y%m%dT%H%MZ}"
    day = "" if content.day is None else content.day.isoformat()
    for name, value in {"product": product, "issue": issue, "number": str(number), "date": day}.items():
        pattern = pattern.replace(f"{{{name}}}", value)
    return pattern
