"""The walk through a story: a scheduler, its runs, their deaths, and a clock that moves when nothing is at work."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from fleet import Fleet
from fleet.config import FleetConfig
from jobs.claiming import Claim
from jobs.scheduler import Scheduler
from store.clock import FixedClock
from tests.simulation.children import Hand, Nursery
from tests.simulation.story import Crash, Story
from tests.simulation.world import World

#: Calls of a run whose kind has never been counted.
_USUAL = 5_000
#: Every so many runs of a job one is counted.
_COUNTED_EVERY = 20
#: After the end of the story: time to finish what is begun.
SETTLE = timedelta(minutes=25)


class SchedulerDies(BaseException):
    """Between a claim and its run."""

    def __init__(self, held: Claim) -> None:
        self.held = held
        super().__init__()


@dataclass(slots=True)
class Told:
    """What was seen on the way."""

    runs: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    restarts: int = 0
    deaths: Counter[str] = field(default_factory=Counter)
    raised: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)


class Walk:
    """One walk.

    Args:
        nursery: starts the runs.
    """

    def __init__(self, folder: Path, story: Story, nursery: Nursery) -> None:
        self.story, self.nursery, self.told = story, nursery, Told()
        self.world = World(folder, story)
        self.clock = FixedClock(story.begin)
        self._ticks = 0.0
        self._dice = random.Random(story.seed + 1)  # noqa: S311  chance, not secrets
        self._calls: dict[str, dict[str, int]] = {}
        self._begun: Counter[str] = Counter()
        self._hands: dict[tuple[str, str], tuple[Hand, Crash | None]] = {}
        with Fleet.open(self.world.config, clock=FixedClock(story.begin)) as fleet:  # the team's first morning
            fleet.ingest()
            fleet.train(promote=True)
        self.scheduler = self._another()

    def _another(self) -> Scheduler:
        return Scheduler(
            self.world.config,
            clock=self.clock,
            starter=self._start,
            tell=self._log,
            monotonic=lambda: self._ticks,
        )

    def _log(self, line: str) -> None:
        self.told.log.append(f"{self.clock.now():%Y-%m-%dT%H:%M:%S} {line}")

    def go(self) -> None:
        """To the end of the story, and until all that was due is done."""
        quiet = False
        while self.clock.now() < self.story.end + SETTLE or not quiet:
            quiet = self._step()
        self.scheduler.close()

    def _step(self) -> bool:
        """One turn of the loop; whether nothing was at work."""
        try:
            pause = self.scheduler.step()
        except SchedulerDies as death:
            os.close(death.held.sign)
            self._end_all()
            self._restart(timedelta(minutes=1))
            return False
        if not self._hands:
            # Slots lie on whole minutes: who sleeps longer than asked finds the same.
            self._pass(timedelta(seconds=max(pause, 0.2)))
            return pause > 1
        for (job, _), (hand, crash) in list(self._hands.items()):
            if crash is not None and crash.what == "scheduler":
                self._orphan(job, hand, crash)
                return False
        self._one_ends()
        return False

    # ------------------------------------------------------------------------------------------------------- time

    def _pass(self, span: timedelta) -> None:
        self._ticks += span.total_seconds()
        self.clock.set(self.clock.now() + span)
        self.world.pass_to(self.clock.now())

    # ------------------------------------------------------------------------------------------------------- runs

    def _start(self, config: FleetConfig, text: str, held: Claim) -> Hand:
        key = (held.job, held.slot, held.standing.attempt)
        crash = self.story.crashes.get(key)
        if crash is not None:
            self.told.killed[crash.what] += 1
            if crash.what == "claim":
                raise SchedulerDies(held)
        self.told.runs += 1
        self._begun[held.job] += 1
        self.world.clock.set(self.clock.now())
        at, within = None, "house"
        if crash is not None and (crash.what != "scheduler" or crash.asked):
            within = crash.within
            usual = self._calls.get(held.job, {}).get(within, _USUAL)
            at = max(1, round(crash.share * usual))
        deed = signal.SIGTERM if crash is not None and crash.what == "scheduler" else signal.SIGKILL
        request = {
            "config": str(config.file), "text": text, "job": held.job, "standing": held.standing.text, "at": at,
            "within": within, "deed": int(deed), "counting": self._begun[held.job] % _COUNTED_EVERY == 1,
            "paused": crash is not None and crash.what == "scheduler",
        }  # fmt: skip
        hand = self.nursery.start(request, held.sign)
        self._hands[held.job, held.slot.isoformat()] = (hand, crash)
        return hand

    def _one_ends(self) -> None:
        """The oldest run comes to its end, and the time that it took passes."""
        key = next(iter(self._hands))
        hand, crash = self._hands.pop(key)
        hand.wait()
        self._heard(key[0], hand, crash)
        # A model may have taken its time by the clock that all look at.
        self.clock.set(max(self.clock.now(), self.world.clock.now()))
        self._pass(timedelta(seconds=self._dice.uniform(1, 15)))
        if crash is not None and crash.what == "machine":
            self._end_all()
            self._restart(crash.down)

    def _heard(self, job: str, hand: Hand, crash: Crash | None) -> None:
        word = hand.word
        if word is None:
            self.told.deaths[job] += 1
            return
        if word["calls"]["house"] and crash is None:
            self._calls[job] = word["calls"]
        if word["status"] == "raised" and word["code"] != "overtaken":
            self.told.raised.append(f"{job}: {word['error']}")

    def _orphan(self, job: str, hand: Hand, crash: Crash) -> None:
        """The scheduler dies and another comes; the run that it left is still at work, and then comes to its end."""
        others = [one for one in self._hands.values() if one[0] is not hand]
        for other, _ in others:
            other.stop(at_once=True)
            other.wait()
        self._hands.clear()
        self._restart(timedelta(seconds=20))
        try:
            self.scheduler.step()
        except SchedulerDies as death:
            os.close(death.held.sign)
            self._end_all()
            self._restart(timedelta(seconds=20))
        hand.go()
        hand.wait()
        self._heard(job, hand, crash)

    # ------------------------------------------------------------------------------------------------- schedulers

    def _end_all(self) -> None:
        for hand, _ in self._hands.values():
            hand.stop(at_once=True)
            hand.wait()
        self._hands.clear()

    def _restart(self, down: timedelta) -> None:
        """The scheduler is gone with all that it held open; after a while there is another."""
        for running in self.scheduler._at_work.values():
            with suppress(OSError):
                os.close(running.held.sign)
        self.scheduler.close()
        self._pass(down)
        self.told.restarts += 1
        self.scheduler = self._another()
