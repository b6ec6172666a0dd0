"""From an adapter's name and a recipe's options to a forecaster, and to the hash that is the recipe's identity.

Adapters are named here and imported when asked for; their libraries later still. A user's own model is named
``module:Name``: a class whose fields or arguments are the options, or a plain function ``f(y, X, task)``.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from fleet.errors import AdapterMissing, ConfigInvalid, FleetError
from fleet.forecaster import Fitted, Forecaster
from fleet.task import FloatArray, Task

ADAPTERS: dict[str, str] = {
    "naive": "fleet.adapters.naive:Naive",
    "seasonal_naive": "fleet.adapters.naive:SeasonalNaive",
    "mean": "fleet.adapters.naive:Mean",
    "statsmodels": "fleet.adapters.statsmodels:Statsmodels",
    "lightgbm": "fleet.adapters.lightgbm:LightGBM",
    "sklearn": "fleet.adapters.sklearn:Sklearn",
}


def build(adapter: str, options: Mapping[str, object]) -> Forecaster:
    """The forecaster of a recipe, its options checked.

    >>> build("seasonal_naive", {"season": 168})
    SeasonalNaive(season=168)
    """
    kind = _found(adapter)
    accepted = _accepted(kind)
    for name in options:
        if accepted is not None and name not in accepted:
            raise ConfigInvalid(f"{adapter}: {name}: unknown option{nearest(name, accepted)}")
    if not inspect.isclass(kind):
        return Function(name=adapter, call=kind, options=dict(options))
    if dataclasses.is_dataclass(kind):
        return _validated(adapter, kind, options)
    try:
        made = kind(**options)
    except (TypeError, ValueError) as error:
        raise ConfigInvalid(f"{adapter}: {error}") from error
    if not isinstance(made, Forecaster):
        raise ConfigInvalid(f"{adapter}: {type(made).__name__} has no method fit(y, X, task)")
    return made


def recipe_hash(adapter: str, options: Mapping[str, object]) -> str:
    """The identity of a recipe: the class, its revision (a user's: the text of its file), every option and default.

    >>> recipe_hash("seasonal_naive", {}) == recipe_hash("seasonal_naive", {"season": None})
    True
    >>> recipe_hash("seasonal_naive", {"season": 24}) == recipe_hash("seasonal_naive", {"season": 168})
    False
    """
    kind = _found(adapter)
    forecaster = build(adapter, options)
    if not isinstance(forecaster, Function) and dataclasses.is_dataclass(forecaster):
        options = {f.name: getattr(forecaster, f.name) for f in dataclasses.fields(forecaster)}
    identity = {"adapter": ADAPTERS.get(adapter, adapter), "code": _code_of(kind), "options": options}
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def library_version(forecaster: Forecaster) -> str:
    """The version of the library behind a forecaster; empty when it is not installed or not named."""
    library = getattr(forecaster, "library", "custom")
    return "" if library == "custom" else _version_of(library)


def nearest(name: str, accepted: Iterable[str]) -> str:
    """The end of a message about an unknown name: the one that was probably meant, and all that are accepted.

    >>> nearest("seson", ["season", "window"])
    '; did you mean "season"? accepted: season, window'
    """
    names = sorted(accepted)
    close = difflib.get_close_matches(name, names, n=1)
    meant = f'; did you mean "{close[0]}"?' if close else ";"
    return f"{meant} accepted: {', '.join(names) or 'none'}"


@dataclass(frozen=True, kw_only=True)
class Function:
    """A plain function ``f(y, X, task, **options)`` as a model: nothing to fit, so every forecast calls it anew."""

    name: str
    call: Callable[..., pd.DataFrame | FloatArray]
    options: dict[str, object]

    library: ClassVar[str] = "custom"
    codec: ClassVar[str] = "none"
    revision: ClassVar[int] = 0
    light: ClassVar[bool] = False

    @property
    def uses_covariates(self) -> bool:
        return True

    def fit(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> Fitted:
        return self

    def predict(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> pd.DataFrame:
        made = self.call(y, X, task, **self.options)
        return made if isinstance(made, pd.DataFrame) else pd.DataFrame({"mean": made}, index=task.target)

    def load(self, blob: bytes) -> Fitted:
        return self

    def save(self) -> bytes:
        return b""

    def import_library(self) -> None:
        return None


def _found(adapter: str) -> Any:
    """The class or function an adapter's name stands for."""
    place = ADAPTERS.get(adapter, adapter)
    module, colon, name = place.partition(":")
    if not colon:
        raise ConfigInvalid(f"{adapter}: unknown adapter{nearest(adapter, ADAPTERS)}", hint="your own is `module:Name`")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        mine = error.name == module.partition(".")[0]
        hint = f"is {module}.py beside fleet.toml?" if mine else f"pip install {error.name}"
        raise AdapterMissing(f"{adapter}: {error}", hint=hint) from error
    except SyntaxError as error:
        raise ConfigInvalid(f"{adapter}: {error.msg} in line {error.lineno} of {error.filename}") from error
    except (ImportError, OSError) as error:
        raise AdapterMissing(f"{adapter}: {error}", hint=f"mend what {module}.py imports") from error
    except AttributeError as error:
        raise ConfigInvalid(f"{adapter}: {error}") from error


def _accepted(kind: Any) -> tuple[str, ...] | None:
    """The option names of a class or function; None when it takes any."""
    if dataclasses.is_dataclass(kind):
        return tuple(f.name for f in dataclasses.fields(kind) if f.init)
    parameters = inspect.signature(kind).parameters.values()
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return None
    names = tuple(p.name for p in parameters)
    return names if inspect.isclass(kind) else names[3:]


def _validated(adapter: str, kind: type[Any], options: Mapping[str, object]) -> Forecaster:
    from pydantic import TypeAdapter, ValidationError
    from pydantic_core import to_json

    try:
        # Through JSON, where strict means what a reader of TOML expects: a list is a tuple, "24" is no number.
        made: Forecaster = TypeAdapter(kind).validate_json(to_json(dict(options)), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        text = first["msg"].removeprefix("Value error, ")
        got = "" if first["type"] == "value_error" else f", got {first['input']!r}"
        raise ConfigInvalid(f"{adapter}: {where + ': ' if where else ''}{text}{got}") from error
    return made


def _code_of(kind: Any) -> object:
    """What changes when the arithmetic does: our revision number, or the text of the file a user's model stands in."""
    if kind.__module__.startswith("fleet.adapters."):
        return kind.revision
    try:
        return hashlib.sha256(Path(inspect.getfile(kind)).read_bytes()).hexdigest()
    except (OSError, TypeError) as error:
        raise FleetError(f"the code of {kind!r} cannot be read for the recipe's hash") from error


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    return repr(value)


@cache
def _version_of(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return ""
