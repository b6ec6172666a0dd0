"""What a notebook shows of a fleet, an asset, a leaderboard, a report: one card each, from values that are known.

Nothing here asks the store. A card stays below `fleet.html.MOST_BYTES`, whatever it shows, and says what it leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np

from fleet.html import (
    ACTUAL,
    FORECAST,
    Canvas,
    Html,
    card,
    escaped,
    fitting,
    heading,
    joined,
    line,
    pairs,
    shown,
    table,
    tiles,
)

if TYPE_CHECKING:
    from fleet.ingest import IngestReport
    from fleet.leaderboard import Leaderboard
    from fleet.outcome import Report
    from fleet.questions import Curve, Glance, Known, Scored, Worst

COUNTS = (("ok", "ok"), ("failed", "failed"), ("fell_back", "fell back"), ("skipped", "skipped"))
_EPOCH = date(1970, 1, 1)


def broken_card(what: str, message: str, hint: str = "") -> Html:
    """What stands in place of a card that could not be made."""
    return card(heading(what), line(message, "w"), *([line(hint, "q")] if hint else []))


def fleet_card(name: str, store: str, snapshot: int, zone: str, seen: Glance) -> Html:
    """How a fleet is: what it holds, who is in charge, what the last jobs did, who is furthest off.

    Args:
        zone: in which instants are shown.
    """
    head = heading(name, f"{store}, snapshot {snapshot}")
    if not seen.assets and not seen.actuals and not seen.jobs:
        return card(head, line("The store is empty: ingest() brings assets and readings in.", "q"))
    numbers = [
        ("assets", seen.assets),
        ("with a champion", sum(n for _, n in seen.champions)),
        ("readings", seen.actuals),
    ]
    facts = [
        ("newest reading", _local(seen.newest_actual, zone)),
        ("newest forecast issued", _local(seen.newest_issue, zone)),
        ("newest day scored", seen.newest_scored),
        ("champions", _counted(seen.champions) if seen.champions else "none: train(promote=True) decides"),
    ]

    def made(rows: int) -> Html:
        return card(head, tiles(numbers), pairs(facts), *_jobs(seen, zone), *_worst(seen, rows))

    return fitting(made, len(seen.worst))


def _jobs(seen: Glance, zone: str) -> list[Html]:
    if not seen.jobs:
        return []
    names = ["job", "started", "status", *(said for _, said in COUNTS), "causes"]
    rows = [
        [
            job.job,
            _local(job.started_at, zone),
            job.status if job.status == "ok" else Html(f'<span class="w">{escaped(job.status)}</span>'),
            *(job.counts[key] for key, _ in COUNTS),
            _counted(job.causes, 3) if job.causes else escaped(job.error, 40),
        ]
        for job in seen.jobs
    ]
    return [heading("Last jobs"), table(names, rows)]


def _worst(seen: Glance, rows: int) -> list[Html]:
    if not seen.worst:
        return [line("Nothing is judged yet: backtest() or train() does.", "q")] if seen.champions else []
    how = "judged on past days" if seen.role == "backtest" else "as issued"
    few = min(rows, len(seen.worst))
    head = heading(f"Furthest off: {few} asset{'s' * (few > 1)} by {seen.metric}", f"{how}, recipe in charge")
    names = ["asset", "recipe", seen.metric, "points", "day by day"]
    body = [[w.asset_id, w.recipe, w.value, w.points, spark(w, seen.metric)] for w in seen.worst[:rows]]
    return [head, table(names, body)]


def spark(worst: Worst, metric: str) -> Html:
    """The metric of each of the last days; the axis begins at zero, so that heights compare."""
    if not np.isfinite(worst.values).any():
        return Html("")
    canvas = Canvas.around(130, 24, worst.days, [worst.values], zero=True)
    first, last = (_EPOCH + timedelta(days=int(day)) for day in (worst.days[0], worst.days[-1]))
    label = f"{metric} by day, {first} to {last}, from {np.nanmin(worst.values):.3g} to {np.nanmax(worst.values):.3g}"
    return canvas.drawn(canvas.line(worst.days, worst.values), label=label)


def asset_card(
    asset_id: str,
    facts: Mapping[str, object],
    zone: str,
    *,
    champion: Mapping[str, object] | None,
    metric: str,
    results: Sequence[Scored],
    known: Known,
    curve: Curve | None,
) -> Html:
    """One asset: its facts, who is in charge and how well each recipe did, its last days with the newest forecast.

    Args:
        facts: its row of the register, without what is not known.
        champion: recipe, since, reason; None when nobody is in charge.
    """
    listed = ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in facts.items()
    )
    if champion:
        reason = f": {champion['reason']}" if champion.get("reason") else ""
        lead = f"in charge: {champion['recipe']}, since {_local(champion['since'], zone)}{reason}"
    else:
        lead = "nobody is in charge: train(promote=True) decides"
    judged: dict[str, dict[str, Scored]] = {}
    for one in results:
        judged.setdefault(one.recipe, {})[one.role] = one
    names = ["recipe", f"{metric}, judged", "points", f"{metric}, issued", "points"]
    rows = [
        [
            _marked(recipe, in_charge=champion is not None and recipe == champion["recipe"], foresight=_flagged(mine)),
            *(part for role in ("backtest", "live") for part in _result(mine.get(role))),
        ]
        for recipe, mine in judged.items()
    ]

    def made(most: int) -> Html:
        dropped = [line(f"{len(rows) - most} more recipes: scores() has all", "q")] if len(rows) > most else []
        results = [table(names, rows[:most]), *dropped] if rows else [line("not judged yet", "q")]
        return card(heading(asset_id, listed), line(lead), *results, *_picture(known, curve, zone))

    return fitting(made, min(len(rows), 12) or 1)


def _marked(recipe: str, *, in_charge: bool, foresight: bool) -> Html:
    name = Html(f"<b>{escaped(recipe)}</b>") if in_charge else escaped(recipe)
    return joined([name, Html(' <span class="w">perfect foresight</span>')]) if foresight else name


def _flagged(mine: Mapping[str, Scored]) -> bool:
    return any(one.foresight for one in mine.values())


def _result(one: Scored | None) -> tuple[float | None, int | None]:
    return (None, None) if one is None else (one.value, one.points)


def _picture(known: Known, curve: Curve | None, zone: str) -> list[Html]:
    """The last days, with the forecast in blue and its widest interval behind it."""
    x = known.times.astype(np.float64)
    ahead = curve.times.astype(np.float64) if curve is not None else np.zeros(0)
    edges = (
        [curve.quantiles[level] for level in (min(curve.quantiles), max(curve.quantiles))]
        if curve and curve.quantiles
        else []
    )
    lines = [known.y, *([curve.mean] if curve is not None else []), *edges]
    if not any(np.isfinite(values).any() for values in lines):
        return [line("no reading yet", "q")]
    canvas = Canvas.around(560, 90, np.concatenate([x, ahead]), lines)
    parts = [canvas.line(x, known.y, ACTUAL)]
    said = f"readings, {shown(canvas.y[0])} to {shown(canvas.y[1])}"
    if curve is not None:
        if len(edges) == 2:
            parts.insert(0, canvas.band(ahead, edges[0], edges[1]))
        parts += [canvas.line(ahead, curve.mean, FORECAST), canvas.mark(float(curve.issue))]
        stands = f"{curve.role} {curve.recipe}" + (f" ({curve.cause})" if curve.cause else "")
        said += f"; in blue the forecast issued {_local(_instant(curve.issue), zone)} by {stands}"
    if known.missing:
        said += f"; {known.missing} steps missing"
    return [canvas.drawn(*parts, label=said), line(said, "q")]


def leaderboard_card(board: Leaderboard) -> Html:
    """The rows of a leaderboard, what is missing beside them, and whether they may be compared."""
    about = f"{board.role}, {board.average} over assets" if board.average != "micro" else f"{board.role}, all points"
    head = heading(f"Leaderboard by {board.metric}", about)
    if not board.table:
        verb = "backtest() judges the recipes" if board.role == "backtest" else "score() compares with what happened"
        return card(head, line(f"nothing is scored yet: {verb}", "q"))
    warned = (
        []
        if board.paired
        else [line("not paired: each recipe stands for its own assets, so the rows do not rank", "w")]
    )
    names = [name for name in board.columns if name != "perfect_foresight"]

    def made(most: int) -> Html:
        body = [[_named(row, name) for name in names] for row in board.table[:most]]
        dropped = len(board.table) - most
        more = [line(f"{dropped:,} of {len(board.table):,} rows left out: .df() has all", "q")] if dropped > 0 else []
        return card(
            head,
            *warned,
            table([name.replace("_", " ") if name == "perfect_foresight" else name for name in names], body),
            *more,
        )

    return fitting(made, min(len(board.table), 40))


def _named(row: Mapping[str, object], name: str) -> object:
    if name == "recipe" and row.get("perfect_foresight"):
        return joined([row[name], Html(' <span class="w">perfect foresight</span>')])
    return row[name]


def report_card(report: Report) -> Html:
    """What a verb did: counts, what it wrote, and what failed, grouped by cause."""
    verb = report.job.partition(":")[2] or report.job
    counts = [
        ("assets", report.assets),
        *((said, getattr(report, key)) for key, said in COUNTS if getattr(report, key)),
    ]
    wrote = ", ".join(f"{count:,} {name}" for name, count in report.rows.items() if count) or "nothing"
    facts = [line(f"{report.seconds:.1f} s; wrote {wrote}", "q"), *(line(note, "q") for note in report.notes[:5])]
    stopped = (
        [line("interrupted: what was finished is kept; the same call goes on with the rest", "w")]
        if report.interrupted
        else []
    )
    names = ["cause", "assets", "recipe", "for example", "error"]

    again = [line(f"again: {report.retry}", "q")] if report.retry else []

    def made(most: int) -> Html:
        rows = [[f.cause, f.count, f.recipe, f.asset_id, escaped(f.error, 90)] for f in report.failures[:most]]
        dropped = len(report.failures) - most
        more = [line(f"{dropped:,} more groups", "q")] if dropped > 0 else []
        failures = [heading("What failed"), table(names, rows), *more, *again] if rows else []
        return card(heading(verb), tiles(counts), *facts, *stopped, *_planned(report), *failures)

    return fitting(made, min(len(report.failures), 20) or 1)


def _planned(report: Report) -> list[Html]:
    """What would be done, where that was all that was asked."""
    if report.planned is None:
        return []
    rows = [[one.act, one.recipe or "the best judged", one.assets] for one in report.planned[:50]]
    return [heading("What would be done"), table(["act", "recipe", "assets"], rows) if rows else line("nothing", "q")]


def ingest_card(report: IngestReport) -> Html:
    """What came in, and what is odd about it."""
    counts = [
        ("assets", report.assets),
        ("of them new", report.new_assets),
        ("rows", report.rows),
        ("missing", report.missing),
        *([("bad, kept aside", report.bad)] if report.bad else []),
    ]
    wrote = ", ".join(f"{count:,} {name}" for name, count in report.written.items() if count) or "nothing new"
    days = f"{report.first:%Y-%m-%d} to {report.last:%Y-%m-%d}; " if report.first and report.last else ""
    facts = [line(f"{days}{report.seconds:.1f} s; wrote {wrote}", "q"), *(line(note, "q") for note in report.notes[:5])]
    odd = report.summary()

    def made(most: int) -> Html:
        rows = [[*row.values()] for row in odd[:most]]
        told = [heading("Odd, told and never changed"), table([*odd[0]], rows)] if rows else []
        return card(heading("ingest"), tiles(counts), *facts, *told)

    return fitting(made, len(odd) or 1)


def guarded(what: str, make: Callable[[], Html], errors: tuple[type[Exception], ...]) -> Html:
    """The card, or one that says why there is none: a notebook must not break over what it shows in passing."""
    try:
        return make()
    except errors as error:
        return broken_card(what, str(error), str(getattr(error, "hint", "")))


def _counted(pairs: Sequence[tuple[str, int]], most: int = 8) -> Html:
    """Names with their numbers, the first few."""
    listed = joined([f"{name} {count:,}" for name, count in pairs[:most]], ", ")
    return Html(listed + (f" and {len(pairs) - most} more" if len(pairs) > most else ""))


def _local(moment: object, zone: str) -> Html:
    return shown(moment.astimezone(ZoneInfo(zone)) if isinstance(moment, datetime) and moment.tzinfo else moment)


def _instant(micros: int) -> datetime:
    return datetime.fromisoformat("1970-01-01T00:00:00+00:00") + timedelta(microseconds=micros)
