"""What OpenAPI tells of answers: an example of each, and that every error is a problem."""

from __future__ import annotations

from typing import Any

from jobs.web.formats import MEDIA
from jobs.web.problems import MEDIA as PROBLEM

_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "hint": {"type": "string"},
    },
}
_EXAMPLE = {
    "type": "urn:tsfleet:problem:parameter-invalid",
    "title": "Bad Request",
    "status": 400,
    "detail": "limit: Input should be greater than or equal to 1",
}
Responses = dict[int | str, dict[str, Any]]
PROBLEMS: Responses = {
    "default": {"description": "a problem", "content": {PROBLEM: {"schema": _PROBLEM, "example": _EXAMPLE}}}
}
_ROWS = {
    "type": "object",
    "required": ["snapshot", "rows"],
    "properties": {
        "snapshot": {"type": "integer"},
        "next": {"type": ["string", "null"]},
        "rows": {"type": "array", "items": {"type": "object"}},
    },
}


def example(**row: object) -> Responses:
    """The answers of a list, with one row as the example."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    shown = {"snapshot": 12, "next": None, "rows": [row]}
    content: dict[str, Any] = {media.partition(";")[0]: binary for media in MEDIA.values()}
    content["application/json"] = {"schema": _ROWS, "example": shown}
    return {
        200: {"description": "rows", "content": content},
        304: {"description": "nothing has been committed since the ETag that was sent"},
        **PROBLEMS,
    }


def plain(shown: dict[str, object], *, status: int = 200) -> Responses:
    """The answers of what is no list: one object."""
    content = {"application/json": {"schema": {"type": "object"}, "example": shown}}
    return {status: {"description": "so it is", "content": content}, **PROBLEMS}
