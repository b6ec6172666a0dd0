"""Covariates: what models may look at beside the history, its series, and which asset sees which of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fleet.config import CovariateSection, FleetConfig
from fleet.config.messages import meant, place
from fleet.config.resolving import as_text, facts_of
from fleet.errors import ConfigInvalid, SeriesInvalid
from fleet.ingest.cleaning import Clean, Rules, Step, cleaned
from fleet.ingest.faults import BadRows
from fleet.ingest.maps import read_map
from fleet.ingest.readings import Columns, batches
from fleet.ingest.register import Register
from fleet.ingest.report import dictionary, moment
from fleet.ingest.staged import Staged
from fleet.ingest.stamps import BoolArray
from fleet.ingest.stored import Known, codes_of, compared, instants_of, known_since, matched
from fleet.sources import Source
from fleet.zones import IntArray
from store.clock import EPOCH

if TYPE_CHECKING:
    from store import Snapshot

LinkKey = tuple[str, str, str, datetime]
"""Asset, series, name, and from when on it holds."""
Links = dict[LinkKey, tuple[datetime | None, float | None]]
"""Until when each link holds, and its weight among several of one name; None where there is no map."""


@dataclass(kw_only=True)
class Covariates:
    """One reading of one ``[[covariates]]`` source.

    Args:
        number: its place in the file, from 0; names it where nothing else does.
        now: UTC microseconds; when a value that replaces another one became known.
    """

    config: FleetConfig
    section: CovariateSection
    number: int
    snapshot: Snapshot
    transaction: Staged
    register: Register
    bad: BadRows
    now: int
    rows: int = 0
    _series: dict[str, Step] = field(default_factory=dict)
    _stored: frozenset[str] = frozenset()
    _before: frozenset[str] = frozenset()

    def bring(self, source: Source) -> None:
        """Read all of it."""
        section = self.section
        option = "asset" if section.asset is not None else "series"
        columns = Columns(
            key=section.asset or section.series,
            key_option=option,
            time=section.time,
            values=section.columns,
            available_at=section.available_at,
        )
        names = self.snapshot.sql("select series_id, source from series").rows()
        self._stored = frozenset(row["series_id"] for row in names)
        self._before = frozenset(row["series_id"] for row in names if row["source"] == self.name) - {self.name}
        for batch in batches(source, columns, section):
            if columns.key is None:
                batch.keys = [self.name for _ in batch.keys]
            steps = [self._step(key) for key in batch.keys]
            none = np.full(len(batch.keys), -1, dtype=np.int64)
            clean, faults = cleaned(batch, Rules(stamps=section, steps=steps, grid=False, known=none), source.label)
            self.bad.add(batch, faults)
            self.rows += len(batch)
            if self.bad.keep or not self.bad.total:
                self._series |= {clean.keys[code] or "": steps[code] for code in clean.present()}
                for number, name in enumerate(section.columns):
                    self._hand_over(clean, number, name)

    @property
    def name(self) -> str:
        """What the source is called: as the section says, else as its file or function."""
        section = self.section
        if section.name is not None:
            return section.name
        if section.path is not None:
            stem = Path(section.path[0]).name.split(".")[0]
            return stem if stem and not set(stem) & set("*?[") else f"covariates_{self.number + 1}"
        return section.python.partition(":")[2] if section.python is not None else f"covariates_{self.number + 1}"

    def _step(self, key: str | None) -> Step:
        if self.section.asset is not None:
            view = self.config.for_asset(key or "", self.register.assets.get(key or ""))
            return self.section.freq or view.freq, view.timezone
        return self.section.freq or self.config.fleet.freq, self.config.fleet.timezone

    def _hand_over(self, clean: Clean, place: int, name: str) -> None:
        there, same, before = self._compared(clean, place, name)
        new = ~same
        if not new.any():
            return
        available = clean.available
        if self.section.available_at is None:
            available = known_since(available, before, there & new, self.section, self.now)
        some, available = (clean, available) if new.all() else (clean.taken(new), available[new])
        utc = pa.timestamp("us", "UTC")
        names = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(some), dtype=np.int32)), pa.array([name]))
        columns = {
            "series_id": dictionary(some),
            "name": names,
            "valid_time": pa.array(some.starts, utc),
            "available_at": pa.array(available, utc),
            "value": pa.array(some.values[place]),
        }
        # Every vintage is a row of its own and the newest wins, so nothing has to be looked up again.
        self.transaction.insert("covariates", pa.table(columns))

    def _compared(self, clean: Clean, place: int, name: str) -> tuple[BoolArray, BoolArray, IntArray]:
        """Which rows the store has, which of them with this value, and when what it has was known."""
        stored = [key for key in clean.keys if key is not None and key in self._stored]
        if not stored or not len(clean):
            none = np.zeros(len(clean), dtype=bool)
            return none, none, clean.available
        vintages = self.section.available_at is not None
        table = self.snapshot.table(
            "covariates_all" if vintages else "covariates",
            assets=stored,
            since=moment(int(clean.starts.min())),
            until=moment(int(clean.starts.max()) + 1),
            columns=["series_id", "valid_time", "available_at", "value"],
            where={"name": name},
        )
        mine: tuple[IntArray, ...] = (clean.codes, clean.starts)
        theirs: tuple[IntArray, ...] = (codes_of(table["series_id"], clean.keys), instants_of(table["valid_time"]))
        available = instants_of(table["available_at"])
        if vintages:
            mine, theirs = (*mine, clean.available), (*theirs, available)
        there, same = compared(mine, clean.values[place], Known(theirs, table["value"].cast(pa.float64()).to_numpy()))
        if vintages or not len(available):
            return there, same, clean.available
        _, row = matched(mine, theirs)
        return there, same, available[row]

    # -- series and links --------------------------------------------------------------------------------------------

    def series_rows(self) -> list[dict[str, Any]]:
        """A row for each series of the source."""
        return [
            {"series_id": series, "source": self.name, "freq": freq, "timezone": tz}
            for series, (freq, tz) in self._series.items()
        ]

    def links(self) -> Links:
        """Which asset sees which series, under which names."""
        if self.section.map is not None:
            return self._mapped(self.section.map)
        return {
            (asset, series, name, EPOCH): (None, None)
            for asset, series in self._pairs()
            for name in self.section.columns
        }

    def _mapped(self, path: str) -> Links:
        """What the map says of assets that are known and series that there is something of."""
        header = place(["covariates", self.number])
        rows = read_map(path, self.config.folder, header, self.config.fleet.timezone)
        known_series = self._before | self._series.keys()
        lacking = sorted({row.series for row in rows if row.series not in known_series})
        if lacking:
            near = meant(lacking[0], known_series)
            raise SeriesInvalid(f"{header} map: {len(lacking)} series are not in the source, as {lacking[0]}{near}")
        return {
            (row.asset, row.series, name, row.valid_from): (row.valid_to, row.weight)
            for row in rows
            if row.asset in self.register.assets
            for name in self.section.columns
        }

    def _pairs(self) -> Iterable[tuple[str, str]]:
        assets, section = self.register.assets, self.section
        # What the source gave before is still its own: a file that lacks a series for once takes no link away.
        known_series = self._before | self._series.keys()
        if section.asset is not None:
            return [(series, series) for series in known_series if series in assets]
        if section.series is None:
            return [(asset, series) for asset in assets for series in self._series or {self.name} & self._stored]
        column = section.link or section.series
        facts = {asset: facts_of(row) for asset, row in assets.items()}
        told = any(column in row for row in facts.values())
        if section.link is None and (len(known_series) == 1 or (len(self._series) == 1 and not told)):
            return [(asset, series) for asset in assets for series in self._series or known_series]
        if not told:
            known = {name for row in facts.values() for name in row}
            raise ConfigInvalid(
                f"{self.config.file.name}: [[covariates]] no. {self.number + 1}: {len(self._series)} series, and "
                f"the register has no column {column} that says which one an asset sees{meant(column, known)}",
                hint='name the column of the register with link = "..."',
            )
        wanted = ((asset, as_text(row.get(column))) for asset, row in facts.items())
        return [(asset, series) for asset, series in wanted if series is not None and series in known_series]


def write_links(snapshot: Snapshot, transaction: Staged, links: Links, now: datetime) -> None:
    """Hand the links that are new, different or wanted no more to a transaction.

    A link without a weight has one row, that of all time, for a model looks at the whole past of the series that the
    asset sees today; it ends now. Those of a map hold at the instants that it names; one that is no longer in the map
    holds at none.
    """
    stored: dict[LinkKey, tuple[datetime | None, float | None]] = {}
    for row in snapshot.table("links").to_pylist():
        key = (row["asset_id"], row["series_id"], row["name"], row["valid_from"].astimezone(UTC))
        until = row["valid_to"]
        stored[key] = (until.astimezone(UTC) if until is not None else None, row.get("weight"))
    transaction.insert("links", [_link_row(key, *links[key]) for key in sorted(links.keys() - stored.keys())])
    changed = [_link_row(key, *links[key]) for key in sorted(links.keys() & stored.keys()) if links[key] != stored[key]]
    for key, (until, weight) in stored.items():
        end = now if weight is None else key[3]
        if key not in links and (until is None or until > end):
            changed.append(_link_row(key, end, weight))
    if changed:
        transaction.replace("links", changed)


def _link_row(key: LinkKey, until: datetime | None, weight: float | None) -> dict[str, Any]:
    asset, series, name, since = key
    row = {"asset_id": asset, "series_id": series, "name": name, "valid_from": since, "valid_to": until}
    return row if weight is None else row | {"weight": weight}


def write_series(snapshot: Snapshot, transaction: Staged, rows: Iterable[Mapping[str, Any]]) -> None:
    """Hand the series that are new or different to a transaction."""
    known = {row["series_id"]: row for row in snapshot.table("series").to_pylist()}
    wanted = {row["series_id"]: row for row in rows}
    transaction.insert("series", [row for series, row in wanted.items() if series not in known])
    changed = [row for series, row in wanted.items() if series in known and dict(row) != known[series]]
    if changed:
        transaction.replace("series", changed)
