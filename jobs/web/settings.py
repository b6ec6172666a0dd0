"""How the server behaves: where it listens, under which names, and how much it takes at once."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from jobs.errors import UsageInvalid

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is set before the server starts; nothing of it changes while it runs.

    Args:
        host: the address it listens on.
        port: 0 lets the system choose.
        names: further names that it is reached by; a request that says any other in its Host is refused.
        require_token: refuse whoever shows no token, also on this machine.
        secure: the pages are reached by https, so the cookie is for https alone.
        body_bytes: the largest body that is read.
        request_s: how long one request may take.
        waiting_s: how long a request waits for its turn.
        at_once: so many requests are worked on at once.
        sql_s, sql_bytes, sql_rows: what a question in SQL may take: time, address space, rows of its answer.
        session_s: how long a login holds.
        exact_scores, behind_s: with more scores than these, sums over all assets may stand behind the newest commit by
            so many seconds.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    names: tuple[str, ...] = ()
    require_token: bool = False
    secure: bool = False
    body_bytes: int = 16_000_000
    request_s: float = 60.0
    waiting_s: float = 10.0
    at_once: int = 8
    sql_s: float = 20.0
    sql_bytes: int = 2_000_000_000
    sql_rows: int = 1_000_000
    session_s: float = 12 * 3600.0
    exact_scores: int = 1_000_000
    behind_s: float = 60.0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise UsageInvalid(f"port {self.port}: accepted: 0 to 65535")

    @property
    def local(self) -> bool:
        """Whether only this machine reaches it.

        >>> Settings().local, Settings(host="0.0.0.0").local
        (True, False)
        """
        return is_loopback(self.host)

    @property
    def open_to_local(self) -> bool:
        """Whether somebody on this machine may read without a token."""
        return self.local and not self.require_token

    def admits(self, host: str) -> bool:
        """Whether a request may say this Host: with DNS rebinding a page of another's says its own.

        >>> Settings().admits("localhost:8765"), Settings().admits("evil.example:8765"), Settings().admits("")
        (True, False, False)
        """
        name = host_name(host)
        own = () if self.host in ("0.0.0.0", "::") else (self.host, f"[{self.host}]")  # noqa: S104  told apart, not bound
        known = (*LOOPBACK_NAMES, *own, *self.names)
        return bool(name) and name in {one.lower() for one in known}


def is_loopback(address: str) -> bool:
    """Whether an address, or the name localhost, stays on this machine.

    >>> is_loopback("127.0.0.5"), is_loopback("::1"), is_loopback("10.0.0.1"), is_loopback("localhost")
    (True, True, False, True)
    """
    if address.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def host_name(host: str) -> str:
    """The name in a Host header, without its port.

    >>> host_name("[::1]:80"), host_name("Plant.example:8765"), host_name("a@b")
    ('[::1]', 'plant.example', 'a@b')
    """
    host = host.strip().lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
