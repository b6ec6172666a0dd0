"""The process that asks one question: its bounds first, then the store, then the answer on stdout.

The first byte says what follows: ``A`` the answer as an Arrow stream, ``E`` an error as JSON.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

#: The catalog's shared index is a file of some ten kB; nothing of a question's own fits in so little.
MOST_WRITTEN = 1 << 20
MOST_ANSWERED = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked, of which store, within which bounds.

    Args:
        memory: bytes of address space beside what the libraries take.
        deadline_s: after this the process ends by itself, also when nobody is there to kill it.
        rows: of the answer at most.
    """

    store: str
    sql: str
    snapshot: int
    memory: int
    deadline_s: float
    rows: int


def main() -> None:
    """Read a question from stdin and answer it on stdout."""
    question = Question(**json.loads(sys.stdin.buffer.read()))
    signal.setitimer(signal.ITIMER_REAL, question.deadline_s)  # SIGALRM ends a process that does not listen to it
    out = sys.stdout.buffer
    try:
        answer(question, out)
    except MemoryError:
        _fail(out, "memory", "the question needs more memory than it may take", "ask for less at once")
    out.flush()


def answer(question: Question, out: BinaryIO) -> None:
    """Ask within the bounds, and write what came of it."""
    import pyarrow as pa

    import store.duck
    from store import Store
    from store.errors import TsfleetError

    del store.duck  # imported before there is a bound on what it may map
    bound(question.memory)
    try:
        with Store.open(question.store, create=False, read_only=True) as opened:
            table = opened.at(question.snapshot).sql(question.sql).arrow()
    except TsfleetError as error:
        out_of_memory = "Out of Memory" in error.message or "could not allocate" in error.message.lower()
        _fail(out, "memory" if out_of_memory else error.code, error.message, error.hint)
        return
    if table.nbytes > MOST_ANSWERED:
        _fail(out, "too-large", f"the answer has {table.nbytes:,} bytes, {MOST_ANSWERED:,} at most", "ask for less")
        return
    out.write(b"A")
    told = table.slice(0, question.rows).replace_schema_metadata({"rows": str(table.num_rows)})
    with pa.ipc.new_stream(out, told.schema) as stream:
        stream.write_table(told)


def bound(memory: int) -> None:
    """Hold this process to so much more address space than it has, and to writing next to nothing."""
    taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    _lower(resource.RLIMIT_AS, taken + memory)
    _lower(resource.RLIMIT_FSIZE, MOST_WRITTEN)
    _lower(resource.RLIMIT_CORE, 0)


def _lower(kind: int, most: int) -> None:
    hard = resource.getrlimit(kind)[1]
    kept = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (kept, kept))


def _fail(out: BinaryIO, code: str, message: str, hint: str) -> None:
    with suppress(OSError):
        out.write(b"E" + json.dumps({"code": code, "message": message, "hint": hint}).encode())
