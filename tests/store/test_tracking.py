"""Runs logged from a notebook are visible at once, end with a status, and keep what was logged, typed."""

from __future__ import annotations

import enum
import json
import math
import pickle
import sys
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import FixedClock, Run, Store, StoreError, environment
from store.errors import AlreadyExists, InvalidId, NotFound, ReadOnly, SchemaMismatch, WrongProcess, WrongState
from store.tracking.values import RESERVED


class Model:
    codec = "mine"

    def save(self) -> bytes:
        return b"weights"


class Shout(enum.StrEnum):
    LOUD = "loud"


def row(store: Store) -> dict[str, Any]:
    (found,) = store.sql("select * from runs").rows()
    return found


def own_tags(store: Store) -> dict[str, Any]:
    """The tags without where the run was made, which is another on every machine."""
    tags = json.loads(row(store)["tags"])
    assert tags.pop("environment") == json.loads(json.dumps(environment.captured().told()))
    return dict(tags)


def test_a_run_is_kept_from_beginning_to_end(store: Store, clock: FixedClock, tmp_path: Path) -> None:
    figure = tmp_path / "fig.png"
    figure.write_bytes(b"png")
    with store.run(asset="plant-7", recipe="my-gbm", params={"lags": 48}, library="lightgbm") as run:
        assert row(store)["status"] == "running"
        run.log_metrics({"mae": 3.2, "rmse": 4.0})
        run.log_metric("mae", 3.0, step=1)
        run.log_params({"depth": 3})
        run.set_tags({"who": "me"})
        version = run.log_model(Model())
        raw = run.log_model(b"bytes")
        (kept,) = run.log_artifact(figure)
        clock.advance(seconds=90)
    told = row(store)
    assert (told["status"], told["duration_s"], told["product"]) == ("ok", 90.0, "default")
    assert (told["started_at"], told["ended_at"]) == (clock.now() - timedelta(seconds=90), clock.now())
    assert told["library_version"] == environment.version_of("lightgbm")
    assert told["code_version"] == environment.captured().code_version
    assert told["batch_id"] == run.id == told["run_id"]
    assert json.loads(told["params"]) == {"depth": 3, "lags": 48}
    held = {"kind": "file", "bytes": 3, "sha256": kept.sha256}
    assert own_tags(store) == {"artifacts": {"fig.png": held}, "who": "me"}
    metrics = store.sql("select name, step, value from metrics order by name, step nulls first").rows()
    assert [tuple(m.values()) for m in metrics] == [("mae", None, 3.2), ("mae", 1, 3.0), ("rmse", None, 4.0)]
    models = {m["version_id"]: m for m in store.sql("select * from versions").rows()}
    assert (models[version]["codec"], models[raw]["codec"], models[raw]["run_id"]) == ("mine", "bytes", run.id)
    assert store.blob(models[version]["sha256"]) == b"weights"
    assert store.blob(kept.sha256) == b"png"
    assert store.runs(where="recipe = 'my-gbm'").status.tolist() == ["ok"]


def test_a_run_over_many_assets_has_none(store: Store) -> None:
    with store.run(params={"n": 1}) as run:
        run.log_metrics({"mean_mae": 1.0})
        run.log_model(b"global model")
    for table in ("runs", "metrics", "versions"):
        (found,) = store.table(table).to_pylist()
        assert (found["asset_id"], found["recipe"]) == (None, None)


# ------------------------------------------------------------------------------------------------------- endings


class Strange(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "status", "code", "text"),
    [
        (ZeroDivisionError("division by zero"), "failed", "zero-division-error", "ZeroDivisionError: division by zero"),
        (ValueError("two\nlines\ud800"), "failed", "value-error", "ValueError: two lines?"),
        (NotFound("no such"), "failed", "not-found", "store.errors.NotFound: no such"),
        (SyntaxError("bad", ("f.py", 3, 1, "x ="))  , "failed", "syntax-error", "SyntaxError: bad"),
        (Strange(), "failed", "strange", "tests.store.test_tracking.Strange: <exception str() failed>"),
        (KeyboardInterrupt(), "killed", "keyboard-interrupt", "KeyboardInterrupt"),
        (SystemExit(3), "killed", "system-exit", "SystemExit: 3"),
        (SystemExit(0), "ok", None, None),
        (GeneratorExit(), "killed", "generator-exit", "GeneratorExit"),
    ],
)  # fmt: skip
def test_what_ended_a_run_is_recorded_and_goes_on(
    store: Store, error: BaseException, status: str, code: str | None, text: str | None
) -> None:
    with pytest.raises(type(error)) as caught, store.run(asset="a", recipe="r"):
        raise error
    assert caught.value is error
    found = row(store)
    assert (found["status"], found["error_code"], found["error"]) == (status, code, text)


