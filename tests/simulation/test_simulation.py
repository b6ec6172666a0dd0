"""A fleet that runs by itself, for two simulated days with crashes: nothing lost, nothing twice."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow  # some hundred real processes


def test_two_days_with_crashes_lose_and_double_nothing() -> None:
    words = ["--days", "2", "--assets", "4", "--crashes", "14", "--seed", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4_000:] + done.stdout
    told = {line["simulation"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert told["slots"]["run"] == told["slots"]["due"] > 300
    assert told["walk"]["died"] > 0, "nothing was killed"
