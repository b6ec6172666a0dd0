"""Runs of several processes: what was logged is there, whoever is killed, and nobody overwrites what another wrote."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from store import FixedClock, Store, environment
from store.errors import AlreadyExists, NotFound, WrongState
from tests.store.test_processes import finish, rest, start

LOGGER = """
    import sys
    from store import Store
    path, name, turns = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with Store.open(path) as store:
        for turn in range(turns):
            with store.run(asset=name, recipe="r", params={"turn": turn}) as run:
                run.log_metrics({f"m{k}": turn for k in range(5)})
                run.log_text(f"{name} {turn}", "a.txt")
                run.log_params({"late": turn})
                print(run.id, flush=True)
"""


def test_processes_log_into_one_store(tmp_path: Path) -> None:
    path = tmp_path / "s"
    writers = [start(LOGGER, path, name, 6) for name in ("one", "two")]
    acknowledged = [line for writer in writers for line in finish(writer).split()]
    with Store.open(path) as store:
        frame = store.runs(metrics="m*")
        assert sorted(frame.run_id) == sorted(acknowledged)
        assert set(frame.status) == {"ok"}
        for _, found in frame.iterrows():
            turn = json.loads(found["params"])["turn"]
            assert json.loads(found["params"]) == {"turn": turn, "late": turn}
            assert [found[f"metrics.m{k}"] for k in range(5)] == [turn] * 5
            assert store.resume(found["run_id"]).artifact("a.txt").decode() == f"{found['asset_id']} {turn}"
        assert store.sql("select count(*) as n from metrics").rows() == [{"n": 60}]


ENDLESS = """
    import sys
    from store import Store
    with Store.open(sys.argv[1]) as store, store.run(asset="a", recipe="r", params={"lags": 48}, note="mine") as run:
        run.log_text("before", "a.txt")
        step = 0
        while True:
            run.log_metric("loss", 1.0, step=step)
            print(run.id, step, flush=True)
            step += 1
"""


def test_a_killed_run_keeps_every_acknowledged_value_and_goes_on_elsewhere(tmp_path: Path, clock: FixedClock) -> None:
    path = tmp_path / "s"
    Store.open(path).close()
    writer = start(ENDLESS, path)
    assert writer.stdout is not None
    lines = [writer.stdout.readline() for _ in range(20)]
    with Store.open(path, clock=clock) as store:
        assert store.runs(status="running").alive.tolist() == [True]
        writer.send_signal(signal.SIGKILL)
        lines += rest(writer).splitlines()
        steps = [int(line.split()[1]) for line in lines if line.strip()]
        run_id = lines[0].split()[0]
        (found,) = store.runs(status="running").to_dict("records")
        assert (found["run_id"], found["alive"], found["asset_id"]) == (run_id, False, "a")
        kept = store.resume(run_id).history("loss")["step"].tolist()
        assert kept[: len(steps)] == steps
        assert len(kept) <= len(steps) + 1
        clock.set(found["started_at"])
        with store.resume(run_id) as run:
            assert store.runs(status="running").alive.tolist() == [True]
            run.log_metric("loss", 0.5, step=10**6)
            run.log_params({"lags": 48, "more": 1})
            run.log_text("after", "b.txt")
            clock.advance(seconds=60)
        (found,) = store.sql("select * from runs").rows()
        assert (found["status"], found["duration_s"]) == ("ok", 60.0)
        assert json.loads(found["params"]) == {"lags": 48, "more": 1}
        again = store.resume(run_id)
        assert [again.artifact(one.name) for one in again.artifacts()] == [b"before", b"after"]
        told = json.loads(found["tags"])["environment"]
        assert (told["pid"], again.note, again.metrics()) == (os.getpid(), "mine", {"loss": 0.5})
        assert told["before"] == [{"code_version": found["code_version"], "host": told["host"]}]


BATCHED = """
    import itertools, sys
    from store import Store
    with Store.open(sys.argv[1]) as store, store.batch(every=4) as batch:
        for i in itertools.count():
            with batch.run(asset=str(i), params={"i": i}) as run:
                run.log_metrics({"x": i, "y": -i})
                run.log_model(b"model %d" % i)
            print(store.head(), i, flush=True)
