"""Recipes beside each other: a metric as bars with the spread over assets, along leads or groups, as a distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fleet.figures.look import (
    COLOURS,
    GRID,
    INK,
    MOST_LINES,
    axis,
    colours,
    distinct,
    dressed,
    faint,
    left_out,
    literal,
    nothing,
    number,
    strokes,
)  # fmt: skip

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One recipe (in one group) of a ranking.

    Args:
        value: the metric; NaN where it is undefined.
        spread: (assets,) the metric of each asset that it is defined for.
        flag: what has to be said beside the name, such as perfect foresight; empty otherwise.
    """

    recipe: str
    group: str
    value: float
    spread: FloatArray
    assets: int
    flag: str = ""


def ranking(
    entries: Sequence[Entry], *, title: str, label: str, said: Sequence[str], notes: Sequence[str]
) -> go.Figure:
    """A bar for each recipe, the first on top, with the middle 80 % of its assets as a line and their median as a mark.

    Args:
        entries: best first; groups are not looked at.
        label: of the axis: the metric and its unit.
    """
    if not entries:
        return nothing(title, "nothing is judged yet")
    shown = list(entries[:MOST_LINES])
    names = distinct([entry.recipe for entry in shown])
    labels = [names[e.recipe] + (f"<br><i>{literal(e.flag)}</i>" if e.flag else "") for e in shown]
    paint = colours([entry.recipe for entry in entries])
    figure = go.Figure(
        go.Bar(
            y=labels, x=[e.value for e in shown], orientation="h", width=0.62, showlegend=False,
            marker={"color": [faint(paint[e.recipe], 0.55) for e in shown],
                    "line": {"color": [paint[e.recipe] for e in shown], "width": 1},
                    "pattern": {"shape": ["/" if e.flag else "" for e in shown], "fgcolor": INK, "size": 6}},
            hovertext=[f"{names[e.recipe]}: {number(e.value)}, {e.assets:,} assets" for e in shown], hoverinfo="text",
        )
    )  # fmt: skip
    spread = [(k, np.percentile(e.spread, [10, 50, 90])) for k, e in enumerate(shown) if len(e.spread) > 2]
    xs: list[float | None] = []
    ys: list[str | None] = []
    for k, (low, _, high) in spread:
        xs += [float(low), float(high), None]
        ys += [labels[k], labels[k], None]
    if spread:
        figure.add_scatter(
            x=xs,
            y=ys,
            mode="lines",
            line={"color": INK, "width": 2},
            name="middle 80 % of the assets",
            hoverinfo="skip",
        )
        figure.add_scatter(
            x=[float(s[1]) for _, s in spread], y=[labels[k] for k, _ in spread], mode="markers",
            marker={"symbol": "line-ns", "size": 12, "line": {"color": INK, "width": 2}}, name="median asset",
            hovertemplate="median asset: %{x:.4~g}<extra></extra>",
        )  # fmt: skip
    for k, entry in enumerate(shown):
        left = not entry.value < 0
        figure.add_annotation(
            text=f"<b>{number(entry.value)}</b>", x=0 if np.isnan(entry.value) else entry.value, y=labels[k],
            xanchor="left" if left else "right", xshift=4 if left else -4, yshift=13 if len(entry.spread) > 2 else 0,
            showarrow=False, font={"size": 12, "color": INK},
        )  # fmt: skip
    reach = [end for end in [0.0, *(e.value for e in shown), *(x for x in xs if x is not None)] if np.isfinite(end)]
    room = 0.06 * (max(reach) - min(reach)) or 1.0
    bounds = [min(reach) - (room if min(reach) < 0 else 0), max(reach) + room]
    figure.update_xaxes(axis(label, range=bounds))
    figure.update_yaxes(axis("", autorange="reversed", showgrid=False, type="category"))
    more = left_out([e.recipe for e in entries], dict.fromkeys(e.recipe for e in shown), "recipes are")
    return dressed(figure, title=title, said=said, notes=[*notes, *more], height=150 + 48 * len(shown))


def along(
    entries: Sequence[Entry],
    groups: Sequence[str],
    *,
    title: str,
    label: str,
    by: str,
    said: Sequence[str],
    notes: Sequence[str],
    ordered: bool,
) -> go.Figure:
    """A metric of each recipe over leads (a line, in their order) or over the values of a register column (marks).

    Args:
        groups: in the order they are drawn in.
        by: what they are, for the axis.
    """
    if not entries:
        return nothing(title, "nothing is judged yet")
    recipes = list(dict.fromkeys(entry.recipe for entry in entries))
    kept = groups if ordered else groups[:MOST_LINES]
    look, names, texts = strokes(recipes), distinct(recipes), distinct(kept)
    figure = go.Figure()
    drawn = recipes[:MOST_LINES]
    for place, recipe in enumerate(drawn):
        found = {entry.group: entry for entry in entries if entry.recipe == recipe}
        values = [found[g].value if g in found else np.nan for g in kept]
        said_of = [f"{texts[g]}, {found[g].assets:,} assets" if g in found else "" for g in kept]
        # Marks of several recipes at one value would hide each other: each has its own height beside the group's.
        aside = 0.5 * (place - (len(drawn) - 1) / 2) / len(drawn)
        heights = np.arange(len(kept)) + (0.0 if ordered else aside)
        figure.add_scatter(
            x=heights if ordered else values, y=values if ordered else heights, name=names[recipe],
            mode="lines+markers" if ordered else "markers", connectgaps=False, customdata=said_of,
            line=look[recipe]["line"], marker=look[recipe]["marker"] | {"size": 7 if ordered else 9},
            hovertemplate=f"{names[recipe]}: %{{{'y' if ordered else 'x'}:.4~g}}, %{{customdata}}<extra></extra>",
        )  # fmt: skip
    scale = axis(label, rangemode="tozero")
    marks = {"tickvals": list(range(len(kept))), "ticktext": [texts[g] for g in kept], "zeroline": False}
    room = [-0.4, len(kept) - 0.6] if ordered else [len(kept) - 0.4, -0.6]
    where = axis(literal(by), range=room, **marks)
    figure.update_xaxes(where if ordered else scale)
    figure.update_yaxes(scale if ordered else where)
    dropped = len(groups) - len(kept)
    more = [f"{dropped:,} of {len(groups):,} left out: those with the lowest error"] if dropped else []
    height = 420 if ordered else 190 + max(26, 9 * len(drawn)) * len(kept)
    return dressed(figure, title=title, said=said, notes=[*notes, *more], height=height)


