"""Snapshots across flush, merge and fold; what lies between two of them; their end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from store import FixedClock, Store
from store.errors import NotFound, SnapshotExpired
from store.merging import FAN_IN
from tests.store.rows import START, insert, reading, replace, values

AT_ONCE = timedelta(0)


def alert(name: str, turn: int) -> dict[str, Any]:
    return {"alert_id": name, "text": f"{name}{turn}", "opened_at": START}


@pytest.fixture
def told(store: Store, clock: FixedClock, monkeypatch: pytest.MonkeyPatch) -> list[list[float | None]]:
    """Ten commits, an hour apart, each with a reading revised; what each left."""
    monkeypatch.setattr("store.writing.SEGMENT_ROWS", 3)
    left = []
    for turn in range(10):
        replace(store, "actuals", [reading("a", hour, turn + hour / 10, known=turn) for hour in range(3)])
        left.append(values(store))
        clock.advance(hours=1)
    return left


@pytest.mark.parametrize("by", ["number", "time"])
def test_every_past_is_told_as_it_was(store: Store, clock: FixedClock, told: list[list[float | None]], by: str) -> None:
    for tidy in (lambda: None, store.flush, lambda: store.upkeep(grace=AT_ONCE)):
        tidy()
        for turn, expected in enumerate(told):
            at = turn + 1 if by == "number" else clock.now() - timedelta(hours=10 - turn)
            assert values(store.at(at)) == expected


def test_a_diff_counts_what_each_commit_added(store: Store, clock: FixedClock, told: list[list[float | None]]) -> None:
    txn = store.begin(note="two runs")
    txn.insert("runs", [{"run_id": "1"}, {"run_id": "2"}])
    last = txn.commit().snapshot

    def diffs() -> list[Any]:
        return [store.diff(a, b) for a in range(last + 1) for b in range(a, last + 1)]

    before = diffs()
    found = store.diff(8, last)
    assert (found.after, found.upto, found.rows) == (8, 11, {"actuals": 6, "runs": 2})
    assert [(change.snapshot, change.note) for change in found.commits] == [(9, ""), (10, ""), (11, "two runs")]
    assert store.diff(last, 8) == found
    assert store.diff(5, 5).rows == {}
    assert store.upkeep(grace=AT_ONCE).merged.get("actuals", 0) + len(store.info().levels["actuals"]) > 0
    assert diffs() == before


def test_a_diff_across_a_fold_is_refused_not_wrong(store: Store, clock: FixedClock) -> None:
    for turn in range(3):
        replace(store, "alerts", [alert(name, turn) for name in "ab"])
    assert store.diff(0, 3).rows == {"alerts": 6}
    clock.advance(days=2)
    store.upkeep()
    with pytest.raises(SnapshotExpired):
        store.diff(0, 3)
    insert(store, "alerts", [alert("z", 0)])
    assert store.diff(3, 4).rows == {"alerts": 1}


def test_expiry_ends_snapshots_and_keeps_what_holds(
    store: Store, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.writing.SEGMENT_ROWS", 3)
    for turn in range(FAN_IN):
        txn = store.begin(commit_id=f"day-{turn}")
        txn.replace("actuals", [reading("a", hour, float(turn)) for hour in range(3)])
        txn.replace("alerts", [alert(name, turn) for name in "abc"])
        txn.mark("water", str(turn))
        txn.commit()
        clock.advance(days=1)
    revisions = store.table("actuals_all").num_rows
    with pytest.raises(NotFound):
        store.expire(clock.now() - timedelta(days=100))
    bound = clock.now() - timedelta(days=3)  # the instant of the sixth commit
    done = store.expire(bound)
    assert done.folded["alerts"] == 15
    for gone in (0, 5, bound - timedelta(hours=1)):
        with pytest.raises(SnapshotExpired):
            store.at(gone)
    assert store.info().oldest == 6
    for turn in (5, 6, 7):
        then = store.at(turn + 1)
        assert then.sql("select distinct text from alerts order by 1").rows() == [{"text": f"{n}{turn}"} for n in "abc"]
        assert (values(then), then.mark("water")) == ([float(turn)] * 3, str(turn))
    assert store.table("actuals_all").num_rows == revisions
    repeat = store.begin(commit_id="day-0")
    repeat.replace("actuals", [reading("a", hour, 0.0) for hour in range(3)])
    repeat.replace("alerts", [alert(name, 0) for name in "abc"])
    repeat.mark("water", "0")
    assert repeat.commit().repeated
    clock.advance(days=500)
    store.expire(clock.now())
    assert store.committed("day-0") is None
    assert store.info().oldest == store.head() == 8


def test_what_was_issued_goes_only_by_an_expiry(store: Store, clock: FixedClock) -> None:
    issued = {"asset_id": "a", "product": "p", "role": "champion", "issue_time": START, "valid_time": START}
    for turn in range(3):
        replace(store, "forecasts", [issued | {"mean": float(turn)}])
        clock.advance(days=2)
    store.upkeep()
    assert store.at(1).table("forecasts").column("mean").to_pylist() == [0.0]
    assert store.expire(clock.now()).folded["forecasts"] == 2
    assert store.table("forecasts").column("mean").to_pylist() == [2.0]
