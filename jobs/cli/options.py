"""The options that several commands share, each written once, and what turns their text into values."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias, TypeVar

from cyclopts import Group, Parameter

from jobs.errors import UsageInvalid
from store.errors import NotFound

if TYPE_CHECKING:
    from fleet import Fleet
    from fleet.config import FleetConfig
    from store import Store

Opened = TypeVar("Opened", "Fleet", "Store")

BEGIN = Group("Begin", sort_key=1)
WORK = Group("Work", sort_key=2)
LOOK = Group("Look", sort_key=3)
KEEP = Group("Keep", sort_key=4)
FEW = Group("Which assets", sort_key=5)
COMMON = Group("Common", sort_key=9)


@Parameter(name="*", group=COMMON)
@dataclass(frozen=True)
class Common:
    """What every command takes."""

    config: Annotated[Path | None, Parameter(alias="-c")] = None
    """The fleet.toml to use; else TSFLEET_CONFIG, else the first one found from this folder upward."""
    json: Annotated[bool, Parameter(negative="", show_default=False)] = False
    """Print JSON on stdout instead of a table; NaN is null, times are ISO 8601 with Z."""
    debug: Annotated[bool, Parameter(negative="", show_default=False)] = False
    """On an error, show the traceback."""

    @contextmanager
    def fleet(self, *, read_only: bool = False, create: bool = False) -> Iterator[Fleet]:
        """The fleet that the options name, opened, and closed in the end; one command makes its store."""
        from fleet import Fleet

        with _found(lambda: Fleet.open(self.config, read_only=read_only, create=create)) as opened:
            yield opened

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The store of that fleet alone, for reading: no model is loaded, nothing is locked."""
        from store import Store

        path = self.load().store_path
        with _found(lambda: Store.open(path, create=False, read_only=True)) as opened:
            yield opened

    def load(self) -> FleetConfig:
        """The configuration alone; the options of recipes are not looked at, for that imports their adapters."""
        from fleet.config import find, load

        return load(
            find(Path.cwd(), config=self.config, environment=os.environ.get("TSFLEET_CONFIG")), check_recipes=False
        )


def _found(opens: Callable[[], Opened]) -> Opened:
    """What `opens` opens. A store that is not there yet is no matter of arguments here: one command makes it."""
    try:
        return opens()
    except NotFound as error:
        raise NotFound(error.message, hint="`tsfleet ingest` makes it and brings the data in") from error


@Parameter(name="*", group=FEW)
@dataclass(frozen=True)
class Which:
    """Which assets a command is about; all of them without options."""

    select: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = ()
    """Assets whose id matches a glob, as 'b1*'; may be repeated."""
    where: str | None = None
    """Assets that a SQL condition over the view `assets` holds for, as "kind = 'large'"."""


Workers: TypeAlias = Annotated[int | None, Parameter(group=COMMON)]
Debug: TypeAlias = Annotated[bool, Parameter(negative="", show_default=False, group=COMMON)]
Names: TypeAlias = Annotated[str | None, Parameter(negative="")]
Flag: TypeAlias = Annotated[bool, Parameter(negative="", show_default=False)]
Due: TypeAlias = Annotated[bool, Parameter(negative="", show_default=False, group=FEW)]


def names(text: str | None) -> tuple[str, ...] | None:
    """The names of a comma-separated option; None when it was not given.

    >>> names("mae, rmse"), names(None)
    (('mae', 'rmse'), None)
    """
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def day(text: str | None, option: str) -> date | None:
    """A local day, as 2024-06-10.

    >>> day("2024-06-10", "--from")
    datetime.date(2024, 6, 10)
    """
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise UsageInvalid(f"{option} {text}: no day", hint="write it as 2024-06-10") from None


def moment(text: str | None, option: str) -> datetime | int | None:
    """An instant, or the number of a snapshot.

    >>> moment("12", "--since"), moment("2024-06-10T00:00Z", "--since")
    (12, datetime.datetime(2024, 6, 10, 0, 0, tzinfo=datetime.timezone.utc))
    """
    return int(text) if text is not None and text.isdecimal() else instant(text, option)


def instant(text: str | None, option: str) -> datetime | None:
    """An instant as ISO 8601 with its offset, in UTC; a date alone or a time without an offset is refused.

    >>> instant("2024-06-10T00:00+02:00", "--issue-time")
    datetime.datetime(2024, 6, 9, 22, 0, tzinfo=datetime.timezone.utc)
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = datetime.min  # noqa: DTZ901  # has no zone, and so is refused below
    if moment.tzinfo is None:
        raise UsageInvalid(f"{option} {text}: no instant", hint="write it with its offset, as 2024-06-10T00:00Z")
    return moment.astimezone(UTC)
