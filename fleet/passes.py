"""How far scoring has come: a watermark, and beside it how much of a pass that was stopped has been done.

A pass takes the stale days of the assets in order, and claims that every cell is right as of the snapshot it began at.
Its commits carry the cells of some slices and how far they reach; the last one moves the watermark. A pass that was
killed is finished by the next, which claims no more than the first had seen, and then begins its own: what arrived in
between is newer than the claim, so it is found.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fleet.comparison import Truth

if TYPE_CHECKING:
    from store.reading import Snapshot
    from store.writing import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One way through the stale days.

    Args:
        truth: against what it scores.
        seen: the watermark: every cell is right as of this snapshot.
        at: the snapshot as of which the cells up to `upto` are right, and in the end all.
        upto: the last asset and day that was done; None at the beginning.
        kept: reasons of masks whose readings are scored all the same; with others every cell is stale.
    """

    truth: Truth
    seen: int
    at: int
    upto: tuple[str, date] | None = None
    kept: tuple[str, ...] = ()

    @classmethod
    def next_of(cls, snapshot: Snapshot, truth: Truth, kept: tuple[str, ...] = ()) -> Self:
        """The pass that was stopped, or a new one to a snapshot."""
        asked = list(kept)
        same = json.loads(snapshot.mark(policy(truth)) or "[]") == asked
        seen = int(snapshot.mark(watermark(truth)) or 0) if same else 0
        told = snapshot.mark(progress(truth))
        if told is not None:
            held = json.loads(told)
            # That of a pass which ended, or was overtaken by another process, says nothing any more.
            if held["seen"] == seen and held.get("kept", []) == asked:
                upto = (held["asset"], date.fromisoformat(held["day"]))
                return cls(truth=truth, seen=seen, at=held["at"], upto=upto, kept=kept)
        return cls(truth=truth, seen=seen, at=snapshot.id, kept=kept)

    def reached(self, slice_: pa.Table) -> Self:
        """The pass after a slice."""
        last = slice_.num_rows - 1
        return replace(self, upto=(slice_["asset_id"][last].as_py(), slice_["day"][last].as_py()))

    def left(self, stale: pa.Table) -> pa.Table:
        """The stale days that are not done."""
        if self.upto is None:
            return stale
        asset, day = pa.scalar(self.upto[0]), pa.scalar(self.upto[1])
        same = pc.and_(pc.equal(stale["asset_id"], asset), pc.greater(stale["day"], day))
        return stale.filter(pc.or_(pc.greater(stale["asset_id"], asset), same))

    def mark(self, transaction: Transaction, *, whole: bool) -> None:
        """Write down how far the pass has come; `whole`: there is nothing left of it.

        The watermark is written in any case: had another process moved it on meanwhile, the cells that come with this
        commit may be older than what it stands for.
        """
        transaction.mark(watermark(self.truth), str(self.at if whole else self.seen))
        if whole:
            transaction.mark(policy(self.truth), json.dumps(self.kept))
        elif self.upto is not None:
            asset, day = self.upto
            held = {"seen": self.seen, "at": self.at, "asset": asset, "day": day.isoformat(), "kept": self.kept}
            transaction.mark(progress(self.truth), json.dumps(held))


def watermark(truth: Truth) -> str:
    """The name of the mark that holds the snapshot up to which everything is scored."""
    return "score" if truth == "latest" else f"score {truth}"


def policy(truth: Truth) -> str:
    """The name of the mark that says which masks the cells up to the watermark were scored in spite of."""
    return f"{watermark(truth)} masks"


def progress(truth: Truth) -> str:
    """The name of the mark that says how far a pass has come."""
    return f"{watermark(truth)} progress"


def slices(stale: pa.Table, points: int) -> Iterator[pa.Table]:
    """Stale days in pieces of about so many points, at least one day each.

    >>> days = pa.table({"asset_id": ["a", "a", "b"], "points": [3, 2, 9]})
    >>> [piece.num_rows for piece in slices(days, 5)]
    [2, 1]
    """
    ends = np.cumsum(stale["points"].cast(pa.int64()).to_numpy())
    start = 0
    while start < stale.num_rows:
        before = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, before + points, side="right")), start + 1)
        yield stale.slice(start, stop - start)
        start = stop
