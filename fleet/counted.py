"""A history and its covariates as libraries that count steps take them: numbers on whole steps, without a hole.

Most libraries know a step, not a clock, and many take no missing value. Here the history stands on the wall clock where
the season is whole days (see `fleet.alignment`), its gaps are bridged, and beside it stand the covariates and calendar
columns of every step through the last one of the target. What a library then says of step k after the history is read
off at the steps that were asked.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from fleet import calendar
from fleet.alignment import Aligned, align, filled, follows_local_days
from fleet.almanac import calendar_columns, country_of
from fleet.errors import BadOutput, TooShort
from fleet.forecaster import readings
from fleet.regressors import known_ahead, regressors
from fleet.task import FloatArray, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a model sees beside the history.

    Args:
        season: steps of the season that decides on which clock steps are counted; 1 for none.
        covariates: names of the columns of X; None at fit, where they are those that are known ahead.
        calendar: names of `fleet.almanac`.
        country: of the calendar's holidays.
    """

    season: int
    covariates: tuple[str, ...] | None = None
    calendar: tuple[str, ...] = ()
    country: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Counted:
    """A history without gaps, and where the target lies after it.

    Args:
        values: (steps,) readings, missing ones bridged; the first and the last are readings.
        first: place of the first value: equal places are equal steps in any history.
        ahead: (horizon,) steps from the last value to each target, 1 or more.
        covariates: names of those that are used.
        columns: (steps + farthest,) each: covariates and calendar, through the end of the target.
    """

    values: FloatArray
    first: int
    ahead: np.ndarray[tuple[int], np.dtype[np.int64]]
    covariates: tuple[str, ...] = ()
    columns: Mapping[str, FloatArray]

    @property
    def steps(self) -> int:
        """How many the history has."""
        return len(self.values)

    @property
    def farthest(self) -> int:
        """Steps from the last value to the end of the target."""
        return int(self.ahead.max())

    def past(self) -> FloatArray | None:
        """(steps, columns) beside the history; None without columns."""
        return self._table(slice(None, self.steps))

    def future(self) -> FloatArray | None:
        """(farthest, columns) after it."""
        return self._table(slice(self.steps, None))

    def _table(self, part: slice) -> FloatArray | None:
        if not self.columns:
            return None
        return np.ascontiguousarray(np.column_stack([column[part] for column in self.columns.values()]))

    def at_target(self, forecast: object) -> FloatArray:
        """(horizon,) of what a library said of the steps after the history, in order.

        Raises:
            BadOutput: it said less.
        """
        values = np.asarray(forecast, dtype=np.float64).reshape(-1)
        if len(values) < self.farthest:
            raise BadOutput(f"the library forecast {len(values)} of {self.farthest} steps")
        picked: FloatArray = values[self.ahead - 1]
        return picked

    def since(self, place: int, season: int) -> Counted:
        """The same with less than a season cut off, so that it begins at the step of the season that a place is.

        >>> history = Counted(values=np.arange(9.0), first=13, ahead=np.array([1]), columns={})
        >>> history.since(2, 4).first
        14
        """
        return self._without((place - self.first) % season if season > 1 else 0)

    def newest(self, steps: int) -> Counted:
        """The same with no more than so many steps of history."""
        return self._without(max(0, self.steps - steps))

    def back_to(self, place: int, season: int) -> Counted:
        """The same begun at an earlier place, with its first season as often as it takes.

        For a fitted model that goes on counting from a place that the fresh history does not reach back to.
        """
        lacking = self.first - place
        if lacking <= 0:
            return self
        before = np.arange(-lacking, 0) % min(season, self.steps)
        columns = {name: np.concatenate([column[before], column]) for name, column in self.columns.items()}
        values = np.concatenate([self.values[before], self.values])
        return replace(self, values=values, first=place, columns=columns)

    def index(self, *, ahead: bool = False) -> pd.RangeIndex:
        """The places of the history, or of the steps after it."""
        end = self.first + self.steps
        return pd.RangeIndex(end, end + self.farthest) if ahead else pd.RangeIndex(self.first, end)

    def series(self) -> pd.Series[float]:
        """The history by place."""
        return pd.Series(self.values, index=self.index(), name="y")

    def beside(self, *, ahead: bool = False) -> pd.DataFrame | None:
        """The columns of the history, or of the steps after it, by place; None without columns."""
        table = self.future() if ahead else self.past()
        return None if table is None else pd.DataFrame(table, index=self.index(ahead=ahead), columns=list(self.columns))

    def _without(self, cut: int) -> Counted:
        if not cut:
            return self
        columns = {name: column[cut:] for name, column in self.columns.items()}
        return replace(self, values=self.values[cut:], first=self.first + cut, columns=columns)


