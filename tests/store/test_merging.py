"""Merging changes no answer of any snapshot; it makes few segments of many, one partition each, in order."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from store import FixedClock, Store
from store.catalog import Segment
from store.errors import SnapshotExpired
from store.files import segment_file
from store.merging import (
    FAN_IN,
    FIRST,
    MOST_SEGMENTS,
    TARGET_BYTES,
    Merge,
    _pieces,
    cut,
    due,
    merge,
    partitions,
    period,
)
from store.schema import STORED
from store.segments import run_of
from tests.store.rows import START, insert, reading, readings, replace

DAY = timedelta(days=1)
AT_ONCE = timedelta(0)


@pytest.fixture(autouse=True)
def small_batches_are_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.writing.SEGMENT_ROWS", 3)


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """No merge by itself."""
    monkeypatch.setattr("store.upkeep.SMALL_BYTES", -1)
    monkeypatch.setattr("store.upkeep.BULK_FACTOR", -1)


def metric(run: str, asset: str, day: int | None, value: float) -> dict[str, Any]:
    time = None if day is None else START + DAY * day
    return {"run_id": run, "asset_id": asset, "name": "mae", "time": time, "value": value}


def everything(store: Store, *names: str) -> list[list[dict[str, Any]]]:
    """All rows of these views, ``_v`` with them, at every snapshot."""
    asked = [f"select * from {name}__v order by all" for name in names]
    return [store.at(snapshot).sql(query).rows() for snapshot in range(store.head() + 1) for query in asked]


def test_a_merge_changes_no_answer_of_any_snapshot(store: Store, clock: FixedClock, by_hand: None) -> None:
    for turn in range(FAN_IN):
        insert(store, "metrics", [metric(f"r{turn}", f"a{i}", 20 * i, float(turn)) for i in range(4)])
        insert(store, "metrics", [metric(f"n{turn}", "b", None, 0.5)])
        replace(store, "actuals", [reading("a", 24 * 100 * i, turn + i / 10) for i in range(6)])
    before = everything(store, "metrics", "actuals", "actuals_all")
    done = store.upkeep(grace=AT_ONCE)
    assert set(done.merged) >= {"metrics", "actuals"}
    assert everything(store, "metrics", "actuals", "actuals_all") == before
    levels = store.info().levels
    assert set(levels["metrics"]) == set(levels["actuals"]) == {2}


def test_bulk_commits_that_shrink_are_merged_by_themselves(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is smaller than those before: what it may merge is measured by its own size."""
    monkeypatch.setattr("store.upkeep.SMALL_BYTES", 0)
    most = 0
    for turn in range(3 * FAN_IN):
        insert(store, "actuals", readings(1, 2_000 - 30 * turn, first=turn, seed=turn))
        most = max(most, store.info().levels["actuals"].get(0, 0))
    assert most <= FAN_IN
    assert store.table("actuals").num_rows == sum(2_000 - 30 * turn for turn in range(3 * FAN_IN))


