"""A run to look at: one line for a terminal, one small card for a notebook. Text stays text, and nothing is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

from store.tracking.artifacts import Artifact
from store.tracking.ledger import Told
from store.tracking.values import OLD_ARTIFACT, RESERVED

_MOST = 30
_LONGEST = 120


def line(told: Told, status: str, latest: Mapping[str, float]) -> str:
    """A run on one line."""
    row = told.row
    parts = [told.id, *(f"{name}={row[key]!r}" for name, key in _NAMED if row.get(key) is not None), status]
    if row.get("duration_s") is not None:
        parts.append(f"{row['duration_s']:.1f} s")
    parts += [f"{name} {value:.4g}" for name, value in list(latest.items())[:3]]
    return f"Run({', '.join(parts)})"


_NAMED = (("asset", "asset_id"), ("recipe", "recipe"))


def card(told: Told, status: str, latest: Mapping[str, float], artifacts: Sequence[Artifact]) -> str:
    """A run as HTML: colours are the page's own, so it reads on light and dark."""
    row, tags = told.row, told.tags
    place = tags.get("environment") or {}
    facts = {
        "asset": row.get("asset_id"), "recipe": row.get("recipe"), "library": _library(row),
        "began": _moment(row.get("started_at")),
        "took": None if row.get("duration_s") is None else f"{row['duration_s']:.1f} s",
        "code": row.get("code_version"), "host": place.get("host"), "error": row.get("error"),
        "note": tags.get("note"), "deleted": None if "deleted" not in tags else tags["deleted"].get("at"),
    }  # fmt: skip
    own = {name: value for name, value in tags.items() if name not in RESERVED and not name.startswith(OLD_ARTIFACT)}
    kept = {one.name: "" if one.bytes is None else _size(one.bytes) for one in artifacts}
    blocks = [
        _block("", {name: value for name, value in facts.items() if value not in {None, ""}}),
        _block("metrics", {name: f"{value:.6g}" for name, value in latest.items()}),
        _block("params", told.params),
        _block("tags", own),
        _block("artifacts", kept),
    ]
    title = f"Run {escape(told.id)} · {escape(status)}"
    inside = "".join(block for block in blocks if block)
    return f'<div style="font-family:sans-serif;font-size:90%"><b>{title}</b>{inside}</div>'


def _block(title: str, values: Mapping[str, Any]) -> str:
    if not values:
        return ""
    rows = "".join(
        f'<tr><td style="text-align:left;opacity:.65;min-width:7em">{_text(name)}</td>'
        f'<td style="text-align:left">{_text(value)}</td></tr>'
        for name, value in list(values.items())[:_MOST]
    )
    more = len(values) - _MOST
    rest = f'<div style="opacity:.65">and {more} more</div>' if more > 0 else ""
    head = f'<div style="margin-top:.5em"><b>{title}</b></div>' if title else ""
    return f"{head}<table>{rows}</table>{rest}"


def _text(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return escape(text if len(text) <= _LONGEST else text[:_LONGEST] + "…")


def _library(row: Mapping[str, Any]) -> str | None:
    named = [str(row[name]) for name in ("library", "library_version") if row.get(name)]
    return " ".join(named) or None


def _moment(at: datetime | None) -> str | None:
    return None if at is None else f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _size(count: int) -> str:
    """Bytes for people.

    >>> _size(4_815_765)
    '4.8 MB'
    """
    if count < 1_000:
        return f"{count} B"
    return f"{count / 1_000:.1f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"
