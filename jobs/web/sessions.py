"""Logins from a browser: a cookie that stands for a token, known to this process alone.

The cookie is not the token: what a browser keeps is of no use after its time, after a restart, or once the token that
it came from is revoked.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from hashlib import sha256
from time import monotonic

COOKIE = "tsfleet"
MOST = 1_000


class Sessions:
    """The logins that hold; the oldest goes when there are too many."""

    def __init__(self, lasts_s: float) -> None:
        self._lasts_s = lasts_s
        self._lock = threading.Lock()
        self._held: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def begin(self, token_id: str) -> str:
        """The value of a new cookie for a token."""
        cookie = secrets.token_urlsafe(32)
        with self._lock:
            self._held[_digest(cookie)] = (token_id, monotonic() + self._lasts_s)
            while len(self._held) > MOST:
                self._held.popitem(last=False)
        return cookie

    def token_of(self, cookie: str) -> str | None:
        """The id of the token that a cookie stands for."""
        with self._lock:
            found = self._held.get(_digest(cookie))
            if found is not None and found[1] < monotonic():
                del self._held[_digest(cookie)]
                found = None
        return None if found is None else found[0]

    def end(self, cookie: str) -> None:
        """Forget a login."""
        with self._lock:
            self._held.pop(_digest(cookie), None)


def _digest(cookie: str) -> str:
    return sha256(cookie.encode()).hexdigest()
