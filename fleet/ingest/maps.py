"""Which stations or grid points an asset looks at, from when to when, and how much each of them counts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa

from fleet.config import Origin
from fleet.errors import SeriesInvalid
from fleet.sources import Source, opened, streamed
from store.clock import EPOCH

COLUMNS = ("asset", "series", "weight", "valid_from", "valid_to")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """One row of a map: at the instants from `valid_from` to before `valid_to` the series counts with its weight."""

    asset: str
    series: str
    weight: float
    valid_from: datetime
    valid_to: datetime | None


def read_map(path: str, folder: Path, section: str, timezone: str) -> list[Mapped]:
    """The rows of a map: columns asset and series, and weight (1), valid_from, valid_to where they are needed.

    Args:
        section: header of the section that names the map, for messages.
        timezone: what a date without a zone means.

    Raises:
        SeriesInvalid: a column is missing, a value is not what its column takes, a row stands twice.
    """
    with opened(Origin(path=(path,)), folder, section=f"{section} map") as source:
        for name in ("asset", "series"):
            source.require(name, name)
        there = [name for name in COLUMNS if name in source.columns]
        table = pa.Table.from_batches(streamed(source.read(there), source.label))
        rows = [_row(source, place, row, ZoneInfo(timezone)) for place, row in enumerate(table.to_pylist(), 1)]
        seen = set()
        for row in rows:
            key = (row.asset, row.series, row.valid_from)
            if key in seen:
                raise SeriesInvalid(
                    f"{source.label}: asset {row.asset} and series {row.series} stand twice",
                    hint="tell them apart by valid_from",
                )
            seen.add(key)
    return rows


def _row(source: Source, place: int, row: dict[str, object], clock: ZoneInfo) -> Mapped:
    where = f"{source.label}: row {place}"
    asset, series = (str(row[name]).strip() if row[name] is not None else "" for name in ("asset", "series"))
    if not asset or not series:
        raise SeriesInvalid(f"{where} lacks its asset or its series")
    weight = _weight(row.get("weight"), where)
    since = instant(row.get("valid_from"), clock, where) or EPOCH
    until = instant(row.get("valid_to"), clock, where)
    if until is not None and until <= since:
        raise SeriesInvalid(f"{where}: valid_to {until:%Y-%m-%d} is not after valid_from {since:%Y-%m-%d}")
    return Mapped(asset=asset, series=series, weight=weight, valid_from=since, valid_to=until)


def _weight(said: object, where: str) -> float:
    if said is None or said == "":
        return 1.0
    try:
        weight = float(str(said))
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0):
        raise SeriesInvalid(f'{where}: weight = "{said}": expected a number above 0')
    return weight


def instant(said: object, clock: ZoneInfo, where: str) -> datetime | None:
    """A date or time of a row as an instant, one without a zone on this clock; None where the row says nothing."""
    if said is None or said == "":
        return None
    value = said
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise SeriesInvalid(f'{where}: "{said}": expected a date such as 2024-06-10') from error
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)  # noqa: DTZ001  # its zone is put on below
    if not isinstance(value, datetime):
        raise SeriesInvalid(f'{where}: "{said}": expected a date such as 2024-06-10')
    return (value if value.tzinfo else value.replace(tzinfo=clock)).astimezone(UTC)
