"""What people call on a store to track runs; the work is done by ``store.tracking``, imported when it is first asked.

A room of its own, so that opening a store, which is measured beside a bare DuckDB, reads signatures and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from store.tracking import Batch, Book, Ids, Ledger, Run


class Tracked(ABC):
    """The tracking half of an open store."""

    @abstractmethod
    def _ledger(self) -> Ledger:
        """What the store lends to its runs."""

    @property
    def _book(self) -> Book:
        from store.tracking import Book

        return Book(self._ledger())

    def run(
        self,
        asset: str | None = None,
        recipe: str | None = None,
        product: str = "default",
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
        library: str = "",
        kind: str = "manual",
        *,
        parent: Run | str | None = None,
        note: str = "",
    ) -> Run:
        """A run to log into: ``with store.run(asset="plant-7", recipe="my-gbm") as run: ...``.

        Args:
            asset: whose model is trained; a run over many assets has none.
            recipe: the name of the model's definition.
            product: what is forecast.
            params: how it is made; kept typed, and never changed in silence.
            tags: what else is worth finding it by; see ``store.tracking.values.RESERVED`` for the names that are taken.
            library: that trains; its installed version is written down.
            kind: what sort of run it is, such as ``train`` or ``backtest``.
            parent: of which it is a part, as a run or its id.
            note: about it, in words.
        """
        return self._book.run(
            asset=asset, recipe=recipe, product=product, params=params, tags=tags, library=library, kind=kind,
            parent=parent, note=note,
        )  # fmt: skip

    def resume(self, run_id: str) -> Run:
        """A run of before: to read at once, and by ``with`` to log into again.

        Raises:
            NotFound: when there is none of this id.
            WrongState: on entering, when it is deleted.
        """
        return self._book.resume(run_id)

    def batch(self, *, parent: Run | str | None = None, every: int | None = 1_000) -> Batch:
        """Many runs in few commits: ``with store.batch() as batch: ... run = batch.run(asset=..., recipe=...)``.

        Args:
            parent: of which the runs are parts.
            every: so many runs that have ended are committed together; None: all at the end, in one commit.
        """
        return self._book.batch(parent=parent, every=every)

    def runs(  # noqa: PLR0913 - each is a column that people search by
        self,
        where: str | None = None,
        limit: int | None = None,
        *,
        asset: str | Sequence[str] | None = None,
        recipe: str | Sequence[str] | None = None,
        product: str | Sequence[str] | None = None,
        library: str | Sequence[str] | None = None,
        kind: str | Sequence[str] | None = None,
        status: str | Sequence[str] | None = None,
        batch: str | Sequence[str] | None = None,
        parent: Run | str | None = None,
        tags: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        metrics: str | Sequence[str] = (),
        order_by: str | Sequence[str] = (),
        deleted: bool | None = False,
    ) -> pd.DataFrame:
        """Runs as pandas, the newest first.

        The last column, ``alive``, says of a running run whether its process still runs; NA where that cannot be known.

        Args:
            where: SQL over ``runs``; may name ``metrics['mae']``, the last value of a metric, and ``params->>'lags'``.
            limit: at most so many.
            asset: an id or several, ``*``, ``?`` and ``[...]`` standing for anything; so for the next six.
            recipe: of these.
            product: of these.
            library: of these.
            kind: of these.
            status: of these.
            batch: with one of these as ``batch_id``.
            parent: only children of this run.
            tags: with these tags.
            params: with these parameters; numbers are equal as numbers.
            metrics: names or patterns; each becomes a column ``metrics.<name>`` with its last value.
            order_by: columns, ``metrics.<name>``, ``params.<name>`` or ``tags.<name>``, with ``desc`` behind it or not.
            deleted: False leaves deleted runs out, True shows only them, None shows all.

        Raises:
            QueryInvalid: when the condition is no SQL.
            SchemaMismatch: when an order names nothing there is.
        """
        from store.tracking import Search

        columns = {
            "asset_id": asset, "recipe": recipe, "product": product, "library": library, "kind": kind,
            "status": status, "batch_id": batch,
        }  # fmt: skip
        parent_id = parent if parent is None or isinstance(parent, str) else parent.id
        return self._book.find(
            Search(
                where=where, limit=limit, columns=columns, parent=parent_id, tags=tags or {},
                params=params or {}, metrics=[metrics] if isinstance(metrics, str) else metrics,
                order_by=order_by.split(",") if isinstance(order_by, str) else order_by, deleted=deleted,
            )
        )  # fmt: skip

    def delete_run(self, ids: Ids, reason: str = "") -> list[str]:
        """Delete runs, with their children, so that ``runs`` hides them: an id, ids, or a column of them.

        Nothing is taken away: when, by whom and why is written down, and :meth:`restore_run` brings them back.

        Returns:
            The ids of those that were not deleted before.

        Raises:
            NotFound: when one does not exist; then none is deleted.
        """
        return self._book.delete(ids, reason)

    def restore_run(self, ids: Ids) -> list[str]:
        """Bring deleted runs back, with the children that were deleted together with them; the ids of those."""
        return self._book.restore(ids)

    def tag_run(
        self, ids: Ids, tags: Mapping[str, Any] | None = None, *, remove: Sequence[str] = (), note: str | None = None
    ) -> list[str]:
        """Add tags to runs, ended or not, take some away, or note in words what they are; the ids that changed."""
        return self._book.tag(ids, tags or {}, remove, note)
