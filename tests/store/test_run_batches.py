"""A batch writes many runs in one commit: each whole or not at all, and one that fails takes no other with it."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest

from store import FixedClock, Run, Store
from store.errors import SchemaMismatch, StoreError, WrongState
from store.tracking import Batch
from store.tracking import batch as batches


def log(run: Run, i: int) -> None:
    run.log_metrics({f"m{k}": k + i for k in range(10)})
    run.log_model(b"model %d" % i)
    run.log_text(f"note {i}", "note.txt")
    run.set_tags({"i": i})
    run.log_params({"late": i})


def whole(store: Store) -> list[str]:
    """The assets of the runs in a store, after checking that each run is there with all it logged."""
    runs = store.sql("select r.run_id, r._v, r.asset_id, r.params from runs__v r order by asset_id").rows()
    for run in runs:
        i = json.loads(run["params"])["i"]
        asked = {"id": run["run_id"]}
        metrics = store.sql("select name, value, _v from metrics__v where run_id = $id", asked).rows()
        assert {m["name"]: m["value"] for m in metrics} == {f"m{k}": float(k + i) for k in range(10)}
        (version,) = store.sql("select sha256, asset_id, _v from versions__v where run_id = $id", asked).rows()
        assert (store.blob(version["sha256"]), version["asset_id"]) == (b"model %d" % i, run["asset_id"])
        assert {m["_v"] for m in metrics} == {version["_v"]} == {run["_v"]}
        again = store.resume(run["run_id"])
        assert (again.artifact("note.txt").decode(), again.tags) == (f"note {i}", {"i": i})
        assert again.params == {"i": i, "late": i}
    return [run["asset_id"] for run in runs]


def test_a_batch_is_one_commit_and_one_pack(store: Store) -> None:
    with store.batch() as batch:
        for i in range(20):
            with batch.run(asset=f"a{i:02d}", recipe="r", params={"i": i}) as run:
                log(run, i)
        assert (store.head(), run.status) == (0, "ok")
        assert "20 waiting" in repr(batch)
    assert (store.head(), store.info().packs) == (1, 1)
    assert whole(store) == [f"a{i:02d}" for i in range(20)]
    assert store.runs(batch=batch.id).status.tolist() == ["ok"] * 20


def test_a_batch_commits_every_so_many_that_have_ended(store: Store) -> None:
    heads = []
    with store.batch(every=3) as batch:
        for i in range(8):
            log(batch.run(asset=f"a{i}", params={"i": i}), i)
            heads.append(store.head())
        assert heads == [0] * 8  # none has ended
        for run in batch.open:
            run.end()
            heads.append(store.head())
        assert heads[8:] == [0, 0, 1, 1, 1, 2, 2, 2]
        assert batch.commit() == 2
        assert batch.commit() == 0
    assert store.head() == 3
    assert len(whole(store)) == 8
    for every in (0, -1):
        with pytest.raises(SchemaMismatch):
            store.batch(every=every)


def test_a_run_that_fails_takes_no_other_with_it(store: Store) -> None:
    with store.batch() as batch:
        for i in range(3):
            with suppress(ZeroDivisionError), batch.run(asset=f"a{i}", params={"i": i}) as run:
                log(run, i)
                assert 1 / (i - 1)
    frame = store.runs(order_by="asset_id")
    assert frame.status.tolist() == ["ok", "failed", "ok"]
    assert frame.error_code[1] == "zero-division-error"
    assert len(whole(store)) == 3


@pytest.mark.parametrize(("error", "status"), [(ValueError("x"), "failed"), (KeyboardInterrupt(), "killed")])
def test_what_was_logged_before_an_exception_is_kept(store: Store, error: BaseException, status: str) -> None:
    def work(batch: Batch) -> None:
        for i in range(3):
            run = batch.run(asset=f"a{i}", params={"i": i})
            log(run, i)
            if i < 2:
                run.end()
        raise error

    with pytest.raises(type(error)), store.batch() as batch:
        work(batch)
    assert whole(store) == ["a0", "a1", "a2"]
    assert store.runs(order_by="asset_id").status.tolist() == ["ok", "ok", status]


def test_what_is_wrong_is_told_at_once_and_spoils_nothing(store: Store) -> None:
    with store.batch() as batch:
        run = batch.run(asset="a", params={"i": 0})
        log(run, 0)
        naive = datetime(2024, 1, 1)  # noqa: DTZ001 - it shall be refused
        for act in (
            lambda: run.log_metric("bad", 1.0, time=naive),
            lambda: run.log_metric("bad", 1.0, step=1.5),  # type: ignore[arg-type]
            lambda: run.log_params({"bad": object()}),
            lambda: batch.run(asset="a", product=1.5),
            lambda: batch.run(asset="a", kind=b"x"),
        ):
            with pytest.raises(SchemaMismatch):
                act()
        with pytest.raises(TypeError):
            batch.run(asset="a", colour="red")
    assert whole(store) == ["a"]


def test_a_batch_is_used_inside_its_block(store: Store) -> None:
    batch = store.batch()
    with pytest.raises(WrongState):
        batch.run(asset="a")
    with batch:
        run = batch.run(asset="a", params={"i": 0})
        log(run, 0)
    for act in (lambda: batch.run(asset="b"), lambda: run.log_metric("late", 1.0)):
        with pytest.raises(WrongState):
            act()
    assert whole(store) == ["a"]


def test_many_bytes_do_not_wait_in_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_WAITING_BYTES", 30)
    with store.batch() as batch:
        for i in range(10):
            with batch.run(asset=f"a{i}", params={"i": i}) as run:
                log(run, i)
        assert store.info().packs > 1
        assert len(store.runs()) == 0
    assert len(whole(store)) == 10


def test_what_a_commit_could_not_write_is_written_by_the_next(store: Store) -> None:
    with store.batch(every=2) as batch:
        log(batch.run(asset="a", params={"i": 1}), 1)
        packs = store.path / "packs"
        packs.write_text("in the way")  # a full disk, as far as the batch can tell
        first, second = batch.open[0], batch.run(asset="b", params={"i": 2})
        log(second, 2)
        first.end()
        with pytest.raises(StoreError):
            second.end()
        assert store.head() == 0
        packs.unlink()
    assert whole(store) == ["a", "b"]


def test_threads_share_a_batch(store: Store) -> None:
    failures: list[BaseException] = []

    def work(me: int) -> None:
        try:
            for turn in range(8):
                i = me * 100 + turn
                with batch.run(asset=f"a{i:03d}", params={"i": i}) as run:
                    log(run, i)
        except BaseException as error:  # noqa: BLE001 a thread's failure must reach the test
            failures.append(error)

    with store.batch(every=5) as batch:
        threads = [threading.Thread(target=work, args=(me,)) for me in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    assert whole(store) == sorted(f"a{me * 100 + turn:03d}" for me in range(4) for turn in range(8))


def test_a_batch_may_be_part_of_a_run(store: Store, clock: FixedClock) -> None:
    with store.run(recipe="sweep") as sweep:
        with store.batch(parent=sweep) as batch:
            outer = batch.run(asset="a")
            with outer.child(asset="b") as inner:
                clock.advance(seconds=2)
        assert batch.id == sweep.id
    assert set(store.runs(batch=sweep.id).run_id) == {sweep.id, outer.id, inner.id}
    assert store.runs(parent=sweep).run_id.tolist() == [outer.id]
    assert store.runs(parent=outer).run_id.tolist() == [inner.id]
    assert store.runs(asset="b").duration_s.tolist() == [2.0]


def test_an_empty_batch_commits_nothing(store: Store, tmp_path: Path) -> None:
    with store.batch():
        pass
    assert store.head() == 0
