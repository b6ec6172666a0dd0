"""Where the errors lie: along the hours of the local day, along the lead; and whether the quantiles keep their word."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fleet.figures.look import INK, MOST_LINES, axis, distinct, dressed, faint, left_out, nothing, strokes
from fleet.questions.profiles import Profile, Reliability
from fleet.zones import DAY, SECOND

FloatArray = npt.NDArray[np.float64]
HOUR = 3_600 * SECOND


def errors(hours: Profile, leads: Profile, *, title: str, label: str, said: Sequence[str]) -> go.Figure:
    """A metric by local hour of the valid time, and beside it by lead.

    Args:
        label: of the axis: the metric and its unit.
    """
    recipes = sorted(hours.values)
    if not recipes:
        return nothing(title, "no forecast has an actual yet")
    shown = recipes[:MOST_LINES]
    names, look = distinct(shown), strokes(recipes)
    day = len(leads.keys) and leads.keys[-1] >= 4 * DAY
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.04)
    for column, found in ((1, hours), (2, leads)):
        x = found.keys.astype(np.float64) / (1 if column == 1 else DAY if day else HOUR)
        for name in shown:
            if len(shown) == 1 and name in found.low:
                figure.add_trace(_spread(found, name, x, look[name]["line"]["color"], column), row=1, col=column)
            figure.add_trace(
                go.Scatter(
                    x=x, y=found.values[name], name=names[name], legendgroup=name, showlegend=column == 1,
                    mode="lines+markers" if len(x) <= 48 else "lines", connectgaps=False,
                    line=look[name]["line"], marker=look[name]["marker"] | {"size": 4}, customdata=found.points[name],
                    hovertemplate=f"{names[name]}: %{{y:.4~g}}, %{{customdata:,}} points<extra></extra>",
                ),
                row=1, col=column,
            )  # fmt: skip
    figure.update_xaxes(axis("local hour of the day", range=[-0.5, 23.5], dtick=6, tick0=0), row=1, col=1)
    unit = "days" if day else "hours"
    marks = {"dtick": 6} if not day and len(leads.keys) and leads.keys[-1] <= 48 * HOUR else {}
    figure.update_xaxes(axis(f"lead: valid time minus issue time, {unit}", rangemode="tozero", **marks), row=1, col=2)
    figure.update_yaxes(axis("", rangemode="tozero" if hours.metric != "bias" else "normal"))
    figure.update_yaxes(axis(label, rangemode="tozero" if hours.metric != "bias" else "normal"), row=1, col=1)
    figure.update_layout(hovermode="x unified")
    return dressed(
        figure, title=title, said=said, notes=left_out(recipes, dict.fromkeys(shown), "recipes are"), height=400
    )


def _spread(found: Profile, name: str, x: FloatArray, colour: str, column: int) -> go.Scatter:
    """The middle 80 % of the assets as an area; with several recipes the areas would hide each other."""
    known = np.isfinite(found.low[name])
    low, high = found.low[name][known], found.high[name][known]
    return go.Scatter(
        x=np.concatenate([x[known], x[known][::-1]]), y=np.concatenate([low, high[::-1]]),
        fill="toself", fillcolor=faint(colour, 0.18), line={"width": 0}, mode="lines", hoverinfo="skip",
        name="middle 80 % of the assets", showlegend=column == 1, legendgroup="spread",
    )  # fmt: skip


def calibration(found: Reliability, *, title: str, said: Sequence[str]) -> go.Figure:
    """Of each quantile the share of actuals at or below it, against the share that it promises."""
    recipes = sorted(found.observed)
    if not recipes:
        return nothing(title, "no forecast with quantiles has an actual yet")
    shown = recipes[:MOST_LINES]
    names, look = distinct(shown), strokes(recipes)
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": INK, "dash": "dot", "width": 1}, name="as promised",
        hoverinfo="skip",
    )  # fmt: skip
    few = len(shown) <= 6
    for place, name in enumerate(shown):
        # Recipes of one level would stand on top of each other: each is moved a little to its own side.
        aside = 0.006 * (place - (len(shown) - 1) / 2) if few else 0.0
        figure.add_scatter(
            x=found.levels + aside, y=found.observed[name], mode="lines+markers", name=names[name], connectgaps=False,
            line=look[name]["line"], marker=look[name]["marker"] | {"size": 8}, customdata=found.levels,
            error_y=_reach(found, name, look[name]["line"]["color"]) if few else None,
            hovertemplate=f"{names[name]}: %{{customdata:.3~p}} quantile, %{{y:.1%}} below<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(
        axis("quantile: share of actuals below it, as promised", range=[-0.01, 1.01], tickformat=".0%", dtick=0.1)
    )
    figure.update_yaxes(axis("share of actuals below it, observed", range=[-0.01, 1.01], tickformat=".0%", dtick=0.1))
    note = ["whiskers: middle 80 % of the assets"] if few and any(name in found.low for name in shown) else []
    notes = [*note, *left_out(recipes, dict.fromkeys(shown), "recipes are")]
    return dressed(figure, title=title, said=said, notes=notes, height=520)


def _reach(found: Reliability, name: str, colour: str) -> dict[str, object] | None:
    """The middle 80 % of the assets as whiskers."""
    if name not in found.low:
        return None
    up, down = found.high[name] - found.observed[name], found.observed[name] - found.low[name]
    whiskers = {"array": np.maximum(up, 0), "arrayminus": np.maximum(down, 0)}
    return whiskers | {"color": faint(colour, 0.45), "thickness": 1.2, "width": 3}
