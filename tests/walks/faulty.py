"""A fleet of small hourly series of which some are fatal to the model of the team: each in a way of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tests.walks.small import BEGIN

DAYS = 14

#: What is wrong with an asset of this name, and what becomes of it.
FAULTS = {
    "raise": "exception",
    "hang": "timeout",
    "exit": "crashed",
    "segfault": "crashed",
    "kill": "crashed",
    "hog": "memory",
    "nan": "bad_output",
    "shifted": "bad_output",
    "unpicklable": "unpicklable",
    "short": "too_short",
}

CONFIG = """
[fleet]
name = "faulty"
store = "faulty.store"
horizon = 24
seasons = [24]
trust_pickles = true

[data]
path = "readings.parquet"

[recipes.moody]
adapter = "moody:Moody"

[train]
workers = {workers}
timeout = "{timeout}"
memory = "300MB"
{train}
fallback = ["daily_naive"]

[backtest]
origins = 2

[promotion]
min_points = 1
"""

#: Knows the truth but for the noise. A fit takes `work` rounds of arithmetic, about 4 ms for 1.
MOODY = '''
import ctypes
import os
import signal
import threading
from dataclasses import dataclass

import numpy as np

START, HOUR = 1_709_251_200_000_000, 3_600_000_000


def misbehave(deed):
    match deed:
        case "raise":
            raise ZeroDivisionError("nothing to divide by")
        case "hang":
            threading.Event().wait(600)
        case "exit":
            os._exit(7)
        case "segfault":
            ctypes.string_at(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hog":
            np.ones(1_000_000_000)


@dataclass(frozen=True, kw_only=True)
class Moody:
    work: int = 0

    def fit(self, y, X, task):
        for _ in range(self.work):
            np.sort(np.random.default_rng(0).normal(size=50_000))
        deed = task.static["asset_id"]
        misbehave(deed)
        return Unpicklable() if deed == "unpicklable" else Fitted()

    def load(self, blob):
        return Fitted()


class Fitted:
    def save(self):
        return b"x"

    def predict(self, y, X, task):
        hours = (np.asarray(task.target.asi8) - START) // HOUR
        frame = task.frame(50 + 20 * np.sin(hours * 2 * np.pi / 24))
        match task.static["asset_id"]:
            case "nan":
                frame.iloc[3, 0] = np.nan
            case "shifted":
                frame.index = frame.index + (task.target[1] - task.target[0])
        return frame


class Unpicklable:
    """No form of its own, and nothing that can be pickled."""

    def __init__(self):
        self.lock = threading.Lock()

    predict = Fitted.predict
'''


def faulty_fleet(
    folder: Path,
    good: int,
    bad: tuple[str, ...],
    *,
    workers: int = 2,
    timeout: str = "2s",
    train: str = "",
    work: int = 0,
) -> None:
    """Write the configuration, the model and the readings of a fleet into a folder.

    Args:
        good: how many assets nothing is wrong with; the bad ones are spread among them.
        bad: names of faults.
        train: further lines of [train].
        work: how long a fit takes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = CONFIG.format(workers=workers, timeout=timeout, train=train)
    (folder / "fleet.toml").write_text(config.replace('"moody:Moody"', f'"moody:Moody"\nwork = {work}'))
    (folder / "moody.py").write_text(MOODY)
    times = pd.date_range(BEGIN, periods=24 * DAYS, freq="h", unit="us")
    frames = []
    for number, name in enumerate([*(f"good-{number:03d}" for number in range(good)), *bad]):
        noise = np.random.default_rng(number).normal(0, 1, len(times))
        y = 50 + 20 * np.sin(np.arange(len(times)) * 2 * np.pi / 24) + noise
        frame = pd.DataFrame({"unique_id": name, "ds": times, "y": y})
        frames.append(frame.tail(12) if name == "short" else frame)
    pd.concat(frames, ignore_index=True).to_parquet(folder / "readings.parquet")
