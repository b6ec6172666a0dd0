"""What happens in a simulated stretch of time, all of it drawn beforehand: readings, outages, and who dies when.

Everything follows from the seed. The slots are found here by going through every minute of the clock on the wall, so
that they owe nothing to the scheduler that is to be judged by them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

ZONE = ZoneInfo("Europe/Berlin")
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
HISTORY = timedelta(days=30)
STATIONS = ("north", "south")
AHEAD_H = 60

Daylight = Literal["once", "twice", "skip"]
What = Literal["run", "machine", "scheduler", "claim"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When a job is due: every so many minutes, at a minute of every hour, at a time of the wall, or after another."""

    every: int | None = None
    minute: int | None = None
    wall: tuple[int, int] | None = None
    daylight: Daylight = "once"
    after: str | None = None

    @property
    def toml(self) -> str:
        """As fleet.toml says it."""
        if self.after is not None:
            return f'after = "{self.after}"'
        if self.every is not None:
            return f'every = "{self.every}min"'
        if self.minute is not None:
            return f'cron = "{self.minute} * * * *"'
        assert self.wall is not None
        return f'cron = "{self.wall[1]} {self.wall[0]} * * *"\ndaylight = "{self.daylight}"'


TIMINGS: Mapping[str, Timing] = {
    "ingest": Timing(minute=10),
    "score": Timing(after="ingest"),
    "forecast": Timing(minute=15),
    "deliver": Timing(after="forecast"),
    "dayahead": Timing(wall=(11, 30)),
    "deliver_day": Timing(after="dayahead"),
    "alert": Timing(minute=25),
    "train": Timing(wall=(3, 35)),
    "compare": Timing(wall=(6, 40)),
    "upkeep": Timing(every=360),
    "own": Timing(every=30),
    "night_once": Timing(wall=(2, 30)),
    "night_twice": Timing(wall=(2, 30), daylight="twice"),
    "night_skip": Timing(wall=(2, 30), daylight="skip"),
}


def slots(timing: Timing, begin: datetime, end: datetime) -> list[datetime]:
    """The slots later than `begin` and not later than `end`, found minute by minute.

    >>> march = datetime(2024, 3, 30, 23, tzinfo=UTC)
    >>> [f"{one:%H:%M}" for one in slots(TIMINGS["night_twice"], march, march + timedelta(hours=6))]
    ['01:00']
    >>> slots(TIMINGS["night_skip"], march, march + timedelta(hours=6))
    []
    >>> autumn = datetime(2024, 10, 26, 22, tzinfo=UTC)
    >>> [f"{one:%H:%M}" for one in slots(TIMINGS["night_twice"], autumn, autumn + timedelta(hours=6))]
    ['00:30', '01:30']
    >>> [f"{one:%H:%M}" for one in slots(TIMINGS["night_once"], autumn, autumn + timedelta(hours=6))]
    ['00:30']
    """
    found = []
    at = begin.replace(second=0, microsecond=0) + MINUTE
    while at <= end:
        if _fires(timing, at):
            found.append(at)
        at += MINUTE
    return found


