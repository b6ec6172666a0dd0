"""What a model is asked: the instants to forecast, the step, the clock, the seasons, the quantiles, the seed.

A task is the same thing at fit (the target of a typical issue) and at predict (the target of this issue). The history
that comes with it lies on the full regular grid of the step and ends at the last known step; the target may begin
later, and then the model bridges the gap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd

from fleet.errors import ConfigInvalid, SeriesInvalid
from fleet.metrics import quantile_column

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """One question to a model.

    Args:
        target: the UTC instants to forecast, ascending, at least one.
        freq: the step, as the configuration writes it: ``15min``, ``1h``, ``1D``.
        tz: IANA name of the asset's clock; seasons of whole days mean the same time on it.
        seasons: season lengths in steps, the main one first; empty when none is known.
        quantiles: levels asked for beside the mean, ascending.
        seed: where all randomness of the model comes from.
        static: facts of the asset (capacity, kind, ``peer_mean``).
    """

    target: pd.DatetimeIndex
    freq: str
    tz: str = "UTC"
    seasons: tuple[int, ...] = ()
    quantiles: tuple[float, ...] = ()
    seed: int = 0
    static: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.target):
            raise SeriesInvalid("the task has no step to forecast")
        if self.target.tz is None:
            raise SeriesInvalid(f"the target begins at {self.target[0]} without a time zone")
        # An index of its own: many assets are asked about the same instants, and a model may give them a name.
        own = self.target[:] if self.target.unit == "us" else self.target.as_unit("us")
        object.__setattr__(self, "target", own)
        if any(not 0.0 < level < 1.0 for level in self.quantiles):
            raise ConfigInvalid(f"quantiles lie between 0 and 1, got {self.quantiles}")

    @property
    def horizon(self) -> int:
        """Number of steps to forecast."""
        return len(self.target)

    def frame(self, mean: FloatArray, quantiles: Mapping[float, FloatArray] | None = None) -> pd.DataFrame:
        """The forecast in the form a model returns it: index the target, columns ``mean`` and ``qXX``.

        >>> task = Task(target=pd.date_range("2024-01-02", periods=2, freq="h", tz="UTC"), freq="1h")
        >>> task.frame(np.array([1.0, 2.0]), {0.9: np.array([3.0, 4.0])}).columns.to_list()
        ['mean', 'q90']
        """
        levels = tuple(sorted(quantiles or ()))
        values = np.column_stack([mean, *(quantiles[q] for q in levels)]) if quantiles else mean.reshape(-1, 1)
        return pd.DataFrame(values, index=self.target, columns=_named(levels), copy=False)


@lru_cache(maxsize=256)
def _named(levels: tuple[float, ...]) -> pd.Index[str]:
    """The columns of a forecast; an index of text takes longer to make than the rest of the frame."""
    return pd.Index(["mean", *map(quantile_column, levels)])
