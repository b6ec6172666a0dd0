"""What every test may ask for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def _settings_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The tests make keys; they do not make them in the home of who runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TSFLEET_KEY_FILE", raising=False)
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("settings")))
        yield


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data sets that are too large to ship; tests that want it skip aloud where it is not."""
    folder = os.environ.get("TSFLEET_TEST_DATA")
    if not folder:
        pytest.skip("TSFLEET_TEST_DATA is unset: it names the folder of real data sets")
    if not Path(folder).is_dir():
        pytest.fail(f"TSFLEET_TEST_DATA={folder} is no folder")
    return Path(folder)
