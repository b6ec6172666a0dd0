"""The power cut at points of a recorded life: what was acknowledged is there, in whatever order the disk wrote."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

import pytest

from tests.crash.disk import Disk, File
from tests.crash.recorded import Replay, steps
from tests.crash.replay import SYNCS
from tests.crash.running import harness, need_strace, run


def test_nothing_acknowledged_is_lost_with_what_was_not_synced() -> None:
    need_strace()
    (told,) = harness("replay", "--deeds", 6, "--partly", 6, "--acknowledged-only")
    assert (told["lost"], told["wrong"], told["disordered"]) == (0, 0, 0)
    assert told["commits"] == told["dropped"] == 6
    assert told["files"] > 0


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_wherever_the_power_goes() -> None:
    need_strace()
    (told,) = harness("replay", "--deeds", 12, "--partly", 40, "--seed", 4)
    assert (told["lost"], told["wrong"], told["disordered"]) == (0, 0, 0)
    assert told["commits"] == 12
    assert told["dropped"] >= 100
    assert told["more"] > 0, "no commit was whole before it was acknowledged: the points lie too far apart"


@pytest.mark.slow
@pytest.mark.parametrize("what", SYNCS)
def test_each_sync_is_missed_when_it_is_left_out(what: str) -> None:
    need_strace()
    ran = run("replay", "--deeds", 8, "--partly", 16, "--acknowledged-only", "--forget", what)
    told = json.loads(ran.stdout)
    assert ran.returncode == 1
    assert told["lost"] + told["wrong"] > 0


# ------------------------------------------------------------------------------------------------------- the disk


def test_the_disk_keeps_bytes_and_names_once_they_are_synced(tmp_path: Path) -> None:
    root = PurePosixPath("/d")
    disk = Disk(root)
    disk.make_folder(root / "s")
    held = disk.opened(root / "s" / ".a.tmp", create=True, empty=False)
    assert isinstance(held, File)
    held.write(0, b"abc")

    def there(name: str) -> dict[str, bytes]:
        disk.after_power_cut(tmp_path / name, None)
        return {
            str(p.relative_to(tmp_path / name)): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()
        }

    assert there("nothing synced") == {}
    held.sync()
    disk.top.sync()
    assert there("a file without a name") == {}
    disk.folder(root / "s").sync()
    assert there("a name") == {"s/.a.tmp": b"abc"}
    disk.rename(root / "s" / ".a.tmp", root / "s" / "a")
    held.write(1, b"XYZ")
    assert there("renamed and written") == {"s/.a.tmp": b"abc"}
    disk.folder(root / "s").sync()
    assert there("the new name") == {"s/a": b"abc"}
    held.sync()
    disk.remove(root / "s" / "a")
    assert there("removed") == {"s/a": b"aXYZ"}
    disk.folder(root / "s").sync()
    assert there("gone") == {}


def test_a_trace_is_read_as_what_was_done(tmp_path: Path) -> None:
    def coded(text: str) -> str:
        return '"' + "".join(f"\\x{byte:02x}" for byte in text.encode()) + '"'

    lines = [
        f"mkdir({coded('/d/s')}, 0777) = 0",
        f"openat(AT_FDCWD, {coded('/d/s/a')}, O_RDWR|O_CREAT|O_EXCL|O_CLOEXEC, 0666) = 5",
        f"openat(AT_FDCWD, {coded('/elsewhere')}, O_RDWR|O_CREAT, 0666) = 6",
        f"write(5, {coded('one')}, 3) = 3",
        f"write(6, {coded('not ours')}, 8) = 8",
        f"write(5, {coded(' two')}, 4) = 4",
        f"pwrite64(5, {coded('O')}, 1, 0) = 1",
        "ftruncate(5, 6) = 0",
        "fsync(5) = -1 EIO (Input/output error)",
        "fdatasync(5) = 0",
        f"rename({coded('/d/s/a')}, {coded('/d/s/b')}) = 0",
        f"write(9, {coded(json.dumps({'done': 'x'}))}, 13) = 13",
        f"unlink({coded('/d/s/none')}) = -1 ENOENT (No such file or directory)",
    ]
    (tmp_path / "trace").write_text("\n".join(lines), encoding="ascii")
    life = list(steps(tmp_path / "trace", Path("/d")))
    assert [one.act for one in life] == ["folder", "open", "write", "write", "write", "cut", "sync", "rename", "told"]
    replay = Replay(Path("/d"))
    for step in life:
        replay.do(step)
    held = replay.disk.find(PurePosixPath("/d/s/b"))
    assert isinstance(held, File)
    assert (bytes(held.data), held.kept) == (b"One tw", b"One tw")
    assert life[-1].line == {"done": "x"}
