"""A weather feed that breaks at 11:20, forecasts due at 11:30, a gate at noon: who is on time, with what, what is sent.

``python -m tests.bench feed [--assets 300]``, for an ordinary day and those of 92 and 100 quarter-hours. Two thirds of
the assets have a champion that lives on the weather forecast, the others one that does not. The jobs `ingest`,
`forecast` and `deliver` run as a timer starts them, at instants of a clock that is given. After the gate the feed comes
back, and what could not be made before is made: it is late, and replaces nothing that was sent.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from fleet import Fleet
from jobs.due import jobs_of
from jobs.running import claim_by_hand, perform
from jobs.work import Done

PARIS = ZoneInfo("Europe/Paris")
#: The day before the one that is forecast, with the quarter-hours of that one.
CAUSES = "select cause, count(distinct asset_id) as n from outcomes where cause is not null group by 1"
DAYS = {"2024-06-10": 96, "2024-03-30": 92, "2024-10-26": 100}
HISTORY = 15
CONFIG = """
[fleet]
name = "feed"
store = "feed.store"
timezone = "Europe/Paris"
freq = "15min"
seasons = [96]

[assets]
path = "assets.csv"

[data]
path = "readings.parquet"

[[covariates]]
path = "weather/*.parquet"
asset = "unique_id"
columns = ["wind"]
known = "future"
available_at = "issued"

[products.day_ahead]
issue = "11:30"
target = "tomorrow"
gate = "12:00"
budget = "10min"

[recipes.weather]
adapter = "lightgbm"
lags = [192]
params = { n_estimators = 20 }

[recipes.rhythm]
adapter = "seasonal_naive"
season = 96

[train]
fallback = ["daily_naive"]

[jobs.ingest]
kind = "ingest"
cron = "5,20,35,50 * * * *"

[jobs.forecast]
kind = "forecast"
cron = "30 11 * * *"

[jobs.deliver]
kind = "deliver"
cron = "52 11 * * *"

