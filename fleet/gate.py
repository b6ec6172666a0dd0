"""The gate of a product: until when its forecast counts, and when whatever is missing gets its fallback.

What was there when the gate closed is what was published; a forecast that is stored later says so in its quality
(``late``) and never takes the place of one that was in time. The gate is a time on each asset's clock: the first one
at or after the issue.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from fleet.timetable import Timetable

if TYPE_CHECKING:
    from store.reading import Snapshot

LATE = "late"
UTC = pa.timestamp("us", "UTC")
#: What tells two rows of the same forecast apart, issued in time and again after the gate.
KEY = ("asset_id", "product", "recipe", "recipe_hash", "version_id", "role", "issue_time", "valid_time")
IN_TIME = f"""
select n.row__ from late n semi join (
    select * from forecasts
    where issue_time >= $since and issue_time <= $until and not contains('+' || quality || '+', '+{LATE}+')
) f on {" and ".join(f"n.{name} is not distinct from f.{name}" for name in KEY)}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """When a product closes.

    Args:
        at: what the clock shows then, microseconds after midnight.
        budget: so long before, microseconds, work that is not done is cut short, and fallbacks stand in.
    """

    at: int
    budget: int

    def closes(self, issue: int, tz: str) -> int:
        """The instant until which an issue counts; both UTC microseconds.

        >>> from store.clock import from_micros, to_micros
        >>> noon = Gate(at=12 * 3_600_000_000, budget=600_000_000)
        >>> issue = to_micros(datetime.fromisoformat("2024-03-31T11:30+02:00"))
        >>> from_micros(noon.closes(issue, "Europe/Paris")).isoformat()
        '2024-03-31T10:00:00+00:00'
        """
        return Timetable(times=(self.at,)).next(issue, tz)

    def deadline(self, issue: int, tz: str) -> int:
        """When what is missing gets its fallback; both UTC microseconds."""
        return self.closes(issue, tz) - self.budget


def settled(table: pa.Table, now: datetime, snapshot: Snapshot) -> tuple[pa.Table, int]:
    """Forecasts as they are stored now, without the column ``gate``: rows behind their gate are late.

    A late row whose key was stored in time is left out, since storing it would replace what was published.

    Args:
        table: rows of ``forecasts`` with the instant of their ``gate``, NULL for none; without that column all count.

    Returns:
        The rows worth storing, and the number of those left out.
    """
    if "gate" not in table.column_names:
        return table, 0
    behind = pc.fill_null(pc.less(table["gate"], pa.scalar(now, UTC)), False)
    table = table.drop_columns(["gate"])
    if not pc.any(behind).as_py():
        return table, 0
    said = pc.if_else(pc.equal(table["quality"], "ok"), LATE, pc.binary_join_element_wise(table["quality"], LATE, "+"))
    at = table.column_names.index("quality")
    table = table.set_column(at, "quality", pc.if_else(behind, said, table["quality"]))
    rows = pa.array(range(table.num_rows), pa.int64())
    late = table.select(KEY).append_column("row__", rows).filter(behind)
    times = pc.min_max(late["issue_time"]).as_py()
    stands = snapshot.sql(IN_TIME, {"since": times["min"], "until": times["max"]}, {"late": late}).arrow()["row__"]
    if not len(stands):
        return table, 0
    return table.filter(pc.invert(pc.is_in(rows, value_set=stands.combine_chunks()))), len(stands)
