"""Covariates for regressions that take no gap: what is known ahead, or an error that names the column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fleet.alignment import Aligned, covariates_at
from fleet.errors import CovariateMissing
from fleet.task import FloatArray, Task


def known_ahead(X: pd.DataFrame | None, history: Aligned, task: Task, season: int) -> tuple[str, ...]:
    """The covariates that a typical issue knows of its target; one that ends with the history is left out."""
    if X is None:
        return ()
    steps = int(history.ahead.max())
    rows = covariates_at(X, task, season, history.last + 1, steps)[history.ahead - 1]
    return tuple(str(name) for column, name in enumerate(X.columns) if np.isfinite(rows[:, column]).any())


def regressors(
    X: pd.DataFrame | None, names: Sequence[str], history: Aligned, task: Task, season: int, *, since: int, until: int
) -> FloatArray:
    """The named columns from one place on the grid to another, both included, gaps in the past bridged by lines.

    Args:
        X: covariates known at the issue time.
        names: columns that the model uses.
        history: what the places are counted on.
        task: what is asked; each of its steps needs a value when ``until`` lies behind the history.
        season: steps of the season of the grid.
        since: first place.
        until: last place.

    Returns:
        (until - since + 1, names) without NaN.
    """
    absent = [name for name in names if X is None or name not in X.columns]
    if X is None or absent:
        raise CovariateMissing(f"the covariates {', '.join(absent)} are not known at the issue time")
    rows = covariates_at(X[list(names)], task, season, since, until - since + 1)
    for column, name in enumerate(names):
        known = np.isfinite(rows[:, column])
        ahead = history.last + history.ahead - since
        missing = int((~known[ahead[ahead < len(known)]]).sum())
        if missing or not known.any():
            lacking = missing or len(known)
            raise CovariateMissing(f"the covariate {name} is not known for {lacking} of {len(known)} steps")
        if not known.all():
            places = np.arange(len(known))
            rows[~known, column] = np.interp(places[~known], places[known], rows[known, column])
    return rows
