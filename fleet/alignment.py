"""History and target on one grid of whole steps, where a season is always the same number of them.

A season of whole days means the same local time. Where a clock changes, a day has an hour more or less, so models
that count steps get the history as a wall clock shows it: the hour that does not exist is a missing reading, of the
hour that exists twice the first counts, and both of its instants get the same forecast. Any other season counts
elapsed steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fleet import calendar
from fleet.errors import SeriesInvalid
from fleet.task import FloatArray, IntArray, Task
from fleet.zones import zone_of

_DAY_S = 86_400
# A Monday, so that places of weekly steps count from the border of a week.
_EPOCH = pd.Timestamp("1970-01-05", tz="UTC")


def steps_after(last: pd.Timestamp, task: Task) -> IntArray:
    """How many steps each target lies after the last known one; 1, 2, ... when the history reaches the target.

    >>> hours = pd.date_range("2024-01-02", periods=3, freq="h", tz="UTC")
    >>> steps_after(pd.Timestamp("2024-01-01 21:00", tz="UTC"), Task(target=hours, freq="1h"))
    array([3, 4, 5])
    """
    return steps_ahead(calendar.instant(last), task)


def steps_ahead(last: int, task: Task) -> IntArray:
    """`steps_after` an instant that is given in UTC microseconds."""
    target = calendar.micros(task.target)
    if last >= target[0]:
        at = calendar.from_micros(np.array([last]))[0]
        raise SeriesInvalid(f"the history reaches {at}, the target begins at {task.target[0]}")
    return calendar.positions_micros(target, np.array([last], dtype=np.int64), task.freq, task.tz)


def follows_local_days(season: int, task: Task) -> bool:
    """Whether a season is whole days of a clock that may change, so that counting steps would drift by an hour.

    >>> task = Task(target=pd.date_range("2024-01-02", periods=1, freq="h", tz="UTC"), freq="1h", tz="Europe/Paris")
    >>> follows_local_days(24, task), follows_local_days(12, task)
    (True, False)
    """
    if task.tz == "UTC" or calendar.is_calendar_step(task.freq):
        return False
    return season * int(calendar.step_seconds(task.freq)) % _DAY_S == 0


def clock_changes(first: pd.Timestamp, task: Task) -> bool:
    """Whether the clock changes between an instant and the end of the target.

    >>> task = Task(target=pd.date_range("2024-04-02", periods=1, freq="h", tz="UTC"), freq="1h", tz="Europe/Paris")
    >>> [clock_changes(pd.Timestamp(day, tz="UTC"), task) for day in ("2024-03-30", "2024-04-01")]
    [True, False]
    """
    start, end = calendar.instant(first), calendar.instant(task.target[-1])
    return zone_of(task.tz, start, end).changes(start, end)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Aligned:
    """A history on a grid of whole steps, and where the target lies after it.

    Args:
        values: (steps,) readings, NaN where one is missing; the first and the last are readings.
        first: place of the first value, counted from an epoch: equal places are equal steps in any history.
        ahead: (horizon,) steps from the last value to each target, 1 or more.
        clock: what the places count: the zone whose wall clock they follow, or ``steps``.
    """

    values: FloatArray
    first: int
    ahead: IntArray
    clock: str

    @property
    def last(self) -> int:
        """Place of the last value."""
        return self.first + len(self.values) - 1

    def after(self, place: int, clock: str, *, gap: int) -> FloatArray | None:
        """The values after a place: what is new to a model that has filtered up to there.

        Args:
            place: last place the model knows.
            clock: what its places count.
            gap: missing steps between that place and the first value that are bridged.

        Returns:
            (steps,) NaN where the history begins later; None when it does not continue from the place.
        """
        since = place + 1 - self.first
        if clock != self.clock or since > len(self.values) or since < -gap:
            return None
        return np.concatenate([np.full(max(0, -since), np.nan), self.values[max(0, since) :]])


def align(y: pd.Series[float], task: Task, season: int) -> Aligned:
    """The history of a task from its first reading to its last, and the target, on the grid that suits a season.

    Args:
        y: history with at least one reading.
        task: what is asked.
        season: steps of the season that the model counts; 1 when it counts none.

    >>> hours = pd.date_range("2024-03-30 22:00", periods=4, freq="h", tz="UTC")
    >>> task = Task(target=hours[3:], freq="1h", tz="Europe/Paris")
    >>> align(pd.Series([1.0, 2.0, 3.0], index=hours[:3]), task, 24).ahead    # from 01:00 to 03:00
    array([2])
    """
    history = np.asarray(y.to_numpy(), dtype=np.float64)
    places = _places(pd.DatetimeIndex(y.index), task, season)
    target = _places(task.target, task, season)
    if follows_local_days(season, task):
        # In the hour that exists twice the target may begin at a place that the history holds already.
        keep = places < target.min()
        values, first = _on_grid(history[keep], places[keep])
    else:
        values, first = history, int(places[0])
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        raise SeriesInvalid("the history holds no reading before the target")
    values, first = values[known[0] : known[-1] + 1], first + int(known[0])
    ahead = target - (first + len(values) - 1)
    if ahead.min() < 1:
        raise SeriesInvalid(f"the history reaches {y.index[-1]}, the target begins at {task.target[0]}")
    clock = task.tz if follows_local_days(season, task) or calendar.is_calendar_step(task.freq) else "steps"
    return Aligned(values=values, first=first, ahead=ahead, clock=clock)


def covariates_at(X: pd.DataFrame, task: Task, season: int, first: int, steps: int) -> FloatArray:
    """Covariates on the grid of an aligned history: (steps, columns) from a place on, NaN where a row is missing."""
    places = _places(pd.DatetimeIndex(X.index), task, season)
    inside = (places >= first) & (places < first + steps)
    rows = np.full((steps, X.shape[1]), np.nan)
    # Backwards, so that of the hour that exists twice the first row stays.
    rows[places[inside][::-1] - first] = X.to_numpy(dtype=np.float64)[inside][::-1]
    return rows


def filled(values: FloatArray, season: int) -> FloatArray:
    """Missing readings bridged, for libraries that take none: the usual shape of the season, moved to meet both ends.

    Args:
        values: (steps,) NaN where missing, at least one reading.
        season: steps of a season; 1 for none, which leaves straight lines.

    Returns:
        (steps,) readings as they are, the rest from the median of their step of the season plus what interpolates.

    >>> filled(np.array([1.0, 9.0, 1.0, np.nan, 2.0, 10.0]), 2)
    array([ 1.,  9.,  1., 10.,  2., 10.])
    """
    missing = ~np.isfinite(values)
    if not missing.any():
        return values
    places = np.arange(len(values))
    shape = _usual_shape(values, season)[places % season] if season > 1 else np.zeros(len(values))
    rest = np.interp(places[missing], places[~missing], (values - shape)[~missing])
    out = values.copy()
    out[missing] = shape[missing] + rest
    return out


def _usual_shape(values: FloatArray, season: int) -> FloatArray:
    """(season,) median reading of each step of the season; flat when a step has none."""
    rows = -(-len(values) // season)
    padded = np.full(rows * season, np.nan)
    padded[: len(values)] = np.where(np.isfinite(values), values, np.nan)
    table = padded.reshape(rows, season)
    if np.isnan(table).all(axis=0).any():
        return np.zeros(season)
    shape: FloatArray = np.nanmedian(table, axis=0)
    return shape


def _places(times: pd.DatetimeIndex, task: Task, season: int) -> IntArray:
    if not follows_local_days(season, task):
        return calendar.positions(times, _EPOCH, task.freq, task.tz)
    step = int(calendar.step_seconds(task.freq)) * 1_000_000
    instants = calendar.micros(times)
    zone = zone_of(task.tz, int(instants[0]), int(instants[-1]))
    places: IntArray = zone.local(instants) // step
    return places


def _on_grid(history: FloatArray, places: IntArray) -> tuple[FloatArray, int]:
    if not len(places):
        return np.array([]), 0
    first = int(places[0])
    values = np.full(int(places.max()) - first + 1, np.nan)
    values[places[::-1] - first] = history[::-1]
    return values, first