def counted(y: pd.Series[float], X: pd.DataFrame | None, task: Task, wanted: Wanted, *, at_least: int = 1) -> Counted:
    """The history of a task, its covariates and its calendar, by steps.

    Args:
        at_least: steps of history that the model needs.

    Raises:
        NoData, TooShort: the history has no reading, or fewer steps.
        CovariateMissing: one that the model uses is not known.

    >>> days = pd.date_range("2024-01-01", periods=5, freq="D", tz="UTC")
    >>> task = Task(target=days[3:], freq="1D")
    >>> found = counted(pd.Series([1.0, float("nan"), 3.0], index=days[:3]), None, task, Wanted(season=1))
    >>> found.values, found.ahead
    (array([1., 2., 3.]), array([1, 2]))
    """
    readings(y, at_least=at_least)
    history = align(y, task, wanted.season)
    if len(history.values) < at_least:
        raise TooShort(f"the model needs {at_least} steps of history and has {len(history.values)}")
    names = known_ahead(X, history, task, wanted.season) if wanted.covariates is None else wanted.covariates
    columns: dict[str, FloatArray] = {}
    if names:
        until = history.last + int(history.ahead.max())
        rows = regressors(X, names, history, task, wanted.season, since=history.first, until=until)
        columns = {f"x_{name}": np.ascontiguousarray(rows[:, place]) for place, name in enumerate(names)}
    if wanted.calendar:
        columns.update(_calendar(y, history, task, wanted))
    return Counted(
        values=filled(history.values, wanted.season),
        first=history.first,
        ahead=history.ahead,
        covariates=names,
        columns=columns,
    )


def _calendar(y: pd.Series[float], history: Aligned, task: Task, wanted: Wanted) -> dict[str, FloatArray]:
    """What the clock shows at every step from the first of the history to the last of the target."""
    steps = len(history.values) + int(history.ahead.max())
    country = wanted.country or (country_of(task.tz) if "holiday" in wanted.calendar else None)
    if follows_local_days(wanted.season, task):
        # Places count steps of the wall clock, so what it shows needs no zone.
        step = int(calendar.step_seconds(task.freq)) * 1_000_000
        shown = (history.first + np.arange(steps, dtype=np.int64)) * step
        return calendar_columns(shown, wanted.calendar, country, "UTC")
    begin = y.index[int(np.flatnonzero(np.isfinite(y.to_numpy()))[0])]
    times = calendar.grid(begin, steps, task.freq, task.tz)
    return calendar_columns(calendar.micros(times), wanted.calendar, country, task.tz)


def main_season(season: int | None, task: Task) -> int:
    """The season of a recipe, else the task's first, else 1 for none."""
    return season or (task.seasons[0] if task.seasons else 1)


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Within, a library neither warns nor logs of what the runner checks anyway: a flat series, an early end.

    Args:
        loggers: of the library, by name.
    """
    found = [logging.getLogger(name) for name in loggers]
    levels = [logger.level for logger in found]
    try:
        for logger in found:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(found, levels, strict=True):
            logger.setLevel(level)
