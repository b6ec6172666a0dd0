"""What the adapters share that build a recursive forecast on a regressor: their options, and the form it is kept in.

The regressor forecasts one step from lags, windows, calendar and covariates, and is fed with its own forecasts. Kept is
the regressor alone; at a forecast the library works out its features from the fresh history.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pandas as pd

from fleet.almanac import check_names
from fleet.counted import Counted, Wanted, counted, main_season
from fleet.errors import ConfigInvalid, FleetError
from fleet.estimators import Trained, check_path, kind_of
from fleet.features import window_of
from fleet.task import Task

ROWS = 20


@dataclass(frozen=True, kw_only=True)
class Recursive:
    """The options that every such adapter has.

    Args:
        regressor: import path of a class with fit and predict.
        params: the regressor's own, by its names.
        lags: of the series, in steps; by default 1, 2 and each season with one step more.
        rolling: windows such as ``mean_24``, each ending one step before.
        calendar: features of the local clock.
        country: ISO code for the calendar feature ``holiday``.
    """

    regressor: str = "lightgbm.LGBMRegressor"
    params: dict[str, Any] = field(default_factory=dict)
    lags: tuple[int, ...] | None = None
    rolling: tuple[str, ...] = ()
    calendar: tuple[str, ...] = ("hour", "dayofweek")
    country: str | None = None

    codec: ClassVar[str] = "regressor"
    light: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_path(self.regressor, "regressor", self.params)
        check_names(self.calendar, self.country)
        for name in self.rolling:
            window_of(name)
        if any(lag < 1 for lag in self.lags or ()):
            raise ConfigInvalid("lags are steps into the past, from 1 up")

    @property
    def uses_covariates(self) -> bool:
        return True

    @property
    def windows(self) -> list[tuple[int, str]]:
        """Steps and stat of each rolling window."""
        return [window_of(name) for name in self.rolling]

    def import_library(self) -> None:
        kind_of(self.regressor)

    def lags_for(self, task: Task) -> tuple[int, ...]:
        """The lags of the recipe; what it leaves open follows the seasons."""
        if self.lags is not None:
            return self.lags
        return tuple(sorted({1, 2} | {lag for season in task.seasons if season > 1 for lag in (season, season + 1)}))

    def reach(self, lags: tuple[int, ...]) -> int:
        """Steps before a step that its features look at."""
        return max([0, *lags, *(steps + 1 for steps, _ in self.windows)])

    def learning(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> tuple[Counted, Learnt]:
        """What there is to learn from, and how."""
        learnt = Learnt(lags=self.lags_for(task), season=main_season(None, task))
        wanted = Wanted(season=learnt.season, calendar=self.calendar, country=self.country)
        history = counted(y, X, task, wanted, at_least=self.reach(learnt.lags) + ROWS)
        return history, Learnt(lags=learnt.lags, season=learnt.season, covariates=history.covariates)

    def asked(self, learnt: Learnt, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> Counted:
        """The fresh history with the same columns."""
        wanted = Wanted(
            season=learnt.season, covariates=learnt.covariates, calendar=self.calendar, country=self.country
        )
        return counted(y, X, task, wanted, at_least=self.reach(learnt.lags) + ROWS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What the regressor sees.

    Args:
        lags: of the series.
        season: that decides on which clock steps are counted.
        covariates: columns of X.
    """

    lags: tuple[int, ...]
    season: int
    covariates: tuple[str, ...] = ()


def blob_of(learnt: Learnt, model: Trained) -> bytes:
    """A regressor and what it sees, in bytes."""
    told: Mapping[str, Any] = {"lags": learnt.lags, "season": learnt.season, "covariates": learnt.covariates}
    head = json.dumps({"format": 1, **told}, separators=(",", ":")).encode()
    return len(head).to_bytes(4, "big") + head + model.save()


def from_blob(blob: bytes) -> tuple[Learnt, Trained]:
    """What `blob_of` was given."""
    size = int.from_bytes(blob[:4], "big")
    head = json.loads(blob[4 : 4 + size])
    if head["format"] != 1:
        raise FleetError(f"the model was written in format {head['format']}, this release reads 1")
    learnt = Learnt(lags=tuple(head["lags"]), season=head["season"], covariates=tuple(head["covariates"]))
    return learnt, Trained.from_bytes(blob[4 + size :])
