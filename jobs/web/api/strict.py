"""Parameters that nobody knows are refused: a filter that is misspelt would else give everything, and look right."""

from __future__ import annotations

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from fleet.registry import nearest
from jobs.web.problems import Refused


def known(route: APIRoute) -> tuple[str, ...]:
    """The names of a route's query parameters, those of what it depends on included."""
    return tuple(dict.fromkeys(_names(route.dependant)))


def _names(dependant: Dependant) -> list[str]:
    inner = [name for one in dependant.dependencies for name in _names(one)]
    return [*(one.alias for one in dependant.query_params), *inner]


def strict(request: Request) -> None:
    """Refuse a request with a parameter that its route does not have; what probes and Prometheus ask is left alone.

    Raises:
        Refused: 400, with the names that there are.
    """
    route = request.scope.get("route")
    if not isinstance(route, APIRoute) or not route.path.startswith("/api/"):
        return
    names = known(route)
    for name in request.query_params:
        if name not in names:
            raise Refused(
                400, f"there is no parameter {name[:100]!r}{nearest(name[:100], names)}", kind="parameter-unknown"
            )


STRICT = Depends(strict)
