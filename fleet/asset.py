"""Assets in the hand: one with its facts, readings, forecasts, runs, scores and picture, and a fleet of them.

Nothing is kept: each call asks the store as it is then, all of it at one snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from fleet import cards, questions
from fleet.comparison import ROLES, Role
from fleet.config import AssetConfig, FleetConfig
from fleet.errors import AssetUnknown, ConfigInvalid, ForecastMissing
from fleet.frames import interval_end
from fleet.html import Html
from fleet.metrics import parse
from fleet.questions.moments import length, moment, week_or_steps
from fleet.registry import nearest
from fleet.zones import DAY, zone_of
from store.clock import from_micros, to_micros
from store.errors import InvalidId, TsfleetError
from store.ids import check_asset_id
from store.reading import Result, Snapshot

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from fleet.plots import Plots
    from store import Store

Moment = datetime | date | str

NEAREST = """
select asset_id from assets
order by jaro_winkler_similarity(lower(asset_id), lower($name)) desc, asset_id limit 3
"""
_NO_FACTS = ("asset_id", "timezone", "freq", "state")


class Asset:
    """An asset by its id; made by ``fleet["b101"]``.

    Args:
        store, config: of its fleet.
        asset_id: one that the register knows.
        product: whose champion and forecasts it shows; None is the first of the fleet.
    """

    def __init__(self, store: Store, config: FleetConfig, asset_id: str, product: str | None = None) -> None:
        self._store, self._config, self.id = store, config, asset_id
        self._product = product or config.product_names[0]

    def of(self, product: str) -> Asset:
        """The same asset, seen by another product: its champion, its forecasts, its figures."""
        if product not in self._config.product_names:
            raise ConfigInvalid(f"there is no product {product!r}{nearest(product, self._config.product_names)}")
        return Asset(self._store, self._config, self.id, product)

    def __repr__(self) -> str:
        return f"Asset({self.id!r} of fleet {self._config.fleet.name!r})"

    def _repr_html_(self) -> str:
        return cards.guarded(self.id, self._card, (TsfleetError, OSError))

    @property
    def facts(self) -> dict[str, Any]:
        """Its row of the register as it holds now, further columns included; what is not known is left out."""
        return self._facts(self._store.snapshot())

    @property
    def config(self) -> AssetConfig:
        """What holds for it: zone, step, horizon, recipes, training."""
        return self._resolved(self._store.snapshot())

    @property
    def champion(self) -> str | None:
        """The recipe in charge; None before one was promoted."""
        row = self._champion(self._store.snapshot())
        return None if row is None else row["recipe"]

    @property
    def plots(self) -> Plots:
        """Its further figures: ``plots.errors()``, ``plots.calibration()``."""
        from fleet.plots import Plots

        return Plots(self._store.snapshot, self._config, (self.id,), self._product)

    def actuals(self, since: Moment | None = None, until: Moment | None = None) -> Result:
        """Its readings, the newest revision of each.

        Args:
            since: an aware datetime, the same as text, a local day, or a length back from the last reading's end: 7d.
            until: the same, not included.
        """
        return self._rows("actuals", since, until)

    def forecasts(
        self,
        since: Moment | None = None,
        until: Moment | None = None,
        *,
        role: Role | None = None,
        recipe: str | None = None,
    ) -> Result:
        """Its forecasts by issue time, of all roles unless one is named.

        Args:
            since, until: of the issue time, as for `actuals`.
            role: backtest, or live: what was issued.
        """
        where: dict[str, str | Sequence[str]] = {} if role is None else {"role": ROLES[role]}
        return self._rows("forecasts", since, until, where | ({} if recipe is None else {"recipe": recipe}))

    def runs(self) -> Result:
        """Its runs, the oldest first: judged, trained, tracked."""
        return self._rows("runs", None, None)

    def scores(self, role: Role | None = None) -> Result:
        """Its cells of scores by local day and lead."""
        return self._rows("scores", None, None, {} if role is None else {"role": ROLES[role]})

    def decisions(self) -> Result:
        """Who was weighed against whom for it, with which figures, and why it was decided so."""
        return self._rows("decisions", None, None)

    def outcomes(self) -> Result:
        """What became of it in every job."""
        return self._rows("outcomes", None, None)

    def plot(
        self,
        issue: datetime | str | None = None,
        *,
        history: str | None = None,
        recipe: str | None = None,
        role: Role | None = None,
    ) -> Figure:
        """A forecast with its intervals, what led to it and what came: a fan chart.

        Args:
            issue: aware; None is the newest.
            history: how far back the readings reach, as 7d; None is a week, or sixty steps where those are longer.
            recipe: whose forecast; None is what was issued, in a backtest the recipe in charge.
            role: live, or backtest; None is live where something was issued.
        """
        from fleet import figures

        snapshot = self._store.snapshot()
        config = self._resolved(snapshot)
        back = week_or_steps(config.freq) if history is None else length(history)
        wanted = None if issue is None else moment(issue, "issue")
        curve = self._curve(snapshot, config, wanted, recipe, role)
        if curve is None and (wanted is not None or recipe is not None):
            raise self._no_such(snapshot, wanted, recipe, role)
        if curve is not None:
            first = curve.issue - back
            stop = max(int(curve.times[-1]), curve.issue) + 1
        else:
            newest = self._newest_reading(snapshot)
            first, stop = (newest - back, newest + 1) if newest is not None else (0, 1)
        known = questions.known_between(snapshot, config, first, stop)
        unit = str(config.static.get("unit") or "")
        scene = figures.Scene(
            asset_id=self.id, unit=unit, tz=config.timezone, first=first, stop=stop, known=known, curve=curve
        )
        return figures.fan(scene)

    # ---------------------------------------------------------------- inside

    def _facts(self, snapshot: Snapshot) -> dict[str, Any]:
        static = self._resolved(snapshot).static
        return {name: value for name, value in static.items() if value is not None and value != ""}

    def _resolved(self, snapshot: Snapshot) -> AssetConfig:
        rows = snapshot.table("assets", assets=[self.id]).to_pylist()
        if not rows:
            raise AssetUnknown(f"the store knows no asset {self.id!r} any more")
        return self._config.for_asset(self.id, rows[0], self._product)

    def _champion(self, snapshot: Snapshot) -> dict[str, Any] | None:
        rows = snapshot.table("champions", assets=[self.id], where={"product": self._product}).to_pylist()
        return rows[0] if rows and rows[0]["recipe"] is not None else None

    def _rows(
        self,
        view: str,
        since: Moment | None,
        until: Moment | None,
        where: Mapping[str, str | Sequence[str]] | None = None,
    ) -> Result:
        snapshot = self._store.snapshot()
        first = None if since is None else from_micros(self._instant(snapshot, since))
        stop = None if until is None else from_micros(self._instant(snapshot, until))
        return Result(arrow=snapshot.table(view, assets=[self.id], since=first, until=stop, where=where))

    def _instant(self, snapshot: Snapshot, at: Moment) -> int:
        """A moment as users say it, in UTC microseconds."""
        if isinstance(at, str):
            text = at.strip()
            if text[:1].isdigit() and text[-1:].isalpha() and ":" not in text:
                return self._data_end(snapshot) - length(text)
            with suppress(ValueError):
                at = date.fromisoformat(text)
        if isinstance(at, date) and not isinstance(at, datetime):
            local = (at - date(1970, 1, 1)).days * DAY
            return int(zone_of(self._resolved(snapshot).timezone, local - DAY, local + DAY).utc(np.array([local]))[0])
        return moment(at, "time")

    def _data_end(self, snapshot: Snapshot) -> int:
        """The end of the newest reading's interval; now, where there is none."""
        newest, config = self._newest_reading(snapshot), self._resolved(snapshot)
        now = to_micros(self._store.clock.now())
        return now if newest is None else interval_end(newest, config.freq, config.timezone)

    def _newest_reading(self, snapshot: Snapshot) -> int | None:
        asked = "select max(valid_time) as last from actuals where asset_id = $asset"
        last = snapshot.sql(asked, {"asset": self.id}).rows()[0]["last"]
        return None if last is None else to_micros(last)

    def _curve(
        self, snapshot: Snapshot, config: AssetConfig, issue: int | None, recipe: str | None, role: Role | None
    ) -> questions.Curve | None:
        """The forecast that is meant: what was issued, else the newest judgement of the recipe in charge."""
        if role != "backtest":
            at = (
                questions.newest_issue(snapshot, self.id, role="live", recipe=recipe, product=self._product)
                if issue is None
                else issue
            )
            curve = (
                None
                if at is None
                else questions.forecast_of(snapshot, self.id, at, role="live", recipe=recipe, product=self._product)
            )
            if curve is not None or role == "live":
                return curve
        champion = self._champion(snapshot)
        name = recipe or (champion["recipe"] if champion else None)
        if issue is None:
            issue = questions.newest_issue(snapshot, self.id, role="backtest", recipe=name, product=self._product)
        return (
            None
            if issue is None
            else questions.backtested(snapshot, config, recipe=name, issue=issue, product=self._product)
        )

    def _no_such(
        self, snapshot: Snapshot, wanted: int | None, recipe: str | None, role: Role | None
    ) -> ForecastMissing:
        """What to say of a forecast that is not there: which one is nearest."""
        whose = f" of recipe {recipe}" if recipe else ""
        at = f" issued {from_micros(wanted):%Y-%m-%dT%H:%MZ}" if wanted is not None else ""
        near = [
            found
            for kind in (("live", "backtest") if role is None else (role,))
            for found in [
                questions.nearest_issue(snapshot, self.id, wanted or 0, role=kind, recipe=recipe, product=self._product)
            ]
            if found is not None
        ]
        best = min(near, key=lambda found: abs(found - (wanted or 0)), default=None)
        hint = "it has none" if best is None else f"the nearest was issued {from_micros(best):%Y-%m-%dT%H:%MZ}"
        return ForecastMissing(f"{self.id} has no forecast{whose}{at}; {hint}")

    def _card(self) -> Html:
        snapshot = self._store.snapshot()
        config = self._resolved(snapshot)
        champion = self._champion(snapshot)
        if champion is not None:
            decided = snapshot.table(
                "decisions", assets=[self.id], columns=["reason"], where={"product": self._product}
            ).to_pylist()
            champion["reason"] = decided[-1]["reason"] if decided else ""
        metric = self._config.promotion.metric
        metric = "mae" if parse(metric).recipe else metric
        curve = self._curve(snapshot, config, None, None, None)
        end = curve.issue if curve is not None else self._newest_reading(snapshot)
        stop = max(int(curve.times[-1]), curve.issue) + 1 if curve is not None else (end or 0) + 1
        first = (end or 0) - week_or_steps(config.freq) * 4 // 7
        return cards.asset_card(
            self.id,
            {name: value for name, value in self._facts(snapshot).items() if name not in _NO_FACTS},
            config.timezone,
            champion=champion,
            metric=metric,
            results=questions.scored(snapshot, self.id, metric, product=self._product),
            known=questions.known_between(snapshot, config, first, stop),
            curve=curve,
        )


