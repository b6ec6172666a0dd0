"""The scheduler with a clock of its own: what is due is run once, what was missed is caught up, what died goes on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path

import pytest

from fleet import Fleet
from fleet.config import FleetConfig, load
from jobs.claiming import Claim, rewound
from jobs.due import jobs_of, standing_of
from jobs.health import health
from jobs.running import claim_by_hand, perform
from jobs.scheduler import Scheduler
from store import FixedClock, Store
from store.upkeep import lease

START = datetime(2024, 6, 1, 0, 0, 30, tzinfo=UTC)
CONFIG = """
[fleet]
name = "timed"
store = "timed.store"
horizon = 24

[data]
path = "none.parquet"
"""
#: Every run leaves one row, with the slot and how often it was called; `fail` and `die` beside it make it end badly.
KIND = """
from pathlib import Path
from jobs.work import Done

HERE = Path(__file__).parent


def run(work):
    if (HERE / "die").exists():
        raise SystemExit("killed")
    if (HERE / "fail").exists():
        raise ValueError("no feed")
    commit = work.fleet.store.begin(commit_id=f"{work.name}/{work.slot.isoformat()}/{work.revision}")
    commit.insert("alerts", [{"alert_id": f"{work.name} {work.slot:%d %H:%M} {work.revision}", "rule": work.name}])
    commit.commit()
    return Done(status="ok", notes=("done",))
