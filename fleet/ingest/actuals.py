"""Actuals: from the source of ``[data]`` into a transaction, batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from fleet.config import FleetConfig
from fleet.errors import SeriesInvalid
from fleet.ingest.cleaning import Clean, Rules, Step, cleaned
from fleet.ingest.days import in_long_form
from fleet.ingest.faults import BadRows
from fleet.ingest.meters import Meter, metered
from fleet.ingest.readings import Columns, batches
from fleet.ingest.register import Register
from fleet.ingest.report import Tally, dictionary, moment
from fleet.ingest.staged import Staged
from fleet.ingest.stamps import BoolArray
from fleet.ingest.stored import Known, codes_of, compared, instants_of, known_since, matched
from fleet.sources import Source
from fleet.zones import IntArray

if TYPE_CHECKING:
    from store import Snapshot

LAST_STORED = "select asset_id, epoch_us(max(valid_time)) as last, count(*) as n from actuals group by asset_id"
FEW = 100
"""Readings of an asset that may change at once however few there are."""


@dataclass(kw_only=True)
class Actuals:
    """One reading of the source of the actuals.

    Args:
        register: says each asset's step and clock; assets that it does not know are added to it.
        bad: collects the rows that cannot be stored.
        now: UTC microseconds; when a value that replaces another one became known.
    """

    config: FleetConfig
    snapshot: Snapshot
    transaction: Staged
    register: Register
    bad: BadRows
    now: int
    tally: Tally = field(default_factory=Tally)
    _last: dict[str, int] = field(default_factory=dict)
    _count: dict[str, int] = field(default_factory=dict)

    def bring(self, source: Source, show: Callable[[int, int], None]) -> None:
        """Read all of it; nothing more is handed on once a row has to be refused."""
        data = self.config.data
        if data.layout == "days":
            with in_long_form(source, data, lambda key: self._steps([key])[0]) as (long, section):
                self.config = replace(self.config, data=section)
                self.bring(long, show)
            return
        meter = Meter.from_section(data)
        columns = Columns(
            key=data.asset, key_option="asset", time=data.time, values=(data.target,), available_at=data.available_at
        )
        stored = self.snapshot.sql(LAST_STORED).rows()
        self._last = {row["asset_id"]: row["last"] for row in stored}
        self._count = {row["asset_id"]: row["n"] for row in stored}
        for batch in batches(source, columns, data):
            steps = self._steps(batch.keys)
            known = np.array([self._last.get(key or "", -1) for key in batch.keys], dtype=np.int64)
            clean, faults = cleaned(batch, self._rules(steps, known, meter), source.label)
            self.bad.add(batch, faults)
            if meter is not None and len(clean) and (self.bad.keep or not self.bad.total):
                clean = self._metered(clean, meter, steps, known)
            self.tally.rows += len(batch)
            if self.bad.keep or not self.bad.total:
                self.register.see((clean.keys[code] or "" for code in clean.present()), data.unit)
                self.tally.add(clean, steps, data)
                self._hand_over(clean)
            show(self.tally.rows, max(source.rows or 0, self.tally.rows))

    def _rules(self, steps: list[Step], known: IntArray, meter: Meter | None) -> Rules:
        data = self.config.data
        if meter is not None and meter.kind == "register":
            # A reading of a register is of an instant: it has no interval whose end could be meant.
            data = data.model_copy(update={"label": "start"})
        if meter is not None and meter.step is not None:
            steps = [(meter.step, tz) for _, tz in steps]
        return Rules(stamps=data, steps=steps, grid=meter is None or meter.kind != "register", known=known)

    def _metered(self, clean: Clean, meter: Meter, steps: list[Step], known: IntArray) -> Clean:
        units = [self.register.assets.get(key or "", {}).get("unit") for key in clean.keys]
        delay = self.config.data.delay
        wait = None if self.config.data.available_at else round(delay.total_seconds() * 1e6) if delay else 0
        return metered(clean, meter, steps, units, known, wait)

    def _steps(self, keys: list[str | None]) -> list[Step]:
        assets = self.register.assets
        views = (self.config.for_asset(key or "", assets.get(key or "")) for key in keys)
        return [(view.freq, view.timezone) for view in views]

    def _hand_over(self, clean: Clean) -> None:
        if not len(clean):
            return
        there, same, before = self._compared(clean)
        revised = there & ~same
        if self.config.data.available_at is not None:
            # Several revisions of a new row come together: only the store knows which of them is in force.
            again = (clean.codes[1:] == clean.codes[:-1]) & (clean.starts[1:] == clean.starts[:-1])
            revised[1:] |= again & ~same[1:]
            revised[:-1] |= again & ~same[:-1]
        new = ~revised & ~same
        if self.config.data.available_at is None and revised.any():
            self._refuse_other_history(clean, revised)
            clean.available = known_since(clean.available, before, revised, self.config.data, self.now)
        if new.all():
            self.transaction.insert("actuals", _table(clean))
            return
        if new.any():
            self.transaction.insert("actuals", _table(clean.taken(new)))
        if revised.any():
            self.transaction.replace("actuals", _table(clean.taken(revised)))

    def _refuse_other_history(self, clean: Clean, revised: BoolArray) -> None:
        """Most readings of an asset changed at once: another unit or sign, which a backtest would not be shown."""
        if self.config.data.revisions is not None:
            return
        for code, count in enumerate(np.bincount(clean.codes[revised], minlength=len(clean.keys)).tolist()):
            asset = clean.keys[code] or ""
            if count > max(FEW, self._count.get(asset, 0) // 2):
                raise SeriesInvalid(
                    f"[data]: {count:,} of {self._count[asset]:,} stored readings of asset {asset} change at once",
                    hint='revisions = "known_then" where an error was put right, so that backtests see the new ones; '
                    '"known_now" where they really came now',
                )

    def _compared(self, clean: Clean) -> tuple[BoolArray, BoolArray, IntArray]:
        """Which rows the store has, which of them with the same value, and when what it has was known."""
        stored = [key for key in clean.keys if key is not None and key in self._last]
        if not stored:
            none = np.zeros(len(clean), dtype=bool)
            return none, none, clean.available
        vintages = self.config.data.available_at is not None
        table = self.snapshot.table(
            "actuals_all" if vintages else "actuals",
            assets=stored,
            since=moment(int(clean.starts.min())),
            until=moment(int(clean.starts.max()) + 1),
            columns=["asset_id", "valid_time", "y", "available_at"],
        )
        codes, starts = codes_of(table["asset_id"], clean.keys), instants_of(table["valid_time"])
        values = table["y"].cast(pa.float64()).to_numpy()
        there, same = compared((clean.codes, clean.starts), clean.values[0], Known((codes, starts), values))
        available = instants_of(table["available_at"])
        if vintages:
            mine: tuple[IntArray, ...] = (clean.codes, clean.starts, clean.available)
            _, same = compared(mine, clean.values[0], Known((codes, starts, available), values))
            return there, same, clean.available
        there, row = matched((clean.codes, clean.starts), (codes, starts))
        return there, same, available[row] if len(available) else clean.available


def _table(clean: Clean) -> pa.Table:
    utc = pa.timestamp("us", "UTC")
    return pa.table(
        {
            "asset_id": dictionary(clean),
            "valid_time": pa.array(clean.starts, utc),
            "y": pa.array(clean.values[0]),
            "available_at": pa.array(clean.available, utc),
        }
    )
