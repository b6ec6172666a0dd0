"""A model with code of the user's in it or around it, and how it gets to other processes with that code.

`Own` stands for such a model everywhere: it travels as text or bytes, is made where it is first used, and shows the
runner one forecaster: `before` sees the history before the model does, at fit and at predict, `after` the forecast
after it. What is stored of a fitted model is the model alone; its code is stored beside it, once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeAlias, cast

import pandas as pd

from fleet import artefacts, libraries, pickles, registry
from fleet.errors import AdapterMissing, BadOutput, ConfigInvalid, Unsaveable, Untrusted
from fleet.forecaster import Adapter, Fitted, Forecaster, Many, Question, scope_of
from fleet.outcome import Failed, attempt
from fleet.packages import Package
from fleet.task import Task
from store.errors import Damaged

Shown: TypeAlias = "tuple[pd.Series[float], pd.DataFrame | None]"
Before = Callable[["pd.Series[float]", pd.DataFrame | None, Task], Shown]
After = Callable[[pd.DataFrame, Task], pd.DataFrame]


class Parts(NamedTuple):
    """The model, and the functions around it."""

    model: Forecaster
    before: Before | None
    after: After | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Packaged:
    """A model that is named in the configuration.

    Args:
        package: the code that the names are looked up in first; None when all of it is installed.
        options: as JSON.
        before, after: as ``module:function``.
        key: equal for what makes the same parts.
    """

    package: Package | None
    adapter: str
    options: str
    before: str | None = None
    after: str | None = None
    key: str = field(init=False, repr=False)

    codec: ClassVar[str] = artefacts.SOURCE

    def __post_init__(self) -> None:
        digest = self.package.digest if self.package else ""
        key = json.dumps([digest, self.adapter, self.options, self.before, self.after])
        object.__setattr__(self, "key", key)

    def make(self) -> Parts:
        """Run the code."""
        steps = (None if name is None else registry.named(name, self.package) for name in (self.before, self.after))
        return Parts(registry.build(self.adapter, json.loads(self.options), self.package), *steps)

    def payload(self) -> bytes:
        """What is stored with the versions."""
        told: dict[str, object] = {name: getattr(self, name) for name in ("adapter", "options", "before", "after")}
        files = dict(self.package.files) if self.package else {}
        return json.dumps({**told, "files": files}, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_payload(cls, payload: bytes, home: str = "") -> Packaged:
        """What `payload` gave; nothing is run yet.

        Args:
            home: the folder of fleet.toml.

        Raises:
            Damaged: it is something else.
        """
        try:
            told = json.loads(payload)
            files = tuple(sorted((str(path), str(text)) for path, text in told.pop("files").items()))
            package = Package(files=files, home=home, kept=True) if files else None
            return cls(package=package, **told)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise Damaged(f"the stored code of a model does not read: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A model that was handed over as an object.

    Args:
        name: what the object calls itself.
        digest: equal for equal definitions, in any process.
        modules: top-level modules that it names.
        pickle: the model and its functions.
        key: equal for what makes the same parts.
    """

    name: str
    digest: str
    modules: frozenset[str] = frozenset()
    pickle: bytes = field(repr=False)
    key: str = field(init=False, repr=False)

    codec: ClassVar[str] = artefacts.PICKLE

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", sha256(self.pickle).hexdigest())

    def make(self) -> Parts:
        """Run the code. The bytes are from this process, or were signed by this user."""
        try:
            with registry.UserCode(self.name):
                model, before, after = pickles.unpickled(self.pickle)
        except ModuleNotFoundError as error:
            raise AdapterMissing(f"{self.name}: {error}", hint=f"pip install {error.name}") from error
        return Parts(registry.forecaster_from(model, self.name), before, after)

    def payload(self) -> bytes:
        """What is stored with the versions."""
        told = {"name": self.name, "digest": self.digest, "modules": sorted(self.modules)}
        head = json.dumps(told, separators=(",", ":")).encode()
        return len(head).to_bytes(4, "big") + head + self.pickle

    @classmethod
    def from_payload(cls, payload: bytes) -> Given:
        """What `payload` gave; nothing is run yet."""
        stop = 4 + int.from_bytes(payload[:4], "big")
        told = json.loads(payload[4:stop])
        modules = frozenset(map(str, told["modules"]))
        return cls(name=told["name"], digest=told["digest"], modules=modules, pickle=payload[stop:])


def given(model: object, before: Before | None, after: After | None, folder: Path) -> Given:
    """An object of a notebook or script as a model that travels and is kept.

    Args:
        folder: of fleet.toml; what is defined in its files goes along too.

    Raises:
        ConfigInvalid: it is no model, or a step is no function.
        Unsaveable: it cannot be pickled.
    """
    name = str(getattr(model, "__name__", type(model).__name__))
    registry.forecaster_from(model, name)
    for step, what in ((before, "before"), (after, "after")):
        if step is not None and not callable(step):
            raise ConfigInvalid(f"{what}: a {type(step).__name__} is given, a function is needed")
    with pickles.by_value(folder):
        digest, modules = pickles.identity((model, before, after), name)
        return Given(name=name, digest=digest, modules=modules, pickle=pickles.pickled((model, before, after), name))


