"""How the readings themselves changed: level and spread of two windows, and since when an asset is silent.

Level and spread are order statistics (the median, and what lies between the lowest and the highest tenth): they do not
depend on the order in which readings are read, so they are the same on any number of threads, and a single wild reading
does not move them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

if TYPE_CHECKING:
    from store.reading import Snapshot

FloatArray = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

LEVELS = """
with placed as (
    select p.place, a.valid_time >= $middle as recent, a.y
    from actuals a join places p on p.asset_id = a.asset_id
    where a.valid_time >= $start and a.valid_time < $stop and a.available_at <= $stop and isfinite(a.y)
)
select place, recent, count(*) as n, min(y) = max(y) as flat,
       quantile_cont(y, [0.1, 0.5, 0.9]) as q, median(abs(y)) as size
from placed group by place, recent order by place, recent
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """Of each asset and window (recent, before): how many readings, their level, their spread.

    Args:
        n: (2, assets) readings, by window.
        level: (2, assets) median.
        spread: (2, assets) from the lowest to the highest tenth.
        size: (2, assets) median absolute value.
        flat: (assets,) whether all readings of the recent window are one value, while earlier ones were not.
    """

    n: Counts
    level: FloatArray
    spread: FloatArray
    size: FloatArray
    flat: npt.NDArray[np.bool_]

    def shift(self) -> FloatArray:
        """(assets,) how far the level moved, in spreads of the time before; NaN where there was no spread."""
        return _over(self.level[0] - self.level[1], self.spread[1])

    def widening(self) -> FloatArray:
        """(assets,) spread now over spread before, less 1."""
        return _over(self.spread[0] - self.spread[1], self.spread[1])


def _over(part: FloatArray, whole: FloatArray) -> FloatArray:
    made: FloatArray = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
    return made


def readings(
    snapshot: Snapshot, assets: Sequence[str], *, start: datetime, middle: datetime, stop: datetime
) -> Readings:
    """Level and spread of each asset's readings from `middle` to before `stop`, and from `start` to before `middle`.

    Args:
        assets: sorted ids; the columns are in their order. What became known after `stop` is left out.
    """
    places = pa.table({"asset_id": pa.array(assets, pa.string()), "place": pa.array(range(len(assets)), pa.int32())})
    found = snapshot.sql(LEVELS, {"start": start, "middle": middle, "stop": stop}, {"places": places}).arrow()
    place = found["place"].to_numpy().astype(np.int64)
    side = np.where(found["recent"].to_numpy(zero_copy_only=False), 0, 1)
    shape = (2, len(assets))
    n, flat = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=bool)
    level, spread, size = (np.full(shape, np.nan) for _ in range(3))
    n[side, place] = found["n"].to_numpy()
    flat[side, place] = found["flat"].to_numpy(zero_copy_only=False)
    if len(place):
        low, middle_of, high = np.array(found["q"].to_pylist(), dtype=np.float64).T
        level[side, place], spread[side, place] = middle_of, high - low
        size[side, place] = found["size"].to_numpy()
    return Readings(n=n, level=level, spread=spread, size=size, flat=flat[0] & ~flat[1] & (n[0] > 1) & (n[1] > 1))
