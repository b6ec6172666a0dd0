"""Thinning drops old long leads and nothing else: what is published of the others does not change, nor do backtests."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from store import FixedClock, Store
from store.errors import SchemaMismatch, SnapshotExpired
from store.thinning import MARK, Extent
from tests.store.rows import HOUR, START, insert, replace
from tests.store.test_processes import start

DAY = timedelta(days=1)
NOW = timedelta(0)


def issued(
    day: int, lead: int, *, mean: float = 1.0, asset: str = "a", product: str = "p", **more: Any
) -> dict[str, Any]:
    """One forecast: issued so many days after the start, for so many hours ahead."""
    at = START + DAY * day
    return {
        "asset_id": asset, "product": product, "recipe": "r", "role": "champion", "issue_time": at,
        "valid_time": at + HOUR * lead, "mean": mean, "created_at": at,
    } | more  # fmt: skip


def leads(store: Store, view: str = "forecasts") -> list[tuple[int, int]]:
    """(day of the issue, lead in hours) of all rows."""
    rows = store.table(view).to_pylist()
    return sorted(((row["issue_time"] - START).days, (row["valid_time"] - row["issue_time"]) // HOUR) for row in rows)


def thinned(store: Store, **more: Any) -> Any:
    return store.thin("p", older_than=START + 2 * DAY, keep_leads_below=2 * HOUR, **more)


@pytest.mark.parametrize("flushed", [False, True])
def test_only_old_long_leads_of_the_product_go(store: Store, *, flushed: bool) -> None:
    insert(store, "forecasts", [issued(day, lead) for day in range(4) for lead in range(4)])
    if flushed:
        store.flush()
    insert(store, "forecasts", [issued(0, 3, product="q"), issued(0, 3, role="backtest"), issued(0, 3, asset="b")])
    done = thinned(store)
    assert (done.rows, done.segments) == (5, int(flushed))
    both = [(0, 0), (0, 1), (0, 3), (0, 3), (1, 0), (1, 1), *((day, lead) for day in (2, 3) for lead in range(4))]
    assert leads(store) == both
    assert store.verify().ok


def test_the_bounds_are_half_open(store: Store) -> None:
    edge = issued(2, 1) | {"valid_time": START + 2 * DAY + 2 * HOUR}
    near = issued(0, 2) | {"valid_time": START + 2 * HOUR - timedelta(microseconds=1)}
    insert(store, "forecasts", [edge, near, issued(0, 2)])
    assert thinned(store).rows == 1
    assert store.table("forecasts").num_rows == 2


def test_what_is_published_of_the_leads_that_stay_is_what_was(store: Store) -> None:
    """Every role, a person's word, rows issued again: of each lead the same row wins."""
    rows = [
        issued(day, lead, mean=100.0 * day + lead, role=role, version_id=role)
        for day in range(4)
        for lead in range(4)
        for role in ("champion", "fallback", "baseline")
    ]
    replace(store, "forecasts", rows)
    replace(store, "forecasts", [issued(0, lead, mean=-1.0, role="manual") for lead in (1, 3)])
    store.flush()
    replace(store, "forecasts", [row | {"mean": -row["mean"], "created_at": START + 9 * DAY} for row in rows[::2]])
    before = store.table("published", columns=["asset_id", "issue_time", "valid_time", "role", "mean"]).to_pylist()
    thinned(store)
    after = store.table("published", columns=["asset_id", "issue_time", "valid_time", "role", "mean"]).to_pylist()
    stay = [
        row
        for row in before
        if row["issue_time"] >= START + 2 * DAY or row["valid_time"] - row["issue_time"] < 2 * HOUR
    ]
    assert after == stay
    assert len(stay) == 12
    assert all(one.rows for one in store._catalog.segments("forecasts__replaced"))


