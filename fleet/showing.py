"""How far a verb is, shown where it was called in a notebook: one bar that is drawn over as the assets finish.

Outside of a notebook there is nothing to show to and nothing happens. IPython is never imported for this: a kernel
that runs has done so.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

from fleet.html import FORECAST, Html, card, escaped
from fleet.outcome import Progress, Show

EVERY_S = 0.2


@contextmanager
def shown(verb: str, asked: Show | None, *, now: Callable[[], float] = time.monotonic) -> Iterator[Show | None]:
    """What a verb tells its progress to: what the caller asked for, else a bar where a notebook runs.

    Args:
        verb: what is being done, as the bar names it.
        asked: the caller's own; it is left alone.
        now: seconds of any clock.
    """
    display = None if asked is not None else _display()
    if display is None:
        yield asked
        return
    bar = Bar(verb, display, now=now)
    try:
        yield bar
    finally:
        bar.end()


class Bar:
    """A bar that is drawn at most once in `EVERY_S`, and once more at the end with what came last.

    Args:
        display: ``display(data, raw=True, display_id=True)`` of IPython; what it returns has ``update``.
    """

    def __init__(self, verb: str, display: Callable[..., Any], *, now: Callable[[], float]) -> None:
        self._verb, self._display, self._now = verb, display, now
        self._handle: Any = None
        self._last = float("-inf")
        self._pending: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        self._pending = progress
        if self._now() - self._last >= EVERY_S:
            self._draw()

    def end(self) -> None:
        """Draw what has not been drawn yet."""
        if self._pending is not None:
            self._draw()

    def _draw(self) -> None:
        progress, self._pending = self._pending, None
        if progress is None:
            return
        self._last = self._now()
        data = {"text/plain": told(self._verb, progress), "text/html": drawn(self._verb, progress)}
        # A front end that went away, or one that knows no updates, must not stop what it only watches.
        with suppress(AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError):
            if self._handle is None:
                self._handle = self._display(data, raw=True, display_id=True)
            else:
                self._handle.update(data, raw=True)


def told(verb: str, now: Progress) -> str:
    """How far a verb is, in one line.

    >>> told("train", Progress(done=30, total=90, ok=28, failed=2, seconds=10.0))
    'train: 30 of 90, ok 28, failed 2, 3.0 a second, 20 s left'
    >>> told("train", Progress(done=90, total=90, ok=90, seconds=75.0))
    'train: 90 of 90, ok 90, 1 min 15 s'
    """
    counts = {"ok": now.ok, "failed": now.failed, "fell back": now.fell_back, "skipped": now.skipped}
    parts = [f"{now.done:,} of {now.total:,}", *(f"{name} {count:,}" for name, count in counts.items() if count)]
    if now.done >= now.total:
        parts.append(_length(now.seconds))
    elif now.rate and now.left_s is not None:
        parts += [
            f"{now.rate:,.1f} a second" if now.rate < 100 else f"{now.rate:,.0f} a second",
            f"{_length(now.left_s)} left",
        ]
    doing = f", {now.doing}" if now.doing else ""
    return f"{verb}{doing}: {', '.join(parts)}"


def drawn(verb: str, now: Progress) -> Html:
    """The same with a bar."""
    share = 100 * now.done / now.total if now.total else 0.0
    bar = (
        '<div style="height:6px;max-width:32rem;border-radius:3px;background:rgba(128,128,128,.25);margin:.3em 0">'
        f'<div style="height:6px;width:{share:.1f}%;border-radius:3px;background:{FORECAST}"></div></div>'
    )
    return card(Html(f"<p>{escaped(told(verb, now), 200)}</p>{bar}"))


def _length(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3_600 else f"{whole // 3_600} h {whole % 3_600 // 60} min"


def _display() -> Callable[..., Any] | None:
    """IPython's way to show something, where a notebook's kernel runs; None anywhere else."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if getattr(shell, "kernel", None) is None:
        return None
    with suppress(ImportError):
        return getattr(import_module("IPython.display"), "display", None)
    return None
