"""What a request is told when it cannot be answered: a status, a stable code, a sentence, the next step (RFC 9457).

Browsers get a page of it, everything else JSON. Nothing of an unforeseen error but its kind leaves the process.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from jobs.errors import JobsError
from store.errors import TsfleetError

MEDIA = "application/problem+json"

#: By the stable code of an error of ours.
_STATUS = {
    "not-found": 404,
    "asset-unknown": 404,
    "forecast-missing": 404,
    "snapshot-expired": 410,
    "nothing-selected": 404,
    "alert-unknown": 404,
    "query-invalid": 400,
    "config-invalid": 400,
    "metric-unknown": 400,
    "usage-invalid": 400,
    "invalid-id": 400,
    "schema-mismatch": 400,
    "series-invalid": 422,
    "source-unreadable": 422,
    "already-exists": 409,
    "commit-conflict": 409,
    "job-running": 409,
    "store-busy": 503,
    "read-only": 403,
    "no-space": 507,
    "damaged": 500,
}


class Refused(JobsError):
    """The request is not answered, for a reason that its status tells."""

    code = "refused"

    def __init__(self, status: int, message: str, *, kind: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status, self.kind = status, kind or HTTPStatus(status).phrase.lower().replace(" ", "-")


def status_of(error: TsfleetError) -> int:
    """The status for an error of ours.

    >>> from store.errors import NotFound
    >>> status_of(NotFound("no such asset"))
    404
    """
    return error.status if isinstance(error, Refused) else _STATUS.get(error.code, 500)


def problem_of(error: TsfleetError) -> dict[str, Any]:
    """An error of ours as RFC 9457 has it."""
    kind = error.kind if isinstance(error, Refused) else error.code
    return problem(status_of(error), error.message, kind=kind, hint=error.hint)


def problem(status: int, detail: str, *, kind: str = "", hint: str = "") -> dict[str, Any]:
    """A problem as RFC 9457 has it.

    >>> problem(404, "there is no asset 'x'", kind="asset-unknown")["type"]
    'urn:tsfleet:problem:asset-unknown'
    """
    phrase = HTTPStatus(status).phrase
    made = {
        "type": f"urn:tsfleet:problem:{kind or phrase.lower().replace(' ', '-')}",
        "title": phrase,
        "status": status,
        "detail": detail,
    }
    return {**made, "hint": hint} if hint else made


def as_bytes(made: dict[str, Any]) -> bytes:
    """A problem on its way out."""
    return json.dumps(made, ensure_ascii=False).encode("utf-8", "backslashreplace")
