"""Questions in SQL that a team keeps under a name: one small file beside the store, replaced whole.

They lie beside the store and not in it, as the audit does: keeping a question makes no new snapshot.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from jobs.web.problems import Refused

FILE = "queries.json"
MOST, LONGEST_NAME, LONGEST = 200, 80, 20_000


class Saved:
    """The questions of one store; several servers may write to them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def all(self) -> dict[str, str]:
        """By name, in order; none where the file is not there or cannot be read."""
        try:
            told = json.loads((self._folder / FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        known = told if isinstance(told, dict) else {}
        return {name: text for name, text in sorted(known.items()) if isinstance(text, str)}

    def keep(self, name: str, text: str) -> None:
        """Keep a question, in place of one of the same name.

        Raises:
            Refused: 400, name or question do not hold; 409, there are too many.
        """
        name = " ".join(name.split())
        if not name or len(name) > LONGEST_NAME or not name.isprintable():
            raise Refused(400, f"a name has 1 to {LONGEST_NAME} characters that can be seen", kind="name-invalid")
        if not text.strip() or len(text) > LONGEST:
            raise Refused(400, f"a question that is kept has 1 to {LONGEST:,} characters", kind="query-invalid")
        self._change(name, text)

    def forget(self, name: str) -> None:
        """Forget a question; one that is not there is no matter."""
        self._change(name, None)

    def _change(self, name: str, text: str | None) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(self._folder / f"{FILE}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = self.all()
            known.pop(name, None)
            if text is not None:
                if len(known) >= MOST:
                    raise Refused(409, f"{MOST} questions are kept already", hint="forget one first", kind="too-many")
                known[name] = text
            fresh = self._folder / f"{FILE}.new"
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(json.dumps(known, ensure_ascii=False, indent=1).encode("utf-8", "replace"))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._folder / FILE)
        finally:
            os.close(lock)