[deliveries.market]
format = "csv"
path = "sent/{product}-{date}-{number}.csv"
layout = "local-day"
"""


@dataclass
class Given:
    """A clock that shows what it is told."""

    at: datetime

    def now(self) -> datetime:
        return self.at


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench feed")
    parser.add_argument("--assets", type=int, default=300)
    asked = parser.parse_args(words)
    well = True
    for day, steps in DAYS.items():
        with tempfile.TemporaryDirectory() as folder:
            figures = walked(Path(folder), day, asked.assets)
        print(json.dumps({"bench": "feed", **figures}), flush=True)
        well &= figures["on_time"] == asked.assets and figures["columns"] == steps and not figures["changed_after_gate"]
    sys.exit(int(not well))


def walked(folder: Path, day: str, assets: int) -> dict[str, object]:
    """What one day came to."""
    clock = Given(_local(day, 11, 0))
    written(folder, day, assets)
    with Fleet.open(folder / "fleet.toml", clock=clock) as fleet:
        fleet.ingest()
        fleet.train(judge=False, recipes=["weather"], where="kind = 'wind'")
        fleet.promote("weather", where="kind = 'wind'")
        fleet.train(judge=False, recipes=["rhythm"], where="kind = 'load'")
        fleet.promote("rhythm", where="kind = 'load'")
        whole = (folder / "weather" / "noon.whole").read_bytes()
        (folder / "weather" / "noon.parquet").write_bytes(whole[: len(whole) // 2])
        broken = ran(fleet, clock, "ingest", _local(day, 11, 20))
        began = time.monotonic()
        issued = ran(fleet, clock, "forecast", _local(day, 11, 30))
        issued_s = time.monotonic() - began
        ran(fleet, clock, "deliver", _local(day, 11, 52))
        sent = {path.name: sha256(path.read_bytes()).hexdigest() for path in (folder / "sent").iterdir()}
        at_gate = fleet.store.table("published")
        (folder / "weather" / "noon.parquet").write_bytes(whole)
        back = ran(fleet, clock, "ingest", _local(day, 12, 5))
        late = fleet.forecast(issue_time=_local(day, 11, 30), failed=True)
        ran(fleet, clock, "deliver", _local(day, 12, 10))
        after = {path.name: sha256(path.read_bytes()).hexdigest() for path in (folder / "sent").iterdir()}
        same = fleet.store.table("published").equals(at_gate)
        roles = fleet.store.sql("select role, count(distinct asset_id) as n from published group by 1").rows()
        causes = fleet.store.sql(CAUSES).rows()
        kept = fleet.store.sql("select count(*) as n from forecasts where quality = 'late'").rows()[0]["n"]
    lines = [line.split(",") for name in sorted(sent) for line in (folder / "sent" / name).read_text().splitlines()]
    return {
        "day": day,
        "assets": assets,
        "ingest_at_11_20": broken.status,
        "said": broken.error,
        "on_time": sum(row["n"] for row in roles),
        "champions": sum(row["n"] for row in roles if row["role"] == "champion"),
        "fallbacks": sum(row["n"] for row in roles if row["role"] == "fallback"),
        "causes": {row["cause"]: row["n"] for row in causes},
        "failed": issued.failed,
        "forecast_s": round(issued_s, 1),
        "files": len(sent),
        "rows_sent": len(lines) - len(sent),
        "columns": len(lines[0]) - 3,
        "empty_values": Counter(value for line in lines[1:] for value in line[3:])[""],
        "ingest_at_12_05": back.status,
        "late_assets": late.ok,
        "late_rows_kept": kept,
        "changed_after_gate": int(not same or any(after[name] != digest for name, digest in sent.items())),
        "files_after": len(after),
    }


def ran(fleet: Fleet, clock: Given, name: str, at: datetime) -> Done:
    """One job at its time."""
    clock.at = at
    job = jobs_of(fleet.config)[name]
    held = claim_by_hand(fleet, job, slot=at, anew=False)
    assert held is not None
    return perform(fleet, job, held)


def written(folder: Path, day: str, assets: int) -> None:
    """Configuration, register, readings up to eleven; weather of every morning, that of the day as `noon.whole`."""
    (folder / "fleet.toml").write_text(CONFIG, encoding="utf-8")
    (folder / "weather").mkdir()
    names = [f"plant-{number:04d}" for number in range(assets)]
    kinds = ["load" if number % 3 == 0 else "wind" for number in range(assets)]
    pd.DataFrame({"asset_id": names, "kind": kinds}).to_csv(folder / "assets.csv", index=False)
    first = _local(day, 0, 0) - timedelta(days=HISTORY)
    stop = _local(day, 11, 0)
    known = pd.date_range(first, stop, freq="15min", inclusive="left", unit="us")
    told = pd.date_range(first, stop + timedelta(days=3), freq="15min", inclusive="left", unit="us")
    random = np.random.default_rng(0)
    wind = random.normal(8, 2, len(told)).clip(0)
    frames = []
    for name, kind in zip(names, kinds, strict=True):
        y = wind[: len(known)] if kind == "wind" else 10 + np.sin(np.arange(len(known)) * 2 * np.pi / 96)
        frames.append(pd.DataFrame({"unique_id": name, "ds": known, "y": y + random.normal(0, 0.1, len(known))}))
    pd.concat(frames).to_parquet(folder / "readings.parquet")
    for back in range(HISTORY + 1):
        at = _day_before(day, back)
        issued = at - timedelta(hours=3)
        seen = (told >= issued) & (told < _local(f"{date.fromisoformat(day) - timedelta(days=back - 2)}", 0, 0))
        runs = [
            pd.DataFrame({"unique_id": name, "issued": issued, "ds": told[seen], "wind": wind[seen]})
            for name, kind in zip(names, kinds, strict=True)
            if kind == "wind"
        ]
        pd.concat(runs).to_parquet(folder / "weather" / ("noon.whole" if back == 0 else f"run-{back:02d}.parquet"))


def _day_before(day: str, back: int) -> datetime:
    return _local(f"{date.fromisoformat(day) - timedelta(days=back)}", 11, 20)


def _local(day: str, hour: int, minute: int) -> datetime:
    return datetime.fromisoformat(day).replace(hour=hour, minute=minute, tzinfo=PARIS).astimezone(UTC)
