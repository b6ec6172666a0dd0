"""What every route works with: the fleet, the tokens, the audit, what has been answered already.

A route asks the desk for the newest snapshot once and stands on it; what a principal may not see is cut here.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Annotated, TypeVar

from fastapi import Depends, Request

from jobs.web.audit import Audit
from jobs.web.followed import Followed
from jobs.web.kept import Kept
from jobs.web.problems import Refused
from jobs.web.sandbox import Sandbox
from jobs.web.sessions import Sessions
from jobs.web.tokens import Principal, Scope, Tokens, web_folder

if TYPE_CHECKING:
    from fleet import Fleet
    from jobs.web.running import Runner
    from jobs.web.settings import Settings
    from store.reading import Snapshot

T = TypeVar("T")


class Desk:
    """One fleet behind one server."""

    def __init__(self, fleet: Fleet, settings: Settings, runner: Runner | None = None) -> None:
        self.fleet, self.settings, self.runner = fleet, settings, runner
        folder = web_folder(fleet.store.path)
        self.tokens = Tokens(folder, fleet.store.clock)
        self.sessions = Sessions(settings.session_s)
        self.audit = Audit(folder, fleet.store.clock)
        self.kept = Kept()
        self.followed = Followed(fleet.store, behind_s=settings.behind_s)
        self.sandbox = Sandbox(
            fleet.store.path,
            memory=settings.sql_bytes,
            deadline_s=settings.sql_s,
            rows=settings.sql_rows,
            waiting_s=settings.waiting_s,
        )
        self._large = False
        #: Set when the server has made what everybody looks at first.
        self.warm = threading.Event()
        #: Another with every start: a new release or configuration may answer the same snapshot otherwise.
        self.start = secrets.token_hex(4)

    def snapshot(self) -> Snapshot:
        """The newest state of the store."""
        return self.fleet.store.snapshot()

    def once(self, snapshot: Snapshot, key: Hashable, make: Callable[[], T]) -> T:
        """An answer that is made once for a snapshot."""
        return self.kept.get((snapshot.id, key), make)

    def recently(self, snapshot: Snapshot, key: Hashable, make: Callable[[], T]) -> T:
        """The same for what is shown of all assets: over a large fleet it may stand behind the newest commit a little.

        Args:
            snapshot: the newest.
        """
        if self.is_large:
            return self.followed.get(key, snapshot.id, make)
        return self.once(snapshot, key, make)

    @property
    def is_large(self) -> bool:
        """Whether there are so many scores that what is shown of all of them is not made for every commit."""
        if not self._large:  # once it is, it stays so
            self._large = self.fleet.store.stored("scores") > self.settings.exact_scores
        return self._large

    def visible(self, snapshot: Snapshot, principal: Principal) -> tuple[str, ...] | None:
        """The assets that somebody may see, in order; None is all of them."""
        if principal.assets is None:
            return None

        def find() -> tuple[str, ...]:
            ids = snapshot.table("assets", columns=["asset_id"])["asset_id"].to_pylist()
            return tuple(name for name in ids if principal.sees(name))

        return self.once(snapshot, ("visible", principal.assets), find)

    def among(self, snapshot: Snapshot, principal: Principal, wanted: Sequence[str] | None) -> tuple[str, ...] | None:
        """The assets that are asked for, as far as they may be seen; one that may not is as if it were not there."""
        seen = self.visible(snapshot, principal)
        if wanted is None or seen is None:
            return seen if wanted is None else tuple(dict.fromkeys(wanted))
        allowed = frozenset(seen)
        return tuple(name for name in dict.fromkeys(wanted) if name in allowed)


def desk_of(request: Request) -> Desk:
    """The desk of the application that a request came to."""
    desk: Desk = request.app.state.desk
    return desk


class Needs:
    """A scope that a route needs; the dependency gives who asks.

    Args:
        whole: the answer cannot be cut to some assets: a token for some gets none of it.
    """

    def __init__(self, scope: Scope, *, whole: bool = False) -> None:
        self.scope, self.whole = scope, whole

    def __call__(self, request: Request) -> Principal:
        principal: Principal = request.state.principal
        if not principal.may(self.scope):
            known = bool(principal.id)
            told = f"this needs the scope {self.scope}" if known else f"this needs a token with the scope {self.scope}"
            hint = "tsfleet ui token add NAME --scope " + self.scope
            raise Refused(403 if known else 401, told, kind="scope-missing" if known else "token-missing", hint=hint)
        if self.whole and principal.assets is not None:
            raise Refused(403, "this is about all assets, and the token is for some", kind="assets-missing")
        return principal


AtDesk = Annotated[Desk, Depends(desk_of)]
WHOLE = Depends(Needs("read", whole=True))
ADMIN = Depends(Needs("admin", whole=True))
Reader = Annotated[Principal, Depends(Needs("read"))]
WholeReader = Annotated[Principal, WHOLE]
Operator = Annotated[Principal, Depends(Needs("operate"))]