def test_a_large_one_among_small_ones_does_not_keep_them_from_being_merged(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.upkeep.SMALL_BYTES", 0)
    insert(store, "actuals", readings(10, 5_000, first=100))
    for turn in range(FAN_IN):
        insert(store, "actuals", readings(1, 500, first=turn, seed=turn))
    assert store.info().levels["actuals"][0] == 1
    assert store.table("actuals").num_rows == 50_000 + 500 * FAN_IN


def test_a_merge_in_parts_is_the_merge_in_one(store: Store, by_hand: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts end between months and between assets; one asset alone is more than a part, some rows have none."""
    for turn in range(FAN_IN):
        rows = [metric(f"r{turn}", f"a{i % 4}", 17 * (i % 3), float(i)) for i in range(12)]
        rows += [metric(f"m{turn}{i}", "ä", i, float(i)) for i in range(9)]
        nameless = [{"run_id": "n", "name": "mae", "time": START + DAY * day, "value": 1.0} for day in (1, 40)]
        insert(store, "metrics", [*rows, *nameless, metric("none", "a0", None, 1.0)])
        replace(store, "alerts", [{"alert_id": str(i), "text": str(turn)} for i in range(4)])
    before = everything(store, "metrics")
    inputs = store._catalog.segments("metrics")
    monkeypatch.setattr("store.merging.PART_ROWS", 20)
    asked = due(STORED["metrics"], inputs)
    assert asked is not None
    at_once, in_parts = (_merged_rows(store, asked, size, monkeypatch) for size in (10_000, 20))
    assert in_parts == at_once
    assert len(in_parts) == sum(one.rows for one in inputs)
    store.upkeep(fold_after=AT_ONCE, grace=AT_ONCE)
    assert everything(store, "metrics") == before


def _merged_rows(store: Store, asked: Merge, size: int, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    monkeypatch.setattr("store.merging.PART_ROWS", size)
    made = merge(store._reader, asked, fold=None).made
    files = [segment_file(store.path, asked.table, one.id) for one in made]
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def test_parts_are_as_many_as_their_rows_want(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.merging.PART_ROWS", 10)
    counted = [
        (None, "a", 3),
        (1, None, 2),
        (1, "a", 4),
        (2, "a", 9),
        (3, None, 4),
        (3, "a", 4),
        (3, "b", 30),
        (3, "c", 1),
    ]
    parts = list(cut(counted, period="p", entity="e"))
    assert [part.where for part in parts] == [
        "(p IS NULL OR p <= 1)",
        "p BETWEEN 2 AND 2",
        "p BETWEEN 3 AND 3 AND (e < $high OR e IS NULL)",
        "p BETWEEN 3 AND 3 AND e < $high AND e >= $low",
        "p BETWEEN 3 AND 3 AND e >= $low",
    ]
    assert [dict(part.params) for part in parts[2:]] == [{"high": "b"}, {"high": "c", "low": "b"}, {"low": "c"}]


def test_merged_segments_hold_one_partition_each_sorted_with_their_commits(store: Store, by_hand: None) -> None:
    for turn in range(FAN_IN):
        rows = [metric(f"r{turn}", f"a{i}", 17 * i, float(i)) for i in range(5)]
        insert(store, "metrics", [*rows, metric("none", "a0", None, 1.0)])
    store.upkeep(grace=AT_ONCE)
    segments = store._catalog.segments("metrics")
    assert sorted((one.min_time is None, one.rows) for one in segments) == [
        (False, 8),
        (False, 16),
        (False, 16),
        (True, 8),
    ]
    for one in segments:
        table = pq.read_table(segment_file(store.path, "metrics", one.id))
        assert (one.rows, one.columns[-1]) == (table.num_rows, "_v")
        assert {period(STORED["metrics"], at) for at in (one.min_time, one.max_time)} == {
            period(STORED["metrics"], one.min_time)
        }
        order = [(row["asset_id"], row["name"], str(row["time"]), row["_v"]) for row in table.to_pylist()]
        assert order == sorted(order)
        assert (min(v for *_, v in order), max(v for *_, v in order)) == (one.min_v, one.max_v)


def test_a_run_is_split_between_assets(store: Store, monkeypatch: pytest.MonkeyPatch, by_hand: None) -> None:
    monkeypatch.setattr("store.merging.TARGET_ROWS", 4_000)
    monkeypatch.setattr("store.merging._PIECES", 100)
    monkeypatch.setattr("store.merging.ROW_GROUP", 2_048)
    for turn in range(FAN_IN):
        insert(store, "actuals", readings(20, 100, seed=turn).set_column(3, "available_at", moved(20, 100, turn)))
    before = store.table("actuals_all", columns=["asset_id", "valid_time", "y", "_v"])
    store.upkeep(grace=AT_ONCE)
    pieces = sorted(store._catalog.segments("actuals"), key=lambda one: one.min_asset or "")
    assert len(pieces) > 2
    assert len({run_of(one) for one in pieces}) == 1
    for one, after in pairwise(pieces):
        assert one.max_asset is not None
        assert after.min_asset is not None
        assert one.max_asset < after.min_asset
    assert store.table("actuals_all", columns=["asset_id", "valid_time", "y", "_v"]).equals(before)


def moved(assets: int, hours: int, turn: int) -> pa.Array:
    micros = int(START.timestamp() + 3_600 * 24 * 365 * (turn + 1)) * 1_000_000
    return pa.array([micros] * assets * hours, pa.timestamp("us", "UTC"))


def test_small_commits_stay_few_segments_by_themselves(store: Store) -> None:
    commits = FAN_IN * FAN_IN + 1
    for turn in range(commits):
        insert(store, "metrics", [metric(f"r{turn}", f"a{i}", 3, 1.0) for i in range(3)])
    assert store.info().levels["metrics"] == {0: 1, 3: 1}
    found = store.sql("select count(*) as n, count(distinct run_id) as runs from metrics").rows()
    assert found == [{"n": 3 * commits, "runs": commits}]


@pytest.mark.parametrize("size", [20_000, 8 << 20, 60 << 20])
@pytest.mark.parametrize("months", [1, 3])
def test_partitions_stay_few_and_rows_are_written_at_most_four_times(size: int, months: int) -> None:
    """3,000 commits of one size, as the rules would have them merged; bytes written to bytes committed."""
    table = STORED["metrics"]
    segments: list[Segment] = []
    written = most = 0
    for turn in range(3_000):
        commit = made(f"c{turn}", 0, size, turn % months)
        segments.append(commit._replace(max_time=micros(START + DAY * 31 * (months - 1))))
        written += size
        while (asked := due(table, segments)) is not None:
            most_bytes = max(TARGET_BYTES, _pieces(table, asked.inputs, segments)[0])
            segments = [one for one in segments if one not in asked.inputs]
            for month in range(months) if asked.level == FIRST else [asked.inputs[0].max_v]:
                part = asked.bytes // (months if asked.level == FIRST else 1)
                pieces = -(-part // most_bytes)
                segments += [made(f"m{written}x{month}-{n}", asked.level, part // pieces, month) for n in range(pieces)]
            written += asked.bytes
        most = max([most, *(len(held) for held in partitions(table, segments).values())])
    assert most <= MOST_SEGMENTS
    assert written / (3_000 * size) <= 4


def made(name: str, level: int, size: int, month: int) -> Segment:
    """A segment as the catalog tells of it; ``max_v`` stands for its month."""
    at = micros(START + DAY * 31 * month)
    return Segment(
        id=name, table="metrics", level=level, v=None, min_v=0, max_v=month, rows=size // 20, bytes=size, sha256="",
        columns=(), min_asset="a", max_asset="b", min_time=at, max_time=at,
    )  # fmt: skip


def test_one_asset_of_a_year_is_found_in_few_files(store: Store) -> None:
    for month in range(12):
        for turn in range(FAN_IN):
            day = 30.4 * month + turn
            at = START + DAY * day
            insert(store, "metrics", [metric(f"r{month}", f"a{i}", None, 1.0) | {"time": at} for i in range(9)])
    store.upkeep(grace=AT_ONCE)
    segments = store._catalog.segments("metrics")
    held = partitions(STORED["metrics"], segments)
    assert len(held) == 12
    since, until = datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC)
    found = store.table("metrics", assets=["a3"], since=since, until=until)
    assert found.num_rows == FAN_IN
    inside = [one for one in segments if one.max_time >= micros(since) and one.min_time < micros(until)]
    assert len(inside) <= 2


def micros(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000


def test_nothing_is_due_below_the_fan_in(store: Store) -> None:
    for turn in range(FAN_IN - 1):
        insert(store, "metrics", [metric(f"r{turn}", f"a{i}", 1, 1.0) for i in range(3)])
    assert due(STORED["metrics"], store._catalog.segments("metrics")) is None
    insert(store, "metrics", [metric("last", f"a{i}", 1, 1.0) for i in range(3)])
    assert set(store.info().levels["metrics"]) == {2}  # by itself: it was small


def test_a_swap_is_given_up_when_one_of_its_inputs_went(store: Store, by_hand: None) -> None:
    for turn in range(FAN_IN):
        insert(store, "metrics", [metric(f"r{turn}", f"a{i}", 1, 1.0) for i in range(3)])
    gone = store._catalog.segments("metrics")[0]
    with store._catalog.writing() as writer:
        assert not writer.swap("metrics", [gone.id, "never there"], [], 0)
        assert writer.swap("metrics", [gone.id], [], 0)
        assert not writer.swap("metrics", [gone.id], [], 0)
    assert store.sql("select count(*) as n from metrics").rows() == [{"n": 21}]


# ------------------------------------------------------------------------------------------------------------- folding


def alert(name: str, turn: int) -> dict[str, Any]:
    return {"alert_id": name, "text": f"{name}{turn}", "opened_at": START}


def test_a_fold_leaves_what_holds_now_and_lets_the_companion_go(store: Store, clock: FixedClock) -> None:
    insert(store, "alerts", [alert(name, 0) for name in "abcdef"])
    for turn in range(1, 4):
        replace(store, "alerts", [alert(name, turn) for name in "abc"])
    newest = store.sql("select * from alerts order by all").rows()
    clock.advance(days=2)
    done = store.upkeep(grace=AT_ONCE)
    assert done.folded == {"alerts": 9, "alerts__replaced": 9}
    assert store.info().tables["alerts"] == 6
    assert store._catalog.segments("alerts__replaced") == ()
    assert store.sql("select * from alerts order by all").rows() == newest
    assert store.at(4).sql("select * from alerts order by all").rows() == newest
    replace(store, "alerts", [alert("a", 9), alert("g", 9)])
    assert {row["text"] for row in store.sql("select text from alerts").rows()} == {
        "a9",
        "b3",
        "c3",
        "d0",
        "e0",
        "f0",
        "g9",
    }


def test_a_snapshot_from_before_a_fold_says_so_and_others_stay_exact(store: Store, clock: FixedClock) -> None:
    replace(store, "alerts", [alert(name, 0) for name in "abc"])
    clock.advance(hours=1)
    replace(store, "alerts", [alert("a", 1)])
    insert(store, "metrics", [metric("r", "a", 1, 1.0)])
    kept = store.at(1)
    clock.advance(days=2)
    store.upkeep(grace=AT_ONCE)
    with pytest.raises(SnapshotExpired, match=r"alerts .* snapshot 1: .* is 2, of 2024-06-01T01:00:00"):
        store.at(1).table("alerts")
    with pytest.raises(SnapshotExpired):
        kept.sql("select count(*) from alerts")
    assert kept.table("metrics").num_rows == 0
    assert store.at(2).table("alerts").num_rows == 3
    assert store.at(2).table("metrics").num_rows == 0


def test_rows_superseded_a_moment_ago_are_kept_for_a_day(store: Store, clock: FixedClock) -> None:
    for turn in range(3):
        replace(store, "alerts", [alert(name, turn) for name in "abc"])
    before = everything(store, "alerts")
    clock.advance(hours=23)
    assert store.upkeep(grace=AT_ONCE).folded == {}
    assert everything(store, "alerts") == before
    clock.advance(hours=2)
    assert store.upkeep(grace=AT_ONCE).folded["alerts"] == 6


def test_what_keeps_a_history_is_never_folded(store: Store, clock: FixedClock) -> None:
    issued = {"asset_id": "a", "product": "p", "role": "champion", "issue_time": START, "valid_time": START}
    for turn in range(FAN_IN + 1):
        replace(store, "actuals", [reading("a", hour, float(turn)) for hour in range(4)])
        replace(
            store,
            "forecasts",
            [issued | {"step": step, "recipe": f"r{step}", "mean": float(turn)} for step in range(3)],
        )
    before = everything(store, "actuals", "actuals_all", "forecasts")
    clock.advance(days=400)
    assert store.upkeep(grace=AT_ONCE).folded == {}
    assert everything(store, "actuals", "actuals_all", "forecasts") == before


def test_a_key_with_null_in_it_folds_like_any_other(store: Store, clock: FixedClock) -> None:
    def cell(n: int, version: str | None) -> dict[str, Any]:
        return {
            "asset_id": "a", "product": "p", "role": "x", "truth": "latest", "day": date(2024, 1, 1),
            "lead_bucket": "0-1h", "n": n, "version_id": version,
        }  # fmt: skip

    for n in range(4):
        replace(store, "scores", [cell(n, None), cell(n, "v"), cell(n, f"only{n}")])
    clock.advance(days=2)
    assert store.upkeep(grace=AT_ONCE).folded["scores"] == 6
    found = store.sql("select version_id, n from scores order by all").rows()
    assert {(row["version_id"], row["n"]) for row in found} == {
        (None, 3),
        ("v", 3),
        *((f"only{n}", n) for n in range(4)),
    }


def test_upkeep_by_hand_leaves_no_large_file_that_lies_anywhere_in_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.merging.ROW_GROUP", 6)
    for turn in range(2):
        insert(store, "metrics", [metric(f"r{turn}", f"a{i}", 31 * i, 1.0) for i in range(3)])
    before = everything(store, "metrics")
    assert store.info().levels["metrics"] == {0: 2}
    assert store.upkeep(grace=AT_ONCE).merged == {"metrics": 2}
    assert store.info().levels["metrics"] == {2: 3}
    assert everything(store, "metrics") == before
    assert store.upkeep(grace=AT_ONCE).merged == {}


def test_upkeep_by_hand_leaves_one_small_file_of_a_month(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.merging.ROW_GROUP", 6)
    for turn in range(2):
        insert(store, "metrics", [metric(f"r{turn}", f"a{i}", 31 * i, 1.0) for i in range(6)])
    store.upkeep(grace=AT_ONCE)
    insert(store, "metrics", [metric("late", f"a{i}", 31 * 5, 1.0) for i in range(6)])
    before = everything(store, "metrics")
    assert store.info().levels["metrics"] == {0: 1, 2: 6}
    assert store.upkeep(grace=AT_ONCE).merged == {"metrics": 1 + 2}
    assert store.info().levels["metrics"] == {2: 6}
    assert store.info().fullest["metrics"] == 1
    assert everything(store, "metrics") == before
    assert store.upkeep(grace=AT_ONCE).merged == {}


def test_upkeep_by_hand_leaves_files_apart_that_one_could_not_hold(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.merging.ROW_GROUP", 6)
    monkeypatch.setattr("store.merging.TARGET_BYTES", 1)
    for turn in range(2):
        insert(store, "metrics", [metric(f"r{turn}{n}", f"a{i}", 0, 1.0) for i in range(6) for n in range(3)])
        insert(store, "metrics", [metric(f"s{turn}", "a0", 31, 1.0)])
        store.upkeep(grace=AT_ONCE)
    assert store.info().levels["metrics"] == {2: 2 + 2}
    assert store.upkeep(grace=AT_ONCE).merged == {}
    assert store.info().fullest["metrics"] == 2


def test_upkeep_by_hand_leaves_alone_what_is_small_or_in_one_place(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(store, "metrics", [metric("small", f"a{i}", 31 * i, 1.0) for i in range(3)])
    assert store.upkeep(grace=AT_ONCE).merged == {}
    monkeypatch.setattr("store.merging.ROW_GROUP", 3)
    insert(store, "runs", [{"run_id": f"{i}", "started_at": START + DAY * 400 * i} for i in range(3)])
    assert store.upkeep(grace=AT_ONCE).merged == {"metrics": 1}
