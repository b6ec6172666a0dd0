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
    """Skip aloud where there is no strace, or none that may look at its user's own processes; fail where CI has one."""
    why = _missing()
    if why and os.environ.get("CI"):
        pytest.fail(f"{why}, and this is CI: .ci/run installs it")
    if why:
        pytest.skip(why)


def _missing() -> str:
    if shutil.which("strace") is None:
        return "there is no strace here"
    tried = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    return f"strace may not trace here: {tried.stderr.strip()}" if tried.returncode else ""
