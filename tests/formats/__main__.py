"""Keep a store of this release for ever: ``python -m tests.formats v2`` writes ``tests/formats/v2``, which must be new.

A folder holds ``store``, as a backup leaves it, and ``expected.json``: the answers that it gave when it was made. Run
this when the format's number goes up, before the release, and never again for that number: what is kept here is what
users have on their disks.
"""

from __future__ import annotations

import json
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from store import FixedClock, Store
from store.environment import Environment
from store.schema import TABLES
from tests.formats.asking import answers
from tests.store.rows import HOUR, START, insert, reading, replace

HERE = Path(__file__).parent
AT_ONCE = timedelta(0)
LONG = timedelta(days=1_000)
#: Where the runs were made, instead of here.
SOMEWHERE = Environment(
    host="somewhere", user="someone", python="3.11.0", script=None, commit=None, dirty=False, libraries={"numpy": "2.0"}
)


def main(words: list[str]) -> None:
    if len(words) != 1 or (HERE / words[0]).exists():
        there = ", ".join(sorted(path.name for path in HERE.iterdir() if path.is_dir() and path.name.startswith("v")))
        sys.exit(f"usage: python -m tests.formats NEW, where NEW is not there yet (there are {there})")
    target = HERE / words[0]
    target.mkdir()
    # Small batches become segments and few of them a merge, so that a small store has everything that a large one has.
    clock = FixedClock(START + timedelta(days=200))
    with (
        tempfile.TemporaryDirectory() as scratch,
        patch("store.writing.SEGMENT_ROWS", 6),
        patch("store.environment.captured", lambda: SOMEWHERE),
        Store.open(Path(scratch) / "s", clock=clock) as store,
    ):
        with patch("store.merging.FAN_IN", 2):
            _merged(store, clock)
        _loose(store, clock)
        for name, row in _OTHERS.items():
            insert(store, name, [row])
        replace(store, "assets", [_OTHERS["assets"] | {"capacity": 12.5}])
        replace(store, "actuals", [reading("plant-é", 1, 99.5, known=9_100, quality="late")])
        info = store.info()
        assert all(info.tables[name] for name in TABLES), f"a table is empty: {info.tables}"
        assert {0, 1, 2} <= {level for levels in info.levels.values() for level in levels}, (
            f"a level lacks: {info.levels}"
        )
        store.backup(target / "store")
    with tempfile.TemporaryDirectory() as scratch:
        expected = answers(target / "store", Path(scratch))
    text = json.dumps(expected, indent=1, ensure_ascii=False, sort_keys=True)
    (target / "expected.json").write_text(text + "\n", encoding="utf-8")


def _merged(store: Store, clock: FixedClock) -> None:
    """Merged segments of two partitions, with revisions, NaN, NULL and a name beyond ASCII; a table that is folded."""
    for turn in range(4):
        hours = [0, 1, 2, 8_784, 8_785, 8_786]
        rows = [reading("plant-é", hour, turn + hour / 7, known=9_000 + turn) for hour in hours]
        rows[turn]["y"] = [float("nan"), None, -0.0, float("inf")][turn]
        replace(store, "actuals", rows)
        insert(store, "metrics", [_metric("r0", i, 30 * turn) for i in range(6)])
        clock.advance(hours=1)
    store.upkeep(fold_after=LONG, grace=AT_ONCE)
    for turn in range(3):
        replace(store, "alerts", [{"alert_id": "a1", "text": f"turn {turn}", "opened_at": START, "assets": turn}])
        clock.advance(hours=1)
    store.upkeep(fold_after=AT_ONCE, grace=AT_ONCE)


def _loose(store: Store, clock: FixedClock) -> None:
    """Segments of commits and of a flush, columns that came later, models, champions, marks, commit ids, runs."""
    for turn, quantile in enumerate(("q10", "q025")):
        insert(store, "forecasts", [_forecast(turn, step, quantile) for step in range(6)])
        clock.advance(hours=1)
    insert(store, "forecasts", [_forecast(2, 0, "q90")])
    store.flush()
    for turn in range(2):
        txn = store.begin(commit_id=f"job/{turn}", note=f"turn {turn}")
        (sha,) = txn.put_blobs([f"model {turn}".encode() * 20])
        version = {"version_id": f"v{turn}", "asset_id": "plant-é", "sha256": sha, "bytes": 140, "trusted": False}
        txn.insert("versions", [version])
        champion = {"asset_id": "plant-é", "product": "default", "version_id": f"v{turn}", "since": START}
        decision = {"asset_id": "plant-é", "product": "default", "decided_at": START, "verdict": "promoted"}
        txn.promote([champion], [None if turn == 0 else "v0"], [decision | {"challenger": f"v{turn}", "n": turn}])
        txn.mark("scored", str(turn))
        txn.commit()
        clock.advance(hours=1)
    with store.run(asset="plant-é", recipe="gbm", params={"lags": 48, "rate": 0.1}, tags={"team": "north"}) as run:
        run.log_metrics({"mae": 3.25, "rmse": 4.5})
        run.log_history({"loss": [3.0, 2.0, 1.5]})
        run.log_model(b"bytes of a model")
        run.log_text("a note", "note.txt")
    with store.run(asset="plant-b", recipe="naive") as gone:
        gone.log_metrics({"mae": 9.0})
    store.delete_run(gone.id, reason="a mistake")
    clock.advance(hours=1)


def _metric(run: str, step: int, days: int) -> dict[str, Any]:
    at = START + timedelta(days=days)
    return {"run_id": run, "asset_id": "plant-é", "name": "loss", "step": step, "time": at, "value": step / 3}


def _forecast(turn: int, step: int, quantile: str) -> dict[str, Any]:
    issued = START + HOUR * turn
    return {
        "asset_id": "plant-é", "product": "default", "recipe": "gbm", "role": "champion", "version_id": f"v{turn}",
        "issue_time": issued, "valid_time": issued + HOUR * step, "step": step + 1, "mean": step / 7, quantile: 0.5,
        "created_at": issued,
    }  # fmt: skip


_OTHERS: dict[str, dict[str, Any]] = {
    "assets": {"asset_id": "plant-é", "kind": "wind", "capacity": 10.0, "timezone": "Europe/Oslo", "meta": {"x": 1}},
    "series": {"series_id": "station-1", "source": "met", "freq": "1h", "timezone": "UTC"},
    "links": {"asset_id": "plant-é", "series_id": "station-1", "name": "wind", "valid_from": START},
    "covariates": {
        "series_id": "station-1", "name": "wind", "valid_time": START, "available_at": START, "value": 7.5,
    },
    "masks": {"asset_id": "plant-é", "valid_from": START, "valid_to": START + HOUR, "reason": "outage"},
    "scores": {
        "asset_id": "plant-é", "product": "default", "role": "backtest", "truth": "first", "day": START.date(),
        "lead_bucket": "0-1h", "n": 3, "sum_abs_e": 1.5, "pinball_sum_q10": 0.25, "covered_80": 2.0,
    },
    "scales": {"asset_id": "plant-é", "product": "default", "origin": START, "season": 24, "scale_abs": 0.5},
    "job_runs": {"job": "train", "slot": START, "attempt": 1, "status": "ok", "assets": 2, "ok": 2},
    "outcomes": {"job": "train", "slot": START, "asset_id": "plant-é", "status": "ok", "duration_s": 0.25},
}  # fmt: skip

if __name__ == "__main__":
    main(sys.argv[1:])
