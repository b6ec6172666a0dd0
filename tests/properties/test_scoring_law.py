"""However actuals and forecasts arrive, and however scoring is cut up or killed: the scores are those of a recount.

The recount is a loop over what the test itself has handed in, with exact sums. Readings come late, are revised, are
taken back, arrive in another order than they became known in; forecasts are issued again; scoring takes slices of any
size, is killed between commits, and goes on.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.comparison import Truth
from fleet.passes import Pass
from fleet.scoring import Pace, renewed, scored_slices, stale_days
from store import FixedClock, Store

T = datetime(2024, 3, 30, 12, tzinfo=UTC)  # the night after next, Paris loses an hour
ZONES = {"a": "Europe/Paris", "b": "UTC", "c": "America/New_York"}
CLOCKS = pa.table({"asset_id": [*ZONES], "tz": [*ZONES.values()], "steps": [4] * len(ZONES)})
STEP = timedelta(hours=6)
LEVELS = (0.1, 0.9)
WHOLE = Pace(points=1 << 40)

assets = st.sampled_from([*ZONES])
values = st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.0, 1e15, -1e-15])


class Read(NamedTuple):
    """A reading of an asset at a step, known so many hours later; NaN takes it back."""

    asset: str
    step: int
    known: int
    y: float


class Issued(NamedTuple):
    """A forecast of three steps, issued at a step."""

    asset: str
    at: int
    role: str
    values: tuple[float, float, float]


class Scored(NamedTuple):
    """A try at scoring: points at once, and the slice after which it is killed."""

    points: int
    killed: int | None


reads = st.builds(Read, assets, st.integers(0, 7), st.sampled_from([7, 30, 60]), values | st.just(math.nan))
issues = st.builds(
    Issued, assets, st.integers(-2, 5), st.sampled_from(["champion", "external"]), st.tuples(values, values, values)
)
tries = st.builds(Scored, st.sampled_from([1, 6, 13, 10_000]), st.none() | st.integers(0, 3))
events = st.lists(
    st.lists(reads, min_size=1, max_size=8) | st.lists(issues, min_size=1, max_size=4) | tries, min_size=3, max_size=9
)


class World:
    """The store, and what was handed to it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.readings: dict[tuple[str, int], list[tuple[int, int, float]]] = defaultdict(list)
        self.forecasts: dict[tuple[str, str, int, int], float] = {}
        self._arrived = 0

    def read(self, rows: Sequence[Read]) -> None:
        # of one instant and one hour the last counts; two of them in one batch are not two readings
        rows = [*{(one.asset, one.step, one.known): one for one in rows}.values()]
        transaction = self.store.begin()
        transaction.replace(
            "actuals",
            [
                {
                    "asset_id": one.asset,
                    "valid_time": T + one.step * STEP,
                    "y": one.y,
                    "available_at": T + one.step * STEP + timedelta(hours=one.known),
                }
                for one in rows
            ],
        )
        transaction.commit()
        self._arrived += 1
        for one in sorted(rows, key=lambda row: row.known):
            held = self.readings[one.asset, one.step]
            before = max((told for told in held if told[:2] < (one.known, self._arrived)), default=None)
            if before is None or not same(before[2], one.y):  # what repeats the value before it is no revision
                held.append((one.known, self._arrived, one.y))

    def issue(self, rows: Sequence[Issued]) -> None:
        made = {}
        for one in rows:
            for lead, value in enumerate(one.values):
                made[one.asset, one.role, one.at, one.at + lead] = value
        self.forecasts |= made
        transaction = self.store.begin()
        transaction.replace("forecasts", [forecast(*key, value) for key, value in made.items()])
        transaction.commit()

    def score(self, told: Scored, pace: Pace | None = None) -> None:
        pace = pace or Pace(points=told.points, cells=2)
        for truth in TRUTHS:
            for _ in islice(renewed(self.store, CLOCKS, truth, pace=pace), told.killed):
                pass

    def actual(self, asset: str, step: int, truth: Truth) -> float:
        known = self.readings[asset, step]
        if truth == "first":
            known = [one for one in known if math.isfinite(one[2])]
            return min(known)[2] if known else math.nan
        return max(known, key=lambda one: one[:2])[2] if known else math.nan

    def recount(self, truth: Truth) -> dict[tuple[Any, ...], dict[str, list[float]]]:
        """By cell the terms of each sum."""
        found: dict[tuple[Any, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for (asset, role, issue, step), mean in self.forecasts.items():
            y = self.actual(asset, step, truth)
            if math.isfinite(y):
                day = (T + step * STEP).astimezone(ZoneInfo(ZONES[asset])).date()
                terms = found[asset, role, day, ("0-1h", "6-24h", "6-24h")[step - issue]]
                lower, upper = mean - 1.0, mean + 1.0
                outside = max(lower - y, 0.0) + max(y - upper, 0.0)
                terms["n"].append(1.0)
                terms["sum_e"].append(mean - y)
                terms["sum_abs_e"].append(abs(mean - y))
                terms["sum_sq_e"].append((mean - y) ** 2)
                terms["sum_abs_y"].append(abs(y))
                terms["pinball_sum_q10"].append(max(0.1 * (y - lower), -0.9 * (y - lower)))
                terms["pinball_sum_q90"].append(max(0.9 * (y - upper), -0.1 * (y - upper)))
                terms["covered_80"].append(float(lower <= y <= upper))
                terms["winkler_sum_80"].append(upper - lower + 2 / (1 - 0.8) * outside)
        return found


TRUTHS: tuple[Truth, ...] = ("latest", "first")


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def forecast(asset: str, role: str, issue: int, step: int, mean: float) -> dict[str, Any]:
    return {
        "asset_id": asset, "product": "default", "recipe": "x", "recipe_hash": "h", "version_id": "v", "role": role,
        "issue_time": T + issue * STEP, "valid_time": T + step * STEP, "step": step - issue + 1, "mean": mean,
        "q10": mean - 1.0, "q90": mean + 1.0,
    }  # fmt: skip


@contextmanager
def world() -> Iterator[World]:
    folder = Path(tempfile.mkdtemp())
    try:
        with Store.open(folder / "s.store", clock=FixedClock(T)) as store:
            yield World(store)
    finally:
        shutil.rmtree(folder)


def check(made: World) -> None:
    snapshot = made.store.snapshot()
    for truth in TRUTHS:
        held = made.store.snapshot().sql("select * from scores where truth = $t and n > 0", {"t": truth}).rows()
        expected = made.recount(truth)
        found = {(row["asset_id"], row["role"], row["day"], row["lead_bucket"]): row for row in held}
        assert found.keys() == expected.keys()
        assert len(found) == len(held)
        for key, terms in expected.items():
            for name, parts in terms.items():
                near = 1e-12 * math.fsum(map(abs, parts))
                assert found[key][name] == pytest.approx(math.fsum(parts), abs=near, rel=0), (key, name)
        # all at once, from nothing, they are the same bits
        everything = stale_days(snapshot, CLOCKS, Pass(truth=truth, seen=0, at=snapshot.id))
        for _, whole in scored_slices(snapshot, CLOCKS, everything, truth, WHOLE.points):
            sums = [name for name in whole.column_names if name not in ("perfect_foresight", "actuals_v")]
            rows = whole.select(sums).to_pylist()
            assert {cell(row): row for row in rows if row["n"]} == {
                cell(row): {name: row[name] for name in sums} for row in held
            }


def cell(row: dict[str, Any]) -> tuple[str, str, date, str]:
    return row["asset_id"], row["role"], row["day"], row["lead_bucket"]


def follow(made: World, story: Sequence[Any]) -> None:
    for event in story:
        if isinstance(event, Scored):
            made.score(event)
        elif isinstance(event[0], Read):
            made.read(event)
        else:
            made.issue(event)
    made.score(Scored(10_000, None))
    check(made)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(events)
def test_scores_are_a_recount_whatever_came_when(story: list[Any]) -> None:
    with world() as made:
        follow(made, story)


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(events)
def test_scores_are_a_recount_whatever_came_when_many_times(story: list[Any]) -> None:
    with world() as made:
        follow(made, story)


def full(made: World) -> None:
    """Three assets with everything forecast and read."""
    made.issue([Issued(asset, at, "champion", (1.0, 2.0, 3.0)) for asset in ZONES for at in range(6)])
    made.read([Read(asset, step, 7, 2.5) for asset in ZONES for step in range(8)])


def test_a_reading_that_comes_late_but_was_known_first_is_the_first() -> None:
    with world() as made:
        made.issue([Issued("b", 0, "champion", (1.0, 2.0, 3.0))])
        made.read([Read("b", 0, 30, 5.0)])
        made.score(Scored(10, None))
        made.read([Read("b", 0, 7, 4.0)])
        made.score(Scored(10, None))
        sums = made.store.sql("select truth, sum_abs_e from scores where n > 0 order by truth").rows()
        assert sums == [{"truth": "first", "sum_abs_e": 3.0}, {"truth": "latest", "sum_abs_e": 4.0}]
        check(made)


def test_a_reading_that_repeats_the_one_before_it_is_no_revision() -> None:
    with world() as made:
        made.issue([Issued("b", 0, "champion", (1.0, 2.0, 3.0))])
        made.read([Read("b", 0, 7, 4.0), Read("b", 0, 30, 4.0)])
        made.score(Scored(10, None))
        made.read([Read("b", 0, 7, 6.0)])  # the only vintage there is, said again
        made.score(Scored(10, None))
        sums = made.store.sql("select truth, sum_abs_e from scores where n > 0 order by truth").rows()
        assert sums == [{"truth": "first", "sum_abs_e": 3.0}, {"truth": "latest", "sum_abs_e": 5.0}]
        check(made)


def test_what_a_kill_left_is_finished_and_what_was_committed_is_not_done_again() -> None:
    with world() as made:
        full(made)
        paced = Pace(points=1, cells=1)  # a day of an asset at a time, and a commit
        killed = islice(renewed(made.store, CLOCKS, "latest", pace=paced), 3)
        assert [sorted(step.assets) for step in killed] == [["a"], [], []]
        assert made.store.snapshot().mark("score") == "0"
        made.read([Read("a", 0, 30, 7.0)])
        after = [sorted(step.assets) for step in renewed(made.store, CLOCKS, "latest", pace=paced)]
        # the rest of the first pass, then a pass of what came in between
        assert [assets for assets in after if assets] == [["b"], ["c"], ["a"]]
        assert made.store.snapshot().mark("score") == str(made.store.head() - 1)
        made.score(Scored(10, None))
        check(made)


def test_scoring_that_is_overtaken_lets_the_next_do_it_again() -> None:
    with world() as made:
        full(made)
        slow = renewed(made.store, CLOCKS, "latest", pace=Pace(points=20, cells=1_000))
        next(slow)
        made.read([Read("a", 0, 30, 7.0)])
        made.score(Scored(10, None))
        for _ in slow:  # commits cells older than those of the other
            pass
        made.score(Scored(10, None))
        check(made)


def test_scoring_that_is_asked_to_stop_commits_what_it_has() -> None:
    with world() as made:
        full(made)
        asked = iter([False, True])
        steps = [*renewed(made.store, CLOCKS, "latest", pace=Pace(points=20), stopped=lambda: next(asked))]
        assert [one.assets for one in steps] == [frozenset({"a"})]
        assert steps[0].written["scores"] > 0
        made.score(Scored(10, None))
        check(made)
