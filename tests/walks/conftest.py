"""What several walks begin with, made once; tests that write take a copy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.walks.cycles import CONFIG, LEVEL, Done, cycle
from tests.walks.small import fleet_in


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    """A fleet after one cycle; tests that use it leave it as it is."""
    with fleet_in(tmp_path_factory.mktemp("cycle") / "fleet", CONFIG, LEVEL) as fleet:
        yield Done(fleet, cycle(fleet))
