"""What users hand in becomes what the store keeps: one column at a time, checked once, at the border.

Small batches are lists of mappings and stay plain Python (``Columns``: text, float, int, microseconds, days).
Large ones are Arrow tables and stay Arrow. Both paths refuse the same things, with the column's name in the message.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from operator import index
from typing import TYPE_CHECKING, Any

from store import arrays
from store.catalog import Columns
from store.clock import EPOCH, to_micros
from store.errors import SchemaMismatch
from store.ids import check_asset_id
from store.schema import ENTITIES, Column, Table, arrow_type

if TYPE_CHECKING:
    import pyarrow as pa

_DAY_ZERO = EPOCH.date().toordinal()
_BIGINT_LIMIT = 1 << 63


def from_mappings(table: Table, rows: Sequence[Mapping[str, Any]]) -> Columns:
    """The columns of a list of mappings; absent names are NULL, unknown ones are refused.

    Raises:
        SchemaMismatch: names the table, the column and the value.
    """
    names: dict[str, None] = dict.fromkeys(rows[0]) if rows else {}
    listed = list(names)
    alike = all(list(row) == listed for row in rows)
    if not alike:
        for row in rows:
            if len(row) != len(names) or not names.keys() >= row.keys():
                names.update(dict.fromkeys(row))
    _refuse_unknown(table, names)
    _refuse_absent(table, names)
    if alike:  # by far the most batches, and a third of the time
        columns = zip(*(row.values() for row in rows), strict=True)
        return {name: _converted(table, name, list(values)) for name, values in zip(listed, columns, strict=True)}
    return {name: _converted(table, name, [row.get(name) for row in rows]) for name in names}


def _refuse_unknown(table: Table, names: Iterable[str]) -> None:
    unknown = [name for name in names if name not in table.by_name and table.column(name) is None]
    if unknown:
        listed = ", ".join(table.names)
        more = f" and columns like {table.dynamic}" if table.dynamic else ""
        raise SchemaMismatch(f"{table.name} has no column {unknown[0]!r}", hint=f"it has {listed}{more}")


def _refuse_absent(table: Table, names: Iterable[str]) -> None:
    given = set(names)
    for column in table.columns:
        if column.required and column.name not in given:
            raise SchemaMismatch(f"{table.name}.{column.name} is required and was not given")


def _converted(table: Table, name: str, values: list[Any]) -> list[Any]:
    column = table.column(name)
    assert column is not None
    kinds = set(map(type, values))
    if column.kind == "double" and kinds == {float}:
        return values
    convert = check_asset_id if name in ENTITIES else _CONVERTERS[column.kind]
    try:
        if len(kinds) == 1 and column.kind in _REPEATING and values.count(values[0]) == len(values):
            value = values[0]
            done = [None if value is None else convert(value)] * len(values)
        else:
            done = [None if value is None else convert(value) for value in values]
    except (TypeError, ValueError, OverflowError) as cause:
        if isinstance(cause, SchemaMismatch) or name in ENTITIES:
            raise
        bad = next(value for value in values if not _accepts(convert, value))
        raise SchemaMismatch(
            f"{table.name}.{name} takes {_WANTED[column.kind]}, not {bad!r:.80} ({type(bad).__name__})"
        ) from cause
    if column.required and None in done:
        raise SchemaMismatch(f"{table.name}.{name} is required, row {done.index(None)} has none")
    return done


def _accepts(convert: Callable[[Any], Any], value: Any) -> bool:
    try:
        if value is not None:
            convert(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _text(value: Any) -> str:
    if isinstance(value, str):
        if not value.isascii():
            value.encode()
        return str(value)
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError
    return str(index(value))


def _double(value: Any) -> float:
    if isinstance(value, (str, bytes)):
        raise TypeError
    return float(value)


def _bigint(value: Any) -> int | None:
    if isinstance(value, float) and math.isnan(value):
        return None
    number = int(value) if isinstance(value, float) or hasattr(value, "is_integer") else index(value)
    if number != value or not -_BIGINT_LIMIT <= number < _BIGINT_LIMIT:
        raise ValueError
    return number


def _bool(value: Any) -> int:
    if value not in (0, 1):
        raise ValueError
    return int(value)


def _instant(value: Any) -> int | None:
    if not isinstance(value, datetime):
        raise TypeError
    if value != value:  # noqa: PLR0124 - pandas' NaT is a datetime, and the only one unequal to itself
        return None
    return to_micros(value)


def _date(value: Any) -> int:
    if isinstance(value, datetime) or not isinstance(value, date):
        raise TypeError
    return value.toordinal() - _DAY_ZERO


def _json(value: Any) -> str:
    if isinstance(value, str):
        json.loads(value)
        value.encode()
        return value
    return to_json(value)


def to_json(value: Any) -> str:
    """Compact JSON with sorted keys; non-finite numbers become text, for JSON has none.

    >>> to_json({"b": float("nan"), "a": (1, 2)})
    '{"a":[1,2],"b":"nan"}'
    """
    return _ENCODER.encode(_plain(value))


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        inner = [_plain(one) for one in value]
        return sorted(inner, key=repr) if isinstance(value, (set, frozenset)) else inner
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    item = getattr(value, "item", None)  # a NumPy scalar
    if item is not None and getattr(value, "ndim", 1) == 0:
        return _plain(item())
    return str(value)


#: Kinds of which equal values of one type become the same; a batch often has one throughout.
_REPEATING = ("text", "instant", "date")
_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "text": _text, "double": _double, "bigint": _bigint, "bool": _bool, "instant": _instant, "date": _date,
    "json": _json,
}  # fmt: skip
_WANTED = {
    "text": "text",
    "double": "a number",
    "bigint": "a whole number",
    "bool": "true or false",
    "instant": "a datetime with a time zone",
    "date": "a date",
    "json": "JSON text, a mapping or a list",
}


# ------------------------------------------------------------------------------------------------------ Arrow


def from_arrow(table: Table, rows: pa.Table) -> pa.Table:
    """An Arrow table with the declared types, its columns in the order of the view; absent ones stay absent.

    Ids come out dictionary-encoded. Raises SchemaMismatch as :func:`from_mappings` does.
    """
    import pyarrow as pa

    if len(set(rows.column_names)) != len(rows.column_names):
        raise SchemaMismatch(f"a column of the rows for {table.name} comes twice: {', '.join(rows.column_names)}")
    _refuse_unknown(table, rows.column_names)
    _refuse_absent(table, rows.column_names)
    dynamic = [name for name in rows.column_names if name not in table.by_name]
    names = [name for name in table.ordered(dynamic) if name in rows.column_names]
    columns = [_cast(table, name, rows.column(name)) for name in names]
    return pa.table(columns, names=names)


def _cast(table: Table, name: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa

    column = table.column(name)
    assert column is not None
    if column.required and values.null_count:
        where = next(i for i, v in enumerate(values) if not v.is_valid)
        raise SchemaMismatch(f"{table.name}.{name} is required, row {where} has none")
    _refuse_kind(table, column, values.type)
    try:
        if column.kind == "text":
            return _encoded(name, values)
        return values.cast(arrow_type(column.kind))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as cause:
        reason = str(cause).splitlines()[0]
        raise SchemaMismatch(f"{table.name}.{name} takes {_WANTED[column.kind]}: {reason}") from cause


def _refuse_kind(table: Table, column: Column, found: pa.DataType) -> None:
    from pyarrow import types as t

    inner = found.value_type if t.is_dictionary(found) else found
    text = t.is_string(inner) or t.is_large_string(inner) or t.is_string_view(inner)
    number = t.is_integer(inner) or t.is_floating(inner) or t.is_decimal(inner)
    fits = (
        t.is_null(inner)
        or {
            "text": text or (t.is_integer(inner) and column.name not in ENTITIES),
            "json": text,
            "double": number or t.is_boolean(inner),
            "bigint": number,
            "bool": t.is_boolean(inner) or t.is_integer(inner),
            "instant": t.is_timestamp(inner) and inner.tz is not None,
            "date": t.is_date(inner),
        }[column.kind]
    )
    if not fits:
        hint = "give the time zone: an instant without one means nothing" if t.is_timestamp(inner) else ""
        raise SchemaMismatch(f"{table.name}.{column.name} takes {_WANTED[column.kind]}, not Arrow {found}", hint=hint)


def _encoded(name: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text as dictionary<int32, string>, ids checked; one dictionary for all chunks."""
    import pyarrow as pa
    from pyarrow import types as t

    kind = pa.dictionary(pa.int32(), pa.string())
    if not t.is_dictionary(values.type):
        values = values.cast(pa.string()).dictionary_encode()
    elif values.type != kind:
        values = values.cast(kind)
    values = values.unify_dictionaries()
    if name not in ENTITIES or len(values) == 0:
        return values
    held = values.chunk(0).dictionary
    checked = [check_asset_id(one) for one in held.to_pylist()]
    if checked == held.to_pylist():
        return values
    plain = [pa.array(checked, pa.string()).take(chunk.indices) for chunk in values.chunks]
    return pa.chunked_array(plain).dictionary_encode()


def columns_to_arrow(table: Table, columns: Columns) -> pa.Table:
    """Small batches that grew: the same values as an Arrow table."""
    import pyarrow as pa

    dynamic = [name for name in columns if name not in table.by_name and name != "_v"]
    names = [name for name in table.ordered(dynamic) if name in columns]
    made = {"_v": arrays.from_list(columns["_v"], "bigint")} if "_v" in columns else {}
    for name in names:
        column = table.column(name)
        assert column is not None
        array = arrays.from_list(columns[name], column.kind)
        made[name] = array.dictionary_encode() if column.kind == "text" else array
    return pa.table(made)


def arrow_to_columns(rows: pa.Table) -> Columns:
    """A small Arrow table of the declared types as plain Python lists."""
    import pyarrow as pa
    from pyarrow import types as t

    columns: Columns = {}
    for name in rows.column_names:
        values = rows.column(name)
        if t.is_timestamp(values.type):
            values = values.cast(pa.int64())
        elif t.is_date(values.type):
            values = values.cast(pa.int32())
        elif t.is_boolean(values.type):
            values = values.cast(pa.int8())
        elif t.is_dictionary(values.type):
            values = values.cast(values.type.value_type)  # 30 times faster to list
        columns[name] = values.to_pylist()
    return columns
