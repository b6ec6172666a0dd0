"""Who got worse, and since when: two windows of the days that were scored, asset by asset, and the day of the change.

All of it is arithmetic on a `Panel`, so another pair of windows costs no question to the store. A change counts when it
is as large as asked for and larger than what the days of the past differ among themselves. The day of the change is the
one that parts the days into the two groups whose means lie furthest apart; it is told only where that is clear.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from fleet.metrics import loss, parse
from fleet.questions.panel import Panel
from fleet.review import changes
from fleet.review.grids import Window, windows

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: A window with fewer scored days tells nothing; a shorter one is asked for all its days.
LEAST_DAYS = 3
#: The two sides of a day of change lie so many standard errors apart. The best of many days is looked for, so the bar
#: is higher than for one that was named before.
CLEAR = 4.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Decay:
    """Each asset of a panel in two windows.

    Args:
        metric: of the change, the lower the better.
        now, before: (n,) the metric over each window; change: (n,) by which fraction it grew.
        noise: (n,) in standard errors of the earlier days' mean.
        days_now, days_before: (n,) scored days of each window.
        verdicts: (n,) one of `changes.VERDICTS`.
        since: (n,) the first day of the changed level, None where no day parts the days clearly.
        daily: (n, k) the metric by day over both windows, NaN where nothing was scored; first: their first day.
    """

    metric: str
    assets: tuple[str, ...]
    recent: Window
    history: Window
    effect: float
    now: FloatArray
    before: FloatArray
    change: FloatArray
    noise: FloatArray
    days_now: IntArray
    days_before: IntArray
    verdicts: npt.NDArray[np.object_]
    since: tuple[date | None, ...]
    daily: FloatArray
    first: date

    @property
    def counts(self) -> Mapping[str, int]:
        """How many assets have each verdict."""
        return changes.counted(self.verdicts)

    @property
    def days(self) -> tuple[date, ...]:
        """Of both windows, one after the other."""
        return tuple(self.first + timedelta(days=k) for k in range(self.daily.shape[1]))


def comparable(metric: str) -> str:
    """The metric whose change says that an asset got worse: for what has a sign or a promise to keep, the mae.

    >>> comparable("rmse"), comparable("bias"), comparable("coverage_80")
    ('rmse', 'mae', 'mae')
    """
    return "mae" if parse(metric).family in ("bias", "coverage", "width") else metric


def decay(seen: Panel, *, recent: int, history: int, effect: float, until: date | None = None) -> Decay:
    """The last days of a panel beside those before them.

    Args:
        recent, history: days of the two windows.
        effect: the least change, as a fraction, that counts.
        until: the last day of the recent window; None is the newest that was scored.
    """
    start = seen.days[0] if seen.days else date(1970, 1, 2)
    end = (until or (seen.days[-1] if seen.days else start)) + timedelta(days=1)
    now, before = windows(end, recent, history)
    middle, stop, first = ((day - start).days for day in (now.start, now.stop_before, before.start))

    def over(begin: int, finish: int) -> FloatArray:
        begin, finish = max(begin, 0), max(finish, 0)
        return seen.over(begin, finish) if finish > begin else np.full(len(seen.assets), np.nan)

    value, past = over(middle, stop), over(first, middle)
    daily = _laid(seen.values, first, stop)
    recent_days, past_days = daily[:, history:], daily[:, :history]
    changed = changes.change(value, past)
    far = changes.distance(recent_days, past_days)
    held, held_before = (np.isfinite(days).sum(axis=1) for days in (recent_days, past_days))
    enough = (held >= min(LEAST_DAYS, recent)) & (held_before >= LEAST_DAYS)
    verdicts = changes.verdicts(changed, far, enough, effect)
    points = change_points(daily)
    told = np.isin(verdicts, ("worse", "better")) & (points >= 0)
    return Decay(
        metric=seen.metric,
        assets=seen.assets,
        recent=now,
        history=before,
        effect=effect,
        now=value,
        before=past,
        change=changed,
        noise=far,
        days_now=held,
        days_before=held_before,
        verdicts=verdicts,
        since=tuple(
            before.start + timedelta(days=int(place)) if clear else None
            for place, clear in zip(points, told, strict=True)
        ),
        daily=daily,
        first=before.start,
    )


def _laid(values: FloatArray, first: int, stop: int) -> FloatArray:
    """The columns from one place to before another; NaN where there are none."""
    made = np.full((len(values), stop - first), np.nan)
    begin, end = max(first, 0), min(stop, values.shape[1])
    if end > begin:
        made[:, begin - first : end - first] = values[:, begin:end]
    return made


def change_points(daily: FloatArray, clear: float = CLEAR) -> IntArray:
    """(n,) the place of the first day of a new level; -1 where none stands out.

    Of all days the one is taken before and from which the means lie furthest apart, each over three known days at
    least.

    Args:
        daily: (n, days), NaN where there is no value.
        clear: standard errors between the two means.

    Cost: a few passes over the values.

    >>> change_points(np.array([[1.0, 1.2, 0.9, 1.1, 3.0, 3.1, 2.9, 3.2], [1.0, 1.2, 0.9, 1.1, 1.0, 1.1, 1.2, 0.9]]))
    array([ 4, -1])
    """
    if not daily.size:
        return np.full(len(daily), -1)
    known = np.isfinite(daily)
    values = np.where(known, daily, 0.0)
    count, total, squares = (np.cumsum(part, axis=1) for part in (known.astype(np.float64), values, values**2))
    left, right = count[:, :-1], count[:, -1:] - count[:, :-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = total[:, :-1] / left, (total[:, -1:] - total[:, :-1]) / right
        explained = left * low**2 + right * high**2
        # What two means leave over is never below nothing, whatever rounding says.
        rest = np.maximum(squares[:, -1:] - explained, 0.0)
        error = np.sqrt(rest / np.maximum(left + right - 2, 1) * (1 / left + 1 / right))
        apart = np.abs(high - low) / error
    # A day without a value begins nothing: of equal partings the last place is before the first known day.
    allowed = (left >= LEAST_DAYS) & (right >= LEAST_DAYS) & known[:, 1:] & ~np.isnan(apart)
    apart = np.where(allowed, apart, -1.0)
    best = apart.argmax(axis=1) if apart.shape[1] else np.zeros(len(daily), dtype=np.int64)
    reached = np.take_along_axis(apart, best[:, None], axis=1)[:, 0] if apart.shape[1] else np.full(len(daily), -1.0)
    return np.where(reached >= clear, best + 1, -1)


SORTS = ("-change", "change", "-noise", "-more", "-now", "since", "-since", "asset_id")


def ordered(found: Decay, sort: str, among: npt.NDArray[np.bool_]) -> IntArray:
    """Places of some assets in an order: by the change, the noise, what an error grew by, its size, or its day.

    Args:
        sort: one of `SORTS`; what is not known comes last.
    """
    places = np.flatnonzero(among)
    if sort == "asset_id":
        return places
    name = sort.lstrip("-")
    keys: FloatArray = {
        "change": found.change,
        "noise": found.noise,
        "more": found.now - found.before,
        "now": loss(parse(found.metric), found.now),
        "since": np.array([np.nan if day is None else float(day.toordinal()) for day in found.since]),
    }[name]
    key = keys[places] * (-1 if sort[0] == "-" else 1)
    return places[np.lexsort((places, np.where(np.isnan(key), np.inf, key)))]
