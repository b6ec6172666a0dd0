"""How far a command is: a bar with counts on a terminal, a line now and then elsewhere. Always on stderr."""

from __future__ import annotations

import sys
import threading
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
        with _lines(verb) as show:
            yield show


@contextmanager
def _bar(verb: str) -> Iterator[Callable[[Progress], None]]:
    """A bar that moves by itself before the first asset is through, so that a long load is seen to be one."""
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=24),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[told]}"),
        progress.TimeElapsedColumn(),
    )
    with progress.Progress(*columns, console=console_on(sys.stderr), transient=True) as bar:
        task = bar.add_task(verb, total=None, told="")

        def show(now: Progress) -> None:
            bar.update(
                task,
                description=f"{verb}: {now.doing}" if now.doing else verb,
                completed=now.done,
                total=now.total if now.done else None,
                told="  ".join(part for part in (counts(now), pace(now)) if part),
            )

        yield show


@contextmanager
def _lines(verb: str) -> Iterator[Callable[[Progress], None]]:
    """A line every ten seconds, whether or not the verb has come further: silence looks like a hang."""
    over, began = threading.Event(), time.monotonic()
    last: list[Progress] = []

    def tell() -> None:
        while not over.wait(EVERY_S):
            say(line(verb, last[0] if last else None, time.monotonic() - began))

    def show(now: Progress) -> None:
        last[:] = [now]

    teller = threading.Thread(target=tell, name="progress", daemon=True)
    teller.start()
    try:
        yield show
    finally:
        over.set()
        teller.join()


def line(verb: str, now: Progress | None, seconds: float) -> str:
    """How far a verb is, as one line.

    >>> from fleet.outcome import Progress
    >>> line("train", Progress(done=30, total=90, ok=28, failed=2, seconds=10.0, doing="fitting"), 14.0)
    'train: fitting, 30 of 90  ok 28, failed 2  3.0/s, 20 s left'
    >>> line("train", None, 14.0)
    'train: reading, 14 s'
    """
    if now is None or not now.done:
        return f"{verb}: {now.doing if now and now.doing else 'reading'}, {seconds:.0f} s"
    doing = f"{now.doing}, " if now.doing else ""
    return "  ".join(part for part in (f"{verb}: {doing}{now.done:,} of {now.total:,}", counts(now), pace(now)) if part)


def counts(now: Progress) -> str:
    """The outcomes so far, those that are zero left out.

    >>> from fleet.outcome import Progress
    >>> counts(Progress(done=3, total=9, ok=2, fell_back=1))
    'ok 2, fell back 1'
    """
    named = {"ok": now.ok, "failed": now.failed, "fell back": now.fell_back, "skipped": now.skipped}
    return ", ".join(f"{name} {count:,}" for name, count in named.items() if count)


def pace(now: Progress) -> str:
    """Assets a second and the time left; empty before the first asset that was worked on.

    >>> from fleet.outcome import Progress
    >>> pace(Progress(done=60, total=7260, ok=60, seconds=60.0)), pace(Progress(done=9, total=9, skipped=9))
    ('1.0/s, 2 h left', '')
    """
    if now.left_s is None:
        return ""
    rate = f"{now.rate:.0f}" if now.rate >= 10 else f"{now.rate:.1f}"
    return f"{rate}/s, {span(now.left_s)} left"


def span(seconds: float) -> str:
    """A length of time in the unit that a person would take.

    >>> span(8.4), span(100), span(5400), span(7200)
    ('8 s', '2 min', '90 min', '2 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds <= 5400 else f"{seconds / 3600:.0f} h"
