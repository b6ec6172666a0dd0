"""The book of alerts as people look at it: each with its state, the assets behind it, and what was said and sent.

An alert is closed; or muted, when somebody asked not to hear of its cause for a while that is not over; or
acknowledged; or open.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from jobs.errors import AlertUnknown

if TYPE_CHECKING:
    from store.reading import Snapshot

STATES = ("open", "acknowledged", "muted", "closed")
SORTS = {
    "-impact": "impact desc nulls last",
    "-assets": "assets desc nulls last",
    "-opened_at": "opened_at desc",
    "opened_at": "opened_at",
    "-severity": "case severity when 'critical' then 0 when 'warning' then 1 else 2 end",
}
EVER = "timestamptz '1970-01-01 00:00Z'"
# A word on an alert is about it alone, but for muting, which is about its cause; the last word counts.
TOLD = f"""
with told as (
    select a.*, k.acknowledged_by, m.muted_until, case
        when a.closed_at is not null then 'closed' when m.muted_until > $now then 'muted'
        when k.acknowledged_by is not null then 'acknowledged' else 'open' end as state
    from alerts a
    left join (
        select alert_id, coalesce(arg_max(actor, _v), '') as acknowledged_by from alert_actions__v
        where action = 'acknowledge' group by alert_id) k using (alert_id)
    left join (
        select b.cause, arg_max(case when c.action = 'mute' then c.until else {EVER} end, c._v) as muted_until
        from alert_actions__v c join alerts b on b.alert_id = c.alert_id where c.action in ('mute', 'unmute')
        group by b.cause) m using (cause)
), found as (
    select * from told where ($severity::varchar is null or severity = $severity)
      and ($rule::varchar is null or contains(rule, $rule))
      and ($q::varchar is null or contains(lower(coalesce(text, '') || ' ' || cause), lower($q)))
)
"""  # noqa: S608  our own text
ONE = f"{TOLD} select * from found where alert_id = $alert"  # noqa: S608  our own text
COUNTED = "select state, count(*) as n from found group by state"
RULES = "select distinct unnest(string_split(rule, ', ')) as rule from alerts order by rule limit 100"
MEMBERS = """
select asset_id, rule, product, value, impact, since, until, count(*) over () as everything
from alert_assets where alert_id = $alert
order by until is not null, impact desc nulls last, asset_id, rule limit $most offset $skipped
"""
ACTIONS = """
select acted_at, action, actor, until, note from alert_actions__v where alert_id = $alert
order by _v desc, acted_at desc
"""
SENT = """
select created_at, channel, event, status, attempts, sent_at, error from notifications
where alert_id = $alert order by created_at desc, channel limit 100
"""
DAILY = """
with days as (select unnest(generate_series($first::timestamptz, $last::timestamptz, interval 1 day)) as day)
select day, severity, count(alert_id) as n from days
join alerts on opened_at < day + interval 1 day and (closed_at is null or closed_at >= day)
group by day, severity order by day, severity
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A page of alerts.

    Args:
        counts: by state, whatever state is asked for.
        rules: the names that may be asked for.
    """

    rows: tuple[dict[str, Any], ...]
    total: int
    counts: dict[str, int]
    rules: tuple[str, ...]


def listed(
    snapshot: Snapshot,
    now: datetime,
    *,
    state: str | None = None,
    severity: str | None = None,
    rule: str | None = None,
    q: str | None = None,
    sort: str = "-impact",
    most: int = 100,
    skipped: int = 0,
) -> Listed:
    """The alerts of a state, those that weigh most first.

    Args:
        now: who is muted now is told by it.
        state: one of `STATES`; None is all that are not closed.
        rule: a name that is among the rules of the alert.
        q: a part of the text or the cause.
        sort: a key of `SORTS`.
    """
    asked = {"now": now, "severity": severity, "rule": rule, "q": q}
    counts = dict.fromkeys(STATES, 0)
    counts |= {row["state"]: row["n"] for row in snapshot.sql(TOLD + COUNTED, asked).rows()}
    which = "state = $state" if state else "state <> 'closed' and $state::varchar is null"
    order = f"{SORTS[sort]}, opened_at desc, alert_id"
    query = f"{TOLD} select * from found where {which} order by {order} limit $most offset $skipped"  # noqa: S608  out of the tables above
    rows = snapshot.sql(query, {**asked, "state": state, "most": most, "skipped": skipped}).rows()
    total = counts[state] if state else sum(n for name, n in counts.items() if name != "closed")
    rules = tuple(row["rule"] for row in snapshot.sql(RULES).rows() if row["rule"])
    return Listed(rows=tuple(rows), total=total, counts=counts, rules=rules)


def one(snapshot: Snapshot, now: datetime, alert_id: str) -> dict[str, Any]:
    """An alert with its state.

    Raises:
        AlertUnknown: there is none of this id.
    """
    asked = {"now": now, "severity": None, "rule": None, "q": None, "alert": alert_id}
    rows: list[dict[str, Any]] = snapshot.sql(ONE, asked).rows()
    if not rows:
        raise AlertUnknown(f"there is no alert {alert_id[:80]!r}", hint="`tsfleet alerts ls` lists them with their ids")
    return rows[0]


def members(
    snapshot: Snapshot, alert_id: str, *, most: int = 100, skipped: int = 0
) -> tuple[list[dict[str, Any]], int]:
    """The assets behind an alert, those that weigh most first, those that left it last; and how many there are."""
    rows = snapshot.sql(MEMBERS, {"alert": alert_id, "most": most, "skipped": skipped}).rows()
    return rows, (rows[0]["everything"] if rows else 0)


def daily(snapshot: Snapshot, last: datetime, days: int) -> list[dict[str, Any]]:
    """How many alerts were open on each of some UTC days, by severity; a day without any has no row.

    Args:
        last: an instant of the last day.
    """
    end = last.replace(hour=0, minute=0, second=0, microsecond=0)
    return snapshot.sql(DAILY, {"first": end - timedelta(days=days - 1), "last": end}).rows()
