"""The store beside a plain model of it: whatever is done to it, by whichever of two processes' stores, snapshots agree.

Done are: inserts, replacements, promotions, repeated commit ids, runs and what becomes of them, upkeep with and without
folds, expiry, reopening, and moving to a backup that was restored. A snapshot is refused only where it has ended or
where rows that it shows were folded away.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from store import FixedClock, Snapshot, Store
from store.errors import CommitConflict, SnapshotExpired
from tests.properties.store_model import HOUR, START, Model, bits

assets = st.sampled_from(["a", "B", "b", "é", "a'"])
doubles = st.sampled_from([1.0, 2.0, 0.1 + 0.2, float("nan"), float("inf"), None]) | st.floats(width=64)
texts = st.none() | st.text(st.characters(codec="utf-8"), max_size=4)
values = st.sampled_from([1.0, 2.0, float("nan"), None])
readings = st.lists(
    st.tuples(assets, st.integers(0, 3), st.integers(0, 2), values, st.sampled_from([None, "x"])),
    min_size=1,
    max_size=8,
)
cells = st.lists(st.tuples(st.sampled_from(["1", "2", "3"]), texts, doubles), min_size=1, max_size=8)
#: Whose store does it: two are open on one folder.
who = st.integers(0, 1)
teams = st.sampled_from(["north", "south"])
#: What a promotion takes the champion for: what it is, none, or somebody else.
beliefs = st.sampled_from(["right", "none", "other"])
promotions = st.dictionaries(st.sampled_from(["a", "B", "é"]), beliefs, min_size=1, max_size=3)


class Machine(RuleBasedStateMachine):
    """Two open stores on one folder, and what they should hold."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = FixedClock(START)
        self.place = self.folder / "s"
        self.stores = [self._opened(), self._opened()]
        self.model = Model()
        self.copies = 0

    def teardown(self) -> None:
        self._close()
        shutil.rmtree(self.folder)

    def _opened(self) -> Store:
        return Store.open(self.place, clock=self.clock)

    def _close(self) -> None:
        for store in self.stores:
            store.close()

    def _committed(self) -> int:
        at = self.clock.now()
        self.clock.advance(hours=1)
        return self.model.committed(at)

    # ------------------------------------------------------------ commits

    @rule(who=who, rows=readings, arrow=st.booleans())
    def replace_actuals(
        self, who: int, rows: list[tuple[str, int, int, float | None, str | None]], arrow: bool
    ) -> None:
        given = [
            {
                "asset_id": asset, "valid_time": START + HOUR * hour, "available_at": START + HOUR * known, "y": y,
                "quality": quality,
            }
            for asset, hour, known, y, quality in rows
        ]  # fmt: skip
        txn = self.stores[who].begin()
        txn.replace("actuals", pa.Table.from_pylist(given).cast(ACTUALS) if arrow else given)
        written = txn.commit().written["actuals"]
        # Of several rows with one key and vintage the last counts.
        assert written == self.model.kept({(a, h, k): (y, q) for a, h, k, y, q in rows})
        if written:
            self._committed()

    @rule(who=who, rows=cells)
    def replace_alerts(self, who: int, rows: list[tuple[str, str | None, float | None]]) -> None:
        txn = self.stores[who].begin()
        txn.replace("alerts", [{"alert_id": name, "text": text, "impact": impact} for name, text, impact in rows])
        txn.commit()
        commit = self._committed()
        self.model.alerts += [(commit, name, *rest) for name, rest in {name: rest for name, *rest in rows}.items()]

    @rule(who=who, rows=cells, name=st.sampled_from([None, "x", "y"]), again=st.booleans())
    def insert_metrics(
        self, who: int, rows: list[tuple[str, str | None, float | None]], name: str | None, again: bool
    ) -> None:
        """Some with a commit id: the same again is harmless, anything else under it is refused."""
        if again and name in self.model.ids:
            rows = self.model.ids[name][0]
        txn = self.stores[who].begin(commit_id=name)
        txn.insert("metrics", [{"run_id": run, "name": "m", "value": value} for run, _, value in rows])
        if name is not None:
            txn.mark("seen", rows[0][0])
        if name in self.model.ids:
            before, snapshot = self.model.ids[name]
            if _told(before) == _told(rows):
                done = txn.commit()
                assert (done.repeated, done.snapshot, done.written) == (True, snapshot, {"metrics": len(rows)})
            else:
                with pytest.raises(CommitConflict):
                    txn.commit()
            return
        assert not txn.commit().repeated
        commit = self._committed()
        self.model.metrics += [(commit, run, value) for run, _, value in rows]
        if name is not None:
            self.model.ids[name] = (rows, commit)
            self.model.marks.append((commit, rows[0][0]))

    @rule(who=who, asked=promotions)
    def promote(self, who: int, asked: dict[str, str]) -> None:
        version = f"v{self.model.head}"
        found = {asset: self.model.champion(asset) for asset in asked}
        taken_for = {"right": found, "none": {}, "other": dict.fromkeys(asked, "somebody")}
        expected = {asset: taken_for[belief].get(asset) for asset, belief in asked.items()}
        txn = self.stores[who].begin()
        about = [{"asset_id": asset, "product": "p"} for asset in asked]
        txn.promote(
            [one | {"version_id": version} for one in about],
            list(expected.values()),
            [one | {"decided_at": START, "verdict": "promoted"} for one in about],
        )
        done = txn.commit()
        lost = [asset for asset in asked if expected[asset] != found[asset]]
        assert [(one.asset_id, one.expected, one.found) for one in done.conflicts] == [
            (asset, expected[asset], found[asset]) for asset in lost
        ]
        commit = self._committed()
        self.model.champions += [(commit, asset, version) for asset in asked if asset not in lost]
        self.model.verdicts += [(commit, "conflict" if asset in lost else "promoted") for asset in asked]

    # ------------------------------------------------------------ runs

    @rule(who=who, team=teams, values=st.lists(st.sampled_from([0.5, 1.5]), min_size=1, max_size=3))
    def log_runs(self, who: int, team: str, values: list[float]) -> None:
        made = []
        with self.stores[who].batch(every=None) as batch:
            for value in values:
                with batch.run(asset="a", recipe="r", tags={"team": team}) as run:
                    run.log_metrics({"mae": value})
                made.append(run.id)
        commit = self._committed()
        self.model.runs += [(commit, run, team, False) for run in made]
        self.model.metrics += [(commit, run, value) for run, value in zip(made, values, strict=True)]

    @precondition(lambda self: self.model.runs)
    @rule(who=who, data=st.data(), act=st.sampled_from(["tag", "delete", "restore"]), team=teams)
    def change_a_run(self, who: int, data: st.DataObject, act: str, team: str) -> None:
        now = self.model.newest(self.model.runs, self.model.head)
        run = data.draw(st.sampled_from(sorted(now)))
        before = now[run]
        store = self.stores[who]
        match act:
            case "tag":
                changed, after = store.tag_run(run, tags={"team": team}), (team, before[1])
            case "delete":
                changed, after = store.delete_run(run), (before[0], True)
            case _:
                changed, after = store.restore_run(run), (before[0], False)
        assert changed == ([] if after == before else [run])
        if changed:
            self.model.runs.append((self._committed(), run, *after))

    # ------------------------------------------------------------ upkeep

    @precondition(lambda self: self.model.head > 0)
    @rule(who=who)
    def flush(self, who: int) -> None:
        self.stores[who].flush()

    @rule(who=who, fold=st.booleans())
    def keep_up(self, who: int, fold: bool) -> None:
        """Flush, merge, collect; and fold what was superseded up to now, or nothing."""
        done = self.stores[who].upkeep(fold_after=timedelta(0) if fold else timedelta(days=1_000), grace=timedelta(0))
        assert fold or not done.folded
        assert {name.removesuffix("__replaced") for name in done.folded} <= {"alerts", "runs"}
        for table in done.folded:
            self.model.folds(table, self.model.head)
        stored = self.stores[1 - who].info().tables
        if "alerts" in done.folded:
            assert stored["alerts"] == len(self.model.newest(self.model.alerts, self.model.head))
        if "runs" in done.folded:
            assert stored["runs"] == len(self.model.newest(self.model.runs, self.model.head))

    @precondition(lambda self: self.model.head > 1)
    @rule(who=who, data=st.data())
    def expire(self, who: int, data: st.DataObject) -> None:
        oldest = data.draw(st.integers(max(self.model.ended, 1), self.model.head))
        self.stores[who].expire(self.model.times[oldest])
        self.model.ended = oldest
        for table in ("alerts", "runs"):
            self.model.folds(table, oldest)

    @rule(days=st.integers(1, 2))
    def wait(self, days: int) -> None:
        self.clock.advance(days=days)

    @rule(who=who)
    def reopen(self, who: int) -> None:
        self.stores[who].close()
        self.stores[who] = Store.open(self.place, clock=self.clock, create=False)

    @rule(who=who, data=st.data(), move=st.booleans())
    def back_up(self, who: int, data: st.DataObject, move: bool) -> None:
        """A backup opens and tells the same; sometimes life goes on in what was restored from it."""
        self.copies += 1
        backup = self.folder / f"b{self.copies}"
        assert self.stores[who].backup(backup).snapshot == self.model.head
        with Store.open(backup, read_only=True, clock=self.clock) as copy:
            self._agree(copy, data.draw(st.integers(self.model.ended, self.model.head)))
        if move:
            self._close()
            self.place = self.folder / f"r{self.copies}"
            Store.restore(backup, self.place)
            self.stores = [self._opened(), self._opened()]

    # ------------------------------------------------------------ what must hold

    @rule(who=who, data=st.data())
    def agree_in_the_past(self, who: int, data: st.DataObject) -> None:
        snapshot = data.draw(st.integers(0, self.model.head))
        store = self.stores[who]
        if snapshot < self.model.ended:
            for moment in (snapshot, self.model.times[snapshot]):
                with pytest.raises(SnapshotExpired):
                    store.at(moment)
            return
        assert store.at(self.model.times[snapshot]).id == snapshot
        self._agree(store, snapshot)

    @rule(who=who, data=st.data())
    def differ(self, who: int, data: st.DataObject) -> None:
        ends = st.integers(self.model.ended, self.model.head)
        after, upto = sorted((data.draw(ends), data.draw(ends)))
        now = self.clock.now()
        try:
            found = self.stores[who].diff(after, upto)
        except SnapshotExpired:
            assert any(self.model.may_refuse(table, after, now) for table in ("alerts", "runs"))
            return
        assert dict(found.rows) == self.model.added(after, upto)
        assert [one.at for one in found.commits] == self.model.times[after + 1 : upto + 1]

    @invariant()
    def agree_now(self) -> None:
        store = self.stores[self.model.head % 2]
        assert store.head() == self.model.head
        self._agree(store, self.model.head)

    def _agree(self, store: Store, at: int) -> None:
        snapshot, model = store.at(at), self.model
        names = ["asset_id", "valid_time", "y", "available_at", "quality", "_v"]
        rows = snapshot.table("actuals", columns=names).to_pylist()
        found = [(r["asset_id"], r["valid_time"], bits(r["y"]), *list(r.values())[3:]) for r in rows]
        assert found == model.readings(at)
        counted = snapshot.sql("select count(*) as n from actuals_all").rows()
        assert counted == [{"n": model.added(0, at).get("actuals", 0)}]
        metrics = snapshot.sql("select run_id, value from metrics").rows()
        assert Counter((r["run_id"], bits(r["value"])) for r in metrics) == Counter(
            (run, bits(value)) for commit, run, value in model.metrics if commit <= at
        )
        champions = snapshot.sql("select asset_id, version_id from champions").rows()
        assert {r["asset_id"]: (r["version_id"],) for r in champions} == model.newest(model.champions, at)
        said = snapshot.sql("select verdict from decisions").rows()
        assert Counter(r["verdict"] for r in said) == model.said(at)
        assert snapshot.mark("seen") == model.mark(at)
        self._agree_where_whole("alerts", at, lambda: _alerts(snapshot), lambda row: (row[0], bits(row[1])))
        self._agree_where_whole("runs", at, lambda: _runs(snapshot), tuple)

    def _agree_where_whole(
        self, table: str, at: int, ask: Callable[[], list[tuple[Any, ...]]], as_read: Callable[[Any], Any]
    ) -> None:
        """A keyed table that may be folded says what the model does, or is refused where it may be."""
        try:
            rows = ask()
        except SnapshotExpired:
            assert self.model.may_refuse(table, at, self.clock.now())
            return
        expected = self.model.newest(getattr(self.model, table), at)
        assert sorted(name for name, _ in rows) == sorted(expected)
        assert dict(rows) == {name: as_read(rest) for name, rest in expected.items()}


