"""The thread that looks after one worker: starts it, gives it chunks, watches its marks, ends it when its time is up.

Each worker has one, so that a commit in the driver's own thread holds up nobody, and an interrupt there cannot tear
what is said to a worker.
"""

from __future__ import annotations

import contextlib
import pickle
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

from fleet.engines import Backlog, Guilty, Item, Lost, Result, put_back
from fleet.engines.local.process import Gone, Worker
from fleet.engines.local.slot import OUTSIDE, Seen
from fleet.engines.local.worker import ITEMS, WORK, Answer, unpicklable
from fleet.outcome import Cause, Failed, attempt

FIRST_CHUNK = 1
CHUNK_S = 1.0
LARGEST_CHUNK = 500
# Chunks for each worker that may be out or wait to be committed, so that a slow disk does not fill the memory.
AHEAD = 4
POLL_S = 0.2
# An answer or a death is heard at once; only a death whose pipe is held open by another process has to be looked for.
LOOK_S = 1.0
# What a worker may take for what is no part of any item: to import; to read a task or send an answer.
START_S = 120.0
OUTSIDE_S = 120.0
# How often in a row a worker may end before it is ready, or before it begins its chunk.
LIVES = 3
DYING_S = 1.0


@dataclass
class Job(Generic[Item, Result]):
    """One call of `map_chunks`, as the hands see it.

    Args:
        work: pickled.
        crew: how many share the backlog.
    """

    backlog: Backlog[Item]
    work: bytes
    timeout_s: float
    crew: int
    size: int = FIRST_CHUNK
    over: bool = False
    bug: BaseException | None = None
    came: queue.SimpleQueue[Sequence[tuple[Sequence[Item], Result | Lost]]] = field(default_factory=queue.SimpleQueue)

    def take(self) -> list[Item]:
        """A chunk of about `CHUNK_S`, and no more than a fair share of what is left."""
        share = self.backlog.fresh // (2 * self.crew)
        return self.backlog.take(max(min(self.size, share), 1), patience_s=POLL_S, out=AHEAD * self.crew)

    def pace(self, items: int, seconds: float) -> None:
        """Learn from a chunk that came through how many items take `CHUNK_S`; at most four times as many as before."""
        wanted = int(items * CHUNK_S / max(seconds, 1e-3))
        self.size = max(1, min(wanted, 4 * max(items, FIRST_CHUNK), LARGEST_CHUNK))

    def lose(self, chunk: Sequence[Item], failed: Failed, guilty: Guilty | None) -> None:
        """A chunk did not come through."""
        self.came.put(put_back(self.backlog, chunk, failed, guilty))


