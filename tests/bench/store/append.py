"""Bulk append of 10 million metric rows beside bare pyarrow.

The rows come as Arrow in batches of a million, as a fleet's backtest hands them over: 20 runs of each of 5,000 assets,
10 metrics at 10 steps, in the order in which the runs ended. Both sides are handed the same tables, built before the
clock starts, and each works in a process of its own, so that its peak memory is its own.

The peer sorts each batch by the same keys (``Table.sort_by``), writes it with the same zstd level, row groups,
encodings and page checksums, hashes the bytes on their way with SHA-256, and makes file and folder durable. What it
does not do: check types and ids, keep minima and maxima, a catalog, a name that appears only when all is there. It is
measured twice: with ids as plain text, as they came, and as a pyarrow expert would, with dictionary-encoded ids and the
order worked out over their codes (``expert``); the limit is for the faster one.

A machine that has other work makes such runs uneven, so batch by batch, in one process, the two also take turns
(``in turns``): the ratio is the median over the batches.

``one`` is one transaction of ten inserts, ``ten`` a commit each batch; both without the upkeep that follows a commit,
which the peer has none of. ``ten and upkeep`` is what a user sees who calls ``store.begin``.

``python -m tests.bench store append [--rows 10000000] [--batch 1000000] [--rounds 3]``
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.store.lines import cpu, judged, peak_mb, tell

if TYPE_CHECKING:
    import pyarrow as pa

LIMIT = 1.3
OURS = ("one", "ten", "ten and upkeep")
THEIRS = ("pyarrow", "expert")
_SORT = ("asset_id", "name", "time")
_ROW_GROUP = 122_880


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench store append")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--batch", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked, _ = parser.parse_known_args(words)
    found: dict[str, list[dict[str, float]]] = {way: [] for way in (*THEIRS, *OURS)}
    for number in range(asked.rounds):
        for way, runs in found.items():
            with tempfile.TemporaryDirectory() as name:
                figures = apart(way, Path(name), asked.rows, asked.batch)
            runs.append(figures)
            tell("append", figure=way, round=number, rows=asked.rows, **figures)
    for measure in ("wall_s", "cpu_s"):
        medians = {way: statistics.median(run[measure] for run in runs) for way, runs in found.items()}
        best = min(medians[way] for way in THEIRS)
        for way in OURS:
            limit = judged(medians[way] / best, LIMIT) if way != OURS[-1] else {"ratio": medians[way] / best}
            tell("append", figure=f"{way} / pyarrow", measure=measure, **limit)
    with tempfile.TemporaryDirectory() as name:
        in_turns(Path(name), asked.rows, asked.batch)


def in_turns(folder: Path, rows: int, batch: int) -> None:
    """Each batch is appended here and by the expert, the one that begins changing."""
    from store import Store

    peers = folder / "expert"
    peers.mkdir()
    write_theirs = theirs("expert", peers)
    with Store.open(folder / "turns.store") as store:

        def write_ours(tables: list[pa.Table]) -> None:
            transaction = store._begin()  # without upkeep
            transaction.insert("metrics", tables[0])
            transaction.commit()

        found: dict[str, list[tuple[float, float]]] = {"ours": [], "expert": []}
        sides = [("ours", write_ours), ("expert", write_theirs)]
        for number, table in enumerate(batches(rows, batch)):
            for side, act in sides if number % 2 else reversed(sides):
                costs = cpu(partial(act, [table]))
                if number:  # the first one loads libraries
                    found[side].append(costs)
    for place, measure in enumerate(("wall_s", "cpu_s")):
        pairs = zip(found["ours"], found["expert"], strict=True)
        ratio = statistics.median(ours[place] / theirs[place] for ours, theirs in pairs)
        tell("append", figure="in turns", measure=measure, batches=len(found["ours"]), **judged(ratio, LIMIT))


def apart(way: str, folder: Path, rows: int, batch: int) -> dict[str, float]:
    """One way in a process of its own."""
    command = [sys.executable, "-m", __spec__.name, way, str(folder), str(rows), str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{way} exited {done.returncode}: {done.stderr[-2_000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


# ------------------------------------------------------------------------------------------- in a process of its own


def batches(rows: int, batch: int) -> Iterator[pa.Table]:
    """The rows; every batch is of runs that ended one after the other."""
    import numpy as np
    import pyarrow as pa

    chance = np.random.default_rng(4)
    assets = pa.array([f"plant-{number:05d}" for number in range(5_000)])
    names = pa.array([f"metric_{number}" for number in range(10)])
    each, runs = 100, batch // 100
    for first in range(0, rows, batch):
        count = min(batch, rows - first)
        run = np.repeat(np.arange(runs), each)[:count]
        ids = pa.array([f"{first // each + number:026d}" for number in range(runs)])
        ended = 1_717_200_000_000_000 + (first // each + run) * 7_000_000
        yield pa.table(
            {
                "run_id": ids.take(pa.array(run)),
                "asset_id": assets.take(pa.array(chance.integers(0, 5_000, runs)[run])),
                "recipe": pa.repeat("gbm", count),
                "library": pa.repeat("lightgbm", count),
                "name": names.take(pa.array(np.tile(np.repeat(np.arange(10), 10), runs)[:count])),
                "step": np.tile(np.tile(np.arange(10), 10), runs)[:count],
                "time": pa.array(ended + np.tile(np.arange(each), runs)[:count] * 10_000, pa.timestamp("us", "UTC")),
                "value": chance.normal(size=count),
            }
        )


def ours(way: str, folder: Path) -> Callable[[list[pa.Table]], None]:
    from store import Store

    def append(tables: list[pa.Table]) -> None:
        with Store.open(folder / "ours.store") as store:
            begin = store.begin if way == "ten and upkeep" else store._begin  # the latter without upkeep
            transaction = begin()
            for table in tables:
                transaction.insert("metrics", table)
                if way != "one":
                    transaction.commit()
                    transaction = begin()
            transaction.commit()

    return append


def theirs(way: str, folder: Path) -> Callable[[list[pa.Table]], None]:
    def append(tables: list[pa.Table]) -> None:
        for number, table in enumerate(tables):
            rows = by_codes(table) if way == "expert" else table.sort_by([(name, "ascending") for name in _SORT])
            write(rows, folder / f"{number}.parquet")
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(handle)
        os.close(handle)

    return append


def by_codes(table: pa.Table) -> pa.Table:
    """Sorted by the codes of dictionaries, which are far cheaper to compare than texts."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    keys = []
    for name in ("asset_id", "recipe", "library", "name"):
        encoded = table.column(name).combine_chunks().dictionary_encode()
        table = table.set_column(table.column_names.index(name), name, encoded)
        if name in _SORT:
            rank = np.empty(len(encoded.dictionary), np.int64)
            rank[pc.sort_indices(encoded.dictionary).to_numpy()] = np.arange(len(rank))
            keys.append(rank[encoded.indices.to_numpy()])
    keys.append(table.column("time").cast(pa.int64()).to_numpy())
    return table.take(pa.array(np.lexsort(keys[::-1])))


