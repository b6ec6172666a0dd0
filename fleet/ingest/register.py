"""The asset register: one row for each asset, its facts typed and checked, further columns kept as JSON.

A register without dates says what holds, and replaces what it said before; one with ``valid_from`` tells the history
of each asset. An asset that only the data know gets a plain row, so that everything the store holds can be asked
about.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pyarrow as pa
from pydantic_core import PydanticCustomError

from fleet.config import AssetsSection
from fleet.config.document import REGISTER_COLUMNS
from fleet.config.values import step, zone
from fleet.errors import SeriesInvalid
from fleet.ingest.staged import Staged
from fleet.sources import Source, opened, streamed
from store.clock import EPOCH
from store.errors import InvalidId
from store.ids import check_asset_id

if TYPE_CHECKING:
    from store import Snapshot

Row = dict[str, Any]
STATES = ("planned", "active", "retired")
_DATES = ("valid_from", "valid_to")
_FIELDS = ("asset_id", *REGISTER_COLUMNS, "meta", *_DATES)


@dataclass(kw_only=True)
class Register:
    """The assets that are known, and those that have to be written.

    Args:
        stored: rows of the store, by (asset, valid_from).
        rows: stored rows with those of the register over them.
    """

    stored: Mapping[tuple[str, datetime], Row]
    now: datetime
    rows: dict[tuple[str, datetime], Row] = field(default_factory=dict)
    _facts: dict[str, Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rows = dict(self.stored)
        self._arrange()

    @property
    def assets(self) -> Mapping[str, Row]:
        """What holds now of each asset."""
        return self._facts

    def columns(self) -> set[str]:
        """The columns there are, further ones included."""
        return {name for row in self._facts.values() for name in json.loads(row.get("meta") or "{}")}

    def bring(self, rows: Iterable[Row]) -> None:
        """Take over what a register says."""
        for row in rows:
            asset, since = row["asset_id"], row["valid_from"]
            plain = self.rows.get((asset, EPOCH))
            if since > EPOCH and plain is not None and plain.get("valid_to") is None:
                self.rows[asset, EPOCH] = {**plain, "valid_to": since}
            self.rows[asset, since] = row
        self._arrange()

    def see(self, assets: Iterable[str], unit: str | None = None) -> None:
        """Give those assets that nothing is known of a plain row, with the unit of their readings where it is told."""
        for asset in assets:
            if asset not in self._facts:
                row = dict.fromkeys(_FIELDS) | {"asset_id": asset, "state": "active", "meta": "{}", "valid_from": EPOCH}
                row["unit"] = unit
                self.rows[asset, EPOCH] = self._facts[asset] = row

    def write(self, transaction: Staged) -> int:
        """Hand what is new or different to a transaction; the number of assets that were not known before."""
        fresh = [row for key, row in self.rows.items() if key not in self.stored]
        changed = [row for key, row in self.rows.items() if key in self.stored and row != self.stored[key]]
        transaction.insert("assets", fresh)
        if changed:
            transaction.replace("assets", changed)
        return len({row["asset_id"] for row in fresh} - {asset for asset, _ in self.stored})

    def _arrange(self) -> None:
        self._facts = {}
        for (asset, since), row in sorted(self.rows.items(), key=lambda item: item[0]):
            if asset not in self._facts or since <= self.now:
                self._facts[asset] = row


def stored(snapshot: Snapshot, now: datetime) -> Register:
    """The register as the store has it."""
    table = snapshot.table("assets_all", columns=list(_FIELDS))
    return Register(stored={(row["asset_id"], row["valid_from"]): row for row in _utc(table.to_pylist())}, now=now)


def _utc(rows: Sequence[Row]) -> Iterable[Row]:
    for row in rows:
        yield row | {name: row[name].astimezone(UTC) for name in _DATES if row[name] is not None}


def read(section: AssetsSection, folder: Path, timezone: str) -> list[Row]:
    """The rows of a register as the store keeps them.

    Args:
        timezone: what a ``valid_from`` without a zone means.

    Raises:
        SeriesInvalid: a column is missing, an id stands twice, a value is not what its column takes.
    """
    with opened(section, folder, section="[assets]") as source:
        source.require("asset", section.asset)
        names = _columns(section, source)
        table = pa.Table.from_batches(streamed(source.read(["*"]), source.label)) if source.columns else None
        columns = {} if table is None else {name: table[name].to_pylist() for name in table.column_names}
        if not columns or not len(columns[section.asset]):
            raise SeriesInvalid(f"{source.label}: holds no row", hint="is it the right file?")
        return _rows(section, source, names, columns, ZoneInfo(timezone))


def _columns(section: AssetsSection, source: Source) -> dict[str, str]:
    """The store's column -> the register's, for those it has; one that the configuration names has to be there."""
    names = {}
    for name in (*REGISTER_COLUMNS, *_DATES):
        theirs = getattr(section, name)
        if name in section.model_fields_set:
            source.require(name, theirs)
        if theirs in source.columns:
            names[name] = theirs
    return names


def _rows(
    section: AssetsSection, source: Source, names: Mapping[str, str], columns: Mapping[str, list[Any]], clock: ZoneInfo
) -> list[Row]:
    further = {
        name: _numbers(values) for name, values in columns.items() if name not in (section.asset, *names.values())
    }
    rows: dict[tuple[str, datetime], Row] = {}
    for place, said in enumerate(columns[section.asset]):
        asset = _id(said, source, place)
        row: Row = dict.fromkeys(_FIELDS) | {"asset_id": asset, "state": "active", "valid_from": EPOCH}
        for name, theirs in names.items():
            value = _known(columns[theirs][place])
            if value is not None:
                row[name] = _typed(name, value, clock, f"{source.label}: asset {asset}: {theirs}")
        meta = {name: value for name, values in further.items() if (value := _plain(values[place])) is not None}
        row["meta"] = json.dumps(meta, ensure_ascii=False, sort_keys=True)
        key = (asset, row["valid_from"])
        if key in rows:
            raise SeriesInvalid(
                f"{source.label}: asset {asset} stands twice", hint="one row for each asset, or a column valid_from"
            )
        rows[key] = row
    return list(rows.values())


def _id(said: object, source: Source, place: int) -> str:
    if said is None or said == "":
        raise SeriesInvalid(f"{source.label}: row {place + 1} has no id")
    try:
        return check_asset_id(str(said))
    except InvalidId as error:
        raise SeriesInvalid(f"{source.label}: row {place + 1}: {error.message}") from error


def _typed(name: str, value: Any, clock: ZoneInfo, where: str) -> object:
    """A fact in the type of its column."""
    convert: dict[str, Callable[[Any], object]] = {
        "capacity": float,
        "timezone": zone,
        "freq": step,
        "valid_from": lambda given: _instant(given, clock),
        "valid_to": lambda given: _instant(given, clock),
    }
    if name == "state" and value not in STATES:
        raise SeriesInvalid(f'{where} = "{value}"; accepted: {", ".join(STATES)}')
    try:
        made = convert.get(name, str)(value)
    except PydanticCustomError as error:
        raise SeriesInvalid(f'{where} = "{value}": {error.message()}') from error
    except (TypeError, ValueError) as error:
        wanted = "a number" if name == "capacity" else "a date such as 2024-06-10"
        raise SeriesInvalid(f'{where} = "{value}": expected {wanted}') from error
    if isinstance(made, float) and not math.isfinite(made):
        raise SeriesInvalid(f"{where} = {value}: expected a finite number")
    return made


def _instant(value: Any, clock: ZoneInfo) -> datetime:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    elif isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)  # noqa: DTZ001  # its zone is put on below
    if not isinstance(value, datetime):
        raise TypeError(type(value).__name__)
    return (value if value.tzinfo else value.replace(tzinfo=clock)).astimezone(UTC)


def _known(value: object) -> object:
    """None for what stands for nothing."""
    absent = value is None or (isinstance(value, float) and math.isnan(value))
    return None if absent or (isinstance(value, str) and not value.strip()) else value


def _numbers(values: list[Any]) -> list[Any]:
    """A column of text that holds only numbers, as numbers; any other as it is."""
    texts = [value for value in values if _known(value) is not None]
    if not texts or not all(isinstance(value, str) for value in texts):
        return values
    try:
        made = [None if _known(value) is None else float(value) for value in values]
    except ValueError:
        return values
    if not all(value is None or math.isfinite(value) for value in made):
        return values
    # 007 is a name and 7 a number: only what a number is written as becomes one.
    if any(text.strip().lstrip("-").startswith("0") and text.strip().lstrip("-0")[:1].isdigit() for text in texts):
        return values
    return [int(value) if value is not None and value.is_integer() else value for value in made]


def _plain(value: object) -> object:
    """A further column's value as JSON takes it."""
    value = _known(value)
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, date | datetime):
        return value.isoformat()
    if value is None or isinstance(value, str | int | float | bool | list | dict):
        return value
    return str(value)
