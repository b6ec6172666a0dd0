"""A kill at each system call of an act: afterwards it is there whole or not at all, and the store goes on."""

from __future__ import annotations

import pytest

from tests.crash.running import harness, need_strace


def _holds(told: dict[str, object], calls: int) -> None:
    assert told["wrong"] == 0
    assert told["calls"] >= calls, "the act was not killed often enough to mean anything"


def test_a_commit_killed_at_its_syncs_and_renames_is_whole_or_absent() -> None:
    need_strace()
    (told,) = harness("syscalls", "--act", "bulk", "--call", "rename", "--call", "fdatasync")
    _holds(told, 5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("act", "every", "calls"),
    [
        ("small", 1, 120), ("bulk", 1, 120), ("leading", 1, 100), ("following", 1, 60), ("creation", 3, 40),
        ("upkeep", 20, 40),
    ],
)  # fmt: skip
def test_an_act_killed_at_its_calls_is_whole_or_absent(act: str, every: int, calls: int) -> None:
    need_strace()
    (told,) = harness("syscalls", "--act", act, "--every", every)
    _holds(told, calls)
    if act in ("small", "bulk", "leading", "following"):
        assert all(told[state] > 0 for state in ("absent", "whole", "done")), "the middle of the commit was not met"
