"""What an attacker tries, against a small fleet's server: ``python -m tests.web.attacks [PART ...]``.

One JSON line an attack says what came back; the exit is 1 where one got through. Lines with ``"control": true`` are
the honest request beside an attack: were it refused too, a refusal would show nothing. A file with a word of its own
lies beside the store, and an answer that has the word in it is a leak whatever its status.
"""

from __future__ import annotations

import json
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, urlencode

from fleet import Fleet
from jobs.requested import Requests
from jobs.web import Settings
from jobs.web.tokens import Tokens, web_folder
from store.clock import system_clock
from tests.web.conftest import NASTY, Answer, Client, build, served
from tests.web.fuzz import with_a_job
from tests.web.test_sql import ATTACKS

EVIL = "evil.example"
SECRET = "secret.txt"  # noqa: S105  a file's name
WRITTEN = Path("/tmp/tsfleet-attack")  # noqa: S108  what the attacks of the SQL page would make
READING = {"asset_id": "south-1", "valid_time": "2024-03-29T00:00:00Z", "y": 1.0}
JSON = "application/json"
LISTS = ("assets", "runs", "metrics", "forecasts", "actuals", "scores", "decisions")
BOMBS = {
    "a list of a thousand million": "select list(a.range) from range(100000000) a, range(10) b",
    "a text of ten gigabytes": "select string_agg(repeat('x', 1000000), '') from range(10000)",
}
ENDLESS = {
    "a function that hears no interrupt": "select levenshtein(repeat('a', 1000000), repeat('b', 1000000))",
    "a count without an end": "select count(*) from range(1000000000000000) where hash(range) % 7 = 3",
}
#: Names of variables on the way of a question, and of a server: DuckDB would find a table in a caller's frame.
FRAMES = ("request", "desk", "question", "opened", "told", "table", "tokens", "who")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One attack, or the honest request beside it.

    Args:
        allowed: the statuses that are no success for who attacks.
        absent: texts that may not stand in the answer.
        present: what its headers have to say.
    """

    kind: str
    name: str
    answer: Answer
    allowed: tuple[int, ...]
    absent: tuple[str, ...] = ()
    present: tuple[tuple[str, str], ...] = ()
    control: bool = False

    @property
    def held(self) -> bool:
        text = self.answer.body.decode("utf-8", "replace")
        headers = self.answer.headers
        return (
            self.answer.status in self.allowed
            and not any(word in text for word in self.absent)
            and all(part in headers.get(name, "") for name, part in self.present)
            and "access-control-allow-origin" not in headers
        )

    def line(self) -> dict[str, object]:
        known = self.answer.headers.get("content-type", "") == "application/problem+json" and self.answer.body
        back = f"{self.answer.status} {self.answer.problem}" if known else str(self.answer.status)
        told = {"attack": self.kind, "what": self.name, "came_back": back, "held": self.held}
        return {**told, "control": True} if self.control else told


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Servers of one fleet: for this machine alone, one that wants a token of everybody, one that waits 5 s for SQL."""

    near: Client
    far: Client
    hasty: Client
    word: str
    folder: Path

    def tokens(self) -> Tokens:
        return Tokens(web_folder(self.near.fleet.store.path), system_clock)


