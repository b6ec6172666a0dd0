"""The commands `tsfleet alerts`: what is wrong now, and what somebody says to it."""

from __future__ import annotations

import getpass
from datetime import timedelta
from typing import Annotated, Any

from cyclopts import App, Parameter

from jobs.cli.console import Row, print_rows, say
from jobs.cli.exits import Exit
from jobs.cli.options import LOOK, Common, Flag
from jobs.errors import UsageInvalid

COMMON = Common()

LISTED = """
select a.*, acknowledged_by, muted_until from alerts a
left join (
    select alert_id, arg_max(actor, _v) as acknowledged_by from alert_actions__v where action = 'acknowledge'
    group by alert_id) k using (alert_id)
left join (
    select b.cause, nullif(arg_max(case when c.action = 'mute' then c.until else timestamptz '1970-01-01 00:00Z' end,
                                   c._v), timestamptz '1970-01-01 00:00Z') as muted_until
    from alert_actions__v c join alerts b on b.alert_id = c.alert_id where c.action in ('mute', 'unmute')
    group by b.cause) m using (cause)
where $all or a.closed_at is null
order by a.closed_at is not null, case a.severity when 'critical' then 0 when 'warning' then 1 else 2 end,
         a.impact desc, a.opened_at desc, a.alert_id
"""
MEMBERS = """
select asset_id, rule, product, value, impact, since, until from alert_assets where alert_id = $alert
order by until is not null, impact desc, asset_id, rule
"""

alerts = App(
    name="alerts",
    help="What is wrong now, and what somebody says to it.",
    help_format="markdown",
    group=LOOK,
    sort_key=20,
)

Ids = Annotated[tuple[str, ...], Parameter(negative="")]


@alerts.command
def ls(*, every: Annotated[Flag, Parameter(name="--all")] = False, common: Common = COMMON) -> int:
    """The alerts that are open, the gravest first.

    For example:

    - `tsfleet alerts ls`
    - `tsfleet alerts ls --all --json`

    Args:
        every: Closed ones too.
    """
    with common.store() as store:
        rows = store.sql(LISTED, {"all": every}).rows()
    shown = rows if common.json else [_listed(row, every=every) for row in rows]
    print_rows(shown, as_json=common.json, empty="no alert is open")
    return Exit.OK


def _listed(row: dict[str, Any], *, every: bool) -> Row:
    said = [f"acknowledged by {row['acknowledged_by']}"] if row["acknowledged_by"] else []
    said += [f"muted until {row['muted_until']:%Y-%m-%d %H:%M}"] if row["muted_until"] else []
    return {
        "severity": row["severity"],
        "what": row["text"],
        "impact": row["impact"],
        "opened": row["opened_at"],
        **({"closed": row["closed_at"]} if every else {}),
        "said": ", ".join(said),
        "alert": row["alert_id"],
    }


@alerts.command
def show(alert: str, /, *, common: Common = COMMON) -> int:
    """The assets of an alert, those that weigh most first.

    For example:

    - `tsfleet alerts show 01m853xn5x59r1rbq7jsv18hyk`

    Args:
        alert: Its id, or the beginning or end of it.
    """
    from jobs.alerts.book import resolved

    with common.store() as store:
        found = resolved([row["alert_id"] for row in store.sql("select alert_id from alerts").rows()], alert)
        rows = store.sql(MEMBERS, {"alert": found}).rows()
    print_rows(rows, as_json=common.json, empty="it is about no asset")
    return Exit.OK


@alerts.command
def ack(ids: Ids, /, *, note: str = "", actor: str | None = None, common: Common = COMMON) -> int:
    """Acknowledge alerts: nobody is reminded of them, or told that they grow, until they close.

    For example:

    - `tsfleet alerts ack 8hyk --note "the vendor is on it"`

    Args:
        ids: Of open alerts, or the beginning or end of each.
        note: Why.
        actor: Who says so; without it, the user of this machine.
    """
    return _act(common, ids, "acknowledge", note=note, actor=actor)


@alerts.command
def mute(
    ids: Ids,
    /,
    *,
    for_: Annotated[str, Parameter(name="--for")] = "24h",
    note: str = "",
    actor: str | None = None,
    common: Common = COMMON,
) -> int:
    """Tell nobody of these alerts for a while, nor of new ones of the same cause.

    For example:

    - `tsfleet alerts mute 8hyk --for 3d --note "known works at the substation"`

    Args:
        ids: Of open alerts, or the beginning or end of each.
        for_: How long, as 90min, 24h or 3d.
        note: Why.
        actor: Who says so; without it, the user of this machine.
    """
    return _act(common, ids, "mute", lasts=_length(for_), note=note, actor=actor)


@alerts.command
def unmute(ids: Ids, /, *, note: str = "", actor: str | None = None, common: Common = COMMON) -> int:
    """Tell people of these alerts again.

    Args:
        ids: Of open alerts, or the beginning or end of each.
        note: Why.
        actor: Who says so; without it, the user of this machine.
    """
    return _act(common, ids, "unmute", note=note, actor=actor)


@alerts.command
def close(ids: Ids, /, *, note: str = "", actor: str | None = None, common: Common = COMMON) -> int:
    """Close alerts by hand. The same cause opens a new one only after it was gone once.

    Args:
        ids: Of open alerts, or the beginning or end of each.
        note: Why.
        actor: Who says so; without it, the user of this machine.
    """
    return _act(common, ids, "close", note=note, actor=actor)


def _act(
    common: Common, ids: tuple[str, ...], action: str, *, note: str, actor: str | None, lasts: timedelta | None = None
) -> int:
    from jobs.alerts.book import act

    if not ids:
        raise UsageInvalid("no alert is named", hint="`tsfleet alerts ls` lists them with their ids")
    with common.fleet() as fleet:
        now = fleet.clock.now()
        until = None if lasts is None else now + lasts
        done = act(fleet.store, ids, action, at=now, actor=actor or _user(), until=until, note=note)
    words = {"acknowledge": "acknowledged", "mute": "muted", "unmute": "told again", "close": "closed"}[action]
    if common.json:
        print_rows([{"alert_id": one, "action": action, "until": until} for one in done], as_json=True)
    else:
        say(f"{words}: {', '.join(done)}")
    return Exit.OK


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "somebody"


def _length(text: str) -> timedelta:
    from pydantic_core import PydanticCustomError

    from fleet.config.values import duration

    try:
        found = duration(text)
    except PydanticCustomError as error:
        raise UsageInvalid(f"--for {text}: {error}", hint="write it as 90min, 24h or 3d") from None
    if not found:
        raise UsageInvalid(f"--for {text}: no length of time", hint="write it as 90min, 24h or 3d")
    return found