class Hand:
    """A thread and its worker, which it replaces whenever that is lost.

    Args:
        hello: pickled, for each worker.
    """

    def __init__(self, hello: bytes) -> None:
        self.jobs: queue.SimpleQueue[Job[Any, Any] | None] = queue.SimpleQueue()
        self.broken: Failed | None = None
        self._hello = hello
        self._worker: Worker | None = None
        self._ready = self._dismissed = False
        self._knows: object = None  # the job whose work the worker has
        self._hired_at = 0.0
        self._lives = LIVES
        self._thread = threading.Thread(target=self._run, daemon=True, name="tsfleet-worker")
        self._thread.start()

    def dismiss(self) -> None:
        """End the worker and the thread; see `join`."""
        self._dismissed = True
        self.jobs.put(None)
        if (worker := self._worker) is not None:
            worker.kill()

    def join(self) -> None:
        """Wait until both have ended."""
        self._thread.join()

    def _run(self) -> None:
        try:
            with contextlib.suppress(Exception):  # seen again when there is a job, and told to it
                self._hire()
            while (job := self.jobs.get()) is not None:
                while not (job.over or self._dismissed or self.broken):
                    try:
                        self._serve(job)
                    except BaseException as bug:  # noqa: BLE001  of this file and no model's; ends the command, not the thread
                        job.bug, job.over = bug, True
        finally:
            self._let_go()

    def _serve(self, job: Job[Item, Result]) -> None:
        """One chunk, if there is a worker for it and any is due."""
        worker = self._staffed()
        if worker is None or not (chunk := job.take()):
            return
        items = attempt(pickle.dumps, chunk, pickle.HIGHEST_PROTOCOL)
        if isinstance(items, Failed):
            job.lose(chunk, unpicklable(items, "it cannot be sent to a worker"), None)
            return
        try:
            if self._knows is not job:
                worker.say(WORK, job.work)
                self._knows = job
            worker.slot.clear()  # of the chunk before
            worker.say(ITEMS, items)
            said = self._watched(worker, job.timeout_s)
        except Gone:
            said = worker.slot.read()
            how = self._let_go(patience_s=DYING_S)
            failed = Failed(code="crashed", cause=Cause.CRASHED, error=f"the worker process died ({how})", passing=True)
        else:
            if isinstance(said, bytes):
                self._settle(job, chunk, said)
                return
            self._let_go()
            error = f"not done within {job.timeout_s:g} s ([train] timeout)"
            failed = Failed(code="timeout", cause=Cause.TIMEOUT, error=error)
        if said.since:
            job.lose(chunk, failed, None if said.place == OUTSIDE else (said.place, said.part))
        else:  # the chunk was not begun, so it is not its fault
            job.backlog.put(chunk)
            job.came.put(())
            self._lose_life(failed.error)

    def _watched(self, worker: Worker, timeout_s: float) -> bytes | Seen:
        """The answer to a chunk, or where the worker was when its time was up."""
        quiet_since = time.monotonic()
        while True:
            seen = worker.slot.read()
            if seen.since:
                quiet_since = time.monotonic()
            limit = timeout_s if seen.since and seen.place != OUTSIDE else OUTSIDE_S
            left = (seen.since or quiet_since) + limit - time.monotonic()
            if (said := worker.answer(max(min(left, timeout_s, LOOK_S), 0.0))) is not None:
                return said
            if left <= 0 and worker.slot.read() == seen:
                return seen

    def _settle(self, job: Job[Item, Result], chunk: Sequence[Item], said: bytes) -> None:
        self._lives = LIVES
        answer = attempt(pickle.loads, said)
        if isinstance(answer, Failed):
            answer = Answer(unpicklable(answer, "what the model made cannot be read"))
        if not isinstance(answer.result, Failed):
            job.pace(len(chunk), answer.seconds)
            job.came.put([(chunk, answer.result)])
            return
        if answer.result.cause is Cause.MEMORY:
            self._let_go()  # what filled it may still be there; the next one begins empty
        job.lose(chunk, answer.result, answer.guilty)

    def _staffed(self) -> Worker | None:
        """The worker, ready for a chunk; None as long as there is none, or for ever when `broken`."""
        worker = self._worker or self._hire()
        if worker is None or (self._ready and worker.alive):
            return worker
        try:
            said = worker.answer(POLL_S)
        except Gone:
            self._lose_life(f"a worker ended before its work ({self._let_go(patience_s=DYING_S)})")
            return None
        if said is None:
            if time.monotonic() > self._hired_at + START_S:
                self._let_go()
                self._give_up(f"a worker was not ready within {START_S:g} s")
            return None
        answer: Answer = pickle.loads(said)  # noqa: S301  written by the worker, through a pipe that nobody else has
        if isinstance(answer.result, Failed):
            self._give_up(answer.result.error)
            return None
        self._ready = True
        return worker

    def _hire(self) -> Worker | None:
        self._ready, self._knows, self._hired_at = False, None, time.monotonic()
        try:
            self._worker = Worker(self._hello)
        except OSError as error:
            self._lose_life(str(error))
        if self._dismissed:
            self._let_go()
        return self._worker

    def _let_go(self, *, patience_s: float = 0.0) -> str:
        worker, self._worker = self._worker, None
        return "" if worker is None else worker.end(patience_s=patience_s)

    def _lose_life(self, why: str) -> None:
        self._lives -= 1
        if not self._lives:
            self._give_up(why)

    def _give_up(self, why: str) -> None:
        """No worker lives long enough to be of use: then none will, and what waits is told so."""
        self.broken = Failed(code="crashed", cause=Cause.CRASHED, error=f"no worker process stays alive: {why}")
