"""The book of alerts: opened once, updated while the cause lasts, closed when it is gone; people's words beside it.

Causes of this run are matched with the alerts that are open: by their name, or else, within a family, by the assets
that both are about, since a feed that stopped may be known by another hour when a late row arrives. What a person
closed stays closed until the cause was gone once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fleet.config.alerting import SEVERITIES
from jobs.alerts.causes import Concerned, Group
from jobs.errors import AlertUnknown
from store.ids import new_id

if TYPE_CHECKING:
    from store import Store
    from store.reading import Snapshot
    from store.writing import Transaction

OPEN = "select * from alerts where closed_at is null order by opened_at, alert_id"
MEMBERS = """
select m.* from alert_assets m semi join (select alert_id from alerts where closed_at is null) a using (alert_id)
where m.until is null order by m.alert_id, m.rule, m.asset_id
"""
# The last word on each alert of each kind: whether it was acknowledged, until when it is muted, who closed it.
ACTIONS = """
select c.alert_id, a.cause, c.action, c.acted_at as at, c.until, c.actor
from alert_actions__v c join alerts a on a.alert_id = c.alert_id order by c._v, c.acted_at, c.action_id
"""
FAMILIES = {"inputs": "inputs of ", "readings": "no readings since ", "jobs": "job "}
GROWN = 2.0
#: An alert's impact is written again when it moved by so much.
MOVED = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One row of ``alerts``, with what people said and the assets it is about now."""

    alert_id: str
    opened_at: datetime
    rule: str
    cause: str
    assets: int
    impact: float
    severity: str
    text: str
    members: Mapping[tuple[str, str], datetime] = field(default_factory=dict)
    acknowledged: bool = False
    muted_until: datetime | None = None

    def muted(self, at: datetime) -> bool:
        """Whether nobody is to be told at an instant."""
        return self.muted_until is not None and at < self.muted_until


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """What is open, and the causes that a person closed and that have not been gone since: cause to its alert."""

    alerts: tuple[Alert, ...] = ()
    hushed: Mapping[str, str] = field(default_factory=dict)

    @property
    def held(self) -> frozenset[tuple[str, str]]:
        """(rule, asset) pairs that are open."""
        return frozenset(pair for alert in self.alerts for pair in alert.members)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a run makes of the book.

    Args:
        opened, updated: new and known alerts with their groups.
        grown: ids of those updated ones that got graver or twice as large.
        closed: alerts whose cause is gone.
        cleared: alerts that a person had closed, and whose cause is gone at last.
    """

    opened: tuple[tuple[Alert, Group], ...]
    updated: tuple[tuple[Alert, Group], ...]
    grown: frozenset[str]
    closed: tuple[Alert, ...]
    cleared: tuple[str, ...]


def read(snapshot: Snapshot) -> Book:
    """The book as the store has it."""
    members: dict[str, dict[tuple[str, str], datetime]] = {}
    for row in snapshot.sql(MEMBERS).rows():
        members.setdefault(row["alert_id"], {})[row["rule"], row["asset_id"]] = row["since"]
    acknowledged: dict[str, bool] = {}
    muted: dict[str, datetime | None] = {}
    hushed: dict[str, str] = {}
    for row in snapshot.sql(ACTIONS).rows():
        match row["action"]:
            case "acknowledge":
                acknowledged[row["alert_id"]] = True
            case "mute":
                muted[row["cause"]] = row["until"]
            case "unmute":
                muted.pop(row["cause"], None)
            case "close":
                hushed[row["cause"]] = row["alert_id"]
            case "cleared":
                hushed.pop(row["cause"], None)
    alerts = tuple(
        Alert(
            **{name: row[name] for name in ("alert_id", "opened_at", "rule", "cause", "severity", "text")},
            assets=row["assets"] or 0,
            impact=row["impact"] or 0.0,
            members=members.get(row["alert_id"], {}),
            acknowledged=acknowledged.get(row["alert_id"], False),
            muted_until=muted.get(row["cause"]),
        )
        for row in snapshot.sql(OPEN).rows()
    )
    return Book(alerts=alerts, hushed=hushed)


def settled(book: Book, groups: Sequence[Group], at: datetime, ids: Sequence[str]) -> Change:
    """What opens, goes on, closes.

    Args:
        ids: fresh ones, as many as there are groups.
    """
    matched = _matched(book.alerts, groups)
    opened, updated, grown = [], [], []
    fresh = iter(ids)
    present = {group.cause for group in groups}
    for group in groups:
        alert = matched.get(group.cause)
        if alert is None:
            if group.cause not in book.hushed:
                opened.append((_of(group, next(fresh), at), group))
            continue
        updated.append((alert, group))
        graver = SEVERITIES.index(group.severity) > _rank(alert.severity)
        if graver or group.assets >= GROWN * max(alert.assets, 1) or group.impact >= GROWN * alert.impact > 0:
            grown.append(alert.alert_id)
    lasting = {alert.alert_id for alert, _ in updated}
    return Change(
        opened=tuple(opened),
        updated=tuple(updated),
        grown=frozenset(grown),
        closed=tuple(alert for alert in book.alerts if alert.alert_id not in lasting),
        cleared=tuple(alert_id for cause, alert_id in sorted(book.hushed.items()) if cause not in present),
    )


def _rank(severity: str) -> int:
    return next((k for k, known in enumerate(SEVERITIES) if known == severity), 0)


def _of(group: Group, alert_id: str, at: datetime) -> Alert:
    return Alert(
        alert_id=alert_id,
        opened_at=at,
        rule=", ".join(group.rules),
        cause=group.cause,
        assets=group.assets,
        impact=group.impact,
        severity=group.severity,
        text=group.text,
        members=dict.fromkeys(_members(group), at),
    )


def _members(group: Group) -> list[tuple[str, str]]:
    return [(one.rule, one.asset_id) for one in group.concerned]


def _matched(alerts: Sequence[Alert], groups: Sequence[Group]) -> dict[str, Alert]:
    """The open alert of each cause that has one: of the same name, or of its family with most of the same assets."""
    found = {alert.cause: alert for alert in alerts}
    matched = {group.cause: found[group.cause] for group in groups if group.cause in found}
    left = [alert for alert in alerts if alert.cause not in matched]
    for group in groups:
        prefix = FAMILIES.get(group.family)
        if group.cause in matched or prefix is None or group.family == "jobs":
            continue
        mine = {asset for _, asset in _members(group)}
        shared = [
            (len(mine & theirs) / min(len(mine), len(theirs)), alert)
            for alert in left
            if alert.cause.startswith(prefix) and (theirs := {asset for _, asset in alert.members}) and mine
        ]
        share, best = max(shared, key=lambda pair: pair[0], default=(0.0, None))
        if best is not None and share >= 0.5:
            matched[group.cause] = best
            left.remove(best)
    return matched


def write(transaction: Transaction, change: Change, at: datetime) -> dict[str, Alert]:
    """The rows of a change; gives every open alert as it is now, by id. What is as it was is not written again."""
    rows, members, actions = [], [], []
    now: dict[str, Alert] = {}
    for alert, group in change.opened:
        rows.append(_row(alert))
        members += [_member(alert.alert_id, one, since=at) for one in group.concerned]
        now[alert.alert_id] = alert
    for alert, group in change.updated:
        fresh = Alert(
            alert_id=alert.alert_id,
            opened_at=alert.opened_at,
            rule=", ".join(group.rules),
            cause=alert.cause,
            assets=group.assets,
            impact=group.impact if abs(group.impact - alert.impact) > MOVED * abs(alert.impact) else alert.impact,
            severity=group.severity,
            text=group.text,
            members={pair: alert.members.get(pair, at) for pair in _members(group)},
            acknowledged=alert.acknowledged,
            muted_until=alert.muted_until,
        )
        now[alert.alert_id] = fresh
        if _row(fresh) != _row(alert):
            rows.append(_row(fresh))
        by_pair = {(one.rule, one.asset_id): one for one in group.concerned}
        members += [
            _member(alert.alert_id, by_pair[pair], since=at)
            for pair in sorted(fresh.members.keys() - alert.members.keys())
        ]
        members += _gone(alert, sorted(alert.members.keys() - fresh.members.keys()), at)
    for alert in change.closed:
        rows.append({**_row(alert), "closed_at": at})
        members += _gone(alert, sorted(alert.members), at)
    actions = [action_row(alert_id, "cleared", at=at, actor="tsfleet") for alert_id in change.cleared]
    transaction.replace("alerts", rows)
    transaction.replace("alert_assets", members)
    transaction.insert("alert_actions", actions)
    return now


def _row(alert: Alert) -> dict[str, Any]:
    names = ("alert_id", "opened_at", "rule", "cause", "assets", "impact", "severity", "text")
    return {**{name: getattr(alert, name) for name in names}, "closed_at": None}


def _member(alert_id: str, one: Concerned, *, since: datetime) -> dict[str, Any]:
    value = one.value if abs(one.value) != float("inf") else None
    return {
        "alert_id": alert_id, "rule": one.rule, "asset_id": one.asset_id, "product": one.product or None,
        "value": value, "impact": one.impact, "since": since, "until": None,
    }  # fmt: skip


def _gone(alert: Alert, pairs: Sequence[tuple[str, str]], at: datetime) -> list[dict[str, Any]]:
    return [
        {"alert_id": alert.alert_id, "rule": rule, "asset_id": asset, "since": alert.members[rule, asset], "until": at}
        for rule, asset in pairs
    ]


def action_row(
    alert_id: str, action: str, *, at: datetime, actor: str, until: datetime | None = None, note: str = ""
) -> dict[str, Any]:
    """One row of ``alert_actions``."""
    return {
        "action_id": new_id(), "alert_id": alert_id, "acted_at": at, "action": action, "actor": actor, "until": until,
        "note": note or None,
    }  # fmt: skip


def act(
    store: Store,
    ids: Collection[str],
    action: str,
    *,
    at: datetime,
    actor: str,
    until: datetime | None = None,
    note: str = "",
) -> list[str]:
    """Writes down what a person said of some alerts; closing one closes it. Gives the ids.

    Args:
        ids: of alerts, or what only one of the open ones begins or ends with.
    """
    snapshot = store.snapshot()
    book = {alert.alert_id: alert for alert in read(snapshot).alerts}
    chosen = [book[resolved(book, wanted)] for wanted in dict.fromkeys(ids)]
    transaction = store.begin(note=f"alerts {action}")
    rows = [action_row(alert.alert_id, action, at=at, actor=actor, until=until, note=note) for alert in chosen]
    transaction.insert("alert_actions", rows)
    if action == "close":
        transaction.replace("alerts", [{**_row(alert), "closed_at": at} for alert in chosen])
        gone = [row for alert in chosen for row in _gone(alert, sorted(alert.members), at)]
        transaction.replace("alert_assets", gone)
    transaction.commit()
    return [alert.alert_id for alert in chosen]


def resolved(ids: Collection[str], wanted: str) -> str:
    """The id that this is, or that alone begins or ends with it.

    >>> resolved(["01ab", "01cd"], "cd")
    '01cd'
    """
    found = [one for one in ids if one == wanted or one.startswith(wanted) or one.endswith(wanted)]
    if len(found) != 1 or not wanted:
        what = "is no such alert" if not found else f"is the beginning or the end of {len(found)}"
        raise AlertUnknown(f"{wanted!r} {what}", hint="`tsfleet alerts ls` lists them with their ids")
    return found[0]
