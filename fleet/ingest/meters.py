"""From what a meter counts to what the asset is: registers differenced, readings put together, units and signs changed.

Energy is conserved: the readings of an interval add up to it, whatever the clock did in between. A register's
intervals add up to its last reading minus its first, over any number of rollovers; where it was reset, the interval
is missing and nothing is made up. What is estimated or missing for want of readings is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from fleet import calendar
from fleet.config import DataSection
from fleet.config.values import ENERGY, POWER
from fleet.errors import SeriesInvalid
from fleet.ingest.cleaning import Clean, Step
from fleet.ingest.readings import FloatArray
from fleet.ingest.stamps import BoolArray, ends_of
from fleet.zones import DAY, IntArray, zone_of

_HOUR = 3_600_000_000
_MONDAY = 3 * DAY
"""1970 began on a Thursday; weeks are counted from the Monday before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """What ``[data]`` says of the numbers themselves.

    Args:
        kind: power (the mean of an interval), energy (its amount), register (a counter), or None: as it is.
        unit: of the source's numbers; None says nothing and changes nothing.
        step: from one of the source's readings to the next; None is the asset's own.
        factor: scale and sign.
        digits: of a register, which goes on with 0 after that many nines; None never rolls over.
        max_step: more than a register can count from one reading to the next, in its own unit.
        min_share: of an interval's readings that have to be there.
    """

    kind: str | None = None
    unit: str | None = None
    step: str | None = None
    factor: float = 1.0
    digits: int | None = None
    max_step: float | None = None
    min_share: float = 1.0

    @classmethod
    def from_section(cls, data: DataSection) -> Meter | None:
        """What a section says; None where it says nothing."""
        told = {"kind", "unit", "step", "scale", "sign"} & data.model_fields_set
        if not told:
            return None
        return cls(
            kind=data.measured,
            unit=data.unit,
            step=data.step,
            factor=data.scale * data.sign,
            digits=data.digits,
            max_step=data.max_step,
            min_share=data.min_share,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Intervals:
    """Intervals of several series: the place of the series, start, end and availability in UTC microseconds, value."""

    codes: IntArray
    starts: IntArray
    ends: IntArray
    values: FloatArray
    available: IntArray


def metered(
    clean: Clean,
    meter: Meter,
    steps: Sequence[Step],
    units: Sequence[str | None],
    known: IntArray,
    delay: int | None,
) -> Clean:
    """The rows of a source as those of its assets.

    Args:
        clean: rows in the source's own step, sorted; of several revisions of one time the last counts.
        steps: by series, the asset's step and clock.
        units: by series, the asset's unit; None takes the source's.
        known: by series, the start of an interval that is stored, -1 where none is: intervals begin on its grid.
        delay: microseconds after the end of an interval at which it is known; None takes what the rows say.
    """
    counts = dict(clean.counts)
    if meter.kind == "register" or meter.step is not None:
        clean = _newest(clean)
        parts = []
        for code in np.unique(clean.codes).tolist():
            rows = clean.taken(clean.codes == code)
            freq, tz = steps[code]
            frame = _Frame(freq, tz, int(known[code]))
            if meter.kind == "register":
                part, told = _counted(rows, meter, frame)
            else:
                part, told = _gathered(rows, meter, frame, rows.keys[code])
            parts.append(part)
            for name, count in told.items():
                if count:
                    counts.setdefault(name, np.zeros(len(clean.keys), dtype=np.int64))[code] = count
        found = _joined(parts)
    else:
        ends = clean.starts.copy()
        for code in np.unique(clean.codes).tolist() if meter.unit is not None else ():
            mine = clean.codes == code
            ends[mine] = ends_of(clean.starts[mine], *steps[code])
        found = Intervals(clean.codes, clean.starts, ends, clean.values[0], clean.available)
    values = found.values * meter.factor
    for code in np.unique(found.codes).tolist():
        mine = found.codes == code
        hours = (found.ends[mine] - found.starts[mine]) / _HOUR
        asset = clean.keys[code] or ""
        values[mine] *= _converted(meter, units[code], hours, asset)
    resampled = meter.kind == "register" or meter.step is not None
    available = found.ends + delay if resampled and delay is not None else found.available
    return replace(clean, codes=found.codes, starts=found.starts, available=available, values=[values], counts=counts)


def _newest(clean: Clean) -> Clean:
    """Of several revisions of one time the last one known."""
    if not len(clean):
        return clean
    last = np.append((clean.starts[1:] != clean.starts[:-1]) | (clean.codes[1:] != clean.codes[:-1]), True)
    return clean if last.all() else clean.taken(last)


def _joined(parts: Sequence[Intervals]) -> Intervals:
    names = ("codes", "starts", "ends", "values", "available")
    return Intervals(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


# -- units -----------------------------------------------------------------------------------------------------------


def _converted(meter: Meter, unit: str | None, hours: FloatArray, asset: str) -> FloatArray:
    """What the source's numbers are multiplied with to be in the unit of an asset.

    >>> _converted(Meter(kind="energy", unit="kWh"), "MW", np.array([0.25]), "a")
    array([0.004])
    """
    source = meter.unit
    ratio: FloatArray = np.ones(len(hours))
    if source is None or unit is None or unit == source:
        return ratio
    for table in (POWER, ENERGY):
        if source in table and unit in table:
            return ratio * (table[source] / table[unit])
    if source in ENERGY and unit in POWER:
        return ratio * (ENERGY[source] / POWER[unit]) / hours
    if source in POWER and unit in ENERGY:
        return ratio * (POWER[source] / ENERGY[unit]) * hours
    raise SeriesInvalid(
        f'[data] unit = "{source}" does not become {unit}, the unit of asset {asset}',
        hint=f"units that change into each other: {', '.join((*POWER, *ENERGY))}",
    )


# -- intervals -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Frame:
    """The intervals of one asset: its step, its clock, and the start of one of them (-1: none is known)."""

    freq: str
    tz: str
    anchor: int

    def covering(self, first: int, last: int) -> tuple[IntArray, IntArray]:
        """Starts and ends of the intervals from the one that holds the first instant to the one that holds the last."""
        step = calendar.step_of(self.freq)
        if step.elapsed:
            anchor = self.anchor if self.anchor >= 0 else self._begin(first, DAY, 0)
            begin = anchor + (first - anchor) // step.elapsed * step.elapsed
            starts = np.arange(begin, last + 1, step.elapsed, dtype=np.int64)
            return starts, starts + step.elapsed
        begin = self._calendar_begin(first, step.days)
        count = int(calendar.positions_micros(np.array([last]), np.array([begin]), self.freq, self.tz)[0]) + 1
        grid = calendar.grid(pd.Timestamp(begin, unit="us", tz="UTC"), count, self.freq, self.tz)
        return calendar.micros(grid), ends_of(calendar.micros(grid), self.freq, self.tz)

    def _begin(self, instant: int, unit: int, offset: int) -> int:
        zone = zone_of(self.tz, instant - 8 * DAY, instant + DAY)
        local = zone.local(np.array([instant]))
        return int(zone.utc((local - offset) // unit * unit + offset)[0])

    def _calendar_begin(self, instant: int, days: int) -> int:
        if days:
            return self._begin(instant, 7 * DAY, -_MONDAY) if days % 7 == 0 else self._begin(instant, DAY, 0)
        zone = zone_of(self.tz, instant - 400 * DAY, instant + DAY)
        months = calendar.step_of(self.freq).months
        month = zone.local(np.array([instant])).view("M8[us]").astype("M8[M]").astype(np.int64) // months * months
        return int(zone.utc(month.view("M8[M]").astype("M8[us]").astype(np.int64))[0])


def _gathered(rows: Clean, meter: Meter, frame: _Frame, asset: str | None) -> tuple[Intervals, Mapping[str, int]]:
    """Readings of a shorter step put together: energy adds up, of power the mean counts.

    An interval that lacks some readings, but has its share of them, is what the others are on average; with fewer it
    is missing. At both ends of the rows such an interval is left out: its other readings are in another file.
    """
    assert meter.step is not None
    step = calendar.step_of(meter.step).elapsed
    starts, ends = frame.covering(int(rows.starts[0]), int(rows.starts[-1]))
    expected = (ends - starts) / step if step else np.zeros(len(starts))
    if not step or bool((expected != np.round(expected)).any()) or bool((expected < 1).any()):
        raise SeriesInvalid(
            f'[data] step = "{meter.step}" does not divide the step of asset {asset}, {frame.freq}',
            hint="step is that of the source, such as 15min where the asset's freq is 1h",
        )
    place = np.searchsorted(starts, rows.starts, side="right") - 1
    values = rows.values[0]
    finite = np.isfinite(values)
    count = np.bincount(place[finite], minlength=len(starts))
    total = np.bincount(place[finite], weights=values[finite], minlength=len(starts))
    mean = np.divide(total, count, out=np.full(len(starts), np.nan), where=count > 0)
    whole = count == expected
    amount = np.where(whole, total, mean * expected) if meter.kind == "energy" else mean
    enough = (count >= meter.min_share * expected - 1e-9) & (count > 0)
    available = np.full(len(starts), np.iinfo(np.int64).min)
    np.maximum.at(available, place, rows.available)
    available = np.where(available < 0, ends, available)
    keep = _inside(enough)
    told = {"estimated": int((enough & ~whole).sum()), "incomplete": int((~enough & keep).sum())}
    found = Intervals(_codes(rows, len(starts)), starts, ends, np.where(enough, amount, np.nan), available)
    return _part(found, keep), told


def _counted(rows: Clean, meter: Meter, frame: _Frame) -> tuple[Intervals, Mapping[str, int]]:
    """What a register counted in each interval that begins and ends with a reading.

    Readings within an interval only tell of rollovers and resets. An interval without a reading at one of its ends is
    missing, and so is one in which the register was reset.
    """
    finite = np.isfinite(rows.values[0])
    at, readings, known = rows.starts[finite], rows.values[0][finite], rows.available[finite]
    if len(at) < 2:
        none = np.zeros(0, dtype=np.int64)
        return Intervals(none, none, none, np.zeros(0), none), {}
    amounts, rolled, reset = differences(readings, meter.digits, meter.max_step)
    counted = np.append(0.0, np.cumsum(np.where(reset, 0.0, amounts)))
    resets = np.append(0, np.cumsum(reset))
    starts, ends = frame.covering(int(at[0]), int(at[-1]))
    first, last = (np.minimum(np.searchsorted(at, bound), len(at) - 1) for bound in (starts, ends))
    bounded = (at[first] == starts) & (at[last] == ends)
    whole = bounded & (resets[first] == resets[last])
    values = np.where(whole, counted[last] - counted[first], np.nan)
    keep = _inside(bounded)
    told = {"rollover": int(rolled.sum()), "reset": int(reset.sum()), "incomplete": int((~bounded & keep).sum())}
    found = Intervals(_codes(rows, len(starts)), starts, ends, values, np.maximum(known[last], ends))
    return _part(found, keep), told


def differences(
    readings: FloatArray, digits: int | None = None, max_step: float | None = None
) -> tuple[FloatArray, BoolArray, BoolArray]:
    """What a register counted from each reading to the next, and where it rolled over or was reset.

    A fall is a rollover where that makes a step that the register can take: at most `max_step`, or half of its range
    where none is given. Every other fall, and a rise above `max_step`, is a reset: nothing is known of the step.

    Args:
        readings: (n,) in order, without gaps.
        digits: of the register.
        max_step: the most it can count from one reading to the next.

    Returns:
        (n - 1,) amounts, NaN at a reset; where it rolled over; where it was reset.

    >>> differences(np.array([90.0, 95.0, 3.0, 60.0, 0.0]), digits=2, max_step=60.0)
    (array([ 5.,  8., 57., 40.]), array([False,  True, False,  True]), array([False, False, False, False]))
    >>> differences(np.array([400.0, 410.0, 0.0, 5.0]), digits=6)[0]
    array([10., nan,  5.])
    """
    amounts: FloatArray = np.diff(readings)
    fell = amounts < 0
    most = max_step
    rolled = np.zeros(len(amounts), dtype=bool)
    if digits is not None:
        size = 10.0**digits
        rolled = fell & (amounts + size <= (size / 2 if most is None else most)) & (amounts + size >= 0)
        amounts = np.where(rolled, amounts + size, amounts)
    reset = fell & ~rolled
    if most is not None:
        reset |= amounts > most
    return np.where(reset, np.nan, amounts), rolled, reset


def _inside(held: BoolArray) -> BoolArray:
    """All from the first that holds to the last."""
    places = np.flatnonzero(held)
    keep = np.zeros(len(held), dtype=bool)
    if len(places):
        keep[places[0] : places[-1] + 1] = True
    return keep


def _codes(rows: Clean, count: int) -> IntArray:
    return np.full(count, rows.codes[0], dtype=np.int64)


def _part(found: Intervals, keep: npt.NDArray[np.bool_]) -> Intervals:
    return Intervals(found.codes[keep], found.starts[keep], found.ends[keep], found.values[keep], found.available[keep])
