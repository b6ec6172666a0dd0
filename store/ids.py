"""Names and identities: ids that sort by the time they were made, and the rule for names given by users.

An id never becomes a path: what a user calls an asset cannot reach the file system.
"""

from __future__ import annotations

import os
import threading
import time

from store.errors import InvalidId

MAX_ID_BYTES = 512
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_RANDOM_BITS = 80


class _Source:
    """Draws ids; the last one is remembered so that the next is larger, whatever the clock does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = (0, 0, 0)

    def draw(self) -> int:
        with self._lock:
            last_pid, last_moment, last_random = self._last
            pid, moment = os.getpid(), time.time_ns() // 1_000_000
            if pid == last_pid and moment <= last_moment:
                # The same millisecond, or a clock that was set back: count on from the last id instead of drawing anew.
                moment, random = last_moment, last_random + 1
            else:
                random = int.from_bytes(os.urandom(_RANDOM_BITS // 8), "big") >> 1
            self._last = (pid, moment, random)
            return (moment << _RANDOM_BITS) | random


_source = _Source()


def new_id() -> str:
    """A fresh id of 26 characters; ids made later by the same process sort later.

    >>> first, second = new_id(), new_id()
    >>> len(first), first < second
    (26, True)
    """
    value = _source.draw()
    return "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))


def check_asset_id(text: str) -> str:
    """The name as it is stored (Unicode NFC), or an error that says what is wrong with it.

    >>> check_asset_id("plant-7")
    'plant-7'

    Raises:
        InvalidId: for what is not text, is empty, holds control characters or is longer than 512 bytes.
    """
    if not isinstance(text, str):
        raise InvalidId(f"an id must be text, not {type(text).__name__} ({text!r})")
    if text.isascii() and text.isprintable() and 0 < len(text) <= MAX_ID_BYTES:
        return text
    import unicodedata

    name = unicodedata.normalize("NFC", text)
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidId(f"the id {text!r} holds half of a character (a lone surrogate)") from None
    if size == 0:
        raise InvalidId("an id must not be empty")
    if size > MAX_ID_BYTES:
        raise InvalidId(f"the id {name[:40]!r}... is {size} bytes long, {MAX_ID_BYTES} are allowed")
    if any(unicodedata.category(char) == "Cc" for char in name):
        raise InvalidId(f"the id {name!r} holds a control character")
    return name


def commit_key(commit_id: str) -> bytes:
    """The 16 bytes under which the catalog keeps a commit id of any length.

    >>> len(commit_key("forecast/2024-06-01T00:00Z/0/17"))
    16
    """
    from hashlib import sha256

    return sha256(commit_id.encode("utf-8", "surrogatepass")).digest()[:16]
