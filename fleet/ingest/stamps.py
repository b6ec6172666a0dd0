"""From what a source writes to the instants the store keeps: local times to UTC, ends to starts, off-grid stamps found.

All on integers: microseconds since 1970, of UTC or of the clock on the wall. What no rule of the source decides is
not guessed but marked, and the caller refuses it or keeps it aside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleet import calendar
from fleet.config.inputs import Ambiguous
from fleet.zones import DAY, IntArray, Zone, zone_of

BoolArray = npt.NDArray[np.bool_]

EARLIEST, LATEST = (int(np.datetime64(day, "us").astype(np.int64)) for day in ("1900-01-02", "2199-12-30"))
"""The instants that clocks are known for; outside lie only sentinels and typing errors."""


@dataclass(frozen=True, slots=True, eq=False)
class Localized:
    """Instants of local times, and what was special about them.

    Args:
        instants: (rows,) UTC microseconds; of no meaning where `unclear` or `never`.
        resolved: rows in an hour that exists twice, decided by the source's rule.
        unclear: rows in such an hour that the rule does not decide.
        never: rows at a time that the clock skipped.
    """

    instants: IntArray
    resolved: BoolArray
    unclear: BoolArray
    never: BoolArray


def localized(local: IntArray, tz: str, rule: Ambiguous, group: IntArray) -> Localized:
    """The instants at which a zone's clock showed these times.

    Args:
        local: (rows,) microseconds on the wall, sorted within each group, equal ones in the order of the source.
        tz: IANA name.
        rule: what the repeated hour means. ``infer``: of a time that stands twice in a group, the first row is meant
            by the first pass.
        group: (rows,) equal for the rows of one series.

    >>> twice = np.array(["2024-10-27T02:30", "2024-10-27T02:30"], dtype="M8[us]").astype(np.int64)
    >>> found = localized(twice, "Europe/Paris", "infer", np.zeros(2, dtype=np.int64))
    >>> found.instants.view("M8[us]")
    array(['2024-10-27T00:30:00.000000', '2024-10-27T01:30:00.000000'], dtype='datetime64[us]')
    """
    none = np.zeros(len(local), dtype=bool)
    if not len(local) or tz == "UTC":
        return Localized(local, none, none, none)
    zone = zone_of(tz, int(local.min()) - DAY, int(local.max()) + DAY)
    first = zone.utc(local)
    if zone.fixed:
        return Localized(first, none, none, none)
    second = _second_pass(zone, local, first)
    twice = second != first
    never = zone.local(first) != local
    if not twice.any():
        return Localized(first, none, none, never)
    match rule:
        case "first":
            return Localized(first, twice, none, never)
        case "second":
            return Localized(second, twice, none, never)
        case "refuse":
            return Localized(first, none, twice, never)
        case "infer":
            again, paired = _passes(local, twice, group)
            return Localized(np.where(again, second, first), twice & paired, twice & ~paired, never)


def _second_pass(zone: Zone, local: IntArray, first: IntArray) -> IntArray:
    """The later of the two instants at which the clock shows a time; the same one where there is only one."""
    following = np.minimum(np.searchsorted(zone.starts, first, side="right"), len(zone.starts) - 1)
    later = local - zone.offsets[following]
    instants: IntArray = np.where((later > first) & (later >= zone.starts[following]), later, first)
    return instants


def _passes(local: IntArray, twice: BoolArray, group: IntArray) -> tuple[BoolArray, BoolArray]:
    """For rows in a repeated hour: whether a row is a later one of its time, and whether its time stands twice."""
    again = np.zeros(len(local), dtype=bool)
    again[1:] = twice[1:] & (local[1:] == local[:-1]) & (group[1:] == group[:-1])
    paired = again.copy()
    paired[:-1] |= again[1:]
    return again, paired


def starts_of(ends: IntArray, freq: str, tz: str) -> IntArray:
    """The starts of the intervals that end at these instants.

    >>> starts_of(np.array([3_600_000_000]), "1h", "UTC")
    array([0])
    """
    if not calendar.is_calendar_step(freq):
        return ends - step_micros(freq)
    return calendar.micros(calendar.steps_back(calendar.from_micros(ends), 1, freq, tz))


def ends_of(starts: IntArray, freq: str, tz: str) -> IntArray:
    """The ends of the intervals that start at these instants.

    >>> ends_of(np.array([0]), "15min", "UTC")
    array([900000000])
    """
    if not calendar.is_calendar_step(freq):
        return starts + step_micros(freq)
    return calendar.micros(calendar.interval_end(calendar.from_micros(starts), freq, tz))


def step_micros(freq: str) -> int:
    """An elapsed step in microseconds.

    >>> step_micros("15min")
    900000000
    """
    return calendar.step_of(freq).elapsed


def phases(instants: IntArray, freq: str, tz: str) -> IntArray:
    """Where in its step each instant lies; equal for all instants of one regular grid.

    A daily step is measured on the local clock; where midnight is skipped, the first instant of the day counts as it.

    >>> phases(np.array([0, 3_600_000_000, 4_500_000_000]), "1h", "UTC")
    array([        0,         0, 900000000])
    """
    step = calendar.step_of(freq)
    if step.elapsed or not len(instants):
        return instants % (step.elapsed or 1)
    zone = zone_of(tz, int(instants.min()) - DAY, int(instants.max()) + DAY)
    local = zone.local(instants)
    if step.days:
        span = step.days * DAY
        found = local % span
        # The instant a skipped midnight is moved to.
        moved = zone.utc(local - local % DAY) == instants
        phase: IntArray = np.where(moved, found - found % DAY, found)
        return phase
    months = local.view("M8[us]").astype("M8[M]")
    into = (local.view("M8[us]") - months.astype("M8[us]")).astype(np.int64)
    monthly: IntArray = months.astype(np.int64) % step.months * (32 * DAY) + into
    return monthly


def off_grid(instants: IntArray, codes: IntArray, freq: str, tz: str, known: IntArray) -> BoolArray:
    """Rows that do not lie on their series' regular grid, which is that of the stored rows or else of most rows.

    Args:
        instants: (rows,) UTC microseconds.
        codes: (rows,) the series of each row, ascending.
        freq: the step of all of them.
        tz: their clock.
        known: by code, an instant that is stored; -1 where nothing is.

    >>> off_grid(np.array([0, 60, 125]) * 1_000_000, np.zeros(3, dtype=np.int64), "1min", "UTC", np.array([-1]))
    array([False, False,  True])
    """
    if not len(instants):
        return np.zeros(0, dtype=bool)
    phase = phases(instants, freq, tz)
    begin = np.flatnonzero(np.append(True, codes[1:] != codes[:-1]))
    first = codes[begin]
    expected = phase[begin]
    stored = known[first] >= 0
    if stored.any():
        expected[stored] = phases(known[first[stored]], freq, tz)
    counts = np.diff(np.append(begin, len(codes)))
    off: BoolArray = phase != np.repeat(expected, counts)
    if not off.any():
        return off
    for place in np.unique(np.searchsorted(begin, np.flatnonzero(off), side="right") - 1):
        if not stored[place]:
            rows = slice(begin[place], begin[place] + counts[place])
            values, times = np.unique(phase[rows], return_counts=True)
            off[rows] = phase[rows] != values[times.argmax()]
    return off
