"""Alerts of fleets written by hand: how many causes, which, when they open and close, and who is told what."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from jobs.alerts.book import act
from jobs.claiming import change, first_standing
from jobs.due import jobs_of
from jobs.errors import AlertUnknown
from tests.jobs.watched import NOW, Watched, steady

RULES = """
[[alerts]]
name = "decay"
kind = "metric"
metric = "mae"
change = 0.5

[[alerts]]
name = "silent"
kind = "readings"
after = "6h"

[[alerts]]
name = "weather"
kind = "inputs"
after = "6h"

[[alerts]]
name = "failing"
kind = "outcomes"
"""
LOG = """
[channels.book]
kind = "log"
file = "alerts.jsonl"
"""
TEN = {f"p{k}": {} for k in range(10)}
DECAY = "decay: mae grew by 50% or more in 7 days"


def grown(factor: float, days: int = 35) -> list[float]:
    """Steady errors that are so many times as large in the last seven days."""
    return [*steady(days - 7), *(factor * error for error in steady(7, seed=1))]


def quiet(folder: Path, rules: str = RULES, extra: str = LOG) -> Watched:
    """Ten assets with nothing wrong, six of them at the station north, four at south."""
    world = Watched(folder, rules + extra, TEN)
    world.readings()
    world.weather({"north": NOW, "south": NOW})
    world.links({name: "north" if k < 6 else "south" for k, name in enumerate(TEN)})
    return world


def lines(world: Watched) -> list[tuple[str, str]]:
    """What the log was told: event and cause."""
    file = world.fleet.config.folder / "alerts.jsonl"
    if not file.exists():
        return []
    told = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [(one["event"], one["cause"]) for one in told]


def test_a_fleet_in_order_has_no_alert(tmp_path: Path) -> None:
    world = quiet(tmp_path)
    world.scores({name: steady(seed=k) for k, name in enumerate(TEN)})
    world.outcomes(dict.fromkeys(TEN, ("ok", None)))
    assert world.run().status == "ok"
    assert world.open() == {}
    assert lines(world) == []


def test_a_feed_that_stopped_is_one_cause_and_a_model_that_decays_another(tmp_path: Path) -> None:
    """p0 and p1 are worse because their feed stopped, p3 fell back for it; p8 is worse with all its data in order."""
    world = Watched(tmp_path, RULES + LOG, TEN)
    world.readings()
    world.weather({"north": NOW - timedelta(days=2), "south": NOW})
    world.links({name: "north" if k < 6 else "south" for k, name in enumerate(TEN)})
    world.scores({name: grown(2.0) if name in ("p0", "p1", "p8") else steady(seed=k) for k, name in enumerate(TEN)})
    world.outcomes({"p3": ("fell_back", "missing_covariate")})
    world.run()
    found = world.open()
    assert set(found) == {"inputs of north of weather", DECAY}
    assert found["inputs of north of weather"]["assets"] == 6
    assert found["inputs of north of weather"]["rule"] == "weather, failing, decay"
    assert found[DECAY]["assets"] == 1
    assert "p8" in found[DECAY]["text"]


def test_an_asset_whose_recipe_looks_at_no_weather_is_not_explained_by_it(tmp_path: Path) -> None:
    world = Watched(tmp_path, RULES, TEN)
    transaction = world.fleet.store.begin()
    row = {"asset_id": "p0", "product": "default", "recipe": "naive", "version_id": "n-p0", "since": NOW}
    transaction.promote([row], ["v-p0"], [])
    transaction.commit()
    world.readings()
    world.weather({"north": NOW - timedelta(days=2)})
    world.links(dict.fromkeys(TEN, "north"))
    world.scores({"p0": grown(2.0), "p1": grown(2.0)})
    world.run()
    assert {cause: row["assets"] for cause, row in world.open().items()} == {"inputs of north of weather": 9, DECAY: 1}


def test_stations_that_stop_together_are_their_source(tmp_path: Path) -> None:
    world = Watched(tmp_path, RULES, TEN)
    world.readings()
    world.weather({"north": NOW - timedelta(days=1), "south": NOW - timedelta(days=1)})
    world.links({name: "north" if k < 6 else "south" for k, name in enumerate(TEN)})
    world.run()
    assert {cause: row["assets"] for cause, row in world.open().items()} == {"inputs of weather": 10}


def test_meters_that_stopped_together_are_one_cause_and_an_older_one_its_own(tmp_path: Path) -> None:
    world = Watched(tmp_path, RULES, TEN)
    stopped = {f"p{k}": NOW - timedelta(hours=12 + k % 2) for k in range(4)} | {"p9": NOW - timedelta(days=9)}
    world.readings(stopped)
    world.scores({name: grown(3.0) for name in ("p0", "p9")})
    world.run()
    found = {cause: row["assets"] for cause, row in world.open().items()}
    assert found == {"no readings since 2024-06-09 12:00": 4, "no readings since 2024-06-01 00:00": 1}


def test_readings_that_stand_still_are_no_decay(tmp_path: Path) -> None:
    world = quiet(tmp_path)
    week = [NOW - timedelta(hours=k) for k in range(1, 7 * 24 + 1)]
    world.write("actuals", [{"asset_id": "p7", "valid_time": t, "y": 3.0, "available_at": NOW} for t in week])
    world.scores({"p7": grown(3.0)})
    world.run()
    assert set(world.open()) == {"readings stand still"}


def test_what_a_fallback_forecast_is_not_the_champions_decay(tmp_path: Path) -> None:
    world = quiet(tmp_path)
    world.scores({"p2": steady(28)}, end=NOW.date() - timedelta(days=7))
    world.scores({"p2": [2.0] * 7}, role={"p2": "fallback"})
    world.outcomes({"p2": ("fell_back", "timeout")})
    world.run()
    assert {cause: row["rule"] for cause, row in world.open().items()} == {
        "forecast fell back: timeout": "failing, decay"
    }


def test_a_change_within_the_noise_of_the_days_is_none(tmp_path: Path) -> None:
    """60 % more in the mean of the last days, where days of the past differ by as much themselves."""
    world = quiet(tmp_path)
    world.scores({"p2": [0.2, 1.8] * 14 + [1.6] * 7})
    world.run()
    assert world.open() == {}


def test_an_alert_opens_once_goes_on_below_its_bound_and_closes_below_half_of_it(tmp_path: Path) -> None:
    world = quiet(tmp_path)
    world.scores({"p8": grown(2.0)})
    world.run()
    (first,) = world.open().values()
    world.run()
    world.scores({"p8": grown(1.35)})  # below the bound of 50 %, above the half of it
    world.run(NOW + timedelta(hours=1))
    (held,) = world.open().values()
    assert held["alert_id"] == first["alert_id"]
    world.scores({"p8": grown(1.1)})
    world.run(NOW + timedelta(hours=2))
    assert world.open() == {}
    assert lines(world) == [("opened", DECAY), ("closed", DECAY)]
    world.scores({"p8": grown(1.35)})  # the same value does not open what is closed
    world.run(NOW + timedelta(hours=3))
    assert world.open() == {}
    (row,) = world.rows("select since, until from alert_assets where alert_id = '" + first["alert_id"] + "'")
    assert (row["since"], row["until"]) == (NOW, NOW + timedelta(hours=2))


def test_what_did_not_change_is_not_written_again(tmp_path: Path) -> None:
    world = quiet(tmp_path)
    world.scores({"p8": grown(2.0)})
    world.run()
    head = world.fleet.store.head()
    world.run(NOW + timedelta(hours=1))
    assert world.fleet.store.diff(head, world.fleet.store.head()).rows == {}


def test_an_alert_that_doubles_is_told_again_unless_acknowledged(tmp_path: Path) -> None:
    world = quiet(tmp_path)
    world.scores({"p1": grown(2.0)})
    world.run()
    world.scores({"p2": grown(2.0)})
    world.run(NOW + timedelta(hours=1))
    assert lines(world) == [("opened", DECAY), ("worse", DECAY)]
    (row,) = world.open().values()
    act(world.fleet.store, [row["alert_id"][-6:]], "acknowledge", at=NOW, actor="me")
    world.scores({name: grown(2.0) for name in ("p3", "p4", "p5")})
    world.run(NOW + timedelta(hours=2))
    assert len(lines(world)) == 2
    assert world.open()[DECAY]["assets"] == 5


def test_a_muted_cause_is_told_when_the_time_is_over(tmp_path: Path) -> None:
    world = quiet(tmp_path, extra="")
    world.scores({"p1": grown(2.0)})
    world.run()
    (row,) = world.open().values()
    act(world.fleet.store, [row["alert_id"]], "mute", at=NOW, actor="me", until=NOW + timedelta(hours=3))
    again = world.again(RULES + LOG)
    again.run(NOW + timedelta(hours=1))
    assert lines(again) == []
    again.run(NOW + timedelta(hours=3))
    assert lines(again) == [("opened", DECAY)]


def test_what_a_person_closed_stays_closed_until_the_cause_was_gone(tmp_path: Path) -> None:
    world = quiet(tmp_path)
    world.scores({"p1": grown(2.0)})
    world.run()
    (row,) = world.open().values()
    act(world.fleet.store, [row["alert_id"]], "close", at=NOW, actor="me", note="seen")
    world.run(NOW + timedelta(hours=1))
    assert world.open() == {}
    world.scores({"p1": steady()})
    world.run(NOW + timedelta(hours=2))
    world.scores({"p1": grown(2.0)})
    world.run(NOW + timedelta(hours=3))
    assert set(world.open()) == {DECAY}
    with pytest.raises(AlertUnknown):
        act(world.fleet.store, [row["alert_id"]], "close", at=NOW, actor="me")


def test_a_reminder_comes_while_nobody_acknowledges(tmp_path: Path) -> None:
    world = Watched(tmp_path, '[[alerts]]\nname = "failing"\nkind = "outcomes"\nremind = "12h"\n' + LOG, TEN)
    world.outcomes({"p1": ("failed", "exception")})
    cause = "forecast failed: exception"
    for hours in (0, 6, 12, 18):
        world.run(NOW + timedelta(hours=hours, minutes=1))
    assert lines(world) == [("opened", cause), ("reminder", cause)]
    act(world.fleet.store, [world.open()[cause]["alert_id"]], "acknowledge", at=NOW, actor="me")
    world.run(NOW + timedelta(hours=40))
    assert len(lines(world)) == 2


def test_alerts_are_ranked_by_gravity_and_then_by_what_they_cost(tmp_path: Path) -> None:
    """A megawatt weighs a thousand kilowatts; the error that grew from 0.1 to 0.2 of the readings costs 0.1 of it."""
    assets = {"small": {"capacity": 200.0}, "large": {"capacity": 2.0, "unit": "MW"}, "mid": {"capacity": 500.0}}
    rules = "".join(
        f'\n[[alerts]]\nname = "{name}"\nkind = "metric"\nchange = 0.5\nselect = "{name}"\nseverity = "{severity}"\n'
        for name, severity in (("small", "critical"), ("large", "warning"), ("mid", "warning"))
    )
    world = Watched(tmp_path, rules, assets)
    world.readings()
    world.scores({name: [1.0, 1.0, 1.0, 1.0001] * 7 + [2.0] * 7 for name in assets})
    world.run()
    rows = world.rows("select rule, impact from alerts order by alert_id")
    assert [row["rule"] for row in rows] == ["small", "large", "mid"]
    assert [row["impact"] for row in rows] == pytest.approx([20.0, 200.0, 50.0], rel=1e-3)


def test_money_weighs_where_every_asset_has_a_price(tmp_path: Path) -> None:
    assets = {"a": {"meta": '{"price": 50}'}, "b": {"meta": '{"price": 2}'}}
    world = Watched(tmp_path, '\n[[alerts]]\nname = "x"\nkind = "outcomes"\n', assets)
    world.outcomes({"a": ("failed", "timeout"), "b": ("failed", "memory")})
    world.run()
    rows = world.rows("select cause, impact from alerts order by impact desc")
    assert [row["impact"] for row in rows] == pytest.approx([100 * 0.1 * 50, 100 * 0.1 * 2])


def test_a_rule_says_which_assets_how_many_and_in_which_groups(tmp_path: Path) -> None:
    assets = {f"{place}{k}": {"region": place} for place in ("n", "s") for k in range(4)}
    rules = """
    [[alerts]]
    name = "by region"
    kind = "metric"
    above = 1.5
    group = "region"
    assets = 2
    where = "asset_id <> 'n3'"
    """
    world = Watched(tmp_path, rules, assets)
    world.readings()
    world.scores({"n0": grown(2.0), "n1": grown(2.0), "n3": grown(2.0), "s0": grown(2.0)})
    world.run()
    (row,) = world.open().values()
    assert (row["assets"], row["cause"]) == (2, "by region: mae beyond 1.5 in region n")


def test_a_job_that_failed_or_is_late_is_an_alert(tmp_path: Path) -> None:
    rules = """
    [jobs.score]
    every = "1h"
    [jobs.ingest]
    every = "1h"
    [[alerts]]
    name = "jobs"
    kind = "jobs"
    after = "3h"
    severity = "critical"
    """
    world = Watched(tmp_path, rules)

    def said(job: str, hours: float, status: str, error: str | None = None) -> None:
        at = NOW - timedelta(hours=hours)
        row = {"job": job, "slot": at, "status": status, "started_at": at, "ended_at": at, "error": error}
        world.write("job_runs", [row])

    said("score", 5, "ok")
    said("ingest", 2, "ok")
    said("ingest", 1, "failed", "the disk is full\nand more")
    world.run()
    found = world.open()
    assert found["job ingest"]["text"] == "job ingest failed, no success since 2024-06-09 22:00 UTC: the disk is full"
    assert found["job score"]["text"] == "job score late, no success since 2024-06-09 19:00 UTC"
    said("score", -0.5, "ok")
    said("ingest", -0.5, "ok")
    world.run(NOW + timedelta(hours=1))
    assert world.open() == {}


def test_a_job_is_late_by_its_own_clock_also_one_that_never_ran(tmp_path: Path) -> None:
    """The file says so since half past eight in the evening: from nine on, slots are of a job that nobody has begun."""
    rules = """
    [jobs.score]
    cron = "0 * * * *"
    [jobs.seldom]
    kind = "score"
    cron = "0 3 * * 1"
    [[alerts]]
    name = "jobs"
    kind = "jobs"
    """
    world = Watched(tmp_path, rules)
    since = (NOW - timedelta(hours=3, minutes=30)).timestamp()
    os.utime(world.fleet.config.file, (since, since))
    world.run(NOW - timedelta(hours=2, minutes=55))
    assert world.open() == {}, "a slot that is five minutes old may be waiting for another job to end"
    world.run(NOW - timedelta(minutes=30))
    assert [row["text"] for row in world.open().values()] == [
        "job score late, due 2024-06-09 21:00 UTC, no success yet"
    ]
    store, job = world.fleet.store, jobs_of(world.fleet.config)["score"]
    standing = first_standing(store, "score", NOW - timedelta(hours=2))
    change(store, job, standing, replace(standing, through=NOW, slot=NOW, status="ok", ok=NOW))
    world.run(NOW + timedelta(minutes=30))
    assert world.open() == {}
    world.run(NOW + timedelta(hours=1, minutes=30))
    (row,) = world.open().values()
    assert "job score late, due 2024-06-10 01:00 UTC" in row["text"]


def test_an_asset_that_is_planned_or_retired_is_not_silent(tmp_path: Path) -> None:
    world = Watched(tmp_path, RULES, {"a": {}, "soon": {"state": "planned"}, "gone": {"state": "retired"}})
    world.readings({name: NOW - timedelta(days=3) for name in ("a", "soon", "gone")})
    world.run()
    (row,) = world.open().values()
    assert row["assets"] == 1
