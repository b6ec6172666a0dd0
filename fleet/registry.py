"""From an adapter's name and a recipe's options to a forecaster, and to the hash that is the recipe's identity.

Adapters are named here, or by an installed distribution in the entry points of `GROUP`, and imported when asked for;
their libraries later still. A user's own model is named
``module:Name``: a class whose fields or arguments are the options, or a plain function ``f(y, X, task)``. Where its
module lies beside fleet.toml it is run from the text of a package, which is what the hash speaks of.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

import pandas as pd

from fleet import libraries
from fleet.errors import AdapterMissing, ConfigInvalid, FleetError, ModelBroken
from fleet.forecaster import Fitted, Forecaster
from fleet.packages import Package
from fleet.task import FloatArray, Task
from store.errors import TsfleetError

ADAPTERS: dict[str, str] = {
    "naive": "fleet.adapters.naive:Naive",
    "seasonal_naive": "fleet.adapters.naive:SeasonalNaive",
    "mean": "fleet.adapters.naive:Mean",
    "statsmodels": "fleet.adapters.statsmodels:Statsmodels",
    "lightgbm": "fleet.adapters.lightgbm:LightGBM",
    "sklearn": "fleet.adapters.sklearn:Sklearn",
    "statsforecast": "fleet.adapters.statsforecast:StatsForecast",
    "mlforecast": "fleet.adapters.mlforecast:MLForecast",
    "skforecast": "fleet.adapters.skforecast:Skforecast",
    "sktime": "fleet.adapters.sktime:Sktime",
    "darts": "fleet.adapters.darts:Darts",
}
# Their libraries come with the extra `adapters`, and a fleet that names none of them does without.
OPTIONAL = frozenset({"statsforecast", "mlforecast", "skforecast", "sktime", "darts"})
# What another distribution offers in this group of entry points is an adapter too; one of ours cannot be replaced.
GROUP = "tsfleet.adapters"
_OF_AN_ADAPTER = ("library", "codec", "revision", "light", "uses_covariates", "fit", "load", "import_library")
# What `[[forecasts]]` makes recipes of: no model that a recipe could name.
_OUTSIDE = {"external": "fleet.adapters.external:External"}


def build(adapter: str, options: Mapping[str, object], package: Package | None = None) -> Forecaster:
    """The forecaster of a recipe, its options checked.

    Args:
        package: the user's code, when the adapter is of it.

    >>> build("seasonal_naive", {"season": 168})
    SeasonalNaive(season=168)
    """
    kind = named(adapter, package)
    accepted = _accepted(kind)
    for name in options:
        if accepted is not None and name not in accepted:
            raise ConfigInvalid(f"{adapter}: {name}: unknown option{nearest(name, accepted)}")
    if not inspect.isclass(kind):
        return Function(name=adapter, call=kind, options=dict(options))
    if dataclasses.is_dataclass(kind):
        return _validated(adapter, kind, options)
    with UserCode(adapter):
        try:
            made = kind(**options)
        except (TypeError, ValueError) as error:
            raise ConfigInvalid(f"{adapter}: {error}") from error
    return forecaster_from(made, adapter)


def forecaster_from(thing: Any, name: str) -> Forecaster:
    """An object of a user's as a forecaster: an instance with fit, a class that needs no argument, a function."""
    if inspect.isclass(thing):
        with UserCode(name):
            try:
                thing = thing()
            except TypeError as error:
                raise ConfigInvalid(f"{name}: {error}", hint="give an instance") from error
    if isinstance(thing, Forecaster):
        return thing
    if not callable(thing):
        raise ConfigInvalid(f"{name}: {type(thing).__name__} has no method fit(y, X, task)")
    return Function(name=name, call=thing, options={})


def adapter_of(thing: object) -> str | None:
    """The name of the house adapter that an object is an instance of; its fields are then a recipe's options.

    >>> adapter_of(build("naive", {})), adapter_of(print)
    ('naive', None)
    """
    place = f"{type(thing).__module__}:{type(thing).__qualname__}"
    return next((name for name, home in adapters().items() if home == place), None)


def adapters() -> dict[str, str]:
    """Where each adapter is that can be used here, by its name: those of other distributions, and ours.

    >>> adapters()["naive"]
    'fleet.adapters.naive:Naive'
    """
    return {**{name: found.place for name, found in libraries.plugged(GROUP).items()}, **ADAPTERS}


def place_of(adapter: str) -> str:
    """Where an adapter is, as ``module:Name``; a user's own model is where it says.

    Raises:
        ConfigInvalid: there is none of this name, or two distributions offer one.
    """
    ours = ADAPTERS | _OUTSIDE
    if ":" in adapter or adapter in ours:
        return ours.get(adapter, adapter)
    found = libraries.plugged(GROUP).get(adapter)
    if found is None:
        raise ConfigInvalid(
            f"{adapter}: unknown adapter{nearest(adapter, adapters())}", hint="your own is `module:Name`"
        )
    if len(found.distributions) > 1:
        raise ConfigInvalid(f"{adapter}: {' and '.join(found.distributions)} both offer an adapter of this name")
    return found.place


