"""The commands about the store itself: `tsfleet store info`, `upkeep`, `expire`, `flush`, `export`.

And those against its loss: `verify`, `backup`, `restore`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

from jobs.cli.console import print_json, print_rows, say
from jobs.cli.exits import Exit
from jobs.cli.options import KEEP, Common, Names, instant, moment, names
from jobs.cli.progress import EVERY_S

if TYPE_CHECKING:
    from store.backing import Backup
    from store.upkeep import Report

COMMON = Common()
store = App(name="store", help="Look at the store itself, or tidy it.", help_format="markdown", group=KEEP)


@store.command
def info(*, common: Common = COMMON) -> int:
    """The tables with their rows and segments, the newest and the oldest snapshot, files and bytes.

    Segments are listed by level: 0 are a commit's own, 1 flushed, from 2 on merged and of one year or month each.

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
                "levels": {
                    name: {str(level): count for level, count in levels.items()}
                    for name, levels in found.levels.items()
                },
                "fullest": dict(found.fullest),
                "retired": found.retired,
                "readers": found.readers,
                "oldest": found.oldest,
                "derived": dict(found.derived),
            }
        )
        return Exit.OK
    say(
        f"{found.path}: format {found.format}, snapshot {found.head}, {found.bytes / 1e6:,.1f} MB, "
        f"{found.segments} segments, {found.packs} packs, {found.retired} replaced files, "
        f"{found.readers} readers at a question, snapshots from {found.oldest} on"
        + "".join(f", {name} known up to {snapshot}" for name, snapshot in found.derived.items())
    )
    print_rows(
        [
            {
                "table": name,
                "rows": rows,
                "hot": found.hot.get(name, 0),
                "segments": sum(found.levels.get(name, {}).values()),
                "by level": " ".join(f"{level}:{count}" for level, count in found.levels.get(name, {}).items()),
                "fullest partition": found.fullest.get(name, 0),
            }
            for name, rows in sorted(found.tables.items())
        ],
        as_json=False,
    )
    return Exit.OK


@store.command
def upkeep(*, common: Common = COMMON) -> int:
    """Tidy the store: flush, merge small segments, fold superseded rows away, delete files that nobody reads.

    The small steps of it happen by themselves; run this now and then, such as nightly, for the large ones. Others may
    read and write meanwhile, and no answer changes; snapshots more than a day old may end for tables without a history.

    For example:

    - `tsfleet store upkeep`
    - `tsfleet store upkeep --json`
    """
    with common.fleet() as fleet:
        done = fleet.store.upkeep()
    return _told(done, as_json=common.json)


@store.command
def expire(*, before: str, common: Common = COMMON) -> int:
    """End the snapshots from before a time, and let go of what only they could tell. This cannot be undone.

    Actuals and covariates keep every revision; the state at that time stays the oldest that can be asked.

    For example:

    - `tsfleet store expire --before 2024-06-01T00:00Z`

    Args:
        before: End the snapshots older than this, as 2024-06-01T00:00Z.
    """
    bound = instant(before, "--before")
    assert bound is not None
    with common.fleet() as fleet:
        done = fleet.store.expire(bound)
    return _told(done, as_json=common.json)


