"""What people say of forecasts: `tsfleet adjust add`, `ls`, `revoke`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from cyclopts import App

from jobs.cli.console import print_json, print_rows, say
from jobs.cli.exits import Exit
from jobs.cli.options import WORK, Common, Flag, Product, Which, instant
from jobs.cli.work import actor

if TYPE_CHECKING:
    from fleet.adjusting import Adjusted

COMMON = Common()
ALL = Which()
SHOWN = (
    "adjustment_id", "asset_id", "product", "kind", "value", "valid_from", "valid_to", "expires_at", "state", "points",
    "mae_raw", "mae_adjusted", "actor", "reason",
)  # fmt: skip
adjust = App(name="adjust", help="Change forecasts by hand, with a reason.", help_format="markdown", group=WORK)


@adjust.command
def add(
    kind: Literal["replace", "add", "scale"],
    value: float,
    /,
    *,
    since: str,
    until: str,
    reason: str,
    which: Which = ALL,
    product: Product = None,
    expires: str | None = None,
    common: Common = COMMON,
) -> int:
    """Change the forecasts of the selected assets, those that are there and those that follow.

    Quantiles move with the mean. What the models said is kept, scored and shown beside it under its own recipe, the
    changed one as RECIPE+manual. Behind the gate of a product a change is late: what was published stays.

    For example:

    - `tsfleet adjust add scale 0.5 --select plant-7 --since 2024-06-10T06:00Z --until 2024-06-10T18:00Z --reason "one
      unit is out"`

    Args:
        kind: Replace the forecast by the value, add the value to it, or scale it with the value.
        value: In the asset's unit; a factor for scale, below 0 after --, as in `-- -3.5`.
        since: The first instant that is meant, as 2024-06-10T06:00Z.
        until: The instant before which it ends.
        reason: Why.
        product: Of which product, by name; needed where there are several.
        expires: Issues from this instant on are left as the models make them; never without it.
    """
    valid_from, valid_to = instant(since, "--since"), instant(until, "--until")
    assert valid_from is not None
    assert valid_to is not None
    with common.fleet() as fleet:
        done = fleet.adjust(
            kind,
            value,
            valid_from=valid_from,
            valid_to=valid_to,
            reason=reason,
            product=product,
            select=which.select,
            where=which.where,
            expires_at=instant(expires, "--expires"),
            actor=actor(),
        )
    return _told(done, as_json=common.json)


@adjust.command
def ls(*, all: Flag = False, common: Common = COMMON) -> int:  # noqa: A002  the option's name
    """The adjustments in force, with the errors of what the models said and of what people made of it.

    For example:

    - `tsfleet adjust ls --all`

    Args:
        all: Also those that are over, expired or revoked.
    """
    with common.fleet(read_only=True) as fleet:
        rows = fleet.adjustments(all=all)
    shown = rows if common.json else [{name: row[name] for name in SHOWN} for row in rows]
    print_rows(shown, as_json=common.json, empty="no adjustment is in force" if not all else "no adjustment")
    return Exit.OK


@adjust.command
def revoke(*ids: str, common: Common = COMMON) -> int:
    """End adjustments: forecasts are again what the models say, from the newest issue on.

    For example:

    - `tsfleet adjust revoke 0190a5c2e4`

    Args:
        ids: As `tsfleet adjust ls` shows them.
    """
    with common.fleet() as fleet:
        done = fleet.revoke(ids)
    return _told(done, as_json=common.json)


def _told(done: Adjusted, *, as_json: bool) -> int:
    if as_json:
        print_json({"adjustments": list(done.ids), "steps": done.steps, "late": done.late})
        return Exit.OK
    for one in done.ids:
        print(one)  # noqa: T201  data for the next command
    late = f", {done.late:,} of them behind the gate: what was published stays" if done.late else ""
    say(f"{done.steps:,} steps of forecasts that are there read otherwise now{late}")
    return Exit.OK
