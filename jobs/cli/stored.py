"""The commands about the store itself: `tsfleet store info` and `tsfleet store flush`."""

from __future__ import annotations

from cyclopts import App

from jobs.cli.console import print_json, print_rows, say
from jobs.cli.exits import Exit
from jobs.cli.options import KEEP, Common

COMMON = Common()
store = App(name="store", help="Look at the store itself, or tidy it.", help_format="markdown", group=KEEP)


@store.command
def info(*, common: Common = COMMON) -> int:
    """The tables with their rows, the newest snapshot, files and bytes.

    For example:

    - `tsfleet store info`
    - `tsfleet store info --json`
    """
    with common.store() as opened:
        found = opened.info()
    if common.json:
        print_json(
            {
                "path": str(found.path),
                "format": found.format,
                "head": found.head,
                "bytes": found.bytes,
                "segments": found.segments,
                "packs": found.packs,
                "tables": dict(found.tables),
                "hot": dict(found.hot),
            }
        )
        return Exit.OK
    say(
        f"{found.path}: format {found.format}, snapshot {found.head}, {found.bytes / 1e6:,.1f} MB, "
        f"{found.segments} segments, {found.packs} packs"
    )
    print_rows(
        [{"table": name, "rows": rows, "hot": found.hot.get(name, 0)} for name, rows in sorted(found.tables.items())],
        as_json=False,
    )
    return Exit.OK


@store.command
def flush(*, common: Common = COMMON) -> int:
    """Move the hot rows of the catalog into segments now, instead of when there are many.

    For example:

    - `tsfleet store flush`
    """
    with common.fleet() as fleet:
        fleet.store.flush()
        hot = sum(fleet.store.info().hot.values())
    say(f"flushed; {hot:,} hot rows left")
    return Exit.OK
