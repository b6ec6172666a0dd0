"""What the recipes that may issue forecast in their newest backtest, for intervals out of their errors.

The rows are in the store, so they are read from there, once for each batch of assets: nothing has to be kept with a
version, and a recipe judged again since its model was fitted has intervals out of its newest errors. What happened
stands in the history that the worker has anyway. Where no quantiles are configured nothing is read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from fleet.frames import instants, spans
from fleet.intervals import Past

if TYPE_CHECKING:
    from store.reading import Snapshot

# For an issue in the past the newest judgement that had begun by then; of its errors those known then count.
JUDGED = """
select r.asset_id, r.recipe, r.recipe_hash, r.run_id, r.train_end
from runs r join issues i on i.asset_id = r.asset_id
where r.kind = 'backtest' and r.status = 'ok' and r.product = $product and r.train_end < i.issue
qualify row_number() over (partition by r.asset_id, r.recipe, r.recipe_hash order by r.run_id desc) = 1
"""
# A row with quantiles of the model's own says nothing that is needed.
ROWS = """
select f.asset_id, f.recipe, f.recipe_hash, f.issue_time, f.valid_time, f.step, f.mean
from forecasts f semi join judged j on j.run_id = f.version_id and j.asset_id = f.asset_id
where f.role = 'backtest' and f.product = $product and f.issue_time > $since
order by f.asset_id, f.recipe, f.recipe_hash, f.issue_time, f.valid_time
"""
Key = tuple[str, str, str]


class _Judged(NamedTuple):
    run_id: str
    train_end: datetime


class Residuals:
    """The backtests of a product that intervals can be made of.

    Args:
        snapshot: what is read.
        issues: (asset_id, issue) of the assets that are to have intervals.
    """

    def __init__(self, snapshot: Snapshot, product: str, issues: pa.Table) -> None:
        self._snapshot, self._product = snapshot, product
        self._judged: dict[Key, _Judged] = {}
        if issues.num_rows:
            for row in snapshot.sql(JUDGED, {"product": product}, {"issues": issues}).rows():
                key = (row["asset_id"], row["recipe"], row["recipe_hash"])
                self._judged[key] = _Judged(row["run_id"], row["train_end"])

    @property
    def since(self) -> datetime | None:
        """Before all that they are about; None where there are none."""
        return min((judged.train_end for judged in self._judged.values()), default=None)

    def of(self, assets: Sequence[str], recipes: Mapping[str, Collection[tuple[str, str]]]) -> dict[Key, Past]:
        """By asset, recipe and recipe_hash what was forecast.

        Args:
            recipes: by asset the (recipe, recipe_hash) that may issue.
        """
        keys = [(asset, *recipe) for asset in assets for recipe in recipes[asset]]
        judged = {key: self._judged[key] for key in keys if key in self._judged}
        if not judged:
            return {}
        runs = pa.table({"asset_id": [key[0] for key in judged], "run_id": [run.run_id for run in judged.values()]})
        asked = {"product": self._product, "since": min(run.train_end for run in judged.values())}
        table = self._snapshot.sql(ROWS, asked, {"judged": runs}).arrow()
        issue, valid = instants(table["issue_time"]), instants(table["valid_time"])
        step, mean = table["step"].cast(pa.int64()).to_numpy(), table["mean"].cast(pa.float64()).to_numpy()
        found: dict[Key, Past] = {}
        for (asset, recipe, recipe_hash), span in spans([table[name] for name in table.column_names[:3]]).items():
            mine = slice(span.start, span.stop)
            found[asset, recipe, recipe_hash] = Past(
                issue_time=issue[mine], valid_time=valid[mine], step=step[mine], mean=mean[mine]
            )
        return found
