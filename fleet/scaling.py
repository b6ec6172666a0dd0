"""What mase and rmsse divide by, renewed when older history arrives after an evaluation.

The scale looks at all history before the evaluation, a model only at its window. So readings from before the window
change no forecast and make nothing due, but they change the scale, and that alone is written again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from fleet.frames import History
from fleet.judging import Finished, issues_of, scale_rows
from fleet.plan import Settings
from fleet.population import Loaded, Member, Population
from store.clock import from_micros, to_micros

if TYPE_CHECKING:
    from store.reading import Snapshot

# By asset and evaluation the commit that the scales of all its seasons are at least as new as.
KNOWN = """
select asset_id, origin, min(_v) as v from scales__v
where product = $product and origin >= $since group by asset_id, origin
"""


class Scales:
    """The scales of the evaluations that a verb is about.

    Args:
        kind: a backtest's are as of its first origin, a training's as of the end of the data.
    """

    def __init__(self, snapshot: Snapshot, people: Population, kind: Literal["backtest", "train"]) -> None:
        self._people = people
        befores = ((m.asset_id, _evaluation(m, people.settings[m.settings], kind)) for m in people.members)
        self._before = {asset_id: before for asset_id, before in befores if before is not None}
        self._known: dict[tuple[str, int], int] = {}
        if self._before:
            asked = {"product": people.product, "since": from_micros(min(self._before.values()))}
            rows = snapshot.sql(KNOWN, asked).rows()
            self._known = {(row["asset_id"], to_micros(row["origin"])): row["v"] for row in rows}

    def renewed(self, loaded: Loaded, member: Member) -> Finished | None:
        """The scales of an asset from today's history; None where nothing before the evaluation is newer than they."""
        before = self._before.get(member.asset_id, 0)
        written = self._known.get((member.asset_id, before))
        if written is None:
            return None
        rows = loaded.panel.slice(loaded.assets[member.asset_id].span)
        earlier = rows.version[: int(np.searchsorted(rows.valid_time, before))]
        if not len(earlier) or int(earlier.max()) <= written:
            return None
        settings = self._people.settings[member.settings]
        made = scale_rows(member.asset_id, settings, History(rows, settings.freq, settings.tz), before)
        return Finished(tables={"scales": pa.Table.from_pylist(made)}, failures=(), seconds={})


def _evaluation(member: Member, settings: Settings, kind: Literal["backtest", "train"]) -> int | None:
    """UTC microseconds; None where nothing can be evaluated."""
    if kind == "train":
        return member.data_end
    return next(iter(issues_of(member.data_end, settings)), None)