def _fires(timing: Timing, at: datetime) -> bool:
    if timing.every is not None:
        return int(at.timestamp()) // 60 % timing.every == 0
    if timing.minute is not None:
        return at.minute == timing.minute
    if timing.wall is None:
        return False
    now, before = at.astimezone(ZONE), (at - MINUTE).astimezone(ZONE)
    if (now.hour, now.minute) == timing.wall:
        return now.fold == 0 or timing.daylight == "twice"
    # The clock jumped over it.
    jumped = (before.hour, before.minute) < timing.wall < (now.hour, now.minute)
    return jumped and now.date() == before.date() and timing.daylight != "skip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """Somebody's death, or the end of a scheduler.

    Args:
        what: run (its process alone), machine (with the scheduler, for `down`), scheduler (the run lives on, and is
            asked to end where `asked`), claim (the scheduler, between the claim and the run's process).
        job, slot, attempt: whose.
        share: of the calls that such a run makes, after which it dies.
        within: where those calls are counted.
    """

    what: What
    job: str
    slot: datetime
    attempt: int
    share: float
    within: Literal["house", "store"]
    down: timedelta
    asked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch in which the feed says nothing, or what it gives cannot be read."""

    kind: Literal["silent", "broken"]
    start: datetime
    stop_before: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All that is drawn.

    Args:
        slow: local days on which the model needs until after the gate, and whom it is busy with then.
        sick: local days on which the model fails, and for whom.
    """

    begin: datetime
    end: datetime
    assets: tuple[str, ...]
    seed: int
    crashes: Mapping[tuple[str, datetime, int], Crash]
    spans: tuple[Span, ...]
    slow: Mapping[date, str]
    sick: Mapping[date, str]


def drawn(begin: datetime, days: int, assets: int, crashes: int, seed: int) -> Story:
    """The story of a seed."""
    dice = random.Random(seed)  # noqa: S311  chance, not secrets
    end = begin + timedelta(days=days)
    names = tuple(f"plant-{number:02d}" for number in range(assets))
    daily = [begin.astimezone(ZONE).date() + timedelta(days=k) for k in range(days + 1)]
    return Story(
        begin=begin,
        end=end,
        assets=names,
        seed=seed,
        crashes={(one.job, one.slot, one.attempt): one for one in _crashes(dice, begin, end, crashes)},
        spans=tuple(_spans(dice, begin, days)),
        slow={day: dice.choice(names) for day in daily if dice.random() < 0.2},
        sick={day: dice.choice(names) for day in daily if dice.random() < 0.3},
    )


def _crashes(dice: random.Random, begin: datetime, end: datetime, count: int) -> Iterator[Crash]:
    """Every job has its turn, so that none is spared; a run may die again when it is taken up."""
    jobs = sorted(TIMINGS)
    for number in range(count):
        job = jobs[number % len(jobs)]
        timing = TIMINGS[job]
        while timing.after is not None:
            timing = TIMINGS[timing.after]
        due = slots(timing, begin, end)
        if not due:
            continue
        slot = dice.choice(due)
        for attempt in range(1, 1 + dice.choice((1, 1, 1, 2, 3))):
            yield Crash(
                what=dice.choices(("run", "machine", "scheduler", "claim"), (5, 2, 1, 1))[0],  # type: ignore[arg-type]  # one of them
                job=job,
                slot=slot,
                attempt=attempt,
                share=dice.random(),
                within=dice.choice(("house", "store")),  # type: ignore[arg-type]  # as above
                down=timedelta(minutes=dice.choice((1, 5, 20, 90, 200))),
                asked=dice.random() < 0.5,
            )


def _spans(dice: random.Random, begin: datetime, days: int) -> Iterator[Span]:
    """About one outage in two days, of an hour to a day; the feed is silent, or its file is broken."""
    for _ in range(max(1, days // 2)):
        start = begin + timedelta(hours=dice.uniform(3, max(4, days * 24 - 6)))
        hours = dice.choice((1, 2, 5, 11, 26) if days > 4 else (1, 2, 4))
        kind: Literal["silent", "broken"] = dice.choice(("silent", "broken"))  # type: ignore[assignment]  # one of them
        yield Span(kind=kind, start=start, stop_before=start + timedelta(hours=hours))


# ----------------------------------------------------------------------------------------------------------- the feed


def readings(story: Story) -> pd.DataFrame:
    """Every reading that the feed ever tells, and when: late ones, revised ones, and all those that an outage held up.

    Columns unique_id, ds, y, known; a revision has the same unique_id and ds as another row.
    """
    first = story.begin - HISTORY
    hours = int((story.end - first) / HOUR) + 48
    times = pd.date_range(first, periods=hours, freq="h", unit="us")
    local = times.tz_convert(str(ZONE))
    shape = 2 + np.sin(2 * np.pi * (local.hour.to_numpy() - 6) / 24) * np.where(
        local.day_of_week.to_numpy() < 5, 1, 0.4
    )
    frames = []
    for number, name in enumerate(story.assets):
        rng = np.random.default_rng([story.seed, number])
        y = (5 + number) * shape + rng.normal(0, 0.5, hours)
        late = np.where(rng.random(hours) < 0.05, rng.integers(1, 30, hours), 0)
        known = times + pd.to_timedelta(late + 1, unit="h") + pd.Timedelta(minutes=5)
        frames.append(pd.DataFrame({"unique_id": name, "ds": times, "y": y, "known": known}))
        again = rng.random(hours) < 0.05
        revised = known[again] + pd.to_timedelta(rng.integers(2, 60, int(again.sum())), unit="h")
        better = y[again] + rng.normal(0, 0.3, int(again.sum()))
        frames.append(pd.DataFrame({"unique_id": name, "ds": times[again], "y": better, "known": revised}))
    told = pd.concat(frames, ignore_index=True)
    told["known"] = held_up(told["known"], story.spans)
    # Of one reading and one instant there is one value.
    return told.drop_duplicates(["unique_id", "ds", "known"], keep="last").sort_values(["known", "unique_id", "ds"])


def held_up(known: pd.Series[pd.Timestamp], spans: tuple[Span, ...]) -> pd.Series[pd.Timestamp]:
    """What would be told while the feed is silent is told when it speaks again."""
    for span in sorted(spans, key=lambda one: one.start):
        if span.kind == "silent":
            within = (known >= span.start) & (known < span.stop_before)
            known = known.mask(within, pd.Timestamp(span.stop_before).ceil("min"))
    return known


def weather(story: Story) -> pd.DataFrame:
    """Forecasts of the temperature at each station, made every six hours and known two hours later."""
    first = (story.begin - HISTORY).replace(hour=0, minute=0, second=0, microsecond=0)
    made = pd.date_range(first, story.end, freq="6h", unit="us")
    frames = []
    for number, station in enumerate(STATIONS):
        rng = np.random.default_rng([story.seed, 1000 + number])
        for issued in made:
            if issued > story.begin and rng.random() < 0.1:
                continue  # a run that never came
            times = pd.date_range(issued, periods=AHEAD_H, freq="h", unit="us")
            temp = 10 + 5 * np.sin(2 * np.pi * (times.hour.to_numpy() - 8) / 24) + rng.normal(0, 1, AHEAD_H)
            known = issued + pd.Timedelta(hours=2)
            frames.append(pd.DataFrame({"station": station, "ds": times, "temp": temp, "known": known}))
    return pd.concat(frames, ignore_index=True).sort_values(["known", "station", "ds"])


def at_start(begin: date) -> datetime:
    """Noon of a day, so that a first morning's jobs are whole."""
    return datetime(begin.year, begin.month, begin.day, 12, 0, 30, tzinfo=UTC)
