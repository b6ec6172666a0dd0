"""What writes: readings that come in, jobs that are asked for, words on alerts.

Each act stands in the audit before it is done.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal

import pyarrow as pa
from fastapi import APIRouter, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from jobs.alerts.book import act
from jobs.web.api.shapes import plain
from jobs.web.api.strict import STRICT
from jobs.web.desk import AtDesk, Desk, Operator
from jobs.web.formats import MEDIA, as_json
from jobs.web.moments import Instant
from jobs.web.problems import Refused
from jobs.web.tokens import Principal

router = APIRouter(prefix="/api/v1", dependencies=[STRICT])
ROW = {"asset_id": "b101", "valid_time": "2024-06-10T07:00:00Z", "y": 3.2}
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["rows"],
                    "properties": {"rows": {"type": "array", "minItems": 1, "items": {"type": "object"}}},
                },
                "example": {"rows": [ROW]},
            },
            **{media.partition(";")[0]: {} for form, media in MEDIA.items() if form != "json"},
        },
    }
}


@router.post("/actuals", responses=plain({"rows": 1, "written": {"actuals": 1}, "snapshot": 13}), openapi_extra=_UPLOAD)
async def upload(request: Request, desk: AtDesk, who: Operator) -> Response:
    """Bring readings in, as JSON, Arrow, Parquet or CSV, in one commit or not at all.

    Columns are asset_id, valid_time and y, or those that ``[data]`` of the configuration names; what they mean (zone,
    label, unit) is what ``[data]`` says. What the store has already is left out, so that sending again is harmless.
    """
    body, media = await request.body(), request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return await run_in_threadpool(_brought, request, desk, who, body, media)


def _brought(request: Request, desk: Desk, who: Principal, body: bytes, media: str) -> Response:
    data = desk.fleet.config.data
    given = read(body, media)
    names = {"asset_id": data.asset, "valid_time": data.time, "y": data.target}
    table = given.rename_columns([names.get(name, name) for name in given.column_names])
    missing = sorted({data.asset, data.time, data.target} - {*table.column_names})
    if missing or len({*table.column_names}) != table.num_columns:
        said = f"columns {', '.join(missing)} are missing" if missing else "a column comes twice"
        raise Refused(422, said, kind="columns-invalid", hint=f"there are {', '.join(table.column_names)}"[:500])
    ids = [str(name) for name in table[data.asset].unique().to_pylist()]
    foreign = [name for name in ids if not who.sees(name)]
    if foreign:
        raise Refused(403, f"asset {foreign[0]!r} is none of this token's", kind="assets-missing")
    client = request.client.host if request.client else ""
    desk.audit.tell("upload", actor=who.name, token=who.id, address=client, rows=table.num_rows, assets=ids[:20])
    report = desk.fleet.ingest(table)
    told = {
        "rows": report.rows,
        "written": dict(report.written),
        "snapshot": report.snapshot,
        "bad": report.bad,
        "odd": report.summary(),
    }
    return Response(as_json(told), media_type="application/json")


def read(body: bytes, media: str) -> pa.Table:
    """The table in a body.

    Raises:
        Refused: 415 of an unknown form, 422 of a broken one.
    """
    try:
        match media:
            case "application/json":
                import json

                rows = json.loads(body)["rows"]
                if not rows or not all(isinstance(row, dict) for row in rows):
                    raise Refused(422, "rows is a list of objects, one at least", kind="body-invalid")
                return pa.Table.from_pylist(rows)
            case "text/csv":
                from pyarrow import csv

                return csv.read_csv(io.BytesIO(body))
            case "application/vnd.apache.parquet":
                import pyarrow.parquet as pq

                return pq.read_table(io.BytesIO(body))
            case "application/vnd.apache.arrow.stream":
                return pa.ipc.open_stream(body).read_all()
    except (pa.ArrowException, ValueError, KeyError, TypeError, OSError, OverflowError) as error:
        raise Refused(
            422, f"the body cannot be read: {str(error).splitlines()[0][:300]}", kind="body-invalid"
        ) from error
    raise Refused(415, f"readings come as {', '.join(MEDIA)}", hint="say which with Content-Type")


class Wanted(BaseModel):
    """Which run of a job is asked for; without a body the one that is due."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"slot": "2024-06-10T05:05:00Z"}})

    slot: Instant | None = Field(None, description="the logical time; the last one that is due by default")
    again: bool = Field(False, strict=True, description="do it anew although it is done")


