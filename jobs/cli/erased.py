"""What an erasure did, or would do, told to people and to programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from store.erasing import Erased

_FEW = 5


def told_as_json(done: Erased) -> dict[str, Any]:
    """One object with all of it."""
    return {
        "assets": list(done.assets),
        "unknown": list(done.unknown),
        "rows": dict(done.rows),
        "texts": done.texts,
        "mentions": done.mentions,
        "segments": done.segments,
        "packs": done.packs,
        "blobs": done.blobs,
        "shared": list(done.shared),
        "series": list(done.series),
        "ended": done.ended,
        "snapshot": done.snapshot,
        "at": done.at,
        "bytes": done.bytes,
        "freed": done.freed,
        "waiting": list(done.waiting),
        "unnamed": list(done.unnamed),
        "done": done.done,
        "seconds": round(done.seconds, 3),
    }


def told_of_erasing(done: Erased, *, did: bool) -> list[str]:
    """The lines that follow the rows by table: what it came to, then what is left and why."""
    what = f"{sum(done.rows.values()):,} rows and {done.blobs:,} blobs of {len(done.assets):,} assets"
    names = f"take names out of {done.texts:,} other rows"
    files = f"write {done.segments:,} segments and {done.packs:,} packs anew"
    lines = [f"erased {what}" if did else f"would erase {what}, {names}, {files}"]
    if did:
        lines.append(
            f"names out of {done.texts:,} other rows; {done.segments:,} segments, {done.packs:,} packs rewritten"
        )
    if done.unknown:
        lines.append(f"nothing was stored of {_few(done.unknown)}")
    if done.shared:
        lines.append(f"{len(done.shared):,} blobs stay, for other assets use them too: {_few(done.shared)}")
    if done.series:
        lines.append(f"the covariates of {_few(done.series)} stay: --series erases those that nobody else is linked to")
    if done.mentions:
        lines.append(f"{done.mentions:,} rows of other assets name one of them and stay as they are")
    if done.unnamed:
        lines.append(
            f"{len(done.unnamed):,} files of commits that did not end may hold them; upkeep deletes them after a day"
        )
    if not did:
        return [*lines, "nothing was changed; --yes does it, and it cannot be undone"]
    if done.ended:
        lines.append(f"{done.ended:,} snapshots ended; the oldest that can be asked is {done.snapshot}")
    if done.waiting:
        lines.append(
            f"{len(done.waiting):,} old files stay until their readers end: {_few(done.waiting)}; run it again"
        )
    elif not done.done:
        lines.append("the catalog's log could not be emptied, for somebody reads it; run it again")
    lines.append(f"backups made before {done.at:%Y-%m-%dT%H:%MZ} hold them still: delete those yourself")
    return lines


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + more
