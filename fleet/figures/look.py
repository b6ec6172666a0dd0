"""How every figure looks: colours, titles, notes, axes; and how a name becomes text that Plotly shows as it is.

Backgrounds are transparent and inks are greys that read on white and on black, so one figure serves light and dark
pages. Colours are Okabe and Ito's, which colour-blind readers tell apart, the blue a shade lighter so that
it shows on black; recipes differ by dash and symbol as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from fleet.html import plain

BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#1F83C4", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
INK, GRID = "#777777", "rgba(128,128,128,0.25)"
ACTUAL, FORECAST = VERMILLION, BLUE
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION, INK)
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
#: No figure draws more curves than this; what is left out is said in it.
MOST_LINES = 50
#: What fits on one line of a figure in a narrow notebook.
MOST_LETTERS = 105

_ENTITIES = {ord(sign): f"&#{ord(sign)};" for sign in "&<>$%{}"}


def literal(text: object, most: int = 48) -> str:
    """A name as Plotly shows it letter by letter: no tag, no formula, no template in it; cut at `most` characters.

    >>> literal("<b>50 %{x}</b>")
    '&#60;b&#62;50 &#37;&#123;x&#125;&#60;/b&#62;'
    """
    return plain(text, most).translate(_ENTITIES)


def distinct(names: Sequence[str]) -> dict[str, str]:
    """Each name as Plotly shows it; two that would look alike when cut are numbered.

    >>> distinct(["a", "b"])
    {'a': 'a', 'b': 'b'}
    """
    shown: dict[str, str] = {}
    for name in names:
        text, number = literal(name), 2
        while text in shown.values():
            text, number = f"{literal(name, 42)} ({number})", number + 1
        shown[name] = text
    return shown


def number(value: float | None) -> str:
    """A value in four digits.

    >>> number(12345.6), number(0.123456), number(float("nan"))
    ('12,346', '0.1235', '–')
    """
    if value is None or value != value:  # noqa: PLR0124  NaN is the only value that differs from itself
        return "–"
    return f"{value:,.0f}" if 10_000 <= abs(value) < 1e15 else f"{value:.4g}"


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each name, the same whatever the order they come in."""
    return {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(sorted(set(names)))}


def strokes(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Line and marker of each name: no two of the first 35 are alike in both colour and dash."""
    ordered = sorted(set(names))
    return {
        name: {
            "line": {"color": COLOURS[k % len(COLOURS)], "dash": DASHES[k // len(COLOURS) % len(DASHES)], "width": 2},
            "marker": {"color": COLOURS[k % len(COLOURS)], "symbol": SYMBOLS[k % len(SYMBOLS)], "size": 6},
        }
        for k, name in enumerate(ordered)
    }


def faint(colour: str, share: float) -> str:
    """A colour that lets through what lies below.

    >>> faint("#1F83C4", 0.25)
    'rgba(31,131,196,0.25)'
    """
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},{share:g})"


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """An axis with its title; its lines are grey on any ground."""
    return {
        "title": {"text": title, "standoff": 8},
        "gridcolor": GRID,
        "zerolinecolor": GRID,
        "linecolor": INK,
        "tickcolor": INK,
        "ticks": "",
        "ticklabelstandoff": 5,
        "automargin": True,
        "showline": False,
        **more,
    }


def dressed(
    figure: go.Figure, *, title: str, said: Sequence[str] = (), notes: Sequence[str] = (), height: int = 400
) -> go.Figure:
    """The figure with its title, what it rests on below it, notes at the foot, and the common look.

    Args:
        title: markup already; names in it went through `literal`.
        said: parts of the subtitle.
        notes: one line each, at the foot: what is left out, what is missing.
    """
    lines = _lines([part for part in said if part])
    below = {"text": "<br>".join(lines), "font": {"size": 12, "color": INK}}
    top = 80 + 16 * max(1, len(lines))
    figure.update_layout(
        template=None,
        title={"text": title, "x": 0, "xanchor": "left", "xref": "paper", "y": 1, "yanchor": "top",
               "yref": "container", "pad": {"t": 12}, "font": {"size": 16, "color": INK}, "subtitle": below},
        font={"family": FONT, "size": 12, "color": INK},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        colorway=list(COLOURS),
        height=height + 18 * len(notes) + top - 96,
        margin={"l": 8, "r": 16, "t": top, "b": 56 + (6 + 18 * len(notes) if notes else 0)},
        legend={**_legend(figure), "bgcolor": "rgba(0,0,0,0)"},
        hoverlabel={"bgcolor": "#262626", "bordercolor": INK, "font": {"color": "#f5f5f5"}, "namelength": -1},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": INK, "activecolor": BLUE},
    )  # fmt: skip
    if notes:
        figure.add_annotation(
            text="<br>".join(notes), x=0, xref="paper", xanchor="left", y=0, yref="paper", yanchor="top",
            yshift=-60, showarrow=False, align="left", font={"size": 11, "color": INK},
        )  # fmt: skip
    return figure


def _lines(parts: Sequence[str]) -> list[str]:
    """Parts with a dot between them, on as few lines as a narrow notebook has room for."""
    lines: list[str] = []
    for part in parts:
        joined = f"{lines[-1]} · {part}" if lines else part
        if lines and len(joined) <= MOST_LETTERS:
            lines[-1] = joined
        else:
            lines.append(part)
    return lines


def _legend(figure: go.Figure) -> dict[str, Any]:
    """In one row above the drawing; beside it where it would not fit into one."""
    names = [trace.name or "" for trace in figure.data if trace.showlegend is not False]
    if sum(len(name) + 5 for name in names) <= MOST_LETTERS:
        return {"orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom"}
    return {"orientation": "v", "x": 1.02, "xanchor": "left", "y": 1, "yanchor": "top"}


def nothing(title: str, why: str) -> go.Figure:
    """A figure that says why it shows nothing."""
    figure = go.Figure()
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(text=why, x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False, font={"size": 14})
    return dressed(figure, title=title, height=260)


def left_out(names: Sequence[str], shown: Mapping[str, object], what: str) -> tuple[str, ...]:
    """The note that says how many of `names` are not among those shown."""
    missing = len([name for name in names if name not in shown])
    return (f"{missing:,} {what} left out: a figure draws {MOST_LINES} lines at most",) if missing else ()


def page(figure: go.Figure, title: str = "tsfleet") -> str:
    """The figure as one HTML page that needs no network: the Plotly of this installation stands in it."""
    return page_of([embedded(figure, library=True)], title)


def embedded(figure: go.Figure, *, library: bool) -> str:
    """The figure as a part of a page; the first one of a page brings the Plotly of this installation along."""
    made: str = figure.to_html(
        full_html=False,
        include_plotlyjs=library,
        include_mathjax=False,
        config={"displaylogo": False, "responsive": True, "typesetMath": False},
    )
    return made


def page_of(parts: Sequence[str], title: str) -> str:
    """Parts that are markup already, as one page.

    >>> page_of(["<p>fine</p>"], "a & b")[:69]
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>a &'
    """
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="color-scheme" content="light dark"></head><body>{"".join(parts)}</body></html>\n'
    )