def test_a_long_message_is_cut(store: Store) -> None:
    with pytest.raises(ValueError, match="x"), store.run():
        raise ValueError("x" * 100_000)
    assert len(row(store)["error"]) < 3_000


def test_a_run_may_begin_and_end_without_a_block(store: Store) -> None:
    run = store.run(asset="a", recipe="r").begin()
    run.end("failed", ValueError("late"))
    run.end()
    assert (row(store)["status"], row(store)["error_code"]) == ("failed", "value-error")


def test_a_run_ends_well_after_a_flush_in_between(store: Store) -> None:
    with store.run(asset="a", recipe="r") as run:
        store.flush()
        run.set_tags({"a": 1})
        store.flush()
    assert row(store)["status"] == "ok"
    store.flush()
    assert (row(store)["status"], own_tags(store)) == ("ok", {"a": 1})


def test_only_a_running_run_takes_what_is_logged(store: Store) -> None:
    run = store.run(asset="a", recipe="r")
    acts: list[Callable[[], object]] = [
        lambda: run.log_metrics({"mae": 1.0}), lambda: run.log_params({"late": True}), lambda: run.set_tags({"a": 1}),
        lambda: run.set_note("late"), lambda: run.log_model(b""), lambda: run.log_text("", "a.txt"),
        lambda: run.log_history({"a": [1]}),
    ]  # fmt: skip
    for act in [*acts, run.end, run.child]:
        with pytest.raises(WrongState):
            act()
    assert store.head() == 0
    with run:
        assert isinstance(run, Run)
    head = store.head()
    for act in [*acts, run.begin]:
        with pytest.raises(WrongState) as caught:
            act()
        assert "resume" in caught.value.hint
    assert store.head() == head


def test_what_cannot_be_logged_is_refused(store: Store) -> None:
    with store.run(asset="a", recipe="r") as run:
        with pytest.raises(StoreError, match="save"):
            run.log_model(object())  # type: ignore[arg-type]
        with pytest.raises(NotFound):
            run.log_artifact("/nowhere/fig.png")
    with pytest.raises(InvalidId):
        store.run(asset="a\n", recipe="r")
    with pytest.raises(WrongProcess) as caught:
        pickle.dumps(run)
    assert "resume" in caught.value.hint


def test_a_store_for_reading_runs_nothing_and_shows_everything(store: Store, tmp_path: Path) -> None:
    with store.run(asset="a", recipe="r", params={"x": 1}) as run:
        run.log_text("hello", "a.txt")
    with Store.open(store.path, read_only=True) as reader:
        found = reader.resume(run.id)
        assert (found.params, found.artifact("a.txt")) == ({"x": 1}, b"hello")
        for act in (reader.delete_run, reader.restore_run, reader.tag_run):
            with pytest.raises(ReadOnly):
                act(run.id)
        for entered in (reader.run(), found, reader.batch()):
            with pytest.raises(ReadOnly), entered:
                pass


# ------------------------------------------------------------------------------------------------------- parameters

