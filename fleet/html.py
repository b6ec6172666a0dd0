"""Small pieces of HTML for notebooks: tables, tiles and curves, complete in themselves.

Whatever is no `Html` yet is text and is escaped on its way in. Nothing is loaded and nothing runs: no script, no link,
no outside style. Colours are the page's own (currentColor, and greys that show on white and on black), so a dark page
needs no second version.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MOST_BYTES = 30_000
ACTUAL, FORECAST, WARNING = "currentColor", "#1F83C4", "#D55E00"
# Named with their element, since a notebook's own style for tables is as strong as a class alone.
_STYLE = """
div.tsfleet{font:13px/1.5 system-ui,sans-serif;color:inherit;max-width:64rem;overflow-x:auto}
div.tsfleet h4{font-size:14px;margin:.9em 0 .2em;font-weight:600}div.tsfleet h4:first-of-type{margin-top:0}
div.tsfleet p{margin:.2em 0}div.tsfleet .q{opacity:.7}div.tsfleet .w{color:#D55E00;font-weight:600}
div.tsfleet .tiles{display:flex;flex-wrap:wrap;gap:.5em;margin:.5em 0}
div.tsfleet .tile{border:1px solid rgba(128,128,128,.35);border-radius:5px;padding:.25em .8em}
div.tsfleet .tile b{display:block;font-size:17px;font-variant-numeric:tabular-nums}
div.tsfleet table{border-collapse:collapse;border:0;margin:.3em 0;font-size:12px;width:auto;table-layout:auto}
div.tsfleet tr,div.tsfleet tr:hover,div.tsfleet tr:nth-child(odd){background:none!important}
div.tsfleet th,div.tsfleet td{text-align:left;padding:.15em 1.2em .15em 0;border:0;border-bottom:1px solid
 rgba(128,128,128,.25);white-space:nowrap;vertical-align:middle;color:inherit;max-width:24em;overflow:hidden;
 text-overflow:ellipsis}
div.tsfleet .p td{white-space:normal;max-width:48em}div.tsfleet th{font-weight:600}
div.tsfleet .n{text-align:right;font-variant-numeric:tabular-nums}
div.tsfleet svg{display:block;overflow:visible}
"""


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


# Marks that turn the direction of what follows: a name could show another name's letters with them.
_TURNING = {ord(sign): "\ufffd" for sign in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}


def plain(value: object, most: int) -> str:
    r"""A value as one line of text, cut at `most` characters.

    >>> plain("plant\n  north", 60), plain("plant north", 6)
    ('plant north', 'plant…')
    """
    text = " ".join(str(value).translate(_TURNING).split())
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def escaped(value: object, most: int = 60) -> Html:
    """A value as text that shows as it is, cut at `most` characters; the whole of it stands in its title.

    >>> escaped("<b>")
    '&lt;b&gt;'
    >>> escaped("plant north", 6)
    '<span title="plant north">plant…</span>'
    """
    if isinstance(value, Html):
        return value
    cut, whole = plain(value, most), plain(value, 300)
    if cut == whole:
        return Html(html.escape(cut))
    return Html(f'<span title="{html.escape(whole)}">{html.escape(cut)}</span>')


def shown(value: object) -> Html:
    """A value as a person reads it; what is not known is a dash.

    >>> shown(0.123456), shown(12345.6), shown(7), shown(None), shown(float("nan")), shown(True)
    ('0.1235', '12,346', '7', '–', '–', 'yes')
    """
    match value:
        case Html():
            return value
        case bool() | np.bool_():
            return Html("yes" if value else "no")
        case int() | np.integer():
            return Html(f"{value:,}")
        case float() | np.floating():
            number = float(value)
            if not math.isfinite(number):
                return Html("–")
            return Html(f"{number:,.0f}" if 10_000 <= abs(number) < 1e15 else f"{number:.4g}")
        case None:
            return Html("–")
        case datetime():
            return Html(f"{value:%Y-%m-%d %H:%M}" + (f" {value:%Z}" if value.tzinfo else ""))
        case date():
            return Html(value.isoformat())
        case str():
            return escaped(value)
        case _:
            return escaped(json.dumps(value, ensure_ascii=False, default=str))


def numeric(value: object) -> bool:
    """Whether a value stands on the right of its column."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def joined(parts: Iterable[object], between: str = "") -> Html:
    """Parts one after the other, each escaped unless it is markup."""
    return Html(between.join(escaped(part, 400) for part in parts))


def card(*parts: object) -> Html:
    """Parts under one roof, with the style that they need."""
    return Html(f'<div class="tsfleet"><style>{_STYLE}</style>{joined(parts)}</div>')


def heading(text: object, beside: object = "") -> Html:
    """A heading, with something quieter beside it."""
    quiet = f' <span class="q">{escaped(beside, 120)}</span>' if beside else ""
    return Html(f"<h4>{escaped(text)}{quiet}</h4>")


def line(text: object, kind: str = "") -> Html:
    """One line of text; ``q`` is quiet, ``w`` a warning."""
    return Html(f'<p class="{kind}">{escaped(text, 400)}</p>' if kind else f"<p>{escaped(text, 400)}</p>")


def tiles(facts: Sequence[tuple[str, object]]) -> Html:
    """Figures in boxes, each with its name below."""
    boxes = (
        f'<div class="tile"><b>{shown(value)}</b><span class="q">{escaped(name)}</span></div>' for name, value in facts
    )
    return Html(f'<div class="tiles">{"".join(boxes)}</div>')


def table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> Html:
    """A table with a head; columns of numbers stand on the right.

    >>> table(["a"], [[1]])
    '<table><thead><tr><th class="n">a</th></tr></thead><tbody><tr><td class="n">1</td></tr></tbody></table>'
    """
    right = [any(numeric(row[k]) for row in rows) for k in range(len(names))]
    marks = [' class="n"' if one else "" for one in right]
    head = "".join(f"<th{mark}>{escaped(name)}</th>" for name, mark in zip(names, marks, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{mark}>{shown(cell)}</td>" for cell, mark in zip(row, marks, strict=True)) + "</tr>"
        for row in rows
    )
    return Html(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


def pairs(facts: Sequence[tuple[str, object]]) -> Html:
    """Names and their values, one pair a row."""
    body = "".join(f'<tr><td class="q">{escaped(name)}</td><td>{shown(value)}</td></tr>' for name, value in facts)
    return Html(f'<table class="p"><tbody>{body}</tbody></table>')


def fitting(make: Callable[[int], Html], most: int) -> Html:
    """What `make` makes of as many rows as stay below `MOST_BYTES`, `most` of them at first."""
    made = make(most)
    while len(made.encode()) > MOST_BYTES and most > 1:
        most = most * 2 // 3
        made = make(most)
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """A small picture whose axes hold these spans; in pixels, y grows upward.

    Args:
        x, y: (lowest, highest) value shown.
    """

    width: int
    height: int
    x: tuple[float, float]
    y: tuple[float, float]

    @staticmethod
    def around(width: int, height: int, x: FloatArray, ys: Sequence[FloatArray], *, zero: bool = False) -> Canvas:
        """The picture that holds all finite values; with the zero line where `zero` is asked."""
        known = np.concatenate([*ys, *([np.zeros(1)] if zero else [])]) if ys or zero else np.zeros(0)
        known = known[np.isfinite(known)]
        low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
        first, last = (float(x.min()), float(x.max())) if len(x) else (0.0, 1.0)
        return Canvas(
            width=width,
            height=height,
            x=(first, last if last > first else first + 1.0),
            y=(low, high) if high > low else (low - 1.0, high + 1.0),
        )

    def across(self, x: float) -> float:
        """Pixels from the left, half a line of room at both ends."""
        return 1.5 + (x - self.x[0]) / (self.x[1] - self.x[0]) * (self.width - 3)

    def down(self, y: float) -> float:
        """Pixels from the top."""
        return 1.5 + (self.y[1] - y) / (self.y[1] - self.y[0]) * (self.height - 3)

    def _column(self, x: FloatArray) -> IntArray:
        """The pixel column of each value."""
        return ((x - self.x[0]) / (self.x[1] - self.x[0]) * self.width).astype(np.int64)

    def line(self, x: FloatArray, y: FloatArray, colour: str = ACTUAL, extra: str = "") -> Html:
        """A curve through the values; a missing value breaks it, one between two missing ones is a dot."""
        places = thinned(self._column(x), y)
        x, y = x[places], y[places]
        made, dots = [], []
        for run in _runs(np.isfinite(y)):
            points = [f"{self.across(a):.1f} {self.down(b):.1f}" for a, b in zip(x[run], y[run], strict=True)]
            if len(points) > 1:
                made.append("M" + "L".join(points))
            else:
                dots.append(f"M{points[0]}h0")  # no length: round ends make it a dot
        stroke = f'fill="none" stroke="{colour}" stroke-linecap="round"'
        curve = f'<path d="{"".join(made)}" {stroke} stroke-width="1.3" {extra}/>' if made else ""
        return Html(curve + (f'<path d="{"".join(dots)}" {stroke} stroke-width="3.5"/>' if dots else ""))

    def band(self, x: FloatArray, low: FloatArray, high: FloatArray, colour: str = FORECAST) -> Html:
        """The area between two curves, where both are known."""
        parts = []
        if len(x):
            starts = np.flatnonzero(np.diff(self._column(x), prepend=-1))
            x, low, high = x[starts], np.fmin.reduceat(low, starts), np.fmax.reduceat(high, starts)
        for run in _runs(np.isfinite(low) & np.isfinite(high)):
            up = [f"{self.across(a):.1f} {self.down(b):.1f}" for a, b in zip(x[run], high[run], strict=True)]
            back = [f"{self.across(a):.1f} {self.down(b):.1f}" for a, b in zip(x[run], low[run], strict=True)]
            parts.append("M" + "L".join([*up, *reversed(back)]) + "Z")
        return Html(f'<path d="{"".join(parts)}" fill="{colour}" fill-opacity=".25"/>' if parts else "")

    def mark(self, x: float) -> Html:
        """A thin line from top to bottom."""
        at = f"{self.across(x):.1f}"
        return Html(
            f'<path d="M{at} 0V{self.height}" stroke="currentColor" stroke-opacity=".45" stroke-dasharray="2 2"/>'
        )

    def drawn(self, *parts: Html, label: str) -> Html:
        """The picture; `label` says in words what it shows."""
        return Html(
            f'<svg width="{self.width}" height="{self.height}" viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-label="{html.escape(label)}">{"".join(parts)}</svg>'
        )


def thinned(column: IntArray, y: FloatArray) -> IntArray:
    """The places to draw: of each pixel column its lowest and its highest value; a column without one stays missing.

    Args:
        column: (n,) of each value, ascending.

    >>> thinned(np.array([0, 0, 0, 1, 1, 2]), np.array([1.0, 9.0, 2.0, np.nan, np.nan, 5.0]))
    array([0, 1, 3, 5])
    """
    known = np.isfinite(y)
    kept: list[int] = []
    for part in np.split(np.arange(len(y)), np.flatnonzero(np.diff(column)) + 1):
        values = part[known[part]]
        kept += (
            sorted({int(values[y[values].argmin()]), int(values[y[values].argmax()])})
            if len(values)
            else part[:1].tolist()
        )
    return np.array(kept, dtype=np.int64)


def _runs(known: npt.NDArray[np.bool_]) -> list[slice]:
    """The stretches in which every value is known.

    >>> _runs(np.array([True, False, True, True]))
    [slice(0, 1, None), slice(2, 4, None)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(np.int8)))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
