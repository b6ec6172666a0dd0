"""What a report looks like: a card for the notebook, and one HTML page for everybody else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fleet.html import Html, card, fitting, heading, line, table, tiles

if TYPE_CHECKING:
    from fleet.review.report import Review

#: Rows of each list on the page; the store holds more of them, `df()` all.
SHOWN = 20
TITLES: Mapping[str, tuple[str, str]] = {
    "worse": ("Worse than their own past", "error grew by the effect or more, and beyond the noise of the days"),
    "better": ("Better than their own past", "error fell by the effect or more, and beyond the noise of the days"),
    "apart": ("Worse than their peers", "wape far above the median of the group"),
    "drifted": ("Readings that changed", "level or spread left what they were"),
    "silent": ("Silent", "no reading for more than a day"),
    "stale": ("Champions that grew old", "nobody in charge, or learnt nothing new for longer than stale_after"),
}


def review_card(found: Review) -> Html:
    """A report as one card: the figures of the whole fleet, then the worst of each list."""

    def made(rows: int) -> Html:
        return card(*_head(found), *_figures(found), *_lists(found, rows))

    return fitting(made, SHOWN)


def page(reports: Sequence[Review]) -> str:
    """Reports as one page: what a card shows, with figures that can be looked into."""
    from fleet.figures import embedded, page_of

    parts: list[str] = []
    title = f"{reports[0].name}: {reports[0].at:%Y-%m-%d}" if reports else "tsfleet"
    for number, found in enumerate(reports):
        figures = _drawn(found)
        parts.append(card(*_head(found), *_figures(found)))
        parts += [embedded(figure, library=number == 0 and place == 0) for place, figure in enumerate(figures)]
        parts.append(card(*_lists(found, SHOWN)))
    return page_of([f'<main style="max-width:64rem;margin:auto">{"".join(parts)}</main>'], title)


def _drawn(found: Review) -> list[Any]:
    from fleet import figures

    course = figures.Course(
        days=found.course.days, median=found.course.median, low=found.course.low, high=found.course.high
    )
    changes = np.array([np.nan if value is None else value for value in found.table["change"].to_pylist()])
    product = figures.literal(found.product)
    return [
        figures.course(
            course, since=found.recent.start, title="Error of the fleet, day by day", label="wape",
            said=[f"product {product}", "the dashed line is where the recent days begin"],
        ),
        figures.changed(
            changes, effect=found.effect, title=f"Change of {figures.literal(found.metric)}, asset by asset",
            said=[f"{found.recent} beside {found.before}", f"effect {found.effect:.0%}"],
        ),
    ]  # fmt: skip


def _head(found: Review) -> list[Html]:
    counts = found.counts
    facts = [("assets", found.table.num_rows), *((name, counts[name]) for name in ("worse", "better", "unknown"))]
    facts += [("apart from peers", counts["apart"]), ("drifted", counts["drifted"])]
    facts += [("silent", counts["silent"]), ("stale champions", counts["stale"])]
    about = f"{found.product}, {found.recent} beside {found.before}, snapshot {found.snapshot}"
    return [heading(f"{found.name} by {found.metric}", about), tiles(facts)]


def _figures(found: Review) -> list[Html]:
    made = [heading("Errors", "over the assets that both windows know"), _table(found.metrics)]
    issued = found.board.rows()
    if issued:
        names = [name for name in found.board.columns if name not in ("perfect_foresight", "missing", "undefined")]
        made += [
            heading("Issued", "each recipe stands for its own assets"),
            table(names, [_of(r, names) for r in issued]),
        ]
    if found.coverage:
        rows = [
            [f"{r['interval']:.0%}", _share(r["now"]), _share(r["before"]), r["assets"], r["off"]]
            for r in found.coverage
        ]
        made += [
            heading("Intervals", "what they hold of the readings; off: by more than a tenth"),
            table(["promised", "held now", "held before", "assets", "off"], rows),
        ]
    return made


def _lists(found: Review, rows: int) -> list[Html]:
    made: list[Html] = []
    for which, (title, about) in TITLES.items():
        every = found.rows(which, None)
        if not every:
            continue
        names = _columns(found, which)
        made += [
            heading(f"{title}: {len(every):,}", about),
            table([_word(name) for name in names], [_of(row, names) for row in every[:rows]]),
        ]
        if len(every) > rows:
            made.append(line(f"{len(every) - rows:,} more: df() has all", "q"))
    if not made:
        made.append(line("No asset stands out.", "q"))
    return made


def _columns(found: Review, which: str) -> list[str]:
    errors = [f"{found.metric}_now", f"{found.metric}_before", "change", "noise"]
    own = {
        "worse": [*errors, "level_shift", "fallback_share"],
        "better": errors,
        "apart": ["wape_now", "peers_wape", "beside_peers"],
        "drifted": ["level_shift", "spread_change", "flat"],
        "silent": ["silent_h", "learnt_d"],
        "stale": ["champion_d", "learnt_d", "silent_h"],
    }[which]
    return ["asset_id", found.by, "recipe", *own]


_WORDS: Mapping[str, str] = {
    "asset_id": "asset", "noise": "in standard errors", "peers_wape": "wape of the median peer",
    "beside_peers": "in robust standard deviations", "level_shift": "level moved, in spreads", "flat": "stands still",
    "silent_h": "hours silent", "champion_d": "days in charge", "learnt_d": "days since it learnt",
}  # fmt: skip
_SHARES: Mapping[str, str] = {"change": "+.0%", "spread_change": "+.0%", "fallback_share": ".0%"}


def _word(name: str) -> str:
    return _WORDS.get(name, name.replace("_", " "))


def _of(row: Mapping[str, Any], names: Sequence[str]) -> list[object]:
    return [_percent(name, row.get(name)) for name in names]


def _percent(name: str, value: object) -> object:
    return format(value, _SHARES[name]) if name in _SHARES and isinstance(value, float) else value


def _table(rows: Sequence[Mapping[str, Any]]) -> Html:
    names = list(rows[0]) if rows else []
    return table([name.replace("_", " ") for name in names], [_of(row, names) for row in rows])


def _share(value: float) -> str:
    return f"{value:.1%}" if np.isfinite(value) else "–"
