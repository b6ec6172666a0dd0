"""Deliveries: hand-computed files, a real HTTP server that fails at times, a database, a process that is killed."""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import pyarrow.parquet as pq
import pytest

from fleet import Fleet
from fleet.config import JobSection, load
from fleet.errors import ConfigInvalid
from jobs.cli.exits import Exit
from jobs.deliver import book
from jobs.deliver.sending import Delivered, Sender, deliver, resend
from jobs.errors import DeliveryInvalid, DeliveryMissing
from jobs.work import Work
from jobs.work.deliver import run
from store.clock import FixedClock
from tests.jobs.typed import Typed
from tests.walks.gated import at, slowed, trained
from tests.walks.paris import TZ, clock_readings, half_past_eleven
from tests.walks.small import fleet_in

FLEET = """
[fleet]
timezone = "Europe/Paris"
freq = "15min"
seasons = [96]

[assets]
path = "assets.csv"

[data]
path = "readings.parquet"

[products.day_ahead]
issue = "11:30"
target = "tomorrow"

[recipes.day]
adapter = "seasonal_naive"

[train]
workers = 1
fallback = ["daily_naive"]
"""


class Made(Protocol):
    """A fleet of one's own with its forecasts issued, and these deliveries."""

    def __call__(self, folder: Path, deliveries: str, day: str = "2024-06-10", models: str = "") -> Fleet: ...


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two assets whose readings tell the time, and their forecasts of the day after, issued at half past eleven."""
    home = tmp_path_factory.mktemp("deliver")

    @cache
    def issued(day: str) -> tuple[Path, datetime]:
        folder = home / day
        folder.mkdir()
        (folder / "assets.csv").write_text("asset_id,unit\na,kW\nb,MW\n", encoding="utf-8")
        issue = half_past_eleven(pd.Timestamp(day, tz=TZ))
        quarters = clock_readings(day).query("unique_id == 'quarters' and ds < @issue")
        pd.concat([quarters.assign(unique_id=name) for name in "ab"]).to_parquet(folder / "readings.parquet")
        with fleet_in(folder, FLEET, at=issue.to_pydatetime()) as fleet:
            fleet.ingest()
            assert fleet.forecast(issue_time=fleet.clock.now()).failed == 0
        return folder, issue.to_pydatetime()

    def copied(folder: Path, deliveries: str, day: str = "2024-06-10", models: str = "") -> Fleet:
        template, issue = issued(day)
        shutil.copytree(template, folder, dirs_exist_ok=True)
        return fleet_in(folder, FLEET + deliveries, models, at=issue)

    return copied


def sender(fleet: Fleet, **changes: Any) -> Sender:
    given: dict[str, Any] = {"job": "deliver", "environ": {}, "wait": lambda _: None, **changes}
    return Sender(fleet=fleet, **given)


def sent(fleet: Fleet, name: str = "desk", **changes: Any) -> Delivered:
    return deliver(sender(fleet, **changes), name, fleet.clock.now())


def told(fleet: Fleet) -> list[tuple[int, str, int]]:
    return [(row["number"], row["status"], row["attempts"]) for row in book.entries(fleet.store)]


# -- what is in it ----------------------------------------------------------------------------------------------------

DAYS = """
[deliveries.desk]
format = "csv"
path = "out/{product}-{date}-{number}.csv"
layout = "local-day"
"""


def hands(day: str) -> list[int]:
    """The clock of each quarter of a local day: from two to three is skipped in March, and comes twice in October."""
    quarters = [hour * 100 + minute for hour in range(24) for minute in (0, 15, 30, 45)]
    match day:
        case "2024-03-31":
            return quarters[:8] + quarters[12:]
        case "2024-10-27":
            return quarters[:12] + quarters[8:12] + quarters[12:]
        case _:
            return quarters


@pytest.mark.parametrize(("day", "steps"), [("2024-03-31", 92), ("2024-06-11", 96), ("2024-10-27", 100)])
def test_a_local_day_has_as_many_columns_as_quarters(made: Made, tmp_path: Path, day: str, steps: int) -> None:
    """A forecast repeats the same clock of the day before, so its value is the clock of its step."""
    before = f"{pd.Timestamp(day) - pd.Timedelta(days=1):%Y-%m-%d}"
    with made(tmp_path, DAYS, before) as fleet:
        sent(fleet)
        with (tmp_path / "out" / f"day_ahead-{day}-1.csv").open(newline="") as file:
            head, *lines = csv.reader(file)
    assert head == ["asset_id", "date", "value", *map(str, range(1, steps + 1))]
    assert [line[:3] for line in lines] == [["a", day, "mean"], ["b", day, "mean"]]
    clock = hands(day)
    assert len(clock) == steps
    for line in lines:
        assert [float(value) for value in line[3:]] == clock


def test_a_day_that_begins_in_the_middle_leaves_its_first_columns_empty(tmp_path: Path) -> None:
    rolling = FLEET.replace('issue = "11:30"\ntarget = "tomorrow"', "horizon = 4").replace("day_ahead", "next")
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "assets.csv").write_text("asset_id,unit\na,kW\n", encoding="utf-8")
    end = pd.Timestamp("2024-06-10 23:30", tz=TZ)
    with fleet_in(tmp_path / "f", rolling + DAYS, at=end.to_pydatetime()) as fleet:
        quarters = clock_readings("2024-06-10").query("unique_id == 'quarters' and ds < @end")
        fleet.ingest(quarters.assign(unique_id="a"))
        fleet.forecast()
        sent(fleet)
        with (tmp_path / "f" / "out" / "next-2024-06-10-1.csv").open(newline="") as file:
            _, first, second = csv.reader(file)
    assert first[:3] == ["a", "2024-06-10", "mean"]
    assert first[3:] == [""] * 94 + ["2330", "2345"]
    assert second[3:] == ["0", "15"] + [""] * 94


LONG = """
[deliveries.desk]
format = "FORMAT"
path = "out/{issue}.FORMAT"
unit = "MW"
decimals = 3
columns = { asset_id = "plant", valid_time = "from", local_time = "clock", step = "n", mean = "mw" }
"""


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_columns_are_named_ordered_and_counted_as_the_receiver_wants(made: Made, tmp_path: Path, form: str) -> None:
    """2345 kW are 2.345 MW; what is counted in MW stays."""
    with made(tmp_path, LONG.replace("FORMAT", form)) as fleet:
        sent(fleet)
    path = tmp_path / "out" / f"20240610T0930Z.{form}"
    frame = pd.read_csv(path) if form == "csv" else pq.read_table(path).to_pandas()
    assert list(frame.columns) == ["plant", "from", "clock", "n", "mw"]
    assert len(frame) == 2 * 96
    last = frame.groupby("plant").last()
    assert last["mw"].to_dict() == {"a": 2.345, "b": 2345.0}
    assert set(last["clock"]) == {"2024-06-11T23:45:00+02:00"}
    assert set(pd.to_datetime(last["from"], utc=True)) == {pd.Timestamp("2024-06-11T21:45Z")}


def test_an_asset_without_a_unit_is_named(made: Made, tmp_path: Path) -> None:
    with made(tmp_path, LONG.replace("FORMAT", "csv").replace('"MW"', '"MWh"')) as fleet:
        with pytest.raises(DeliveryInvalid) as caught:
            sent(fleet)
        assert "a is counted in kW" in caught.value.message
        assert book.entries(fleet.store) == []


# -- once, under one number ------------------------------------------------------------------------------------------


def test_what_was_sent_is_not_sent_again_and_what_changed_has_the_next_number(made: Made, tmp_path: Path) -> None:
    with made(tmp_path, DAYS) as fleet:
        assert isinstance(fleet.clock, FixedClock)
        first, again = sent(fleet), sent(fleet)
        assert (len(first.rows), len(again.rows), again.assets) == (1, 0, 2)
        begin = datetime(2024, 6, 11, 10, tzinfo=UTC)
        fleet.adjust("add", 1.0, valid_from=begin, valid_to=begin + timedelta(hours=1), reason="tests", select=["a"])
        assert [row["number"] for row in sent(fleet).rows] == [2]
        assert told(fleet) == [(1, "sent", 1), (2, "sent", 1)]
        proof = book.entries(fleet.store)[0]
        assert proof["sent_at"] == fleet.clock.now()
        assert (proof["rows"], proof["issue_time"], proof["job"]) == (2, fleet.clock.now(), "deliver")
        data = (tmp_path / "out" / "day_ahead-2024-06-11-1.csv").read_bytes()
        assert proof["sha256"] == sha256(data).hexdigest()


def test_a_number_is_sent_again_as_it_was_though_more_was_published_since(made: Made, tmp_path: Path) -> None:
    with made(tmp_path, DAYS) as fleet:
        sent(fleet)
        path = tmp_path / "out" / "day_ahead-2024-06-11-1.csv"
        data = path.read_bytes()
        path.unlink()
        begin = datetime(2024, 6, 11, 10, tzinfo=UTC)
        fleet.adjust("add", 1.0, valid_from=begin, valid_to=begin + timedelta(hours=1), reason="tests")
        row = resend(sender(fleet), "desk", 1)
        assert path.read_bytes() == data
        assert (row["number"], row["status"], row["attempts"]) == (1, "sent", 2)
        with pytest.raises(DeliveryMissing):
            resend(sender(fleet), "desk", 2)


KILLED = """
import os, signal, sys
from datetime import datetime
from pathlib import Path
from fleet import Fleet
from jobs.deliver.sending import Sender, deliver
from jobs.deliver.targets import transmit
from store.clock import FixedClock

