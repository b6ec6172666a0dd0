"""Single bit flips, one at a time, over everything a store keeps: is any answer wrong in silence?

``python -m tests.bench flips [--count 5000] [--seed 0]`` makes a store with data in every part of it and flips one
random bit in a segment, in a pack, or in what a page of the catalog holds; a third of the flips each. Then:

- ``found``: ``verify`` names damage, or the store does not open and says so
- ``refused``: verify finds nothing, but a question or a blob raises
- ``harmless``: every answer is what it was (bytes of a page that nothing uses, counters of SQLite's own)
- ``wrong``: an answer differs and nobody said anything; there must be none

``raw`` counts errors on the way that were not the store's own; ``blobs_wrong`` blobs that came back changed. Each bit
is flipped back afterwards.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

from store import FixedClock, Store, StoreError
from store.files import segment_file
from store.packs import pack_path
from store.schema import FILED
from tests.store.rows import START, insert, reading, readings

TABLES = ("actuals", "actuals_all", "alerts", "champions_all", "forecasts", "metrics", "runs", "versions")
CATALOG = "catalog.sqlite"
PAGE = 4_096


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench flips")
    parser.add_argument("--count", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        began = time.monotonic()
        counted = flipped(Path(name) / "s", asked.count, asked.seed)
        told = {kind: dict(counts) for kind, counts in counted.items()}
        total = sum((counts for counts in counted.values()), Counter())
        print(json.dumps({"bench": "flips", **total, "by": told, "seconds": round(time.monotonic() - began, 1)}))
        if total["wrong"] or total["blobs_wrong"]:
            sys.exit(1)


def made(path: Path) -> list[str]:
    """A store with data in segments of several levels, packs, and the catalog; the hashes of its blobs."""
    clock = FixedClock(START + timedelta(days=200))
    hashes: list[str] = []
    with Store.open(path, clock=clock) as store:
        for turn in range(9):
            insert(store, "actuals", readings(6, 900, first=10 * turn, seed=turn))
        for turn in range(60):
            txn = store.begin(commit_id=f"job/{turn}", note=f"turn {turn}")
            asset, run = f"plant-{turn % 7}", f"run-{turn:04d}"
            txn.insert("runs", [{"run_id": run, "asset_id": asset, "status": "ok", "params": {"lags": turn}}])
            txn.insert(
                "metrics", [{"run_id": run, "asset_id": asset, "name": f"m{i}", "value": i / 7} for i in range(9)]
            )
            txn.replace("alerts", [{"alert_id": asset, "text": run}])
            txn.replace("actuals", [reading(asset, turn, turn / 3)])
            (sha,) = txn.put_blobs([bytes([turn]) * 700])
            hashes.append(sha)
            version = {"version_id": f"v{turn}", "asset_id": asset, "sha256": sha}
            txn.insert("versions", [version])
            before = f"v{turn - 7}" if turn >= 7 else None
            txn.promote([{"asset_id": asset, "product": "p", "version_id": f"v{turn}"}], [before], [])
            row = {"asset_id": asset, "product": "p", "role": "champion", "issue_time": START + timedelta(hours=turn)}
            txn.insert("forecasts", [{**row, "valid_time": START, "step": 1, "mean": turn / 9, "q10": 0.1}])
            txn.mark("seen", str(turn))
            txn.commit()
            if turn == 30:
                store.flush()
    return hashes


def answers(store: Store, hashes: list[str]) -> list[object]:
    """Everything there is to ask."""
    told: list[object] = [store.head(), store.info(), store.snapshot().mark("seen"), store.at(30).mark("seen")]
    told += [store.committed(f"job/{turn}") for turn in range(60)]
    told += [store.committed_at(snapshot) for snapshot in range(1, store.head() + 1)]
    told += [store.sql(f"select * from {name}__v order by all").arrow() for name in TABLES]
    told += [store.at(40).sql(f"select * from {name}__v order by all").arrow() for name in ("actuals", "runs")]
    return told + [store.blob(sha) for sha in hashes]


def used(path: Path) -> list[int]:
    """Where the catalog's bytes are that hold data: of each page with cells its header, their places, and they."""
    connection = sqlite3.connect(path / CATALOG)
    held = connection.execute(
        "SELECT pageno - 1, ncell, pagetype FROM dbstat WHERE ncell > 0 ORDER BY pageno"
    ).fetchall()
    connection.close()
    raw = (path / CATALOG).read_bytes()
    places = []
    for number, cells, kind in held:
        page = number * PAGE
        header = page + (100 if number == 0 else 0)
        end = header + (12 if kind == "internal" else 8) + 2 * cells
        content = int.from_bytes(raw[header + 5 : header + 7], "big") or 65_536
        places += [*range(page, end), *range(page + content, page + PAGE)]
    return places


def named(path: Path) -> dict[str, list[Path]]:
    """The files that the catalog names, by kind."""
    with Store.open(path, read_only=True) as store:
        state = store._catalog.state(FILED)
        segments = [segment_file(path, one.table, one.id) for held in state.segments.values() for one in held]
        return {"segments": segments, "packs": [pack_path(path, name) for name, _, _ in store._catalog.packs()]}


def flipped(path: Path, count: int, seed: int) -> dict[str, Counter[str]]:
    """Flip so many bits, one at a time; per kind of file what came of them."""
    hashes = made(path)
    with Store.open(path, read_only=True) as store:
        right = answers(store, hashes)
        assert store.verify().ok
    kinds, held = named(path), used(path)
    dice = random.Random(seed)  # noqa: S311 chance, not secrets
    counted = {kind: Counter[str]() for kind in (*kinds, "catalog")}
    for turn in range(count):
        kind = tuple(counted)[turn % len(counted)]
        if kind == "catalog":
            file, bit = path / CATALOG, (dice.choice(held) * 8) + dice.randrange(8)
        else:
            file = dice.choice(kinds[kind])
            bit = dice.randrange(file.stat().st_size * 8)
        _flip(file, bit)
        try:
            came = _came_of(path, hashes, right, counted[kind])
        finally:
            _flip(file, bit)
        counted[kind][came] += 1
        if came == "wrong":
            print(json.dumps({"wrong": kind, "file": str(file), "bit": bit}), file=sys.stderr)
    return counted


def _flip(file: Path, bit: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(bit // 8)
        (byte,) = opened.read(1)
        opened.seek(bit // 8)
        opened.write(bytes([byte ^ (1 << bit % 8)]))


def _came_of(path: Path, hashes: list[str], right: list[object], counts: Counter[str]) -> str:
    try:
        with Store.open(path, read_only=True) as store:
            _load(store, hashes, right[-len(hashes) :], counts)
            if not store.verify().ok:
                return "found"
    except StoreError:
        return "found"
    except Exception as error:  # noqa: BLE001 what is not the store's own is counted, and named below
        counts["raw"] += 1
        print(json.dumps({"raw": f"{type(error).__name__}: {error}"}), file=sys.stderr)
        return "found"
    try:
        with Store.open(path, read_only=True) as store:
            return "harmless" if answers(store, hashes) == right else "wrong"
    except StoreError:
        return "refused"


def _load(store: Store, hashes: list[str], right: list[object], counts: Counter[str]) -> None:
    """Load the blobs as a forecast does: what comes back is right or does not come back."""
    loaded = store.blobs(hashes)
    counts["blobs_wrong"] += sum(loaded.get(sha, whole) != whole for sha, whole in zip(hashes, right, strict=True))