class Assets:
    """A fleet as the collection of its assets: looked up by id, counted, walked over in order of their ids."""

    config: FleetConfig
    store: Store

    def __getitem__(self, asset_id: str) -> Asset:
        """The asset of an id.

        Raises:
            AssetUnknown: the register has no such asset; the message names those that it may be.
        """
        snapshot = self.store.snapshot()
        try:
            name = check_asset_id(asset_id)
        except InvalidId as error:
            raise AssetUnknown(str(error)) from error
        if not snapshot.table("assets", assets=[name], columns=["asset_id"]).num_rows:
            near = [row["asset_id"] for row in snapshot.sql(NEAREST, {"name": name}).rows()]
            # In the message, not in the hint: a notebook's traceback ends with the message.
            meant = (
                f"did you mean {', '.join(map(repr, near))}?" if near else "the store holds none: ingest() brings them"
            )
            raise AssetUnknown(f"there is no asset {name!r}; {meant}")
        return Asset(self.store, self.config, name)

    def __iter__(self) -> Iterator[str]:
        """The ids of the register, in order."""
        ids: list[str] = self.store.table("assets", columns=["asset_id"])["asset_id"].to_pylist()
        return iter(ids)

    def __len__(self) -> int:
        return int(self.store.sql("select count(*) as n from assets").rows()[0]["n"])

    def __bool__(self) -> bool:
        """A fleet is something, also before its first asset."""
        return True

    def __contains__(self, asset_id: object) -> bool:
        try:
            name = check_asset_id(asset_id) if isinstance(asset_id, str) else None
        except InvalidId:
            return False
        return name is not None and bool(self.store.table("assets", assets=[name], columns=["asset_id"]).num_rows)

    @property
    def plots(self) -> Plots:
        """Figures over the fleet: ``plots.errors()``, ``plots.calibration()``, ``plots.extremes()``."""
        from fleet.plots import Plots

        return Plots(self.store.snapshot, self.config)

    def _repr_html_(self) -> str:
        return cards.guarded(self.config.fleet.name, self._card, (TsfleetError, OSError))

    def _card(self) -> Html:
        snapshot = self.store.snapshot()
        seen = questions.glance(
            snapshot,
            folder=self.store.path,
            metric=self.config.promotion.metric,
            product=self.config.product_names[0],
        )
        zone = self.config.fleet.timezone
        return cards.fleet_card(self.config.fleet.name, str(self.store.path), snapshot.id, zone, seen)
