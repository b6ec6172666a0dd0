"""Three assets in Paris, of quarters of an hour, hours and days, whose readings tell the time.

A reading is what the clock shows when it begins, so that a forecast which repeats the same local time of another day is
right, and one that is an hour off is not.
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd

TZ = "Europe/Paris"
FREQS = {"quarters": "15min", "hours": "1h", "days": "1D"}
#: Long after all readings.
LATER = datetime(2025, 1, 1, tzinfo=UTC)


def clock_readings(stop_before: str, days: int = 22) -> pd.DataFrame:
    """Readings that tell the hour and minute at which they begin, those of days the day of the week."""
    stop = pd.Timestamp(stop_before, tz=TZ) + pd.DateOffset(days=1)
    frames = []
    for name, freq in FREQS.items():
        begin = stop - pd.DateOffset(days=5 * days if freq == "1D" else days)
        if freq == "1D":
            local = pd.date_range(begin, stop, freq=freq, inclusive="left")
        else:
            local = pd.date_range(begin.tz_convert("UTC"), stop.tz_convert("UTC"), freq=freq, inclusive="left")
            local = local.tz_convert(TZ)
        y = local.day_of_week if freq == "1D" else local.hour * 100 + local.minute
        stamps = local.tz_convert("UTC").as_unit("us")
        frames.append(pd.DataFrame({"unique_id": name, "ds": stamps, "y": np.asarray(y, dtype=np.float64)}))
    return pd.concat(frames, ignore_index=True)


def half_past_eleven(day: pd.Timestamp) -> pd.Timestamp:
    """When the product of a local day is issued."""
    return pd.Timestamp(f"{day:%Y-%m-%d} 11:30", tz=TZ).tz_convert("UTC")
