"""The kind `compare`: the standard figures of the fleet at a slot, as rows of ``reports`` and as one HTML file.

The report's id is made of job, slot, revision and product, so that a run that is done again puts the same report in
the same place.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from fleet.config.sections import Section
from fleet.config.values import Count, Real, Text
from fleet.errors import NothingSelected
from fleet.review import Review
from jobs.work import Done, Work
from store.files import make_folder, sync_folder, told

if TYPE_CHECKING:
    from fleet import Fleet

FOLDER = "reports"
KEPT = 60


class Options(Section):
    """``[jobs.NAME.options]`` of this kind.

    ``metric`` is that of [promotion] when left out; ``days`` and ``history`` are the two windows, ``effect`` the least
    change that counts, ``by`` the register column whose values make peers. ``file`` is where the page goes, beside
    fleet.toml unless it begins at the root; without it, into the folder ``reports`` beside the store, the last 60.
    """

    metric: Text | None = None
    days: Count = 7
    history: Count = 28
    effect: Real = 0.2
    by: Text = "kind"
    file: Text | None = None


def options_of(work: Work) -> Options:
    """The options of a job, or one line that says what is wrong with them."""
    from fleet.config.messages import invalid

    try:
        return Options.model_validate(dict(work.section.options))
    except ValidationError as error:
        where = ["jobs", work.name, "options"]
        raise invalid(work.fleet.config.file.name, where, error, Options, {}) from error


def run(work: Work) -> Done:
    """Compares every product of the job, or of the fleet, and writes the report down."""
    options, fleet = options_of(work), work.fleet
    names = (work.section.product,) if work.section.product else fleet.config.product_names
    select = (work.section.select,) if work.section.select else ()
    found: list[Review] = []
    skipped: list[str] = []
    for name in names:
        try:
            found.append(_one(fleet, name, select, work, options))
        except NothingSelected as error:
            skipped.append(error.message)
    if not found:
        raise NothingSelected(skipped[0], hint="mend product, select or where of the job")
    file = page_file(fleet, options, work.slot)
    write(file, "".join(_page(found)))
    if options.file is None:
        prune(file.parent, KEPT)
    _remember(fleet, work, found)
    assets = len({asset for one in found for asset in one.table["asset_id"].to_pylist()})
    return Done(status="ok", assets=assets, ok=assets, notes=(*(repr(one) for one in found), f"page: {file}"))


def _one(fleet: Fleet, product: str, select: Sequence[str], work: Work, options: Options) -> Review:
    return fleet.compare(
        product=product,
        at=work.slot,
        metric=options.metric,
        recent=options.days,
        history=options.history,
        effect=options.effect,
        by=options.by,
        select=select,
        where=work.section.where,
    )


def _remember(fleet: Fleet, work: Work, found: Sequence[Review]) -> None:
    transaction = fleet.store.begin(note=work.name)
    transaction.replace("reports", [_row(work, one) for one in found])
    transaction.commit()


def _row(work: Work, found: Review) -> Mapping[str, object]:
    slot = work.slot.astimezone(UTC)
    return {
        "report_id": f"{work.name}/{slot:%Y%m%dT%H%M%SZ}/{work.revision}/{found.product}",
        "job": work.name,
        "slot": slot,
        "created_at": work.clock.now(),
        "kind": "compare",
        "product": found.product,
        "body": json.dumps(found.body(), ensure_ascii=False, allow_nan=False),
    }


def _page(found: Sequence[Review]) -> tuple[str, ...]:
    from fleet.review.page import page

    return (page(found),)


def page_file(fleet: Fleet, options: Options, slot: datetime) -> Path:
    """Where the page goes: as the options say, or named by its slot in a folder beside the store."""
    if options.file is not None:
        return fleet.config.folder / options.file
    return fleet.config.store_path.parent / FOLDER / f"compare-{slot.astimezone(UTC):%Y%m%dT%H%M%SZ}.html"


def write(path: Path, text: str) -> None:
    """The file is whole or as it was: written beside, brought to disk, renamed over it."""
    make_folder(path.parent)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with told(path):
            with beside.open("wb") as out:
                out.write(text.encode())
                out.flush()
                os.fsync(out.fileno())
            beside.replace(path)
        sync_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def prune(folder: Path, kept: int) -> None:
    """Only the newest pages stay; the reports themselves are in the store."""
    for old in sorted(folder.glob("compare-*.html"))[:-kept]:
        old.unlink(missing_ok=True)
