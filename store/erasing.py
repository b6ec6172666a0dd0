"""Erasing assets for good: no file of the store holds them any more.

What holds a trace is written anew without it, and takes the old one's place in one commit: an erasure is visible whole
or not at all. Only then do the old files go, the catalog is compacted and its log emptied; a process that was killed in
between leaves that to the next erasure, which may be of the same assets. Snapshots from before end, for they showed
the assets. Backups are copies elsewhere and are not touched.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from store import packs, readers
from store.catalog import Catalog, Retired, Segment
from store.clock import Clock, to_micros
from store.errors import StoreBusy
from store.files import segment_file
from store.ids import check_asset_id
from store.packs import Pack, Place, pack_path
from store.rewriting import Swap, committed, discard, rewrite
from store.schema import LATEST, STORED
from store.tracing import Survey, looked_at
from store.upkeep import ORPHAN_AFTER, lease, orphans

if TYPE_CHECKING:
    from store.catalog.removing import Remover

#: So long readers are waited for that stand on the old files.
WAIT = timedelta(seconds=60)
_PAUSE_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What an erasure took away, or would.

    Args:
        assets: that were to be erased; of the ``unknown`` ones nothing was stored.
        rows: taken away, per stored table; superseded ones count, and what says that they were.
        texts: alerts, jobs, runs, notes of nobody's that named an asset and do not any more.
        mentions: rows of other assets that name an erased one; they stay as they are.
        segments, packs: that were written anew or dropped; what was derived is dropped beside them, uncounted.
        blobs: that were taken away.
        shared: hashes of blobs that other assets use too: they stay, whatever they learned from the erased ones.
        series: that only the erased assets were linked to, or that bear the name of one while others are linked to
            them; with their covariates they stay.
        ended: snapshots that cannot be asked any more.
        snapshot: the commit that did it; None when there was nothing to take away.
        at: when: backups made before hold the assets still.
        bytes: written. freed: of the files that were deleted.
        waiting: old files that a reader still stood on at the end; upkeep deletes them.
        unnamed: files that no commit names, yet or any more; they may hold the assets, and go after a day.
        done: nothing is left to be deleted, and the catalog's log is empty.
    """

    assets: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    texts: int = 0
    mentions: int = 0
    segments: int = 0
    packs: int = 0
    blobs: int = 0
    shared: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    ended: int = 0
    snapshot: int | None = None
    at: datetime
    bytes: int = 0
    freed: int = 0
    waiting: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()
    done: bool = False
    seconds: float = 0.0


def erase(
    folder: Path,
    catalog: Catalog,
    clock: Clock,
    assets: Iterable[str],
    *,
    series: bool = False,
    dry_run: bool = False,
    wait: timedelta = WAIT,
) -> Erased:
    """Erase assets, or tell what would go; see the module.

    Args:
        folder: of the store.
        catalog: of the store.
        clock: tells the time of the commit.
        assets: their ids.
        series: also erase the series that nobody else is linked to; those that bear an asset's name go in any case.
        dry_run: change nothing.
        wait: for readers that stand on old files, and for whoever reads the catalog.

    Raises:
        StoreBusy: another process is at upkeep.
        Damaged: a file that holds a trace is; nothing was erased.
    """
    ids = sorted({check_asset_id(one) for one in assets})
    return _Erasure(folder, catalog, clock, ids, series=series).report(dry_run, wait)


