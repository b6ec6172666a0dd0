"""Jobs that are asked for over REST: a request is one commit, a run one process, and the server holds neither."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from fleet import Fleet
from jobs.requested import Requests
from jobs.web.tokens import Tokens, web_folder
from store import Store
from store.clock import system_clock
from tests.web.conftest import Answer, Client, served

CONFIG = """
[fleet]
name = "asked"
store = "asked.store"
horizon = 24
[data]
path = "none.parquet"
[jobs.quick]
kind = "MODULE:run"
cron = "0 3 * * *"
[jobs.held]
kind = "MODULE:held"
every = "1h"
[jobs.broken]
kind = "MODULE:broken"
every = "1h"
"""
KIND = """
from pathlib import Path

from jobs.work import Done

HERE = Path(__file__).parent


def run(work):
    with (HERE / "ran").open("a") as file:
        file.write(f"{work.slot.isoformat()} {work.revision}\\n")
    return Done(status="ok", assets=2, ok=2)


def held(work):
    (HERE / "go").read_text()  # a pipe: nothing comes until somebody opens its other end
    return run(work)


def broken(work):
    return Done(status="failed", error="on purpose")
"""
SLOT = "2024-06-10T03:00:00Z"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    module = f"asked_{blake2b(str(tmp_path).encode(), digest_size=6).hexdigest()}"
    (tmp_path / f"{module}.py").write_text(KIND, encoding="utf-8")
    (tmp_path / "fleet.toml").write_text(CONFIG.replace("MODULE", module), encoding="utf-8")
    os.mkfifo(tmp_path / "go")
    Store.open(tmp_path / "asked.store").close()
    return tmp_path


class Asking:
    """Somebody with a token, who waits for runs to end."""

    def __init__(self, client: Client, token: str | None = None) -> None:
        self.client, self.token = client, token or client.token("operate")

    def __call__(self, job: str, key: str, **body: Any) -> Answer:
        return self.client(
            f"/api/v1/jobs/{job}/runs", method="POST", token=self.token, Idempotency_Key=key,
            body=json.dumps(body) if body else None, Content_Type="application/json",
        )  # fmt: skip

    def until(self, job: str, key: str, *status: str, **body: Any) -> dict[str, Any]:
        """The answer once the run is in one of these states; the same key, so asking starts nothing."""
        deadline, pause = monotonic() + 120, threading.Event()
        while True:
            found = self(job, key, **body)
            assert found.status == 202, found.text
            if found.json["status"] in status:
                told: dict[str, Any] = found.json
                return told
            assert monotonic() < deadline, found.text
            pause.wait(0.1)


@contextmanager
def serving(folder: Path) -> Iterator[Client]:
    with (
        Fleet.open(folder / "fleet.toml") as fleet,
        served(fleet, runner=Requests(fleet, web_folder(fleet.store.path))) as client,
    ):
        yield client


@pytest.fixture
def asking(folder: Path) -> Iterator[Asking]:
    with serving(folder) as client:
        yield Asking(client)
    with suppress(OSError):  # nobody waits at the pipe, unless the test ended before its time
        os.close(os.open(folder / "go", os.O_WRONLY | os.O_NONBLOCK))


def ran(folder: Path) -> list[str]:
    try:
        return (folder / "ran").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def test_a_request_runs_the_job_once_however_often_it_is_sent(asking: Asking, folder: Path) -> None:
    first = asking("quick", "k1", slot=SLOT)
    assert (first.status, first.json["slot"], first.json["revision"]) == (202, SLOT, 0)
    done = asking.until("quick", "k1", "ok", slot=SLOT)
    assert (done["assets"], done["attempt"], done["id"]) == (2, 1, first.json["id"])
    for key in ("k1", "another"):  # the slot is done, and nobody says again
        assert asking("quick", key, slot=SLOT).json["status"] == "ok"
    assert ran(folder) == ["2024-06-10T03:00:00+00:00 0"]
    anew = asking.until("quick", "k2", "ok", slot=SLOT, again=True)
    assert (anew["revision"], len(ran(folder))) == (1, 2)
    assert asking("quick", "k2", slot=SLOT, again=True).json["status"] == "ok"
    assert len(ran(folder)) == 2


def test_a_key_is_one_request_and_belongs_to_its_token(asking: Asking) -> None:
    asking.until("quick", "k", "ok", slot=SLOT)
    for job, body in (("broken", {"slot": SLOT}), ("quick", {}), ("quick", {"slot": "2024-06-11T03:00:00Z"}),
                      ("quick", {"slot": SLOT, "again": True})):  # fmt: skip
        found = asking(job, "k", **body)
        assert (found.status, found.problem) == (409, "commit-conflict"), body
    other = Asking(asking.client, asking.client.token("operate"))
    assert other("broken", "k").status == 202
    other.until("broken", "k", "failed")


def test_many_who_send_one_request_at_once_start_one_run(asking: Asking, folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: asking("quick", "k", slot=SLOT), range(8)))
    assert {one.status for one in found} == {202}
    asking.until("quick", "k", "ok", slot=SLOT)
    assert len({one.json["id"] for one in found}) == len(ran(folder)) == 1


def test_a_run_that_failed_is_told_and_tried_again_by_a_new_request_only(asking: Asking) -> None:
    told = asking.until("broken", "k1", "failed")
    assert (told["error"], told["attempt"]) == ("on purpose", 1)
    assert asking("broken", "k1").json["attempt"] == 1
    assert asking.until("broken", "k2", "failed", slot=told["slot"])["attempt"] == 2


def test_a_job_at_work_is_refused_to_others_and_told_to_who_asked(asking: Asking, folder: Path) -> None:
    assert asking.until("held", "k1", "running")["attempt"] == 1
    found = asking("held", "k2")
    assert (found.status, found.problem) == (409, "job-running")
    (folder / "go").write_text("", encoding="utf-8")
    asking.until("held", "k1", "ok")


def test_what_is_not_allowed_or_not_there_starts_nothing(asking: Asking, folder: Path) -> None:
    assert asking("nothing", "k").status == 404
    assert asking("quick", "k", slot="2024-06-10").status == asking("quick", "k", slat=SLOT).status == 400
    assert Asking(asking.client, asking.client.token("read"))("quick", "k").status == 403
    assert Asking(asking.client, asking.client.token("operate", assets=("a*",)))("quick", "k").status == 403
    assert ran(folder) == []


def test_who_asked_for_what_stands_in_the_audit_and_in_the_ledger(asking: Asking) -> None:
    asking.until("quick", "k", "ok", slot=SLOT)
    lines = asking.client("/api/v1/audit", token=asking.client.token("admin")).json["rows"]
    assert {"act": "job", "actor": "test", "job": "quick", "key": "k"}.items() <= lines[-1].items()


@pytest.mark.slow
def test_a_run_outlives_the_server_that_took_its_request(folder: Path) -> None:
    """The server is killed with all that is in its group; the run goes on, and another server tells how it ended."""
    token = Tokens(web_folder(folder / "asked.store"), system_clock).add("test", ["operate"])[1]
    words = ["ui", "--port", "0", "-c", str(folder / "fleet.toml")]
    server = subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", *words], stderr=subprocess.PIPE, start_new_session=True
    )
    assert server.stderr is not None
    port = int(server.stderr.readline().decode().partition("127.0.0.1:")[2].partition("/")[0])
    try:
        with Fleet.open(folder / "fleet.toml", read_only=True) as fleet:
            Asking(Client(port, fleet), token).until("held", "k", "running")
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(60)
        server.stderr.close()
    with serving(folder) as client:
        again = Asking(client, token)
        assert again("held", "k").json["status"] == "running"
        (folder / "go").write_text("", encoding="utf-8")
        assert again.until("held", "k", "ok")["attempt"] == 1
    assert len(ran(folder)) == 1
