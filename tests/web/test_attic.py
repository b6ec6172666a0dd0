"""The pages of jobs and alerts: what ran beside its usual, why assets failed, what is open and what was said to it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from fleet import Fleet
from store.clock import FixedClock
from tests.web.conftest import NASTY, Client, served

#: Later than the wall clock, at which the fleet itself was made.
NOW = datetime(2031, 6, 10, 12, tzinfo=UTC)
JOBS = """
[jobs.nightly]
kind = "train"
cron = "0 2 * * *"
[jobs.hourly]
kind = "forecast"
every = "1h"
"""


def write(fleet: Fleet, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    transaction = fleet.store.begin()
    (transaction.insert if table in ("outcomes", "alert_actions") else transaction.replace)(table, rows)
    transaction.commit()


def ran(job: str, slot: datetime, seconds: float | None, **said: Any) -> dict[str, Any]:
    ended = None if seconds is None else slot + timedelta(seconds=seconds)
    plain = {"status": "ok", "assets": 4, "ok": 4, "failed": 0, "fell_back": 0, "skipped": 0, "attempt": 1}
    return {"job": job, "slot": slot, "started_at": slot, "ended_at": ended, "revision": 0, **plain, **said}


@pytest.fixture(scope="module")
def attic(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The small fleet with a week of nightly trainings, the last of which went badly, and three causes of alerts."""
    folder = tmp_path_factory.mktemp("attic") / "fleet"
    shutil.copytree(built, folder)
    with (folder / "fleet.toml").open("a", encoding="utf-8") as file:
        file.write(JOBS)
    with Fleet.open(folder / "fleet.toml", clock=FixedClock(NOW)) as fleet:
        nights = [datetime(2031, 6, day, 2, tzinfo=UTC) for day in range(3, 10)]
        rows = [
            ran("nightly", night, seconds) for night, seconds in zip(nights, (60, 62, 58, 61, 59, 60, 300), strict=True)
        ]
        last = datetime(2031, 6, 10, 2, tzinfo=UTC)
        rows.append(
            ran("nightly", last, 70, status="failed", ok=2, failed=1, fell_back=1, error=f"it broke at {NASTY}")
        )
        rows.append(ran("hourly", last + timedelta(hours=1), None, status="running"))
        write(fleet, "job_runs", rows)
        bad = {"job": "nightly", "slot": last, "product": "default", "recipe": "week"}
        write(fleet, "outcomes", [
            {**bad, "asset_id": NASTY, "status": "failed", "cause": "timeout", "error_code": "fit-failed"},
            {**bad, "asset_id": "north-1", "status": "fell_back", "cause": "too_short", "error_code": "too-short"},
            {**bad, "asset_id": "south-1", "status": "ok"},
        ])  # fmt: skip
        opened = NOW - timedelta(days=3)
        alert = {"opened_at": opened, "rule": "decay", "severity": "warning", "assets": 1}
        grave = {"severity": "critical", "assets": 2, "rule": "feeds, decay"}
        over = {"closed_at": opened + timedelta(days=1)}
        write(fleet, "alerts", [
            {**alert, "alert_id": "a1", "cause": "small", "impact": 2.0, "text": f"mae of {NASTY} grew"},
            {**alert, "alert_id": "a2", "cause": "large", "impact": 9.0, "text": "two feeds stopped", **grave},
            {**alert, "alert_id": "a3", "cause": "quiet", "impact": 5.0, "text": "works at the substation"},
            {**alert, "alert_id": "a4", "cause": "seen", "impact": 1.0, "text": "the vendor knows"},
            {**alert, "alert_id": "a5", "cause": "gone", "impact": 50.0, "text": "over", **over},
        ])  # fmt: skip
        member = {"rule": "feeds", "product": "default", "value": 0.5, "since": opened}
        write(fleet, "alert_assets", [
            {**member, "alert_id": "a2", "asset_id": "north-1", "impact": 3.0},
            {**member, "alert_id": "a2", "asset_id": "south-1", "impact": 6.0},
            {**member, "alert_id": "a2", "asset_id": "north-2", "impact": 8.0, "until": NOW},
        ])  # fmt: skip
        said = {"actor": "kim", "acted_at": opened + timedelta(hours=1)}
        write(fleet, "alert_actions", [
            {**said, "action_id": "x1", "alert_id": "a3", "action": "mute", "until": NOW + timedelta(hours=1)},
            {**said, "action_id": "x2", "alert_id": "a4", "action": "acknowledge", "note": f"asked {NASTY}"},
            {**said, "action_id": "x3", "alert_id": "a1", "action": "mute", "until": NOW - timedelta(hours=1)},
        ])  # fmt: skip
        with served(fleet) as client:
            yield client


def cells(text: str, label: str) -> list[list[str]]:
    """The rows of a page's table, each cell without its markup."""
    table = text.partition(f'aria-label="{label}"')[2].partition("</table>")[0].partition("<tbody>")[2]
    lines = [re.findall(r"<td[^>]*>(.*?)</td>", line, re.DOTALL) for line in table.split("<tr>")[1:]]
    return [[re.sub(r"<[^>]+>", "", cell).strip() for cell in line] for line in lines]


