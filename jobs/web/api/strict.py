"""Parameters that nobody knows are refused: a filter that is misspelt would else give everything, and look right.

So are those that stand twice where one value is meant: the first would be left out of the answer in silence.
"""

from __future__ import annotations

from typing import get_args, get_origin

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from fleet.registry import nearest
from jobs.web.problems import Refused


def known(route: APIRoute) -> dict[str, bool]:
    """The names of a route's query parameters, those of what it depends on included: whether each may stand often."""
    return _names(route.dependant)


def _names(dependant: Dependant) -> dict[str, bool]:
    own = {one.alias: _is_list(one.field_info.annotation) for one in dependant.query_params}
    for other in dependant.dependencies:
        own |= _names(other)
    return own


def _is_list(annotation: object) -> bool:
    return any(get_origin(one) is list for one in (annotation, *get_args(annotation)))


def strict(request: Request) -> None:
    """Refuse a parameter that a route does not have, or has once; what probes and Prometheus ask is left alone.

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
        if not names[name] and len(request.query_params.getlist(name)) > 1:
            raise Refused(400, f"{name} has one value and stands there twice", kind="parameter-twice")


STRICT = Depends(strict)
