"""Who is told what: what has to be said goes into ``notifications`` with the alert itself, and is sent afterwards.

So a crash between the two loses nothing. A channel that fails is left alone for the rest of the run, stops no job, and
is tried again with the next one; a crash between sending and writing that down sends once more, under the same id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from fleet.config.alerting import SEVERITIES
from jobs.alerts.book import Alert, Change
from jobs.alerts.message import Channel, Event, Message
from jobs.errors import AlertNotSent

if TYPE_CHECKING:
    from fleet.config import AlertSection, ChannelSection
    from store import Store
    from store.reading import Snapshot

#: News of an alert that nobody could be told of for so long is given up; that it is open never is while it is.
GIVEN_UP = timedelta(days=3)
EXAMPLES = 20

SAID = """
select n.* from notifications n semi join (
    select alert_id from alerts where closed_at is null or closed_at >= $since) a using (alert_id)
order by n.created_at, n.notification_id
"""
WAITING = """
select n.*, a.opened_at, a.closed_at, a.rule, a.cause, a.assets, a.impact, a.severity, a.text
from notifications n join alerts a on a.alert_id = n.alert_id
where n.status in ('waiting', 'failed') order by n.created_at, n.notification_id
"""
GRAVEST = """
select asset_id from alert_assets where alert_id = $alert
group by asset_id order by max(impact) desc, asset_id limit $most
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What was said of an alert over a channel so far, or waits to be; and whether any of it arrived."""

    events: frozenset[str]
    heard: bool
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What became of the notifications of a run."""

    sent: int = 0
    failed: int = 0
    errors: tuple[str, ...] = ()


def told_so_far(snapshot: Snapshot, at: datetime) -> dict[tuple[str, str], Told]:
    """By alert and channel what was said, or waits to be."""
    found: dict[tuple[str, str], Told] = {}
    for row in snapshot.sql(SAID, {"since": at - GIVEN_UP}).rows():
        if row["status"] == "dropped":
            continue
        key = row["alert_id"], row["channel"]
        held = found.get(key)
        found[key] = Told(
            events=frozenset({row["event"], *(held.events if held else ())}),
            heard=row["status"] == "sent" or (held is not None and held.heard),
            last_at=max(row["created_at"], held.last_at) if held else row["created_at"],
        )
    return found


def due(
    change: Change,
    now: Mapping[str, Alert],
    told: Mapping[tuple[str, str], Told],
    rules: Sequence[AlertSection],
    channels: Mapping[str, ChannelSection],
    at: datetime,
) -> list[dict[str, Any]]:
    """The rows of ``notifications`` that a run adds.

    An alert is told when it opens, or when it is no longer muted; when it gets worse or a reminder is due, unless
    somebody acknowledged it; and when it closes, to whom it was told.
    """
    by_name = {rule.name: rule for rule in rules}
    rows = []
    for alert in now.values():
        if alert.muted(at):
            continue
        mine = [by_name[name] for name in alert.rule.split(", ") if name in by_name]
        for channel in _channels(alert, mine, channels):
            held = told.get((alert.alert_id, channel))
            remind = min((rule.remind for rule in mine if rule.remind is not None), default=None)
            if held is None:
                rows.append(_row(alert.alert_id, channel, "opened", at))
            elif alert.acknowledged:
                continue
            elif alert.alert_id in change.grown:
                rows.append(_row(alert.alert_id, channel, "worse", at))
            elif remind is not None and at - held.last_at >= remind:
                rows.append(_row(alert.alert_id, channel, "reminder", at))
    for alert in change.closed:
        for (alert_id, channel), held in told.items():
            if alert_id == alert.alert_id and held.heard and "closed" not in held.events and not alert.muted(at):
                rows.append(_row(alert_id, channel, "closed", at))
    return rows


def _channels(alert: Alert, rules: Sequence[AlertSection], channels: Mapping[str, ChannelSection]) -> list[str]:
    named = {name for rule in rules for name in (channels if rule.channels is None else rule.channels)}
    grave = SEVERITIES.index(alert.severity) if alert.severity in SEVERITIES else 0
    return [name for name in channels if name in named and SEVERITIES.index(channels[name].least) <= grave]


def _row(alert_id: str, channel: str, event: Event, at: datetime) -> dict[str, Any]:
    stamp = f"/{at:%Y%m%dT%H%M%SZ}" if event in ("worse", "reminder") else ""
    return {
        "notification_id": f"{alert_id}/{event}{stamp}/{channel}", "alert_id": alert_id, "channel": channel,
        "event": event, "created_at": at, "status": "waiting", "attempts": 0, "sent_at": None, "error": None,
    }  # fmt: skip


def send(store: Store, fleet: str, channels: Mapping[str, Channel], at: datetime) -> Sent:
    """Sends what waits, the oldest first; each result is committed before the next is sent.

    What was never told and is over is dropped, and so is what is too old.
    """
    snapshot = store.snapshot()
    broken: dict[str, str] = {}
    sent = failed = 0
    for row in snapshot.sql(WAITING).rows():
        name = row["channel"]
        over = row["closed_at"] is not None and row["event"] != "closed"
        old = row["event"] != "opened" and at - row["created_at"] > GIVEN_UP
        if over or old or name not in channels:
            _written(store, row, status="dropped" if over else "given_up")
            continue
        if name in broken:
            failed += 1
            continue
        try:
            channels[name].send(_message(snapshot, fleet, row, at))
        except AlertNotSent as error:
            broken[name] = error.message
            failed += 1
            _written(store, row, status="failed", error=error.message, attempts=(row["attempts"] or 0) + 1)
        else:
            sent += 1
            _written(store, row, status="sent", sent_at=at, attempts=(row["attempts"] or 0) + 1)
    errors = tuple(f"channel {name}: {error}; it is tried again with the next run" for name, error in broken.items())
    return Sent(sent=sent, failed=failed, errors=errors)


_COLUMNS = (
    "notification_id", "alert_id", "channel", "event", "created_at", "status", "attempts", "sent_at", "error",
)  # fmt: skip


def _written(store: Store, row: Mapping[str, Any], **news: object) -> None:
    transaction = store.begin(note="alerts: notified")
    transaction.replace("notifications", [{**{name: row[name] for name in _COLUMNS}, "error": None, **news}])
    transaction.commit()


def _message(snapshot: Snapshot, fleet: str, row: Mapping[str, Any], at: datetime) -> Message:
    asked = {"alert": row["alert_id"], "most": EXAMPLES}
    return Message(
        **{name: row[name] for name in ("notification_id", "event", "alert_id", "opened_at")},
        fleet=fleet,
        rule=row["rule"] or "",
        cause=row["cause"] or "",
        severity=row["severity"] or "warning",
        text=row["text"] or "",
        assets=row["assets"] or 0,
        impact=row["impact"] or 0.0,
        at=at,
        examples=tuple(one["asset_id"] for one in snapshot.sql(GRAVEST, asked).rows()),
    )
