"""A regressor by its import path, for libraries that build forecasts on one, and its form without a pickle.

LightGBM's is kept as the text of its trees, any other by skops, which writes no code.
"""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from fleet import libraries
from fleet.errors import AdapterMissing, ConfigInvalid, FleetError, Unsaveable, VersionMismatch
from fleet.task import FloatArray

# One thread each: workers are the parallelism here.
_FIXED = ("n_jobs", "num_threads", "nthread", "thread_count")


def check_path(path: str, field: str, params: Mapping[str, object]) -> None:
    """ConfigInvalid where a path cannot be one, or the params speak of threads."""
    module, _, name = path.rpartition(".")
    if not module or not name.isidentifier():
        raise ConfigInvalid(f'{field} = "{path}": accepted: an import path such as sklearn.linear_model.Ridge')
    fixed = [key for key in params if key in _FIXED]
    if fixed:
        raise ConfigInvalid(f"params.{fixed[0]} is set by the fleet: one thread, its seed, equal results")


def kind_of(path: str, base: str | None = None) -> Any:
    """The class of an import path.

    Args:
        base: what it has to derive from, as ``module:Name``, since a path may come out of a stored row.

    Raises:
        AdapterMissing: it cannot be imported.
        ConfigInvalid: it is no such class.
    """
    module, _, name = path.rpartition(".")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = getattr(importlib.import_module(module), name)
    except (ImportError, OSError, AttributeError) as error:
        package = libraries.distribution_of(module.partition(".")[0]) or module.partition(".")[0]
        hint = (
            f"is it spelt right? {package} is installed" if libraries.version_of(package) else f"pip install {package}"
        )
        raise AdapterMissing(f"{path} cannot be imported: {error}", hint=hint) from error
    if base is not None:
        place, _, wanted = base.partition(":")
        if not (isinstance(found, type) and issubclass(found, getattr(importlib.import_module(place), wanted))):
            raise ConfigInvalid(f"{path} is no {wanted}")
    return found


def regressor(path: str, params: Mapping[str, Any], seed: int) -> Any:
    """A regressor that is not fitted: one thread, the fleet's seed, silent."""
    kind = kind_of(path, "sklearn.base:BaseEstimator")
    try:
        model = kind(**params)
    except TypeError as error:
        raise ConfigInvalid(f"{path}: {error}") from error
    takes = model.get_params()
    if "n_jobs" in takes:
        model.set_params(n_jobs=1)
    if "random_state" in takes and "random_state" not in params:
        model.set_params(random_state=seed)
    if kind.__module__.partition(".")[0] == "lightgbm":
        model.set_params(verbosity=-1, deterministic=True, force_row_wise=True)
    return model


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A regressor that has learnt: fitted again, it stays as it is, so a library may be built around it anew.

    Args:
        model: the regressor, or LightGBM's booster.
    """

    model: Any

    @property
    def by_row(self) -> bool:
        """Whether a row's answer is the same to the last bit whatever other rows are asked with it; so with trees."""
        return type(getattr(self.model, "booster_", self.model)).__module__.partition(".")[0] == "lightgbm"

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Nothing: it has learnt."""
        return self

    def predict(self, X: Any) -> FloatArray:
        """(rows,) of what it says."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the names of columns, which it saw in this order
            return np.asarray(self.model.predict(np.asarray(X, dtype=np.float64)), dtype=np.float64).reshape(-1)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """None that may be set."""
        return {}

    def set_params(self, **params: Any) -> Self:
        """Nothing: it has learnt."""
        return self

    def __sklearn_clone__(self) -> Self:
        return self

    def save(self) -> bytes:
        """The regressor, for `from_bytes`.

        Raises:
            Unsaveable: skops does not know what it is made of to be harmless.
        """
        booster = getattr(self.model, "booster_", self.model)
        if type(booster).__module__.partition(".")[0] == "lightgbm":
            return _with_head("lightgbm", str(booster.model_to_string(num_iteration=-1)).encode())
        from skops import io

        payload = io.dumps(self.model)
        strange = io.get_untrusted_types(data=payload)
        if strange:
            raise Unsaveable(f"skops does not know {', '.join(strange)} to be harmless, so it cannot keep the model")
        return _with_head("scikit-learn", payload)

    @classmethod
    def from_bytes(cls, blob: bytes) -> Self:
        """The regressor from what `save` gave.

        Raises:
            VersionMismatch: another release of scikit-learn wrote it.
        """
        size = int.from_bytes(blob[:4], "big")
        head, payload = json.loads(blob[4 : 4 + size]), blob[4 + size :]
        if head["kind"] == "lightgbm":
            return cls(model=kind_of("lightgbm.Booster")(model_str=payload.decode()))
        if head["kind"] != "scikit-learn":
            raise FleetError(f"the model is a {head['kind']}, which this release does not read")
        here = libraries.version_of("scikit-learn")
        if libraries.release(here) != libraries.release(head["version"]):
            raise VersionMismatch(
                f"the model was written by scikit-learn {head['version']}, and {here} is installed; "
                "`tsfleet train` fits it again"
            )
        from skops import io

        return cls(model=io.loads(payload, trusted=[]))


def _with_head(kind: str, payload: bytes) -> bytes:
    head = json.dumps({"kind": kind, "version": libraries.version_of(kind)}, separators=(",", ":")).encode()
    return len(head).to_bytes(4, "big") + head + payload


def nested(value: Any) -> Any:
    """An argument as TOML writes it: a table with a ``path`` is an estimator, a pair of a name and one is a step.

    >>> nested({"path": "sklearn.linear_model.Ridge", "params": {"alpha": 2.0}}), nested([1, 2])
    (Ridge(alpha=2.0), [1, 2])
    """
    if isinstance(value, Mapping):
        if "path" not in value:
            return {name: nested(part) for name, part in value.items()}
        kind = kind_of(value["path"])
        if not _is_estimator(kind):
            raise ConfigInvalid(f"{value['path']} is no estimator")
        made = kind(**{name: nested(part) for name, part in value.get("params", {}).items()})
        return made.set_params(n_jobs=1) if "n_jobs" in made.get_params(deep=False) else made
    if isinstance(value, list | tuple):
        parts = [nested(part) for part in value]
        return (
            tuple(parts) if len(parts) == 2 and isinstance(parts[0], str) and _is_estimator(type(parts[1])) else parts
        )
    return value


def _is_estimator(kind: Any) -> bool:
    """Of scikit-learn's family, or of sktime's; nothing else is made from what a stored row names."""
    bases = {(base.__name__, base.__module__.partition(".")[0]) for base in getattr(kind, "__mro__", ())}
    return bool(bases & {("BaseEstimator", "sklearn"), ("BaseObject", "skbase")})
