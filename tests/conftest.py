"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data sets that are too large to ship; tests that want it skip aloud where it is not."""
    folder = os.environ.get("TSFLEET_TEST_DATA")
    if not folder:
        pytest.skip("TSFLEET_TEST_DATA is unset: it names the folder of real data sets")
    if not Path(folder).is_dir():
        pytest.fail(f"TSFLEET_TEST_DATA={folder} is no folder")
    return Path(folder)
