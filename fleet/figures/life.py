"""One asset along time: its error day by day, with marks where another recipe came into charge and where it learnt."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime

import numpy as np
import plotly.graph_objects as go

from fleet.figures.look import INK, MOST_LINES, VERMILLION, axis, distinct, dressed, left_out, literal, nothing, strokes
from fleet.questions.life import Life

#: So many changes are named beside their line; more would hide each other.
_NAMED = 6


def life(seen: Life, *, title: str, said: Sequence[str]) -> go.Figure:
    """A line for each recipe; a day without scores breaks it."""
    if not seen.days:
        return nothing(title, "no day is scored yet")
    lines = list(seen.lines)
    kept, names, look = lines[:MOST_LINES], distinct(lines), strokes(lines)
    days = [day.isoformat() for day in seen.days]
    figure = go.Figure()
    for name in kept:
        figure.add_scatter(
            x=days, y=seen.lines[name], mode="lines+markers", name=names[name], connectgaps=False,
            line=look[name]["line"], marker=look[name]["marker"] | {"size": 4},
            hovertemplate=f"{names[name]}, %{{x}}: %{{y:.4~g}}<extra></extra>",
        )  # fmt: skip
    outside = _charge(figure, seen) + _learnt(figure, seen)
    figure.update_xaxes(axis("local day", type="date"))
    figure.update_yaxes(axis(literal(seen.metric), rangemode="tozero"))
    notes = [f"{outside:,} marks lie outside of the days that were scored"] if outside else []
    notes += left_out(lines, dict.fromkeys(kept), "recipes are")
    return dressed(figure, title=title, said=said, notes=notes, height=380)


def _inside(marks: Sequence[tuple[datetime, str]], days: Sequence[date]) -> list[tuple[datetime, str]]:
    return [(at, recipe) for at, recipe in marks if days[0] <= at.astimezone(UTC).date() <= days[-1]]


def _charge(figure: go.Figure, seen: Life) -> int:
    """A dashed line at each change of the champion; how many lie outside."""
    shown = _inside(seen.in_charge, seen.days)
    for place, (at, recipe) in enumerate(shown):
        x = at.astimezone(UTC).isoformat()
        figure.add_vline(x=x, line={"color": VERMILLION, "width": 1, "dash": "dash"})
        if len(shown) <= _NAMED:
            figure.add_annotation(
                text=f"{literal(recipe, 24)} in charge", x=x, y=1, yref="paper", yanchor="top", xanchor="left",
                xshift=3, yshift=-14 * (place % 3), showarrow=False, font={"size": 11, "color": INK},
            )  # fmt: skip
    _marks(figure, shown, "comes into charge", "diamond", VERMILLION)
    return len(seen.in_charge) - len(shown)


def _learnt(figure: go.Figure, seen: Life) -> int:
    shown = _inside(seen.learnt, seen.days)
    _marks(figure, shown, "learnt until then", "triangle-up", INK)
    return len(seen.learnt) - len(shown)


def _marks(figure: go.Figure, marks: Sequence[tuple[datetime, str]], name: str, symbol: str, colour: str) -> None:
    """Marks on the zero line, which stand in the table behind the figure, too."""
    if not marks:
        return
    recipes = [literal(recipe) for _, recipe in marks]
    figure.add_scatter(
        x=[at.astimezone(UTC).isoformat() for at, _ in marks], y=np.zeros(len(marks)), mode="markers", name=name,
        cliponaxis=False, marker={"symbol": symbol, "size": 9, "color": colour}, customdata=recipes,
        hovertemplate=f"%{{customdata}} {name}, %{{x|%d %b %Y %H:%M}} UTC<extra></extra>",
    )  # fmt: skip
