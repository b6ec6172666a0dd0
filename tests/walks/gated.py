"""A fleet with a gate at noon whose model can let time pass: quarters of Paris, issued at half past eleven."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from fleet import Fleet
from tests.walks.paris import TZ, clock_readings, half_past_eleven
from tests.walks.small import fleet_in

ASSETS = tuple("abcdef")

MODELS = '''
"""Says 1 for every step. While the file `slow` names its asset, it moves the clock on, and may never come back."""
import threading
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


class One:
    def fit(self, y, X, task):
        return self

    def save(self):
        return b"one"

    @classmethod
    def load(cls, blob):
        return cls()

    def predict(self, y, X, task):
        slow = HERE / "slow"
        if slow.exists() and task.static["asset_id"] == slow.read_text():
            (HERE / "then").replace(HERE / "now")
            if (HERE / "hangs").exists():
                threading.Event().wait()
        return task.frame(np.ones(task.horizon))
'''
CONFIG = """
[fleet]
timezone = "Europe/Paris"
freq = "15min"
seasons = [96]

[products.day_ahead]
issue = "11:30"
target = "tomorrow"
gate = "12:00"
budget = "10min"

[recipes.one]
adapter = "MODELS:One"

[train]
workers = WORKERS
timeout = "1h"
retries = 0
fallback = ["daily_naive"]
"""


class FileClock:
    """Shows what a file says, so that a model in another process can let time pass."""

    def __init__(self, path: Path, at: datetime) -> None:
        self.path = path
        self.set(at)

    def set(self, at: datetime) -> None:
        self.path.write_text(at.astimezone(UTC).isoformat(), encoding="utf-8")

    def now(self) -> datetime:
        return datetime.fromisoformat(self.path.read_text(encoding="utf-8"))


def at(issue: pd.Timestamp, minutes: int) -> datetime:
    """So many minutes after half past eleven."""
    found: datetime = (issue + pd.Timedelta(minutes=minutes)).to_pydatetime()
    return found


def trained(folder: Path, day: str, workers: int = 1, more: str = "") -> tuple[Fleet, pd.Timestamp, FileClock]:
    """A fleet at 11:30 of a local day, its readings up to eleven, and the issue that is due."""
    issue = half_past_eleven(pd.Timestamp(day, tz=TZ))
    quarters = clock_readings(day).query("unique_id == 'quarters' and ds < @issue")
    readings = pd.concat([quarters.assign(unique_id=name) for name in ASSETS])
    folder.mkdir()
    clock = FileClock(folder / "now", at(issue, -60))
    fleet_in(
        folder, CONFIG.replace("WORKERS", str(workers)) + more, f"{MODELS}\n# {folder}\n"
    ).close()  # imported once for each folder
    fleet = Fleet.open(folder / "fleet.toml", clock=clock)
    fleet.ingest(readings)
    assert fleet.train(judge=False, recipes=["one"]).ok == len(ASSETS)
    assert fleet.promote("one").ok == len(ASSETS)
    clock.set(at(issue, 0))
    return fleet, issue, clock


def slowed(fleet: Fleet, asset: str, then: datetime) -> None:
    """From now on the model of this asset takes until then."""
    (fleet.config.folder / "slow").write_text(asset, encoding="utf-8")
    (fleet.config.folder / "then").write_text(then.isoformat(), encoding="utf-8")
