"""Adjusting forecasts by hand: what a person says of an asset's next days, with the reason, until it expires.

A word changes the newest issue that there is of each step, in the same commit, and every issue from then on until it
expires; what the models said stays beside it and is scored too. Behind a product's gate a word is late like anything
else: it replaces nothing that was published.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from fleet.adjustments import KINDS, ROLE, Kind, adjusted, word_of, words_of
from fleet.errors import AdjustmentMissing, ConfigInvalid
from fleet.gate import LATE, UTC, settled
from fleet.looking import Looking
from store.clock import Clock, to_micros
from store.ids import new_id

if TYPE_CHECKING:
    from fleet.population import Population
    from store import Store
    from store.reading import Snapshot

# Of each step of these windows the newest issue, as the models made it; of one that was revoked only what was changed.
STANDING = f"""
select f.* exclude (_v) from forecasts__v f
semi join windows w on w.asset_id = f.asset_id and f.valid_time >= w.valid_from and f.valid_time < w.valid_to
where f.product = $product and f.role in ('champion', 'fallback')
  and (not $spoken or exists (
    select 1 from forecasts m where m.role = '{ROLE}' and m.asset_id = f.asset_id and m.product = f.product
      and m.issue_time = f.issue_time and m.valid_time = f.valid_time))
qualify row_number() over (
    partition by f.asset_id, f.valid_time
    order by f.issue_time desc, contains('+' || f.quality || '+', '+{LATE}+'), f.role, f.created_at desc, f._v desc
) = 1
"""
# What a word was worth: the errors of both on the points that have an actual.
LISTED = """
with worth as (
    select w.adjustment_id, count(*) as points,
           avg(abs(r.mean - a.y) order by m.issue_time, m.valid_time) as mae_raw,
           avg(abs(m.mean - a.y) order by m.issue_time, m.valid_time) as mae_adjusted
    from adjustments w
    join forecasts m on m.role = 'manual' and m.asset_id = w.asset_id and m.product = w.product
     and m.valid_time >= w.valid_from and m.valid_time < w.valid_to
     and (w.expires_at is null or m.issue_time < w.expires_at)
    join forecasts r on r.role in ('champion', 'fallback') and r.asset_id = m.asset_id and r.product = m.product
     and m.recipe = r.recipe || '+manual' and r.recipe_hash = m.recipe_hash and r.version_id = m.version_id
     and r.issue_time = m.issue_time and r.valid_time = m.valid_time
    join actuals a on a.asset_id = m.asset_id and a.valid_time = m.valid_time and isfinite(a.y)
    group by w.adjustment_id
)
select w.*, case when w.revoked_at is not null then 'revoked' when w.expires_at <= $now then 'expired'
                 when w.valid_to <= $now then 'past' else 'in force' end as state,
       coalesce(x.points, 0) as points, x.mae_raw, x.mae_adjusted
from adjustments w left join worth x using (adjustment_id)
where $all or state = 'in force'
order by w.created_at, w.adjustment_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjusted:
    """What an adjustment, or its end, did.

    Args:
        ids: of the adjustments, one for each asset and product.
        steps: of forecasts that are there already and read otherwise now; later issues follow by themselves.
        late: those of them that came after the gate and change nothing that was published.
    """

    ids: tuple[str, ...]
    steps: int
    late: int = 0


