"""Runs logged from a notebook are visible at once, end with a status, and keep what was logged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from store import FixedClock, Run, Store, StoreError
from store.errors import InvalidId, NotFound


class Model:
    codec = "mine"

    def save(self) -> bytes:
        return b"weights"


def row(store: Store) -> dict[str, object]:
    (found,) = store.sql("select * from runs").rows()
    return found


def test_a_run_is_kept_from_beginning_to_end(store: Store, clock: FixedClock, tmp_path: Path) -> None:
    figure = tmp_path / "fig.png"
    figure.write_bytes(b"png")
    with store.run(asset="plant-7", recipe="my-gbm", params={"lags": 48}, library="lightgbm") as run:
        assert row(store)["status"] == "running"
        run.log_metrics({"mae": 3.2, "rmse": 4.0})
        run.log_metrics({"mae": 3.0}, step=1)
        run.log_params({"depth": 3})
        run.set_tags({"who": "me"})
        version = run.log_model(Model())
        raw = run.log_model(b"bytes")
        sha = run.log_artifact(figure)
        clock.advance(seconds=90)
    told = row(store)
    assert (told["status"], told["duration_s"], told["product"]) == ("ok", 90.0, "default")
    assert json.loads(str(told["params"])) == {"depth": 3, "lags": 48}
    assert json.loads(str(told["tags"])) == {"artifact/fig.png": sha, "who": "me"}
    metrics = store.sql("select name, step, value from metrics order by name, step nulls first").rows()
    assert [tuple(m.values()) for m in metrics] == [("mae", None, 3.2), ("mae", 1, 3.0), ("rmse", None, 4.0)]
    models = {m["version_id"]: m for m in store.sql("select * from versions").rows()}
    assert (models[version]["codec"], models[raw]["codec"], models[raw]["run_id"]) == ("mine", "bytes", run.id)
    assert store.blob(str(models[version]["sha256"])) == b"weights"
    assert store.blob(sha) == b"png"
    assert store.runs(where="recipe = 'my-gbm'").status.tolist() == ["ok"]


def test_an_exception_marks_the_run_and_goes_on(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.run(asset="a", recipe="r"):
        1 / 0  # noqa: B018
    assert (row(store)["status"], row(store)["error_code"]) == ("failed", "zero-division-error")
    assert row(store)["error"] == "ZeroDivisionError: division by zero"


def test_an_interrupt_leaves_a_killed_run(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt), store.run(asset="a", recipe="r"):
        raise KeyboardInterrupt
    assert row(store)["status"] == "killed"


def test_a_run_ends_well_after_a_flush_in_between(store: Store) -> None:
    with store.run(asset="a", recipe="r"):
        store.flush()
    assert row(store)["status"] == "ok"
    store.flush()
    assert row(store)["status"] == "ok"


def test_what_cannot_be_logged_is_refused(store: Store) -> None:
    run = store.run(asset="a", recipe="r")
    with pytest.raises(StoreError, match="not begun"):
        run.log_metrics({"mae": 1.0})
    with run:
        with pytest.raises(StoreError, match="save"):
            run.log_model(object())  # type: ignore[arg-type]
        with pytest.raises(NotFound):
            run.log_artifact("/nowhere/fig.png")
    with pytest.raises(StoreError):
        run.log_params({"late": True})
    assert "ok" in repr(run)
    with pytest.raises(InvalidId):
        store.run(asset="a\n", recipe="r")
    assert isinstance(run, Run)
