"""A small fleet behind a real server on loopback, asked over real connections."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import uvicorn

from fleet import Fleet
from jobs.web import Settings, make_app
from jobs.web.running import Runner
from jobs.web.serving import listening
from jobs.web.tokens import Tokens, web_folder
from store.clock import system_clock
from tests.jobs.conftest import make_fleet


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        """The kind of a problem, without what all have in common."""
        return str(self.json["type"]).rpartition(":")[2]


@dataclass
class Client:
    """Asks one server; every request on a connection of its own."""

    port: int
    fleet: Fleet
    headers: dict[str, str] = field(default_factory=dict)

    def __call__(
        self,
        path: str,
        *,
        method: str = "GET",
        body: bytes | str | None = None,
        host: str | None = None,
        token: str | None = None,
        **headers: str,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", host if host is not None else f"127.0.0.1:{self.port}")
            data = body.encode() if isinstance(body, str) else body
            if data is not None:
                connection.putheader("Content-Length", str(len(data)))
            for name, value in sent.items():
                connection.putheader(name, value)
            connection.endheaders(data)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def asset(self, name: str) -> str:
        return f"/asset?id={quote(name, safe='')}"

    def token(self, *scopes: str, assets: tuple[str, ...] = ()) -> str:
        """The text of a new token."""
        return Tokens(web_folder(self.fleet.store.path), system_clock).add("test", scopes, assets=assets)[1]


@contextmanager
def served(fleet: Fleet, settings: Settings | None = None, runner: Runner | None = None) -> Iterator[Client]:
    """A server over a fleet while the block runs."""
    settings = settings or Settings(port=0)
    taken = listening(settings)
    server = uvicorn.Server(uvicorn.Config(make_app(fleet, settings, runner), log_level="error", proxy_headers=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]})
    thread.start()
    try:
        yield Client(taken.getsockname()[1], fleet)
    finally:
        server.should_exit = True
        thread.join(30)
        taken.close()


#: Names that would do harm where they are taken for anything but text.
NASTY = "<img src=x onerror=alert(1)>"


def build(folder: Path) -> Path:
    """A fleet that is judged, promoted and issued, with an asset of a nasty name."""
    make_fleet(folder)
    file = folder / "fleet.toml"
    file.write_text(file.read_text().replace("seasons =", "quantiles = [0.1, 0.5, 0.9]\nseasons ="), encoding="utf-8")
    (folder / "assets.csv").write_text(
        f"asset_id,region,capacity\nnorth-1,north,20\nnorth-2,north,20\nsouth-1,south,30\n{NASTY},south,5\n",
        encoding="utf-8",
    )
    with Fleet.open(folder / "fleet.toml") as fleet:
        fleet.ingest()
        fleet.backtest()
        fleet.train(promote=True)
        fleet.forecast()
    return folder


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once; tests that write copy it."""
    return build(tmp_path_factory.mktemp("web") / "fleet")


@pytest.fixture(scope="module")
def ask(built: Path) -> Iterator[Client]:
    """The small fleet behind a server for this machine."""
    with Fleet.open(built / "fleet.toml") as fleet, served(fleet) as client:
        yield client


@pytest.fixture
def serving(built: Path) -> Iterator[Callable[[Settings], Client]]:
    """Further servers over the same fleet, with settings of their own."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(settings: Settings) -> Client:
            fleet = stack.enter_context(Fleet.open(built / "fleet.toml"))
            return stack.enter_context(served(fleet, settings))

        yield start
