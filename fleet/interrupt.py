"""Ctrl-C during a verb: the first finishes the chunk in hand, and says so, the second stops at once. SIGTERM too."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SAID = b"\ntsfleet: stops after what is in hand; once more stops at once\n"


class Interrupt:
    """While active in the main thread, the first SIGINT or SIGTERM sets `asked`; the next raises KeyboardInterrupt.

    >>> with Interrupt() as interrupt:
    ...     interrupt.asked()
    False
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def asked(self) -> bool:
        """True once somebody pressed Ctrl-C, or asked the process to end."""
        return self._asked

    def __enter__(self) -> Self:
        # Only the main thread may set handlers; elsewhere (a web request, a notebook's thread) Ctrl-C is not ours.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        with suppress(OSError):  # not through sys.stderr: the signal may have come in the middle of its own writing
            os.write(2, _SAID)