def and_die(parcel, environ, wait):
    transmit(parcel, environ, wait)
    os.kill(os.getpid(), signal.SIGKILL)

at = datetime.fromisoformat(sys.argv[2])
fleet = Fleet.open(sys.argv[1], clock=FixedClock(at))
deliver(Sender(fleet=fleet, job="deliver", environ={}, wait=None, transmit=and_die), "desk", at)
"""


def test_killed_between_rename_and_record_the_same_number_brings_the_same_bytes(made: Made, tmp_path: Path) -> None:
    with made(tmp_path, DAYS) as fleet:
        at = fleet.clock.now()
    died = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), at.isoformat()], check=False)
    assert died.returncode == -9
    path = tmp_path / "out" / "day_ahead-2024-06-11-1.csv"
    data, inode = path.read_bytes(), path.stat().st_ino
    with Fleet.open(tmp_path, clock=FixedClock(at + timedelta(hours=1))) as fleet:
        assert told(fleet) == [(1, "prepared", 0)]
        # Something else is published by now; the number that may have arrived comes first, as it was.
        begin = datetime(2024, 6, 11, 10, tzinfo=UTC)
        fleet.adjust("add", 1.0, valid_from=begin, valid_to=begin + timedelta(hours=1), reason="tests")
        done = sent(fleet)
        assert [row["number"] for row in done.rows] == [1, 2]
        assert told(fleet) == [(1, "sent", 1), (2, "sent", 1)]
    assert path.read_bytes() == data
    assert path.stat().st_ino != inode
    assert sorted(file.name for file in path.parent.iterdir()) == [f"day_ahead-2024-06-11-{n}.csv" for n in (1, 2)]


def test_what_cannot_be_made_again_is_not_sent(made: Made, tmp_path: Path) -> None:
    with made(tmp_path, DAYS) as fleet:
        sent(fleet)
        path = tmp_path / "out" / "day_ahead-2024-06-11-1.csv"
        path.unlink()
    text = (tmp_path / "fleet.toml").read_text(encoding="utf-8")
    (tmp_path / "fleet.toml").write_text(text.replace("Europe/Paris", "Europe/London"), encoding="utf-8")
    with Fleet.open(tmp_path, clock=FixedClock(datetime(2024, 6, 10, 12, tzinfo=UTC))) as fleet:
        row = resend(sender(fleet), "desk", 1)
        assert row["error"] is not None
        assert row["status"] == "sent"
        assert not path.exists()


# -- over HTTP ---------------------------------------------------------------------------------------------------------


class Desk(HTTPServer):
    """Answers with the codes that it is told, then with 200; knows a delivery again by its key."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.codes: list[int] = []
        self.seen: list[tuple[str, str, bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/forecasts"


class _Answer(BaseHTTPRequestHandler):
    server: Desk

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.headers["Idempotency-Key"], self.headers.get("Authorization", ""), body))
        code = self.server.codes.pop(0) if self.server.codes else 200
        if code == 0:
            self.close_connection = True
            return
        self.send_response(code)
        self.send_header("Content-Length", "0")
        if code == 307:
            self.send_header("Location", self.server.url)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return None


