"""How people and applications look in: pages and REST over one fleet, served from this machine.

`make_app` gives an ASGI application; `serve` runs it. All that FastAPI, Starlette, Jinja2 and uvicorn do is done here.
Answers stand on one snapshot of the store, and nobody is shown more than a token's scopes and assets allow.

Importing this loads no server: the process that asks a question in SQL comes in here, too, and starts for each.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobs.web.app import make_app
    from jobs.web.serving import serve
    from jobs.web.settings import Settings

__all__ = ["Settings", "make_app", "serve"]

_HOME = {"Settings": "jobs.web.settings", "make_app": "jobs.web.app", "serve": "jobs.web.serving"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'jobs.web' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
