"""What a fleet answers without changing anything: leaderboards, the worst assets, its state, its runs.

`fleet.fleet.Fleet` is this and the verbs that do the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from fleet.asset import Assets
from fleet.errors import ConfigInvalid, NothingSelected
from fleet.registry import nearest

if TYPE_CHECKING:
    from fleet.comparison import Role
    from fleet.leaderboard import Average, Leaderboard
    from fleet.population import Population
    from fleet.review import Review
    from store.clock import Clock

DEFAULT_METRICS = ("mae", "rmse", "wape", "bias")
Named: TypeAlias = str | Sequence[str] | None


class Looking(Assets):
    """A fleet to look at; products are named by their names in the configuration."""

    clock: Clock

    def leaderboard(
        self,
        *,
        product: str | None = None,
        role: Role = "backtest",
        metrics: Sequence[str] | None = None,
        average: Average = "mean",
        since: date | None = None,
        until: date | None = None,
        by: str | None = None,
        select: Sequence[str] = (),
        where: str | None = None,
    ) -> Leaderboard:
        """Which recipe is best over the fleet, on the points that all were judged on.

        Args:
            product: None is the first of the fleet's.
        """
        from fleet.leaderboard import leaderboard
        from fleet.overview import outdated

        product = self._one(product)

        if since is not None and until is not None and since >= until:
            raise ConfigInvalid(f"no day lies from {since} to before {until}", hint="the end is not included")
        groups, assets = None, None
        if select or where is not None or since or until or by not in (None, "asset", "lead"):
            (people,) = self.populations(product, select=select, where=where)
            if by not in (None, "asset", "lead") and not any(by in member.static for member in people.members):
                known = sorted({"asset", "lead"}.union(*(member.static for member in people.members)))
                raise ConfigInvalid(f"no asset has a column {by!r}{nearest(str(by), known)}")
            assets = {member.asset_id: member.config.timezone for member in people.members}
            groups = {member.asset_id: str(member.static.get(by or "", "")) for member in people.members}
        snapshot = self.store.snapshot()
        board = leaderboard(
            snapshot,
            recipes=self._shown(role),
            metrics=tuple(metrics or self.default_metrics(product)),
            sort_by=metrics[0] if metrics else self._metric(product),
            product=product,
            role=role,
            average=average,
            by=by,
            groups=groups,
            assets=assets,
            since=since,
            until=until,
            truth=self.config.data.truth,
        )
        if role == "live":
            return board  # `score` follows every revision
        old = outdated(snapshot, [*self.config.recipes], product)
        return replace(board, outdated=len(old if assets is None else old & assets.keys()))

    def worst(
        self,
        n: int = 10,
        *,
        product: str | None = None,
        metric: str | None = None,
        role: Role = "backtest",
        select: Sequence[str] = (),
        where: str | None = None,
    ) -> list[dict[str, Any]]:
        """The assets with the highest error under the recipe in charge of a product; None is the fleet's first."""
        from fleet.leaderboard import worst

        if n < 1:
            raise ConfigInvalid(f"n = {n}: accepted: a number from 1 up")
        assets, product = None, self._one(product)
        if select or where is not None:
            (people,) = self.populations(product, select=select, where=where)
            assets = {member.asset_id: member.config.timezone for member in people.members}
        snapshot = self.store.snapshot()
        asked = "select asset_id, recipe from champions where product = $product"
        champions = {row["asset_id"]: row["recipe"] for row in snapshot.sql(asked, {"product": product}).rows()}
        return worst(
            snapshot,
            recipes=self._shown(role),
            metric=metric or self._metric(product),
            role=role,
            product=product,
            champions=champions,
            n=n,
            assets=assets,
        )

    def compare(
        self,
        *,
        product: str | None = None,
        at: datetime | None = None,
        metric: str | None = None,
        recent: int = 7,
        history: int = 28,
        effect: float = 0.2,
        by: str = "kind",
        select: Sequence[str] = (),
        where: str | None = None,
    ) -> Review:
        """The fleet beside its own past: who got worse, who stands apart, what drifted, fell silent or grew old.

        Args:
            product: None is the first of the fleet's.
            at: days before this instant count; None is the end of the last day that was scored.
            metric: of the change; None is what decides who is in charge.
            recent, history: days of the two windows.
            effect: the least change, as a fraction, that counts as one.
            by: the register column whose values make peers.
        """
        from fleet.review import review

        product = self._one(product)
        if recent < 1 or history < 1 or not effect > 0:
            raise ConfigInvalid(
                f"recent = {recent}, history = {history}, effect = {effect:g}: accepted: days from 1 up, effect above 0"
            )
        (people,) = self.populations(product, select=select, where=where)
        if at is None:
            days = self.scored_days("live")
            last = self.clock.now().date() if days is None else days[1] + timedelta(days=1)
            at = datetime(last.year, last.month, last.day, tzinfo=UTC)
        elif at.tzinfo is None:
            raise ConfigInvalid(f"{at} has no zone", hint="write it as 2024-06-10T00:00Z")
        return review(
            self.store.snapshot(),
            people,
            name=self.config.fleet.name,
            at=at.astimezone(UTC),
            metric=metric or self._metric(product),
            recent=recent,
            history=history,
            effect=effect,
            by=by,
            truth=self.config.data.truth,
        )

    def status(self, *, jobs: int = 5) -> dict[str, Any]:
        """How the fleet is: assets and their states, champions, what failed and why, newest data, the last jobs."""
        from fleet.overview import status

        try:
            products = self.populations()
        except NothingSelected:
            products = ()
        found = status(
            self.store.snapshot(),
            self.config.product_names,
            products,
            self.store.path,
            jobs=jobs,
            jobs_of=self.config.jobs_of,
        )
        return {"name": self.config.fleet.name, "store": str(self.store.path), **found}

    def runs(
        self,
        *,
        select: Sequence[str] = (),
        where: str | None = None,
        status: str | None = None,
        recipe: str | None = None,
        kind: str | None = None,
        limit: int = 20,
    ) -> list[dict[str, Any]]:
        """The newest runs; of the assets that a selection names, with a status, a recipe, a kind."""
        if limit < 1:
            raise ConfigInvalid(f"limit = {limit}: accepted: a number from 1 up")
        from fleet.overview import runs

        return runs(
            self.store.snapshot(), select=select, where=where, status=status, recipe=recipe, kind=kind, limit=limit
        )

    def scored_days(self, role: Role = "backtest") -> tuple[date, date] | None:
        """The first and the last local day that was scored; None before any was."""
        from fleet.overview import scored_days

        return scored_days(self.store.snapshot(), role)

    def default_metrics(self, product: str | None = None) -> tuple[str, ...]:
        """What a leaderboard shows unless told: the promotion metric, the common errors, MASE by season."""
        seasons = self.config.for_asset("").seasons
        return tuple(dict.fromkeys([self._metric(product), *DEFAULT_METRICS, *(f"mase_{m}" for m in seasons)]))

    def population(self, *, select: Sequence[str] = (), where: str | None = None) -> Population:
        """The assets that a selection names, with their settings for the first product of the fleet."""
        from fleet.population import population

        return population(self.store.snapshot(), self.config, select=select, where=where)

    def populations(
        self, product: Named = None, *, select: Sequence[str] = (), where: str | None = None
    ) -> tuple[Population, ...]:
        """By product the assets that a selection names and that it is issued for; products without any are left out.

        Raises:
            NothingSelected: the selection matches no asset, or none that such a product is issued for.
        """
        from fleet.population import populations

        names = self._named(product)
        found = populations(self.store.snapshot(), self.config, names, select=select, where=where)
        some = tuple(people for people in found if people.members)
        if not some:
            raise NothingSelected(
                f"{', '.join(names)}: issued for none of these assets",
                hint="tsfleet config show ASSET tells the products of one",
            )
        return some

    def _named(self, product: Named) -> tuple[str, ...]:
        """Products by name, in the order of the file; all of them for None."""
        known = self.config.product_names
        if product is None:
            return known
        wanted = (product,) if isinstance(product, str) else tuple(product)
        for name in wanted:
            if name not in known:
                raise ConfigInvalid(f"there is no product {name!r}{nearest(name, known)}")
        if not wanted:
            raise ConfigInvalid(f"no product is named; there are {', '.join(known)}")
        return tuple(name for name in known if name in wanted)

    def _one(self, product: str | None) -> str:
        """A product by name; the first of the fleet for None."""
        return self._named(self.config.product_names[0] if product is None else product)[0]

    def _meant(self, product: Named) -> tuple[str, ...]:
        """The products that somebody named, where there is a choice."""
        found = self._named(product)
        if product is None and len(found) > 1:
            raise ConfigInvalid(f"there are several products: {', '.join(found)}", hint="name one with --product")
        return found

    def _metric(self, product: str | None) -> str:
        """What decides who is in charge."""
        return self.config.for_asset("", product=product).promotion.metric

    def _shown(self, role: Role) -> list[str] | None:
        """The recipes of the file; in life also those that stood in, or were in charge once."""
        return [*self.config.recipes] if role == "backtest" else None
