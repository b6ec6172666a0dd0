"""A disk that refuses: a clear error, nothing acknowledged lost, and the next commit works."""

from __future__ import annotations

import pytest

from tests.crash.running import harness, need_strace


def test_a_refused_sync_of_a_commit_is_told_and_costs_nothing_else() -> None:
    need_strace()
    (told,) = harness(
        "faults", "--act", "bulk", "--call", "fsync", "--call", "fdatasync", "--error", "EIO", "--every", 2
    )
    assert told["wrong"] == 0
    assert told["refused"] >= 3


@pytest.mark.slow
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize(("act", "every"), [("small", 3), ("bulk", 3), ("upkeep", 16), ("creation", 4)])
def test_whatever_call_is_refused_nothing_acknowledged_is_lost(act: str, every: int, error: str) -> None:
    need_strace()
    (told,) = harness("faults", "--act", act, "--error", error, "--every", every)
    assert told["wrong"] == 0
    assert told["refused"] >= 15
    assert any(name.endswith((":write-failed", ":no-space")) for name in told)
