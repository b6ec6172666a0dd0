"""REST: forms, pages, freshness, scopes, assets."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from fleet import Fleet
from jobs.alerts.book import read
from tests.web.conftest import NASTY, Answer, Client, served

PAGED = ("assets", "runs", "metrics", "forecasts", "actuals", "scores", "decisions", "job-runs", "alerts")
LISTS = (*PAGED, "leaderboard")


@pytest.mark.parametrize("name", LISTS)
def test_every_list_comes_in_four_forms_that_say_the_same(ask: Client, name: str) -> None:
    path = f"/api/v1/{name}?limit=7" if name != "leaderboard" else "/api/v1/leaderboard"
    plain = ask(path)
    assert plain.status == 200, plain.text
    rows = plain.json["rows"]
    join = "&" if "?" in path else "?"
    arrow = pa.ipc.open_stream(ask(path, accept="application/vnd.apache.arrow.stream").body).read_all()
    parquet = pq.read_table(io.BytesIO(ask(f"{path}{join}format=parquet").body))
    text = ask(f"{path}{join}format=csv")
    assert arrow.num_rows == parquet.num_rows == len(rows)
    assert arrow.column_names == parquet.column_names
    if rows:
        assert list(rows[0]) == arrow.column_names
        assert csv.read_csv(
            io.BytesIO(text.body), parse_options=csv.ParseOptions(newlines_in_values=True)
        ).num_rows == len(rows)


@pytest.mark.parametrize("name", PAGED)
def test_pages_put_together_are_the_list(ask: Client, name: str) -> None:
    extra = "&which=published" if name == "forecasts" else "&since=2024-03-27T00:00:00Z" if name == "actuals" else ""
    whole = ask(f"/api/v1/{name}?limit=2000{extra}").json["rows"]
    found: list[object] = []
    size = max(2, len(whole) // 4)
    page = ask(f"/api/v1/{name}?limit={size}{extra}").json
    found += page["rows"]
    while page["next"]:
        page = ask(f"/api/v1/{name}?limit={size}{extra}&after={page['next']}").json
        found += page["rows"]
    assert found == whole


def test_a_page_stands_on_the_snapshot_of_the_first(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "f")
    with Fleet.open(tmp_path / "f" / "fleet.toml") as fleet, served(fleet) as ask:
        first = ask("/api/v1/runs?limit=3").json
        with fleet.store.run(asset="north-1", recipe="own"):
            pass
        second = ask(f"/api/v1/runs?limit=500&after={first['next']}").json
        assert second["snapshot"] == first["snapshot"] < ask("/api/v1/snapshot").json["snapshot"]
        assert all(row["recipe"] != "own" for row in second["rows"])


def test_an_etag_answers_before_anything_is_asked(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "f")
    with Fleet.open(tmp_path / "f" / "fleet.toml") as fleet, served(fleet) as ask:
        tag = ask("/api/v1/assets").headers["etag"]
        again = ask("/api/v1/leaderboard", If_None_Match=tag)
        assert (again.status, again.body) == (304, b"")
        token = ask.token("read", assets=("north-*",))
        assert ask("/api/v1/assets", token=token, If_None_Match=tag).status == 200
        with fleet.store.run(asset="north-1", recipe="own"):
            pass
        assert ask("/api/v1/assets", If_None_Match=tag).status == 200


def test_numbers_that_json_lacks_are_null_and_instants_have_their_zone(ask: Client) -> None:
    row = ask("/api/v1/forecasts?limit=1").json["rows"][0]
    assert row["issue_time"] == "2024-03-29T00:00:00Z"
    assert "NaN" not in ask("/api/v1/leaderboard?metric=mase_24&metric=coverage_80").text


def test_forecasts_are_the_latest_the_published_or_as_of_an_instant(ask: Client) -> None:
    latest = ask("/api/v1/forecasts?asset=north-1").json["rows"]
    assert len(latest) == 24
    issue = latest[0]["issue_time"]
    assert ask(f"/api/v1/forecasts?asset=north-1&as_of={issue}").json["rows"] == latest
    assert ask("/api/v1/forecasts?asset=north-1&as_of=2020-01-01T00:00:00Z").json["rows"] == []
    assert ask(f"/api/v1/forecasts?asset=north-1&issue_time={issue}&which=published").json["rows"] == latest
    assert ask("/api/v1/forecasts?asset=north-1&asset=south-1").json["rows"][-1]["asset_id"] == "south-1"
    assert not any(name.startswith("q1") for name in ask("/api/v1/forecasts?quantile=0.9").json["rows"][0])


@pytest.mark.parametrize(
    "path",
    [
        "assets?limit=0",
        "assets?limit=x",
        "assets?format=xml",
        "assets?after=x",
        "assets?after=W10",
        "actuals?since=2024-01-01",
        "forecasts?quantile=2",
        "leaderboard?metric=nonsense",
        "leaderboard?by=nonsense",
        "leaderboard?product=nonsense",
        "leaderboard?since=2024-02-01&until=2024-01-01",
    ],
)
def test_what_does_not_hold_is_told_as_a_problem(ask: Client, path: str) -> None:
    found = ask(f"/api/v1/{path}")
    assert found.status == 400, found.text
    assert found.headers["content-type"] == "application/problem+json"


def test_sql_in_a_parameter_is_a_value(ask: Client) -> None:
    for text in ("x' or '1'='1", "x'; drop table assets; --", "$asset0", "%", "\\"):
        from urllib.parse import quote

        assert ask(f"/api/v1/assets?kind={quote(text)}").json["rows"] == []
        assert ask(f"/api/v1/runs?asset={quote(text)}").json["rows"] == []


def test_openapi_has_an_example_of_every_answer(ask: Client) -> None:
    paths = ask("/api/v1/openapi.json").json["paths"]
    assert {f"/api/v1/{name}" for name in LISTS} < set(paths)
    for path, acts in paths.items():
        for act in acts.values():
            assert "default" in act["responses"], path
            answer = next(answer for code, answer in act["responses"].items() if code.startswith("2"))
            assert any(
                "example" in content or "text/plain" in answer["content"] for content in answer["content"].values()
            ), path


def test_prometheus_reads_the_state(ask: Client) -> None:
    lines = ask("/metrics").text.splitlines()
    assert 'tsfleet_champions{product="default"} 3' in lines
    assert ask("/healthz").json == {"alive": True}
    deadline = monotonic() + 60
    while (found := ask("/readyz")).status == 503:
        assert (found.problem, monotonic() < deadline) == ("starting", True)
    assert found.json == {"ready": True}


# ------------------------------------------------------------------------------------------------- scopes and assets


def test_a_token_for_some_assets_gets_no_row_of_another(ask: Client) -> None:
    token = ask.token("read", assets=("north-*",))
    for name in ("assets", "runs", "metrics", "forecasts", "actuals", "scores", "decisions"):
        whole = ask(f"/api/v1/{name}?limit=50000", token=token).json["rows"]
        assert whole
        assert {row["asset_id"] for row in whole} == {"north-1", "north-2"}, name
        for escape in ("south-1", "*", "north-*", "north-1,south-1", NASTY):
            from urllib.parse import quote

            assert ask(f"/api/v1/{name}?asset={quote(escape)}", token=token).json["rows"] == [], name
    by_asset = ask("/api/v1/leaderboard?by=asset", token=token).json["rows"]
    assert {row["asset"] for row in by_asset} == {"north-1", "north-2"}
    assert ask("/api/v1/leaderboard?asset=south-1", token=token).status == 404
    for name in ("/", "/metrics", "/api/v1/job-runs", "/api/v1/alerts"):
        assert (ask(name, token=token).status, ask(name, token=token).problem) == (403, "assets-missing")


def test_a_cursor_gives_no_more_than_its_bearer_may_see(ask: Client) -> None:
    cursor = ask("/api/v1/actuals?limit=1").json["next"]
    token = ask.token("read", assets=("south-*",))
    rows = ask(f"/api/v1/actuals?limit=50000&after={cursor}", token=token).json["rows"]
    assert {row["asset_id"] for row in rows} == {"south-1"}


@pytest.fixture
def writing(built: Path, tmp_path: Path) -> Iterator[Client]:
    shutil.copytree(built, tmp_path / "f")
    with Fleet.open(tmp_path / "f" / "fleet.toml") as fleet, served(fleet) as ask:
        yield ask


def upload(ask: Client, rows: object, token: str | None) -> object:
    return ask(
        "/api/v1/actuals", method="POST", body=json.dumps({"rows": rows}), token=token, Content_Type="application/json"
    )


ROWS = [{"asset_id": "north-1", "valid_time": "2024-03-29T00:00:00Z", "y": 11.5}]


def test_readings_come_in_once_however_often_they_are_sent(writing: Client) -> None:
    token = writing.token("operate", assets=("north-*",))
    first = upload(writing, ROWS, token)
    assert (first.status, first.json["written"]) == (200, {"actuals": 1}), first.text  # type: ignore[attr-defined]
    assert upload(writing, ROWS, token).json["written"] == {}  # type: ignore[attr-defined]
    stored = writing("/api/v1/actuals?asset=north-1&since=2024-03-29T00:00:00Z").json["rows"]
    assert [row["y"] for row in stored] == [11.5]
    table = pa.table({"unique_id": ["north-2"], "ds": ["2024-03-29T00:00:00Z"], "y": [1.0]})
    sink = io.BytesIO()
    csv.write_csv(table, sink)
    came = writing("/api/v1/actuals", method="POST", body=sink.getvalue(), token=token, Content_Type="text/csv")
    assert came.json["written"] == {"actuals": 1}


def test_who_may_only_read_or_has_other_assets_writes_nothing(writing: Client) -> None:
    head = writing("/api/v1/snapshot").json["snapshot"]
    assert upload(writing, ROWS, None).status == 403  # type: ignore[attr-defined]
    for scopes, assets in ((("read",), ()), (("approve",), ()), (("operate",), ("south-*",))):
        assert upload(writing, ROWS, writing.token(*scopes, assets=assets)).status == 403  # type: ignore[attr-defined]
    mixed = [*ROWS, {"asset_id": "south-1", "valid_time": "2024-03-29T00:00:00Z", "y": 1.0}]
    assert upload(writing, mixed, writing.token("operate", assets=("north-*",))).status == 403  # type: ignore[attr-defined]
    assert writing("/api/v1/snapshot").json["snapshot"] == head


@pytest.mark.parametrize(
    ("body", "media", "status"),
    [
        (b"", "application/json", 422),
        (b"[]", "application/json", 422),
        (b'{"rows": [1]}', "application/json", 422),
        (b'{"rows": [{"asset_id": "x"}]}', "application/json", 422),
        (b"\x80\x02", "application/vnd.apache.parquet", 422),
        (b"\x80\x02", "application/vnd.apache.arrow.stream", 422),
        (b"cos\nsystem\n", "application/x-pickle", 415),
    ],
)
def test_a_body_that_does_not_hold_is_told(writing: Client, body: bytes, media: str, status: int) -> None:
    found = writing("/api/v1/actuals", method="POST", body=body, token=writing.token("operate"), Content_Type=media)
    assert found.status == status, found.text


def test_writes_stand_in_the_audit(writing: Client) -> None:
    upload(writing, ROWS, writing.token("operate"))
    line = writing("/api/v1/audit", token=writing.token("admin")).json["rows"][0]
    assert (line["act"], line["actor"], line["assets"]) == ("upload", "test", ["north-1"])
    assert writing("/api/v1/audit").status == 403


def test_a_job_is_asked_for_where_somebody_runs_jobs(writing: Client) -> None:
    token = writing.token("operate")
    asked = {"method": "POST", "body": "", "token": token}
    assert writing("/api/v1/jobs/nightly/runs", **asked).status == 400  # type: ignore[arg-type]
    found = writing("/api/v1/jobs/nightly/runs", **asked, Idempotency_Key="k")  # type: ignore[arg-type]
    assert (found.status, found.problem) == (501, "jobs-missing")


def test_somebody_on_call_answers_an_alert_and_the_audit_says_who(writing: Client) -> None:
    store, now = writing.fleet.store, writing.fleet.clock.now()
    rows = [
        {"alert_id": f"a{n}", "opened_at": now, "rule": "late", "cause": f"feed {n}", "assets": 41, "text": "late"}
        for n in (1, 2)
    ]
    transaction = store.begin()
    transaction.insert("alerts", rows)
    transaction.commit()
    token, until = writing.token("operate"), "2100-01-01T00:00:00Z"

    def say(alert: str, who: str | None = token, **body: str) -> Answer:
        path = f"/api/v1/alerts/{alert}/actions"
        return writing(path, method="POST", body=json.dumps(body), token=who, Content_Type="application/json")

    assert say("a1", action="acknowledge", note="the vendor is on it").json["actor"] == "test"
    assert say("a1", action="mute", until=until).json["until"] == until
    assert say("a2", action="close").status == 200
    assert [one.alert_id for one in read(store.snapshot()).alerts if one.acknowledged and one.muted_until] == ["a1"]
    assert [row["alert_id"] for row in writing("/api/v1/alerts?open=true").json["rows"]] == ["a1"]
    assert (say("a2", action="close").status, say("a1", action="close").status) == (404, 200)
    lines = writing("/api/v1/audit", token=writing.token("admin")).json["rows"]
    assert [(line["alert"], line["action"]) for line in lines if line["act"] == "alert"][-1] == ("a1", "acknowledge")


@pytest.mark.parametrize(
    ("scope", "body", "status"),
    [
        ("read", {"action": "close"}, 403),
        ("operate", {"action": "shout"}, 400),
        ("operate", {"action": "mute"}, 422),
        ("operate", {"action": "mute", "until": "2001-01-01T00:00:00Z"}, 422),
        ("operate", {"action": "close", "until": "2100-01-01T00:00:00Z"}, 422),
        ("operate", {"action": "close"}, 404),
    ],
)
def test_a_word_on_an_alert_needs_its_scope_and_its_form(
    writing: Client, scope: str, body: dict[str, str], status: int
) -> None:
    sent = {"body": json.dumps(body), "Content_Type": "application/json", "token": writing.token(scope)}
    found = writing("/api/v1/alerts/none/actions", method="POST", **sent)  # type: ignore[arg-type]  # as above
    assert found.status == status, found.text
