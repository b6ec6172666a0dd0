"""Who gets in: names, origins, tokens, sizes. Each law is an attack, and what comes back."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.errors import UsageInvalid
from jobs.web import Settings
from jobs.web.guard import HEADERS, check_origin
from jobs.web.problems import Refused
from jobs.web.serving import check_reach
from jobs.web.tokens import Tokens, TokensUnsafe, web_folder
from store.clock import system_clock
from tests.web.conftest import Client


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "localhost@evil.example"]
)
def test_a_host_that_the_server_is_not_known_by_is_refused_on_every_method(ask: Client, method: str, host: str) -> None:
    """DNS rebinding: the page of evil.example makes its own name lead here."""
    assert ask("/", method=method, host=host).status == 421


@pytest.mark.parametrize("path", ["/static/x/app.css", "/healthz", "/api/v1/openapi.json", "/login"])
def test_no_path_is_left_out_of_the_hosts(ask: Client, path: str) -> None:
    assert ask(path, host="evil.example").status == 421


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"])
def test_the_names_of_this_machine_are_known_with_any_port(ask: Client, name: str) -> None:
    assert ask("/login", host=f"{name}:{ask.port}").status == 200
    assert ask("/login", host=name).status == 200


def test_two_hosts_are_none(ask: Client) -> None:
    with socket.create_connection(("127.0.0.1", ask.port), timeout=30) as line:
        line.sendall(b"GET /login HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        assert line.makefile("rb").readline().split()[1] in (b"400", b"421")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://127.0.0.1:1", "Sec-Fetch-Site": "same-origin"},
        {},
    ],
    ids=str,
)
def test_a_write_from_another_site_is_refused(ask: Client, headers: dict[str, str]) -> None:
    found = ask("/login", method="POST", body="token=x", **headers)
    assert (found.status, found.problem) == (403, "cross-site")


def test_a_write_from_a_page_of_this_server_goes_through(ask: Client) -> None:
    assert ask("/login", method="POST", body="token=x", Origin=f"http://127.0.0.1:{ask.port}").status == 401


def test_another_site_may_link_to_a_page_and_read_nothing() -> None:
    def get(**headers: str) -> None:
        check_origin("GET", {k.replace("_", "-").encode(): [v.encode()] for k, v in headers.items()})

    get(sec_fetch_site="cross-site", sec_fetch_mode="navigate")
    get(sec_fetch_site="same-origin", sec_fetch_mode="cors")
    get()
    with pytest.raises(Refused):
        get(sec_fetch_site="cross-site", sec_fetch_mode="no-cors")


@pytest.mark.parametrize("path", ["/", "/login", "/nothing", "/static/x/y.css", "/api/v1/nothing"])
def test_every_answer_carries_the_headers_that_keep_it_in_its_page(ask: Client, path: str) -> None:
    found = ask(path, accept="text/html")
    for name, value in HEADERS.items():
        assert found.headers[name.decode()] == value.decode()
    assert "unsafe" not in found.headers["content-security-policy"]
    assert "cache-control" in found.headers


@pytest.mark.parametrize("token", ["", "x", "tsf_00000000_abc", "tsf__", "Ä"])
def test_a_wrong_token_is_refused_and_not_taken_for_none(ask: Client, token: str) -> None:
    found = ask("/", Authorization=f"Bearer {token}")
    assert (found.status, found.problem) == (401, "token-invalid")


def test_a_token_opens_until_it_is_revoked(serving: Callable[[Settings], Client]) -> None:
    ask = serving(Settings(port=0, require_token=True))
    token = ask.token("read")
    assert ask("/").status == 401
    assert ask("/", token=token).status == 200
    assert ask("/", token=token[:-1] + ("A" if token[-1] != "A" else "B")).status == 401
    Tokens(web_folder(ask.fleet.store.path), system_clock).revoke(token.split("_")[1])
    assert ask("/", token=token).status == 401


def test_a_login_gives_a_cookie_that_scripts_and_other_sites_do_not_get(serving: Callable[[Settings], Client]) -> None:
    ask = serving(Settings(port=0, require_token=True, secure=True))
    token, own = ask.token("read"), {"Origin": f"http://127.0.0.1:{ask.port}"}
    found = ask("/login", method="POST", body=f"token={token}&next=//evil.example", **own)
    assert (found.status, found.headers["location"]) == (303, "/")
    cookie = found.headers["set-cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", "Secure", "Path=/"))
    assert token.split("_")[2] not in cookie
    kept = cookie.partition(";")[0]
    assert ask("/", Cookie=kept).status == 200
    assert ask("/logout", method="POST", body="", Cookie=kept, **own).status == 303
    assert ask("/", Cookie=kept).status == 401


def test_behind_a_proxy_nobody_counts_as_somebody_of_this_machine(ask: Client) -> None:
    assert ask("/").status == 200
    for name in ("X-Forwarded-For", "Forwarded", "Via"):
        assert ask("/", **{name: "10.0.0.1"}).status == 401


def test_nothing_is_served_to_other_machines_while_nobody_has_a_token(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "s.web", system_clock)
    for host in ("0.0.0.0", "10.1.2.3", "::"):  # noqa: S104  nothing is bound here
        with pytest.raises(UsageInvalid):
            check_reach(tokens, Settings(host=host))
    check_reach(tokens, Settings())
    tokens.add("mine", ["read"])
    check_reach(tokens, Settings(host="10.1.2.3"))


def test_tokens_that_others_can_read_open_nothing(serving: Callable[[Settings], Client]) -> None:
    ask = serving(Settings(port=0))
    token, file = ask.token("read"), web_folder(ask.fleet.store.path) / "tokens.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert token.split("_")[2] not in file.read_text()
    file.chmod(0o644)
    try:
        assert ask("/", token=token).status == 500
        with pytest.raises(TokensUnsafe):
            ask.token("read")
    finally:
        file.chmod(0o600)


def test_a_body_ends_at_its_bound_whatever_its_length_is_said_to_be(serving: Callable[[Settings], Client]) -> None:
    ask = serving(Settings(port=0, body_bytes=1_000))
    own = {"Origin": f"http://127.0.0.1:{ask.port}"}
    assert ask("/login", method="POST", body="x" * 1_001, **own).status == 413
    chunks = b"400\r\n" + b"x" * 1024 + b"\r\n0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", ask.port), timeout=30) as line:
        head = f"POST /login HTTP/1.1\r\nHost: localhost:{ask.port}\r\nOrigin: http://localhost:{ask.port}\r\n"
        line.sendall(head.encode() + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks)
        assert line.makefile("rb").readline().split()[1] == b"413"


@pytest.mark.parametrize(
    "path",
    [
        "/static/x/../../app.py",
        "/static/../app.py",
        "/static/x/..%2f..%2fapp.py",
        "/static/x/%2e%2e/app.py",
        "/static/x//etc/passwd",
        "/static/x/templates/base.html",
    ],
)
def test_no_path_leads_out_of_the_files_that_are_served(ask: Client, path: str) -> None:
    assert ask(path).status == 404


def test_a_problem_is_json_for_programs_and_a_page_for_people(ask: Client) -> None:
    assert ask("/nothing").headers["content-type"] == "application/problem+json"
    assert set(json.loads(ask("/nothing").body)) >= {"type", "title", "status", "detail"}
    assert ask("/nothing", accept="text/html").headers["content-type"].startswith("text/html")
