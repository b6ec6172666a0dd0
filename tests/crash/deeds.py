"""What the writers of the crash harness commit: all of a deed follows from the seed, its writer and its number.

So whoever looks at the store afterwards knows what each commit should have left in every table, and tells one that is
there by half. A deed may touch hot rows, segments, packs, champions, dynamic columns and marks at once.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from store import Commit, Snapshot, Store
from tests.store.rows import HOUR, START, reading

METRICS = 5
BULK = 5_200
SMALL = 3
CHANCES = {"bulk": 0.06, "blobs": 0.25, "promotion": 0.2, "forecasts": 0.25, "revision": 0.1, "rewrite": 0.02}
#: Of a promotion: that it names another champion than the one in place.
_MISTAKEN = 0.2


class HalfVisible(AssertionError):
    """A commit is there in one table and not, or otherwise, in another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """One commit of one writer."""

    seed: int
    writer: str
    number: int
    parts: frozenset[str]
    repeatable: bool
    mistaken: bool

    @property
    def name(self) -> str:
        return f"{self.writer}-{self.number:06d}"

    @property
    def commit_id(self) -> str | None:
        return f"crash/{self.name}" if self.repeatable else None

    @property
    def blobs(self) -> list[bytes]:
        """One of its own, one that many deeds have in common."""
        return [f"{self.name} ".encode() * 300, b"shared by all" * (1 + self.number % 7)]

    @property
    def quantile(self) -> str:
        """The dynamic column that its forecasts bring along."""
        return f"q{10 + 5 * (self.number % 17)}"


def deed(seed: int, writer: str, number: int) -> Deed:
    dice = random.Random(f"{seed}/{writer}/{number}")  # noqa: S311 chance, not secrets
    parts = frozenset(part for part, chance in CHANCES.items() if dice.random() < chance)
    return Deed(
        seed=seed, writer=writer, number=number, parts=parts, repeatable=dice.random() < 0.6,
        mistaken=dice.random() < _MISTAKEN,
    )  # fmt: skip


def named(seed: int, name: str) -> Deed:
    writer, _, number = name.rpartition("-")
    return deed(seed, writer, int(number))


# ------------------------------------------------------------------------------------------------------- doing one


def champion_of(store: Store, writer: str) -> str | None:
    rows = store.sql("select version_id from champions where asset_id = ?", [writer]).rows()
    return rows[0]["version_id"] if rows else None


def do(store: Store, one: Deed, champion: str | None) -> Commit:
    """Commit a deed; ``champion`` is the one in place, which a promotion has to name."""
    name, writer = one.name, one.writer
    txn = store.begin(commit_id=one.commit_id, note=name)
    txn.insert("runs", [{"run_id": name, "asset_id": writer, "status": "ok"}])
    txn.insert("metrics", [{"run_id": name, "name": f"m{i}", "value": float(i)} for i in range(METRICS)])
    txn.replace("alerts", [{"alert_id": writer, "text": name}])
    txn.mark(f"seen/{writer}", str(one.number))
    if "bulk" in one.parts:
        txn.insert("actuals", _readings(f"bulk/{name}", one.number))
    if "rewrite" in one.parts:
        txn.replace("actuals", _readings(f"rewrite/{writer}", one.number))
    if "revision" in one.parts:
        asset = f"small/{writer}"
        rows = [reading(asset, hour, float(one.number), known=one.number) for hour in range(SMALL)]
        txn.replace("actuals", rows)
    if "blobs" in one.parts:
        (sha, _) = txn.put_blobs(one.blobs)
        txn.insert("versions", [{"version_id": name, "asset_id": writer, "sha256": sha}])
    if "forecasts" in one.parts:
        issued = {"asset_id": writer, "product": "p", "role": "champion", "run_id": name, "version_id": name}
        at = START + HOUR * one.number
        rows = [{**issued, "issue_time": at, "valid_time": at + HOUR * i, one.quantile: 0.5} for i in range(SMALL)]
        txn.insert("forecasts", rows)
    if "promotion" in one.parts:
        told = {"asset_id": writer, "product": "p", "decided_at": START, "verdict": "promoted", "reason": name}
        expected = "somebody else" if one.mistaken else champion
        txn.promote([{"asset_id": writer, "product": "p", "version_id": name}], [expected], [told])
    return txn.commit()


def champion_after(one: Deed, champion: str | None) -> str | None:
    return one.name if "promotion" in one.parts and not one.mistaken else champion


