"""What stands before every route: whose name the request says, where it comes from, who asks, how much at once.

The order is the law: a wrong Host is refused before anything is looked up, a foreign page's request before anybody is
recognised, a large body before it is read. Whatever comes back carries the same headers, errors included.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import asynccontextmanager
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from jobs.web import problems
from jobs.web.sessions import COOKIE, Sessions
from jobs.web.settings import Settings, is_loopback
from jobs.web.tokens import LOCAL, NOBODY, Principal, Tokens
from store.errors import TsfleetError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: Nothing from elsewhere, no script or style in a page's own text, no frame around it.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    b"content-security-policy": POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(), geolocation=(), microphone=()",
}


class Guard:
    """The application behind the checks."""

    def __init__(self, app: ASGIApp, settings: Settings, tokens: Tokens, sessions: Sessions) -> None:
        self._app, self._settings, self._tokens, self._sessions = app, settings, tokens, sessions
        self._turns = asyncio.Semaphore(settings.at_once)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:  # no web sockets here
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = False

        async def telling(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                present = {name.lower() for name, _ in message["headers"]}
                added = [(name, value) for name, value in HEADERS.items() if name not in present]
                if b"cache-control" not in present:
                    added.append((b"cache-control", b"no-store"))
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        try:
            headers = _headers(scope)
            self._check_host(headers)
            check_origin(scope["method"], headers)
            scope.setdefault("state", {})["principal"] = self._recognised(scope, headers)
            self._check_length(headers)
            async with self._turn(), asyncio.timeout(self._settings.request_s):
                await self._app(scope, _Bounded(receive, self._settings.body_bytes), telling)
        except TimeoutError:
            if not began:
                await _refuse(telling, problems.Refused(504, "the answer took too long", hint="ask for less"))
        except TsfleetError as error:
            if began:
                raise
            await _refuse(telling, error)

    def _check_host(self, headers: Mapping[bytes, list[bytes]]) -> None:
        hosts = headers.get(b"host", [])
        if len(hosts) != 1 or not self._settings.admits(_text(hosts[0])):
            said = ", ".join(_text(host)[:80] for host in hosts) or "none"
            hint = "tsfleet ui --name NAME adds a name that the server is reached by"
            raise problems.Refused(421, f"this server is not known as {said!r}", kind="host-unknown", hint=hint)

    def _recognised(self, scope: Scope, headers: Mapping[bytes, list[bytes]]) -> Principal:
        """Who asks. A wrong token is refused and not taken for none: its owner would not see why he sees less."""
        given = headers.get(b"authorization", [])
        if given:
            kind, _, text = _text(given[0]).partition(" ")
            found = self._tokens.principal(text.strip()) if kind.lower() == "bearer" and len(given) == 1 else None
            if found is None:
                raise problems.Refused(401, "this token does not hold", kind="token-invalid")
            scope["state"]["by_token"] = True
            return found
        cookie = _cookie(headers)
        token_id = self._sessions.token_of(cookie) if cookie else None
        if token_id is not None and (found := self._tokens.principal_of(token_id)) is not None:
            return found
        client = scope.get("client")
        # Behind a proxy everybody seems to be on this machine.
        handed_on = any(name in headers for name in (b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via"))
        if self._settings.open_to_local and client and is_loopback(client[0]) and not handed_on:
            return LOCAL
        return NOBODY

    def _check_length(self, headers: Mapping[bytes, list[bytes]]) -> None:
        given = headers.get(b"content-length", [b"0"])[0]
        if not given.isdigit() or int(given) > self._settings.body_bytes:
            raise too_large(self._settings.body_bytes)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """So many at once; who comes later waits a while."""
        try:
            await asyncio.wait_for(self._turns.acquire(), self._settings.waiting_s)
        except TimeoutError:
            raise problems.Refused(503, "too many requests are being answered", hint="try again soon") from None
        try:
            yield
        finally:
            self._turns.release()


class _Bounded:
    """A body that ends the request when it grows beyond its bound, whatever its length was said to be."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._most, self._had = receive, most, 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._had += len(message.get("body", b""))
        if self._had > self._most:
            raise too_large(self._most)
        return message


def check_origin(method: str, headers: Mapping[bytes, list[bytes]]) -> None:
    """Refuse what another site's page asks in a user's name: every write, and every read but a plain link to a page.

    Browsers say by themselves where a request comes from. One that says nothing is no page's, and may write only with
    a token of its own in the header.

    Raises:
        Refused: 403.
    """
    site = _text(headers.get(b"sec-fetch-site", [b""])[0]).lower()
    origins = [_text(origin).lower() for origin in headers.get(b"origin", [])]
    host = _text(headers.get(b"host", [b""])[0]).lower()
    same = all(urlsplit(origin).netloc == host for origin in origins)
    foreign = problems.Refused(403, "another site's page asked this", kind="cross-site")
    if method in SAFE_METHODS:
        linked = headers.get(b"sec-fetch-mode", [b""])[0] == b"navigate" and method == "GET"
        if site not in ("", "same-origin", "none") and not linked:
            raise foreign
        return
    if not same or site not in ("", "same-origin", "none"):
        raise foreign
    if not origins and not site and b"authorization" not in headers:
        hint = "send the token as Authorization: Bearer ..."
        raise problems.Refused(
            403, "a write without a token does not say where it comes from", kind="cross-site", hint=hint
        )


def too_large(most: int) -> problems.Refused:
    """The refusal of a body."""
    return problems.Refused(413, f"a body has at most {most:,} bytes", hint="send it in parts")


def _headers(scope: Scope) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.lower(), []).append(value)
    return found


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _cookie(headers: Mapping[bytes, list[bytes]]) -> str:
    jar: SimpleCookie = SimpleCookie()
    try:
        for value in headers.get(b"cookie", []):
            jar.load(_text(value))
    except CookieError:
        return ""
    return jar[COOKIE].value if COOKIE in jar else ""


async def _refuse(send: Send, error: TsfleetError) -> None:
    body = problems.as_bytes(problems.problem_of(error))
    status = problems.status_of(error)
    headers = [(b"content-type", problems.MEDIA.encode()), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 503:
        headers.append((b"retry-after", b"2"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
