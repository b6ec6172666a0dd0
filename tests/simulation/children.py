"""Runs of jobs in processes of their own, forked from one that has imported everything, and their deaths.

Whoever forks keeps clear of threads and stores: `Nursery` begins as a process before the simulation opens anything. A
child dies, or is asked to end, at its n-th call of a function within the house, or within the store: the same place
whenever the same story is told.
"""

from __future__ import annotations

import array
import ctypes
import faulthandler
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

import fleet
import jobs
import store
from jobs.work import KINDS

#: What runs import when they are first at work.
_LATE = (
    *("duckdb", "numpy", "pandas", "pyarrow", "pyarrow.parquet", "pyarrow.compute", "sklearn.linear_model", "skops.io"),
    *("fleet.adapters.naive", "fleet.adapters.sklearn", "fleet.training", "fleet.inference", "fleet.scoring"),
    *("fleet.ingest", "fleet.review", "fleet.review.page", "fleet.engines.inline", "jobs.running", "jobs.deliver"),
    *(place.partition(":")[0] for place in KINDS.values()),
    *("store.duck", "store.upkeep", "store.merging", "store.writing", "store.segments", "tests.simulation.world"),
)
_PLACES = {
    "store": (str(Path(str(store.__file__)).parent),),
    "house": tuple(str(Path(str(one.__file__)).parent) for one in (store, fleet, jobs)),
}
_DEATH_SIGNAL = 1
_LONGEST = 1 << 20
DEADLINE_S = 300.0
"""No run takes so long; one that does tells where it is and ends."""


class Nursery:
    """Starts runs. Made before anything that has threads."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            ours.close()
            _serve(theirs)
        theirs.close()
        self._socket = ours

    def start(self, request: dict[str, Any], sign: int) -> Hand:
        """Start a run that was claimed, with the open file that says that it lives."""
        said, says = os.pipe()
        waits, goes = os.pipe()
        fds = array.array("i", [sign, says, waits]).tobytes()
        self._socket.sendmsg([json.dumps(request).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        os.close(says)
        os.close(waits)
        if not request["paused"]:
            os.write(goes, b"!")
        return Hand(said, goes)

    def close(self) -> None:
        self._socket.close()


class Hand:
    """A run at work, as the scheduler holds it."""

    def __init__(self, said: int, goes: int) -> None:
        self._said, self._goes, self._text, self._ended = said, goes, b"", False
        self.pid = int(self._line())

    def _line(self) -> bytes:
        while b"\n" not in self._text:
            piece = os.read(self._said, 4096)
            assert piece, "a run ended before it said who it is"
            self._text += piece
        line, _, self._text = self._text.partition(b"\n")
        return line

    def go(self) -> None:
        """Let it begin that was started paused."""
        os.write(self._goes, b"!")

    def over(self) -> bool:
        while not self._ended and select.select([self._said], [], [], 0)[0]:
            self._read()
        return self._ended

    def wait(self) -> None:
        """Until it has ended, in whichever way."""
        while not self._ended:
            self._read()

    def _read(self) -> None:
        piece = os.read(self._said, 1 << 16)
        self._text += piece
        if not piece:
            self._ended = True
            os.close(self._said)
            os.close(self._goes)

    def stop(self, *, at_once: bool) -> None:
        if not self._ended:
            os.kill(self.pid, signal.SIGKILL if at_once else signal.SIGTERM)

    @property
    def word(self) -> dict[str, Any] | None:
        """What it said at its end; None for one that died without a word."""
        return json.loads(self._text) if self._text else None


def _serve(requests: socket.socket) -> None:
    """The nursery's whole life."""
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    for name in _LATE:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        text, fds, _, _ = socket.recv_fds(requests, _LONGEST, 3)
        if not text:
            os._exit(0)
        if os.fork() == 0:
            requests.close()
            _live(json.loads(text), *fds)
        for one in fds:
            os.close(one)


def _live(request: dict[str, Any], sign: int, says: int, waits: int) -> None:
    """The whole life of a run."""
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, _interrupted)
    faulthandler.dump_traceback_later(DEADLINE_S, exit=True)
    os.write(says, f"{os.getpid()}\n".encode())
    os.read(waits, 1)
    counted = Counted(request)
    word: dict[str, Any] = {}
    try:
        counted.begin()
        word["status"] = _performed(request, sign)
    except KeyboardInterrupt:
        word["status"] = "asked"
    except BaseException as error:  # noqa: BLE001  whatever it is, the judge reads it
        word |= {"status": "raised", "code": getattr(error, "code", ""), "error": traceback.format_exc()[-3000:]}
    finally:
        sys.setprofile(None)
        os.write(says, json.dumps(word | {"calls": counted.calls}).encode())
        os._exit(0)


def _performed(request: dict[str, Any], sign: int) -> str:
    from fleet import Fleet
    from fleet.config import parse
    from jobs.claiming import Claim, jobs_of
    from jobs.running import perform
    from jobs.standing import Standing
    from store import Store
    from tests.simulation.world import FileClock

    file = Path(request["config"])
    clock = FileClock(file.parent / "now")
    config = parse(request["text"], file)
    with Fleet(config, Store.open(config.store_path, create=False, clock=clock), clock) as one:
        held = Claim(job=request["job"], standing=Standing.from_text(request["standing"]), sign=sign)
        return perform(one, jobs_of(config)[request["job"]], held).status


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class Counted:
    """Counts calls made by functions of the house; at the one that the story names, it does the deed.

    Args of the request: ``at`` (None for never), ``within``, ``deed`` (a signal), ``counting``.
    """

    def __init__(self, request: dict[str, Any]) -> None:
        self._at, self._deed = request["at"], request["deed"]
        self._within, self._wanted = _PLACES[request["within"]], request["counting"] or request["at"] is not None
        self.calls = dict.fromkeys(_PLACES, 0)

    def begin(self) -> None:
        """From now on."""
        if self._wanted:
            sys.setprofile(self._on_deed if self._at is not None else self._on_count)

    def _on_count(self, frame: FrameType, event: str, _: object) -> None:
        if event in ("call", "c_call") and frame.f_code.co_filename.startswith(_PLACES["house"]):
            self.calls["house"] += 1
            self.calls["store"] += frame.f_code.co_filename.startswith(_PLACES["store"])

    def _on_deed(self, frame: FrameType, event: str, _: object) -> None:
        if event in ("call", "c_call") and frame.f_code.co_filename.startswith(self._within):
            self._at -= 1
            if self._at <= 0:
                sys.setprofile(None)
                os.kill(os.getpid(), self._deed)