@pytest.fixture
def desk() -> Iterator[Desk]:
    with Desk() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def over_http(desk: Desk, more: str = "") -> str:
    return f'[deliveries.desk]\nformat = "http"\nurl = "{desk.url}"\nbody = "json"\nretries = 3\n{more}\n'


def test_a_server_that_fails_at_times_gets_it_once_it_answers(made: Made, tmp_path: Path, desk: Desk) -> None:
    desk.codes = [503, 0, 429]
    waits: list[float] = []
    with made(tmp_path, over_http(desk, 'token_env = "DESK"')) as fleet:
        sent(fleet, environ={"DESK": "secret"}, wait=waits.append)
        assert told(fleet) == [(1, "acknowledged", 4)]
        (row,) = book.entries(fleet.store)
        assert row["acknowledged_at"] == row["sent_at"] == fleet.clock.now()
        assert "secret" not in json.dumps({name: str(value) for name, value in row.items()})
    assert waits == [1.0, 2.0, 4.0]
    assert len(set(desk.seen)) == 1
    key, token, body = desk.seen[0]
    assert key == f"desk-1-{sha256(body).hexdigest()[:16]}"
    assert token.split() == ["Bearer", "secret"]
    values = json.loads(body)
    assert [len(values), values[-1]["valid_time"], values[-1]["mean"]] == [192, "2024-06-11T21:45:00Z", 2345.0]


