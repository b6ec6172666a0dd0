"""What is derived is never told from what it is derived from: `latest` beside the same question over all metrics.

Whatever is logged, changed, deleted, flushed, merged, folded, ended or damaged, at every snapshot both are the same.
"""

from __future__ import annotations

import math
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from store import FixedClock, Store
from store.errors import NotFound, SnapshotExpired

START = datetime(2024, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PLAIN = """
SELECT m.asset_id, r.product, m.recipe, m.name, m.step, m.time, m.value, m.run_id, m._v
FROM metrics__v AS m LEFT JOIN runs AS r ON m.run_id = r.run_id
QUALIFY row_number() OVER (
    PARTITION BY m.asset_id, r.product, m.recipe, m.name
    ORDER BY m.time DESC NULLS LAST, m.step DESC NULLS LAST, m._v DESC, m.run_id DESC, m.value DESC NULLS LAST
) = 1
"""

run_ids = st.sampled_from(["1", "2", "3", "4"])
products = st.sampled_from(["p", "p", "p", "q", None])
metrics = st.lists(
    st.tuples(
        run_ids,
        st.sampled_from(["a", "é", None]),
        st.sampled_from(["r", None]),
        st.sampled_from(["mae", "mae", "loss"]),
        st.none() | st.integers(0, 2),
        st.none() | st.integers(0, 3),
        st.sampled_from([1.0, 2.0, math.nan, math.inf, None]),
    ),
    min_size=1,
    max_size=6,
)


def plain(row: dict[str, Any]) -> tuple[Any, ...]:
    """A row whose NaN equals another."""
    return tuple(struct.pack("<d", value) if isinstance(value, float) else value for value in row.values())


def told(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(repr(plain(row)) for row in rows)


class Latest(RuleBasedStateMachine):
    """One store, and two ways to ask it for the newest metrics."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = FixedClock(START)
        self.store = Store.open(self.folder / "s", clock=self.clock)
        self.runs: dict[str, str | None] = {}

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    # ------------------------------------------------------------ what happens

    @initialize(rows=metrics, known=st.dictionaries(run_ids, products))
    def begin(self, rows: list[tuple[Any, ...]], known: dict[str, str | None]) -> None:
        """Most histories begin where something is derived."""
        if known:
            self.tell_runs(known, kept=False)
        self.log(rows, "1", "p", with_run=False)
        self.keep_up(fold=False)

    @rule(rows=metrics, run_id=run_ids, product=products, with_run=st.booleans())
    def log(self, rows: list[tuple[Any, ...]], run_id: str, product: str | None, with_run: bool) -> None:
        """A batch of metrics, of runs that are known or not, alone or in the commit that tells a run."""
        names = ("run_id", "asset_id", "recipe", "name", "step", "time", "value")
        given = [dict(zip(names, row, strict=True)) for row in rows]
        for row in given:
            row["time"] = None if row["time"] is None else START + row["time"] * MINUTE
        txn = self.store.begin()
        txn.insert("metrics", given)
        if with_run and run_id not in self.runs:
            txn.insert("runs", [{"run_id": run_id, "product": product}])
            self.runs[run_id] = product
        txn.commit()
        self.clock.advance(hours=1)
        self._agree(self.store.head())

    @rule(told=st.dictionaries(run_ids, products, min_size=1, max_size=4), kept=st.booleans())
    def tell_runs(self, told: dict[str, str | None], kept: bool) -> None:
        """Rows of runs come, late or again; as a rule a run keeps its product."""
        if kept:
            told |= {run_id: product for run_id, product in self.runs.items() if run_id in told}
        txn = self.store.begin()
        txn.replace("runs", [{"run_id": run_id, "product": product} for run_id, product in told.items()])
        txn.commit()
        self.runs |= told
        self.clock.advance(hours=1)
        self._agree(self.store.head())

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), again=st.booleans())
    def delete_and_restore(self, data: st.DataObject, again: bool) -> None:
        one = data.draw(st.sampled_from(sorted(self.runs)))
        self.store.delete_run(one)
        if again:
            self.store.restore_run(one)

    @rule()
    def flush(self) -> None:
        self.store.flush()

    @rule(fold=st.booleans())
    def keep_up(self, fold: bool) -> None:
        self.store.upkeep(fold_after=timedelta(0) if fold else timedelta(days=1_000), grace=timedelta(0))
        if self.store.head() and len(self.store.table("metrics")) >= 3:
            assert self.store.info().derived == {"latest": self.store.head()} or not self._behind()

    def _behind(self) -> bool:
        state = self.store._catalog.state(["latest", "metrics", "runs"])
        return max(state.touched["metrics"], state.touched["runs"]) > state.segments["latest"][0].max_v

    @precondition(lambda self: self.store.head() > 3)
    @rule(back=st.integers(0, 3))
    def expire(self, back: int) -> None:
        with suppress(NotFound):  # nothing may be so old
            self.store.expire(self.clock.now() - timedelta(hours=back))

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = Store.open(self.folder / "s", clock=self.clock, create=False)

    @precondition(lambda self: self.store.info().derived)
    @rule(lost=st.booleans())
    def damage(self, lost: bool) -> None:
        for path in (self.folder / "s" / "segments" / "latest").iterdir():
            if lost:
                path.unlink()
            else:
                path.write_bytes(path.read_bytes()[:-1] + b"?")

    # ------------------------------------------------------------ what must hold

    @rule(data=st.data())
    def agree_in_the_past(self, data: st.DataObject) -> None:
        self._agree(data.draw(st.integers(0, self.store.head())))

    def _agree(self, at: int) -> None:
        try:
            expected = self.store.at(at).sql(PLAIN).rows()
        except SnapshotExpired:
            with pytest.raises(SnapshotExpired):
                self.store.at(at).table("latest")
            return
        snapshot = self.store.at(at)
        assert told(snapshot.sql("SELECT * FROM latest__v").rows()) == told(expected)
        names = list(expected[0]) if expected else ["name"]
        of_one = snapshot.table("latest", assets=["é"], columns=names).to_pylist()
        assert told(of_one) == told([row for row in expected if row["asset_id"] == "é"])
        late = snapshot.table("latest", since=START + 2 * MINUTE, where={"name": "mae"}, columns=names).to_pylist()
        assert told(late) == told(
            [r for r in expected if r["time"] is not None and r["time"] >= START + 2 * MINUTE and r["name"] == "mae"]
        )


@pytest.fixture(autouse=True)
def segments_of_few_rows() -> Iterator[None]:
    """A few rows are many, so that all ways of storing meet in a short history."""
    with (
        patch("store.writing.SEGMENT_ROWS", 4),
        patch("store.writing.FLUSH_ROWS", 12),
        patch("store.merging.FAN_IN", 2),
        patch("store.deriving.FEW_ROWS", 3),
    ):
        yield


TestLatest = Latest.TestCase
TestLatest.settings = settings(
    max_examples=10, stateful_step_count=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
