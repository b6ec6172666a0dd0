"""The store beside a plain model of it: whatever is inserted, replaced, tidied or reopened, every snapshot agrees.

A snapshot from before a fold is refused for the tables that were folded, and for no others.
"""

from __future__ import annotations

import math
import shutil
import struct
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from store import FixedClock, Store
from store.errors import SnapshotExpired

START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)

Key = tuple[str, int]
#: What the model keeps of one stored reading: rank within its key (known, commit), value, quality.
Reading = tuple[int, int, float | None, str | None]

assets = st.sampled_from(["a", "B", "b", "é", "a'"])
doubles = st.sampled_from([1.0, 2.0, 0.1 + 0.2, math.nan, math.inf, None]) | st.floats(width=64)
texts = st.none() | st.text(st.characters(codec="utf-8"), max_size=4)
values = st.sampled_from([1.0, 2.0, math.nan, None])
readings = st.lists(
    st.tuples(assets, st.integers(0, 3), st.integers(0, 2), values, st.sampled_from([None, "x"])),
    min_size=1,
    max_size=8,
)
cells = st.lists(st.tuples(st.sampled_from(["1", "2", "3"]), texts, doubles), min_size=1, max_size=8)


def same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return one == other or (math.isnan(one) and math.isnan(other))


def bits(value: float | None) -> bytes | None:
    return None if value is None else b"nan" if math.isnan(value) else struct.pack("<d", value)


class Model(RuleBasedStateMachine):
    """One store, and what it should hold: the stored readings and the history of each alert."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = FixedClock(START)
        self.store = Store.open(self.folder / "s", clock=self.clock)
        self.head = 0
        self.actuals: dict[Key, list[Reading]] = {}
        self.alerts: list[tuple[int, str, str | None, float | None]] = []
        self.metrics: list[tuple[int, str, float | None]] = []
        self.folded = 0  # the last commit to alerts before the last fold: from it on every snapshot is whole
        self.times = [START - HOUR]

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    # ------------------------------------------------------------ what happens

    @rule(rows=readings, arrow=st.booleans())
    def replace_actuals(self, rows: list[tuple[str, int, int, float | None, str | None]], arrow: bool) -> None:
        given = [
            {
                "asset_id": asset, "valid_time": START + HOUR * hour, "available_at": START + HOUR * known, "y": y,
                "quality": quality,
            }
            for asset, hour, known, y, quality in rows
        ]  # fmt: skip
        txn = self.store.begin()
        if arrow:
            txn.replace("actuals", pa.Table.from_pylist(given).cast(ACTUALS))
        else:
            txn.replace("actuals", given)
        written = txn.commit().written["actuals"]
        assert written == self._keep({(a, h, k): (y, q) for a, h, k, y, q in rows})

    def _keep(self, rows: dict[tuple[str, int, int], tuple[float | None, str | None]]) -> int:
        """Of several rows with one key and vintage the last; then, in rank order, those that change something."""
        commit, kept = self.head + 1, 0
        for (asset, hour, known), (y, quality) in sorted(rows.items(), key=lambda item: item[0][2]):
            held = self.actuals.setdefault((asset, hour), [])
            before = max((row for row in held if row[:2] <= (known, commit)), key=lambda row: row[:2], default=None)
            if before is not None and same(before[2], y) and before[3] == quality:
                continue
            held.append((known, commit, y, quality))
            kept += 1
        if kept:
            self._committed()
        return kept

    @rule(rows=cells)
    def replace_alerts(self, rows: list[tuple[str, str | None, float | None]]) -> None:
        txn = self.store.begin()
        txn.replace("alerts", [{"alert_id": name, "text": text, "impact": impact} for name, text, impact in rows])
        txn.commit()
        self._committed()
        for name, (text, impact) in {name: (text, impact) for name, text, impact in rows}.items():
            self.alerts.append((self.head, name, text, impact))

    @rule(rows=cells)
    def insert_metrics(self, rows: list[tuple[str, str | None, float | None]]) -> None:
        txn = self.store.begin()
        txn.insert("metrics", [{"run_id": run, "name": "m", "value": value} for run, _, value in rows])
        txn.commit()
        self._committed()
        self.metrics += [(self.head, run, value) for run, _, value in rows]

    def _committed(self) -> None:
        self.head += 1
        self.clock.advance(hours=1)
        self.times.append(self.clock.now() - HOUR)

    @precondition(lambda self: self.head > 0)
    @rule()
    def flush(self) -> None:
        self.store.flush()

    @rule(fold=st.booleans())
    def keep_up(self, fold: bool) -> None:
        """Flush, merge, collect; and fold what was superseded up to now, or nothing."""
        done = self.store.upkeep(fold_after=timedelta(0) if fold else timedelta(days=1_000), grace=timedelta(0))
        if "alerts" in done.folded:
            assert fold
            self.folded = max(commit for commit, *_ in self.alerts)
            assert self.store.info().tables["alerts"] == len({name for _, name, *_ in self.alerts})

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = Store.open(self.folder / "s", clock=self.clock, create=False)

    # ------------------------------------------------------------ what must hold

    @rule(data=st.data())
    def agree_in_the_past(self, data: st.DataObject) -> None:
        snapshot = data.draw(st.integers(0, self.head))
        assert self.store.at(self.times[snapshot]).id == snapshot
        self._agree(snapshot)

    @invariant()
    def agree_now(self) -> None:
        assert self.store.head() == self.head
        self._agree(self.head)

    def _agree(self, at: int) -> None:
        snapshot = self.store.at(at)
        expected = []
        for (asset, hour), held in self.actuals.items():
            visible = [row for row in held if row[1] <= at]
            if visible:
                known, commit, y, quality = max(visible, key=lambda row: row[:2])
                expected.append((asset, START + HOUR * hour, bits(y), START + HOUR * known, quality, commit))
        names = ["asset_id", "valid_time", "y", "available_at", "quality", "_v"]
        found = snapshot.table("actuals", columns=names).to_pylist()
        assert [(*list(r.values())[:2], bits(r["y"]), *list(r.values())[3:]) for r in found] == sorted(
            expected, key=lambda row: (row[0].encode(), row[1])
        )
        assert snapshot.table("actuals_all").num_rows == sum(
            row[1] <= at for held in self.actuals.values() for row in held
        )
        self._agree_on_alerts(at)
        metrics = [(run, bits(value)) for commit, run, value in self.metrics if commit <= at]
        rows = snapshot.sql("select run_id, value from metrics").rows()
        assert sorted((r["run_id"], bits(r["value"]) or b"") for r in rows) == sorted((r, v or b"") for r, v in metrics)

    def _agree_on_alerts(self, at: int) -> None:
        alerts = {name: (text, bits(impact)) for commit, name, text, impact in self.alerts if commit <= at}
        try:
            rows = self.store.at(at).sql("select alert_id, text, impact from alerts").rows()
        except SnapshotExpired:
            assert at < self.folded
            return
        assert len(rows) == len(alerts)
        assert {r["alert_id"]: (r["text"], bits(r["impact"])) for r in rows} == alerts


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


TestStoreModel = Model.TestCase
TestStoreModel.settings = settings(
    max_examples=15, stateful_step_count=14, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
