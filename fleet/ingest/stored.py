"""What of a batch the store holds already: equal rows are left out, different ones are revisions, the rest is new.

The comparison is two sorted lists of integers; a file that is read a second time costs its reading and no write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

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
    if not len(known.values):
        none = np.zeros(len(values), dtype=bool)
        return none, none
    if all(np.array_equal(one, other) for one, other in zip(keys, known.keys, strict=True)):
        there = np.ones(len(values), dtype=bool)
        return there, _equal(values, known.values)
    mine, theirs = _ranked(keys, known.keys)
    order = np.argsort(theirs, kind="stable")
    place = np.minimum(np.searchsorted(theirs, mine, sorter=order), len(order) - 1)
    row = order[place]
    there = theirs[row] == mine
    return there, there & _equal(values, known.values[row])


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
