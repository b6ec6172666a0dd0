"""`tsfleet adjust`: the same words from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.cli.exits import Exit
from tests.jobs.typed import Typed


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str], folder: Path) -> Typed:
    return Typed(capsys)


def test_a_word_is_added_listed_and_revoked(typed: Typed) -> None:
    for verb in ("ingest", "train", "forecast"):
        typed(verb)
    window = ["--since", "2024-03-29T00:00Z", "--until", "2024-03-29T06:00Z", "--reason", "unit out"]
    done = typed.json("adjust", "add", "scale", "0.5", "--select", "north-*", *window)
    assert len(done["adjustments"]) == 2
    assert done["steps"] == 2 * 6
    listed = typed.json("adjust", "ls", "--all")
    assert [(row["asset_id"], row["kind"], row["value"], row["reason"]) for row in listed] == [
        ("north-1", "scale", 0.5, "unit out"),
        ("north-2", "scale", 0.5, "unit out"),
    ]
    typed("adjust", "revoke", *done["adjustments"])
    assert {row["state"] for row in typed.json("adjust", "ls", "--all")} == {"revoked"}
    assert typed.json("adjust", "ls") == []


def test_a_word_that_means_nothing_is_a_usage_error_with_the_next_step(fed: Typed) -> None:
    fed("adjust", "add", "add", "1", "--since", "2024-03-29", "--until", "2024-03-30T00:00Z", "--reason", "x",
          code=Exit.USAGE)  # fmt: skip
    assert "2024-06-10T00:00Z" in fed.err
    fed("adjust", "revoke", "nobody", code=Exit.USAGE)
    assert "adjust ls" in fed.err
