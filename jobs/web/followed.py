"""Sums over a large fleet, made anew beside the pages: who asks gets the last ones at once.

While a training commits every few seconds, no answer over millions of scores could be made for each commit, and nobody
could read all of them. So an answer may stand behind the newest commit, by a bound; what is further behind is waited
for. Making them takes a share of one core at most.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from store import Store

T = TypeVar("T")
LOG = logging.getLogger("tsfleet.web")
#: After an answer that took a second to make, the next is begun so many seconds later at the earliest.
REST = 4.0
#: An answer is behind by at most so many times what it takes to make it, where that is more than the bound.
SLOW = 20.0


@dataclass(slots=True)
class _Held:
    """The last answer: at which snapshot, made when, in how many seconds; whether the next is on its way."""

    value: Any
    at: int
    made: float
    took: float
    renewing: bool = False


class Followed:
    """The last answers to questions over a store that is written to.

    Args:
        behind_s: an answer stands so far behind the newest commit at most.
        most: so many questions are kept.
    """

    def __init__(self, store: Store, *, behind_s: float, most: int = 64) -> None:
        self._store, self._behind_s, self._most = store, behind_s, most
        self._lock = threading.Lock()
        self._held: OrderedDict[Hashable, _Held] = OrderedDict()
        self._making: dict[Hashable, Future[_Held]] = {}
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="followed")

    def get(self, key: Hashable, at: int, make: Callable[[], T]) -> T:
        """The answer at a snapshot, or the last one where that is near enough.

        Args:
            key: names the question without the snapshot.
            at: the newest snapshot, which `make` answers from.
        """
        with self._lock:
            held = self._held.get(key)
            if held is not None:
                self._held.move_to_end(key)
        if held is None or not self._near(held, at):
            held = self._made(key, at, make)
        elif held.at < at and not held.renewing and monotonic() > held.made + REST * held.took:
            held.renewing = True
            self._beside.submit(self._renew, key, at, make, held)
        return cast("T", held.value)

    def beside(self, make: Callable[[], object]) -> None:
        """Do something where answers are made anew, before those that are asked for later."""
        self._beside.submit(make)

    def close(self) -> None:
        """End what is being made; what waits for its turn is forgotten."""
        self._beside.shutdown(cancel_futures=True)

    def _near(self, held: _Held, at: int) -> bool:
        """Whether the first commit that an answer does not know is of a moment ago."""
        if held.at >= at:
            return True
        age = self._store.clock.now() - self._store.committed_at(held.at + 1)
        return age.total_seconds() <= max(self._behind_s, SLOW * held.took)

    def _made(self, key: Hashable, at: int, make: Callable[[], Any]) -> _Held:
        """A new answer, made by the first who needs it; the others wait for it."""
        with self._lock:
            making = self._making.get(key)
            mine = making is None
            if making is None:
                making = self._making[key] = Future()
        if mine:
            try:
                began = monotonic()
                held = _Held(make(), at, monotonic(), monotonic() - began)
                with self._lock:
                    self._held[key] = held
                    self._held.move_to_end(key)
                    while len(self._held) > self._most:
                        self._held.popitem(last=False)
                making.set_result(held)
            except BaseException as error:
                making.set_exception(error)
                raise
            finally:
                with self._lock:
                    del self._making[key]
        return making.result()

    def _renew(self, key: Hashable, at: int, make: Callable[[], Any], old: _Held) -> None:
        try:
            self._made(key, at, make)
        except Exception:
            # Whoever asks when the bound is reached meets the error himself.
            LOG.warning("a page's answer could not be made anew", exc_info=True)
            old.made, old.renewing = monotonic(), False
