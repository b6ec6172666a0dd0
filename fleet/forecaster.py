"""What a model is to the fleet: two methods, and abilities that a model may have besides.

``fit`` and ``predict`` get the history known at the issue time, so one fitted model serves many issues: train weekly,
forecast hourly. ``y`` is a float64 series on the full regular UTC grid, NaN where a reading is missing, that ends at
the last known step. ``X`` holds the covariates known at the issue time, one row per step, through the end of the
target; NaN where one is not known. Models leave both as they find them. What they return is checked by the caller,
never by the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from fleet.errors import ConfigInvalid, NoData, TooShort
from fleet.outcome import Failed
from fleet.task import FloatArray, Task


@runtime_checkable
class Forecaster(Protocol):
    """A model definition that can be fitted to one asset."""

    def fit(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> Fitted:
        """The model, fitted to a history; ``task`` is a typical issue."""
        ...


@runtime_checkable
class Fitted(Protocol):
    """A fitted model. ``predict`` never refits and never changes it."""

    def predict(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> pd.DataFrame:
        """One row per target; columns ``mean`` and, where the model has them, ``qXX``."""
        ...


class Question(NamedTuple):
    """What `fit` and `predict` are given for one asset."""

    y: pd.Series[float]
    X: pd.DataFrame | None
    task: Task


@runtime_checkable
class Many(Protocol):
    """A forecaster that takes many assets at once. An asset that fails has its failure in its place.

    Its ``scope`` says how. "many", and where there is none: each asset gets a model of its own, the same as one by one.
    "global": all get one and the same. "asset": one by one, these methods are not called.
    """

    def fit_many(self, questions: Sequence[Question]) -> Sequence[Fitted | Failed | Exception]:
        """The models of these histories, in their order."""
        ...

    def predict_many(
        self, fitted: Sequence[Fitted], questions: Sequence[Question]
    ) -> Sequence[pd.DataFrame | Failed | Exception]:
        """What `predict` of each model says to its question, in their order."""
        ...


@runtime_checkable
class Saves(Protocol):
    """A fitted model with a native form: what it learnt, never the data it learnt from."""

    def save(self) -> bytes:
        """All that `predict` needs, in bytes."""
        ...


@runtime_checkable
class Params(Protocol):
    """A fitted model that can tell what it learnt, by name."""

    def params(self) -> Mapping[str, float]:
        """What was learnt, by name."""
        ...


@runtime_checkable
class Adapter(Forecaster, Protocol):
    """A forecaster of the house: a frozen dataclass whose fields are the recipe's options.

    Attributes:
        library: distribution name of what does the arithmetic; ``tsfleet`` for our own.
        codec: name of the form that ``save`` writes and ``load`` reads.
        revision: raised when the adapter's arithmetic changes, and with it the hash of every recipe that uses it.
        light: NumPy alone, in microseconds; it can neither hang nor crash, so it needs no process of its own.
    """

    library: ClassVar[str]
    codec: ClassVar[str]
    revision: ClassVar[int]
    light: ClassVar[bool]

    @property
    def uses_covariates(self) -> bool:
        """Whether X makes a difference."""
        ...

    def load(self, blob: bytes) -> Fitted:
        """The fitted model that ``save`` wrote, in any process."""
        ...

    def import_library(self) -> None:
        """Import what ``fit`` needs; AdapterMissing, with the line to type, when that fails."""
        ...


def scope_of(model: object) -> str:
    """How a model takes assets: one by one (``asset``), ``many`` at once, or all in one (``global``).

    >>> scope_of(object())
    'asset'
    """
    # Asked of every asset: by name, since isinstance() of a Protocol takes some 20 us where it says no.
    if getattr(model, "fit_many", None) is None or getattr(model, "predict_many", None) is None:
        return "asset"
    return str(getattr(model, "scope", "many"))


LATER = {"hashed": "where it is not the default"}
"""Metadata of an option that came later than recipes of its adapter: left at its default it changes no hash."""


@dataclass(frozen=True, kw_only=True)
class Scoped:
    """The options of an adapter that can fit one model to many assets.

    Args:
        scope: "asset" gives each a model of its own, "global" one to all assets of a group.
        group: fact of the register whose values tell the groups apart, such as region; by default all are in one.
    """

    scope: Literal["asset", "global"] = field(default="asset", metadata=LATER)
    group: str | None = field(default=None, metadata=LATER)

    def __post_init__(self) -> None:
        if self.group is not None and self.scope != "global":
            raise ConfigInvalid(f'group = "{self.group}" is of a model for many assets, which takes scope = "global"')


def readings(y: pd.Series[float], *, at_least: int = 1) -> FloatArray:
    """The values of a history, when it holds a reading and is long enough to fit a model to.

    Args:
        y: the history.
        at_least: steps that the model needs.

    Returns:
        (steps,) the same values, not to be written to.

    >>> readings(pd.Series([1.0, float("nan")]))
    array([ 1., nan])
    """
    values = np.asarray(y.to_numpy(), dtype=np.float64)
    if not np.isfinite(values).any():
        raise NoData(f"none of the {len(values)} steps of the history holds a reading")
    if len(values) < at_least:
        raise TooShort(f"the model needs {at_least} steps of history and has {len(values)}")
    return values
