"""Forecasts beside what happened: the fan chart of one issue, and the worst, the median and the best asset in a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fleet.figures.clock import Clock
from fleet.figures.look import ACTUAL, FORECAST, INK, axis, dressed, faint, literal, nothing, number
from fleet.metrics import intervals_of
from fleet.questions.curves import Curve, Known

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """An asset over a window: its readings and, where there is one, a forecast.

    Args:
        first, stop: of the window, UTC microseconds.
        value: the metric by which it was chosen, in words; empty where none was.
    """

    asset_id: str
    unit: str
    tz: str
    first: int
    stop: int
    known: Known
    curve: Curve | None
    value: str = ""


def fan(scene: Scene) -> go.Figure:
    """One issue's forecast with its intervals, what led to it and what came."""
    name = literal(scene.asset_id)
    if scene.curve is None and not len(scene.known.times):
        return nothing(name, "no reading and no forecast in this window")
    clock = _clock(scene)
    figure = go.Figure()
    _draw(figure, scene, clock)
    notes = []
    if scene.known.missing:
        notes.append(f"{scene.known.missing:,} steps without a reading: the curve breaks there")
    if scene.curve is None:
        title, said = f"{name}: no forecast yet", ["readings"]
    else:
        curve = scene.curve
        (issued,) = clock.shown(np.array([curve.issue]))
        title = f"{name}: forecast issued {issued}"
        said = _said(scene, curve)
        position = str(clock.at(np.array([curve.issue]))[0])
        figure.add_shape(
            type="line", x0=position, x1=position, y0=0, y1=1, yref="paper", line={"color": INK, "dash": "dot"}
        )
        figure.add_annotation(
            text="issued", x=position, y=1, yref="paper", yanchor="top", xanchor="right", showarrow=False, xshift=-4
        )
    figure.update_xaxes(clock.axis())
    figure.update_yaxes(axis(literal(scene.unit) or "value"))
    figure.update_layout(hovermode="closest" if clock.uneven else "x unified")
    return dressed(figure, title=title, said=said, notes=notes, height=420)


def extremes(scenes: Sequence[Scene], *, metric: str, said: Sequence[str] = ()) -> go.Figure:
    """A few assets one below the other, each with the forecasts of its newest evaluation."""
    if not scenes:
        return nothing("Worst, median and best asset", "nothing is judged yet")
    heights = {"row": 170, "gap": 78}
    inner = heights["row"] * len(scenes) + heights["gap"] * (len(scenes) - 1)
    figure = make_subplots(
        rows=len(scenes), cols=1, vertical_spacing=heights["gap"] / inner, subplot_titles=[s.value for s in scenes]
    )
    zones = {scene.tz for scene in scenes}
    for row, scene in enumerate(scenes, start=1):
        clock = _clock(scene)
        _draw(figure, scene, clock, row=row)
        # One clock for all is named once, below the last.
        named = {} if len(zones) > 1 or row == len(scenes) else {"title": {"text": ""}}
        figure.update_xaxes(clock.axis() | named, row=row, col=1)
        figure.update_yaxes(axis(literal(scene.unit) or "value"), row=row, col=1)
    figure.update_annotations(x=0, xanchor="left", font={"size": 13, "color": INK})
    absent = [f"{literal(s.asset_id)} {s.known.missing:,}" for s in scenes if s.known.missing]
    notes = [f"steps without a reading: {', '.join(absent)}"] if absent else []
    shown = {1: "The only asset that is judged", 2: "Worst and best asset"}.get(
        len(scenes), "Worst, median and best asset"
    )
    dressed(figure, title=f"{shown} by {literal(metric)}", said=said, notes=notes, height=inner + 178)
    # The legend stands above the title of the first.
    figure.update_layout(margin_t=figure.layout.margin.t + 26, legend_y=1 + 26 / inner)
    return figure


def _clock(scene: Scene) -> Clock:
    anchor = scene.curve.issue if scene.curve is not None else scene.stop
    return Clock(tz=scene.tz, first=scene.first, last=scene.stop, anchor=anchor)


def _said(scene: Scene, curve: Curve) -> list[str]:
    """What stands below the title: who forecast, in which role, and how far off it was."""
    recipe = literal(curve.recipe)
    steps = int(np.isfinite(curve.mean).sum())
    if curve.role == "fallback":
        why = f": {literal(curve.cause)}" if curve.cause else ""
        who = f"<b>fallback {recipe}</b> in place of the champion{why}"
    else:
        who = f"{literal(curve.role)} {recipe}"
    parts = [who, f"{steps} steps", *(literal(flag) for flag in curve.quality if flag != "fallback")]
    if curve.foresight:
        parts.append("<b>perfect foresight</b>")
    error, points = _mae(scene.known, curve)
    if points:
        parts.append(f"MAE {number(error)} {literal(scene.unit)} on {points} steps".replace("  ", " "))
    return parts


def _mae(known: Known, curve: Curve) -> tuple[float, int]:
    """Mean absolute error over the steps whose actual is known, and their number."""
    _, mine, theirs = np.intersect1d(curve.times, known.times, return_indices=True)
    errors = np.abs(curve.mean[mine] - known.y[theirs])
    errors = errors[np.isfinite(errors)]
    return (float(errors.mean()), len(errors)) if len(errors) else (np.nan, 0)


