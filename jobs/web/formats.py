"""One answer in four forms: JSON, Arrow, Parquet, CSV; chosen by ``format=`` or by Accept.

As JSON and CSV instants are ISO 8601 with Z, days are plain, and what is no number is null or empty.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from fastapi import Request, Response

from jobs.web.problems import Refused

Form = Literal["json", "arrow", "parquet", "csv"]
MEDIA: dict[Form, str] = {
    "json": "application/json",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv; charset=utf-8",
}


def form_of(request: Request, asked: Form | None) -> Form:
    """The form that is asked for; by Accept the best of those that it names.

    Raises:
        Refused: 406, none of ours.
    """
    if asked is not None:
        return asked
    wanted = _accepted(request.headers.get("accept", "*/*"))
    by_media: dict[str, Form] = {media.partition(";")[0]: form for form, media in MEDIA.items()}
    for media in wanted:
        if media in by_media:
            return by_media[media]
        if media in ("*/*", "application/*"):
            return "json"
        if media == "text/*":
            return "csv"
    raise Refused(406, "none of the accepted forms is ours", hint=f"there are {', '.join(by_media)}")


def _accepted(header: str) -> list[str]:
    """Media types by preference; a weight that is none, or 0, leaves one out.

    >>> _accepted("text/csv;q=0.5, application/json, text/html;q=0")
    ['application/json', 'text/csv']
    """
    found = []
    for place, part in enumerate(header.lower().split(",")):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        weight = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            share = float(weight)
        except ValueError:
            continue
        if media and 0 < share <= 1:
            found.append((-share, place, media))
    return [media for _, _, media in sorted(found)]


def answered(
    table: pa.Table,
    form: Form,
    *,
    headers: Mapping[str, str],
    name: str,
    beside: Mapping[str, object] | None = None,
) -> Response:
    """A table as an answer.

    Args:
        name: of the file, for who saves it.
        beside: what stands beside ``rows`` in JSON, such as the snapshot and the next page.
    """
    sent = {**headers, "content-disposition": f'attachment; filename="{name}.{form}"'} if form != "json" else headers
    return Response(written(table, form, beside or {}), media_type=MEDIA[form], headers=dict(sent))


def written(table: pa.Table, form: Form, beside: Mapping[str, object]) -> bytes:
    """The bytes of a table in a form."""
    sink = io.BytesIO()
    match form:
        case "json":
            return as_json({**beside, "rows": rows_of(table)})
        case "arrow":
            with pa.ipc.new_stream(sink, table.schema) as stream:
                stream.write_table(table)
        case "parquet":
            import pyarrow.parquet as pq

            pq.write_table(table, sink, compression="zstd")
        case "csv":
            from pyarrow import csv

            csv.write_csv(as_text(table, nested=True), sink)
    return sink.getvalue()


def as_json(value: object) -> bytes:
    """JSON as it goes out; text that is no Unicode is marked."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=str).encode("utf-8", "replace")


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """Rows of plain values."""
    plain = as_text(table)
    return [_finite(row) if plain.schema != table.schema or _nested(table) else row for row in plain.to_pylist()]


def _nested(table: pa.Table) -> bool:
    return any(pa.types.is_nested(field.type) for field in table.schema)


def _finite(value: Any) -> Any:
    """Without numbers that JSON lacks, however deep."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list) else value


def as_text(table: pa.Table, *, nested: bool = False) -> pa.Table:
    """The same with instants and days as text and without NaN.

    Args:
        nested: lists and structs become text as well.
    """
    for place, field in enumerate(table.schema):
        column, kind = table.column(place), field.type
        if pa.types.is_timestamp(kind):
            column = _instants(column, kind)
        elif pa.types.is_floating(kind):
            column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, kind))
        elif pa.types.is_date(kind) or pa.types.is_time(kind) or pa.types.is_decimal(kind):
            column = column.cast(pa.string())
        elif (
            pa.types.is_binary(kind)
            or pa.types.is_large_binary(kind)
            or pa.types.is_duration(kind)
            or (nested and pa.types.is_nested(kind))
        ):
            column = pa.chunked_array([pa.array([_told(one) for one in column.to_pylist()], pa.string())])
        else:
            continue
        table = table.set_column(place, field.name, column)
    return table


def _told(value: object) -> str | None:
    if value is None:
        return None
    return value.hex() if isinstance(value, bytes) else json.dumps(_finite(value), ensure_ascii=False, default=str)


def _instants(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """As 2024-06-10T07:00:00Z; microseconds where there are any."""
    whole = kind.unit == "s" or pc.all(pc.equal(pc.subsecond(column), 0)).as_py() is not False
    text = pc.strftime(column.cast(pa.timestamp("s" if whole else "us", kind.tz), safe=False), "%Y-%m-%dT%H:%M:%S")
    return pc.binary_join_element_wise(text, "Z", "") if kind.tz else text


def table_of(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> pa.Table:
    """Rows of plain values as a table."""
    return pa.table({name: [row[name] for row in rows] for name in columns})