def write(rows: pa.Table, path: Path) -> None:
    import pyarrow.parquet as pq

    class Hashing:
        """Hashes what goes into the file."""

        closed = False

        def write(self, data: bytes) -> int:
            found.update(data)
            return file.write(data)

        def tell(self) -> int:
            return file.tell()

        def flush(self) -> None: ...

        def close(self) -> None: ...

    found = sha256()
    texts = [name for name in rows.column_names if name not in ("step", "time", "value")]
    whole = {"step": "DELTA_BINARY_PACKED", "time": "DELTA_BINARY_PACKED"}
    with path.open("wb", buffering=1 << 20) as file:
        pq.write_table(
            rows, Hashing(), row_group_size=_ROW_GROUP, compression="zstd", compression_level=1, use_dictionary=texts,
            column_encoding=whole, write_page_checksum=True, store_schema=False,
        )  # fmt: skip
        file.flush()
        os.fsync(file.fileno())


def alone(way: str, folder: Path, rows: int, batch: int) -> None:
    import pyarrow.parquet  # noqa: F401 - loaded before the clock starts

    if way in OURS:
        import store.segments
        import store.writing  # noqa: F401 - as above

    tables = list(batches(rows, batch))
    before = peak_mb()
    act = (ours if way in OURS else theirs)(way, folder)
    wall, spent = cpu(lambda: act(tables))
    size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    print(
        json.dumps(
            {"wall_s": wall, "cpu_s": spent, "bytes_a_row": size / rows, "peak_mb": peak_mb(), "rows_mb": before}
        )
    )


if __name__ == "__main__":
    alone(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
