"""The catalog's log as a killed writer leaves it: a bit that flips in it takes commits away, and that is told."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from store import Store
from store.errors import Damaged
from tests.store.rows import insert
from tests.store.test_processes import start

COMMITS = 6
_HEADER, _FRAME = 32, 24 + 4_096

WRITER = """
    import signal, sys
    from store import Store
    from tests.store.rows import insert
    with Store.open(sys.argv[1]) as store:
        for turn in range(int(sys.argv[2])):
            insert(store, "alerts", [{"alert_id": f"a{turn}"}])
        print("done", flush=True)
        signal.pause()
"""


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A store whose writer was killed: its commits are in the log alone."""
    with start(WRITER, tmp_path / "s", COMMITS) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "done\n"
        writer.send_signal(signal.SIGKILL)
    return tmp_path / "s"


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_what_a_killed_writer_left_is_taken_in(left: Path) -> None:
    with Store.open(left) as store:
        assert store.head() == store.table("alerts").num_rows == COMMITS
        assert store.verify().ok
        insert(store, "alerts", [{"alert_id": "next"}])
    with Store.open(left, read_only=True) as store:
        assert store.head() == COMMITS + 1


def test_no_flip_in_a_log_takes_commits_away_in_silence(left: Path, tmp_path: Path) -> None:
    log = (left / "catalog.sqlite-wal").stat().st_size
    frames = (log - _HEADER) // _FRAME
    assert frames > COMMITS
    told: list[Damaged] = []
    for at in (8, *(_HEADER + frame * _FRAME + 24 + 2_000 for frame in range(0, frames, 7))):
        copy = Path(shutil.copytree(left, tmp_path / f"at-{at}"))
        flip(copy / "catalog.sqlite-wal", at)
        for read_only in (True, False):
            try:
                with Store.open(copy, read_only=read_only) as store:
                    assert store.head() == COMMITS
            except Damaged as error:
                told.append(error)
    assert told
    assert all("commits" in error.message and error.hint for error in told)


def test_what_is_left_of_the_log_is_read_on_request(left: Path) -> None:
    frames = ((left / "catalog.sqlite-wal").stat().st_size - _HEADER) // _FRAME
    flip(left / "catalog.sqlite-wal", _HEADER + (frames // 2) * _FRAME + 100)
    with Store.open(left, skip_damaged=True) as store:
        assert 0 < store.head() == store.table("alerts").num_rows < COMMITS
        (damage,) = store.verify().damages
        assert "commits" in str(damage)
    (left / "lock").unlink()  # as the hint says, to go on without them
    with Store.open(left) as store:
        insert(store, "alerts", [{"alert_id": "next"}])


def test_a_note_that_is_damaged_itself_says_nothing(left: Path) -> None:
    for at in range(len((left / "lock").read_bytes())):
        flip(left / "lock", at)
        with Store.open(left, read_only=True) as store:
            assert store.head() == COMMITS
        flip(left / "lock", at)


def test_a_store_that_is_made_anew_does_not_miss_the_commits_of_another(left: Path) -> None:
    for name in ("catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"):
        (left / name).unlink()
    shutil.rmtree(left / "readers", ignore_errors=True)
    with Store.open(left) as store:
        assert store.head() == 0
