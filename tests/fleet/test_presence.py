"""The sign of life of a job: there while its process lives, gone with it however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from fleet.presence import Presence, at_work, forget, sign_of

SLOT = datetime(2024, 6, 1, 12, tzinfo=UTC)
LIVES = """
import sys
from datetime import datetime
from pathlib import Path
from fleet.presence import Presence
Presence(Path(sys.argv[1]), sys.argv[2], datetime.fromisoformat(sys.argv[3])).begin()
print("begun", flush=True)
sys.stdin.read()
"""


def living(folder: Path, job: str) -> subprocess.Popen[str]:
    """A process that shows its sign and waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", LIVES, str(folder), job, SLOT.isoformat()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.mark.parametrize("job", ["cli:train", "../../a job of any name\n💡"])
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_is_at_work_until_its_process_ends(tmp_path: Path, job: str, end: signal.Signals) -> None:
    process = living(tmp_path, job)
    try:
        assert at_work(tmp_path, job, SLOT)
        assert at_work(tmp_path, job, SLOT.astimezone(timezone(timedelta(hours=2))))
        assert not at_work(tmp_path, job, SLOT + timedelta(microseconds=1))
        assert not at_work(tmp_path, f"{job}!", SLOT)
    finally:
        process.send_signal(end)
        process.communicate()
    assert not at_work(tmp_path, job, SLOT)
    assert [path.parent for path in tmp_path.rglob("*.lock")] == [tmp_path / "working"]
    forget(tmp_path, job, SLOT)
    assert not sign_of(tmp_path, job, SLOT).exists()


def test_a_job_that_ends_takes_its_sign_along(tmp_path: Path) -> None:
    presence = Presence(tmp_path, "py:train", SLOT)
    presence.begin()
    assert at_work(tmp_path, "py:train", SLOT)
    presence.end()
    presence.end()
    assert not at_work(tmp_path, "py:train", SLOT)
    assert list((tmp_path / "working").iterdir()) == []


def test_looking_for_a_sign_leaves_none(tmp_path: Path) -> None:
    assert not at_work(tmp_path, "cli:train", SLOT)
    forget(tmp_path, "cli:train", SLOT)
    assert list(tmp_path.iterdir()) == []
