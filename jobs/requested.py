"""Runs that somebody asks for over REST: written down, then started in a process of their own.

A request is one commit whose id is the key that came with it, so that asking again is the same request. The process is
a new interpreter in a session of its own: whoever took the request neither waits for it nor takes it along when it
ends. It claims and does the run as `tsfleet jobs run` does. A request whose process never came to its claim, or died
in its run, is gone on with when it is asked for again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from jobs.claiming import Job, alive, first_standing, jobs_of, run_of
from jobs.errors import JobRunning
from jobs.running import claim_by_hand, last_due, perform
from store.errors import CommitConflict, Overtaken, TsfleetError

if TYPE_CHECKING:
    from fleet import Fleet

LOG = "jobs.log"
TOLD = ("status", "attempt", "started_at", "ended_at", "assets", "ok", "failed", "fell_back", "skipped", "error")
MODULE = "jobs.requested"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for, as it is kept.

    Args:
        slot: named, or the one that was due; anew: do it although it is done, as `revision`.
        attempt: how many attempts there were at that revision before.
        named: whether the slot was named by who asked.
    """

    job: str
    slot: str
    revision: int
    attempt: int
    anew: bool
    named: bool

    def same(self, job: str, slot: datetime | None, *, anew: bool) -> bool:
        """Whether this is what somebody asks for again."""
        wanted = self.slot if slot is None else slot.isoformat()
        return (self.job, self.anew, self.named, self.slot) == (job, anew, slot is not None, wanted)

    def begun(self, row: Mapping[str, Any]) -> bool:
        """Whether a run's row is about what was asked for, or about what was done before and is not wanted anew."""
        reached = (int(row["revision"] or 0), int(row["attempt"] or 0))
        return reached > (self.revision, self.attempt) or (reached[0] == self.revision and row["status"] == "ok")


class Requests:
    """Takes requests for one fleet.

    Args:
        fleet: open for writing.
        folder: where the processes write what they have to say; made when it is needed.
    """

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self._fleet, self._folder = fleet, folder
        self._lock = threading.Lock()
        self._started: dict[str, threading.Thread] = {}

    def jobs(self) -> Sequence[str]:
        """The names of the jobs there are."""
        return tuple(self._fleet.config.jobs)

    def ask(
        self, job: str, *, key: str, actor: str, slot: datetime | None = None, anew: bool = False
    ) -> Mapping[str, object]:
        """Start a run, unless this was asked for before; what became of it.

        Args:
            key: of whoever asks, theirs alone.
            slot: by default the last one that is due.
            anew: do it again although it was done.

        Raises:
            CommitConflict: the key was used for something else.
            JobRunning: the job is at work on something else.
            ReadOnly: nothing can be written down.
        """
        known = jobs_of(self._fleet.config)[job]
        name = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
        with self._lock:
            request = self._kept(name) or self._written(known, name, actor, slot, anew=anew)
            if not request.same(job, slot, anew=anew):
                raise CommitConflict(
                    f"this key was used to ask for {request.job} {request.slot}",
                    hint="take a new key for a new request",
                )
            told = self._became(known, request)
            if told["status"] == "asked" and not self._working(name):
                self._start(request, name)
        return {"id": name, **told}

    def _kept(self, name: str) -> Request | None:
        text = self._fleet.store.snapshot().mark(f"asked:{name}")
        return None if text is None else Request(**json.loads(text))

    def _written(self, job: Job, name: str, actor: str, slot: datetime | None, *, anew: bool) -> Request:
        store = self._fleet.store
        now = self._fleet.clock.now()
        standing = first_standing(store, job.name, now)
        if standing.status == "running" and alive(store.path, job.name, standing):
            raise JobRunning(
                f"{job.name} is at work on {standing.slot:%Y-%m-%dT%H:%M:%SZ}, a job runs once at a time",
                hint="ask again when it has ended: /api/v1/job-runs tells",
            )
        meant = slot or last_due(self._fleet, job, standing, now)
        row = run_of(store, job.name, meant) or {}
        done = int(row.get("revision") or 0)
        made = Request(
            job=job.name,
            slot=meant.isoformat(),
            revision=done + 1 if row and anew else done,
            attempt=0 if anew else int(row.get("attempt") or 0),
            anew=anew,
            named=slot is not None,
        )
        transaction = store.begin(commit_id=f"asked/{name}", note=f"{actor} asks for {job.name}"[:200])
        transaction.mark(f"asked:{name}", json.dumps(asdict(made)))
        try:
            transaction.commit()
        except CommitConflict:
            return self._kept(name) or made  # another server took the same request a moment ago
        return made

    def _became(self, job: Job, request: Request) -> dict[str, object]:
        """What of a request can be told: its run's row, or that there is none yet."""
        slot = datetime.fromisoformat(request.slot)
        told: dict[str, object] = {"job": request.job, "slot": slot, "revision": request.revision, "status": "asked"}
        row = run_of(self._fleet.store, job.name, slot)
        if row is None or not request.begun(row):
            return told
        standing = first_standing(self._fleet.store, job.name, self._fleet.clock.now())
        lives = standing.slot == slot and alive(self._fleet.store.path, job.name, standing)
        if row["status"] == "running" and not lives:
            return told  # the next process goes on with it
        return told | {name: row[name] for name in TOLD}

    # ---------------------------------------------------------------- processes

    def _working(self, name: str) -> bool:
        """Whether the process of a request is at work, as far as this one started it."""
        self._started = {one: thread for one, thread in self._started.items() if thread.is_alive()}
        return name in self._started

    def _start(self, request: Request, name: str) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        log = os.open(self._folder / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            process = subprocess.Popen(  # noqa: S603  our own interpreter and module
                [sys.executable, "-m", MODULE, str(self._fleet.config.file), json.dumps(asdict(request))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        finally:
            os.close(log)
        # Somebody has to hear of its end, or it stays in the table of processes; nobody waits for that.
        self._started[name] = threading.Thread(target=process.wait, daemon=True)
        self._started[name].start()


def main(words: list[str]) -> int:
    """Claim the run of a request and do it; 0 when its end is written down, or when others did it."""
    config, text = words
    signal.signal(signal.SIGTERM, _stop)
    from fleet import Fleet

    request = Request(**json.loads(text))
    slot = datetime.fromisoformat(request.slot)
    try:
        with Fleet.open(Path(config), create=False) as fleet:
            job = jobs_of(fleet.config)[request.job]
            row: Mapping[str, Any] | None = run_of(fleet.store, job.name, slot)
            anew = request.anew and (row is None or int(row["revision"] or 0) < request.revision)
            held = claim_by_hand(fleet, job, slot=slot, anew=anew)
            said: str = "was done before" if held is None else perform(fleet, job, held).status
    except (JobRunning, Overtaken) as error:
        said = error.message
    except TsfleetError as error:
        print(f"{request.job}: {error.message}", file=sys.stderr, flush=True)  # noqa: T201  the log of what was asked for
        return 1
    print(f"{request.job} {request.slot}: {said}", file=sys.stderr, flush=True)  # noqa: T201  as above
    return 0


def _stop(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM outside of a verb, which finishes its chunk by itself."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
