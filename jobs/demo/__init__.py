"""A fleet to look at: 101 real buildings, their weather, and one day that has not happened yet.

`lay_out` makes a folder as a user would have it; `deliver` adds the day held back, as a meter would the next morning.
Nothing that is there already is touched, so both may be repeated.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from jobs.errors import UsageInvalid

DATA = Path(__file__).parent / "data"
ISSUE_TIME = datetime(2019, 11, 15, tzinfo=UTC)
"""The end of the history: what the demo's forecast may know."""

_HISTORY = ("fleet.toml", "ATTRIBUTION.md", "buildings.csv", "electricity/history.parquet", "weather/history.parquet")
_HELD_BACK = ("electricity/2019-11-15.parquet", "weather/2019-11-15.parquet")


def lay_out(folder: Path) -> None:
    """Makes the demo's folder: configuration, register and history."""
    if folder.exists() and not (folder / "ATTRIBUTION.md").is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageInvalid(f"{folder} is there and is not a demo", hint="name another folder: tsfleet demo FOLDER")
    _copy(_HISTORY, folder)


def deliver(folder: Path) -> None:
    """Adds the day held back to the folder's data."""
    _copy(_HELD_BACK, folder)


def _copy(names: tuple[str, ...], folder: Path) -> None:
    for name in names:
        target = folder / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_suffix(".part")
            shutil.copyfile(DATA / name, part)
            part.replace(target)  # a demo killed here leaves no half file behind
