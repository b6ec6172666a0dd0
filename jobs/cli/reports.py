"""What a verb of the fleet did, as a line, a table of failures, and an exit code."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from jobs.cli.console import Row, print_json, print_rows, say
from jobs.cli.exits import Exit

if TYPE_CHECKING:
    from fleet.ingest import IngestReport
    from fleet.outcome import Report

INTERRUPTED = "interrupted: what was finished is in the store; the same command goes on with the rest"


def finish(report: Report, *, verb: str, as_json: bool) -> Exit:
    """Prints a report and gives the exit code that it means."""
    if report.planned is not None:
        return _tell_plan(report, verb, as_json=as_json)
    if as_json:
        print_json(as_row(report))
    else:
        if report.assets:
            say(line(report, verb))
        for note in report.notes:
            say(f"  {note}" if report.assets else f"{verb}: {note}")
        if report.failures:
            print_rows(failure_rows(report), as_json=False)
        if report.retry:
            say(f"retry: {report.retry}")
    if report.interrupted:
        say(INTERRUPTED)
        return Exit.INTERRUPTED
    return Exit.PARTLY if report.failed or report.fell_back else Exit.OK


def _tell_plan(report: Report, verb: str, *, as_json: bool) -> Exit:
    """What a verb would do, as a table; nothing was done, so nothing can have gone wrong."""
    assert report.planned is not None
    unnamed = "(no champion)" if verb == "forecast" else "(the best of them)"
    several = len(report.products) > 1
    rows: list[Row] = [
        {
            **({"product": p.product} if several else {}),
            "act": p.act,
            "recipe": p.recipe if as_json else p.recipe or unnamed,
            "assets": p.assets,
        }
        for p in report.planned
    ]
    if not as_json:
        due = f"{report.assets - report.skipped:,} of {report.assets:,} assets"
        say(f"{verb}: would work on {due}; nothing was written" if rows else f"{verb}: nothing is due")
    if rows or as_json:
        print_rows(rows, as_json=as_json)
    return Exit.OK


def line(report: Report, verb: str) -> str:
    """A report in one line.

    >>> from fleet.outcome import Report
    >>> line(Report(job="cli:train", slot="", assets=3, ok=2, fell_back=1, seconds=1.25, rows={"runs": 3}), "train")
    'train: 3 assets, ok 2, fell back 1, 1.2 s; wrote 3 runs'
    """
    counts = {"ok": report.ok, "failed": report.failed, "fell back": report.fell_back, "skipped": report.skipped}
    several = [f"{len(report.products)} products"] if len(report.products) > 1 else []
    parts = [
        f"{report.assets:,} assets",
        *several,
        *(f"{name} {count:,}" for name, count in counts.items() if count),
        f"{report.seconds:.1f} s",
    ]
    wrote = ", ".join(f"{count:,} {table}" for table, count in report.rows.items() if count)
    return f"{verb}: {', '.join(parts)}; " + (f"wrote {wrote}" if wrote else "nothing to write")


def failure_rows(report: Report) -> list[Row]:
    """The causes of failure, the most frequent first, each with an asset to look at."""
    return [
        {"cause": f.cause, "count": f.count, "recipe": f.recipe, "for example": f.asset_id, "error": f.error}
        for f in report.failures
    ]


def as_row(report: Report) -> Row:
    """A report as one JSON object."""
    return {
        "job": report.job,
        "slot": report.slot,
        "products": list(report.products),
        "assets": report.assets,
        "ok": report.ok,
        "failed": report.failed,
        "fell_back": report.fell_back,
        "skipped": report.skipped,
        "seconds": round(report.seconds, 3),
        "rows": dict(report.rows),
        "failures": [
            {"cause": f.cause, "count": f.count, "asset_id": f.asset_id, "recipe": f.recipe, "error": f.error}
            for f in report.failures
        ],
        "retry": report.retry,
        "notes": list(report.notes),
        "interrupted": report.interrupted,
    }


def finish_ingest(report: IngestReport, *, as_json: bool) -> Exit:
    """Prints what an ingest brought in, and what is odd about it."""
    if as_json:
        print_json({**asdict(report), "findings": report.summary()})
    else:
        say(ingest_line(report))
        for note in report.notes:
            say(f"  {note}")
        for path in report.aside:
            say(f"  kept aside: {path}")
        if report.findings:
            print_rows(report.summary(), as_json=False, title="What is odd about the data; nothing was changed")
    return Exit.PARTLY if report.bad else Exit.OK


def ingest_line(report: IngestReport) -> str:
    """An ingest in one line.

    >>> from fleet.ingest import IngestReport
    >>> ingest_line(IngestReport(assets=2, new_assets=1, rows=48, missing=0, first=None, last=None, written={}))
    'ingest: 2 assets (1 new), 48 rows, 0.0 s; nothing new'
    """
    new = f" ({report.new_assets:,} new)" if report.new_assets else ""
    parts = [f"{report.assets:,} assets{new}", f"{report.rows:,} rows"]
    if report.first is not None and report.last is not None:
        parts.append(f"{report.first:%Y-%m-%d} to {report.last:%Y-%m-%d}")
    if report.missing:
        parts.append(f"{report.missing:,} missing")
    if report.bad:
        parts.append(f"{report.bad:,} bad rows kept aside")
    wrote = ", ".join(f"{count:,} {table}" for table, count in report.written.items() if count)
    return f"ingest: {', '.join(parts)}, {report.seconds:.1f} s; " + (f"wrote {wrote}" if wrote else "nothing new")