def distribution(
    spreads: Mapping[str, FloatArray],
    assets: Mapping[str, Sequence[str]],
    *,
    title: str,
    label: str,
    said: Sequence[str],
) -> go.Figure:
    """How a metric is spread over the assets: a box for each recipe above, the share of the assets up to a value below.

    Boxes show 5, 25, 50, 75 and 95 % of the assets. The axis ends where nearly all lie; who is beyond is said.

    Args:
        spreads: recipe to (assets,) values; assets: recipe to the names of the same assets.
    """
    known = {name: values for name, values in spreads.items() if len(values)}
    if not known:
        return nothing(title, "no asset has a value")
    shown = dict(list(known.items())[:MOST_LINES])
    together = np.concatenate(list(shown.values()))
    wide = _spans_decades(together)
    low, high = (float(together.min()) / 1.1, float(together.max()) * 1.1) if wide else _window(together)
    names, look = distinct(list(shown)), strokes(list(shown))
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.3 + 0.04 * min(len(shown), 8), 0.5]
    )
    places = np.geomspace(low, high, 201) if wide else np.linspace(low, high, 201)
    for name, values in reversed(shown.items()):
        q05, q1, median, q3, q95 = np.percentile(values, [5, 25, 50, 75, 95])
        colour = look[name]["line"]["color"]
        figure.add_trace(
            go.Box(
                q1=[q1], median=[median], q3=[q3], lowerfence=[q05], upperfence=[q95], y=[names[name]], orientation="h",
                fillcolor=faint(colour, 0.35), line={"color": colour, "width": 1.5}, showlegend=False, name=names[name],
            ),
            row=1, col=1,
        )  # fmt: skip
    for name, values in shown.items():
        share = np.searchsorted(np.sort(values), places, side="right") / len(values)
        figure.add_trace(
            go.Scatter(
                x=places, y=share, mode="lines", name=names[name], line=look[name]["line"],
                hovertemplate=f"{names[name]}: %{{y:.1%}} up to %{{x:.4~g}}<extra></extra>",
                showlegend=len(shown) > len(COLOURS),  # a colour of its own is named beside its box
            ),
            row=2, col=1,
        )  # fmt: skip
    scale: dict[str, object] = {"range": [low, high]}
    if wide:
        scale = {
            "type": "log",
            "range": np.log10([low, high]).tolist(),
            "dtick": 1,
            "minor": {"showgrid": True, "gridcolor": GRID},
        }
    figure.update_xaxes(axis("", **scale), row=1, col=1)
    figure.update_xaxes(axis(f"{label}, on a logarithmic axis" if wide else label, **scale), row=2, col=1)
    figure.update_yaxes(axis("", showgrid=False, type="category"), row=1, col=1)
    figure.update_yaxes(axis("share of the assets up to it", tickformat=".0%", range=[0, 1.02]), row=2, col=1)
    notes = [*_beyond(shown, assets, low, high), *left_out(list(known), shown, "recipes are")]
    return dressed(figure, title=title, said=said, notes=notes, height=400 + 26 * len(shown))


def _spans_decades(values: FloatArray) -> bool:
    """Whether a linear axis would crowd most assets into its first part.

    >>> _spans_decades(np.array([0.1, 1.0, 10.0, 100.0])), _spans_decades(np.array([0.0, 1.0, 100.0]))
    (True, False)
    """
    return bool(values.min() > 0 and np.percentile(values, 95) > 20 * np.percentile(values, 5))


def _window(values: FloatArray) -> tuple[float, float]:
    """The span that the axis shows: all values, unless a few lie far from the rest.

    >>> _window(np.array([1.0, 2.0, 3.0]))
    (0.0, 3.09)
    """
    low, high = min(0.0, float(values.min())), float(values.max())
    inner_low, inner_high = np.percentile(values, [2, 98])
    room = 0.15 * (inner_high - min(0.0, inner_low))
    if room > 0 and high > inner_high + 2 * room:
        high = float(inner_high + room)
    if room > 0 and low < inner_low - 2 * room and low < 0:
        low = float(inner_low - room)
    return low, high + 0.03 * (high - low) if high > low else low + 1.0


def _beyond(
    spreads: Mapping[str, FloatArray],
    assets: Mapping[str, Sequence[str]],
    low: float,
    high: float,
) -> list[str]:
    """Who is not on the axis, by recipe, with the farthest as the example."""
    said = []
    for name, values in spreads.items():
        out = np.flatnonzero((values > high) | (values < low))
        if len(out):
            far = out[np.argmax(np.abs(values[out] - (low + high) / 2))]
            said.append(f"{literal(name, 16)} {len(out):,} ({literal(assets[name][far], 16)} {number(values[far])})")
    if not said:
        return []
    listed = ", ".join(said[:2]) + (f" and {len(said) - 2:,} more recipes" if len(said) > 3 else "")
    return [f"assets beyond the axis: {', '.join(said) if len(said) == 3 else listed}"]