def made(source: Packaged | Given) -> Parts:
    """The parts of a source, made once in a process: a chunk brings the text again, not the work."""
    if source.key not in _MADE:
        _MADE[source.key] = source.make()
    return _MADE[source.key]


_MADE: dict[str, Parts] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """A forecaster of the user's code, made where it is used.

    Args:
        source: what makes it.
        library, codec, uses_covariates: those of the model.
        calendar: the model's, where it is an adapter that has one.
        scope, group: how it takes many assets, as in `fleet.forecaster`.
    """

    source: Packaged | Given
    library: str
    codec: str
    uses_covariates: bool
    calendar: tuple[str, ...] = ()
    scope: str = "asset"
    group: str | None = None

    revision: ClassVar[int] = 0
    light: ClassVar[bool] = False

    @property
    def parts(self) -> Parts:
        """The model and its functions; whatever their code raises when it is run comes out here."""
        return made(self.source)

    def fit(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> Fitted:
        model, before, _ = self.parts
        seen, covariates = _seen(before, y, X, task)
        return self.dressed(model.fit(seen, covariates, task), learnt_from=seen)

    def fit_many(self, questions: Sequence[Question]) -> list[Fitted | Failed | Exception]:
        model, before, _ = self.parts
        seen = [attempt(_question, before, question) for question in questions]
        shown = {place: question for place, question in enumerate(seen) if not isinstance(question, Failed)}
        made = dict(zip(shown, cast(Many, model).fit_many([*shown.values()]), strict=True))
        clothed: dict[int, Fitted] = {}  # assets that share a model share it in its clothes
        found: list[Fitted | Failed | Exception] = []
        for place, question in enumerate(seen):
            fitted = question if isinstance(question, Failed) else made[place]
            if not isinstance(fitted, Failed | Exception):
                fitted = clothed.setdefault(id(fitted), self.dressed(fitted, learnt_from=shown[place].y))
            found.append(fitted)
        return found

    def predict_many(
        self, fitted: Sequence[Fitted], questions: Sequence[Question]
    ) -> list[pd.DataFrame | Failed | Exception]:
        model, before, after = self.parts
        seen = [attempt(_question, before, question) for question in questions]
        shown = {place: question for place, question in enumerate(seen) if not isinstance(question, Failed)}
        bare = [undressed(self, fitted[place])[1] for place in shown]
        told = dict(zip(shown, cast(Many, model).predict_many(bare, [*shown.values()]), strict=True))
        found: list[pd.DataFrame | Failed | Exception] = []
        for place, question in enumerate(seen):
            frame = question if isinstance(question, Failed) else told[place]
            if not isinstance(frame, Failed | Exception):
                frame = attempt(_after, after, frame, questions[place].task)
            found.append(frame)
        return found

    def dressed(self, fitted: Fitted, learnt_from: pd.Series[float] | None = None) -> Fitted:
        """A fitted model with the functions around it."""
        _, before, after = self.parts
        if before is None and after is None:
            return fitted
        return Dressed(fitted=fitted, before=before, after=after, learnt_from=learnt_from)

    def load(self, blob: bytes) -> Fitted:
        return self.dressed(cast(Adapter, self.parts.model).load(blob))

    def import_library(self) -> None:
        model = self.parts.model
        if isinstance(model, Adapter):
            model.import_library()

    def versions(self) -> str:
        """What the code was run with, for `runs`: the library of the model, or those that the code imports."""
        found = registry.library_version(self.parts.model)
        if found or self.library != "custom":
            return found
        if isinstance(self.source, Given):
            return libraries.releases(self.source.modules)
        return libraries.releases(self.source.package.imports() if self.source.package else ())


def own(source: Packaged | Given) -> Own:
    """The forecaster of a source; its code is run to see what it is."""
    model = made(source).model
    return Own(
        source=source,
        library=registry.library_of(model),
        codec=codec_of(model),
        uses_covariates=bool(getattr(model, "uses_covariates", True)),
        calendar=tuple(getattr(model, "calendar", None) or ()) if registry.adapter_of(model) else (),
        scope=scope_of(model),
        group=getattr(model, "group", None),
    )


def codec_of(model: object) -> str:
    """The form that a model is saved in by itself; ``own`` where it names none that we know."""
    codec = getattr(model, "codec", "own")
    return codec if codec in artefacts.CODECS and not artefacts.CODECS[codec].code else "own"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dressed:
    """A fitted model with the user's functions around it.

    Args:
        learnt_from: what the model was shown; kept for a look at whether it holds on to it, and stored nowhere.
    """

    fitted: Fitted
    before: Before | None
    after: After | None
    learnt_from: pd.Series[float] | None = None

    def predict(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> pd.DataFrame:
        seen, covariates = _seen(self.before, y, X, task)
        frame = self.fitted.predict(seen, covariates, task)
        return _after(self.after, frame, task)


def _after(after: After | None, frame: pd.DataFrame, task: Task) -> pd.DataFrame:
    """The forecast after `after`."""
    if after is None or not isinstance(frame, pd.DataFrame):
        return frame
    made = after(frame, task)
    if not isinstance(made, pd.DataFrame):
        raise BadOutput(f"after: {_name(after)} returned {type(made).__name__}, not the forecast")
    return made


def _question(before: Before | None, question: Question) -> Question:
    y, X, task = question
    return Question(*_seen(before, y, X, task), task)


def _seen(before: Before | None, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> Shown:
    """What the model is shown: copies of the history and the covariates after `before`, on the same instants."""
    if before is None:
        return y, X
    made: Any = before(y.copy(), None if X is None else X.copy(), task)
    name = _name(before)
    if not isinstance(made, tuple) or len(made) != 2:
        raise BadOutput(f"before: {name} returned {type(made).__name__}, not (y, X)")
    seen, covariates = made
    if not isinstance(seen, pd.Series) or not seen.index.equals(y.index):
        raise BadOutput(f"before: {name} returned a history on other instants than it was given")
    same = covariates is None if X is None else covariates is not None and covariates.index.equals(X.index)
    if not same:
        raise BadOutput(f"before: {name} returned covariates on other instants than it was given")
    try:
        return seen.astype("float64"), covariates
    except (TypeError, ValueError) as error:
        raise BadOutput(f"before: {name} returned a history that holds no numbers: {error}") from error


def _name(step: object) -> str:
    return str(getattr(step, "__name__", type(step).__name__))


def undressed(forecaster: Forecaster, fitted: Fitted) -> tuple[Forecaster, Fitted]:
    """The model alone, as a definition and fitted: what is stored."""
    model = forecaster.parts.model if isinstance(forecaster, Own) else forecaster
    return model, fitted.fitted if isinstance(fitted, Dressed) else fitted


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A fitted model as bytes, and the codec that says how."""

    codec: str
    payload: bytes


def kept(forecaster: Forecaster, fitted: Fitted, y: pd.Series[float], no_pickles: str = "") -> Kept:
    """A fitted model in the form it has of its own, as a pickle where it has none.

    Args:
        y: the history that it was fitted to, which a pickle must not hold.
        no_pickles: why a pickle could not be used later; empty where it can.

    Raises:
        Unsaveable: it has no form and cannot be pickled, or holds its training data.
        Untrusted: it would be a pickle that nobody may open.
    """
    model, bare = undressed(forecaster, fitted)
    if _has_form(model, bare):
        try:
            made = cast(Any, bare).save()
        except Unsaveable:
            return _pickle(bare, fitted, y, no_pickles)
        if not isinstance(made, bytes | bytearray | memoryview):
            raise Unsaveable(f"{type(bare).__name__}.save() returned {type(made).__name__}, not bytes")
        return Kept(codec=codec_of(model), payload=bytes(made))
    return _pickle(bare, fitted, y, no_pickles)


def check_keepable(forecaster: Forecaster, fitted: Fitted, y: pd.Series[float], no_pickles: str = "") -> None:
    """Refuses, before it is judged, a model that has no form of its own and cannot be pickled, or may not be.

    Raises:
        Unsaveable, Untrusted: as `kept` would.
    """
    model, bare = undressed(forecaster, fitted)
    if not _has_form(model, bare) or artefacts.CODECS[codec_of(model)].partial:
        kept(forecaster, fitted, y, no_pickles)


def restored(forecaster: Forecaster, codec: str, payload: bytes) -> Fitted:
    """The fitted model from what `kept` gave; a pickle only after its signature was checked."""
    if codec != artefacts.PICKLE:
        return cast(Adapter, forecaster).load(payload)
    if not isinstance(forecaster, Own):
        return cast(Fitted, pickles.unpickled(payload))
    assert forecaster.parts  # its code is there before the pickle names it
    return forecaster.dressed(cast(Fitted, pickles.unpickled(payload)))


def _has_form(model: Forecaster, fitted: Fitted) -> bool:
    return hasattr(fitted, "save") and hasattr(model, "load")


def _pickle(bare: Fitted, fitted: Fitted, y: pd.Series[float], no_pickles: str) -> Kept:
    seen = fitted.learnt_from if isinstance(fitted, Dressed) else None
    shown = (y,) if seen is None else (y, seen)
    payload = pickles.pickled_model(bare, shown=shown)
    if no_pickles:  # asked last: what cannot be pickled at all is not helped by trust
        kind = type(getattr(bare, "model", bare)).__name__
        raise Untrusted(f"{kind} has no form of its own and would be kept as a pickle: {no_pickles}")
    return Kept(codec=artefacts.PICKLE, payload=payload)