def test_what_did_not_arrive_is_sent_by_the_next_run_under_its_number(made: Made, tmp_path: Path, desk: Desk) -> None:
    desk.codes = [500] * 4
    with made(tmp_path, over_http(desk)) as fleet:
        assert [row["status"] for row in sent(fleet).failed] == ["failed"]
        assert told(fleet) == [(1, "failed", 4)]
        sent(fleet)
        assert told(fleet) == [(1, "acknowledged", 5)]
        assert len(set(desk.seen)) == 1


@pytest.mark.parametrize("code", [400, 401, 307])
def test_what_will_not_be_better_later_is_not_tried_again(made: Made, tmp_path: Path, desk: Desk, code: int) -> None:
    desk.codes = [code]
    with made(tmp_path, over_http(desk)) as fleet:
        (row,) = sent(fleet).failed
        assert str(code) in row["error"]
    assert len(desk.seen) == 1


def test_without_its_token_nothing_leaves_the_house(made: Made, tmp_path: Path, desk: Desk) -> None:
    with made(tmp_path, over_http(desk, 'token_env = "DESK"')) as fleet:
        (row,) = sent(fleet).failed
        assert "DESK" in row["error"]
    assert desk.seen == []


# -- into a database ---------------------------------------------------------------------------------------------------

DATABASE = """
import sqlite3
from pathlib import Path


def connect():
    return sqlite3.connect(Path(__file__).parent / "desk.db")
"""
SQL = """
[deliveries.desk]
format = "sql"
connect = "MODELS:connect"
table = "forecasts"
columns = { asset_id = "plant", valid_time = "valid_from", mean = "kw" }
keys = ["plant", "valid_from"]
retries = 0
"""


def test_rows_are_put_into_a_table_and_over_those_of_the_same_keys(made: Made, tmp_path: Path) -> None:
    with made(tmp_path, SQL, models=f"{DATABASE}# {tmp_path}\n") as fleet:
        (row,) = sent(fleet).failed  # there is no table yet
        assert "no such table" in row["error"]
        with sqlite3.connect(tmp_path / "desk.db") as desk:
            desk.execute("create table forecasts (plant, valid_from, kw, primary key (plant, valid_from))")
        desk.close()
        sent(fleet)
        begin = datetime(2024, 6, 11, 10, tzinfo=UTC)
        fleet.adjust("replace", 7.0, valid_from=begin, valid_to=begin + timedelta(hours=1), reason="x", select=["b"])
        sent(fleet)
        assert told(fleet) == [(1, "acknowledged", 2), (2, "acknowledged", 1)]
    desk = sqlite3.connect(tmp_path / "desk.db")
    found = desk.execute("select plant, count(*), sum(kw = 7.0) from forecasts group by 1 order by 1").fetchall()
    last = desk.execute("select max(valid_from), max(kw) from forecasts").fetchone()
    desk.close()
    assert found == [("a", 96, 0), ("b", 96, 4)]
    assert last == ("2024-06-11T21:45:00Z", 2345.0)


