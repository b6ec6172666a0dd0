"""A run's row as it begins, is taken up again and ends: from what is known to what shall be known. No disk here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from traceback import format_exception_only
from typing import Any, Literal, TypedDict

from store import environment
from store.errors import AlreadyExists, SchemaMismatch, WrongState
from store.ids import check_asset_id, new_id
from store.rows import to_json
from store.tracking.ledger import Told
from store.tracking.values import plain_note, plain_params, plain_tags

Status = Literal["ok", "failed", "killed"]
_MAX_ERROR = 2_000


class Words(TypedDict, total=False):
    """What may be said of a run beside its asset and recipe, by keyword; see ``Store.run``."""

    product: str
    params: Mapping[str, Any] | None
    tags: Mapping[str, Any] | None
    library: str
    kind: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a user says of a run when making it; checked when it becomes a row."""

    asset: str | None = None
    recipe: str | None = None
    product: str = "default"
    params: Mapping[str, Any] | None = None
    tags: Mapping[str, Any] | None = None
    library: str = ""
    kind: str = "manual"
    note: str = ""


def newly_told(about: About, parent: Told | None, batch_id: str | None = None) -> Told:
    """What is known of a run before it begins.

    Args:
        about: what the user says.
        parent: of which it is a child.
        batch_id: that it shares; the parent's by default, else its own id.
    """
    run_id = new_id()
    place = environment.captured()
    if parent is not None:
        batch_id = batch_id or parent.row.get("batch_id") or parent.id
    row = {
        "run_id": run_id,
        "asset_id": None if about.asset is None else check_asset_id(about.asset),
        "product": about.product,
        "recipe": about.recipe,
        "library": about.library or None,
        "library_version": environment.version_of(about.library) if about.library else None,
        "kind": about.kind,
        "code_version": place.code_version,
        "batch_id": batch_id or run_id,
    }
    tags = plain_tags(about.tags or {}) | {"environment": place.told()}
    if parent is not None:
        tags["parent"] = parent.id
    if about.note:
        tags["note"] = plain_note(about.note)
    return Told(row=row, params=plain_params(about.params or {}), tags=tags)


def begun(told: Told, now: datetime) -> Told:
    """The run as running for the first time."""
    return replace(told, row={**told.row, "status": "running", "started_at": now})


def reopened(told: Told) -> Told:
    """The run as running again, here: where it ran before stays written down.

    Raises:
        WrongState: when it is deleted.
    """
    if "deleted" in told.tags:
        raise WrongState(f"the run {told.id} is deleted", hint="store.restore_run(id) brings it back")
    place = environment.captured()
    row = {**told.row, "status": "running", "ended_at": None, "error_code": None, "error": None}
    left = dict(told.tags.get("environment") or {})
    before = [*left.pop("before", []), {"code_version": told.row.get("code_version"), "host": left.get("host")}]
    tags = {**told.tags, "environment": place.told() | {"before": before}}
    return replace(told, row=row | {"code_version": place.code_version}, tags=tags, shared=True)


def ended(told: Told, status: Status, error: BaseException | None, now: datetime, seconds: float) -> Told:
    """The run as ended, with what ended it."""
    row = {**told.row, "status": status, "ended_at": now, "duration_s": seconds, "error_code": None, "error": None}
    if error is not None:
        row |= {"error_code": error_code(type(error)), "error": one_line(error)}
    return replace(told, row=row)


def status_after(error: BaseException | None) -> Status:
    """How a block ended: an exit that says all is well is no failure, an interrupt is no fault of the model."""
    if error is None or (isinstance(error, SystemExit) and error.code in {None, 0}):
        return "ok"
    return "failed" if isinstance(error, Exception) else "killed"


def with_params(told: Told, params: Mapping[str, Any], *, replacing: bool) -> Told:
    """The run with more parameters.

    Raises:
        AlreadyExists: when one has another value already, and it is not to be replaced.
    """
    for name, value in params.items():
        if not replacing and name in told.params and to_json(told.params[name]) != to_json(value):
            raise AlreadyExists(
                f"the parameter {name!r} of the run {told.id} is {told.params[name]!r:.80}, not {value!r:.80}",
                hint="a parameter says how a run was made; pass replace=True to correct it",
            )
    # Compared as text: to Python 1, 1.0 and True are equal.
    if all(name in told.params and to_json(told.params[name]) == to_json(value) for name, value in params.items()):
        return told
    return replace(told, params={**told.params, **params})


def metric_rows(
    told: Told, history: Mapping[str, Any], steps: Any, times: Any, now: datetime
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(rows of ``metrics``, the last value of each) for series of values by name."""
    about = {"run_id": told.id} | {name: told.row[name] for name in ("asset_id", "recipe", "library")}
    rows, last = [], {}
    for name, values in history.items():
        count = len(values)
        for what, beside in (("steps", steps), ("times", times)):
            if beside is not None and len(beside) != count:
                raise SchemaMismatch(f"the metric {name!r} has {count} values and {len(beside)} {what}")
        at = range(count) if steps is None else steps
        when = [now] * count if times is None else times
        told_rows = [
            {**about, "name": name, "step": step, "time": moment, "value": value}
            for step, moment, value in zip(at, when, values, strict=True)
        ]
        if count:
            last[name] = told_rows[-1]["value"]
        rows += told_rows
    return rows, last


def error_code(kind: type[BaseException]) -> str:
    """The stable code of an error of ours, and for others the type's name.

    >>> error_code(ZeroDivisionError)
    'zero-division-error'
    """
    given = getattr(kind, "code", None)
    return given if isinstance(given, str) else re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", kind.__name__).lower()


def one_line(error: BaseException) -> str:
    r"""An exception's type and message on one line, whatever it does when asked for its text.

    >>> one_line(ValueError("two\nlines"))
    'ValueError: two lines'
    """
    lines = format_exception_only(type(error), error)
    # A SyntaxError begins with the place, and notes come behind the message.
    name = type(error).__qualname__
    said = next((line for line in lines if name in line.partition(":")[0]), lines[0])
    text = " ".join(said.encode("utf-8", "replace").decode().split())
    return text if len(text) <= _MAX_ERROR else text[:_MAX_ERROR] + "..."
