"""How far a command is: a bar with counts on a terminal, a line now and then elsewhere. Always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jobs.cli.console import console_on, say

if TYPE_CHECKING:
    from fleet.outcome import Progress

EVERY_S = 10.0


@contextmanager
def shown(verb: str, *, quiet: bool = False) -> Iterator[Callable[[Progress], None] | None]:
    """Gives the function that a verb of the fleet calls as its assets finish; None when nothing shall be shown."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _bar(verb) as show:
            yield show
    else:
        yield _lines(verb)


@contextmanager
def _bar(verb: str) -> Iterator[Callable[[Progress], None]]:
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[counts]}"),
        progress.TimeElapsedColumn(),
    )
    with progress.Progress(*columns, console=console_on(sys.stderr), transient=True) as bar:
        task = bar.add_task(verb, total=None, counts="")
        yield lambda now: bar.update(task, completed=now.done, total=now.total, counts=counts(now))


def _lines(verb: str) -> Callable[[Progress], None]:
    last = time.monotonic()

    def show(now: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY_S and now.done < now.total:
            last = time.monotonic()
            say(f"{verb}: {now.done:,} of {now.total:,}  {counts(now)}")

    return show


def counts(now: Progress) -> str:
    """The outcomes so far, those that are zero left out.

    >>> from fleet.outcome import Progress
    >>> counts(Progress(done=3, total=9, ok=2, fell_back=1))
    'ok 2, fell back 1'
    """
    named = {"ok": now.ok, "failed": now.failed, "fell back": now.fell_back, "skipped": now.skipped}
    return ", ".join(f"{name} {count:,}" for name, count in named.items() if count)
