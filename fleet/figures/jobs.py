"""Jobs along time: what ran when and how it ended, and how long each run took beside what is usual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import plotly.graph_objects as go

from fleet.figures.look import (
    BLUE,
    GREEN,
    INK,
    MOST_LINES,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    axis,
    distinct,
    dressed,
    faint,
    left_out,
    literal,
    nothing,
    number,
    strokes,
)  # fmt: skip
from fleet.questions.ran import Ran

#: By how a run looks: colour and symbol; no colour carries the meaning alone.
LOOKS = {
    "ok": (GREEN, "circle"),
    "some fell back": (SKY, "triangle-down"),
    "some failed": (ORANGE, "triangle-up"),
    "failed": (VERMILLION, "x"),
    "killed": (VERMILLION, "x-open"),
    "interrupted": (PURPLE, "square-open"),
    "cancelled": (INK, "square"),
    "running": (BLUE, "diamond-open"),
}
_EMPTY = "no job ran in these days"


def timeline(runs: Sequence[Ran], *, title: str, said: Sequence[str], notes: Sequence[str]) -> go.Figure:
    """A mark where each run began, by how it ended, with a line as long as it took."""
    if not runs:
        return nothing(title, _EMPTY)
    jobs = sorted({one.job for one in runs})
    kept, names = jobs[:MOST_LINES], distinct(jobs)
    figure = go.Figure()
    for look, (colour, symbol) in LOOKS.items():
        mine = [one for one in runs if one.look == look and one.job in kept]
        if not mine:
            continue
        figure.add_scatter(
            x=[one.started_at.isoformat() for one in mine], y=[names[one.job] for one in mine], mode="markers",
            name=look, marker={"color": colour, "symbol": symbol, "size": 10, "line": {"color": colour, "width": 1.5}},
            error_x={"type": "data", "symmetric": False, "array": [1000 * (one.seconds or 0.0) for one in mine],
                     "arrayminus": [0.0] * len(mine), "color": faint(colour, 0.6), "thickness": 4, "width": 0},
            customdata=[_told(one) for one in mine],
            hovertemplate="%{y}, %{x|%d %b %Y %H:%M:%S} UTC<br>%{customdata}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(axis("begun, UTC", type="date"))
    figure.update_yaxes(axis("", type="category", categoryorder="array", categoryarray=[names[n] for n in kept][::-1]))
    more = left_out(jobs, dict.fromkeys(kept), "jobs are")
    return dressed(figure, title=title, said=said, notes=[*notes, *more], height=170 + 30 * len(kept))


def durations(runs: Sequence[Ran], *, title: str, said: Sequence[str], notes: Sequence[str]) -> go.Figure:
    """How long each run took: of one job in seconds, of several as a multiple of what is usual of each."""
    known = [one for one in runs if one.seconds is not None]
    jobs = sorted({one.job for one in known})
    alone = len(jobs) == 1
    if not alone:  # what has no usual, or none that can be divided by, cannot be compared
        known = [one for one in known if one.usual_s]
        jobs = sorted({one.job for one in known})
    if not known:
        return nothing(title, _EMPTY if not runs else "no run has ended well yet, so nothing is usual")
    kept, names, look = jobs[:MOST_LINES], distinct(jobs), strokes(jobs)
    figure = go.Figure()
    for job in kept:
        mine = sorted((one for one in known if one.job == job), key=lambda one: one.started_at)
        values = [one.seconds if alone else (one.seconds or 0.0) / (one.usual_s or 1.0) for one in mine]
        figure.add_scatter(
            x=[one.started_at.isoformat() for one in mine], y=values, mode="lines+markers", name=names[job],
            line=look[job]["line"] | {"width": 1}, marker=look[job]["marker"] | {"size": 7},
            customdata=[_told(one) for one in mine], showlegend=not alone,
            hovertemplate=f"{names[job]}, %{{x|%d %b %Y %H:%M}} UTC<br>%{{customdata}}<extra></extra>",
        )  # fmt: skip
    usual = (known[0].usual_s or None) if alone else 1.0
    if usual is not None:
        figure.add_hline(y=usual, line={"color": INK, "dash": "dash", "width": 1})
        figure.add_annotation(
            text=f"usual {number(usual)} s" if alone else "as usual", x=1, xref="paper", xanchor="right", y=usual,
            yanchor="bottom", showarrow=False, font={"size": 11, "color": INK},
        )  # fmt: skip
    figure.update_xaxes(axis("begun, UTC", type="date"))
    figure.update_yaxes(axis("seconds" if alone else "times as long as usual", rangemode="tozero"))
    more = left_out(jobs, dict.fromkeys(kept), "jobs are")
    return dressed(figure, title=title, said=said, notes=[*notes, *more], height=330)


#: By severity: colour and pattern.
_SEVERITIES = {"info": (SKY, ""), "warning": (ORANGE, "/"), "critical": (VERMILLION, "x")}


def standing(
    days: Sequence[date], counts: Mapping[str, Sequence[int]], *, title: str, said: Sequence[str]
) -> go.Figure:
    """How many alerts were open on each day, the gravest at the foot.

    Args:
        counts: severity to the number on each day.
    """
    if not any(any(each) for each in counts.values()):
        return nothing(title, "no alert was open in these days")
    figure = go.Figure()
    for name, each in sorted(counts.items(), key=lambda pair: -list(_SEVERITIES).index(pair[0])):
        colour, pattern = _SEVERITIES[name]
        drawn = {"shape": pattern, "fillmode": "overlay", "fgcolor": INK, "size": 5}
        figure.add_bar(
            x=[day.isoformat() for day in days], y=list(each), name=name,
            marker={"color": faint(colour, 0.75), "pattern": drawn},
            hovertemplate=f"%{{x}}: %{{y:,}} {name}<extra></extra>",
        )  # fmt: skip
    figure.update_layout(barmode="stack")
    figure.update_xaxes(axis("UTC day", type="date"))
    figure.update_yaxes(axis("alerts", rangemode="tozero"))
    return dressed(figure, title=title, said=said, height=300)


def _told(one: Ran) -> str:
    """A run in a line; what comes from people is text."""
    took = "" if one.seconds is None else f", {number(one.seconds)} s"
    beside = f" (usual {number(one.usual_s)} s)" if one.usual_s is not None and one.seconds is not None else ""
    counted = ((one.failed, "failed"), (one.fell_back, "fell back"))
    counts = ", ".join(f"{count:,} {word}" for count, word in counted if count)
    error = f"<br>{literal(one.error, 100)}" if one.error else ""
    return f"{literal(one.look)}{took}{beside}{', ' + counts if counts else ''}{error}"
