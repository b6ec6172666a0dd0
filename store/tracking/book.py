"""The tracking side of one open store: runs are made, taken up again, looked for, deleted and brought back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Unpack

from store import environment
from store.ids import new_id
from store.tracking import search
from store.tracking.batch import Batch
from store.tracking.ledger import Ledger, Tags
from store.tracking.run import Run, told_of
from store.tracking.telling import About, Words, newly_told
from store.tracking.values import plain_note, plain_tags

if TYPE_CHECKING:
    import pandas as pd

Ids = str | Run | Iterable[str | Run]


class Book:
    """What ``store.run`` and its neighbours do."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def run(
        self,
        asset: str | None = None,
        recipe: str | None = None,
        *,
        parent: Run | str | None = None,
        **about: Unpack[Words],
    ) -> Run:
        """A run that has not begun."""
        told = newly_told(About(asset=asset, recipe=recipe, **about), told_of(self._ledger, parent))
        return Run(self._ledger, self._ledger, told, self.run, resumed=False)

    def resume(self, run_id: str) -> Run:
        """A run of before, to read at once and to go on with."""
        return Run(self._ledger, self._ledger, self._ledger.told(run_id), self.run, resumed=True)

    def batch(self, *, parent: Run | str | None, every: int | None) -> Batch:
        """Runs to be written together."""
        return Batch(self._ledger, parent=told_of(self._ledger, parent), every=every)

    def find(self, asked: search.Search) -> pd.DataFrame:
        """Runs as pandas."""
        return search.find(self._ledger.sql, asked)

    def delete(self, ids: Ids, reason: str) -> list[str]:
        """Mark runs and their children as deleted; the ids of those that were not before."""
        told = {"at": self._ledger.clock.now().isoformat(), "by": environment.captured().user, "act": new_id()}
        if reason:
            told["reason"] = plain_note(reason)

        def deleted(all_tags: Mapping[str, Tags]) -> dict[str, Tags]:
            return {run_id: {"deleted": told, **tags} for run_id, tags in all_tags.items()}

        return self._ledger.retag(listed(ids), deleted, children=True)

    def restore(self, ids: Ids) -> list[str]:
        """Bring deleted runs back, with the children that went with them; the ids of those that were deleted."""
        asked = listed(ids)

        def restored(all_tags: Mapping[str, Tags]) -> dict[str, Tags]:
            acts = {_act(all_tags[run_id]) for run_id in asked} - {None}
            return {
                run_id: {name: value for name, value in tags.items() if name != "deleted"}
                if run_id in asked or _act(tags) in acts
                else tags
                for run_id, tags in all_tags.items()
            }

        return self._ledger.retag(asked, restored, children=True)

    def tag(self, ids: Ids, tags: Mapping[str, Any], remove: Iterable[str], note: str | None) -> list[str]:
        """Add tags to runs, take some away, or say in words what they are; the ids of those that changed."""
        more = plain_tags(tags) | ({} if note is None else {"note": plain_note(note)})
        gone = plain_tags(dict.fromkeys(remove))

        def tagged(all_tags: Mapping[str, Tags]) -> dict[str, Tags]:
            return {
                run_id: {name: value for name, value in tags.items() if name not in gone} | more
                for run_id, tags in all_tags.items()
            }

        return self._ledger.retag(listed(ids), tagged)


def listed(ids: Ids) -> list[str]:
    """Ids of runs given one by one, as a list, as a column of ``store.runs()``, or as the runs themselves."""
    if isinstance(ids, (str, Run)):
        ids = [ids]
    return [one.id if isinstance(one, Run) else str(one) for one in ids]


def _act(tags: Tags) -> str | None:
    told = tags.get("deleted")
    return None if told is None else str(told["act"])
