"""A command line, and what it printed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs.cli.exits import Exit
from jobs.cli.main import run


class Typed:
    """What a command line printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.err = self.out = ""

    def __call__(self, *words: str, code: Exit = Exit.OK) -> str:
        self.capsys.readouterr()
        found = run(words)
        self.out, self.err = self.capsys.readouterr()
        assert found == code, f"tsfleet {' '.join(words)} exited {found}: {self.err}"
        return self.out

    def json(self, *words: str, code: Exit = Exit.OK) -> Any:
        made = json.loads(self(*words, "--json", code=code))
        assert self.err == ""
        return made