def test_a_run_stands_beside_what_is_usual_of_its_job(attic: Client) -> None:
    rows = cells(attic("/jobs?job=nightly").text, "Runs")
    assert [row[0] for row in rows][:2] == ["2031-06-10 02:00Z", "2031-06-09 02:00Z"]
    # The median of 60, 62, 58, 61, 59, 60 and 300: of those that went well, and not of the one that failed.
    assert [row[4:6] for row in rows][:2] == [["70", "60"], ["300", "60"]]
    assert rows[0][2] == "failed"
    assert rows[0][6:11] == ["4", "2", "1", "1", "0"]


def test_a_run_that_says_it_works_and_does_not_was_killed(attic: Client) -> None:
    rows = cells(attic("/jobs?job=hourly").text, "Runs")
    assert [(row[2], row[4]) for row in rows] == [("killed", "–")]


def test_why_assets_failed_is_told_by_cause_with_the_command_that_tries_again(attic: Client) -> None:
    rows = cells(attic("/jobs?days=7").text, "Why assets failed")
    assert [(row[0], row[1], row[2], row[3], row[7]) for row in rows] == [
        ("nightly", "failed", "timeout", "1", "tsfleet train --failed"),
        ("nightly", "fell back", "too_short", "1", "tsfleet train --failed"),
    ]


def test_a_run_lists_the_assets_that_did_not_come_through(attic: Client) -> None:
    slot = quote("2031-06-10T02:00:00+00:00")
    text = attic(f"/jobs?job=nightly&slot={slot}").text
    rows = cells(text, "Assets that did not come through")
    assert [row[3:5] for row in rows] == [["failed", "timeout"], ["fell_back", "too_short"]]
    assert len(cells(text, "Runs")) == 1


def test_a_job_that_nobody_looks_after_is_told_with_its_command(attic: Client) -> None:
    rows = {row[0]: row for row in cells(attic("/jobs").text, "How the jobs are")}
    assert rows["nightly"][2] == "new"
    assert "tsfleet jobs run nightly" in rows["nightly"][7]


def test_runs_are_narrowed_by_status_and_range(attic: Client) -> None:
    assert len(cells(attic("/jobs?job=nightly&status=failed").text, "Runs")) == 1
    # Back from the newest run, of 03:00 on the 10th.
    assert len(cells(attic("/jobs?job=nightly&days=2").text, "Runs")) == 2
    assert cells(attic("/jobs?job=nobody").text, "Runs") == [["no such run"]]
    assert attic("/jobs?days=0").status == 400


@pytest.mark.parametrize(
    "path", ["/jobs", "/jobs?job=nightly", "/alerts", "/alerts?q=" + quote(NASTY), "/alert?id=a4", "/alert?id=a1", "/"]
)
def test_a_name_is_text_in_the_attic_too(attic: Client, path: str) -> None:
    found = attic(path)
    assert found.status == 200
    assert "<img" not in found.text


def test_alerts_are_ranked_by_impact_and_closed_ones_are_apart(attic: Client) -> None:
    def listed(query: str) -> list[str]:
        causes = {"two feeds": "large", "mae of": "small", "works at": "quiet", "the vendor": "seen", "over": "gone"}
        rows = cells(attic(f"/alerts?{query}").text, "Alerts")
        return [cause for row in rows for begin, cause in causes.items() if row[1].startswith(begin)]

    assert listed("") == ["large", "quiet", "small", "seen"]
    assert listed("state=open") == ["large", "small"]
    assert listed("state=muted") == ["quiet"]
    assert listed("state=acknowledged") == ["seen"]
    assert listed("state=closed") == ["gone"]
    assert listed("sort=-severity&state=open") == ["large", "small"]
    assert listed("severity=critical") == ["large"]
    assert listed("rule=feeds") == ["large"]
    assert listed("q=VENDOR") == ["seen"]
    assert attic("/alerts?sort=text").status == attic("/alerts?state=odd").status == 400


def test_an_alert_shows_its_assets_those_that_left_last_and_what_was_said(attic: Client) -> None:
    found = attic("/alert?id=a2").text
    assert [row[0] for row in cells(found, "Assets")] == ["south-1", "north-1", "north-2"]
    assert [row[1:3] for row in cells(attic("/alert?id=a4").text, "What was said")] == [["acknowledge", "kim"]]
    assert attic("/alert?id=nobody").status == 404


def test_the_fleet_page_tells_of_alerts_that_are_open_and_leads_to_them(attic: Client) -> None:
    text = attic("/").text
    assert 'href="/alert?id=a2"' in text
    assert '<b>2</b><span><a href="/alerts">open alerts</a>' in text


@pytest.mark.parametrize("name", ["timeline", "durations", "alerts"])
def test_behind_every_figure_of_the_attic_is_a_table(attic: Client, name: str) -> None:
    made = json.loads(attic(f"/figures/{name}.json?days=30").body)
    assert made["data"]
    assert "<img" not in json.dumps(made)
    assert len(attic(f"/figures/{name}.csv?days=30").text.splitlines()) > 2
    assert "<table>" in attic(f"/figures/{name}.html?days=30").text


def test_a_token_for_some_assets_sees_neither_jobs_nor_alerts(attic: Client) -> None:
    token = attic.token("read", assets=("north-*",))
    for path in ("/jobs", "/alerts", "/alert?id=a2", "/figures/timeline.json", "/figures/alerts.csv"):
        assert attic(path, token=token).status == 403, path