SHOWN = {"id": "9f2c51", "job": "nightly", "slot": "2024-06-10T02:00:00Z", "revision": 0, "status": "asked"}


@router.post("/jobs/{job}/runs", status_code=202, responses=plain(dict(SHOWN), status=202))
def run(
    request: Request,
    desk: AtDesk,
    who: Operator,
    job: str,
    idempotency_key: Annotated[str, Header(min_length=1, max_length=200)],
    wanted: Wanted | None = None,
) -> Response:
    """Run a job now, as `tsfleet jobs run` does, in a process of its own; the same Idempotency-Key is the same request.

    The answer does not wait for the run: ask again with the same key, or look at `job-runs`, for how it ended. A slot
    that is done is left alone unless ``again`` is said. A job that is at work is refused with 409.
    """
    if who.assets is not None:
        raise Refused(403, "a job is about all assets, and the token is for some", kind="assets-missing")
    runner = desk.runner
    if runner is None:
        raise Refused(501, "this server takes no requests for jobs", kind="jobs-missing", hint="tsfleet jobs run NAME")
    if job not in runner.jobs():
        raise Refused(404, f"there is no job {job!r}", kind="job-unknown", hint=f"there are {', '.join(runner.jobs())}")
    given = wanted or Wanted()
    slot = None if given.slot is None else given.slot.astimezone(UTC)
    client = request.client.host if request.client else ""
    desk.audit.tell(
        "job", actor=who.name, token=who.id, address=client, job=job, key=idempotency_key, slot=slot, again=given.again
    )
    # A key is its owner's: two who count 1, 2, 3 do not meet.
    told = runner.ask(job, key=f"{who.id} {idempotency_key}", actor=who.name, slot=slot, anew=given.again)
    return Response(as_json(plained(told)), 202, media_type="application/json")


class Said(BaseModel):
    """What somebody says of an alert."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"action": "acknowledge", "note": "the vendor is on it"}}
    )

    action: Literal["acknowledge", "mute", "unmute", "close"]
    until: Instant | None = Field(None, description="of a mute: nobody is told before")
    note: str = Field("", max_length=500, description="why")


ACTED = {"alert_id": "01m84q5c5s9y7khkj5cdg90rm0", "action": "acknowledge", "actor": "night shift"}


@router.post("/alerts/{alert}/actions", responses=plain(dict(ACTED)))
def say(request: Request, desk: AtDesk, who: Operator, alert: str, said: Said) -> Response:
    """Acknowledge, mute, unmute or close an open alert, as `tsfleet alerts` does; the alert is named by its whole id.

    An acknowledged alert reminds nobody until it closes; one closed by hand opens anew only after its cause was gone.
    """
    if who.assets is not None:
        raise Refused(403, "an alert is about all assets, and the token is for some", kind="assets-missing")
    now = desk.fleet.clock.now()
    if (said.action == "mute") != (said.until is not None):
        raise Refused(422, "until is for mute, which needs it", kind="body-invalid")
    if said.until is not None and said.until <= now:
        raise Refused(422, f"until {said.until.isoformat()} is over", kind="body-invalid", hint="name a later instant")
    client = request.client.host if request.client else ""
    desk.audit.tell("alert", actor=who.name, token=who.id, address=client, alert=alert, action=said.action)
    known = desk.fleet.store.sql("select 1 from alerts where alert_id = $alert and closed_at is null", {"alert": alert})
    if not known.rows():
        raise Refused(404, f"no alert {alert!r} is open", kind="alert-unknown", hint="/api/v1/alerts?open=true")
    act(desk.fleet.store, [alert], said.action, at=now, actor=who.name, until=said.until, note=said.note)
    told = {"alert_id": alert, "action": said.action, "actor": who.name, "until": said.until}
    return Response(as_json(plained(told)), media_type="application/json")


def plained(told: Mapping[str, object]) -> dict[str, object]:
    """With instants as all of REST writes them."""
    return {
        name: f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if isinstance(value, datetime) else value
        for name, value in told.items()
    }
