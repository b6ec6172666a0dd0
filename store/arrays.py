"""Arrow arrays from Python's lists and NumPy's arrays, without what ``pa.array`` does first: it imports pandas.

A process that only writes would load it for nothing (0.2 s of the flush that a small commit may bring with it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from store.schema import Kind, arrow_type

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_NUMBERS = {"double": "float64", "bigint": "int64", "instant": "int64", "date": "int32"}
_MOST_TEXT = (1 << 31) - 1  # bytes that 32-bit offsets reach


def from_list(values: list[Any], kind: Kind) -> pa.Array:
    """Values in the store's own representation, None for NULL, as the Arrow type of their kind.

    >>> from_list(["a", None], "text").to_pylist()
    ['a', None]
    """
    import numpy as np
    import pyarrow as pa

    absent = values.count(None)
    there = None
    if absent:
        there = _bits(np.fromiter((value is not None for value in values), bool, len(values)))
    if kind in _NUMBERS:
        held = [0 if value is None else value for value in values] if absent else values
        buffers = [pa.py_buffer(np.array(held, dtype=_NUMBERS[kind]))]
    elif kind == "bool":
        buffers = [_bits(np.array([bool(value) for value in values], dtype=bool))]
    else:
        encoded = [b"" if value is None else value.encode() for value in values]
        ends = np.zeros(len(values) + 1, dtype=np.int64)
        np.cumsum(np.fromiter(map(len, encoded), np.int64, len(values)), out=ends[1:])
        if ends[-1] > _MOST_TEXT:
            return pa.array(values, arrow_type(kind))  # in chunks
        buffers = [pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(arrow_type(kind), len(values), [there, *buffers], null_count=absent)


def from_numpy(values: np.ndarray[Any, Any]) -> pa.Array:
    """Whole numbers or truth values as Arrow has them.

    >>> import numpy as np
    >>> from_numpy(np.array([True, False])).to_pylist()
    [True, False]
    """
    import numpy as np
    import pyarrow as pa

    if values.dtype == bool:
        return pa.Array.from_buffers(pa.bool_(), len(values), [None, _bits(values)])
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def to_numpy(values: pa.Array, absent: int = 0) -> np.ndarray[Any, Any]:
    """Whole numbers as NumPy sees them, without a copy where none is NULL.

    >>> to_numpy(from_list([7, 8, 9], "bigint").slice(1))
    array([8, 9])
    >>> to_numpy(from_list([7, None], "bigint"), absent=-1)
    array([ 7, -1])
    """
    import numpy as np

    if values.null_count:
        values = values.fill_null(from_numpy(np.array([absent], dtype=str(values.type)))[0])
    held = values.buffers()[1]
    kind = np.dtype(str(values.type))
    if held is None or len(values) == 0:
        return np.empty(0, dtype=kind)
    return np.frombuffer(held, kind, len(values), values.offset * kind.itemsize)


def _bits(values: np.ndarray[Any, Any]) -> pa.Buffer:
    import numpy as np
    import pyarrow as pa

    return pa.py_buffer(np.packbits(values, bitorder="little"))
