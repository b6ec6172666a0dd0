"""A store with traces of one asset everywhere, and a search that finds them in every byte and every decoded value."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from store import Store
from store.merging import FAN_IN
from store.schema import STORED, TABLES
from tests.store.rows import START, insert, reading, readings, replace

#: A name with everything in it that somebody might forget to escape.
GONE = """wêrk "süd" 7's `x` 電"""
KEPT = ("plant-1", "plant-2", GONE + "-2")
#: A value that only its rows hold.
PLANTED = 7351.062890625123
ONLY, BOTH = b"what only it learned", b"what two of them learned"
NOW = timedelta(0)
NEVER = START + timedelta(days=9_000)


def rows_of(asset: str, turn: int, value: float) -> dict[str, list[dict[str, Any]]]:
    """A row of every table that knows assets, all of them keyed alike each turn so that they are replaced."""
    run, at = f"run of {asset}"[:40], START + timedelta(days=turn)
    number = KEPT.index(asset) if asset in KEPT else 9
    cell = {"role": "champion", "recipe": "r", "version_id": f"v {asset}"}
    return {
        "assets": [{"asset_id": asset, "kind": "k", "capacity": value, "valid_from": START}],
        "links": [{"asset_id": asset, "series_id": f"station of {number}"}],
        "actuals": [reading(asset, hour, value if hour else float(turn), known=hour + turn) for hour in range(3)],
        "masks": [{"asset_id": asset, "valid_from": START, "reason": "cut", "available_at": at}],
        "runs": [
            {"run_id": run, "asset_id": asset, "recipe": "r", "duration_s": value, "params": {"of": asset},
             "tags": {"artifacts": {"a.txt": {"kind": "file", "bytes": 1, "sha256": blob(asset)}}}}
        ],
        "metrics": [{"run_id": run, "asset_id": asset, "name": "mae", "time": at, "value": value},
                    {"run_id": run, "name": "no asset", "value": value}],
        "versions": [{"version_id": f"v {asset}", "asset_id": asset, "run_id": run, "sha256": blob(asset)}],
        "forecasts": [
            {"asset_id": asset, "product": "p", "issue_time": at, "valid_time": at, "mean": value, "q10": value} | cell
        ],
        "scores": [
            {"asset_id": asset, "product": "p", "truth": "latest", "day": date(2024, 1, 1), "lead_bucket": "0-1h",
             "sum_e": value} | cell
        ],
        "adjustments": [
            {"adjustment_id": f"word {number}", "asset_id": asset, "product": "p", "valid_from": START,
             "valid_to": NEVER, "kind": "add", "value": value}
        ],
        "scales": [{"asset_id": asset, "product": "p", "origin": START, "season": 24, "scale_abs": value}],
        "outcomes": [{"job": "cli:train", "slot": at, "asset_id": asset, "status": "ok", "duration_s": value}],
    }  # fmt: skip


def blob(asset: str) -> str:
    return sha256(ONLY if asset == GONE else BOTH).hexdigest()


def write(store: Store, turn: int) -> None:
    """One commit with all of it, for all assets; champions move, and one of them is missed."""
    txn = store.begin(note=f"turn {turn} of {GONE} and more", commit_id=f"{turn}")
    txn.put_blobs([ONLY, BOTH])
    for asset in (*KEPT, GONE):
        for table, rows in rows_of(asset, turn, PLANTED if asset == GONE else turn + 0.5).items():
            if TABLES[table].keyed:
                txn.replace(table, rows)
            else:
                txn.insert(table, rows)
        champion = {"asset_id": asset, "product": "p", "version_id": f"v {asset}"}
        decision = {"asset_id": asset, "product": "p", "champion_value": PLANTED if asset == GONE else 1.0}
        before = None if turn == 0 else f"v {asset}"
        txn.promote([champion], [before if turn < 3 else "another"], [decision])
    txn.insert("versions", [{"version_id": f"both {turn}", "asset_id": GONE, "sha256": sha256(BOTH).hexdigest()}])
    txn.replace("alerts", [{"alert_id": "1", "text": f"{GONE} and plant-1 are late ({turn})"}])
    concerned = [
        {"alert_id": "1", "rule": "late", "asset_id": name, "impact": float(turn)} for name in (GONE, "plant-1")
    ]
    txn.replace("alert_assets", concerned)
    sent = {"delivery": "desk", "number": 1, "status": "failed", "spec": {"select": [GONE]}, "error": f"no {GONE}"}
    txn.replace("deliveries", [sent])
    txn.replace("job_runs", [{"job": "cli:train", "slot": START, "error": f"no data of '{GONE}'", "attempt": turn}])
    txn.insert("runs", [{"run_id": f"many {turn}", "params": {"of": [GONE, "plant-1"]}, "tags": {GONE: 1, "n": 2.5}}])
    txn.insert("runs", [{"run_id": f"like {turn}", "asset_id": "plant-1", "tags": {"lags": turn}}])
    txn.mark(f"scored/{GONE}", "7")
    txn.mark("newest", f"up to {GONE}")
    txn.mark("scored", str(turn))
    txn.commit()


