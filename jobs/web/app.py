"""The application: every route behind one guard, every error a problem that says the next step."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Match

from jobs.web import problems
from jobs.web.api import acts, listings, state
from jobs.web.api import sql as questions
from jobs.web.desk import Desk
from jobs.web.fresh import Unchanged, headers_of
from jobs.web.guard import Guard
from jobs.web.pages import about, alerts, asset, assets, degradation, door, figures, fleet, jobs, leaderboard, runs, sql
from jobs.web.pages.first import first_looks
from jobs.web.render import page
from jobs.web.settings import Settings
from store.errors import TsfleetError

if TYPE_CHECKING:
    from fleet import Fleet
    from jobs.web.running import Runner

LOG = logging.getLogger("tsfleet.web")
PAGES = (door, fleet, assets, asset, leaderboard, degradation, runs, jobs, alerts, figures, sql, about)
ROUTERS = tuple(one.router for one in (*PAGES, listings, state, acts, questions))


def make_app(looked_at: Fleet, settings: Settings | None = None, runner: Runner | None = None) -> FastAPI:
    """The application over an opened fleet, which it leaves open.

    Args:
        looked_at: the fleet; where its store was opened for reading only, nothing can be uploaded.
        settings: by default for this machine alone.
        runner: takes requests to run a job; without one they are refused.
    """
    set_up = settings or Settings()
    desk = Desk(looked_at, set_up, runner)

    @asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        # A question that runs into its time goes on in its thread: there are no more threads than may work at once.
        anyio.to_thread.current_default_thread_limiter().total_tokens = set_up.at_once
        desk.followed.beside(lambda: first_looks(desk))
        yield
        desk.followed.close()

    app = FastAPI(
        title="tsfleet",
        summary="Forecasts, scores and decisions of a fleet of time-series models",
        version="1",
        lifespan=living,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
    )
    app.state.desk = desk
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(Unchanged, _unchanged)
    app.add_exception_handler(TsfleetError, _told)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _bug)
    app.add_middleware(GZipMiddleware, minimum_size=1_000, compresslevel=4)
    app.add_middleware(Guard, settings=set_up, tokens=desk.tokens, sessions=desk.sessions)
    return app


def _unchanged(_: Request, error: Exception) -> Response:
    assert isinstance(error, Unchanged)
    return Response(status_code=304, headers=headers_of(error.tag))


def _told(request: Request, error: Exception) -> Response:
    assert isinstance(error, TsfleetError)
    if problems.status_of(error) >= 500:
        LOG.warning("%s: %s", error.code, error)
    return _answer(request, problems.problem_of(error))


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = _answer(request, problems.problem(error.status_code, str(error.detail)))
    answer.headers.update(error.headers or {})
    if error.status_code == 405:  # the router names the methods of one route; the next may have the path, too
        answer.headers["allow"] = ", ".join(_methods(request))
    return answer


def _methods(request: Request) -> list[str]:
    routes = (one for router in ROUTERS for one in router.routes if isinstance(one, APIRoute))
    return sorted(
        {name for one in routes if one.matches(request.scope)[0] is not Match.NONE for name in one.methods or ()}
    )


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    told = [f"{'.'.join(str(part) for part in one['loc'][1:])}: {one['msg']}" for one in error.errors()[:5]]
    return _answer(request, problems.problem(400, "; ".join(told), kind="parameter-invalid"))


def _bug(request: Request, error: Exception) -> Response:
    """Starlette raises the error again behind this, and uvicorn logs it; who asked learns nothing of the inside."""
    return _answer(request, problems.problem(500, f"a bug in tsfleet: {type(error).__name__}", kind="bug"))


def _answer(request: Request, made: dict[str, object]) -> Response:
    status = int(str(made["status"]))
    if "text/html" in request.headers.get("accept", "") and not request.url.path.startswith(("/api/", "/figures/")):
        return page(request, "error.html", status=status, problem={"hint": "", **made})
    headers = {"www-authenticate": "Bearer"} if status == 401 else {}
    return Response(problems.as_bytes(made), status, headers, problems.MEDIA)
