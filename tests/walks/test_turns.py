"""The work of a claimed run: a retry finishes what is left, under ids that go on counting, and doubles nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet import Fleet
from fleet.outcome import Progress
from fleet.turn import Turn
from jobs.due import jobs_of
from jobs.running import claim_by_hand, perform
from store.errors import Overtaken
from tests.walks.small import NOW, fleet_in, hourly

ASSETS = tuple(f"site-{number:02d}" for number in range(12))
CONFIG = """
[fleet]
name = "turns"
store = "turns.store"
horizon = 24
seasons = [24]

[data]
path = "history.parquet"

[recipes.day]
adapter = "seasonal_naive"
season = 24

[train]
workers = 1
fallback = ["day"]

[jobs.nightly]
kind = "forecast"
cron = "0 3 * * *"
"""
TURN = Turn(job="nightly", slot=NOW)


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    hourly(ASSETS, 20).to_parquet(tmp_path / "history.parquet")
    made = fleet_in(tmp_path, CONFIG)
    made.ingest()
    # Every asset is a chunk and a commit of its own, so that there is a middle.
    monkeypatch.setattr("fleet.ledger.COMMIT_ASSETS", 1)
    return made


def rows(fleet: Fleet, query: str) -> list[dict[str, Any]]:
    return [dict(row) for row in fleet.store.sql(query).rows()]


def stop_at(done: int) -> Any:
    def show(progress: Progress) -> None:
        if progress.done >= done:
            raise Killed

    return show


def issued(fleet: Fleet) -> list[dict[str, Any]]:
    return rows(fleet, "select asset_id, valid_time, role, mean from forecasts order by all")


def test_a_run_that_died_in_the_middle_is_finished_by_its_retry_and_nothing_is_doubled(fleet: Fleet) -> None:
    with pytest.raises(Killed):
        fleet.forecast(issue_time=NOW, job=TURN, progress=stop_at(1))
    begun = rows(fleet, "select asset_id from outcomes")
    assert begun, "nothing was committed before the end"
    done = fleet.forecast(issue_time=NOW, job=TURN)
    assert (done.assets, done.ok + done.fell_back, done.skipped) == (len(ASSETS), len(ASSETS), 0)
    told = rows(fleet, "select asset_id, count(*) as n, any_value(revision) as revision from outcomes group by 1")
    assert {row["asset_id"] for row in told} == set(ASSETS)
    assert {(row["n"], row["revision"]) for row in told} == {(1, 0)}
    assert len(issued(fleet)) == len(ASSETS) * 24
    again = fleet.forecast(issue_time=NOW, job=TURN)
    assert (again.assets, again.ok + again.fell_back) == (len(ASSETS), len(ASSETS))
    assert len(rows(fleet, "select 1 as one from outcomes")) == len(ASSETS)


def test_the_commits_of_a_run_have_its_ids_one_after_the_other(fleet: Fleet) -> None:
    fleet.forecast(issue_time=NOW, job=TURN)
    count = 0
    while fleet.store.committed(TURN.commit_id(count)) is not None:
        count += 1
    assert count > 0
    assert fleet.store.committed(replace(TURN, revision=1).commit_id(0)) is None


def test_a_new_revision_does_the_slot_anew(fleet: Fleet) -> None:
    fleet.forecast(issue_time=NOW, job=TURN)
    fleet.forecast(issue_time=NOW, job=replace(TURN, revision=1), reissue=True)
    told = rows(fleet, "select revision, count(*) as n from outcomes group by 1 order by 1")
    assert told == [{"revision": 0, "n": len(ASSETS)}, {"revision": 1, "n": len(ASSETS)}]
    assert len(issued(fleet)) == len(ASSETS) * 24


def test_the_claim_keeps_the_row_of_the_run(fleet: Fleet) -> None:
    fleet.forecast(issue_time=NOW, job=TURN)
    assert rows(fleet, "select * from job_runs") == []


def test_who_lost_the_claim_writes_nothing_more(fleet: Fleet) -> None:
    claim = fleet.store.begin()
    claim.mark("job:nightly", "another")
    claim.commit()
    fleet.store.fence("job:nightly", "mine")
    with pytest.raises(Overtaken):
        fleet.forecast(issue_time=NOW, job=TURN)
    assert issued(fleet) == []


def test_assets_that_fell_back_in_a_job_are_due_for_its_kind(fleet: Fleet) -> None:
    fleet.forecast(issue_time=NOW, job=TURN)  # nobody has a champion: the fallback forecasts
    assert fleet.forecast(issue_time=NOW, failed=True, dry_run=True).planned is not None
    found = rows(fleet, "select distinct status from outcomes")
    assert found == [{"status": "fell_back"}]


def test_the_job_of_the_file_goes_the_same_way(fleet: Fleet) -> None:
    job = jobs_of(fleet.config)["nightly"]
    held = claim_by_hand(fleet, job, slot=NOW, anew=False)
    assert held is not None
    done = perform(fleet, job, held)
    assert (done.status, done.fell_back) == ("ok", len(ASSETS))
    assert claim_by_hand(fleet, job, slot=NOW, anew=False) is None
    told = rows(fleet, "select job, slot, status, assets, fell_back from job_runs")
    assert told == [{"job": "nightly", "slot": NOW, "status": "ok", "assets": len(ASSETS), "fell_back": len(ASSETS)}]
    assert len(issued(fleet)) == len(ASSETS) * 24