def _draw(figure: go.Figure, scene: Scene, clock: Clock, row: int | None = None) -> None:
    place = {} if row is None else {"row": row, "col": 1}
    alone = row in (None, 1)
    curve = scene.curve
    if curve is not None:
        for trace in _intervals(curve, clock, legend=alone):
            figure.add_trace(trace, **place)
    for trace in _readings(scene.known, clock, curve.issue if curve is not None and row is None else None, alone):
        figure.add_trace(trace, **place)
    if curve is not None:
        figure.add_trace(_mean(curve, clock, legend=alone, several=row is not None), **place)


def _intervals(curve: Curve, clock: Clock, *, legend: bool) -> list[go.Scatter]:
    """The central intervals as areas, the widest first; a level without a partner as a thin line."""
    found = intervals_of(tuple(curve.quantiles))
    x = clock.at(curve.times)
    traces = []
    for place, (share, (low, high)) in enumerate(sorted(found.items(), reverse=True)):
        across, up = _outline(x, curve.quantiles[low], curve.quantiles[high])
        name = f"{100 * share:.4g} % interval"
        traces.append(
            go.Scatter(
                x=across, y=up, mode="lines", fill="toself", line={"width": 0}, hoverinfo="skip", connectgaps=False,
                fillcolor=faint(FORECAST, 0.18 + 0.1 * place), name=name, legendgroup=name, showlegend=legend,
            )
        )  # fmt: skip
    paired = {level for pair in found.values() for level in pair}
    for level, values in curve.quantiles.items():
        if level not in paired and not np.array_equal(values, curve.mean, equal_nan=True):
            name = "median" if level == 0.5 else f"{100 * level:.4g} % quantile"
            traces.append(
                go.Scatter(
                    x=x, y=values, mode="lines", line={"color": FORECAST, "width": 1, "dash": "dot"}, name=name,
                    legendgroup=name, showlegend=legend, connectgaps=False,
                    hovertemplate=f"{name}: %{{y:.4~g}}<extra></extra>",
                )
            )  # fmt: skip
    return traces


def _outline(
    x: npt.NDArray[np.datetime64], low: FloatArray, high: FloatArray
) -> tuple[list[str | None], list[float | None]]:
    """The edge of the area between two curves, one closed line for each stretch in which both are known."""
    known = np.isfinite(low) & np.isfinite(high)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(np.int8)))
    xs: list[str | None] = []
    ys: list[float | None] = []
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        times = [str(t) for t in x[begin:end]]
        xs += [*times, *reversed(times), times[0], None]
        ys += [*high[begin:end].tolist(), *low[begin:end][::-1].tolist(), float(high[begin]), None]
    return xs, ys


def _readings(known: Known, clock: Clock, issue: int | None, legend: bool) -> list[go.Scatter]:
    """What happened; dotted from the issue on, since the forecast could not know it."""
    if not len(known.times):
        return []
    cut = len(known.times) if issue is None else int(np.searchsorted(known.times, issue))
    parts = [("actual", "solid", slice(0, cut)), ("actual, later", "dot", slice(max(cut - 1, 0), None))]
    traces = []
    for name, dash, part in parts if cut < len(known.times) else parts[:1]:
        y = known.y[part]
        if not np.isfinite(y).any():
            continue
        traces.append(
            go.Scatter(
                x=clock.at(known.times[part]), y=y, mode="lines+markers", connectgaps=False, name=name,
                line={"color": ACTUAL, "width": 1.6, "dash": dash}, legendgroup=name, showlegend=legend,
                marker={"color": ACTUAL, "size": np.where(_alone(y), 5, 0), "line": {"width": 0}},
                **_told(clock, known.times[part], "actual: %{y:.4~g}"),
            )
        )  # fmt: skip
    return traces


def _alone(y: FloatArray) -> npt.NDArray[np.bool_]:
    """Readings between two missing ones, which a line alone would not show."""
    known = np.concatenate([[False], np.isfinite(y), [False]])
    alone: npt.NDArray[np.bool_] = known[1:-1] & ~known[:-2] & ~known[2:]
    return alone


def _mean(curve: Curve, clock: Clock, *, legend: bool, several: bool) -> go.Scatter:
    return go.Scatter(
        x=clock.at(curve.times), y=curve.mean, mode="lines", line={"color": FORECAST, "width": 2.2}, connectgaps=False,
        name="forecast" if several else f"forecast, {literal(curve.recipe)}", legendgroup="forecast",
        showlegend=legend, text=_ranges(curve), **_told(clock, curve.times, "forecast: %{y:.4~g}%{text}"),
    )  # fmt: skip


def _told(clock: Clock, times: IntArray, words: str) -> dict[str, Any]:
    """What a point says; with what its clock shows, where its place on the axis does not."""
    if not clock.uneven:
        return {"hovertemplate": f"{words}<extra></extra>"}
    return {"customdata": clock.shown(times), "hovertemplate": f"%{{customdata}}<br>{words}<extra></extra>"}


def _ranges(curve: Curve) -> list[str]:
    """For each step its intervals in words."""
    found = sorted(intervals_of(tuple(curve.quantiles)).items(), reverse=True)
    parts = [
        [
            f"<br>{100 * share:.4g} %: {number(bottom)} to {number(top)}"
            for bottom, top in zip(curve.quantiles[low].tolist(), curve.quantiles[high].tolist(), strict=True)
        ]
        for share, (low, high) in found
    ]
    return ["".join(step) for step in zip(*parts, strict=True)] if parts else [""] * len(curve.times)