def test_scores_stay_and_a_watermark_says_what_nobody_can_score_again(store: Store) -> None:
    score = {"asset_id": "a", "product": "p", "role": "champion", "truth": "latest", "day": START.date(), "n": 3}
    insert(store, "scores", [score | {"lead_bucket": bucket} for bucket in ("0-1h", "1-6h")])
    insert(store, "forecasts", [issued(day, lead) for day in range(4) for lead in range(4)])
    assert Extent.from_mark(store.snapshot().mark(MARK + "p")) is None
    thinned(store)
    first = Extent.from_mark(store.snapshot().mark(MARK + "p"))
    assert first == Extent(leads_from=2 * HOUR, valid_upto=START + DAY + 3 * HOUR)
    store.thin("p", older_than=START + 3 * DAY, keep_leads_below=3 * HOUR)
    both = Extent.from_mark(store.snapshot().mark(MARK + "p"))
    assert both == Extent(leads_from=2 * HOUR, valid_upto=START + 2 * DAY + 3 * HOUR)
    assert store.table("scores").num_rows == 2


def test_thinning_again_drops_nothing_and_makes_no_snapshot(store: Store) -> None:
    insert(store, "forecasts", [issued(0, lead) for lead in range(4)])
    assert thinned(store, dry_run=True).rows == 2
    assert leads(store) == [(0, lead) for lead in range(4)]
    head = store.head()
    assert (thinned(store).snapshot, store.head()) == (head + 1, head + 1)
    again = thinned(store)
    assert (again.rows, again.snapshot, store.head()) == (0, None, head + 1)


def test_older_snapshots_end_for_the_forecasts_alone(store: Store) -> None:
    insert(store, "forecasts", [issued(0, lead) for lead in range(4)])
    insert(store, "alerts", [{"alert_id": "1"}])
    head = store.head()
    thinned(store)
    with pytest.raises(SnapshotExpired):
        store.at(head).table("forecasts")
    assert store.at(head).table("alerts").num_rows == 1
    assert store.at(head + 1).table("forecasts").num_rows == 2


def test_a_reader_keeps_what_it_reads_and_upkeep_deletes_it_later(
    store: Store, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.writing.SEGMENT_ROWS", 3)
    insert(store, "forecasts", [issued(0, lead) for lead in range(4)])
    with store._reader._presence.reading():
        thinned(store)
        assert (store.info().retired, store.upkeep(grace=NOW).collected) == (1, 0)
    assert store.upkeep(grace=NOW).collected == 1
    assert leads(store) == [(0, 0), (0, 1)]


def test_a_kill_leaves_all_of_it_or_nothing(store: Store) -> None:
    script = """
        import os, signal, sys
        from datetime import datetime, timedelta, UTC
        from store.catalog.removing import Remover
        from store import Store
        setattr(Remover, sys.argv[2], lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        with Store.open(sys.argv[1]) as store:
            store.thin("p", older_than=datetime(2024, 1, 3, tzinfo=UTC), keep_leads_below=timedelta(hours=2))
    """
    replace(store, "forecasts", [issued(0, lead) for lead in range(4)])
    store.flush()
    replace(store, "forecasts", [issued(0, lead, mean=2.0) for lead in range(4)])
    store.flush()
    replace(store, "forecasts", [issued(1, lead) for lead in range(4)])
    for step in ("swap", "finish"):
        process = start(script, store.path, step)
        _, told = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, told
        assert leads(store) == [(day, lead) for day in range(2) for lead in range(4)]
        assert store.verify().ok
    assert thinned(store).rows == 6
    assert leads(store) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_rule_that_makes_no_sense_is_refused(store: Store) -> None:
    with pytest.raises(SchemaMismatch):
        store.thin("p", older_than=datetime(2024, 1, 1), keep_leads_below=HOUR)  # noqa: DTZ001  # the mistake
    with pytest.raises(SchemaMismatch):
        store.thin("p", older_than=datetime(2024, 1, 1, tzinfo=UTC), keep_leads_below=NOW)