"""


def test_a_killed_batch_keeps_whole_runs(tmp_path: Path) -> None:
    path = tmp_path / "s"
    Store.open(path).close()
    writer = start(BATCHED, path)
    assert writer.stdout is not None
    while int(writer.stdout.readline().split()[0]) < 5:
        continue
    writer.send_signal(signal.SIGKILL)
    last = rest(writer).splitlines()
    with Store.open(path) as store:
        frame = store.runs(metrics=["x", "y"], order_by="metrics.x")
        count = len(frame)
        assert count % 4 == 0
        assert count >= (4 * int(last[-1].split()[0]) if last and last[-1].count(" ") == 1 else 20)
        assert frame.asset_id.tolist() == [str(i) for i in range(count)]
        assert frame["metrics.y"].tolist() == [-i for i in range(count)]
        versions = store.sql("select asset_id, sha256 from versions order by asset_id::int").rows()
        assert [store.blob(v["sha256"]) for v in versions] == [b"model %d" % i for i in range(count)]
        assert set(frame.status) == {"ok"}


def test_a_run_taken_up_twice_adds_its_times_up(store: Store, clock: FixedClock) -> None:
    with store.run("a") as run:
        clock.advance(seconds=5)
    taken_up = store.resume(run.id).begin()
    clock.advance(seconds=7)
    taken_up.end("failed", ValueError("no"))
    (found,) = store.sql("select status, duration_s, error_code from runs").rows()
    assert found == {"status": "failed", "duration_s": 12.0, "error_code": "value-error"}
    with store.resume(run.id) as again:
        clock.advance(seconds=1)
        (found,) = store.sql("select status, ended_at, error from runs").rows()
        assert found == {"status": "running", "ended_at": None, "error": None}
    (found,) = store.sql("select status, duration_s, error_code, error from runs").rows()
    assert found == {"status": "ok", "duration_s": 13.0, "error_code": None, "error": None}
    with pytest.raises(WrongState):
        again.begin()
    with pytest.raises(NotFound):
        store.resume("nobody")


SHARER = """
    import sys
    from store import Store
    path, run_id, name = sys.argv[1:]
    with Store.open(path) as store, store.resume(run_id) as run:
        for turn in range(6):
            run.log_params({f"{name}{turn}": turn})
            run.set_tags({name: turn})
            run.log_text(name, f"{name}/{turn}.txt")
            store.tag_run(run_id, {f"outside-{name}": turn})
"""


def test_processes_that_share_a_run_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with Store.open(path) as store:
        with store.run("a", params={"first": 1}) as run:
            sharers = [start(SHARER, path, run.id, name) for name in ("x", "y")]
            for turn in range(6):
                run.log_params({f"z{turn}": turn})
            for sharer in sharers:
                finish(sharer)
            run.set_tags({"z": 5})
        found = store.resume(run.id)
        turns = {f"{name}{turn}": turn for name in "xyz" for turn in range(6)}
        assert found.params == {"first": 1} | turns
        assert found.tags == {"x": 5, "y": 5, "z": 5, "outside-x": 5, "outside-y": 5}
        assert len(found.artifacts()) == 12
        assert found.status == "ok"


def test_two_who_hold_a_run_see_each_others_words(store: Store) -> None:
    first = store.run("a", params={"p": 0}).begin()
    second = store.resume(first.id)
    first.log_params({"p1": 1})
    second.begin()
    assert second.params == {"p": 0, "p1": 1}
    first.log_params({"p2": 2})
    third = store.resume(first.id).begin()
    for turn, run in enumerate((first, third, second, first)):
        run.set_tags({f"t{turn}": turn})
    assert first.tags == {f"t{turn}": turn for turn in range(4)}
    with pytest.raises(AlreadyExists):
        third.log_params({"p1": "another"})
    third.end("failed")
    second.end()
    first.log_params({"p3": 3})
    first.end()
    found = store.resume(first.id)
    assert found.params == {"p": 0, "p1": 1, "p2": 2, "p3": 3}
    assert (found.tags, found.status) == (first.tags, "ok")


FORKED = """
    import os, sys
    from store import Store
    from store.errors import WrongProcess
    with Store.open(sys.argv[1]) as store, store.run("a") as run:
        child = os.fork()
        if child == 0:
            for act in (lambda: run.log_metric("m", 1.0), lambda: run.log_params({"p": 1}), run.end, store.batch):
                try:
                    act()
                except WrongProcess:
                    continue
                os._exit(1)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        run.log_metric("m", 2.0)
"""


def test_a_forked_child_cannot_log_into_its_parents_run(tmp_path: Path) -> None:
    assert finish(start(FORKED, tmp_path / "s")).strip() == "0"
    with Store.open(tmp_path / "s") as store:
        assert store.runs(metrics=["m"])["metrics.m"].tolist() == [2.0]


def test_whether_a_process_lives_is_known_on_its_machine_only() -> None:
    told = environment.captured().told()
    assert environment.alive(told) is True
    assert environment.alive(told | {"host": "elsewhere"}) is None
    assert environment.alive(told | {"started": 1}) is False  # its number was used again
    assert environment.alive({}) is None
    ended = start("pass")
    assert ended.wait(timeout=60) == 0  # waited for, so its number is free
    assert environment.alive(told | {"pid": ended.pid}) is False
    ended.communicate()
