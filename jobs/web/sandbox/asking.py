"""The side of the sandbox that asks: starts the process, waits for it, ends it when its time is up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from jobs.web.problems import Refused
from jobs.web.sandbox.child import Question

_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from jobs.web.sandbox.child import main; main()"
#: What the child inherits: nothing but where temporary files and zones are.
_ENVIRONMENT = ("TMPDIR", "TZDIR", "LD_LIBRARY_PATH")
#: Codes of the child's errors that are not the asker's: by status.
_STATUS = {"memory": 422, "too-large": 422, "not-found": 404, "snapshot-expired": 410, "damaged": 500}


@dataclass(frozen=True, slots=True)
class Answered:
    """The rows, and how many there were before they were cut."""

    table: pa.Table
    rows: int


class Sandbox:
    """Asks questions of one store, so many at once.

    Args:
        store: its folder.
        memory, deadline_s, rows: what one question may take.
        waiting_s: how long one waits for its turn.
    """

    def __init__(
        self, store: Path, *, memory: int, deadline_s: float, rows: int, waiting_s: float, at_once: int = 2
    ) -> None:
        self._store, self._memory, self._deadline_s, self._rows = store, memory, deadline_s, rows
        self._waiting_s, self._turns = waiting_s, threading.BoundedSemaphore(at_once)

    def ask(self, sql: str, snapshot: int) -> Answered:
        """The answer to one SELECT at a snapshot.

        Raises:
            Refused: 400 it is no such question, 422 it took too much memory, 503 others are being asked, 504 it took
                too long.
        """
        question = Question(
            store=str(self._store),
            sql=sql,
            snapshot=snapshot,
            memory=self._memory,
            deadline_s=self._deadline_s + 1,
            rows=self._rows,
        )
        if not self._turns.acquire(timeout=self._waiting_s):
            raise Refused(503, "other questions are being asked", hint="try again soon")
        try:
            return _read(self._answer(json.dumps(asdict(question)).encode()))
        finally:
            self._turns.release()

    def _answer(self, question: bytes) -> bytes:
        """What the child said.

        Raises:
            Refused: it said nothing in time, or nothing at all.
        """
        with subprocess.Popen(  # noqa: S603  this interpreter, on the line above
            # -P: no file of the working folder is taken for one of Python's own.
            [sys.executable, "-P", "-c", _BOOT, json.dumps([place for place in sys.path if place])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            cwd=self._store,
            start_new_session=True,
        ) as child:
            try:
                said, _ = child.communicate(question, timeout=self._deadline_s)
            except subprocess.TimeoutExpired:
                told = f"the question took longer than {self._deadline_s:g} s"
                raise Refused(504, told, kind="deadline", hint="ask for less at once") from None
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
        if not said or child.returncode != 0:
            late = child.returncode == -signal.SIGALRM
            told = "took longer than it may" if late else "needs more memory than it may take"
            raise Refused(504 if late else 422, f"the question {told}", kind="deadline" if late else "memory")
        return said


def _read(said: bytes) -> Answered:
    if said[:1] == b"E":
        error = json.loads(said[1:])
        status = _STATUS.get(error["code"], 400)
        raise Refused(status, error["message"], kind=error["code"], hint=error["hint"])
    table = pa.ipc.open_stream(said[1:]).read_all()
    return Answered(table, int((table.schema.metadata or {}).get(b"rows", table.num_rows)))
