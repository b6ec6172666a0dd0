"""Runs are found by keyword and by SQL, a keyword is never SQL, and what is deleted can be brought back."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from store import FixedClock, Run, Store, environment
from store.errors import NotFound, QueryInvalid, SchemaMismatch, WrongState


def told(store: Store, clock: FixedClock, asset: str | None, recipe: str = "r", **about: Any) -> Run:
    """A run that has ended, an hour after the one before."""
    clock.advance(hours=1)
    metrics = about.pop("metrics", {})
    with store.run(asset, recipe, **about) as run:
        if metrics:
            run.log_metrics(metrics)
    return run


def assets(store: Store, *args: Any, **asked: Any) -> list[str | None]:
    return [None if one != one else one for one in store.runs(*args, **asked).asset_id.tolist()]  # noqa: PLR0124 - NaN


def test_keywords_name_ids_or_patterns(store: Store, clock: FixedClock) -> None:
    told(store, clock, "plant-1", "gbm", kind="train", library="lightgbm", product="day")
    told(store, clock, "plant-2", "naive")
    told(store, clock, "plant[1]", "gbm")
    told(store, clock, "wind/7")
    told(store, clock, None, "all")
    with pytest.raises(ValueError, match="x"), store.run("late", "gbm"):
        raise ValueError("x")
    assert assets(store) == ["late", None, "wind/7", "plant[1]", "plant-2", "plant-1"]
    assert assets(store, asset="plant-*") == ["plant-2", "plant-1"]
    assert assets(store, asset="plant-?", recipe="gbm") == ["plant-1"]
    assert assets(store, asset=["wind*", "late"]) == ["late", "wind/7"]
    assert assets(store, asset="plant[1]") == ["plant[1]"]
    assert assets(store, asset=[]) == []
    assert assets(store, kind="train", library="light*", product="day", status="ok") == ["plant-1"]
    assert assets(store, status=["failed", "killed"]) == ["late"]
    assert assets(store, limit=2) == ["late", None]
    assert assets(store, "recipe = 'gbm' -- only these", 1, status="ok") == ["plant[1]"]


VALUES: dict[str, Any] = {
    "text": "x", "upper": "X", "digits": "48", "whole": 48, "one": 1, "yes": True, "no": False, "none": None, "zero": 0,
    "small": 1e-7, "large": 1 << 63, "nan": math.nan, "list": [1, "a", 1e-7], "turned": ["a", 1, 1e-7],
    "mapping": {"b": 1, "a": 2}, "sql": "it's; drop", "quoted": '"quoted"', "accent": "é", "empty": "", "nothing": [],
}  # fmt: skip
#: Asked for, and who has it: equal as numbers where both are numbers, else the same kind of value.
ASKED: list[tuple[Any, list[str]]] = [
    *((value, [name]) for name, value in VALUES.items()), (48.0, ["whole"]), ((1, "a", 1e-07), ["list"]),
    ({"a": 2, "b": 1}, ["mapping"]), ("nan", ["nan"]), (1.5, []), ("true", []), ("null", []), ("[]", []), ({}, []),
]  # fmt: skip


@pytest.mark.parametrize("where", ["params", "tags"])
def test_a_value_is_found_by_its_type(store: Store, where: str) -> None:
    with store.batch() as batch:
        for name, value in VALUES.items():
            batch.run(name, **{where: {"p": value, "other": 1}})
        batch.run("elsewhere", **{where: {"q": 48}})
    for value, found in ASKED:
        assert assets(store, **{where: {"p": value}}) == found, value
    assert assets(store, **{where: {"p": 48, "other": 1}}) == ["whole"]
    assert assets(store, **{where: {"p": 48, "other": 2}}) == []


NAMES = ["a/b", "a~b", "~1", "a.b", "$", "0", "a b", "it's", 'a"b', "é", "$b0", "a[0]", "' or 1=1 --", "\\"]


def test_a_name_is_found_whatever_it_holds(store: Store) -> None:
    with store.batch() as batch:
        for i, name in enumerate(NAMES):
            batch.run(name, params={name: 2}, tags={name: "x"}).log_metric(name, i)
    for i, name in enumerate(NAMES):
        assert assets(store, params={name: 2}, tags={name: "x"}) == [name]
        assert assets(store, order_by=[f"metrics.{name}"], limit=1) == [name]
        assert assets(store, order_by=[f"params.{name} desc"], limit=1) == [name]
        if "[" not in name:
            assert store.runs(metrics=[name], asset=name)[f"metrics.{name}"].tolist() == [i]


def test_a_keyword_is_never_sql(store: Store, clock: FixedClock) -> None:
    told(store, clock, "a", metrics={"m": 1.0})
    for attack in ("' or 1=1 --", "x'); drop table runs; --", '" or ""="', "$b0", "\\", "*' or '1'='1"):
        for asked in (
            {"asset": attack}, {"recipe": [attack]}, {"status": attack}, {"batch": attack}, {"parent": attack},
            {"tags": {attack: attack}}, {"params": {attack: 1}}, {"params": {"p": [attack]}},
        ):  # fmt: skip
            assert assets(store, **asked) == []
        assert store.runs(metrics=[attack]).filter(like="metrics.").isna().all(axis=None)
        assert assets(store, order_by=[f"metrics.{attack} desc", f"tags.{attack}"]) == ["a"]
        with pytest.raises(SchemaMismatch):
            store.runs(order_by=[attack])
    for order in ("started_at; select 1", "nothing", "", "metrics.", "started_at sideways"):
        with pytest.raises(SchemaMismatch):
            store.runs(order_by=[order])
    for where in ("1 = 1) ; drop table runs; select (1", "1=1; select 1"):
        with pytest.raises(QueryInvalid):
            store.runs(where=where)


def test_metrics_become_columns_and_conditions(store: Store, clock: FixedClock) -> None:
    told(store, clock, "a", metrics={"mae": 3.0, "rmse": 5.0, "MAE": 30.0, "status": 7.0})
    told(store, clock, "b", metrics={"mae": 2.0})
    told(store, clock, "c")
    with store.resume(store.runs(asset="b").run_id[0]) as run:
        run.log_metric("mae", 1.0, step=9)
    frame = store.runs(metrics=["mae", "status"], order_by="metrics.mae desc, asset_id")
    assert frame.asset_id.tolist() == ["a", "b", "c"]
    assert frame["metrics.mae"].fillna(-1).tolist() == [3.0, 1.0, -1]
    assert frame["metrics.status"].fillna(-1).tolist() == [7.0, -1, -1]
    assert frame.status.tolist() == ["ok"] * 3
    wide = store.runs(metrics="*", asset="a")
    assert {name: wide[name][0] for name in wide if name.startswith("metrics.")} == {
        "metrics.MAE": 30.0, "metrics.mae": 3.0, "metrics.rmse": 5.0, "metrics.status": 7.0,
    }  # fmt: skip
    assert [name for name in store.runs(metrics=["r*", "nothing*"]) if name.startswith("metrics.")] == ["metrics.rmse"]
    assert assets(store, "metrics['mae'] < 2.5") == ["b"]
    assert assets(store, "METRICS [ 'mae' ] < 3.5 and recipe = 'r' and metrics['rmse'] is null", metrics=["rmse"]) == [
        "b"
    ]
    assert assets(store, "recipe = 'metrics[''mae'']' or metrics['it''s'] is not null") == []
    with pytest.raises(QueryInvalid):
        store.runs("metrics[mae] < 3")
    assert assets(store, "run_id in (select run_id from metrics where name = 'rmse')") == ["a"]
    assert store.runs(limit=0, metrics=["mae"]).columns.tolist()[-2:] == ["metrics.mae", "alive"]


def test_params_order_as_numbers_and_as_text(store: Store, clock: FixedClock) -> None:
    for asset, lags in (("a", 9), ("b", 10), ("c", "x"), ("d", None)):
        told(store, clock, asset, params={} if lags is None else {"lags": lags})
    assert assets(store, order_by="params.lags") == ["a", "b", "c", "d"]
    assert assets(store, "try_cast(params->>'lags' as double) > 9") == ["b"]


# ------------------------------------------------------------------------------------------------------- deleted runs


def test_a_deleted_run_is_hidden_and_comes_back(store: Store, clock: FixedClock) -> None:
    run, other = told(store, clock, "a", tags={"deleted?": 1}, metrics={"mae": 1.0}), told(store, clock, "b")
    assert store.delete_run(run.id, "a typo") == [run.id]
    head = store.head()
    assert store.delete_run([run.id], "again") == []
    assert store.head() == head
    assert (assets(store), assets(store, deleted=True), assets(store, deleted=None)) == (["b"], ["a"], ["b", "a"])
    (tags,) = store.runs(deleted=True).tags
    act = json.loads(tags)["deleted"]
    assert (act["at"], act["by"], act["reason"]) == (clock.now().isoformat(), environment.captured().user, "a typo")
    again = store.resume(run.id)
    assert again.metrics() == {"mae": 1.0}
    with pytest.raises(WrongState) as caught, again:
        pass
    assert "restore_run" in caught.value.hint
    assert "deleted" in again._repr_html_()
    assert store.restore_run(run) == [run.id]
    assert store.restore_run(run) == []
    assert assets(store) == ["b", "a"]
    assert store.resume(run.id).tags == {"deleted?": 1}
    with pytest.raises(NotFound, match="nobody"):
        store.delete_run([other.id, "nobody"])
    assert assets(store) == ["b", "a"]
    assert store.delete_run(store.runs(asset="?").run_id) == sorted([run.id, other.id])


def test_children_go_and_come_with_their_parent(store: Store) -> None:
    with store.run("p") as parent, parent.child("c") as child, child.child("grand") as grand:
        early = parent.child("gone before").begin()
        early.end()
    with store.run("stranger", tags={"parent's": parent.id}):
        pass
    store.delete_run(early)
    assert store.delete_run(parent) == sorted([parent.id, child.id, grand.id])
    assert assets(store) == ["stranger"]
    store.restore_run(grand)
    assert sorted(str(a) for a in assets(store)) == ["grand", "stranger"]
    assert store.restore_run(parent) == sorted([parent.id, child.id])
    assert sorted(str(a) for a in assets(store)) == ["c", "grand", "p", "stranger"]


def test_runs_are_tagged_after_their_end(store: Store, clock: FixedClock) -> None:
    runs = [told(store, clock, asset, tags={"team": "x"}, params={"odd": 1e-7}) for asset in "abc"]
    texts = store.runs().params.tolist()
    assert store.tag_run(store.runs(asset=["a", "b"]).run_id, {"good": True}, remove=["team"], note="kept") == [
        runs[0].id, runs[1].id,
    ]  # fmt: skip
    assert assets(store, tags={"good": True}) == ["b", "a"]
    again = store.resume(runs[0].id)
    assert (again.tags, again.note, again.status) == ({"good": True}, "kept", "ok")
    assert store.tag_run(runs[0], {"good": 1}) == [runs[0].id]
    assert store.tag_run(runs[0], {"good": 1}) == []
    assert store.runs().params.tolist() == texts


def test_a_fleets_runs_are_hidden_and_tagged_like_others(store: Store) -> None:
    txn = store.begin()
    txn.insert("runs", [{"run_id": "f", "asset_id": "a", "params": {"a": 0.1}, "batch_id": "b"}, {"run_id": "g"}])
    txn.commit()
    assert store.delete_run(["f", "g"]) == ["f", "g"]
    assert (assets(store), sorted(store.runs(deleted=True).run_id)) == ([], ["f", "g"])
    assert store.restore_run(["g", "f"]) == ["f", "g"]
    assert len(store.runs()) == 2


def test_thousands_are_deleted_in_one_commit(store: Store) -> None:
    txn = store.begin()
    txn.insert("runs", [{"run_id": f"r{i:05d}", "asset_id": f"a{i}", "params": {"i": i}} for i in range(6_000)])
    txn.commit()
    head = store.head()
    assert len(store.delete_run(store.runs().run_id, "all")) == 6_000
    assert (store.head(), len(store.runs()), len(store.runs(deleted=True))) == (head + 1, 0, 6_000)


def test_a_run_deleted_or_tagged_while_it_runs_stays_so(store: Store) -> None:
    with store.run("a", params={"x": 1}) as run:
        store.delete_run(run)
        store.tag_run(run, {"from": "outside"})
        run.log_params({"y": 2})
        run.log_metric("mae", 1.0)
        store.tag_run(run, {"more": 1})
    (found,) = store.runs(deleted=True).to_dict("records")
    tags = json.loads(found["tags"])
    assert (found["status"], found["params"]) == ("ok", '{"x":1,"y":2}')
    assert ("deleted" in tags, tags["from"], tags["more"]) == (True, "outside", 1)