"""


class Here:
    """A run that is done where it is started; one that dies leaves its claim behind."""

    def __init__(self, config: FleetConfig, held: Claim, clock: FixedClock) -> None:
        with Fleet(config, Store.open(config.store_path, clock=clock), clock) as fleet:
            job = jobs_of(fleet.config)[held.job]
            with contextlib.suppress(SystemExit):
                perform(fleet, job, Claim(job=held.job, standing=held.standing, sign=os.dup(held.sign)))

    def over(self) -> bool:
        return True

    def stop(self, *, at_once: bool) -> None:
        pass


class World:
    """A folder, a clock and the schedulers that look after it."""

    def __init__(self, folder: Path, jobs: str) -> None:
        self.folder, self.clock, self.said = folder, FixedClock(START), list[str]()
        self.ticks = 0.0
        # Python imports a name only once.
        self.module = f"own_{blake2b(str(folder).encode(), digest_size=6).hexdigest()}"
        (folder / f"{self.module}.py").write_text(KIND, encoding="utf-8")
        self.configure(jobs)
        self.began = START
        self.scheduler = self.another()

    def configure(self, jobs: str) -> None:
        (self.folder / "fleet.toml").write_text(CONFIG + jobs.replace("own:", f"{self.module}:"), encoding="utf-8")

    def another(self) -> Scheduler:
        return Scheduler(
            self.folder / "fleet.toml",
            clock=self.clock,
            starter=lambda config, _, held: Here(config, held, self.clock),
            tell=self.said.append,
            monotonic=lambda: self.ticks,
        )

    def restart(self) -> None:
        self.scheduler.close()
        self.scheduler = self.another()

    def go(self, upto: timedelta) -> None:
        """The loop, with a wait that moves the clock."""
        end = self.clock.now() + upto
        while self.clock.now() < end:
            pause = self.scheduler.step()
            assert pause <= 30
            waited = min(max(pause, 0.2), (end - self.clock.now()).total_seconds())
            self.clock.advance(seconds=waited)
            self.ticks += waited

    @property
    def ran(self) -> list[str]:
        with Store.open(self.folder / "timed.store", read_only=True) as store:
            return [row["alert_id"] for row in store.sql("select alert_id from alerts order by alert_id").rows()]

    def runs(self) -> list[tuple[str, str, int]]:
        with Store.open(self.folder / "timed.store", read_only=True) as store:
            rows = store.sql("select job, slot, status, attempt from job_runs order by slot, job").rows()
            return [(f"{row['job']} {row['slot']:%d %H:%M}", row["status"], row["attempt"]) for row in rows]

    def health(self, known: datetime | None = None) -> dict[str, str]:
        with Fleet.open(self.folder / "fleet.toml", read_only=True, clock=self.clock) as fleet:
            found = health(fleet.store, jobs_of(fleet.config), self.clock.now(), known=known)
            return {one.job: one.state for one in found}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Callable[[str], World]]:
    made: list[World] = []

    def make(jobs: str) -> World:
        made.append(World(tmp_path, jobs))
        return made[0]

    yield make
    for one in made:
        one.scheduler.close()


HOURLY = '[jobs.a]\nkind = "own:run"\ncron = "0 * * * *"\n'


def test_each_slot_is_run_once_and_a_job_that_follows_comes_after(world: Callable[[str], World]) -> None:
    it = world(HOURLY + '[jobs.b]\nkind = "own:run"\nafter = "a"\n')
    it.go(timedelta(hours=2, minutes=30))
    assert it.ran == ["a 01 01:00 0", "a 01 02:00 0", "b 01 01:00 0", "b 01 02:00 0"]
    assert {status for _, status, _ in it.runs()} == {"ok"}
    assert it.health() == {"a": "ok", "b": "ok"}


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        ('"last"', ["a 01 01:00 0", "a 01 05:00 0", "a 01 06:00 0"]),
        ('"none"', ["a 01 01:00 0", "a 01 06:00 0"]),
        ('"all"', [f"a 01 0{hour}:00 0" for hour in range(1, 7)]),
        ('"all"\ncatch_up_limit = 2', ["a 01 01:00 0", "a 01 04:00 0", "a 01 05:00 0", "a 01 06:00 0"]),
    ],
)
def test_what_was_missed_is_caught_up_as_the_job_says(
    world: Callable[[str], World], catch_up: str, expected: list[str]
) -> None:
    it = world(HOURLY + f"catch_up = {catch_up}\n")
    it.go(timedelta(hours=1, minutes=10))
    it.clock.advance(hours=4, minutes=10)  # the machine slept
    assert it.health()["a"] == ("ok" if "none" in catch_up else "late")
    it.go(timedelta(hours=1))
    assert it.ran == expected
    assert any("the machine slept" in line for line in it.said)


def test_a_run_that_fails_is_tried_again_later_and_later_and_then_has_failed(world: Callable[[str], World]) -> None:
    it = world(HOURLY.replace("0 *", "0 1") + 'retries = 2\nbackoff = "4min"\n')
    (it.folder / "fail").touch()
    it.go(timedelta(hours=1, minutes=3))
    assert it.runs() == [("a 01 01:00", "failed", 1)]
    assert it.health() == {"a": "waiting"}
    it.go(timedelta(minutes=57))
    assert it.runs() == [("a 01 01:00", "failed", 3)]
    assert it.health() == {"a": "failed"}
    with Store.open(it.folder / "timed.store", read_only=True) as store:
        assert store.sql("select error from job_runs").rows() == [{"error": "ValueError: no feed"}]


def test_a_retry_that_goes_well_is_one_effect(world: Callable[[str], World]) -> None:
    it = world(HOURLY + 'retries = 3\nbackoff = "4min"\n')
    (it.folder / "fail").touch()
    it.go(timedelta(hours=1, minutes=2))
    (it.folder / "fail").unlink()
    it.go(timedelta(minutes=30))
    assert it.ran == ["a 01 01:00 0"]
    assert it.runs() == [("a 01 01:00", "ok", 2)]


def test_a_run_whose_process_died_is_taken_up_by_another_scheduler(world: Callable[[str], World]) -> None:
    it = world(HOURLY)
    (it.folder / "die").touch()
    it.clock.set(datetime(2024, 6, 1, 0, 30, tzinfo=UTC))
    it.scheduler.step()
    it.clock.set(datetime(2024, 6, 1, 1, 0, 1, tzinfo=UTC))
    it.scheduler.step()
    (it.folder / "die").unlink()
    it.restart()
    it.go(timedelta(minutes=1))
    assert it.ran == ["a 01 01:00 0"]
    assert it.runs() == [("a 01 01:00", "ok", 2)]


def test_a_run_that_always_dies_is_given_up_after_a_while(world: Callable[[str], World]) -> None:
    it = world(HOURLY)
    (it.folder / "die").touch()
    it.go(timedelta(hours=1, minutes=5))
    ((run, status, attempt),) = it.runs()
    assert (run, status) == ("a 01 01:00", "failed")
    assert attempt > 10
    assert it.health() == {"a": "failed"}


def test_a_new_configuration_is_taken_up_and_loses_no_slot(world: Callable[[str], World]) -> None:
    it = world(HOURLY)
    it.go(timedelta(minutes=50))
    it.configure(HOURLY + '[jobs.c]\nkind = "own:run"\nevery = "30min"\n')
    it.go(timedelta(minutes=20))
    it.configure("this is no configuration")
    it.go(timedelta(minutes=60))
    assert it.ran == [
        "a 01 01:00 0", "a 01 02:00 0", "c 01 01:00 0", "c 01 01:30 0", "c 01 02:00 0",
    ]  # fmt: skip
    assert any("going on with the configuration as it was" in line for line in it.said)


def test_a_clock_that_is_set_back_runs_nothing_twice(world: Callable[[str], World]) -> None:
    it = world(HOURLY)
    it.go(timedelta(hours=2, minutes=10))
    it.clock.advance(hours=-1, minutes=-30)
    it.go(timedelta(hours=2, minutes=50))
    assert it.ran == ["a 01 01:00 0", "a 01 02:00 0", "a 01 03:00 0"]


def test_a_restart_loses_nothing_that_came_due_meanwhile(world: Callable[[str], World]) -> None:
    it = world(HOURLY + 'catch_up = "all"\n')
    it.scheduler.step()
    for _ in range(5):
        it.clock.advance(minutes=65)
        it.restart()
        it.go(timedelta(minutes=1))
    assert it.ran == [f"a 01 0{hour}:00 0" for hour in range(1, 6)]


def test_draining_starts_nothing_more(world: Callable[[str], World]) -> None:
    it = world(HOURLY)
    it.scheduler.step()
    it.clock.advance(hours=1)
    it.scheduler.drain()
    it.scheduler.run()  # returns: nothing is at work
    with Store.open(it.folder / "timed.store", read_only=True) as store:
        assert store.table("job_runs").num_rows == 0


def test_a_job_that_nobody_ever_looked_after_is_late_from_its_first_slot_on(world: Callable[[str], World]) -> None:
    follows = '[jobs.b]\nkind = "own:run"\nafter = "a"\n'
    it = world(HOURLY + follows)
    known = START  # half a minute after midnight
    for minutes, state in ((30, "new"), (61, "new"), (63, "late")):
        it.clock.set(START + timedelta(minutes=minutes))
        assert it.health(known) == {"a": state, "b": "new"}
    assert it.health() == {"a": "new", "b": "new"}, "nobody said since when the file knows them"
    it.configure(HOURLY)
    it.go(timedelta(hours=1))
    it.configure(HOURLY + follows)
    assert it.health(known) == {"a": "ok", "b": "late"}


def test_a_clock_that_was_far_ahead_is_told_and_there_is_a_way_back(world: Callable[[str], World]) -> None:
    it = world(HOURLY + '[jobs.b]\nkind = "own:run"\nafter = "a"\n')
    it.go(timedelta(hours=1, minutes=10))
    right = it.clock.now()
    it.clock.set(datetime(2034, 1, 1, tzinfo=UTC))
    it.go(timedelta(minutes=1))
    it.clock.set(right)
    it.go(timedelta(hours=2))
    assert it.ran == ["a 01 00:00 0", "a 01 01:00 0", "b 01 00:00 0", "b 01 01:00 0"], "nothing runs but in 2034"
    assert it.health() == {"a": "ahead", "b": "ahead"}
    jobs = jobs_of(load(it.folder))
    with Store.open(it.folder / "timed.store", clock=it.clock) as store:
        for name in ("a", "b"):
            standing = standing_of(store, name)
            assert standing is not None
            after = rewound(store, jobs[name], standing)
            assert after.through == after.ok == datetime(2024, 6, 1, 1, tzinfo=UTC)
    assert it.health() == {"a": "late", "b": "waiting"}, "two o'clock and three o'clock have passed"
    it.go(timedelta(hours=1))
    assert it.ran[2:4] == ["a 01 03:00 0", "a 01 04:00 0"]
    assert it.ran[-1] == "b 01 04:00 0"
    assert it.health() == {"a": "ok", "b": "ok"}


def test_upkeep_that_meets_another_at_it_has_not_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.work.verbs.PAUSES_S", (0.0,))
    (tmp_path / "fleet.toml").write_text(CONFIG + '[jobs.upkeep]\nevery = "1h"\n', encoding="utf-8")
    with Fleet.open(tmp_path / "fleet.toml", clock=FixedClock(START)) as fleet:
        job = jobs_of(fleet.config)["upkeep"]
        with lease(fleet.store.path):
            held = claim_by_hand(fleet, job, slot=START, anew=False)
            assert held is not None
            done = perform(fleet, job, held)
        assert (done.status, len(done.notes)) == ("ok", 1)
        held = claim_by_hand(fleet, job, slot=START, anew=True)
        assert held is not None
        assert perform(fleet, job, held).notes == ()
