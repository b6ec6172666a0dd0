"""Instants and days as requests write them: ISO 8601, and no number that could be seconds or milliseconds."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated

from pydantic import AwareDatetime, BeforeValidator

_WRITTEN = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ].+")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def _instant(value: object) -> object:
    if not isinstance(value, str) or not _WRITTEN.fullmatch(value):
        raise ValueError("an instant is written as 2024-06-10T07:00Z")
    return value


def _day(value: object) -> object:
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        raise ValueError("a day is written as 2024-06-10")
    return value


Instant = Annotated[AwareDatetime, BeforeValidator(_instant)]
Day = Annotated[date, BeforeValidator(_day)]