texts = st.text(st.characters(codec="utf-8"), max_size=8)
numbers = st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(params=st.dictionaries(names, json_values, max_size=4))
def test_parameters_come_back_as_they_were_told(store: Store, params: dict[str, Any]) -> None:
    with store.run(params=params) as run:
        run.log_params(params)
    again = store.resume(run.id).params
    # As text, for to Python 1, 1.0 and True are equal.
    assert json.dumps(again, sort_keys=True) == json.dumps(params, sort_keys=True)
    (found,) = store.sql("select params from runs where run_id = $id", {"id": run.id}).rows()
    assert json.dumps(json.loads(found["params"]), sort_keys=True) == json.dumps(params, sort_keys=True)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.array([24, 48]), [24, 48]),
        (np.array(2.5), 2.5),
        (np.datetime64("2024-06-01T12:00:00.5", "ns"), "2024-06-01T12:00:00.500000"),
        (np.array(["2024-06-01"], "M8[ns]"), ["2024-06-01T00:00:00"]),
        (np.timedelta64(90, "s"), "90s"),
        (pd.Timestamp("2024-06-01T12:00", tz="Europe/London"), "2024-06-01T12:00:00+01:00"),
        (pd.NaT, None),
        (pd.Series([1, 2]), [1, 2]),
        (pd.Timedelta("1D"), "86400s"),
        (timedelta(microseconds=-1), "-1us"),
        (datetime(2024, 6, 1, 12, tzinfo=timezone(timedelta(hours=2))), "2024-06-01T12:00:00+02:00"),
        (date(2024, 6, 1), "2024-06-01"),
        (Path("a/b.toml"), "a/b.toml"),
        (PurePosixPath("/x"), "/x"),
        (Shout.LOUD, "loud"),
        ((1, (2, 3)), [1, [2, 3]]),
        ({3, 1, 2}, [1, 2, 3]),
        (range(3), [0, 1, 2]),
        ({1: "a", "b": None}, {"1": "a", "b": None}),
        (math.nan, "nan"),
        (np.float64("inf"), "inf"),
        (-math.inf, "-inf"),
    ],
)
def test_what_json_has_not_is_written_faithfully(store: Store, given: Any, kept: Any) -> None:
    with store.run(params={"p": given}) as run:
        run.log_params({"p": given})
    found = json.loads(row(store)["params"])["p"]
    assert (found, type(found)) == (kept, type(kept))


def test_infinite_parameters_are_numbers_again_in_sql(store: Store) -> None:
    with store.run(params={"a": math.inf, "b": math.nan}):
        pass
    query = "select (params->>'a')::double as a, (params->>'b')::double as b from runs"
    (found,) = store.sql(query).rows()
    assert found["a"] == math.inf
    assert math.isnan(found["b"])


def endless() -> list[Any]:
    inner: list[Any] = []
    inner.append(inner)
    return inner


