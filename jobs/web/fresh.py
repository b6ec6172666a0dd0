"""Answers that are still good: an ETag made of the snapshot's number, compared before anything is asked."""

from __future__ import annotations

from fastapi import Request, Response

from jobs.web.desk import Desk
from jobs.web.tokens import Principal


class Unchanged(Exception):
    """What the asker has is still the answer."""

    def __init__(self, tag: str) -> None:
        super().__init__(tag)
        self.tag = tag


def tag_of(desk: Desk, principal: Principal, snapshot: int, *, timed: bool = False) -> str:
    """The ETag of whatever is answered to somebody from a snapshot; a weak one, since encodings differ."""
    minute = f"-{int(desk.fleet.store.clock.now().timestamp()) // 60}" if timed else ""
    return f'W/"{snapshot}-{desk.start}-{principal.id}{minute}"'


def fresh(request: Request, response: Response, desk: Desk, principal: Principal, *, timed: bool = False) -> None:
    """Say which snapshot an answer stands on; end here when the asker has that already.

    Only the catalog's number is read. It is read before the question, so the answer may be newer than its tag and never
    older; but for sums over a large fleet (`Desk.recently`).

    Raises:
        Unchanged: nothing has been committed since.
    """
    # Of a large fleet an answer may be older than its snapshot; no browser keeps it beyond the minute.
    tag = tag_of(desk, principal, desk.fleet.store.head(), timed=timed or desk.is_large)
    known = {one.strip() for one in request.headers.get("if-none-match", "").split(",")}
    if tag in known or tag.removeprefix("W/") in known:
        raise Unchanged(tag)
    for name, value in headers_of(tag).items():
        response.headers[name] = value


def headers_of(tag: str) -> dict[str, str]:
    """Kept by the browser of who asked, and asked for again each time."""
    return {"etag": tag, "cache-control": "private, no-cache", "vary": "accept, authorization, cookie"}
