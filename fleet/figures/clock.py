"""An asset's own clock along an axis: Plotly knows no time zones, and a wall clock repeats an hour every autumn.

Where the clock changes inside a window of days, positions run on evenly, as time does, and the marks along the axis are
written one by one as the clock shows them, so that no curve folds back and no mark lies. Over months an hour is
narrower than a line: there the clock itself is the position.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fleet.figures.look import axis, literal
from fleet.zones import DAY, SECOND, Zone, zone_of

IntArray = npt.NDArray[np.int64]
HOUR = 3_600 * SECOND
_STEPS = (HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY)
_LONG = 60 * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """The clock of a zone over a window.

    Args:
        first, last: of the window; anchor: whose offset the axis keeps. UTC microseconds.
    """

    tz: str
    first: int
    last: int
    anchor: int

    @property
    def zone(self) -> Zone:
        """The zone, sure to hold over the window."""
        return zone_of(self.tz, min(self.first, self.anchor), max(self.last, self.anchor))

    @property
    def uneven(self) -> bool:
        """Whether the clock changes inside a window so short that it would show."""
        if self.last - self.first > _LONG:
            return False
        edges = sorted((self.first, self.anchor, self.last))
        return self.zone.changes(edges[0], edges[-1])

    def at(self, instants: IntArray) -> npt.NDArray[np.datetime64]:
        """Positions along the axis."""
        moments = np.asarray(instants, dtype=np.int64)
        shift = self.zone.offset_at(np.array([self.anchor], dtype=np.int64))[0]
        local = moments + shift if self.uneven else self.zone.local(moments)
        shown: npt.NDArray[np.datetime64] = local.astype("M8[us]")
        return shown.astype("M8[ms]")

    def shown(self, instants: IntArray, *, day: bool = True) -> list[str]:
        """What the clock shows, as 15 Nov 2019 00:00, or 00:00."""
        local = self.zone.local(np.asarray(instants, dtype=np.int64)).view("M8[us]")
        return [f"{t:%d %b %Y %H:%M}" if day else f"{t:%H:%M}" for t in local.astype("M8[s]").tolist()]

    def axis(self, **more: Any) -> dict[str, Any]:
        """The axis over the window, with its title."""
        title = f"local time, {literal(self.tz)}"
        ends = self.at(np.array([self.first, self.last], dtype=np.int64))
        made = axis(title, type="date", range=[str(end) for end in ends], hoverformat="%a %d %b %Y %H:%M", **more)
        return made | self._marks() if self.uneven else made

    def _marks(self) -> dict[str, Any]:
        """Marks at whole local hours or days, written as the clock shows them."""
        zone, span = self.zone, self.last - self.first
        step = next((step for step in _STEPS if span / step <= 9), _STEPS[-1])
        begin, end = zone.local(np.array([self.first, self.last], dtype=np.int64))
        local = np.arange(-(-begin // step) * step, end + 1, step, dtype=np.int64)
        instants = zone.utc(local)
        inside = (instants >= self.first) & (instants <= self.last)
        shown = zone.local(instants[inside]).view("M8[us]").astype("M8[s]").tolist()
        whole = step >= DAY
        texts = [
            f"{t:%d %b %Y}" if whole else f"{t:%H:%M}<br>{t:%d %b %Y}" if k == 0 or t.hour == 0 else f"{t:%H:%M}"
            for k, t in enumerate(shown)
        ]
        return {"tickvals": [str(t) for t in self.at(instants[inside])], "ticktext": texts}
