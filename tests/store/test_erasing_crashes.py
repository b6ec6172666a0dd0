"""Erasing wherever it is killed, and while others read and write: all or nothing, and the next erasure ends it."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from store import Store
from tests.store.planted import GONE, of_others, traces
from tests.store.rows import START, insert
from tests.store.test_processes import WRITER, finish, start

ERASER = """
    import os, signal, sys
    from pathlib import Path
    import store.catalog.removing, store.files
    from store import Store
    from store.catalog.removing import Remover
    path, name, where, last = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    seen = 0

    def counted(act, called):
        def step(*args, **more):
            global seen
            seen += where in ("anywhere", called)
            if seen == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return act(*args, **more)
        return step

    def watch(owner, *called):
        for one in called:
            setattr(owner, one, counted(getattr(owner, one), one))

    with Store.open(path) as opened:
        watch(store.files.Writing, "__enter__")
        watch(Path, "rename", "unlink")
        watch(store.files, "sync_folder")
        watch(Remover, "remove_names", "remove_hot", "swap", "swap_pack", "remove_blobs", "end_before", "finish")
        watch(store.catalog.removing, "compact")
        watch(store.catalog.Writer, "forget_retired")
        assert opened.erase([name]).done
    print(seen)
"""


def killed(path: Path, where: str, step: int) -> bool:
    """Erase in a process that kills itself at a step, if it comes to it."""
    process = start(ERASER, path, GONE, where, step)
    _, told = process.communicate(timeout=120)
    assert process.returncode in (0, -signal.SIGKILL), told
    return process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("where", "step", "done"),
    [
        ("rename", 5, False),
        ("compact", 1, True),
        ("unlink", 8, True),
    ],
)
def test_what_a_kill_left_the_next_erasure_ends(
    template: Path, tmp_path: Path, where: str, step: int, *, done: bool
) -> None:
    path = shutil.copytree(template, tmp_path / "s")
    assert killed(path, where, step)
    with Store.open(path) as store:
        assert (store.table("actuals", assets=[GONE]).num_rows == 0) == done
        assert store.verify().ok
        assert store.erase([GONE]).done
        assert traces(path) == set()


@pytest.mark.slow
def test_a_kill_anywhere_is_made_good_by_erasing_again(template: Path, tmp_path: Path) -> None:
    """Killed at step after step: until the commit nothing has happened, afterwards the next erasure ends it."""
    path = shutil.copytree(template, tmp_path / "s")
    with Store.open(path) as store:
        before, head = of_others(store), store.head()
    step, heads = 1, []
    while killed(path, "anywhere", step):
        step += 2 if heads and heads[-1] > head else 5
        with Store.open(path) as store:
            assert of_others(store) == before
            assert store.verify().ok
            heads.append(store.head())
            gone = store.table("actuals", assets=[GONE]).num_rows == 0
            assert gone == (store.head() == head + 1)
    assert len(heads) >= 20
    assert set(heads) == {head, head + 1}
    assert traces(path) == set()


def test_others_write_while_an_asset_is_erased_and_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with Store.open(path) as store:
        insert(store, "scales", [{"asset_id": GONE, "product": "p", "origin": START, "season": 1}])
        first = store.head()
        writers = [start(WRITER, path, name, 15) for name in ("one", "two")]
        done = store.erase([GONE])
        rows = store.sql("select count(*) as n from scales").rows()
        acknowledged = {line for writer in writers for line in finish(writer).split()}
        assert rows == [{"n": 0}]
        assert (len(acknowledged), done.rows) == (30, {"scales": 1})
        assert store.head() == first + 30 + 1
        assert {row["run_id"] for row in store.sql("select run_id from runs").rows()} == acknowledged
        assert store.verify().ok
