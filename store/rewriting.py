"""Segments written anew without some of their rows; all else about them stays, row for row, in the same order.

A row group is held in memory at a time. What a file held is neither in the bounds nor in the dictionaries nor in the
statistics of the new one, for those are made of the rows that stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from store.catalog import Catalog, Segment
from store.damage import listed, of_segment, wrong_segment
from store.errors import Damaged
from store.files import segment_file
from store.ids import new_id
from store.schema import STORED
from store.segments import Piece, run_of

if TYPE_CHECKING:
    import pyarrow as pa

    from store.catalog.removing import Remover

_ATTEMPTS = 4
#: From the rows of a row group to those that stay, changed or not.
Change = Callable[["pa.Table"], "pa.Table"]


class Swap(NamedTuple):
    """Segments of one table and those that take their place; a segment without a row left has none."""

    table: str
    old: tuple[Segment, ...]
    new: tuple[Segment, ...]

    @property
    def bytes(self) -> int:
        """What was written."""
        return sum(one.bytes for one in self.new)


class Work(Protocol):
    """What takes rows away: it looks at the store as of ``head``, writes new files, and swaps them in."""

    @property
    def head(self) -> int: ...

    def look(self) -> None:
        """Find out what is to go by now."""

    def prepare(self) -> None:
        """Write what takes the place of the files concerned, as far as it is not written yet."""

    def swap(self, remover: Remover) -> int | None:
        """The snapshot that was made, None when there is nothing to do."""

    def discard(self) -> None:
        """Delete what was written."""


def committed(catalog: Catalog, work: Work) -> int | None:
    """Do work, looked at once already, in one commit that rests on what the store holds at that moment.

    Others may commit while files are written; who never stops is made to wait in the end.
    """
    handed_over = False
    try:
        for attempt in range(_ATTEMPTS):
            work.prepare()
            with catalog.removing() as remover:
                if attempt == _ATTEMPTS - 1 and remover.head != work.head:
                    work.look()  # nobody writes now
                    work.prepare()
                if remover.head == work.head:
                    snapshot = work.swap(remover)
                    handed_over = True
                    return snapshot
            work.look()
    except BaseException:
        # A COMMIT that failed on the disk may yet be found in the log: its files stay until they are orphans for sure.
        if not handed_over:
            work.discard()
        raise
    raise AssertionError("the last attempt decides")


@contextmanager
def opened(folder: Path, segment: Segment, *, dictionaries: Sequence[str] = ()) -> Iterator[Any]:
    """The Parquet file of a segment, page checksums checked; some texts are read as their dictionaries.

    Raises:
        Damaged: it cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = segment_file(folder, segment.table, segment.id)
    try:
        with pq.ParquetFile(path, read_dictionary=list(dictionaries), page_checksum_verification=True) as file:
            yield file
    except (pa.ArrowException, OSError) as cause:
        reason = next(iter(str(cause).splitlines()), type(cause).__name__)
        raise Damaged(str(of_segment(folder, segment, reason)), hint="restore it from a backup") from cause


def groups(
    folder: Path, segment: Segment, names: Iterable[str], dictionaries: Sequence[str] = ()
) -> Iterator[pa.Table]:
    """Some columns of a segment, row group by row group; those that it does not have are left out."""
    present = [name for name in dict.fromkeys(names) if name in segment.columns]
    if not present:
        return
    with opened(folder, segment, dictionaries=[name for name in dictionaries if name in present]) as file:
        for place in range(file.num_row_groups):
            yield file.read_row_group(place, columns=present)


def rewrite(folder: Path, table: str, old: Sequence[Segment], change: Change) -> Swap:
    """Write segments of a table anew; the caller puts them in the place of the old ones.

    Raises:
        Damaged: one of them is; what it holds must not get a new hash. Nothing new is left behind.
    """
    wrong = [damage for one in old if (damage := wrong_segment(folder, one)) is not None]
    if wrong:
        raise Damaged(f"{folder} is damaged: {listed(wrong)}", hint="restore it from a backup")
    runs: dict[str, str] = {}
    made: list[Segment] = []
    try:
        for one in old:
            # Pieces of one run stay pieces of one run: merges count runs.
            _, dash, place = one.id.partition("-")
            name = f"{runs.setdefault(run_of(one), new_id())}{dash}{place}"
            if (new := _rewritten(folder, one, name, change)) is not None:
                made.append(new)
    except BaseException:
        discard(folder, made)
        raise
    return Swap(table, tuple(old), tuple(made))


def discard(folder: Path, segments: Iterable[Segment]) -> None:
    """Delete files that did not come into the catalog."""
    for one in segments:
        segment_file(folder, one.table, one.id).unlink(missing_ok=True)


def _rewritten(folder: Path, old: Segment, name: str, change: Change) -> Segment | None:
    with opened(folder, old) as file:
        piece = Piece(folder, STORED[old.table], file.schema_arrow, old.level, name)
        with piece:
            for place in range(file.num_row_groups):
                kept = change(file.read_row_group(place))
                if kept.num_rows:
                    piece.add(kept)
    if not piece.rows:
        piece.path.unlink()
        return None
    made = piece.segment()
    if old.v is not None:  # a commit's own segment: its rows do not hold the commit
        made = made._replace(v=old.v, min_v=old.min_v, max_v=old.max_v)
    return made
