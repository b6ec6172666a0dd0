"""Scratch folders: gone at the end, and after a crash gone with the next command; never that of a living one."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fleet.scratch import PREFIX, YOUNG_S, scratch_folder

HOLD = "from fleet.scratch import scratch_folder\nwith scratch_folder() as folder: print(folder, flush=True); input()"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def make_old(folder: Path) -> None:
    when = folder.stat().st_mtime - YOUNG_S - 1
    os.utime(folder, (when, when))


def held(home: Path) -> tuple[subprocess.Popen[str], Path]:
    """Another process with a scratch folder."""
    environment = {**os.environ, "TMPDIR": str(home), "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_scratch_folder_is_gone_at_the_end_with_what_is_in_it(home: Path) -> None:
    with scratch_folder() as folder:
        (folder / "part").mkdir()
        (folder / "part" / "rows.arrow").write_text("rows")
    assert [*home.iterdir()] == []


def test_what_a_killed_process_left_behind_is_removed_by_the_next(home: Path) -> None:
    process, folder = held(home)
    with process:
        process.kill()
    make_old(folder)
    with scratch_folder():
        assert not folder.exists()


@pytest.mark.parametrize("old", [True, False])
def test_the_folder_of_a_living_process_stays(home: Path, old: bool) -> None:
    process, folder = held(home)
    with process:
        if old:
            make_old(folder)
        with scratch_folder():
            assert folder.is_dir()
        process.communicate("\n")
    assert not folder.exists()


def test_a_folder_that_nobody_has_locked_yet_stays(home: Path) -> None:
    young = home / f"{PREFIX}young"
    young.mkdir()
    with scratch_folder():
        assert young.is_dir()


def test_a_link_of_that_name_is_not_followed(home: Path) -> None:
    (home / "precious").mkdir()
    (home / "precious" / "file").write_text("text")
    link = home / f"{PREFIX}link"
    link.symlink_to(home / "precious")
    os.utime(link, (0, 0), follow_symlinks=False)
    with scratch_folder():
        assert (home / "precious" / "file").read_text() == "text"
