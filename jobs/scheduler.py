"""The scheduler: starts what is due, each run in a process of its own, and sees it end.

It decides nothing that it does not read from the store, and keeps nothing that is not there: any number of schedulers
may look after one store, and one that is killed is replaced by the next that looks. The loop is `step`, which does what
is due now and says how long there is nothing to do; clock, waiting and the way a run is started come in as arguments,
so that a fortnight can be gone through in minutes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from fleet import config as configuration
from fleet.config import FleetConfig
from jobs import claiming
from jobs.claiming import DIED, Claim
from jobs.due import Job, due_slots, jobs_of, standing_of
from jobs.errors import JobRunning
from jobs.standing import DEATHS, DRAIN, Standing, Start, next_start, wakes_at
from jobs.work import Done
from store import Store
from store.clock import Clock, system_clock
from store.errors import Overtaken, TsfleetError

LONGEST_S = 30.0
"""So long the loop sleeps at most: a clock that was set, or a machine that slept, is noticed by then."""
BUSY_S = 0.2
JUMP = timedelta(seconds=60)


class Hand(Protocol):
    """A run at work."""

    def over(self) -> bool:
        """Whether it has ended, in whichever way."""
        ...

    def stop(self, *, at_once: bool) -> None:
        """Ask it to end, or end it."""
        ...


Starter = Callable[[FleetConfig, str, Claim], Hand]
"""Starts a claimed run with a configuration, and with its text."""


class Child:
    """A run in a process of its own, with all that it starts in its group."""

    def __init__(self, config: FleetConfig, text: str, held: Claim) -> None:
        words = [str(config.file), held.job, held.standing.text, str(held.sign)]
        self._process = subprocess.Popen(  # noqa: S603  our own interpreter and module
            [sys.executable, "-m", "jobs.child", *words],
            stdin=subprocess.PIPE,
            pass_fds=(held.sign,),
            start_new_session=True,
        )
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended already, which `over` tells
            self._process.stdin.write(json.dumps(text).encode() + b"\n")
            self._process.stdin.flush()

    def over(self) -> bool:
        if self._process.poll() is None:
            return False
        assert self._process.stdin is not None
        self._process.stdin.close()
        return True

    def stop(self, *, at_once: bool) -> None:
        with suppress(ProcessLookupError):
            if at_once:
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.terminate()


@dataclass(slots=True)
class _Running:
    job: Job
    held: Claim
    hand: Hand
    began_s: float
    stopping_s: float | None = None


class Scheduler:
    """Looks after the jobs of one fleet.

    Args:
        config: the file; it is read anew when it changes.
        wait: sleeps so many seconds, or less when there is news.
        starter: starts a claimed run.
        parallel: runs at a time.
        tell: takes a line for the log.
        monotonic: seconds that no clock change touches.
    """

    def __init__(
        self,
        config: Path,
        *,
        wait: Callable[[float], object] = time.sleep,
        clock: Clock = system_clock,
        starter: Starter = Child,
        parallel: int = 2,
        tell: Callable[[str], None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file, self._wait, self._clock, self._starter = config, wait, clock, starter
        self._parallel, self._tell, self._monotonic = parallel, tell, monotonic
        self._stamp = self._looks()
        self._text = config.read_text(encoding="utf-8")
        self._config: FleetConfig = configuration.parse(self._text, config)
        self._jobs = jobs_of(self._config)
        self._store = Store.open(self._config.store_path, clock=clock)
        self._at_work: dict[str, _Running] = {}
        self._seen: tuple[datetime, float] | None = None
        self._draining = False

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def drain(self) -> None:
        """Start nothing more, and ask what is at work to end after its chunk; the next scheduler goes on with it."""
        self._draining = True

    def run(self) -> None:
        """Go on until drained."""
        while True:
            pause = self.step()
            if self._draining and not self._at_work:
                return
            self._wait(pause)

    def step(self) -> float:
        """Do what is due now; the seconds for which there is nothing to do."""
        now = self._clock.now()
        self._notice(now)
        self._reload()
        for running in list(self._at_work.values()):
            self._look_after(running)
        wakes = [now + timedelta(seconds=LONGEST_S)]
        if not self._draining:
            for job in self._jobs.values():
                if job.name not in self._at_work:
                    self._look_at(job, now, wakes)
        if self._at_work:
            return BUSY_S
        return max(0.0, min(LONGEST_S, (min(wakes) - now).total_seconds()))

    # ---------------------------------------------------------------- what is due

    def _look_at(self, job: Job, now: datetime, wakes: list[datetime]) -> None:
        standing = claiming.first_standing(self._store, job.name, now)
        slots = due_slots(self._store, job, standing, now)
        lives = standing.status == "running" and claiming.alive(self._store.path, job.name, standing)
        start = next_start(standing, job.rules, slots, now=now, alive=lives)
        if start is None:
            wake = wakes_at(standing, job.rules, now)
            wakes += [] if wake is None else [wake]
        elif len(self._at_work) < self._parallel:
            self._begin(job, standing, start)

    def _begin(self, job: Job, standing: Standing, start: Start) -> None:
        try:
            held = claiming.claim(self._store, job, standing, start)
        except (JobRunning, Overtaken):
            return  # another scheduler was first, or still is
        if start.deaths > DEATHS:
            done = Done(status="failed", error=f"{DIED} {start.deaths} times; look at its log, then `jobs resume`")
            claiming.finish(self._store, job, held, done)
            claiming.let_go(self._store.path, job.name, held.slot, held.sign)
            return
        self._tell(f"{job.name} {held.slot:%Y-%m-%dT%H:%M:%SZ} begins" + _counted(held.standing))
        hand = self._starter(self._config, self._text, held)
        self._at_work[job.name] = _Running(job=job, held=held, hand=hand, began_s=self._monotonic())

    # ---------------------------------------------------------------- what is at work

    def _look_after(self, running: _Running) -> None:
        job, now_s = running.job, self._monotonic()
        if running.hand.over():
            del self._at_work[job.name]
            self._ended(running)
            return
        limit = job.rules.timeout
        late = limit is not None and now_s - running.began_s > limit.total_seconds()
        if running.stopping_s is None and (late or self._draining):
            running.stopping_s = now_s
            running.hand.stop(at_once=late)
        elif running.stopping_s is not None and now_s - running.stopping_s > DRAIN.total_seconds():
            running.hand.stop(at_once=True)

    def _ended(self, running: _Running) -> None:
        """Write down what a run could not say that was ended, and take its sign away; what it said stays."""
        job, held, limit = running.job, running.held, running.job.rules.timeout
        if running.stopping_s is not None and not self._draining and limit is not None:
            took = f"it took longer than timeout = {limit.total_seconds():g}s and was ended"
            with suppress(Overtaken):
                claiming.finish(self._store, job, held, Done(status="failed", error=took))
                self._tell(f"{job.name} {held.slot:%Y-%m-%dT%H:%M:%SZ} failed: {took}")
        after = standing_of(self._store, job.name)
        if after is not None and after.text == held.standing.text:
            self._tell(f"{job.name} {held.slot:%Y-%m-%dT%H:%M:%SZ}: {DIED}")
            claiming.let_go(self._store.path, job.name, held.slot, held.sign)
        else:
            os.close(held.sign)

    # ---------------------------------------------------------------- the world outside

    def _notice(self, now: datetime) -> None:
        """Say so when the wall's clock and the machine's disagree about the time that went by."""
        seen_s = self._monotonic()
        if self._seen is not None:
            gone = (now - self._seen[0]) - timedelta(seconds=seen_s - self._seen[1])
            if abs(gone) > JUMP:
                word = "ahead, or the machine slept" if gone > timedelta(0) else "back"
                self._tell(f"the clock went {abs(gone).total_seconds():.0f} s {word}")
        self._seen = (now, seen_s)

    def _reload(self) -> None:
        """Read the configuration anew when its file changed; one that does not hold is told, and the old one stays."""
        stamp = self._looks()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            text = self._file.read_text(encoding="utf-8")
            loaded = configuration.parse(text, self._file)
            found = jobs_of(loaded)
            if loaded.store_path != self._config.store_path:
                self._tell(f"{self._file} names another store; start the scheduler anew for it")
                return
        except (TsfleetError, OSError, UnicodeDecodeError) as error:
            self._tell(f"{error}; going on with the configuration as it was")
            return
        self._config, self._text, self._jobs = loaded, text, found
        self._tell(f"{self._file} is read anew: {', '.join(found) or 'no jobs'}")

    def _looks(self) -> tuple[int, int]:
        try:
            seen = self._file.stat()
        except FileNotFoundError:
            return (0, 0)
        return (seen.st_mtime_ns, seen.st_size)


def _counted(standing: Standing) -> str:
    return "" if standing.attempt == 1 else f", attempt {standing.attempt}"
