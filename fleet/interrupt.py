"""Ctrl-C during a verb: the first finishes the chunk in hand, the second stops at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class Interrupt:
    """While active in the main thread, the first SIGINT only sets `asked`; the next raises KeyboardInterrupt.

    >>> with Interrupt() as interrupt:
    ...     interrupt.asked()
    False
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: signal.Handlers | object = None

    def asked(self) -> bool:
        """True once somebody pressed Ctrl-C."""
        return self._asked

    def __enter__(self) -> Self:
        # Only the main thread may set handlers; elsewhere (a web request, a notebook's thread) Ctrl-C is not ours.
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)  # type: ignore[arg-type]  # what signal() returned

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