def _alerts(snapshot: Snapshot) -> list[tuple[Any, ...]]:
    rows = snapshot.sql("select alert_id, text, impact from alerts").rows()
    return [(r["alert_id"], (r["text"], bits(r["impact"]))) for r in rows]


def _runs(snapshot: Snapshot) -> list[tuple[Any, ...]]:
    tags = {r["run_id"]: json.loads(r["tags"]) for r in snapshot.sql("select run_id, tags from runs").rows()}
    return [(run, (one["team"], "deleted" in one)) for run, one in tags.items()]


def _told(rows: list[tuple[str, str | None, float | None]]) -> str:
    """What of the rows goes into a commit: a double told exactly."""
    return repr([(run, value) for run, _, value in rows])


ACTUALS = pa.schema(
    [
        ("asset_id", pa.string()),
        ("valid_time", pa.timestamp("us", "UTC")),
        ("available_at", pa.timestamp("us", "UTC")),
        ("y", pa.float64()),
        ("quality", pa.string()),
    ]
)


@pytest.fixture(autouse=True)
def segments_of_few_rows() -> Iterator[None]:
    """Batches of four rows are large enough for a segment, so that both ways of storing meet in a short history."""
    with (
        patch("store.writing.SEGMENT_ROWS", 4),
        patch("store.writing.FLUSH_ROWS", 12),
        patch("store.merging.FAN_IN", 2),
    ):
        yield


def _settings(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


TestStoreModel = Machine.TestCase
TestStoreModel.settings = _settings(12, 12)


@pytest.mark.slow
class TestStoreModelAtLength(Machine.TestCase):  # type: ignore[misc, name-defined]  # a class that Hypothesis makes
    settings = _settings(30, 30)
