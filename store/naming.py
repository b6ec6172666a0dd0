"""Finding the names of assets in texts that people and programs wrote, and taking them out.

A name counts where it stands as a word of its own: ``plant-7`` is not in ``plant-71`` or ``plant-7-b``. Names of fewer
than three characters, and those that are numbers, count only within quotes, for they mean other things elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from store.rows import to_json

#: What stands in the place of a name.
ERASED = "[erased]"
_SHORT = 3
_BEFORE, _AFTER = r"(?<![\w-])", r"(?![\w-])"
_QUOTES = "\"'`"


class Redactor:
    """Takes some names out of texts.

    >>> redact = Redactor(["plant-7"])
    >>> redact.text("plant-7 is late, plant-71 is not."), redact.json('{"of": ["plant-7"]}')
    ('[erased] is late, plant-71 is not.', '{"of":["[erased]"]}')
    """

    def __init__(self, names: Iterable[str]) -> None:
        listed = sorted(set(names), key=lambda one: (-len(one), one))
        # JSON within a text writes other letters than ASCII in its own way.
        self._forms = sorted({form for one in listed for form in (one, json.dumps(one)[1:-1])}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(_told, self._forms))) if listed else None
        self._whole = frozenset(listed)

    @property
    def forms(self) -> list[str]:
        """What to look for, byte by byte: where none of it stands there is nothing to take out."""
        return self._forms

    def text(self, text: str) -> str:
        """A text without the names."""
        if text in self._whole:
            return ERASED
        return text if self._pattern is None else self._pattern.sub(lambda _: ERASED, text)

    def json(self, text: str) -> str:
        """JSON whose texts and keys are without the names; all else in it is as it was."""
        if self.text(text) == text and not any(form in text for form in self._forms):
            return text
        value = json.loads(text)
        clean = self._walk(value)
        return text if clean == value else to_json(clean)

    def _walk(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(key): self._walk(inner) for key, inner in value.items()}
        return [self._walk(inner) for inner in value] if isinstance(value, list) else value


def _told(form: str) -> str:
    if len(form) < _SHORT or form.replace(".", "", 1).isdigit():
        return f"(?<=[{_QUOTES}]){re.escape(form)}(?=[{_QUOTES}])"
    return f"{_BEFORE}{re.escape(form)}{_AFTER}"
