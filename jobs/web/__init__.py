"""How people and applications look in: pages and REST over one fleet, served from this machine.

`make_app` gives an ASGI application; `serve` runs it. All that FastAPI, Starlette, Jinja2 and uvicorn do is done here.
Answers stand on one snapshot of the store, and nobody is shown more than a token's scopes and assets allow.
"""

from jobs.web.app import make_app
from jobs.web.serving import serve
from jobs.web.settings import Settings

__all__ = ["Settings", "make_app", "serve"]