class Adjusting(Looking):
    """A fleet that people may have a word in."""

    store: Store
    clock: Clock

    def adjust(
        self,
        kind: Kind,
        value: float,
        *,
        valid_from: datetime,
        valid_to: datetime,
        reason: str,
        product: str | Sequence[str] | None = None,
        select: Sequence[str] = (),
        where: str | None = None,
        expires_at: datetime | None = None,
        actor: str = "",
    ) -> Adjusted:
        """Change the forecasts of the selected assets: those that are there, and all until the word expires.

        Args:
            kind: replace by `value`, add it, or scale with it.
            value: in the asset's unit; a factor of at least 0 for scale.
            valid_from, valid_to: the steps that are meant, the second one excluded; aware.
            reason: why, for whoever reads it later.
            product: has to be named where there are several.
            expires_at: issues from then on are left as the models make them; None is never.
        """
        _check(kind, value, valid_from, valid_to, reason, expires_at)
        products, now = self.populations(self._meant(product), select=select, where=where), self.clock.now()
        rows = [
            {
                "adjustment_id": new_id(),
                "asset_id": member.asset_id,
                "product": people.product,
                "valid_from": valid_from,
                "valid_to": valid_to,
                "kind": kind,
                "value": float(value),
                "actor": actor,
                "reason": reason.strip(),
                "created_at": now,
                "expires_at": expires_at,
            }
            for people in products
            for member in people.members
        ]
        return self._spoken(rows, products, now)

    def revoke(self, ids: str | Sequence[str]) -> Adjusted:
        """End adjustments: the newest issue reads again as the models made it, and later ones are left alone."""
        wanted = (ids,) if isinstance(ids, str) else tuple(ids)
        snapshot, now = self.store.snapshot(), self.clock.now()
        asked = "select * from adjustments where list_contains($ids, adjustment_id)"
        rows = snapshot.sql(asked, {"ids": list(wanted)}).rows()
        for one in wanted:
            if one not in {row["adjustment_id"] for row in rows}:
                raise AdjustmentMissing(f"there is no adjustment {one}", hint="`tsfleet adjust ls --all` lists them")
        ended = [{**row, "revoked_at": row["revoked_at"] or now} for row in rows]
        named = {row["product"] for row in rows} & set(self.config.product_names)
        products = self.populations(tuple(named)) if named else ()
        return self._spoken(ended, products, now)

    def adjustments(self, *, all: bool = False) -> list[dict[str, Any]]:  # noqa: A002  the option of the command
        """Those in force, or all there ever were, with the errors of what models said and of what people made of it."""
        asked = {"now": self.clock.now(), "all": all}
        return [dict(row) for row in self.store.snapshot().sql(LISTED, asked).rows()]

    def _spoken(self, rows: Sequence[Mapping[str, Any]], products: Sequence[Population], now: datetime) -> Adjusted:
        """Store adjustments together with what they make of the newest issues."""
        transaction, snapshot = self.store.begin(note="adjust"), self.store.snapshot()
        transaction.replace("adjustments", rows)
        steps = late = 0
        for people in products:
            mine = [row for row in rows if row["product"] == people.product]
            changed = _changed(snapshot, people, mine)
            if not changed.num_rows:
                continue
            changed, stood = settled(changed, now, snapshot)
            late += stood + (pc.sum(pc.match_substring_regex(changed["quality"], f"(^|\\+){LATE}$")).as_py() or 0)
            steps += changed.num_rows + stood
            at = pa.repeat(pa.scalar(now, UTC), changed.num_rows)
            transaction.replace("forecasts", changed.append_column("created_at", at))
        transaction.commit()
        return Adjusted(ids=tuple(row["adjustment_id"] for row in rows), steps=steps, late=late)


def _changed(snapshot: Snapshot, people: Population, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The newest issues in the windows of these adjustments, under all words that are in force with them."""
    ids = {row["adjustment_id"] for row in rows}
    ending = any(row.get("revoked_at") for row in rows)
    windows = pa.table(
        {
            "asset_id": pa.array([row["asset_id"] for row in rows], pa.string()),
            "valid_from": pa.array([row["valid_from"] for row in rows], UTC),
            "valid_to": pa.array([row["valid_to"] for row in rows], UTC),
        }
    )
    asked = {"product": people.product, "spoken": ending}
    table = snapshot.sql(STANDING, asked, {"windows": windows}).arrow().drop_columns(["created_at"])
    bare = pc.replace_substring_regex(table["quality"], f"\\+?{LATE}$", "")
    quality = pc.if_else(pc.equal(bare, ""), "ok", bare)
    table = table.set_column(table.column_names.index("quality"), "quality", quality)
    held = words_of(snapshot, people.product, without=ids)
    words = (*held, *(word_of(row) for row in rows if not row.get("revoked_at")))
    instants = zip(*(table[name].cast(pa.int64()).to_pylist() for name in ("issue_time", "valid_time")), strict=True)
    steps = {(asset, *at) for asset, at in zip(table["asset_id"].to_pylist(), instants, strict=True)}
    changed = adjusted(table, words, steps if ending else ())
    return changed.append_column("gate", _gates(people, changed))


def _gates(people: Population, table: pa.Table) -> pa.Array:
    """Until when each row counts; NULL for ever."""
    settings = {member.asset_id: people.settings[member.settings] for member in people.members}
    found: list[int | None] = []
    for asset, issue in zip(
        table["asset_id"].to_pylist(), table["issue_time"].cast(pa.int64()).to_pylist(), strict=True
    ):
        known = settings.get(asset)
        found.append(None if known is None or known.gate is None else known.gate.closes(issue, known.tz))
    return pa.array(found, pa.int64()).cast(UTC)


def _check(
    kind: str, value: float, valid_from: datetime, valid_to: datetime, reason: str, expires_at: datetime | None
) -> None:
    if kind not in KINDS:
        raise ConfigInvalid(f"kind = {kind!r}: accepted: {', '.join(KINDS)}")
    if not math.isfinite(value) or (kind == "scale" and value < 0):
        raise ConfigInvalid(f"{kind} {value:g}: accepted: a finite number, for scale a factor of at least 0")
    named = {"valid_from": valid_from, "valid_to": valid_to, "expires_at": expires_at}
    for name, at in named.items():
        if at is not None and at.tzinfo is None:
            raise ConfigInvalid(f"{name} {at} has no zone", hint="write it as 2024-06-10T00:00Z")
    if to_micros(valid_from) >= to_micros(valid_to):
        raise ConfigInvalid(f"from {valid_from.isoformat()} to {valid_to.isoformat()} there is no step")
    if not reason.strip():
        raise ConfigInvalid("an adjustment needs a reason", hint="it is read when the forecast turns out wrong")
