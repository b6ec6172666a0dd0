"""One worker process as the driver holds it: start, ask, wait for the answer, end.

Each has pipes of its own. A pool whose workers share a pipe and its lock (pebble 5.2, tried here before) loses a task
and stands still for a minute when one of them is killed with the lock in its hand.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import subprocess
import sys
import threading

from fleet.engines.local.slot import Slot
from fleet.engines.local.worker import LENGTH

# Library threads are pinned to one before any import: two-threaded LightGBM takes many times the CPU of one thread.
PINNED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "POLARS_MAX_THREADS")
BOOT = """import pickle, sys
tasks = open(int(sys.argv[1]), "rb")
sys.path[:] = pickle.load(tasks)
from fleet.engines.local.worker import serve
serve(tasks, *map(int, sys.argv[2:]))
"""
READ = 1 << 20
READ_S = 1.0


class Gone(Exception):
    """The worker has ended, or its pipe has; `Worker.end` says how."""


class Worker:
    """A process, its pipes and its slot; for one thread, but for `kill`.

    Args:
        hello: pickled, with what a worker is told first.
    """

    def __init__(self, hello: bytes) -> None:
        path = pickle.dumps(sys.path)
        self.slot = Slot()
        theirs, self._tasks = os.pipe()
        self._answers, back = os.pipe()
        self._heard = bytearray()
        self._ending = threading.Lock()
        try:
            self._process = subprocess.Popen(  # noqa: S603  this interpreter, on the lines above
                # -P: until the path is set, no file of the working folder is taken for one of Python's own.
                [sys.executable, "-P", "-c", BOOT, *map(str, (theirs, back, self.slot.fd, os.getpid()))],
                stdin=subprocess.DEVNULL,
                stdout=2,  # stdout is the driver's alone
                pass_fds=(theirs, back, self.slot.fd),
                env={**os.environ, **dict.fromkeys(PINNED, "1")},
                # Ctrl-C reaches the terminal's whole process group; only the driver decides what it means. And what a
                # model has started ends with its worker.
                start_new_session=True,
            )
        except BaseException:
            self._close()
            raise
        finally:
            os.close(theirs)
            os.close(back)
        self._answered, self._listening = select.poll(), select.poll()
        self._answered.register(self._answers, select.POLLIN)
        self._listening.register(self._tasks, select.POLLOUT)
        os.set_blocking(self._tasks, False)
        with contextlib.suppress(Gone):  # told by the first answer that is waited for
            self._send(path)
            self.say(hello)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        with self._ending:
            return self._process.poll() is None

    def say(self, *pieces: bytes) -> None:
        """Send one message.

        Raises:
            Gone: nobody reads it.
        """
        self._send(sum(map(len, pieces)).to_bytes(LENGTH, "little"))
        for piece in pieces:
            self._send(piece)

    def _send(self, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            try:
                rest = rest[os.write(self._tasks, rest) :]
            except BlockingIOError:
                if not self._listening.poll(READ_S * 1000) and not self.alive:
                    raise Gone from None
            except BrokenPipeError as error:
                raise Gone from error

    def answer(self, patience_s: float) -> bytes | None:
        """What the worker says next, pickled; None when it has not said it within that time.

        Raises:
            Gone: it will say nothing any more.
        """
        if self._answered.poll(patience_s * 1000):
            piece = os.read(self._answers, READ)
            if not piece:
                raise Gone
            self._heard += piece
        elif not self.alive:  # what it has started may hold the pipe open
            raise Gone
        end = LENGTH + int.from_bytes(self._heard[:LENGTH], "little")
        if len(self._heard) < max(end, LENGTH + 1):
            return None
        payload, self._heard = bytes(self._heard[LENGTH:end]), bytearray()
        return payload

    def kill(self) -> None:
        """End the process now; from any thread. Whoever waits for its answer finds it gone."""
        with self._ending:
            if self._process.poll() is None:
                self._kill_all()

    def _kill_all(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def end(self, *, patience_s: float = 0.0) -> str:
        """End the process unless it does so by itself within that time, and say how it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience_s)
        self._kill_all()  # what it has started may live on
        code = self._process.wait()
        self._close()
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name

    def _close(self) -> None:
        for fd in (self._tasks, self._answers):
            os.close(fd)
        self.slot.close()