# -- the job and the command ------------------------------------------------------------------------------------------


def test_a_job_sends_all_deliveries_and_counts_assets_of_which_nothing_was_published(
    made: Made, tmp_path: Path
) -> None:
    more = DAYS + DAYS.replace("desk", "trade").replace("out/", "trade/")
    with made(tmp_path, more) as fleet:
        day = clock_readings("2024-06-10").query("unique_id == 'quarters'").assign(unique_id="c")
        fleet.ingest(day)
        section = JobSection(every="1d")
        work = Work(
            fleet=fleet,
            name="out",
            kind="deliver",
            slot=fleet.clock.now(),
            revision=0,
            section=section,
            clock=fleet.clock,
        )
        done = run(work)
        assert (done.status, done.assets, done.ok, done.failed) == ("ok", 6, 4, 2)
        assert [row["delivery"] for row in book.entries(fleet.store)] == ["desk", "trade"]
        assert sum("nothing was published of 1 assets" in note for note in done.notes) == 2
        again = run(work)
        assert len(book.entries(fleet.store)) == 2
        assert again.status == "ok"


def test_by_hand_a_delivery_is_sent_listed_acknowledged_and_sent_again(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path, DAYS).close()
    monkeypatch.chdir(tmp_path)
    typed = Typed(capsys)
    (row,) = typed.json("deliver", "send", "desk", "--slot", "2024-06-10T10:00Z")
    assert (row["number"], row["status"]) == (1, "sent")
    typed("deliver", "ack", "desk", "1")
    (row,) = typed.json("deliver", "ls")
    assert row["status"] == "acknowledged"
    (row,) = typed.json("deliver", "resend", "desk", "1")
    assert row["attempts"] == 2
    typed("deliver", "send", "dusk", code=Exit.USAGE)
    assert 'did you mean "desk"?' in typed.err


@pytest.mark.parametrize(("day", "steps"), [("2024-03-30", 92), ("2024-10-26", 100)])
def test_at_the_gate_the_whole_day_of_every_asset_goes_out_and_nothing_behind_it(
    tmp_path: Path, day: str, steps: int
) -> None:
    """Four champions say 1; of two the fallback repeats the clock of the day before, and that is what was sent."""
    fleet, issue, clock = trained(tmp_path / "fleet", day, more=DAYS)
    with fleet:
        slowed(fleet, "b", at(issue, 21))
        fleet.forecast(issue_time=clock.now())
        clock.set(at(issue, 25))
        assert sent(fleet).assets == 6
        (fleet.config.folder / "slow").unlink()
        clock.set(at(issue, 31))
        fleet.forecast(issue_time=clock.now(), failed=True)
        assert sent(fleet).rows == ()
        (path,) = (fleet.config.folder / "out").iterdir()
        with path.open(newline="") as file:
            _, *lines = csv.reader(file)
    target = f"{pd.Timestamp(day) + pd.Timedelta(days=1):%Y-%m-%d}"
    found = {line[0]: [float(value) for value in line[3:]] for line in lines}
    assert found == {**dict.fromkeys("abcd", [1.0] * steps), **dict.fromkeys("ef", hands(target))}


@pytest.mark.parametrize(
    "keys",
    [
        'format = "csv"',
        'path = "out/{asset_id}.csv"',
        'path = "out/{number.csv"',
        'format = "http"\nurl = "ftp://desk/"',
        'format = "http"\nurl = "http://desk/"\npath = "x"',
        'format = "sql"\nconnect = "module"\ntable = "t"',
        'path = "x"\ncolumns = { plant = "asset_id" }',
        'path = "x"\ncolumns = { mean = "v", q10 = "v" }',
        'path = "x"\nunit = "horses"',
        'path = "x"\nproduct = "nobody"',
        'path = "x"\nformt = "csv"',
    ],
)
def test_a_delivery_that_means_nothing_is_refused(tmp_path: Path, keys: str) -> None:
    (tmp_path / "fleet.toml").write_text(f"[deliveries.desk]\n{keys}\n", encoding="utf-8")
    with pytest.raises(ConfigInvalid) as caught:
        load(tmp_path)
    assert "desk" in caught.value.message
