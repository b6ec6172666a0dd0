"""``[jobs.NAME]``: what runs when."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from fleet.config.sections import Section
from fleet.config.values import Count, Duration, NonNegative, PositiveDuration, Text, Texts, Zone, wrong


class JobSection(Section):
    """``[jobs.NAME]``: what runs when. Its kind is its name unless it says another.

    ``cron`` is on the clock of ``timezone`` (of the fleet, when left out): of a time that a change of the clock skips
    the first instant after the gap is meant (with ``daylight = "skip"`` none), of one that comes twice the earlier
    (with "twice" both). ``every`` counts elapsed time. ``after`` names a job whose slots it follows, once they went
    well. What was missed while nothing ran is caught up: the last slot, none, or all up to ``catch_up_limit``. A run
    that failed is tried again ``retries`` times, after ``backoff`` and twice as long each time; one that takes longer
    than ``timeout`` is ended and has failed.
    """

    kind: Text | None = None
    cron: Text | None = None
    every: PositiveDuration | None = None
    after: Text | None = None
    timezone: Zone | None = None
    daylight: Literal["once", "twice", "skip"] = "once"
    catch_up: Literal["none", "last", "all"] = "last"
    catch_up_limit: Count = 24
    retries: NonNegative = 0
    backoff: Duration = timedelta(seconds=30)
    timeout: PositiveDuration | None = None
    product: Text | None = None
    recipes: Texts | None = None
    select: Text | None = None
    where: Text | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_clock(self) -> Self:
        given = [key for key in ("cron", "every", "after") if getattr(self, key) is not None]
        if len(given) != 1:
            said = " and ".join(given) or "nothing"
            raise wrong(f"{said} says when it runs; accepted: exactly one of cron, every, after")
        return self
