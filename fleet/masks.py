"""Readings that tell nothing of what is forecast: an outage, a curtailment, works on a meter.

A model that learns without them sees a missing reading from the time the mask was known on, and the reading before
that: in the rows it is a revision to NaN. What is scored is scored with all masks that the store has.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fleet.frames import EVER, instants
from fleet.zones import IntArray

MASK = -1
"""The version of a row that is a mask and no reading."""

# Points of `a` under a mask whose reason is not among those scored all the same; $scored is their list.
UNMASKED = """not exists (
    select 1 from masks m where m.asset_id = a.asset_id and m.valid_from <= a.valid_time
    and (m.valid_to is null or m.valid_to > a.valid_time) and not list_contains($scored::varchar[], m.reason))"""

Stretch = tuple[int, int]


def stretches(masks: pa.Table, leaving: Collection[str]) -> dict[str, tuple[Stretch, ...]]:
    """By asset from when to before when readings are masked, UTC microseconds.

    Args:
        masks: rows of the store.
        leaving: reasons that are passed over.
    """
    found: dict[str, list[Stretch]] = {}
    for asset, since, until, reason, _ in _plain(masks):
        if reason not in leaving:
            found.setdefault(asset, []).append((since, until))
    return {asset: tuple(sorted(mine)) for asset, mine in found.items()}


def under(times: IntArray, masked: Collection[Stretch]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """(rows,) whether each instant lies in one of the stretches.

    >>> under(np.array([1, 2, 3]), [(2, 3)]).tolist()
    [False, True, False]
    """
    inside = np.zeros(len(times), dtype=bool)
    for since, until in masked:
        inside |= (times >= since) & (times < until)
    return inside


def with_masks(actuals: pa.Table, masks: pa.Table, leaving: Collection[str]) -> pa.Table:
    """The rows of `actuals` with a row of NaN after each that is masked, known when both were.

    Args:
        actuals: asset_id, valid_time, y, available_at, _v; sorted by the first two, available_at and _v.
        masks: rows of the store.
        leaving: reasons whose readings models learn from all the same.
    """
    mine = [mask for mask in _plain(masks) if mask[3] not in leaving]
    if not mine or not actuals.num_rows:
        return actuals
    names = np.asarray(actuals["asset_id"].to_pylist(), dtype=object)
    times, known = instants(actuals["valid_time"]), instants(actuals["available_at"])
    places, told = [], []
    for asset, since, until, _, available in mine:
        start, stop = np.searchsorted(names, asset), np.searchsorted(names, asset, side="right")
        low, high = start + np.searchsorted(times[start:stop], [since, until])
        places.append(np.arange(low, high))
        told.append(np.maximum(known[low:high], available))
    place, available_at = np.concatenate(places), np.concatenate(told)
    count, kind = len(place), actuals.schema
    extra = {
        "asset_id": actuals["asset_id"].take(pa.array(place)),
        "valid_time": actuals["valid_time"].take(pa.array(place)),
        "y": pa.array(np.full(count, np.nan)),
        "available_at": pa.array(available_at).cast(pa.timestamp("us", "UTC")),
        "_v": pa.array(np.full(count, MASK)),
    }
    both = pa.concat_tables([actuals, pa.table(extra).cast(kind)])
    # Of rows known at once the mask is the last, so it is what is seen.
    reading = np.append(np.arange(actuals.num_rows), place)
    masked = np.append(np.zeros(actuals.num_rows, dtype=bool), np.ones(count, dtype=bool))
    new = np.append(True, (names[1:] != names[:-1]) | (times[1:] != times[:-1]))  # the first of its asset and instant
    first = np.cumsum(new)[reading]
    order = np.lexsort((reading, masked, np.append(known, available_at), first))
    return both.take(pa.array(order))


def _plain(masks: pa.Table) -> list[tuple[str, int, int, str, int]]:
    """(asset, since, until, reason, known at) of each mask, instants in UTC microseconds."""
    ends = pc.fill_null(masks["valid_to"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()), EVER[1])
    known = pc.fill_null(masks["available_at"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()), EVER[0])
    columns = (masks["asset_id"], masks["valid_from"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()), ends)
    return list(zip(*(c.to_pylist() for c in (*columns, pc.fill_null(masks["reason"], ""), known)), strict=True))
