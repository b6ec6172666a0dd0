"""The story that a simulation walks: what is drawn is the same whenever it is drawn, and holds what it says."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pandas as pd
import pytest

from tests.simulation.story import TIMINGS, Span, at_start, drawn, held_up, readings, slots, weather

BEGIN = at_start(date(2024, 6, 3))


def test_the_same_seed_tells_the_same_story() -> None:
    one, two, other = (drawn(BEGIN, 3, 4, 20, seed) for seed in (5, 5, 6))
    assert one == two
    assert one != other
    assert readings(one).equals(readings(two))
    assert weather(one).equals(weather(two))


def test_every_job_has_a_crash_and_each_is_of_a_slot_that_is_due() -> None:
    story = drawn(BEGIN, 3, 4, len(TIMINGS), 0)
    assert {job for job, _, _ in story.crashes} == set(TIMINGS)
    for job, slot, _ in story.crashes:
        timing = TIMINGS[job]
        due = TIMINGS[timing.after] if timing.after else timing
        assert slot in slots(due, story.begin, story.end)


@pytest.mark.parametrize(("day", "hours"), [("2024-03-31", 23), ("2024-06-10", 24), ("2024-10-27", 25)])
def test_a_local_day_has_its_slots_once(day: str, hours: int) -> None:
    start = pd.Timestamp(day, tz="Europe/Berlin")
    begin, end = start - timedelta(minutes=1), start + timedelta(hours=hours) - timedelta(minutes=1)
    count = {name: len(slots(one, begin.tz_convert(UTC), end.tz_convert(UTC))) for name, one in TIMINGS.items()}
    assert count["ingest"] == hours
    assert count["own"] == 2 * hours
    assert (count["night_once"], count["train"], count["dayahead"]) == (1, 1, 1)
    assert count["night_twice"] == (2 if hours == 25 else 1)
    assert count["night_skip"] == (0 if hours == 23 else 1)


def test_what_a_silent_feed_held_up_is_told_when_it_speaks_again_and_in_order() -> None:
    story = drawn(BEGIN, 3, 2, 0, 1)
    told = readings(story)
    for span in (one for one in story.spans if one.kind == "silent"):
        assert not ((told["known"] >= span.start) & (told["known"] < span.stop_before)).any()
    assert all(earlier <= later for earlier, later in pairwise(told["known"]))
    assert not told.duplicated(["unique_id", "ds", "known"]).any()
    assert told.duplicated(["unique_id", "ds"]).any(), "nothing is ever revised"


def test_two_outages_that_meet_hold_up_to_the_end_of_the_later() -> None:
    first = datetime(2024, 6, 1, tzinfo=UTC)
    spans = tuple(
        Span(kind="silent", start=first + timedelta(hours=a), stop_before=first + timedelta(hours=b))
        for a, b in ((0, 4), (3, 9))
    )
    known = pd.Series(pd.to_datetime([first + timedelta(hours=h) for h in (1, 3, 9)]))
    assert [one.hour for one in held_up(known, spans)] == [9, 9, 9]
