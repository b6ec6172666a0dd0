"""Who changed or asked what through the server: lines that are only ever added, on disk before the act.

They lie beside the store and not in it: a question in SQL would else make a new snapshot, and with it end everybody's
cached answers; and a store that may only be read can be asked, too.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from store.clock import Clock

FILE = "audit.jsonl"
#: A longer text, such as a query, is cut in the audit; its hash stands beside it.
MOST_LETTERS = 20_000


class Audit:
    """The audit of one store; several servers may write to it."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder, self._clock = folder, clock

    def tell(self, act: str, *, actor: str, address: str, **details: object) -> None:
        """Write down an act; when this returns it is on disk."""
        line = {"at": self._clock.now().isoformat(), "act": act, "actor": actor, "address": address, **_cut(details)}
        self._folder.mkdir(mode=0o700, exist_ok=True)
        handle = os.open(self._folder / FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)  # a line longer than the kernel writes at once stays in one piece
            data = (json.dumps(line, ensure_ascii=False, default=str) + "\n").encode("utf-8", "backslashreplace")
            while data:
                data = data[os.write(handle, data) :]
            os.fsync(handle)
        finally:
            os.close(handle)

    def newest(self, most: int = 100) -> list[dict[str, Any]]:
        """The newest lines, the newest first; a line that a power cut tore is left out."""
        try:
            with (self._folder / FILE).open("rb") as file:
                file.seek(0, os.SEEK_END)
                size = file.tell()
                file.seek(max(0, size - most * 4_000))
                lines = file.read().splitlines()
        except FileNotFoundError:
            return []
        return [row for line in reversed(lines) if (row := _row(line)) is not None][:most]


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _cut(details: Mapping[str, object]) -> dict[str, object]:
    from hashlib import sha256

    made = dict(details)
    for name, value in details.items():
        if isinstance(value, str) and len(value) > MOST_LETTERS:
            made[name] = value[:MOST_LETTERS]
            made[f"{name}_sha256"] = sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
    return made
