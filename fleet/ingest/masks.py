"""Masks on their way into the store: which readings of which asset tell nothing, and why."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from fleet.config import MaskSection
from fleet.errors import SeriesInvalid
from fleet.ingest.maps import instant
from fleet.ingest.staged import Staged
from fleet.sources import opened, streamed

if TYPE_CHECKING:
    from store import Snapshot

Row = dict[str, Any]
Key = tuple[str, datetime, str]


def bring_masks(
    section: MaskSection,
    folder: Path,
    snapshot: Snapshot,
    staged: Staged,
    assets: Collection[str],
    now: datetime,
    header: str,
    zone: str,
) -> list[str]:
    """Hand over the masks of a source that are new or changed; what the user should know.

    A mask without a time at which it was known was known when it was first ingested. One that has become empty
    (it ends where it begins) hides nothing any more.

    Args:
        assets: those of the fleet.
        zone: of times without one.

    Raises:
        SeriesInvalid: a column is missing, a time cannot be read, a mask ends before it begins, is known before it is
            written down, or stands twice.
    """
    there: dict[Key, Row] = {
        (row["asset_id"], row["valid_from"], row["reason"]): row for row in snapshot.table("masks").to_pylist()
    }
    found = _read(section, folder, header, zone, now)
    strangers = {row["asset_id"] for row in found.values()} - set(assets)
    fresh = []
    for key, row in found.items():
        before = there.get(key)
        if key[0] in strangers:
            continue
        if row["available_at"] is None:
            same = before is not None and before["valid_to"] == row["valid_to"]
            row["available_at"] = before["available_at"] if same and before is not None else now
        if before is None or any(before[name] != row[name] for name in ("valid_to", "available_at", "actor")):
            fresh.append(row)
    if fresh:
        staged.replace("masks", fresh)
    notes = [f"{header}: {len(found)} masks, {len(fresh)} of them new or changed"] if fresh else []
    if strangers:
        notes.append(f"{header}: {len(strangers)} assets are not of this fleet and were left out, as {min(strangers)}")
    return notes


def _read(section: MaskSection, folder: Path, header: str, zone: str, now: datetime) -> dict[Key, Row]:
    clock = ZoneInfo(section.timezone or zone)
    with opened(section, folder, section=header) as source:
        for name, column in (("asset", section.asset), ("valid_from", section.valid_from)):
            source.require(name, column)
        named = {name: getattr(section, name) for name in ("asset", *_TIMES, "reason", "actor")}
        columns = {name: column for name, column in named.items() if column in source.columns}
        found: dict[Key, Row] = {}
        batches = streamed(source.read([*columns.values()]), source.label)  # none where nothing is masked
        for place, given in enumerate((row for batch in batches for row in batch.to_pylist()), 1):
            where = f"{source.label}: row {place}"
            said = {name: given[column] for name, column in columns.items()}
            row = _row(said, where, clock, now)
            key = (row["asset_id"], row["valid_from"], row["reason"])
            if key in found:
                raise SeriesInvalid(f"{where}: {row['asset_id']} has two masks from {row['valid_from']:%Y-%m-%d %H:%M}")
            found[key] = row
    return found


_TIMES = ("valid_from", "valid_to", "available_at")


def _row(said: Row, where: str, clock: ZoneInfo, now: datetime) -> Row:
    asset = str(said["asset"] or "").strip()
    since, until, known = (instant(said.get(name), clock, where) for name in _TIMES)
    if not asset or since is None:
        raise SeriesInvalid(f"{where} lacks its asset or its beginning")
    if until is not None and until < since:
        raise SeriesInvalid(f"{where}: it ends at {until:%Y-%m-%d %H:%M}, before {since:%Y-%m-%d %H:%M}")
    if known is not None and known > now:
        raise SeriesInvalid(f"{where}: known at {known:%Y-%m-%d %H:%M}, which is in the future")
    return {
        "asset_id": asset,
        "valid_from": since.astimezone(UTC),
        "valid_to": until,
        "reason": str(said.get("reason") or ""),
        "available_at": known,
        "actor": str(said.get("actor") or ""),
    }
