"""The fleet along time and beside its past: its error day by day, and how much each asset's error changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from fleet.figures.look import BLUE, GREEN, INK, VERMILLION, axis, dressed, faint, nothing

FloatArray = npt.NDArray[np.float64]
_MOST = 2.0
_STEP = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Of a daily figure of all assets the median and the middle 80 %, NaN on a day without any."""

    days: Sequence[date]
    median: FloatArray
    low: FloatArray
    high: FloatArray


def course(seen: Course, *, since: date, title: str, label: str, said: Sequence[str]) -> go.Figure:
    """The median asset day by day, the middle 80 % of the assets behind it, a line where the new days begin."""
    if not np.isfinite(seen.median).any():
        return nothing(title, "nothing was scored in these days")
    figure = go.Figure()
    days = [day.isoformat() for day in seen.days]
    for values, shown in ((seen.high, False), (seen.low, True)):
        figure.add_scatter(
            x=days, y=values, mode="lines", line={"width": 0, "color": BLUE}, hoverinfo="skip",
            fill="tonexty" if shown else None, fillcolor=faint(BLUE, 0.25),
            name="middle 80 % of the assets", showlegend=shown,
        )  # fmt: skip
    figure.add_scatter(
        x=days, y=seen.median, mode="lines+markers", line={"color": BLUE, "width": 2}, marker={"size": 5},
        name="median asset", hovertemplate="%{x}: %{y:.4~g}<extra></extra>",
    )  # fmt: skip
    figure.add_vline(x=since.isoformat(), line={"color": INK, "dash": "dash", "width": 1})
    figure.update_xaxes(axis("local day"))
    figure.update_yaxes(axis(label, rangemode="tozero"))
    return dressed(figure, title=title, said=said, height=340)


def changed(values: FloatArray, *, effect: float, title: str, said: Sequence[str]) -> go.Figure:
    """How many assets have how much more or less error than before, in steps of a tenth.

    Args:
        values: (assets,) fraction by which the error grew, NaN where it is not known.
        effect: from where on a change counts.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return nothing(title, "no asset has scores in both windows")
    edges = np.arange(-10, round(_MOST / _STEP) + 1) * _STEP
    counts, _ = np.histogram(np.clip(known, -1.0, _MOST - 1e-9), bins=edges)
    middles = (edges[:-1] + edges[1:]) / 2
    paint = np.where(middles >= effect, VERMILLION, np.where(middles <= -effect, GREEN, INK))
    figure = go.Figure(
        go.Bar(
            x=middles, y=counts, width=_STEP * 0.92, showlegend=False,
            marker={"color": [faint(colour, 0.75) for colour in paint]},
            customdata=[f"{low:+.0%} to {low + _STEP:+.0%}" for low in edges[:-1]],
            hovertemplate="%{customdata}: %{y:,} assets<extra></extra>",
        )
    )  # fmt: skip
    beyond = int((known >= _MOST).sum())
    notes = [f"{beyond:,} assets changed by more and stand in the last bar"] if beyond else []
    figure.update_xaxes(axis("change of the error", tickformat="+.0%", range=[-1.02, _MOST + 0.02]))
    figure.update_yaxes(axis("assets", rangemode="tozero"))
    return dressed(figure, title=title, said=said, notes=notes, height=320)
