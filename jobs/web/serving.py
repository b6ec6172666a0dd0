"""Running the application: the rules of who may reach it, then uvicorn until it is told to stop."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import uvicorn

from jobs.errors import UsageInvalid
from jobs.requested import Requests
from jobs.web.app import make_app
from jobs.web.tokens import Tokens, web_folder

if TYPE_CHECKING:
    from fleet import Fleet
    from jobs.web.settings import Settings


def serve(fleet: Fleet, settings: Settings, *, on_ready: Callable[[str], None] = lambda _: None) -> None:
    """Serve a fleet until Ctrl-C or SIGTERM; what is being answered then is answered.

    Args:
        on_ready: told the address, once the port is taken.

    Raises:
        UsageInvalid: others could reach it and there is no token, or the address cannot be taken.
    """
    check_reach(Tokens(web_folder(fleet.store.path), fleet.store.clock), settings)
    taken = listening(settings)
    try:
        server = uvicorn.Server(
            uvicorn.Config(
                make_app(fleet, settings, Requests(fleet, web_folder(fleet.store.path))),
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,  # the address that counts is the one that is connected
                timeout_keep_alive=15,
                timeout_graceful_shutdown=10,
                h11_max_incomplete_event_size=65_536,
                limit_concurrency=500,
            )
        )
        host, port = taken.getsockname()[:2]
        on_ready(f"http://{f'[{host}]' if ':' in host else host}:{port}/")
        server.run(sockets=[taken])
    finally:
        taken.close()


def check_reach(tokens: Tokens, settings: Settings) -> None:
    """Refuse to be reached from other machines while nobody has a token.

    Raises:
        UsageInvalid: so it is.
    """
    if not settings.open_to_local and not tokens.all():
        raise UsageInvalid(
            f"{settings.host} is reached with a token only, and there is none",
            hint="tsfleet ui token add NAME --scope read",
        )


def listening(settings: Settings) -> socket.socket:
    """A socket at the address; taken before anything is told of it."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With its protocol named, for only then asyncio sends what it has at once; else each answer waits 40 ms.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((settings.host, settings.port))
        made.listen(2048)
    except OSError as error:
        made.close()
        hint = "name another with --port; 0 lets the system choose"
        raise UsageInvalid(f"{settings.host}:{settings.port} cannot be taken: {error.strerror}", hint=hint) from error
    return made
