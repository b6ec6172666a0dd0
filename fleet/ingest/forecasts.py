"""Forecasts that somebody else made, with the time at which each was issued: recipe ``external:NAME``.

They are stored as they came, under the role external, and scored when the actuals arrive. A row is known from its
issue time on (and the publication delay of its source), so in a backtest they compete as they would have in life.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from fleet import registry
from fleet.config import FleetConfig, ForecastSection
from fleet.errors import MetricUnknown, SeriesInvalid
from fleet.ingest.cleaning import Clean, Rules, cleaned
from fleet.ingest.faults import BadRows
from fleet.ingest.readings import Columns, batches
from fleet.ingest.register import Register
from fleet.ingest.report import dictionary, moment
from fleet.ingest.staged import Staged
from fleet.ingest.stamps import BoolArray
from fleet.ingest.stored import Known, codes_of, compared, instants_of
from fleet.metrics import level_of, quantile_column
from fleet.sources import Source
from fleet.zones import IntArray

if TYPE_CHECKING:
    from store import Snapshot

_UTC = pa.timestamp("us", "UTC")


@dataclass(kw_only=True)
class Forecasts:
    """One reading of one source of forecasts.

    Args:
        register: only assets that it knows are stored.
        bad: collects the rows that cannot be stored.
        now: when the rows were stored, for their ``created_at``.
    """

    config: FleetConfig
    section: ForecastSection
    snapshot: Snapshot
    transaction: Staged
    register: Register
    bad: BadRows
    now: datetime
    rows: int = 0
    strangers: set[str] = field(default_factory=set)
    blank: int = 0

    def bring(self, source: Source) -> None:
        """Read all of it."""
        section = self.section
        levels = _levels(section, source)
        columns = Columns(
            key=section.asset,
            key_option="asset",
            time=section.time,
            values=(section.mean, *levels.values()),
            available_at=section.available_at,
        )
        for batch in batches(source, columns, section):
            steps = [self._step(key) for key in batch.keys]
            none = np.full(len(batch.keys), -1, dtype=np.int64)
            clean, faults = cleaned(batch, Rules(stamps=section, steps=steps, grid=True, known=none), source.label)
            self.bad.add(batch, faults)
            self.rows += len(batch)
            if self.bad.keep or not self.bad.total:
                self._hand_over(self._wanted(clean), tuple(levels))

    def _step(self, key: str | None) -> tuple[str, str]:
        view = self.config.for_asset(key or "", self.register.assets.get(key or ""))
        return view.freq, view.timezone

    def _wanted(self, clean: Clean) -> Clean:
        """Rows with a value, of assets that are known; the others are counted."""
        ours = np.array([key in self.register.assets for key in clean.keys], dtype=bool)
        there = set(np.unique(clean.codes).tolist())
        self.strangers |= {key or "" for code, key in enumerate(clean.keys) if code in there and not ours[code]}
        told = np.isfinite(clean.values[0])
        self.blank += int((~told & ours[clean.codes]).sum())
        keep = told & ours[clean.codes]
        return clean if keep.all() else clean.taken(keep)

    def _hand_over(self, clean: Clean, levels: tuple[float, ...]) -> None:
        if not len(clean):
            return
        names = ("mean", *(quantile_column(level) for level in levels))
        there, same = self._compared(clean, names)
        table = self._table(clean, names)
        if not (there | same).any():
            self.transaction.insert("forecasts", table)
            return
        for rows, hand in ((~there, self.transaction.insert), (there & ~same, self.transaction.replace)):
            if rows.any():
                hand("forecasts", table.filter(pa.array(rows)))

    def _compared(self, clean: Clean, names: tuple[str, ...]) -> tuple[BoolArray, BoolArray]:
        table = self.snapshot.table(
            "forecasts",
            assets=[key for key in clean.keys if key is not None],
            since=moment(int(clean.available.min())),
            until=moment(int(clean.available.max()) + 1),
            where={"role": "external", "recipe": self.section.recipe, "product": self.section.product},
        )
        theirs = (
            codes_of(table["asset_id"], clean.keys),
            instants_of(table["issue_time"]),
            instants_of(table["valid_time"]),
        )
        mine: tuple[IntArray, ...] = (clean.codes, clean.available, clean.starts)
        there = np.zeros(len(clean), dtype=bool)
        same = np.ones(len(clean), dtype=bool)
        for values, name in zip(clean.values, names, strict=True):
            if name in table.column_names:
                stored = table[name].cast(pa.float64()).to_numpy()
            else:
                stored = np.full(table.num_rows, np.nan)
            there, equal = compared(mine, values, Known(theirs, stored))
            same &= equal
        return there, same & there

    def _table(self, clean: Clean, names: tuple[str, ...]) -> pa.Table:
        count = len(clean)
        texts = {
            "product": self.section.product,
            "recipe": self.section.recipe,
            "recipe_hash": recipe_hash(self.section.name),
            "version_id": "",
            "run_id": "",
            "role": "external",
            "quality": "ok",
        }
        columns = {
            "asset_id": dictionary(clean).cast(pa.string()),
            **{name: pa.repeat(text, count) for name, text in texts.items()},
            "issue_time": pa.array(clean.available, _UTC),
            "valid_time": pa.array(clean.starts, _UTC),
            "step": pa.array(_steps(clean)),
            "created_at": pa.repeat(pa.scalar(self.now, _UTC), count),
        }
        for values, name in zip(clean.values, names, strict=True):
            columns[name] = pa.array(values, mask=np.isnan(values))
        return pa.table(columns)

    def notes(self, label: str) -> list[str]:
        """What the user should know."""
        found = []
        if self.strangers:
            example = min(self.strangers)
            found.append(f"{label}: {len(self.strangers)} assets are not of this fleet and were left out, as {example}")
        if self.blank:
            found.append(f"{label}: {self.blank} rows without a value were left out")
        return found


def recipe_hash(name: str) -> str:
    """The identity of an outside forecast, the same for what it sent and for what is issued of it."""
    return registry.recipe_hash("external", {"name": name})


def _steps(clean: Clean) -> IntArray:
    """1, 2, ... within each issue, in the order of the valid times."""
    order = np.lexsort([clean.starts, clean.available, clean.codes])
    codes, issues = clean.codes[order], clean.available[order]
    begins = np.append(True, (codes[1:] != codes[:-1]) | (issues[1:] != issues[:-1]))
    first = np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
    steps = np.empty(len(order), dtype=np.int64)
    steps[order] = np.arange(len(order)) - first + 1
    return steps


def _levels(section: ForecastSection, source: Source) -> dict[float, str]:
    """Quantile level to its column: as the section maps them, or every column that is named like one."""
    if section.quantiles is None:
        return dict(sorted((level_of(name), name) for name in source.columns if re.fullmatch(r"q\d{2,}", name)))
    found = {}
    for name, column in section.quantiles.items():
        try:
            found[level_of(name)] = column
        except MetricUnknown as error:
            raise SeriesInvalid(f"{source.label}: quantiles: {error.message}", hint="such as q10 or q90") from error
    return dict(sorted(found.items()))
