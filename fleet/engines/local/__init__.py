"""Other processes on this machine: new interpreters, each with a thread of the driver that looks after it.

No fork: forking after OpenMP has started hangs LightGBM. Chunks aim at a second of work: the first ones are single
items and the measured rate sizes the next, smaller ones towards the end. A worker marks each part before it begins, so
when a process dies, or a part exceeds its time, it is known at once who is to blame: that item is `Lost`, the others of
the chunk run again.
"""

from __future__ import annotations

import pickle
import queue
from collections.abc import Callable, Iterator, Sequence

from fleet.engines import Backlog, Item, Lost, Result, Work, never
from fleet.engines.local.hand import LARGEST_CHUNK, Hand, Job
from fleet.engines.local.memory import allowance
from fleet.engines.local.worker import Hello, unpicklable
from fleet.outcome import Failed, attempt

POLL_S = 0.2


class Local:
    """A crew of workers that lives for one command.

    Args:
        workers: processes, >= 1.
        initializer: called once in each worker (imports the adapters in use), outside any asset's timeout.
        initargs: its arguments; they pickle.
        memory: bytes that a worker may take beside its libraries; "auto" takes a fair share of the machine's.
    """

    def __init__(
        self,
        workers: int,
        initializer: Callable[..., None],
        initargs: Sequence[object] = (),
        *,
        memory: int | str = "auto",
    ) -> None:
        self.workers = workers
        self._hello = pickle.dumps(Hello(initializer, tuple(initargs), allowance(memory, workers)))
        self._hands: list[Hand] = []

    def start(self, most: int) -> None:
        """See `Engine.start`."""
        while len(self._hands) < min(self.workers, most):
            self._hands.append(Hand(self._hello))

    def map_chunks(
        self,
        work: Work[Item, Result],
        backlog: Backlog[Item],
        *,
        timeout_s: float,
        stop: Callable[[], bool],
        cut: Callable[[], bool] = never,
    ) -> Iterator[tuple[Sequence[Item], Result | Lost]]:
        """See `Engine.map_chunks`."""
        sent = attempt(pickle.dumps, work, pickle.HIGHEST_PROTOCOL)
        if isinstance(sent, Failed):
            while not backlog.finished:
                yield from _refused(backlog, unpicklable(sent, "the work cannot be sent to a worker"))
            return
        self.start(backlog.waiting)
        job: Job[Item, Result] = Job(backlog, sent, timeout_s=timeout_s, crew=self.workers)
        for hand in self._hands:
            hand.jobs.put(job)
        try:
            while not backlog.finished:
                short = cut()
                if short or stop():
                    backlog.clear()
                try:
                    came = job.came.get(timeout=0.0 if short else POLL_S)
                except queue.Empty:
                    if short:
                        return
                    if job.bug is not None:
                        raise job.bug from None
                    if (broken := self._broken()) is not None:
                        yield from _refused(backlog, broken)
                    continue
                yield from came
                backlog.settle()
        finally:
            job.over = True

    def _broken(self) -> Failed | None:
        """Why there is no worker any more; None while there is one."""
        reasons = [hand.broken for hand in self._hands]
        return None if None in reasons else reasons[0]

    def close(self) -> None:
        """End the workers at once; what has not been yielded is dropped."""
        for hand in self._hands:
            hand.dismiss()
        for hand in self._hands:
            hand.join()


def _refused(backlog: Backlog[Item], failed: Failed) -> Iterator[tuple[Sequence[Item], Lost]]:
    """Everything that is due, as lost."""
    while chunk := backlog.take(LARGEST_CHUNK, patience_s=POLL_S):
        yield from (([item], Lost(failed)) for item in chunk)
        backlog.settle()