def fill(store: Store) -> None:
    with pytest.MonkeyPatch.context() as small:
        small.setattr("store.writing.SEGMENT_ROWS", 3)
        small.setattr("store.deriving.FEW_ROWS", 3)
        insert(store, "covariates", [{"series_id": "station of 9", "name": "t", "valid_time": START,
                                      "available_at": START, "value": 1.0}])  # fmt: skip
        insert(store, "actuals", readings(3, 50))
        for turn in range(FAN_IN):
            replace(store, "actuals", [reading(asset, h, PLANTED if asset == GONE else h + turn, known=50 + turn)
                                       for asset in (*KEPT, GONE) for h in range(4)])  # fmt: skip
        write(store, 0)
        store.upkeep(grace=NOW)
        write(store, 1)
        store.flush()
        replace(store, "forecasts", rows_of(GONE, 2, PLANTED)["forecasts"] * 1 + rows_of("plant-1", 2, 1.0)["forecasts"]
                + rows_of("plant-2", 2, 1.0)["forecasts"])  # fmt: skip
    write(store, 2)
    write(store, 3)
    assert store.info().derived
    assert {level for levels in store.info().levels.values() for level in levels} >= {0, 1, 2}


def traces(folder: Path) -> set[str]:
    """What a search of every byte and every decoded value finds of the asset, as ``file: what``."""
    found = set()
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        data = path.read_bytes()
        for what, needle in NEEDLES.items():
            if needle in data.replace(KEPT[2].encode(), b"").replace(json.dumps(KEPT[2])[1:-1].encode(), b""):
                found.add(f"{path.name}: {what}")
        if path.suffix == ".parquet":
            found |= {f"{path.name}: {what}" for what in decoded(path)}
    return found


NEEDLES = {
    "name": GONE.encode(),
    "JSON name": json.dumps(GONE)[1:-1].encode(),
    "value as text": repr(PLANTED).encode(),
    "value": struct.pack("<d", PLANTED),
    "value of SQLite": struct.pack(">d", PLANTED),
    "blob": ONLY,
    "hash": sha256(ONLY).hexdigest().encode(),
}


def decoded(path: Path) -> Iterator[str]:
    plain = pq.ParquetFile(path)
    texts = [field.name for field in plain.schema_arrow if pa.types.is_string(field.type)]
    with plain, pq.ParquetFile(path, read_dictionary=texts) as file:
        rows = file.read()
        for group in range(file.num_row_groups):
            for column in range(len(rows.column_names)):
                told = file.metadata.row_group(group).column(column).statistics
                if told is not None and told.has_min_max and GONE in (told.min, told.max):
                    yield "name in statistics"
    for name in rows.column_names:
        for chunk in rows.column(name).chunks:
            held = chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk
            if PLANTED in (values := held.to_pylist()):
                yield f"value in {name}"
            for value in values:
                if isinstance(value, str) and any(form in value.replace(KEPT[2], "").replace(json.dumps(KEPT[2])[1:-1],
                                                  "") for form in (GONE, json.dumps(GONE)[1:-1])):  # fmt: skip
                    yield f"name in {name}"


def of_others(store: Store) -> dict[str, list[dict[str, Any]]]:
    """All rows of assets that stay, superseded ones and their commits too."""
    found = {}
    for name, table in STORED.items():
        plan = store._reader.answer(lambda asking, n=name: asking.plan([n], None))  # type: ignore[misc]  # binds the loop's name
        if "asset_id" in table.by_name:
            query = f"select * from ({plan.rows(table)}) where asset_id in (select id from kept) order by all"
            question = store._reader.engine.cursor()
            question.register("kept", pa.table({"id": [*KEPT, *(f"asset-{n:05d}" for n in range(3))]}))
            found[name] = question.arrow(query).to_pylist()
    assert sum(map(len, found.values())) > 200
    return found
