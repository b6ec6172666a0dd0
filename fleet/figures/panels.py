"""A whole fleet in one picture: how a metric is spread, how that moves from day to day, who is worst and since when.

Colours run along cividis, which colour-blind readers see as others do; a day without a score is left blank and never
painted as good.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from fleet.figures.look import BLUE, INK, VERMILLION, axis, distinct, dressed, nothing, number

FloatArray = npt.NDArray[np.float64]
SCALE = "Cividis"
BINS = 40
_EMPTY = "no day is scored yet"


def spread(values: FloatArray, *, title: str, label: str, said: Sequence[str]) -> go.Figure:
    """How many assets have which value, as bars; who lies beyond the last bar is said.

    Args:
        values: (assets,) NaN where there is none.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return nothing(title, _EMPTY)
    low, high = _span(known)
    counts, edges = np.histogram(known, bins=min(BINS, max(5, len(known))), range=(low, high))
    figure = go.Figure(
        go.Bar(
            x=(edges[1:] + edges[:-1]) / 2, y=counts, width=np.diff(edges), name="assets", marker={"color": BLUE},
            customdata=np.column_stack([edges[:-1], edges[1:]]), showlegend=False,
            hovertemplate="%{y:,} assets from %{customdata[0]:.4~g} to %{customdata[1]:.4~g}<extra></extra>",
        )
    )  # fmt: skip
    for place, (name, dash) in {50: ("median", "solid"), 90: ("p90", "dot")}.items():
        at = float(np.percentile(known, place))
        if low <= at <= high:
            figure.add_vline(x=at, line={"color": VERMILLION, "width": 1.5, "dash": dash})
            figure.add_annotation(
                text=f"{name} {number(at)}", x=at, y=1, yref="paper", xanchor="left", yanchor="top", showarrow=False,
                xshift=3, yshift=0 if place == 50 else -16,
            )  # fmt: skip
    figure.update_xaxes(axis(label, range=[low, high]))
    figure.update_yaxes(axis("assets", rangemode="tozero"))
    beyond = int((known > high).sum() + (known < low).sum())
    absent = len(values) - len(known)
    notes = [f"{beyond:,} assets lie beyond the axis"] if beyond else []
    notes += [f"{absent:,} assets have no value"] if absent else []
    return dressed(figure, title=title, said=said, notes=notes, height=340)


def density(values: FloatArray, days: Sequence[date], *, title: str, label: str, said: Sequence[str]) -> go.Figure:
    """How many assets have which value on each day, with the 10th, 50th and 90th percentile as lines.

    Args:
        values: (assets, days) NaN where there is none.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return nothing(title, _EMPTY)
    low, high = _span(known)
    edges = np.linspace(low, high, BINS + 1)
    # Counts by day: a missing value falls into no bin.
    inside = np.isfinite(values) & (values >= low) & (values <= high)
    rows = np.clip(np.searchsorted(edges, np.where(inside, values, low), side="right") - 1, 0, BINS - 1)
    columns = np.broadcast_to(np.arange(len(days)), values.shape)
    counts = np.zeros((BINS, len(days)))
    np.add.at(counts, (rows[inside], columns[inside]), 1)
    figure = go.Figure(
        go.Heatmap(
            x=[str(day) for day in days], y=(edges[1:] + edges[:-1]) / 2, z=np.where(counts > 0, counts, np.nan),
            colorscale=SCALE, name="assets", colorbar={"title": {"text": "assets"}, "thickness": 12},
            hovertemplate="%{x}: %{z:,} assets near %{y:.4~g}<extra></extra>", hoverongaps=False,
        )
    )  # fmt: skip
    some = np.isfinite(values).any(axis=0)
    for place, name, dash in ((10, "p10", "dot"), (50, "median", "solid"), (90, "p90", "dash")):
        line = np.full(len(days), np.nan)
        line[some] = np.nanpercentile(values[:, some], place, axis=0)
        figure.add_scatter(
            x=[str(day) for day in days], y=line, mode="lines", name=name, connectgaps=False,
            line={"color": VERMILLION, "width": 2 if place == 50 else 1.4, "dash": dash},
            hovertemplate=f"{name}: %{{y:.4~g}}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(axis("local day", type="date", showgrid=False))
    figure.update_yaxes(axis(label, range=[low, high], showgrid=False))
    beyond = int((known > high).sum() + (known < low).sum())
    notes = [f"{beyond:,} of {len(known):,} asset days lie beyond the axis"] if beyond else []
    return dressed(figure, title=title, said=said, notes=notes, height=360)


def heat(
    assets: Sequence[str], values: FloatArray, days: Sequence[date], *, title: str, label: str, said: Sequence[str]
) -> go.Figure:
    """Some assets day by day, the first on top.

    Args:
        values: (assets, days) NaN where there is none.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return nothing(title, _EMPTY)
    top = float(np.percentile(known, 98))
    names = distinct(assets)
    figure = go.Figure(
        go.Heatmap(
            x=[str(day) for day in days], y=[names[name] for name in assets], z=values,
            zmin=min(0.0, float(known.min())), zmax=top if top > 0 else None, colorscale=SCALE, name=label,
            hoverongaps=False, ygap=1,
            colorbar={"title": {"text": label, "side": "right"}, "thickness": 12},
            hovertemplate="%{y}, %{x}: %{z:.4~g}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(axis("local day", type="date", showgrid=False))
    figure.update_yaxes(axis("", autorange="reversed", type="category", showgrid=False, tickfont={"color": INK}))
    clipped = int((known > top).sum())
    notes = [f"{clipped:,} asset days above {number(top)} have the last colour"] if clipped else []
    if np.isnan(values).any():
        notes.append("blank: nothing was scored")
    return dressed(figure, title=title, said=said, notes=notes, height=120 + 16 * len(assets))


def _span(known: FloatArray) -> tuple[float, float]:
    """What the axis shows: all, unless a few lie far beyond the rest.

    >>> _span(np.array([1.0, 2.0, 3.0]))
    (0.0, 3.0)
    """
    low, high = min(0.0, float(np.percentile(known, 1))), float(np.percentile(known, 98))
    if float(known.max()) <= 1.5 * high or high <= low:
        high = float(known.max())
    return low, high if high > low else low + 1.0
