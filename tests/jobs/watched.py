"""A fleet whose scores, readings and feeds are written by hand: every error, stop and outcome is known.

Hourly assets on UTC days. Each has a mean absolute reading of 10 and an absolute error of 1 an hour, unless a test says
otherwise; so wape is 0.1, and the impact of an asset of capacity 100 kW is in tens.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fleet import Fleet
from fleet.config import JobSection
from jobs.work import Done, Work
from jobs.work.alert import run
from store.clock import FixedClock

NOW = datetime(2024, 6, 10, tzinfo=UTC)
TODAY = NOW.date()
EVER = datetime(1970, 1, 1, tzinfo=UTC)
DAYS = 35
HOUR = timedelta(hours=1)
UTC_TIMES = pa.timestamp("us", "UTC")

CONFIG = """
[fleet]
name = "watched"
store = "watched.store"
horizon = 24

[[covariates]]
name = "weather"
path = "weather.parquet"
series = "station"
columns = ["temp", "wind"]
known = "past"

[recipes.naive]
adapter = "seasonal_naive"
season = 24

[recipes.ridge]
adapter = "sklearn"
lags = [24]
"""


class Watched:
    """The fleet, and hands to write into its store; the clock stands at `NOW` until it is moved."""

    def __init__(self, folder: Path, rules: str = "", assets: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "fleet.toml").write_text(CONFIG + textwrap.dedent(rules), encoding="utf-8")
        self.clock = FixedClock(NOW)
        self.fleet = Fleet.open(folder / "fleet.toml", clock=self.clock)
        self.assets = assets if assets is not None else {name: {} for name in ("a", "b", "c")}
        plain = {"kind": "plant", "capacity": 100.0, "unit": "kW", "state": "active", "valid_from": EVER}
        self.write("assets", [{"asset_id": name, **plain, **given} for name, given in self.assets.items()])
        self.champions(dict.fromkeys(self.assets, "ridge"))

    def again(self, rules: str) -> Watched:
        """The same store under other rules."""
        file = self.fleet.config.file
        self.fleet.close()
        file.write_text(CONFIG + textwrap.dedent(rules), encoding="utf-8")
        self.fleet = Fleet.open(file, clock=self.clock)
        return self

    def write(self, table: str, rows: pa.Table | Sequence[Mapping[str, Any]]) -> None:
        transaction = self.fleet.store.begin()
        transaction.replace(table, rows) if table != "outcomes" else transaction.insert(table, rows)
        transaction.commit()

    def champions(self, recipes: Mapping[str, str]) -> None:
        at = NOW - timedelta(days=40)
        rows = [
            {"asset_id": asset, "product": "default", "recipe": recipe, "version_id": f"v-{asset}", "since": at}
            for asset, recipe in recipes.items()
        ]
        transaction = self.fleet.store.begin()
        transaction.promote(rows, [None] * len(rows), [])
        transaction.commit()

    def readings(self, until: Mapping[str, datetime] | None = None, y: float = 10.0, days: int = DAYS) -> None:
        """Hourly readings up to now, or until an instant: `y`, and twice that every other hour."""
        begin, tables = NOW - timedelta(days=days), []
        for asset in self.assets:
            count = int(((until or {}).get(asset, NOW) - begin) / HOUR)
            times = pa.array([begin + k * HOUR for k in range(count)], UTC_TIMES)
            columns = {"valid_time": times, "y": y * (1 + np.arange(count) % 2), "available_at": times}
            tables.append(pa.table({"asset_id": pa.repeat(asset, count), **columns}))
        self.write("actuals", pa.concat_tables(tables))

    def scores(
        self,
        errors: Mapping[str, Sequence[float]],
        *,
        role: Mapping[str, str] | None = None,
        end: date = TODAY,
        covered: int | None = None,
    ) -> None:
        """Cells of 24 points a day: the absolute error of each day, the last one ends before `end`."""
        rows = []
        for asset, daily in errors.items():
            for k, error in enumerate(daily):
                day = end - timedelta(days=len(daily) - k)
                rows.append(
                    {
                        "asset_id": asset, "product": "default", "recipe": "ridge", "recipe_hash": "h",
                        "version_id": f"v-{asset}", "role": (role or {}).get(asset, "champion"), "truth": "latest",
                        "perfect_foresight": False, "day": day, "lead_bucket": "0-1h", "n": 24, "points": "0" * 16,
                        "sum_e": 24 * error, "sum_abs_e": 24 * error, "sum_sq_e": 24 * error * error,
                        "sum_abs_y": 240.0, "sum_smape": 0.0, "sum_nmae_cap": 0.0, "n_cap": 0, "actuals_v": 1,
                        **({} if covered is None else {"covered_80": float(covered)}),
                    }
                )  # fmt: skip
        self.write("scores", rows)

    def weather(self, stations: Mapping[str, datetime], *, names: Sequence[str] = ("temp", "wind")) -> None:
        """Hourly values of each station up to an instant."""
        self.write("series", [{"series_id": station, "source": "weather", "freq": "1h"} for station in stations])
        begin, tables = NOW - timedelta(days=DAYS), []
        for station, end in stations.items():
            count = int((end - begin) / HOUR)
            times = pa.array([begin + k * HOUR for k in range(count)], UTC_TIMES)
            columns = {"valid_time": times, "available_at": times, "value": np.arange(count, dtype=np.float64)}
            for name in names:
                both = {"series_id": pa.repeat(station, count), "name": pa.repeat(name, count)}
                tables.append(pa.table({**both, **columns}))
        self.write("covariates", pa.concat_tables(tables))

    def links(self, stations: Mapping[str, str], *, names: Sequence[str] = ("temp", "wind")) -> None:
        """Which station each asset sees."""
        rows = [
            {"asset_id": asset, "series_id": station, "name": name, "valid_from": EVER}
            for asset, station in stations.items()
            for name in names
        ]
        self.write("links", rows)

    def outcomes(self, said: Mapping[str, tuple[str, str | None]], job: str = "forecast") -> None:
        """The last word of a forecast on each asset: status and cause."""
        rows = [
            {"job": job, "slot": self.clock.now(), "asset_id": asset, "product": "default", "recipe": "ridge",
             "status": status, "cause": cause}
            for asset, (status, cause) in said.items()
        ]  # fmt: skip
        self.write("outcomes", rows)

    def run(self, at: datetime | None = None) -> Done:
        """One run of the alert job; the clock moves to its slot."""
        if at is not None:
            self.clock.set(at)
        return run(self.work(at))

    def work(self, at: datetime | None = None, kind: str = "alert", **options: Any) -> Work:
        section = JobSection(every="1h", options=options)
        return Work(
            fleet=self.fleet, name=kind, kind=kind, slot=at or self.clock.now(), revision=0, section=section,
            clock=self.clock,
        )  # fmt: skip

    def rows(self, query: str) -> list[dict[str, Any]]:
        return self.fleet.store.sql(query).rows()

    def open(self) -> dict[str, dict[str, Any]]:
        """Open alerts by cause."""
        return {row["cause"]: row for row in self.rows("select * from alerts where closed_at is null")}


def steady(days: int = DAYS, error: float = 1.0, noise: float = 0.1, seed: int = 0) -> list[float]:
    """Daily errors around a level."""
    return (error + noise * np.random.default_rng(seed).standard_normal(days)).tolist()
