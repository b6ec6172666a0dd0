"""What of a batch the store holds already: equal rows are left out, different ones are revisions, the rest is new.

The comparison is two sorted lists of integers; a file that is read a second time costs its reading and no write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fleet.config.inputs import Stamps
from fleet.ingest.readings import FloatArray
from fleet.ingest.stamps import BoolArray
from fleet.zones import IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Rows of the store: the columns that identify one, and its value."""

    keys: tuple[IntArray, ...]
    values: FloatArray


def codes_of(column: pa.ChunkedArray, names: Sequence[str | None]) -> IntArray:
    """The place of each text in a list of names; -1 where it is not in it."""
    encoded = column.cast(pa.string()).dictionary_encode() if not pa.types.is_dictionary(column.type) else column
    encoded = encoded.unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        if encoded.num_chunks == 0:
            return np.zeros(0, dtype=np.int64)
        encoded = encoded.chunk(0)
    place = {name: number for number, name in enumerate(names)}
    found = np.array([place.get(name, -1) for name in encoded.dictionary.to_pylist()], dtype=np.int64)
    codes: IntArray = found[encoded.indices.to_numpy()]
    return codes


def instants_of(column: pa.ChunkedArray) -> IntArray:
    """A timestamp column as UTC microseconds."""
    found: IntArray = column.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    return found


def compared(keys: tuple[IntArray, ...], values: FloatArray, known: Known) -> tuple[BoolArray, BoolArray]:
    """For each new row, whether the store has a row of its key, and whether that row has its value (NaN equals NaN).

    >>> new, old = (np.array([0, 0, 1]),), Known((np.array([0, 1]),), np.array([5.0, 6.0]))
    >>> compared(new, np.array([5.0, 7.0, 6.0]), old)
    (array([ True,  True,  True]), array([ True, False,  True]))
    """
    there, row = matched(keys, known.keys)
    if not len(known.values):
        return there, there
    return there, there & _equal(values, known.values[row])


def matched(mine: tuple[IntArray, ...], theirs: tuple[IntArray, ...]) -> tuple[BoolArray, IntArray]:
    """For each new row, whether the store has a row of its key, and which; of no meaning where it has none.

    >>> matched((np.array([7, 9]),), (np.array([9, 8]),))
    (array([False,  True]), array([1, 0]))
    """
    if not len(theirs[0]):
        return np.zeros(len(mine[0]), dtype=bool), np.zeros(len(mine[0]), dtype=np.int64)
    if all(np.array_equal(one, other) for one, other in zip(mine, theirs, strict=True)):
        return np.ones(len(mine[0]), dtype=bool), np.arange(len(mine[0]))
    left, right = _ranked(mine, theirs)
    order = np.argsort(right, kind="stable")
    place = np.minimum(np.searchsorted(right, left, sorter=order), len(order) - 1)
    row: IntArray = order[place]
    return right[row] == left, row


def known_since(declared: IntArray, before: IntArray, revised: BoolArray, stamps: Stamps, now: int) -> IntArray:
    """When the rows of a source that does not date them were known, those that replace a stored value included.

    Such a value came with this ingest: a backtest must not see it before. Never earlier than the value that it
    replaces, for the newest value of an instant is the one that was known last.

    Args:
        declared: (rows,) the end of the interval and the delay of the source, UTC microseconds.
        before: (rows,) when the stored value was known, where there is one.
        revised: rows that replace a stored value.
        stamps: the source's section; ``revisions = "known_then"`` takes the new value for an old truth.
        now: of the ingest.

    >>> declared, before = np.array([10, 20]), np.array([10, 25])
    >>> known_since(declared, before, np.array([True, True]), Stamps(), 99)
    array([99, 99])
    >>> known_since(declared, before, np.array([False, True]), Stamps(revisions="known_then"), 99)
    array([10, 25])
    """
    since = np.maximum(declared, before)
    if stamps.revisions != "known_then":
        since = np.maximum(since, now)
    found: IntArray = np.where(revised, since, declared)
    return found


def _equal(one: FloatArray, other: FloatArray) -> BoolArray:
    same: BoolArray = (one == other) | (np.isnan(one) & np.isnan(other))
    return same


def _ranked(
    mine: tuple[IntArray, ...], theirs: tuple[IntArray, ...]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Both sides' keys as one integer each, equal where all their columns are."""
    left, right = np.zeros(len(mine[0]), dtype=np.int64), np.zeros(len(theirs[0]), dtype=np.int64)
    for one, other in zip(mine, theirs, strict=True):
        distinct = np.unique(np.concatenate([one, other]))
        left = left * len(distinct) + np.searchsorted(distinct, one)
        right = right * len(distinct) + np.searchsorted(distinct, other)
    return left, right
