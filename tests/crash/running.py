"""A part of the harness as a program of its own: a test's process has threads and open stores, and cannot fork."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def harness(*words: object) -> list[dict[str, Any]]:
    """The lines that a part tells; it has to end well."""
    ran = run(*words)
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return [json.loads(line) for line in ran.stdout.splitlines()]


def run(*words: object) -> subprocess.CompletedProcess[str]:
    """A part, however it ends."""
    command = [sys.executable, "-m", "tests.crash", *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=900)


def need_strace() -> None:
    """Skip aloud where strace is missing or may not trace; a missing one fails where TSFLEET_NEEDS_STRACE is set."""
    if shutil.which("strace") is None:
        if os.environ.get("TSFLEET_NEEDS_STRACE"):
            pytest.fail("there is no strace, and TSFLEET_NEEDS_STRACE is set")
        pytest.skip("there is no strace here")
    tried = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"strace may not trace here: {tried.stderr.strip()}")
