"""The fleet compared with itself: one report of standard figures at an instant, the same from the same store.

How good the forecasts of the last days were beside those of the weeks before, who got worse, who stands out among its
peers, whose readings changed, what has grown old, and whether the intervals hold what they promise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fleet.comparison import Truth
from fleet.leaderboard import Leaderboard, leaderboard
from fleet.metrics import evaluate, interval_suffix, level_of, parse
from fleet.review import changes
from fleet.review.grids import Grids, Window, grids, windows
from fleet.review.readings import readings
from store.clock import from_micros

if TYPE_CHECKING:
    import pandas as pd

    from fleet.population import Population
    from store.reading import Snapshot

FloatArray = npt.NDArray[np.float64]

RECENT_DAYS, HISTORY_DAYS, EFFECT, LEAST_POINTS = 7, 28, 0.2, 24
#: A level that moved so many spreads of the time before, or a spread that grew or shrank by such a factor, is told.
SHIFTED, WIDER = 1.0, 2.0
#: An interval is off when it holds so much more or less than it promises.
UNCOVERED = 0.1
#: So many assets of each list go into the stored body and the page; `df()` has all.
LISTED = 100

CHAMPIONS = """
select c.asset_id, c.recipe, c.since, r.train_end from champions c
left join versions v on v.version_id = c.version_id left join runs r on r.run_id = v.run_id
where c.product = $product
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """The error of the whole fleet day by day: of the assets' daily wape the median and the middle 80 %.

    Args:
        days: (k,) local days; median, low, high: (k,), NaN where nothing was scored; assets: (k,) how many were.
    """

    days: tuple[date, ...]
    median: FloatArray
    low: FloatArray
    high: FloatArray
    assets: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What `Fleet.compare` found of one product.

    Args:
        name: of the fleet.
        at: the instant that it is about; days before it count.
        metric: by which assets are compared with their past.
        by: the register column whose values make peers.
        effect: the least change, as a fraction, that counts.
        metrics: a row for each metric: over the assets now and before.
        board: what was issued in the recent days, by recipe.
        coverage: a row for each interval: promised, held now and before, assets that are off.
        table: a row for each asset.
        course: the error of the fleet day by day.
    """

    name: str
    product: str
    at: datetime
    snapshot: int
    recent: Window
    before: Window
    metric: str
    by: str
    effect: float
    metrics: tuple[Mapping[str, Any], ...]
    board: Leaderboard
    coverage: tuple[Mapping[str, Any], ...]
    table: pa.Table = field(repr=False)
    course: Days = field(repr=False)

    @property
    def counts(self) -> dict[str, int]:
        """How many assets are worse, better, steady or unknown; apart from peers, drifted, silent, unserved."""
        return {
            **changes.counted(self.table["verdict"].to_pylist()),
            **{name: sum(self.table[name].to_pylist()) for name in ("apart", "drifted", "silent", "stale")},
        }

    def rows(self, which: str, most: int | None = LISTED) -> list[dict[str, Any]]:
        """The assets that are ``worse`` or ``better``, ``apart``, ``drifted``, ``silent`` or ``stale``, worst first."""
        mark, order = _ORDERS[which]
        chosen = self.table.filter(pa.array([value == mark for value in self.table[_column(which)].to_pylist()]))
        found: list[dict[str, Any]] = chosen.to_pylist()
        found.sort(key=lambda row: (_descending(row[order.lstrip("-")], flip=order[0] == "-"), row["asset_id"]))
        return found[:most]

    def arrow(self) -> pa.Table:
        """A row for each asset."""
        return self.table

    def df(self) -> pd.DataFrame:
        """The same as a pandas frame."""
        frame: pd.DataFrame = self.table.to_pandas()
        return frame

    def body(self) -> dict[str, Any]:
        """All but the full table of assets, as what JSON can hold; NaN is None."""
        return {
            "fleet": self.name,
            "product": self.product,
            "at": self.at.isoformat(),
            "snapshot": self.snapshot,
            "recent": str(self.recent),
            "before": str(self.before),
            "metric": self.metric,
            "by": self.by,
            "effect": self.effect,
            "assets": self.table.num_rows,
            "counts": self.counts,
            "metrics": [_plain(row) for row in self.metrics],
            "leaderboard": [_plain(row) for row in self.board.rows()],
            "coverage": [_plain(row) for row in self.coverage],
            **{which: [_plain(row) for row in self.rows(which)] for which in _ORDERS},
        }

    def html(self) -> str:
        """The report as one page that needs no network."""
        from fleet.review.page import page

        return page([self])

    def __repr__(self) -> str:
        counts = self.counts
        told = ", ".join(f"{counts[name]:,} {name}" for name in ("worse", "better", "drifted", "silent", "stale"))
        return f"Review({self.product}, {self.at:%Y-%m-%d}, {self.table.num_rows:,} assets by {self.metric}: {told})"

    def _repr_html_(self) -> str:
        from fleet.review.page import review_card

        return review_card(self)


_ORDERS: Mapping[str, tuple[object, str]] = {
    "worse": ("worse", "change"),
    "better": ("better", "-change"),
    "apart": (True, "beside_peers"),
    "drifted": (True, "drift"),
    "silent": (True, "silent_h"),
    "stale": (True, "learnt_d"),
}


def _column(which: str) -> str:
    return "verdict" if which in changes.VERDICTS else which


def _descending(value: float | None, *, flip: bool) -> tuple[bool, float]:
    """The largest first; what is not known comes before all, for it may be worse than any."""
    return (value is not None, (value if flip else -value) if value is not None else 0.0)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}


def review(
    snapshot: Snapshot,
    people: Population,
    *,
    name: str,
    at: datetime,
    metric: str,
    recent: int = RECENT_DAYS,
    history: int = HISTORY_DAYS,
    effect: float = EFFECT,
    least_points: int = LEAST_POINTS,
    by: str = "kind",
    truth: Truth = "latest",
) -> Review:
    """Compares the assets of a product with their past and with each other.

    Args:
        at: the end of the recent days, as a UTC date.
        metric: of the change; one that needs a scale or a baseline falls back to mae, whose change is the same.
        recent, history: days of the two windows.
        effect: the least change, as a fraction, that counts as one.
        least_points: in each window; an asset with fewer is unknown.
        by: the register column whose values make peers.
    """
    asked = parse(metric)
    if asked.season or asked.recipe or asked.family in ("bias", "coverage"):
        metric, asked = "mae", parse("mae")
    now, before = windows(at.date(), recent, history)
    whole = Window(start=before.start, stop_before=now.stop_before)
    members = {member.asset_id: member for member in people.members}
    found = grids(snapshot, list(members), product=people.product, window=whole, truth=truth)
    assets = found.assets.tolist()
    groups = np.array([str(members[asset].static.get(by) or "") for asset in assets], dtype=object)
    columns = _judged(found, now, before, metric, groups, effect, least_points)
    columns |= _drifted(snapshot, assets, now, before)
    columns |= _aged(snapshot, people, assets, at)
    table = pa.table({"asset_id": pa.array(assets, pa.string()), by: pa.array(groups, pa.string()), **columns})
    asked_of = {asset: members[asset].config.timezone for asset in assets}
    board = leaderboard(
        snapshot, recipes=None, metrics=(metric, *(m for m in ("wape", "bias") if m != metric)), sort_by=metric,
        role="live", since=now.start, until=now.stop_before, product=people.product, truth=truth, assets=asked_of,
    )  # fmt: skip
    return Review(
        name=name,
        product=people.product,
        at=at,
        snapshot=snapshot.id,
        recent=now,
        before=before,
        metric=metric,
        by=by,
        effect=effect,
        metrics=tuple(_over_assets(found, now, before, one) for one in dict.fromkeys((metric, "wape", "bias"))),
        board=board,
        coverage=_coverage(found, now, before),
        table=table,
        course=_course(found, whole),
    )


def _judged(
    found: Grids, now: Window, before: Window, metric: str, groups: npt.NDArray[np.object_], effect: float, least: int
) -> dict[str, Any]:
    """Errors of both windows, asset by asset, and what they say."""
    asked, sums_now, sums_before = parse(metric), found.over(now), found.over(before)
    value, past = evaluate(asked, sums_now), evaluate(asked, sums_before)
    changed = changes.change(value, past)
    far = changes.distance(found.daily(asked, now), found.daily(asked, before))
    enough = (sums_now["n"] >= least) & (sums_before["n"] >= least)
    relative = np.where(sums_now["n"] >= least, evaluate(parse("wape"), sums_now), np.nan)
    peers = changes.beside(relative, groups)
    excess = changes.change(relative, peers.median)
    return {
        "recipe": pa.array(found.recipes, pa.string()),
        "points": sums_now["n"].astype(np.int64),
        "points_before": sums_before["n"].astype(np.int64),
        f"{metric}_now": _nullable(value),
        f"{metric}_before": _nullable(past),
        "change": _nullable(changed),
        "noise": _nullable(far),
        "verdict": pa.array(changes.verdicts(changed, far, enough, effect), pa.string()),
        "wape_now": _nullable(relative),
        "peers_wape": _nullable(peers.median),
        "beside_peers": _nullable(peers.distance),
        "apart": (peers.distance >= changes.NOISE) & (excess >= effect),
        "fallback_share": _nullable(found.share(now, "fallback")),
    }


def _drifted(snapshot: Snapshot, assets: Sequence[str], now: Window, before: Window) -> dict[str, Any]:
    start, middle, stop = (_midnight(day) for day in (before.start, now.start, now.stop_before))
    seen = readings(snapshot, assets, start=start, middle=middle, stop=stop)
    shift, wider = seen.shift(), seen.widening()
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = np.maximum(1 + wider, 1 / (1 + wider))
    drift = np.fmax(np.abs(shift) / SHIFTED, factor / WIDER)
    return {
        "level_shift": _nullable(shift),
        "spread_change": _nullable(wider),
        "drift": _nullable(drift),
        "drifted": drift >= 1,
        "flat": seen.flat,
    }


def _aged(snapshot: Snapshot, people: Population, assets: Sequence[str], at: datetime) -> dict[str, Any]:
    """How long ago each asset was heard of, and how old its champion is. Silent: for a day and two of its steps."""
    held = {row["asset_id"]: row for row in snapshot.sql(CHAMPIONS, {"product": people.product}).rows()}
    members = {member.asset_id: member for member in people.members}
    silent_h, since_d, learnt_d, silent, stale = [], [], [], [], []
    for asset in assets:
        member, champion = members[asset], held.get(asset)
        quiet = None if member.data_end is None else (at - from_micros(member.data_end)).total_seconds() / 3600
        learnt = None if champion is None else _age_d(at, champion["train_end"])
        silent_h.append(None if quiet is None else max(quiet, 0.0))
        since_d.append(None if champion is None else _age_d(at, champion["since"]))
        learnt_d.append(learnt)
        silent.append(quiet is None or quiet > SILENT_H)
        # What the fleet says of a stale champion, but seen from today: a silent asset's champion grows old too.
        limit = member.config.train.stale_after.total_seconds() / 86_400
        stale.append(champion is None or (learnt is not None and learnt >= limit))
    return {
        "silent_h": pa.array(silent_h, pa.float64()),
        "silent": np.array(silent, dtype=bool),
        "champion_d": pa.array(since_d, pa.float64()),
        "learnt_d": pa.array(learnt_d, pa.float64()),
        "stale": np.array(stale, dtype=bool),
    }


SILENT_H = 24.0


def _age_d(at: datetime, moment: datetime | None) -> float | None:
    return None if moment is None else max((at - moment).total_seconds() / 86_400, 0.0)


def _over_assets(found: Grids, now: Window, before: Window, name: str) -> dict[str, Any]:
    """A metric over the assets that both windows know: paired, so that who is missing changes nothing."""
    asked = parse(name)
    value, past = evaluate(asked, found.over(now)), evaluate(asked, found.over(before))
    both = np.isfinite(value) & np.isfinite(past)
    many = bool(both.any())
    return {
        "metric": name,
        "assets": int(both.sum()),
        "mean_now": float(value[both].mean()) if many else None,
        "mean_before": float(past[both].mean()) if many else None,
        "median_now": float(np.median(value[both])) if many else None,
        "median_before": float(np.median(past[both])) if many else None,
        "larger": int((np.abs(value[both]) > np.abs(past[both])).sum()),
    }


def _coverage(found: Grids, now: Window, before: Window) -> tuple[dict[str, Any], ...]:
    """What the intervals promised and held, over all points, and for how many assets they are off."""
    made = []
    for column in found.columns:
        if not column.startswith("covered_"):
            continue
        share = level_of("q" + column.removeprefix("covered_"))
        asked = parse(f"coverage_{interval_suffix(share)}")
        each, held = [], []
        for window in (now, before):
            sums = found.over(window)
            known = np.isfinite(sums[column]) & (sums["n"] > 0)
            total = {name: np.array([sums[name][known].sum()]) for name in ("n", column)}
            held.append(float(evaluate(asked, total)[0]))
            each.append(evaluate(asked, sums))
        off = np.abs(each[0] - share) > UNCOVERED
        made.append(
            {"interval": share, "now": held[0], "before": held[1], "assets": int(np.isfinite(each[0]).sum()),
             "off": int(off.sum())}
        )  # fmt: skip
    return tuple(sorted(made, key=lambda row: row["interval"]))


def _course(found: Grids, whole: Window) -> Days:
    daily = found.daily(parse("wape"), whole)
    known = np.isfinite(daily)
    quantiles = np.full((3, whole.days), np.nan)
    for place in np.flatnonzero(known.any(axis=0)):
        quantiles[:, place] = np.percentile(daily[known[:, place], place], [10, 50, 90])
    days = tuple(date.fromordinal(whole.start.toordinal() + k) for k in range(whole.days))
    return Days(days=days, low=quantiles[0], median=quantiles[1], high=quantiles[2], assets=known.sum(axis=0))


def _nullable(values: FloatArray) -> pa.Array:
    return pa.array(values, pa.float64(), mask=~np.isfinite(values))


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
