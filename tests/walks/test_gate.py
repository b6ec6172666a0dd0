"""The gate of a product: who is not done shortly before it gets a fallback, and what comes later replaces nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet import Fleet
from fleet.config import load
from fleet.errors import ConfigInvalid
from fleet.gate import Gate
from store.clock import from_micros, to_micros
from tests.walks.gated import ASSETS, at, slowed, trained


def rows(fleet: Fleet, query: str) -> list[Mapping[str, Any]]:
    return fleet.store.sql(query).rows()


def published(fleet: Fleet) -> dict[str, tuple[str, str, int]]:
    """By asset the role, quality and count of what was published."""
    asked = "select asset_id, role, quality, count(*) as n from published group by all order by all"
    found = {row["asset_id"]: (row["role"], row["quality"], row["n"]) for row in rows(fleet, asked)}
    assert len(found) == len(rows(fleet, "select distinct asset_id, role, quality from published"))
    return found


@pytest.mark.parametrize(("day", "steps"), [("2024-03-30", 92), ("2024-06-10", 96), ("2024-10-26", 100)])
def test_who_is_not_done_when_the_budget_is_left_gets_a_fallback_of_the_whole_day(
    tmp_path: Path, day: str, steps: int
) -> None:
    """In this process chunks of four: the second one never begins, since the first one took until 11:51."""
    fleet, issue, clock = trained(tmp_path / "fleet", day)
    with fleet:
        slowed(fleet, "b", at(issue, 21))
        report = fleet.forecast(issue_time=clock.now())
        assert (report.ok, report.fell_back, report.failed) == (4, 2, 0)
        assert {group.cause for group in report.failures} == {"cancelled"}
        on_time = dict.fromkeys("abcd", ("champion", "ok", steps))
        stood_in = dict.fromkeys("ef", ("fallback", "fallback", steps))
        assert published(fleet) == on_time | stood_in


@pytest.mark.parametrize(("day", "steps"), [("2024-03-30", 92), ("2024-10-26", 100)])
def test_what_comes_after_the_gate_is_late_and_replaces_nothing(tmp_path: Path, day: str, steps: int) -> None:
    fleet, issue, clock = trained(tmp_path / "fleet", day)
    with fleet:
        folder = fleet.config.folder
        slowed(fleet, "b", at(issue, 21))
        fleet.forecast(issue_time=clock.now())
        (folder / "slow").unlink()
        before, kept = published(fleet), fleet.store.table("published")
        clock.set(at(issue, 31))
        assert fleet.forecast(issue_time=clock.now(), failed=True).ok == 2
        assert published(fleet) == before
        late = rows(
            fleet,
            "select asset_id, role, quality, count(*) as n from forecasts where quality like '%late' group by all",
        )
        assert sorted((row["asset_id"], row["role"], row["quality"], row["n"]) for row in late) == [
            ("e", "champion", "late", steps),
            ("f", "champion", "late", steps),
        ]
        # Those of the others have the keys of what was published.
        report = fleet.forecast(issue_time=clock.now(), reissue=True)
        assert any("what was published stays" in line for line in report.notes)
        assert fleet.store.table("published").equals(kept)


def test_a_model_that_hangs_in_another_process_does_not_hold_up_the_fallbacks(tmp_path: Path) -> None:
    """Its own time would be an hour; nobody waits for it."""
    fleet, issue, clock = trained(tmp_path / "fleet", "2024-06-10", workers=2)
    with fleet:
        slowed(fleet, "c", at(issue, 20))
        (fleet.config.folder / "hangs").touch()
        report = fleet.forecast(issue_time=clock.now())
        assert report.ok + report.fell_back == len(ASSETS)
        assert report.failed == 0
        found = published(fleet)
        assert found["c"] == ("fallback", "fallback", 96)
        assert {n for _, _, n in found.values()} == {96}


def test_with_only_the_budget_left_rules_are_issued_at_once_and_nobody_waits(tmp_path: Path) -> None:
    fleet, issue, clock = trained(tmp_path / "fleet", "2024-06-10")
    with fleet:
        clock.set(at(issue, 25))
        assert fleet.forecast(issue_time=clock.now()).fell_back == len(ASSETS)
        # There is a forecast now, so a champion may take its time; until noon it counts.
        clock.set(at(issue, 28))
        assert fleet.forecast(issue_time=clock.now(), failed=True).ok == len(ASSETS)
        assert set(published(fleet).values()) == {("champion", "ok", 96)}


def test_behind_the_gate_champions_work_as_ever_and_all_of_it_is_late(tmp_path: Path) -> None:
    fleet, issue, clock = trained(tmp_path / "fleet", "2024-06-10")
    with fleet:
        clock.set(at(issue, 120))
        assert fleet.forecast(issue_time=clock.now()).ok == len(ASSETS)
        assert set(published(fleet).values()) == {("champion", "late", 96)}
        for minutes, n in ((119, 0), (120, 96)):
            known = fleet.store.sql(
                "select count(*) as n from forecast_as_of($t) where asset_id = 'a'", {"t": at(issue, minutes)}
            )
            assert known.rows()[0]["n"] == n


def test_the_gate_is_a_time_on_each_assets_clock() -> None:

    gate = Gate(at=12 * 3_600_000_000, budget=600_000_000)
    issue = to_micros(datetime(2024, 6, 10, 9, 30, tzinfo=UTC))
    noon = {tz: f"{from_micros(gate.closes(issue, tz)):%dT%H:%M}" for tz in ("Europe/Paris", "Europe/London", "UTC")}
    assert noon == {"Europe/Paris": "10T10:00", "Europe/London": "10T11:00", "UTC": "10T12:00"}
    assert gate.closes(issue, "UTC") - gate.deadline(issue, "UTC") == timedelta(minutes=10) // timedelta(microseconds=1)
    # The hour that Paris skips, and the one that it has twice: the first instant after the gap, the earlier of two.
    night = Gate(at=round(2.5 * 3_600_000_000), budget=1)
    for begin, closes in (("2024-03-30T22:00Z", "31T01:00"), ("2024-10-26T22:00Z", "27T00:30")):
        found = night.closes(to_micros(datetime.fromisoformat(begin)), "Europe/Paris")
        assert f"{from_micros(found):%dT%H:%M}" == closes


@pytest.mark.parametrize(
    "keys", ['budget = "5min"', 'gate = "11:33"', 'gate = "12:00"\nbudget = "30min"', 'gate = "noon"']
)
def test_a_gate_that_leaves_no_time_is_refused(tmp_path: Path, keys: str) -> None:
    (tmp_path / "fleet.toml").write_text(
        f'[products.day_ahead]\nissue = "11:30"\ntarget = "tomorrow"\n{keys}\n', encoding="utf-8"
    )
    with pytest.raises(ConfigInvalid) as caught:
        load(tmp_path)
    assert "accepted" in caught.value.message
    assert "day_ahead" in caught.value.message


def test_a_persons_word_behind_the_gate_changes_nothing_that_was_published(tmp_path: Path) -> None:
    fleet, issue, clock = trained(tmp_path / "fleet", "2024-06-10")
    with fleet:
        fleet.forecast(issue_time=clock.now())
        window = {"valid_from": at(issue, 13 * 60), "valid_to": at(issue, 14 * 60), "select": ["a"], "reason": "tests"}
        clock.set(at(issue, 29))
        assert fleet.adjust("add", 1.0, **window).late == 0
        kept = fleet.store.table("published")
        assert kept.filter(kept["role"].to_numpy() == "manual").num_rows == 4
        clock.set(at(issue, 31))
        done = fleet.adjust("add", 1.0, **{**window, "select": ["a", "b"]})
        assert (done.steps, done.late) == (8, 8)
        assert fleet.store.table("published").equals(kept)
        late = rows(fleet, "select asset_id, count(*) as n from forecasts where quality = 'late' group by 1")
        assert [(row["asset_id"], row["n"]) for row in late] == [("b", 4)]
