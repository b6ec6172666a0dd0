"""Upkeep in the open: readers keep what they read, orphans go, a kill anywhere changes no answer, old folders open."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from store import FixedClock, Store
from store.errors import Damaged, ReadOnly, StoreBusy
from store.files import segment_file
from store.lock import WriterLock
from store.merging import FAN_IN
from store.readers import Presence, present
from tests.store.rows import insert, reading, readings, replace, values
from tests.store.test_processes import finish, start, whole_commits, whole_commits_at

AT_ONCE = timedelta(0)
DAY_S = 86_400


def merged(store: Store, turns: int = FAN_IN, first: int = 0) -> None:
    """Commits after the last of which a merge comes by itself: the files of all are retired."""
    for turn in range(turns):
        insert(store, "actuals", readings(6, 1_000, first=first + 10 * turn))


def files(store: Store) -> set[str]:
    return {path.name for path in (store.path / "segments").glob("*/*")}


def named(store: Store) -> set[str]:
    return {f"{one.id}.parquet" for one in store._catalog.segments("actuals")}


# --------------------------------------------------------------------------------------------------------- by itself


def test_old_hot_rows_are_flushed_by_a_later_commit(store: Store, clock: FixedClock) -> None:
    insert(store, "actuals", [reading("a", 0, 1.0)])
    clock.advance(minutes=9)
    insert(store, "alerts", [{"alert_id": "1"}])
    assert store.info().hot["actuals"] == 1
    clock.advance(minutes=2)
    insert(store, "alerts", [{"alert_id": "2"}])
    assert (store.info().hot["actuals"], store.info().hot["alerts"]) == (0, 2)
    assert values(store) == [1.0]


def test_a_commit_does_one_thing_at_most(store: Store, clock: FixedClock) -> None:
    insert(store, "actuals", [reading("a", 0, 1.0)])
    insert(store, "metrics", [{"run_id": "1", "name": "mae", "value": 1.0}])
    clock.advance(hours=1)
    insert(store, "alerts", [{"alert_id": "1"}])
    assert sum(store.info().hot.values()) == 2
    insert(store, "alerts", [{"alert_id": "2"}])
    assert store.info().hot == store.info().hot | {"actuals": 0, "metrics": 0, "alerts": 2}


def test_a_commit_stays_acknowledged_when_the_merge_after_it_fails(store: Store) -> None:
    for turn in range(FAN_IN - 1):
        insert(store, "actuals", readings(6, 1_000, first=10 * turn))
    gone = segment_file(store.path, "actuals", store._catalog.segments("actuals")[0].id)
    kept = gone.read_bytes()
    gone.unlink()
    assert insert(store, "actuals", readings(6, 1_000, first=500)).snapshot == FAN_IN
    with pytest.raises(Damaged):
        store.upkeep()
    gone.write_bytes(kept)
    store.upkeep()
    assert store.info().levels["actuals"] == {2: 1}
    assert store.table("actuals").num_rows == 6_000 * FAN_IN


def test_upkeep_is_done_by_one_process_at_a_time(store: Store) -> None:
    insert(store, "actuals", [reading("a", 0, 1.0)])
    other = WriterLock(store.path / "upkeep.lock")
    with other.held():
        with pytest.raises(StoreBusy):
            store.upkeep()
        assert store.flush() == {}
        merged(store)
    other.close()
    assert store.info().levels["actuals"] == {0: FAN_IN}
    assert store.upkeep().flushed == {"actuals": 1}
    assert store.info().levels["actuals"] == {2: 1}


def test_who_may_only_read_does_no_upkeep(store: Store) -> None:
    with Store.open(store.path, read_only=True) as looking, pytest.raises(ReadOnly):
        looking.upkeep()


# ------------------------------------------------------------------------------------------------------- collection


def test_replaced_files_go_after_their_grace(store: Store, clock: FixedClock) -> None:
    merged(store)
    assert (store.info().retired, len(files(store))) == (FAN_IN, FAN_IN + 1)
    assert store.upkeep().collected == 0
    clock.advance(hours=1)
    assert store.upkeep().collected == FAN_IN
    assert (store.info().retired, files(store)) == (0, named(store))
    assert store.table("actuals").num_rows == 6_000 * FAN_IN


def test_a_question_keeps_the_files_it_was_planned_over(store: Store, clock: FixedClock) -> None:
    for turn in range(FAN_IN - 1):
        insert(store, "actuals", readings(6, 1_000, first=10 * turn))
    before = files(store)
    with Store.open(store.path, clock=clock) as other:

        def ask(asking: object) -> int:
            plan = asking.plan(["actuals"], None)  # type: ignore[attr-defined]  # an Asking: named only for the checker
            merged(store, 1, first=500)
            assert store.info().readers == 1
            assert store.upkeep(grace=AT_ONCE).collected == 0
            assert before <= files(store)
            return len(plan.state.segments["actuals"])

        assert other._reader.answer(ask) == FAN_IN - 1
        assert store.info().readers == 0
        assert store.upkeep(grace=AT_ONCE).collected == FAN_IN
    assert files(store) == named(store)


def test_a_question_that_was_planned_afterwards_keeps_nothing(store: Store) -> None:
    merged(store)
    with store._reader._presence.reading() as question:
        store._reader.plan(store._reader.engine, question, ["actuals"], None)
        assert store.upkeep(grace=AT_ONCE).collected == FAN_IN


def test_a_reader_that_hangs_is_waited_for_a_day(store: Store, clock: FixedClock) -> None:
    with store._reader._presence.reading():
        merged(store)
        clock.advance(hours=23)
        assert store.upkeep(grace=AT_ONCE).collected == 0
        clock.advance(hours=2)
        assert store.upkeep(grace=AT_ONCE).collected == FAN_IN


def test_a_question_whose_files_went_is_planned_again_once(store: Store) -> None:
    """Who cannot be seen (a folder he may not write) may find a file gone that a merge replaced meanwhile."""
    for turn in range(FAN_IN - 1):
        insert(store, "actuals", readings(6, 1_000, first=10 * turn))
    plans = []

    def ask(asking: object) -> int:
        plan = asking.plan(["actuals"], None)  # type: ignore[attr-defined]  # an Asking: named only for the checker
        plans.append(plan)
        if len(plans) == 1:
            merged(store, 1, first=500)
            for one in plan.state.segments["actuals"]:
                segment_file(store.path, "actuals", one.id).unlink()
        rows = plan.rows(store_table())
        return int(asking.engine.cursor().arrow(f"select count(*) as n from ({rows})").column("n")[0].as_py())  # type: ignore[attr-defined]  # as above

    assert store._reader.answer(ask) == 6_000 * FAN_IN
    assert len(plans) == 2


def store_table() -> object:
    from store.schema import TABLES

    return TABLES["actuals"]


def test_a_missing_file_that_the_catalog_still_names_is_damage(store: Store) -> None:
    insert(store, "actuals", readings(6, 1_000))
    for path in (store.path / "segments" / "actuals").iterdir():
        path.unlink()
    with pytest.raises(Damaged):
        store.table("actuals")


def test_orphans_go_after_a_day_and_nothing_else(store: Store, clock: FixedClock) -> None:
    merged(store)
    txn = store.begin()
    txn.put_blobs([b"kept"])
    txn.commit()
    left = store.begin()
    left.put_blobs([b"left behind"])
    left.insert("actuals", readings(6, 1_000, first=500))
    left._prepare()
    folder = store.path / "segments" / "actuals"
    (folder / ".torn.parquet.tmp").write_bytes(b"half")
    everywhere = [path for place in ("segments/*/*", "packs/*") for path in store.path.glob(place)]
    for path in everywhere:
        os.utime(path, (clock.now().timestamp() - DAY_S + 60,) * 2)
    assert store.upkeep(grace=timedelta(days=2)).collected == 0
    for path in everywhere:
        os.utime(path, (clock.now().timestamp() - DAY_S - 60,) * 2)
    assert store.upkeep(grace=timedelta(days=2)).collected == 3  # the pack, the segment, the torn file
    assert store.table("actuals").num_rows == 6_000 * FAN_IN
    assert len(list((store.path / "packs").iterdir())) == 1
    assert store.info().retired == FAN_IN


def test_a_file_that_gets_its_name_while_orphans_are_looked_for_disturbs_nobody(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer renames what it wrote between two looks at it."""
    merged(store)
    torn = store.path / "segments" / "actuals" / ".torn.parquet.tmp"
    torn.write_bytes(b"half")
    look = Path.stat

    def renamed_after(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        seen = look(path, follow_symlinks=follow_symlinks)
        if path == torn:
            path.unlink()
        return seen

    monkeypatch.setattr(Path, "stat", renamed_after)
    store.upkeep()
    assert not torn.exists()
    assert store.table("actuals").num_rows == 6_000 * FAN_IN


# ----------------------------------------------------------------------------------------------------------- readers


def test_a_reader_is_seen_while_it_reads_and_its_file_goes_with_it(tmp_path: Path) -> None:
    one = Presence(tmp_path)
    assert present(tmp_path) == []
    with one.reading() as first:
        assert present(tmp_path, tidy=True) == [0]
        one.stand(first, 7)
        with one.reading() as second:
            one.stand(second, 9)
            assert present(tmp_path) == [7]
        assert present(tmp_path) == [7]
    assert present(tmp_path, tidy=True) == []
    assert list((tmp_path / "readers").iterdir()) == []
    with one.reading() as third:  # its idle file was taken away: it makes another
        assert present(tmp_path) == [0]
        one.stand(third, 11)
        assert present(tmp_path) == [11]
    one.close()
    assert list((tmp_path / "readers").iterdir()) == []


def test_the_oldest_running_question_counts_and_then_the_next(tmp_path: Path) -> None:
    one = Presence(tmp_path)
    first = one.reading()
    one.stand(first.__enter__(), 3)
    with one.reading() as second:
        one.stand(second, 8)
        first.__exit__(None, None, None)
        assert present(tmp_path) == [8]
    one.close()


def test_a_reader_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    script = """
        import signal, sys
        from pathlib import Path
        from store.readers import Presence
        signal.alarm(60)
        with Presence(Path(sys.argv[1])).reading():
            print("here", flush=True)
            signal.pause()
    """
    reader = start(script, tmp_path)
    assert reader.stdout is not None
    reader.stdout.readline()
    assert present(tmp_path) == [0]
    reader.send_signal(signal.SIGKILL)
    reader.communicate(timeout=60)
    assert present(tmp_path, tidy=True) == []
    assert list((tmp_path / "readers").iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_read_without_a_lock(store: Store) -> None:
    insert(store, "actuals", [reading("a", 0, 1.0)])
    store.path.chmod(0o555)
    try:
        with Store.open(store.path, read_only=True) as looking:
            assert values(looking) == [1.0]
            assert not (store.path / "readers").exists()
    finally:
        store.path.chmod(0o755)


def test_a_reader_refused_its_file_reads_all_the_same(store: Store) -> None:
    insert(store, "actuals", [reading("a", 0, 1.0)])
    (store.path / "readers").write_bytes(b"in the way")
    assert values(store) == [1.0]
    assert values(store) == [1.0]


# ----------------------------------------------------------------------------------------------- crashes, processes

KEEPER = """
    import os, signal, sys
    from datetime import timedelta
    from pathlib import Path
    import store.catalog.reader, store.files
    from store import Store
    path, last = sys.argv[1], int(sys.argv[2])
    seen = 0

    def counted(act):
        def step(*args, **more):
            global seen
            seen += 1
            if seen == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return act(*args, **more)
        return step

    store.files.Writing.__enter__ = counted(store.files.Writing.__enter__)
    store.files.Writing.write = counted(store.files.Writing.write)
    Path.rename, Path.unlink = counted(Path.rename), counted(Path.unlink)
    store.files.sync_folder = counted(store.files.sync_folder)
    store.catalog.reader.Writer = counted(store.catalog.reader.Writer)
    store.catalog.writer.Writer.add_segment = counted(store.catalog.writer.Writer.add_segment)
    with Store.open(path) as opened:
        opened.upkeep(fold_after=timedelta(0), grace=timedelta(0))
    print(seen)
"""


@pytest.mark.slow
def test_a_kill_anywhere_in_upkeep_changes_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keeper is killed at step after step of the same upkeep; what one left, the next finds."""
    monkeypatch.setattr("store.upkeep.SMALL_BYTES", -1)
    monkeypatch.setattr("store.upkeep.BULK_FACTOR", -1)
    path = tmp_path / "s"
    names = ("actuals", "actuals_all", "alerts", "metrics")

    def answers() -> list[list[dict[str, object]]]:
        with Store.open(path) as store:
            assert store.sql("select count(*) as n from runs").rows() == [{"n": 4}]
            return [store.sql(f"select * from {name}__v order by all").rows() for name in names]

    with Store.open(path) as store:
        insert(store, "runs", [{"run_id": str(i)} for i in range(4)])
        monkeypatch.setattr("store.writing.SEGMENT_ROWS", 3)
        for turn in range(FAN_IN):
            insert(store, "metrics", [{"run_id": f"{turn}{i}", "name": "m", "value": 1.0} for i in range(4)])
            replace(store, "actuals", [reading("a", hour * 9_000, float(turn)) for hour in range(4)])
            replace(store, "alerts", [{"alert_id": str(i), "text": str(turn)} for i in range(4)])
    before = answers()
    killed = 0
    for step in (1, 2, 3, 5, 8, 13, 19, 26, 34, 43, 53, 64, 10_000):
        process = start(KEEPER, path, step)
        _, told = process.communicate(timeout=120)
        assert process.returncode in (0, -signal.SIGKILL), told
        killed += process.returncode == -signal.SIGKILL
        assert answers() == before
        if process.returncode == 0:
            break
    assert killed >= 5
    with Store.open(path) as store:
        assert store.info().tables["alerts"] == 4
        assert store.info().levels["metrics"] == {2: 1}


def test_writers_upkeep_and_readers_at_once_lose_and_tear_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s"
    Store.open(path).close()
    from tests.store.test_processes import WRITER

    keeper = """
        import sys
        from datetime import timedelta
        from store import Store
        from store.errors import StoreBusy
        with Store.open(sys.argv[1]) as store:
            print("ready", flush=True)
            while store.head() < int(sys.argv[2]):
                try:
                    store.upkeep(fold_after=timedelta(0), grace=timedelta(0))
                except StoreBusy:
                    pass
    """
    writers = [start(WRITER, path, name, 20) for name in ("one", "two")]
    keeping = start(keeper, path, 40)
    seen = []
    with Store.open(path, read_only=True) as looking:
        while keeping.poll() is None:
            seen.append(len(whole_commits_at(looking)))
        acknowledged = {line for writer in writers for line in finish(writer).split()}
        finish(keeping)
        assert len(acknowledged) == 40
        assert whole_commits(looking) == acknowledged
    assert seen == sorted(seen)
    assert len(seen) > 3
    with Store.open(path) as store:
        assert store.info().levels["actuals"].keys() <= {0, 2}


def test_threads_read_while_another_keeps_up(store: Store) -> None:
    merged(store)
    stop = threading.Event()
    wrong = []

    def read() -> None:
        try:
            while not stop.is_set():
                assert store.table("actuals", assets=["asset-00011"]).num_rows == 1_000
        except BaseException as error:  # noqa: BLE001 a thread's failure must reach the test
            wrong.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for turn in range(FAN_IN):
        insert(store, "actuals", readings(6, 1_000, first=1_000 + 10 * turn))
        store.upkeep(grace=AT_ONCE)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_folder_of_an_earlier_release_is_read_as_it_is_and_kept_up_when_written(store: Store) -> None:
    insert(store, "actuals", [reading("a", 0, 1.0)])
    store.close()
    connection = sqlite3.connect(store.path / "catalog.sqlite")
    connection.executescript("DROP TABLE retired; ALTER TABLE tables DROP COLUMN since;")
    connection.close()
    with Store.open(store.path, read_only=True) as looking:
        assert values(looking) == [1.0]
        assert looking.info().retired == 0
    with Store.open(store.path) as opened:
        insert(opened, "actuals", [reading("a", 1, 2.0)])
        assert opened.upkeep().flushed["actuals"] == 2
        assert values(opened) == [1.0, 2.0]
