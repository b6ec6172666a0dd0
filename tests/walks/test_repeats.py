"""What is done again: repeated verbs, another number of processes, a reissue, a training that was interrupted."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from fleet import Fleet
from fleet.outcome import Report
from tests.walks.cycles import (
    ASSETS,
    BEGIN,
    CONFIG,
    DETERMINISTIC,
    END,
    LEVEL,
    Done,
    copied,
    cycle,
    data,
    later,
    next_day,
)
from tests.walks.small import fleet_in, without_ids


@pytest.fixture
def fleet(done: Done, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet of its own after one cycle."""
    with copied(done, tmp_path / "own") as made:
        yield made


def contents(fleet: Fleet, table: str) -> list[str]:
    """Every row of a table; a table is sorted by some of its columns, so equal ones may stand in any order."""
    return sorted(map(repr, fleet.store.table(table).to_pylist()))


# -- again ---------------------------------------------------------------------------------------------------------


def test_repeated_verbs_change_nothing(fleet: Fleet) -> None:
    # What has just arrived makes a new backtest and a new training due; after those nothing is.
    for verb in (lambda: fleet.train(promote=True), fleet.forecast):
        later(fleet)
        verb()
    before, head = {name: contents(fleet, name) for name in DETERMINISTIC}, fleet.store.head()
    repeats: tuple[Callable[[], Report], ...] = (
        fleet.backtest,
        lambda: fleet.train(promote=True),
        fleet.train,
        fleet.forecast,
        fleet.score,
    )
    for verb in repeats:
        later(fleet)
        report = verb()
        assert (report.skipped, report.ok, report.rows) == (len(ASSETS), 0, {})
    fleet.ingest(next_day())
    assert fleet.store.head() == head
    for name, found in before.items():
        assert contents(fleet, name) == found, name


def test_forecasts_do_not_depend_on_the_number_of_processes(done: Done, tmp_path: Path) -> None:
    """All was done in one process there, in two here."""
    with fleet_in(tmp_path / "two", CONFIG, LEVEL) as fleet:
        reports = cycle(fleet, workers=2)
        assert all(report.clean for report in (*done.reports.values(), *reports.values()))
        for name in DETERMINISTIC:
            found, expected = (without_ids(one.store, name) for one in (fleet, done.fleet))
            assert len(found) == len(expected) > 0, name
            assert found == expected, name


@pytest.mark.slow
def test_boosting_in_two_processes_says_what_it_says_in_one(tmp_path: Path) -> None:
    boosting = CONFIG.replace(
        "[train]\n", '[recipes.gbm]\nadapter = "lightgbm"\nlags = [24, 25, 168]\nrounds = 20\n\n[train]\n'
    )
    rows = {}
    for workers in (1, 2):
        with fleet_in(tmp_path / f"with-{workers}", boosting, LEVEL) as fleet:
            cycle(fleet, workers=workers)
            rows[workers] = {name: without_ids(fleet.store, name) for name in DETERMINISTIC}
    assert any("'gbm'" in row for row in rows[1]["forecasts"])
    assert rows[1] == rows[2]


# -- issued again --------------------------------------------------------------------------------------------------


def test_a_reissue_keeps_both_and_publishes_the_newer(fleet: Fleet) -> None:
    first = fleet.store.table("published")
    head = fleet.store.head()
    later(fleet)
    report = fleet.forecast(issue_time=END.to_pydatetime())
    assert (report.skipped, fleet.store.head()) == (len(ASSETS), head)
    later(fleet)
    fleet.forecast(issue_time=END.to_pydatetime(), reissue=True)
    published = fleet.store.table("published")
    assert published.num_rows == first.num_rows == len(ASSETS) * 24
    assert set(published["created_at"].to_pylist()) == {fleet.clock.now()}
    assert fleet.store.at(head).table("published").equals(first), "the first issue is history"
    # The same versions at the same issue time say the same.
    assert published["mean"].equals(first["mean"])


def test_another_version_at_the_same_issue_time_stands_beside_the_first(fleet: Fleet) -> None:
    end = END + pd.Timedelta(days=1)
    later(fleet)
    fleet.forecast(issue_time=end.to_pydatetime())
    first = fleet.store.table("forecasts", where={"role": "champion"}, since=end.to_pydatetime())
    later(fleet)
    fleet.train(recipes=["day"], judge=False, force=True)
    later(fleet)
    fleet.promote("day")
    later(fleet)
    fleet.forecast(issue_time=end.to_pydatetime(), reissue=True)
    again = fleet.store.table("forecasts", where={"role": "champion"}, since=end.to_pydatetime())
    assert again.num_rows == 2 * first.num_rows
    published = fleet.store.table("published", since=end.to_pydatetime()).to_pandas()
    assert len(published) == len(ASSETS) * 24
    assert not published.duplicated(["asset_id", "product", "issue_time", "valid_time"]).any()
    assert set(published["recipe"]) == {"day"}
    assert set(published["version_id"]) == set(fleet.store.table("champions")["version_id"].to_pylist())


def test_an_issue_in_the_past_uses_no_version_that_saw_what_came_later(fleet: Fleet) -> None:
    before = fleet.store.table("champions")
    later(fleet)
    fleet.train(promote=True)
    later(fleet)
    assert not fleet.store.table("champions")["version_id"].equals(before["version_id"]), "trained on another day"
    report = fleet.forecast(issue_time=END.to_pydatetime(), reissue=True)
    rows = fleet.store.sql(
        "select count(*) as late from forecasts f join runs r using (run_id) "
        "where f.role <> 'backtest' and r.train_end >= f.issue_time"
    ).rows()
    assert rows[0]["late"] == 0
    early = BEGIN + pd.Timedelta(days=20)
    report = fleet.forecast(issue_time=early.to_pydatetime())
    assert report.fell_back == len(ASSETS)
    assert {group.cause for group in report.failures} == {"exception"}


# -- interrupted ---------------------------------------------------------------------------------------------------


def test_an_interrupted_training_goes_on_and_ends_as_if_nothing_had_been(done: Done, tmp_path: Path) -> None:
    """Ctrl-C after the first chunk; what follows does the rest, once."""
    expected = {name: without_ids(done.fleet.store, name) for name in DETERMINISTIC}
    with fleet_in(tmp_path / "stopped", CONFIG, LEVEL) as fleet:
        fleet.ingest(data(30))
        stopped = fleet.backtest(
            workers=2, progress=lambda progress: os.kill(os.getpid(), signal.SIGINT) if progress.ok == 1 else None
        )
        assert stopped.interrupted
        assert 0 < stopped.ok < len(ASSETS)
        later(fleet)
        rest = fleet.backtest(workers=1)
        assert (rest.ok, rest.skipped) == (len(ASSETS) - stopped.ok, stopped.ok)
        cycle(fleet, workers=1)
        assert {name: without_ids(fleet.store, name) for name in DETERMINISTIC} == expected