def _readings(asset: str, number: int) -> pa.Table:
    micros = int(START.timestamp()) * 1_000_000 + np.arange(BULK) * 3_600_000_000
    known = int((START + timedelta(hours=number)).timestamp()) * 1_000_000
    return pa.table(
        {
            "asset_id": pa.array([asset]).take(pa.array(np.zeros(BULK, dtype=np.int64))),
            "valid_time": pa.array(micros, pa.timestamp("us", "UTC")),
            "y": np.full(BULK, float(number)),
            "available_at": pa.array(np.full(BULK, known), pa.timestamp("us", "UTC")),
        }
    )


# ------------------------------------------------------------------------------------------------- looking at them


def present(snapshot: Snapshot, seed: int) -> dict[str, int]:
    """The deeds that a snapshot shows, and which snapshot each made.

    Raises:
        HalfVisible: one of them is not whole, there twice, or there as another one left it.
    """
    runs = snapshot.sql("select run_id, _v from runs__v").rows()
    found = {row["run_id"]: row["_v"] for row in runs}
    _same("runs", sorted(row["_v"] for row in runs), list(range(1, snapshot.id + 1)))
    deeds = {name: named(seed, name) for name in found}

    def those(part: str) -> dict[str, Deed]:
        return {name: one for name, one in deeds.items() if part in one.parts}

    def newest(part: str, among: Mapping[str, Deed]) -> dict[str, Deed]:
        """Of each writer the last deed with a part."""
        ordered = sorted((one for one in among.values() if part in one.parts or not part), key=lambda one: one.number)
        return {one.writer: one for one in ordered}

    _counts(snapshot, "metrics", "run_id", "", {(name, found[name]): METRICS for name in deeds})
    _counts(
        snapshot, "forecasts", "run_id", f"where {' or '.join(_quantiles(those('forecasts').values()))}",
        {(name, found[name]): SMALL for name in those("forecasts")},
    )  # fmt: skip
    actuals = {(f"bulk/{name}", found[name]): BULK for name in those("bulk")}
    actuals |= {(f"rewrite/{w}", found[one.name]): BULK for w, one in newest("rewrite", deeds).items()}
    actuals |= {(f"small/{w}", found[one.name]): SMALL for w, one in newest("revision", deeds).items()}
    _counts(snapshot, "actuals", "asset_id", "where y is not null", actuals)
    _counts(snapshot, "versions", "version_id", "", {(name, found[name]): 1 for name in those("blobs")})
    _counts(snapshot, "decisions", "reason", "", {(name, found[name]): 1 for name in those("promotion")})
    conflicts = snapshot.sql("select reason from decisions where verdict = 'conflict'").rows()
    wrong = {name for name, one in those("promotion").items() if one.mistaken}
    _same("conflicts", {row["reason"] for row in conflicts}, wrong)
    latest = newest("", deeds)
    alerts = snapshot.sql("select alert_id, text, _v from alerts__v").rows()
    _same("alerts", {(r["alert_id"], r["text"], r["_v"]) for r in alerts},
          {(w, one.name, found[one.name]) for w, one in latest.items()})  # fmt: skip
    right = {name: one for name, one in those("promotion").items() if not one.mistaken}
    champions = snapshot.sql("select asset_id, version_id, _v from champions__v").rows()
    _same("champions", {(r["asset_id"], r["version_id"], r["_v"]) for r in champions},
          {(w, one.name, found[one.name]) for w, one in newest("promotion", right).items()})  # fmt: skip
    marks = {writer: snapshot.mark(f"seen/{writer}") for writer in latest}
    _same("marks", marks, {writer: str(one.number) for writer, one in latest.items()})
    return found


def check_blobs(store: Store, seed: int, names: list[str]) -> None:
    """Load what these deeds put into packs."""
    for row in store.sql("select version_id, sha256 from versions").rows():
        if row["version_id"] in names:
            _same("blob", store.blob(row["sha256"]), named(seed, row["version_id"]).blobs[0])


def _quantiles(deeds: Any) -> list[str]:
    known = sorted({one.quantile for one in deeds})
    return [f"{name} is not null" for name in known] or ["true"]


def _counts(snapshot: Snapshot, table: str, name: str, where: str, expected: Mapping[tuple[str, int], int]) -> None:
    query = f"select {name} as name, _v, count(*) as n from {table}__v {where} group by all"
    _same(table, {(row["name"], row["_v"]): row["n"] for row in snapshot.sql(query).rows()}, expected)


def _same(what: str, found: Any, expected: Any) -> None:
    if found == expected:
        return
    if isinstance(found, Mapping):
        found, expected = set(found.items()), set(expected.items())
    if isinstance(found, set):
        raise HalfVisible(f"{what}: {sorted(found - expected)[:3]} for {sorted(expected - found)[:3]}")
    raise HalfVisible(f"{what}: {str(found)[-200:]} for {str(expected)[-200:]}")