def _told(done: Report, *, as_json: bool) -> int:
    if as_json:
        print_json(
            {
                "flushed": dict(done.flushed),
                "merged": dict(done.merged),
                "folded": dict(done.folded),
                "collected": done.collected,
                "freed": done.freed,
                "bytes": done.bytes,
                "seconds": round(done.seconds, 3),
            }
        )
        return Exit.OK
    say(
        f"flushed {sum(done.flushed.values()):,} rows, merged {sum(done.merged.values()):,} segments, "
        f"folded {sum(done.folded.values()):,} superseded rows, deleted {done.collected:,} files "
        f"({done.freed / 1e6:,.1f} MB); wrote {done.bytes / 1e6:,.1f} MB in {done.seconds:.1f} s"
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


@store.command
def verify(*, common: Common = COMMON) -> int:
    """Check every file against its hash and the catalog against its digests. Exits 1 when something is damaged.

    Nothing is mended; what is damaged is named with its table, months and assets. Others may read and write meanwhile.

    For example:

    - `tsfleet store verify`
    - `tsfleet store verify --json`
    """
    with common.store() as opened:
        found = opened.verify(None if common.json else _every_while("verify"))
    rows = [
        {
            "file": str(one.path),
            "table": one.table,
            "what": one.what,
            "from": one.since,
            "to": one.until,
            "assets": list(one.assets) if common.json else " .. ".join(one.assets[:2] if one.between else one.assets),
            "rows": one.rows,
        }
        for one in found.damages
    ]
    told = {
        "ok": found.ok,
        "segments": found.segments,
        "packs": found.packs,
        "bytes": found.bytes,
        "seconds": round(found.seconds, 3),
        "digests": found.digests,
    }
    if common.json:
        print_json({**told, "damages": rows})
    else:
        if rows:
            print_rows(rows, as_json=False)
        say(
            f"{'all is as it was written' if found.ok else f'{len(rows)} damages'}: read {found.segments:,} segments, "
            f"{found.packs:,} packs, {found.bytes / 1e6:,.1f} MB in {found.seconds:.1f} s"
        )
        if not found.digests and found.ok:
            say("the catalog's own rows have no digests yet: the next commit makes them")
        if rows:
            say("hint: `tsfleet store restore BACKUP FOLDER` brings a backup back; keep the damaged folder until then")
    return Exit.OK if found.ok else Exit.PARTLY


@store.command
def backup(folder: Path, /, *, previous: Path | None = None, common: Common = COMMON) -> int:
    """Copy the store, as it is now, to a new folder that opens as a store. Others may write meanwhile.

    For example:

    - `tsfleet store backup /mnt/backup/2024-06-10`
    - `tsfleet store backup /mnt/backup/2024-06-11 --previous /mnt/backup/2024-06-10`

    Args:
        folder: Where to; it is made, or must be empty.
        previous: An earlier backup on the same disk; files that it has already are shared with it, not copied.
    """
    with common.store() as opened:
        done = opened.backup(folder, previous=previous)
    return _copied(done, "backed up", as_json=common.json)


@store.command
def restore(backup: Path, folder: Path, /, *, common: Common = COMMON) -> int:
    """Copy a backup to a new folder, each file checked on the way.

    A store that is there already is not touched: move it away first.

    For example:

    - `tsfleet store restore /mnt/backup/2024-06-10 grid.store`

    Args:
        backup: A folder that `tsfleet store backup` made.
        folder: Where to; it is made, or must be empty.
    """
    from store import Store

    return _copied(Store.restore(backup, folder), "restored", as_json=common.json)


def _copied(done: Backup, what: str, *, as_json: bool) -> int:
    if as_json:
        print_json(
            {
                "path": str(done.path),
                "snapshot": done.snapshot,
                "files": done.files,
                "linked": done.linked,
                "bytes": done.bytes,
                "seconds": round(done.seconds, 3),
            }
        )
        return Exit.OK
    shared = f", {done.linked:,} of them shared with the earlier backup" if done.linked else ""
    say(
        f"{what} snapshot {done.snapshot} to {done.path}: {done.files:,} files{shared}, {done.bytes / 1e6:,.1f} MB "
        f"in {done.seconds:.1f} s"
    )
    return Exit.OK


@store.command
def export(folder: Path, /, *, tables: Names = None, at: str | None = None, common: Common = COMMON) -> int:
    """Write the views as plain Parquet files, a folder each, with a manifest `export.json`.

    For example:

    - `tsfleet store export plain`
    - `tsfleet store export plain --tables forecasts,scores --at 2024-06-01T00:00Z`

    Args:
        folder: Where to; it is made, or must be empty.
        tables: Views, separated by commas; all tables and their histories without it.
        at: A snapshot's number or a time; now without it.
    """
    with common.store() as opened:
        done = opened.export(folder, names(tables), moment(at, "--at"))
    rows = [{"view": name, "rows": count} for name, count in done.rows.items()]
    if common.json:
        print_json(
            {
                "path": str(done.path),
                "snapshot": done.snapshot,
                "rows": dict(done.rows),
                "files": done.files,
                "bytes": done.bytes,
                "seconds": round(done.seconds, 3),
            }
        )
        return Exit.OK
    print_rows([row for row in rows if row["rows"]], as_json=False)
    say(
        f"exported snapshot {done.snapshot} to {done.path}: {done.files:,} files, {done.bytes / 1e6:,.1f} MB "
        f"in {done.seconds:.1f} s"
    )
    return Exit.OK


def _every_while(verb: str) -> Callable[[int, int], None]:
    """Says on stderr how far something is that reads bytes, every ten seconds."""
    last = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY_S:
            last = time.monotonic()
            say(f"{verb}: {done / 1e6:,.0f} of {total / 1e6:,.0f} MB")

    return show