def recipe_hash(
    adapter: str,
    options: Mapping[str, object],
    package: Package | None = None,
    before: str | None = None,
    after: str | None = None,
) -> str:
    """The identity of a recipe: the class, its revision (a user's: the text of its code), every option and default.

    Args:
        package: the user's code that the adapter, `before` or `after` are of.
        before, after: the functions around the model, as ``module:function``.

    >>> recipe_hash("seasonal_naive", {}) == recipe_hash("seasonal_naive", {"season": None})
    True
    >>> recipe_hash("seasonal_naive", {"season": 24}) == recipe_hash("seasonal_naive", {"season": 168})
    False
    """
    kind = named(adapter, package)
    forecaster = build(adapter, options, package)
    if not isinstance(forecaster, Function) and dataclasses.is_dataclass(forecaster):
        told = {f: getattr(forecaster, f.name) for f in dataclasses.fields(forecaster)}
        options = {f.name: value for f, value in told.items() if "hashed" not in f.metadata or value != f.default}
    identity = {"adapter": place_of(adapter), "code": _code_of(adapter, kind, package), "options": options}
    for key, step in (("before", before), ("after", after)):
        if step is not None:
            identity[key] = [step, _code_of(step, named(step, package), package)]
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def library_of(forecaster: Forecaster) -> str:
    """The distribution that does the arithmetic; that of the estimator where an adapter takes any.

    >>> library_of(build("sklearn", {})), library_of(build("naive", {}))
    ('scikit-learn', 'tsfleet')
    """
    estimator = getattr(forecaster, "estimator", None)
    if isinstance(estimator, str) and (found := libraries.distribution_of(estimator.partition(".")[0])):
        return found
    return str(getattr(forecaster, "library", "custom"))


def library_version(forecaster: Forecaster) -> str:
    """The version of the library behind a forecaster; empty when it is not installed or not named."""
    library = library_of(forecaster)
    return "" if library == "custom" else libraries.version_of(library)


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


def named(place: str, package: Package | None = None) -> Any:
    """The class or function that an adapter's name or ``module:Name`` stands for.

    Args:
        package: looked into first.

    Raises:
        ConfigInvalid: there is no such name.
        ModelBroken: its module does not run.
        AdapterMissing: something that the module imports is not installed.
    """
    module, _, name = place_of(place).partition(":")
    inside = package is not None and package.find(module) is not None
    try:
        with UserCode(place):
            home = package.load(module) if package is not None and inside else importlib.import_module(module)
    except ModuleNotFoundError as error:
        mine = error.name == module.partition(".")[0] and ":" in place
        hint = f"is {module}.py beside fleet.toml?" if mine else f"pip install {error.name}"
        raise AdapterMissing(f"{place}: {error}", hint=hint) from error
    except SyntaxError as error:
        raise ModelBroken(f"{place}: {error.msg} in line {error.lineno} of {error.filename}") from error
    except (ImportError, OSError) as error:
        raise AdapterMissing(f"{place}: {error}", hint=f"mend what {module}.py imports") from error
    try:
        found = getattr(home, name)
    except AttributeError as error:
        there = [key for key, value in vars(home).items() if callable(value) and not key.startswith("_")]
        raise ConfigInvalid(f"{place}: {module} has no attribute {name!r}{nearest(name, there)}") from error
    lacking = [] if ":" in place else [part for part in _OF_AN_ADAPTER if not hasattr(found, part)]
    if lacking or (":" not in place and not dataclasses.is_dataclass(found)):
        raise ModelBroken(f"{place}: {module}:{name} is no adapter: it lacks {', '.join(lacking) or '@dataclass'}")
    return found


class UserCode:
    """What a user's code raises when it is made ready becomes one line; the traceback stays as its cause.

    An exit too: it was asked for a model. What imports raise passes through, an interrupt stays one. What it prints
    goes to stderr, since stdout is for data.
    """

    def __init__(self, place: str, *, but: type[BaseException] = TsfleetError) -> None:
        self._place, self._but = place, but
        self._quiet = redirect_stdout(sys.stderr)

    def __enter__(self) -> None:
        self._quiet.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._quiet.__exit__(kind, error, trace)
        told = isinstance(error, ImportError | OSError | SyntaxError | TsfleetError | self._but)
        if isinstance(error, Exception | SystemExit) and not told:
            raise ModelBroken(f"{self._place} raised {type(error).__name__}: {error}") from error


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
        with UserCode(adapter, but=ValidationError):
            # Through JSON, where strict means what a reader of TOML expects: a list is a tuple, "24" is no number.
            made: Forecaster = TypeAdapter(kind).validate_json(to_json(dict(options)), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        text = first["msg"].removeprefix("Value error, ")
        got = "" if first["type"] == "value_error" else f", got {first['input']!r}"
        raise ConfigInvalid(f"{adapter}: {where + ': ' if where else ''}{text}{got}") from error
    return made


def _code_of(place: str, kind: Any, package: Package | None) -> object:
    """What changes when the arithmetic does: our revision number, or the text that a user's model is made of."""
    if ":" not in place or kind.__module__.startswith("fleet.adapters."):
        return kind.revision
    if package is not None and package.find(place.partition(":")[0]) is not None:
        return package.digest
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
