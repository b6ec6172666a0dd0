"""The values behind a figure, as rows: the table beside it, for whoever cannot see it or would rather count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

#: The five numbers of a box, by Plotly's names.
_BOX = ("lowerfence", "q1", "median", "q3", "upperfence")
COLUMNS = ("series", "x", "y", "value")


def tabled(figure: go.Figure) -> list[dict[str, Any]]:
    """A row for each point: the series it belongs to, where it stands, and in a field of colours its value.

    A point that only ends a stroke has no row; a missing value has one.
    """
    return [dict(zip(COLUMNS, row, strict=True)) for trace in figure.data for row in _rows(trace)]


def _rows(trace: Any) -> Iterator[tuple[object, object, object, object]]:
    name = trace.name or ""
    if trace.type == "heatmap":
        for down, line in zip(_listed(trace.y), np.asarray(trace.z, dtype=object).tolist(), strict=True):
            for across, value in zip(_listed(trace.x), line, strict=True):
                yield name, across, down, _told(value)
    elif trace.type == "box" and trace.median is not None:
        for key in _BOX:
            yield name, _listed(trace[key])[0], key, None
    else:
        for x, y in zip(_listed(trace.x), _listed(trace.y), strict=True):
            if x is not None:
                yield name, x, y, None


def _listed(values: Sequence[Any] | None) -> list[object]:
    return [] if values is None else [_told(value) for value in np.asarray(values, dtype=object).tolist()]


def _told(value: object) -> object:
    """A value as JSON has it."""
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if isinstance(value, str | int | None) else str(value)