@pytest.mark.parametrize(
    "bad",
    [
        object(), uuid4(), b"bytes", 1j, 1 << 64, "\ud800", {"deep": {"\udfff": 1}}, {1.5: 1}, {1: "a", "1": "b"},
        pd.DataFrame({"a": [1]}), endless(), "x" * 100_000, list(range(30_000)), np.array([object()]), sys, print,
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_parameter_that_cannot_be_written_is_named(store: Store, bad: Any) -> None:
    with pytest.raises(SchemaMismatch, match="culprit"):
        store.run(params={"fine": 1, "culprit": bad})
    with pytest.raises(SchemaMismatch, match="culprit"):
        store.run(tags={"culprit": bad})
    with store.run() as run:
        with pytest.raises(SchemaMismatch, match="culprit"):
            run.log_params({"fine": 1, "culprit": bad})
        with pytest.raises(SchemaMismatch, match="culprit"):
            run.set_tags({"culprit": bad})
    assert json.loads(row(store)["params"]) == {}


@pytest.mark.parametrize("name", ["", "a\nb", "\ud800", "x" * 600, 3, None])
def test_a_name_is_text_that_can_be_shown(store: Store, name: Any) -> None:
    with store.run() as run:
        for act in (run.log_params, run.set_tags, run.log_metrics):
            with pytest.raises(SchemaMismatch):
                act({name: 1})


def test_a_parameter_does_not_change_in_silence(store: Store) -> None:
    with store.run(params={"lags": 48, "on": True}) as run:
        head = store.head()
        run.log_params({"lags": 48, "on": True})
        assert store.head() == head
        for other in ({"lags": 24}, {"lags": 48.0}, {"on": 1}):
            with pytest.raises(AlreadyExists):
                run.log_params(other | {"depth": 3})
        assert run.params == {"lags": 48, "on": True}
        run.log_params({"lags": 24, "on": 1}, replace=True)
    assert row(store)["params"] == '{"lags":24,"on":1}'


# ------------------------------------------------------------------------------------------------------- metrics


def test_metrics_keep_step_and_time_and_what_is_no_number(store: Store, clock: FixedClock) -> None:
    then = datetime(2024, 1, 1, tzinfo=UTC)
    with store.run(asset="a", recipe="r", library="l") as run:
        run.log_metric("x", math.nan)
        run.log_metrics({"x": math.inf, "y": np.float32(0.5)}, 2, then)  # type: ignore[dict-item]
        assert store.sql("select count(*) as n from metrics").rows() == [{"n": 3}]
    found = store.sql("select * exclude (run_id) from metrics order by name, step nulls first").rows()
    about = {"asset_id": "a", "recipe": "r", "library": "l"}
    assert math.isnan(found[0].pop("value"))
    assert found[0] == about | {"name": "x", "step": None, "time": clock.now()}
    assert found[1:] == [
        about | {"name": "x", "step": 2, "time": then, "value": math.inf},
        about | {"name": "y", "step": 2, "time": then, "value": 0.5},
    ]
    assert run.metrics() == {"x": math.inf, "y": 0.5}


@pytest.mark.parametrize("bad", [None, "3", b"3", 1j, [1.0], 10**400, object()])
def test_a_metric_is_a_number_or_refused_by_name(store: Store, bad: Any) -> None:
    with store.run() as run:
        with pytest.raises(SchemaMismatch, match="culprit"):
            run.log_metrics({"fine": 1.0, "culprit": bad})
        with pytest.raises(SchemaMismatch, match="culprit"):
            run.log_history({"fine": [1.0], "culprit": [bad]})
    assert store.table("metrics").num_rows == 0


def test_a_history_is_one_commit(store: Store, clock: FixedClock) -> None:
    with store.run(asset="a") as run:
        head = store.head()
        run.log_history({"loss": np.array([3.0, 2.0, 1.0]), "val": [4, 3, 5]})
        run.log_history({"late": [1.0, 2.0]}, steps=[10, 20], times=pd.date_range("2024", periods=2, tz="UTC"))  # type: ignore[arg-type]
        run.log_history({"none": []})
        assert store.head() == head + 2
        assert run.history("loss").to_dict("list") == {
            "step": [0, 1, 2], "time": [clock.now()] * 3, "value": [3.0, 2.0, 1.0],
        }  # fmt: skip
        assert run.history("late")["step"].tolist() == [10, 20]
        assert run.metrics() == {"late": 2.0, "loss": 1.0, "val": 5.0}
        with pytest.raises(SchemaMismatch, match="loss"):
            run.log_history({"loss": [1.0, 2.0]}, steps=[1])
        with pytest.raises(SchemaMismatch, match="loss"):
            run.log_history({"loss": 3.0})  # type: ignore[dict-item]


def test_a_long_history_is_whole(store: Store) -> None:
    with store.run(asset="a") as run:
        run.log_history({"loss": np.arange(7_000.0)})
        assert run.history("loss")["value"].tolist() == list(range(7_000))


def test_the_last_value_is_that_of_the_largest_step_then_the_latest(store: Store, clock: FixedClock) -> None:
    with store.run() as run:
        run.log_metric("x", 5.0, step=5)
        clock.advance(hours=1)
        run.log_metric("x", 1.0)
        run.log_metric("x", 4.0, step=4)
        assert run.metrics() == {"x": 5.0}
        run.log_metric("x", 6.0, step=5)
        assert run.metrics() == {"x": 6.0}


def test_threads_share_a_run(store: Store) -> None:
    failures: list[BaseException] = []

    def work(run: Run, me: int) -> None:
        try:
            for turn in range(25):
                run.log_metric(f"m{me}", float(turn), step=turn)
                run.log_params({f"p{me}-{turn}": turn})
                run.set_tags({f"t{me}": turn})
            run.log_text(str(me), f"{me}.txt")
            with run.child(asset=f"a{me}") as child:
                child.log_metric("own", me)
        except BaseException as error:  # noqa: BLE001 a thread's failure must reach the test
            failures.append(error)

    with store.run(recipe="threads") as run:
        threads = [threading.Thread(target=work, args=(run, me)) for me in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    again = store.resume(run.id)
    assert again.params == {f"p{me}-{turn}": turn for me in range(4) for turn in range(25)}
    assert again.tags == {f"t{me}": 24 for me in range(4)}
    assert [one.name for one in again.artifacts()] == [f"{me}.txt" for me in range(4)]
    counts = store.sql("select name, count(*) as n from metrics group by name order by name").rows()
    assert {c["name"]: c["n"] for c in counts} == {f"m{me}": 25 for me in range(4)} | {"own": 4}
    assert len(store.runs(parent=run)) == 4


# ------------------------------------------------------------------------------------------------------- tags


def test_tags_and_notes_come_and_go(store: Store) -> None:
    with store.run(tags={"team": "x", "n": 1}, note="first try") as run:
        run.set_tags({"n": 1.0, "late": [1, "a"]})
        run.remove_tags("team", "never there")
        assert (run.tags, run.note) == ({"n": 1.0, "late": [1, "a"]}, "first try")
        run.set_note("second\nthought")
    assert own_tags(store) == {"n": 1.0, "late": [1, "a"], "note": "second\nthought"}
    assert '"n":1.0' in row(store)["tags"]
    with store.resume(run.id) as again, pytest.raises(SchemaMismatch):
        again.set_note(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [*RESERVED, "artifact/x"])
def test_the_stores_own_tags_are_refused_from_users(store: Store, name: str) -> None:
    with pytest.raises(SchemaMismatch, match=name):
        store.run(tags={name: "x"})
    with store.run() as run:
        for act in (lambda: run.set_tags({name: "x"}), lambda: run.remove_tags(name)):
            with pytest.raises(SchemaMismatch, match=name):
                act()
    with pytest.raises(SchemaMismatch, match=name):
        store.tag_run(run.id, {name: "x"})


# ------------------------------------------------------------------------------------------------------- children


def test_children_share_a_batch_and_name_their_parent(store: Store) -> None:
    with store.run(recipe="sweep") as sweep:
        with sweep.child(asset="a", recipe="r", params={"lags": 24}) as first, first.child("a", "inner") as inner:
            pass
        with pytest.raises(ValueError, match="no"), sweep.child(asset="b"):
            raise ValueError("no")
    with store.run(asset="late", parent=sweep.id):
        pass
    found = {r["run_id"]: r for r in store.sql("select * from runs").rows()}
    assert {r["batch_id"] for r in found.values()} == {sweep.id}
    parents = {run_id: json.loads(r["tags"]).get("parent") for run_id, r in found.items()}
    assert (parents[sweep.id], parents[first.id], parents[inner.id]) == (None, sweep.id, first.id)
    assert sorted(store.runs(parent=sweep).asset_id) == ["a", "b", "late"]
    assert sorted(store.runs(parent=sweep).status) == ["failed", "ok", "ok"]
    assert len(store.runs(batch=sweep.batch_id)) == 5
    with pytest.raises(NotFound):
        store.run(parent="nobody")


# ------------------------------------------------------------------------------------------------------- to look at


def test_a_run_is_shown_on_one_line_and_as_text_in_a_page(store: Store, clock: FixedClock) -> None:
    nasty = "<img src=x onerror=alert(1)>"
    with store.run(asset=nasty, recipe=nasty, params={nasty: nasty}, tags={nasty: nasty}, note=nasty) as run:
        run.log_metric(nasty, 1.23456)
        run.log_text(nasty, nasty)
        run.log_params({f"p{i}": "x" * 60_000 for i in range(40)})
        clock.advance(seconds=90)
    text = repr(run)
    assert "\n" not in text
    assert all(word in text for word in (run.id, "ok", "90.0 s", "1.235"))
    for shown in (run, store.resume(run.id)):
        page = shown._repr_html_()
        assert "<img" not in page
        assert "&lt;img" in page
        assert len(page) < 30_000
        assert all(word not in page for word in ("script", "http", "src=x onerror=alert(1)>"))
        assert "1.23456" in page
        assert "more" in page


def test_a_run_of_a_closed_store_can_still_be_shown(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store, store.run(asset="a") as run:
        run.log_metric("mae", 2.0)
    assert "mae" in run._repr_html_()
