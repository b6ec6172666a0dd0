"""Answers that are made once for all who ask the same of the same snapshot, however many ask at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar, cast

T = TypeVar("T")


class Kept:
    """The answers made last; who asks for one that is being made waits for it.

    Args:
        most: so many are kept.
    """

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._held: OrderedDict[Hashable, Future[Any]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The answer of a key, which names the snapshot; made by the first who asks. An error is not kept."""
        with self._lock:
            held = self._held.get(key)
            mine = held is None
            if held is None:
                held = self._held[key] = Future()
                while len(self._held) > self._most:
                    self._held.popitem(last=False)
            else:
                self._held.move_to_end(key)
        if mine:
            try:
                held.set_result(make())
            except BaseException as error:
                with self._lock:
                    if self._held.get(key) is held:
                        del self._held[key]
                held.set_exception(error)
                raise
        return cast("T", held.result())
