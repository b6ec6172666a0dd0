"""What the local calendar says of an instant, as numbers: hour, weekday, season, holiday.

All from integers, on the clock of the zone; a holiday is a whole local day.
"""

from __future__ import annotations

import difflib
import zoneinfo
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fleet.errors import ConfigInvalid
from fleet.zones import DAY, SECOND, IntArray, zone_of

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LocalTime:
    """Instants as the local clock shows them.

    Args:
        micros: microseconds since 1970-01-01 00:00 of the local clock.
    """

    micros: IntArray

    @property
    def second_of_day(self) -> IntArray:
        """Seconds since local midnight as the clock shows them (not as they passed)."""
        return self.micros % DAY // SECOND

    @property
    def day(self) -> IntArray:
        """Days since 1970-01-01."""
        return self.micros // DAY

    @property
    def month(self) -> IntArray:
        """Months since 1970-01."""
        months: IntArray = self.micros.view("M8[us]").astype("M8[M]").view(np.int64)
        return months

    @property
    def weekday(self) -> IntArray:
        """0 is Monday."""
        return (self.day + 3) % 7

    @property
    def day_of_year(self) -> IntArray:
        """1 is the first of January."""
        january: IntArray = self.micros.view("M8[us]").astype("M8[Y]").astype("M8[D]").view(np.int64)
        return self.day - january + 1

    @property
    def day_of_month(self) -> IntArray:
        """1 is the first."""
        first: IntArray = self.micros.view("M8[us]").astype("M8[M]").astype("M8[D]").view(np.int64)
        return self.day - first + 1


def _turn(part: npt.NDArray[np.float64] | IntArray, whole: float) -> FloatArray:
    return np.asarray(part * (2 * np.pi / whole), dtype=np.float64)


COLUMNS: Mapping[str, Callable[[LocalTime], npt.NDArray[np.generic]]] = {
    "minute": lambda t: t.second_of_day // 60 % 60,
    "minute_of_day": lambda t: t.second_of_day // 60,
    "hour": lambda t: t.second_of_day // 3600,
    "dayofweek": lambda t: t.weekday,
    "weekend": lambda t: t.weekday >= 5,
    "day": lambda t: t.day_of_month,
    "dayofyear": lambda t: t.day_of_year,
    "month": lambda t: t.month % 12 + 1,
    "quarter": lambda t: t.month % 12 // 3 + 1,
    "year": lambda t: t.month // 12 + 1970,
    "day_sin": lambda t: np.sin(_turn(t.second_of_day, 86_400)),
    "day_cos": lambda t: np.cos(_turn(t.second_of_day, 86_400)),
    "week_sin": lambda t: np.sin(_turn(t.weekday + t.second_of_day / 86_400, 7)),
    "week_cos": lambda t: np.cos(_turn(t.weekday + t.second_of_day / 86_400, 7)),
    "year_sin": lambda t: np.sin(_turn(t.day_of_year, 365.25)),
    "year_cos": lambda t: np.cos(_turn(t.day_of_year, 365.25)),
}
"""Calendar columns that need no country; ``quarter`` is that of the year, as in pandas."""

NAMES: tuple[str, ...] = (*COLUMNS, "holiday")


def check_names(names: Sequence[str], country: str | None) -> None:
    """ConfigInvalid when a name is no calendar column, or the country of its holidays is not known.

    A holiday without a country takes the country of the asset's time zone.

    >>> check_names(["hour", "holiday"], "GB")
    """
    for name in names:
        if name not in NAMES:
            near = difflib.get_close_matches(name, NAMES, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigInvalid(f"no calendar feature is named {name!r}", hint=f"{hint}accepted: {', '.join(NAMES)}")
    if "holiday" in names and country:
        holidays_in(country, 2024)


def calendar_columns(instants: IntArray, names: Sequence[str], country: str | None, tz: str) -> dict[str, FloatArray]:
    """The named columns of each instant (UTC microseconds), on the local clock.

    >>> newyear = np.array([1_704_063_600_000_000])
    >>> calendar_columns(newyear, ("hour", "dayofweek", "holiday"), "FR", "Europe/Paris")
    {'hour': array([0.]), 'dayofweek': array([0.]), 'holiday': array([1.])}
    """
    if not names or not len(instants):
        return {name: np.zeros(0) for name in names}
    local = LocalTime(zone_of(tz, int(instants.min()), int(instants.max())).local(instants))
    if "holiday" in names and not country:
        country = country_of(tz)
    return {name: _column(name, local, country).astype(np.float64) for name in names}


def _column(name: str, local: LocalTime, country: str | None) -> npt.NDArray[np.generic]:
    if name != "holiday":
        return COLUMNS[name](local)
    days = local.day
    first, last = (int(month) // 12 + 1970 for month in (local.month.min(), local.month.max()))
    return np.isin(days, np.concatenate([holidays_in(str(country), year) for year in range(first, last + 1)]))


@lru_cache(maxsize=256)
def country_of(tz: str) -> str:
    """The ISO code of the country whose clock a zone is, from the zone table of the tz database.

    Raises:
        ConfigInvalid: the zone is no country's (UTC), or this machine has no zone table.

    >>> country_of("Europe/London")
    'GB'
    """
    for text in _zone_tables():
        for line in text.splitlines():
            columns = line.split("\t")
            if not line.startswith("#") and len(columns) > 2 and columns[2] == tz:
                return columns[0]
    raise ConfigInvalid(
        f"the calendar feature 'holiday' needs a country, and the time zone {tz} names none", hint='country = "GB"'
    )


def _zone_tables() -> Iterator[str]:
    for folder in zoneinfo.TZPATH:
        if (table := Path(folder) / "zone.tab").is_file():
            yield table.read_text(encoding="utf-8")
    if find_spec("tzdata") is not None:
        yield (resources.files("tzdata") / "zoneinfo" / "zone.tab").read_text(encoding="utf-8")


@lru_cache(maxsize=4096)
def holidays_in(country: str, year: int) -> IntArray:
    """The public holidays of a country in a year, in days since 1970-01-01, ascending.

    Args:
        country: ISO code, with a subdivision if need be: ``GB``, ``DE-BY``.
        year: of the local calendar.

    >>> holidays_in("GB", 2024)[-1:].view("M8[D]")
    array(['2024-12-26'], dtype='datetime64[D]')
    """
    import holidays

    code, _, part = country.partition("-")
    try:
        found = holidays.country_holidays(code, subdiv=part or None, years=year)
    except NotImplementedError as cause:
        near = difflib.get_close_matches(country.upper(), list(holidays.list_supported_countries()), n=1)
        hint = f"did you mean {near[0]!r}?" if near else 'write an ISO code, such as "GB" or "DE-BY"'
        raise ConfigInvalid(f"no holidays are known for country {country!r}", hint=hint) from cause
    return np.array(sorted((day - date(1970, 1, 1)).days for day in found), dtype=np.int64)
