"""Small fleets on real disk: made-up hourly series, a configuration, a clock that stands still."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pandas as pd

from fleet import Fleet
from store import Store
from store.clock import FixedClock
from store.schema import TABLES

BEGIN = pd.Timestamp("2024-03-01", tz="UTC")
NOW = datetime(2024, 6, 1, tzinfo=UTC)

#: What differs between two runs of the same work: ids, and what the clock on the wall said.
PERSONAL = (
    "run_id", "version_id", "batch_id", "duration_s", "started_at", "ended_at", "created_at", "decided_at", "since",
    "time", "slot", "data_version", "actuals_v",
)  # fmt: skip


def hourly(assets: Sequence[str], days: int, seed: int = 0, begin: pd.Timestamp = BEGIN) -> pd.DataFrame:
    """Assets in turn with a daily rhythm that drifts, with noise around a level, with quiet weekends.

    Columns unique_id, ds, y; the same values for the same place, days and seed, more days change no earlier ones.
    """
    times = pd.date_range(begin, periods=24 * days, freq="h", unit="us")
    clock = np.arange(len(times))
    frames = []
    for number, name in enumerate(assets):
        noise, drift = np.random.default_rng([seed, number]).normal(0, 0.5, (len(times), 2)).T
        rhythm = (5 + number) * (2 + np.sin((clock + number) * 2 * np.pi / 24))
        match number % 3:
            case 0:
                y = rhythm + noise + drift.cumsum()
            case 1:
                y = 20 + number + noise
            case _:
                y = rhythm * np.where(times.day_of_week >= 5, 0.4, 1.0) + noise
        frames.append(pd.DataFrame({"unique_id": name, "ds": times, "y": y}))
    return pd.concat(frames, ignore_index=True)


def fleet_in(folder: Path, config: str, models: str = "", at: datetime = NOW) -> Fleet:
    """The fleet of a configuration in a folder of its own, with its user's models beside it.

    Args:
        config: text of fleet.toml; MODELS stands for the name of the module of the models.
        models: text of that module. Its name is made of its text, since Python imports a name only once.
    """
    module = f"models_{blake2b(models.encode(), digest_size=6).hexdigest()}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(models, encoding="utf-8")
    (folder / "fleet.toml").write_text(config.replace("MODELS", module), encoding="utf-8")
    return Fleet.open(folder / "fleet.toml", clock=FixedClock(at))


def copy_of(made: Path, folder: Path, at: datetime = NOW) -> Fleet:
    """A fleet that was made once, in a folder of one's own; nobody writes to the one it is copied from."""
    return Fleet.open(shutil.copytree(made, folder) / "fleet.toml", clock=FixedClock(at))


def counts(store: Store) -> Mapping[str, int]:
    """Rows of every table as the views show them."""
    return {name: store.sql(f"select count(*) as n from {name}").rows()[0]["n"] for name in TABLES}


def without_ids(store: Store, table: str) -> list[str]:
    """Every row of a table as text, sorted, apart from ids and wall times."""
    rows = store.table(table).to_pylist()
    return sorted(repr({name: value for name, value in row.items() if name not in PERSONAL}) for row in rows)
