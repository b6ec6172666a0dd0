"""Many processes on one folder; and one that is killed."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from store import Store
from store.errors import StoreBusy, WrongProcess
from store.lock import WriterLock
from tests.store.rows import insert, reading

ROOT = Path(__file__).resolve().parents[2]

WRITER = """
    import sys
    import pyarrow as pa
    from store import Store
    from tests.store.rows import readings
    path, name, commits = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with Store.open(path) as store:
        for turn in range(commits):
            txn = store.begin()
            run = f"{name}-{turn}"
            txn.insert("runs", [{"run_id": run, "asset_id": name, "status": "ok"}])
            txn.insert("metrics", [{"run_id": run, "name": f"m{i}", "value": i} for i in range(10)])
            txn.replace("alerts", [{"alert_id": name, "text": run}])
            if turn % 5 == 0:
                ids = pa.array([f"{run}-{i // 1_000}" for i in range(6_000)])
                txn.insert("actuals", readings(6, 1_000).set_column(0, "asset_id", ids))
            sha = txn.put_blobs([run.encode()])[0]
            txn.insert("versions", [{"version_id": run, "sha256": sha}])
            txn.commit()
            print(run, flush=True)
            if turn % 7 == 3:
                store.flush()
"""


def start(script: str, *args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, args)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out


def rest(process: subprocess.Popen[str]) -> str:
    """What a process that ends has still to say. Not communicate(), which forgets what readline() read ahead."""
    assert process.stdout is not None
    with process:
        return process.stdout.read()


def whole_commits(store: Store) -> set[str]:
    """The runs in a store, after checking that each commit is there in every table, or in none."""
    with_metrics = {r["run_id"]: r["n"] for r in store.sql("select run_id, count(*) n from metrics group by 1").rows()}
    runs = {r["run_id"]: r["_v"] for r in store.sql("select run_id, _v from runs__v").rows()}
    assert with_metrics == dict.fromkeys(runs, 10)
    versions = store.sql("select version_id, sha256, _v from versions__v").rows()
    assert {r["version_id"]: r["_v"] for r in versions} == runs
    assert all(store.blob(r["sha256"]).decode() == r["version_id"] for r in versions)
    bulk = {r["_v"]: r["n"] for r in store.sql("select _v, count(*) n from actuals__v group by 1").rows()}
    assert bulk == {v: 6_000 for run, v in runs.items() if int(run.rpartition("-")[2]) % 5 == 0}
    newest: dict[str, str] = {}
    for run, _ in sorted(runs.items(), key=lambda item: item[1]):
        newest[run.rpartition("-")[0]] = run
    assert {r["alert_id"]: r["text"] for r in store.sql("select alert_id, text from alerts").rows()} == newest
    assert sorted(runs.values()) == list(range(1, store.head() + 1))
    return set(runs)


def test_processes_that_make_and_write_one_store_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new.store"
    writers = [start(WRITER, path, name, 15) for name in ("one", "two", "three")]
    acknowledged = {line for writer in writers for line in finish(writer).split()}
    with Store.open(path, create=False) as store:
        assert len(acknowledged) == 45
        assert whole_commits(store) == acknowledged


@pytest.mark.parametrize("after", [1, 6, 13])
def test_a_commit_is_all_or_nothing_when_its_process_is_killed(tmp_path: Path, after: int) -> None:
    path = tmp_path / "killed.store"
    Store.open(path).close()
    writer = start(WRITER, path, "w", 1_000)
    assert writer.stdout is not None
    acknowledged = {writer.stdout.readline().strip() for _ in range(after)}
    writer.send_signal(signal.SIGKILL)
    acknowledged |= set(rest(writer).split())
    with Store.open(path) as store:
        survived = whole_commits(store)
        assert acknowledged <= survived
        assert len(survived - acknowledged) <= 1
        insert(store, "actuals", [reading("b", 0, 1.0)])
        assert store.table("actuals", assets=["b"]).num_rows == 1


def test_a_reader_sees_whole_commits_while_others_write(tmp_path: Path) -> None:
    path = tmp_path / "busy.store"
    Store.open(path).close()
    writer = start(WRITER, path, "w", 25)
    seen = []
    with Store.open(path, read_only=True) as store:
        while writer.poll() is None:
            seen.append(len(whole_commits_at(store)))
        assert whole_commits_at(store) == set(finish(writer).split())
    assert seen == sorted(seen)


def whole_commits_at(store: Store) -> set[str]:
    snapshot = store.snapshot()
    runs = {r["run_id"] for r in snapshot.sql("select run_id from runs").rows()}
    metrics = snapshot.sql("select run_id, count(*) as n from metrics group by 1").rows()
    assert {r["run_id"]: r["n"] for r in metrics} == dict.fromkeys(runs, 10)
    assert len(runs) == snapshot.id
    return runs


def test_threads_share_a_store(store: Store) -> None:
    failures = []

    def work(name: str) -> None:
        try:
            for hour in range(10):
                insert(store, "actuals", [reading(name, hour, float(hour))])
                if hour == 5:
                    store.flush()
                assert store.table("actuals", assets=[name]).num_rows == hour + 1
        except BaseException as error:  # noqa: BLE001 a thread's failure must reach the test
            failures.append(error)

    threads = [threading.Thread(target=work, args=(f"t{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert (store.head(), store.table("actuals").num_rows) == (40, 40)


def test_a_forked_child_is_told_to_open_its_own(tmp_path: Path) -> None:
    script = """
        import os, sys
        from store import Store
        from store.errors import WrongProcess
        store = Store.open(sys.argv[1])
        snapshot, txn = store.snapshot(), store.begin()
        child = os.fork()
        if child == 0:
            for act in (store.head, txn.commit, lambda: snapshot.sql("select 1"), store.begin, store.flush):
                try:
                    act()
                except WrongProcess as error:
                    assert error.hint
                else:
                    os._exit(1)
            store.close()
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        store.head()
    """
    assert finish(start(script, tmp_path / "s")).strip() == "0"


def test_a_store_cannot_be_pickled(store: Store) -> None:
    with pytest.raises(WrongProcess):
        pickle.dumps(store)


def test_a_writer_that_waits_too_long_is_told_so(tmp_path: Path) -> None:
    held, waiting = WriterLock(tmp_path / "lock"), WriterLock(tmp_path / "lock", wait_s=0.02)
    with held.held(), held.held(), pytest.raises(StoreBusy), waiting.held():
        pass
    with waiting.held():
        pass
    held.close()
    waiting.close()