def main(words: list[str]) -> None:
    if unknown := {*words} - {*PARTS}:
        sys.exit(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder, word = with_a_job(build(Path(name) / "fleet")), secrets.token_hex(16)
        (folder / SECRET).write_text(word, encoding="utf-8")
        clients = []
        for closed, sql_s in ((False, 60.0), (True, 60.0), (True, 5.0)):
            fleet = stack.enter_context(Fleet.open(folder / "fleet.toml"))
            settings = Settings(
                port=0, require_token=closed, sql_s=sql_s, request_s=120, sql_bytes=600_000_000, body_bytes=100_000
            )
            runner = Requests(fleet, web_folder(fleet.store.path))
            clients.append(stack.enter_context(served(fleet, settings, runner)))
        world = World(near=clients[0], far=clients[1], hasty=clients[2], word=word, folder=folder)
        before = world.near.fleet.store.head()
        held = [_told(one, word) for name in words or PARTS for one in PARTS[name](world)]
        after = {
            "the server still answers": world.near("/healthz").status == 200,
            "no snapshot was made": world.near.fleet.store.head() == before,
            "no file was made": not WRITTEN.exists() and not WRITTEN.with_suffix(".db").exists(),
        }
        for what, well in after.items():
            print(json.dumps({"attack": "all of these", "what": what, "held": well}))
    sys.exit(0 if all((*held, *after.values())) else 1)


def _told(one: Tried, word: str) -> bool:
    leaked = word.encode() in one.answer.body
    line = one.line()
    print(json.dumps({**line, "held": one.held and not leaked}), flush=True)
    return one.held and not leaked


def rebinding(world: World) -> Iterator[Tried]:
    """A page of evil.example makes its own name lead here."""
    ask, kind = world.near, "DNS rebinding"
    yield Tried(kind=kind, name="GET / as 127.0.0.1", answer=ask("/"), allowed=(200,), control=True)
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        yield Tried(kind=kind, name=f"{method} / as {EVIL}", answer=ask("/", method=method, host=EVIL), allowed=(421,))
    for host in (f"127.0.0.1.{EVIL}", f"localhost@{EVIL}", f"{EVIL}:{ask.port}", ""):
        for path in ("/", "/api/v1/assets", "/healthz", "/metrics"):
            answer = ask(path, host=host)
            yield Tried(kind=kind, name=f"GET {path} as {host!r}", answer=answer, allowed=(400, 421))
    for name, head in {
        "two Hosts": f"GET / HTTP/1.1\r\nHost: localhost\r\nHost: {EVIL}\r\n",
        "no Host": "GET / HTTP/1.1\r\n",
        "no Host, HTTP/1.0": "GET / HTTP/1.0\r\n",
        "an address in the request's line": f"GET http://{EVIL}/ HTTP/1.1\r\nHost: localhost\r\n",
    }.items():
        yield Tried(kind=kind, name=name, answer=_raw(ask, head), allowed=(400, 404, 421))
    answer = ask("/", X_Forwarded_Host=EVIL)
    yield Tried(kind=kind, name="X-Forwarded-Host", answer=answer, allowed=(200, 401), absent=(EVIL,))


def cross_site(world: World) -> Iterator[Tried]:
    """Another site's page sends a form, or fetches, from a browser that is logged in here."""
    ask, kind = world.far, "cross-site request"
    own = {"Origin": f"http://127.0.0.1:{ask.port}"}
    text = ask.token("operate")
    login = ask("/login", method="POST", body=urlencode({"token": text}), **own)
    cookie = login.headers["set-cookie"].partition(";")[0]
    answer = ask("/sql", method="POST", body="q=select+1&as=csv", Cookie=cookie, **own)
    yield Tried(kind=kind, name="POST /sql from our own page", answer=answer, allowed=(200,), control=True)
    origins: dict[str, dict[str, str]] = {
        "a foreign Origin": {"Origin": f"https://{EVIL}"},
        "Origin null": {"Origin": "null"},
        "our name, another port": {"Origin": "http://127.0.0.1:1"},
        "a foreign site by Sec-Fetch": {"Sec_Fetch_Site": "cross-site"},
        "the same site, another origin": {"Sec_Fetch_Site": "same-site"},
        "nothing said": {},
    }
    writes = (
        "/login", "/logout", "/sql", "/sql/saved", "/api/v1/sql", "/api/v1/actuals", "/api/v1/jobs/nightly/runs",
        "/api/v1/alerts/x/actions",
    )  # fmt: skip
    for said, headers in origins.items():
        for path in writes:
            body = json.dumps({"rows": [READING], "sql": "select 1"})
            sent = {"Cookie": cookie, "Content_Type": "text/plain", "Idempotency_Key": "evil", **headers}
            answer = ask(path, method="POST", body=body, **sent)
            yield Tried(kind=kind, name=f"POST {path}, {said}", answer=answer, allowed=(403,))
    for path in ("/", "/api/v1/actuals", "/figures/errors.json"):
        answer = ask(path, Cookie=cookie, Origin=f"https://{EVIL}", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="cors")
        yield Tried(kind=kind, name=f"fetch {path}", answer=answer, allowed=(403,))
    answer = ask("/api/v1/actuals", method="OPTIONS", Origin=f"https://{EVIL}", Access_Control_Request_Method="POST")
    yield Tried(kind=kind, name="preflight of a POST", answer=answer, allowed=(401, 403, 405))


def traversal(world: World) -> Iterator[Tried]:
    """Paths that lead out of what is served."""
    ask, kind = world.near, "path traversal"
    names = ("../app.py", f"../../../{SECRET}", "/etc/passwd", "templates/base.html")
    for name in names:
        for written in (
            name,
            quote(name, safe=""),
            name.replace("..", "%2e%2e"),
            name.replace("/", "\\"),
            f"{name}%00",
        ):
            for path in (f"/static/x/{written}", f"/static/{written}", f"/figures/{written}"):
                yield Tried(kind=kind, name=path, answer=ask(path), allowed=(400, 404), absent=("root:",))
        answer = ask(f"/asset?id={quote(name, safe='')}")
        yield Tried(kind=kind, name=f"the asset {name}", answer=answer, allowed=(404,), absent=("root:",))


def scripts(world: World) -> Iterator[Tried]:
    """Text of others in pages: it stays text, and where it did not, the policy would let no script of it run."""
    ask, kind = world.near, "script in a name"
    policy = (("content-security-policy", "script-src 'self'"),)
    text = "<script>alert(1)</script>"
    own = {"Origin": f"http://127.0.0.1:{ask.port}", "Accept": "text/html"}
    token = ask.token("operate")
    kept = ask(
        "/sql/saved", method="POST", token=token, body=urlencode({"name": NASTY, "q": text, "do": "keep"}), **own
    )
    yield Tried(kind=kind, name="a question is kept", answer=kept, allowed=(303,), control=True)
    for path in (
        "/", "/assets", f"/asset?id={quote(NASTY)}", "/leaderboard?by=asset", "/runs", "/degradation?verdict=all",
        "/sql", f"/assets?q={quote(text)}", f"/runs?q={quote(text)}", f"/sql?q={quote(text)}",
        f"/alerts?q={quote(text)}", f"/{quote(text)}", f"/asset?id={quote(text)}",
        f"/login?next={quote(chr(34) + '>' + text)}",
        f"/figures/fan.html?asset={quote(NASTY)}", f"/figures/fan.json?asset={quote(NASTY)}",
    ):  # fmt: skip
        answer = ask(path, accept="text/html")
        allowed, absent = (200, 400, 404), (NASTY, text)
        yield Tried(kind=kind, name=path[:80], answer=answer, allowed=allowed, absent=absent, present=policy)
    body = urlencode({"q": f"select '{text}' as \"{NASTY}\""})
    answer = ask("/sql", method="POST", body=body, **own)
    name = "an answer of the SQL page"
    yield Tried(kind=kind, name=name, answer=answer, allowed=(200,), absent=(NASTY, text), present=policy)
    for path in ("/", "/nothing", "/api/v1/assets"):
        framed = (("x-frame-options", "DENY"), ("content-security-policy", "frame-ancestors 'none'"))
        answer = ask(path, accept="text/html")
        yield Tried(kind="a frame around a page", name=path, answer=answer, allowed=(200, 404, 406), present=framed)


def questions(world: World) -> Iterator[Tried]:
    """What a question in SQL may not do, and what it may not cost."""
    token = world.far.token("read")

    def asked(sql: str, ask: Client = world.far) -> Answer:
        return ask("/api/v1/sql", method="POST", token=token, Content_Type=JSON, body=json.dumps({"sql": sql}))

    answer = asked("select count(*) as n from actuals")
    yield Tried(kind="SQL", name="one SELECT", answer=answer, allowed=(200,), control=True)
    secret = str(world.folder / SECRET).replace("'", "''")
    files = {
        "the word's file": f"select * from read_text('{secret}')",
        "the word's file, as a table": f"select * from '{secret}'",
        "the word's file, in a subquery": f"select (select content from read_text('{secret}')) as x",
        "the word's file, in a from first": f"from read_csv('{secret}')",
        "the word's file, over a macro": f"select * from (pivot read_text('{secret}') on content using count(*))",
    }
    for name, sql in {**ATTACKS, **files}.items():
        yield Tried(kind="SQL", name=f"{name}: {sql}"[:120], answer=asked(sql), allowed=(400,), absent=("root:",))
    for name in FRAMES:
        answer = asked(f"select * from {name}")
        yield Tried(kind="SQL, others' frames", name=name, answer=answer, allowed=(400,))
    for name, sql in BOMBS.items():
        yield Tried(kind="SQL, memory", name=f"{name}: {sql}", answer=asked(sql), allowed=(422,))
    for name, sql in ENDLESS.items():
        yield Tried(kind="SQL, no end", name=f"{name}: {sql}", answer=asked(sql, world.hasty), allowed=(504,))
    answer = asked("select 1 as one")
    yield Tried(kind="SQL", name="one SELECT after all of these", answer=answer, allowed=(200,), control=True)


def scopes(world: World) -> Iterator[Tried]:
    """A token does what it is for, for the assets that it is for."""
    ask, kind, head = world.far, "scope", {"Content_Type": JSON}
    north, operator = ask.token("read", assets=("north-*",)), ask.token("operate", assets=("north-*",))
    answer = ask("/api/v1/assets", token=north)
    yield Tried(kind=kind, name="one's own assets", answer=answer, allowed=(200,), absent=("south",), control=True)
    yield Tried(kind=kind, name="no token", answer=ask("/api/v1/assets"), allowed=(401,))
    answer = ask(f"/api/v1/assets?token={quote(north)}")
    yield Tried(kind=kind, name="a token in the URL", answer=answer, allowed=(400, 401))
    other = ask.token("read")
    mixed = f"tsf_{other.split('_')[1]}_{north.split('_', 2)[2]}"
    yield Tried(kind=kind, name="another's id", answer=ask("/api/v1/assets", token=mixed), allowed=(401,))
    yield Tried(kind=kind, name="a cookie made up", answer=ask("/", Cookie="tsfleet=x"), allowed=(401,))
    gone, text = world.tokens().add("gone", ["admin"])
    world.tokens().revoke(gone.id)
    yield Tried(kind=kind, name="a revoked token", answer=ask("/api/v1/assets", token=text), allowed=(401,))
    text = world.tokens().add("old", ["admin"], lasts=timedelta(seconds=-1))[1]
    yield Tried(kind=kind, name="an old token", answer=ask("/api/v1/assets", token=text), allowed=(401,))
    answer = world.near("/", X_Forwarded_For="127.0.0.1")
    yield Tried(kind=kind, name="of this machine, by a proxy", answer=answer, allowed=(401,))
    upload = json.dumps({"rows": [READING]})
    for scope in ("read", "approve"):
        token = ask.token(scope)
        for path in ("/api/v1/actuals", "/api/v1/jobs/nightly/runs", "/api/v1/alerts/x/actions", "/sql/saved"):
            answer = ask(path, method="POST", body=upload, token=token, Idempotency_Key="k", **head)
            yield Tried(kind=kind, name=f"POST {path} with {scope}", answer=answer, allowed=(403,))
    for scope in ("read", "operate", "approve"):
        answer = ask("/api/v1/audit", token=ask.token(scope))
        yield Tried(kind=kind, name=f"the audit with {scope}", answer=answer, allowed=(403,))
    kind = "selector"
    for path, body in (("/api/v1/actuals", upload), ("/api/v1/jobs/nightly/runs", "{}")):
        answer = ask(path, method="POST", body=body, token=operator, Idempotency_Key="k", **head)
        yield Tried(kind=kind, name=f"POST {path} about others' assets", answer=answer, allowed=(403,))
    answer = ask("/api/v1/sql", method="POST", body=json.dumps({"sql": "from assets"}), token=north, **head)
    yield Tried(kind=kind, name="SQL over all assets", answer=answer, allowed=(403,))
    foreign = ("south-1", NASTY.replace('"', ""))
    for name in LISTS:
        for asset in ("south-1", "*", "south-*", "north-1,south-1", "north-1' or '1'='1", "%"):
            answer = ask(f"/api/v1/{name}?asset={quote(asset)}", token=north)
            yield Tried(kind=kind, name=f"{name} of {asset}", answer=answer, allowed=(200,), absent=foreign)
        whole = ask(f"/api/v1/{name}?limit=1", token=other)
        answer = ask(f"/api/v1/{name}?limit=50000&after={whole.json['next']}", token=north)
        yield Tried(kind=kind, name=f"{name} from another's cursor", answer=answer, allowed=(200, 400), absent=foreign)
        answer = ask(f"/api/v1/{name}", token=north, If_None_Match=whole.headers["etag"])
        yield Tried(kind=kind, name=f"{name} by another's ETag", answer=answer, allowed=(200,), absent=foreign)
    for path in (
        "/", "/jobs", "/alerts", "/sql", "/metrics", "/api/v1/job-runs", "/api/v1/alerts", "/asset?id=south-1",
        "/figures/fan.json?asset=south-1", "/figures/life.csv?asset=south-1", "/api/v1/leaderboard?asset=south-1",
    ):  # fmt: skip
        yield Tried(kind=kind, name=path, answer=ask(path, token=north), allowed=(403, 404), absent=("south-2",))
    for path in ("/assets", "/runs", "/leaderboard?by=asset", "/degradation?verdict=all", "/figures/extremes.html"):
        yield Tried(kind=kind, name=path, answer=ask(path, token=north), allowed=(200,), absent=foreign)


def sizes(world: World) -> Iterator[Tried]:
    """More than is taken at once."""
    ask, kind = world.far, "size"
    token, most = ask.token("operate"), 100_000
    body = "x" * (most + 1)
    answer = ask("/api/v1/actuals", method="POST", token=token, body=body, Content_Type=JSON)
    yield Tried(kind=kind, name="a body above the bound", answer=answer, allowed=(413,))
    head = f"POST /api/v1/actuals HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
    chunk = f"{most + 1:x}\r\n{body}\r\n0\r\n\r\n"
    answer = _raw(ask, head + "Transfer-Encoding: chunked\r\n", chunk)
    yield Tried(kind=kind, name="a body above the bound, of no said length", answer=answer, allowed=(413,))
    for length in ("-1", "1e3", "99999999999999999999"):
        answer = _raw(ask, f"{head}Content-Length: {length}\r\n")
        yield Tried(kind=kind, name=f"a body of {length} bytes", answer=answer, allowed=(400, 413))
    answer = _raw(ask, f"{head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nGET /x HTTP/1.1\r\n\r\n")
    yield Tried(kind=kind, name="two lengths (smuggling)", answer=answer, allowed=(400, 413, 415, 422))
    answer = ask("/api/v1/assets?limit=1000000000", token=token)
    yield Tried(kind=kind, name="a page of a thousand million", answer=answer, allowed=(400,))


def _raw(ask: Client, head: str, body: str = "") -> Answer:
    """What comes back of bytes that no client of ours would send."""
    with socket.create_connection(("127.0.0.1", ask.port), timeout=30) as line:
        line.sendall(f"{head}Connection: close\r\n\r\n{body}".encode())
        top, _, rest = b"".join(iter(lambda: line.recv(65_536), b"")).partition(b"\r\n\r\n")
    first, *headers = top.decode("latin-1").split("\r\n")
    named = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in headers)}
    return Answer(int(first.split()[1]), named, rest)


PARTS = {one.__name__: one for one in (rebinding, cross_site, traversal, scripts, scopes, sizes, questions)}

if __name__ == "__main__":
    main(sys.argv[1:])
