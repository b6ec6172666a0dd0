"""The process in which a scheduled run works: ``python -m jobs.child CONFIG JOB STANDING SIGN``.

It is a new interpreter, never a fork. It holds the sign that it lives, which it was handed, until it ends. Its standard
input is a pipe whose other end the scheduler holds: through it comes the configuration as the scheduler read it. When
it closes, the scheduler is gone, and the run ends after its chunk, for whoever comes next to go on with.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from jobs.claiming import Claim
from jobs.due import jobs_of
from jobs.running import perform
from jobs.standing import DRAIN, Standing
from store.errors import TsfleetError

ENDED, LOST = 0, 3


def main(words: list[str]) -> int:
    """Do the run; 0 when its end is written down, whatever it is, 3 when it was taken over."""
    config, name, text, sign = words
    signal.signal(signal.SIGTERM, _stop)
    told = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_watch, daemon=True).start()
    from fleet import Fleet
    from fleet.config import parse
    from store import Store

    try:
        loaded = parse(told, Path(config))
        with Fleet(loaded, Store.open(loaded.store_path, create=False)) as fleet:
            held = Claim(job=name, standing=Standing.from_text(text), sign=int(sign))
            done = perform(fleet, jobs_of(fleet.config)[name], held)
    except TsfleetError as error:
        print(f"{name}: {error.message}", file=sys.stderr, flush=True)  # noqa: T201  the scheduler's own log
        return LOST
    said = f": {done.error}" if done.error else ""
    print(f"{name} {held.slot:%Y-%m-%dT%H:%M:%SZ} {done.status}{said}", file=sys.stderr, flush=True)  # noqa: T201  as above
    return ENDED


def _stop(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM outside of a verb, which finishes its chunk by itself."""
    raise KeyboardInterrupt


def _watch() -> None:
    """Until the scheduler is gone; then end, first in order, then in any case."""
    while sys.stdin.buffer.read(1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(DRAIN.total_seconds())
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