class _Erasure:
    """One erasure on its way: what was found, and what has been written to take its place."""

    def __init__(self, folder: Path, catalog: Catalog, clock: Clock, assets: Sequence[str], *, series: bool) -> None:
        self.folder, self.catalog, self.clock, self.assets = folder, catalog, clock, tuple(assets)
        self.survey = Survey(folder, catalog, assets, series=series)
        self.swaps: list[Swap] = []
        self.packs: dict[str, tuple[tuple[Place, ...], Pack | None]] = {}
        self.gone: set[str] = set()
        self.shared: set[str] = set()
        self.ended = 0

    def report(self, dry_run: bool, wait: timedelta) -> Erased:
        began = time.monotonic()
        with lease(self.folder):
            self.look()
            snapshot, finished = None, _Finished()
            if dry_run:
                self._settle_blobs()
            else:
                snapshot = committed(self.catalog, self)
                finished = _finish(self.folder, self.catalog, self.clock, wait)
            unnamed = tuple(sorted(str(one.relative_to(self.folder)) for one in orphans(self.folder, self.catalog)))
        found = {name: self.survey.found_in(name) for name in STORED}
        made = [pack for _, pack in self.packs.values() if pack is not None]
        return Erased(
            assets=self.assets,
            unknown=tuple(one for one in self.assets if one not in self.survey.traces.seen),
            rows={name: one.rows for name, one in found.items() if one.rows},
            texts=sum(one.texts for one in found.values()),
            mentions=sum(one.mentions for one in found.values()),
            segments=len(self._concerned()),
            packs=len(self._stale_packs()) if dry_run else len(self.packs),
            blobs=len(self.gone),
            shared=tuple(sorted(self.shared)),
            series=tuple(self.survey.series),
            ended=self.ended,
            snapshot=snapshot,
            at=self.clock.now(),
            bytes=sum(one.bytes for one in self.swaps) + sum(one.bytes for one in made),
            freed=finished.freed,
            waiting=finished.waiting,
            unnamed=unnamed,
            done=finished.done,
            seconds=time.monotonic() - began,
        )

    # ---------------------------------------------------------------- the commit

    @property
    def head(self) -> int:
        return self.survey.head

    def look(self) -> None:
        self.survey.look()

    def prepare(self) -> None:
        written = {one.id for swap in self.swaps for one in swap.old}
        for name in STORED:
            old = [one for one in self._concerned() if one.table == name and one.id not in written]
            if old:
                self.swaps.append(rewrite(self.folder, name, old, partial(self.survey.traces.without, STORED[name])))
        self._settle_blobs()
        stale = self._stale_packs()
        for name, (places, pack) in list(self.packs.items()):
            if stale.get(name) != places:
                self._discard(pack)
                del self.packs[name]
        for name, places in stale.items():
            if name not in self.packs:
                self.packs[name] = (places, packs.copied(self.folder, places) if places else None)

    def swap(self, remover: Remover) -> int | None:
        traces = self.survey.traces
        changed = {swap.table for swap in self.swaps}
        named = remover.remove_names(traces.assets, traces.runs, traces.redactor.text)
        for name, table in STORED.items():
            if self.survey.hot_found(name).concerned:
                places, columns = remover.hot(name, looked_at(table))
                gone, new = traces.of_hot(table, columns)
                remover.remove_hot(
                    name, [places[at] for at in gone], {places[at]: values for at, values in new.items()}
                )
                changed.add(name)
        if not (changed or self.packs or named):
            return None
        at = to_micros(self.clock.now())
        before = self.catalog.state(()).oldest.get("", 0)
        snapshot = remover.begin(at, "erase")
        for swap in self.swaps:
            if not remover.swap(swap.table, [one.id for one in swap.old], swap.new, at):
                raise StoreBusy(f"segments of {swap.table} went meanwhile", hint="try again")
        # What was derived is made anew by upkeep; until then it is asked of all metrics.
        remover.swap(LATEST.name, [one.id for one in self.catalog.segments(LATEST.name)], (), at)
        for name in changed:
            remover.touch(name)
        for name, (_, pack) in self.packs.items():
            remover.swap_pack(name, pack, at)
        if self.gone:
            remover.remove_blobs(self.gone)
        remover.end_before(snapshot)
        self.ended = snapshot - max(1, before)
        return snapshot

    # ---------------------------------------------------------------- what is concerned

    def _concerned(self) -> list[Segment]:
        """The segments that hold a trace."""
        held = [one for segments in self.survey.held.values() for one in segments]
        return [one for one in held if self.survey.found[one.id].concerned]

    def _settle_blobs(self) -> None:
        gone, shared = self.survey.blobs()
        self.gone, self.shared = self.catalog.known_blobs(gone), self.catalog.known_blobs(shared)

    def _stale_packs(self) -> dict[str, tuple[Place, ...]]:
        """The packs to be written anew, with the blobs that stay.

        Two commits may have brought the same blob: then one pack holds bytes that the catalog does not name.
        """
        if not self.gone:
            return {}
        held = self.catalog.pack_blobs()
        sizes = {name: size for name, size, _ in self.catalog.packs()}
        return {
            name: tuple(
                Place(path=str(pack_path(self.folder, name)), start=start, length=length, sha256=sha)
                for sha, start, length in blobs
                if sha not in self.gone
            )
            for name, blobs in held.items()
            if packs.slack(sizes[name], blobs) or any(sha in self.gone for sha, _, _ in blobs)
        }

    def discard(self) -> None:
        for swap in self.swaps:
            discard(self.folder, swap.new)
        for _, pack in self.packs.values():
            self._discard(pack)

    def _discard(self, pack: Pack | None) -> None:
        if pack is not None:
            pack_path(self.folder, pack.id).unlink(missing_ok=True)


# -------------------------------------------------------------------------------------------------- what is left over


class _Finished(NamedTuple):
    """The bytes of deleted files, those that are still there because somebody reads, and whether nothing is left."""

    freed: int = 0
    waiting: tuple[str, ...] = ()
    done: bool = False


def _finish(folder: Path, catalog: Catalog, clock: Clock, wait: timedelta) -> _Finished:
    """Compact the catalog, and delete replaced files as soon as no reader stands on them."""
    stop_at = time.monotonic() + wait.total_seconds()
    emptied = catalog.compact(wait.total_seconds())
    left, freed = catalog.retired(), 0
    while True:
        standing = readers.present(folder, tidy=True)
        free = [one for one in left if all(generation >= one.generation for generation in standing)]
        freed += sum(_deleted(_retired_file(folder, one)) for one in free)
        if free:
            with catalog.writing() as writer:
                writer.forget_retired(one.id for one in free)
        left = [one for one in left if one not in free]
        if not left or time.monotonic() >= stop_at:
            break
        time.sleep(_PAUSE_S)
    freed += sum(_deleted(one) for one in orphans(folder, catalog, clock.now() - ORPHAN_AFTER))
    waiting = tuple(str(_retired_file(folder, one).relative_to(folder)) for one in left)
    return _Finished(freed, waiting, emptied and not waiting)


def _retired_file(folder: Path, one: Retired) -> Path:
    return pack_path(folder, one.id) if one.kind == "pack" else segment_file(folder, one.table, one.id)


def _deleted(path: Path) -> int:
    """Delete a file; the bytes that it had."""
    with suppress(FileNotFoundError):
        size = path.stat().st_size
        path.unlink()
        return size
    return 0
