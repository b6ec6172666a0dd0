"""In and out: a token once, then a cookie that only this server reads. And the files that pages need."""

from __future__ import annotations

from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from jobs.web import statics
from jobs.web.desk import AtDesk
from jobs.web.problems import Refused
from jobs.web.render import page
from jobs.web.sessions import COOKIE

router = APIRouter(include_in_schema=False)


@router.get("/login")
def ask(request: Request, next: str = "/") -> Response:  # noqa: A002  the name in the URL
    """The form."""
    return page(request, "login.html", wrong=False, next=inside(next))


@router.post("/login")
async def login(request: Request, desk: AtDesk) -> Response:
    """A token for a cookie."""
    form = parse_qs((await request.body()).decode("utf-8", "replace"))
    where = inside(form.get("next", ["/"])[0])
    principal = desk.tokens.principal(form.get("token", [""])[0].strip())
    client = request.client.host if request.client else ""
    desk.audit.tell("login", actor=principal.name if principal else "", address=client, ok=principal is not None)
    if principal is None:
        return page(request, "login.html", status=401, wrong=True, next=where)
    answer = RedirectResponse(where, 303)
    answer.set_cookie(
        COOKIE,
        desk.sessions.begin(principal.id),
        max_age=int(desk.settings.session_s),
        httponly=True,
        samesite="strict",
        secure=desk.settings.secure,
    )
    return answer


@router.post("/logout")
def logout(request: Request, desk: AtDesk) -> Response:
    """Forget the cookie, here and there."""
    desk.sessions.end(request.cookies.get(COOKIE, ""))
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=desk.settings.secure)
    return answer


@router.get("/static/{tag}/{name}")
def file(request: Request, tag: str, name: str) -> Response:
    """A file of ours, or Plotly's script."""
    found = statics.static(name)
    if tag != found.tag:
        raise Refused(404, "this file has changed", hint="load the page again")
    headers = {"cache-control": statics.FOR_EVER, "vary": "accept-encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found.zipped, media_type=found.media, headers={**headers, "content-encoding": "gzip"})
    return Response(found.body, media_type=found.media, headers=headers)


def inside(address: str) -> str:
    r"""An address within this server; anything else becomes the first page.

    >>> inside("/assets?q=b1"), inside("//evil.example"), inside("/\\evil.example"), inside("https://evil.example")
    ('/assets?q=b1', '/', '/', '/')
    """
    plain = address.isprintable() and address.startswith("/") and "\\" not in address
    return address if plain and not address.startswith("//") else "/"
