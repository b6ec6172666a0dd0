"""Objects as bytes, for models that have no form of their own: pickled with their code, and told from one another.

A pickle runs code when it is opened, so who calls `unpickled` has made sure of where the bytes are from. What is
defined in a notebook, a script or a file beside fleet.toml goes along by value; what is installed is only named.
"""

from __future__ import annotations

import copyreg
import dis
import hashlib
import struct
import sys
import sysconfig
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any, Final

import numpy as np
import pandas as pd

from fleet.errors import Unsaveable
from fleet.libraries import HOUSES
from fleet.outcome import Cause, Failed, attempt
from fleet.packages import PREFIX
from fleet.task import FloatArray

LONGEST_RUN: Final = 48
_BLOCK = LONGEST_RUN // 2
_FEWEST_VALUES = 4
_LEVEL = 3


def pickled(thing: object, what: str) -> bytes:
    """An object as bytes.

    Args:
        what: it is, for the message.

    Raises:
        Unsaveable: it holds something that cannot be pickled, such as a lock, an open file or a generator.
    """
    return zlib.compress(_dumped(thing, what), _LEVEL)


def pickled_model(model: object, *, shown: tuple[pd.Series[float], ...]) -> bytes:
    """A fitted model as bytes.

    Args:
        shown: the histories that it was fitted to.

    Raises:
        Unsaveable: it cannot be pickled, or it holds its training data.
    """
    data = _dumped(model, type(model).__name__)
    for y in shown:
        run = readings_held(data, np.asarray(y.to_numpy(), dtype=np.float64))
        if run:
            raise Unsaveable(
                f"{type(model).__name__} holds its training data ({run} readings in a row, {len(data)} bytes pickled)",
                hint="keep only what was learnt: predict receives the history",
            )
    return zlib.compress(data, _LEVEL)


def unpickled(payload: bytes) -> Any:
    """The object of `pickled`. This runs code: the bytes must be one's own."""
    import cloudpickle

    return cloudpickle.loads(zlib.decompress(payload))


def _dumped(thing: object, what: str) -> bytes:
    import cloudpickle

    data = attempt(cloudpickle.dumps, thing)
    if isinstance(data, Failed):
        if data.cause is Cause.MEMORY:
            raise MemoryError(data.error)
        raise Unsaveable(
            f"{what} cannot be pickled: {data.error}",
            hint="give it save() -> bytes and load(blob), or drop what it holds",
        )
    made: bytes = data
    return made


def readings_held(data: bytes, values: FloatArray) -> int:
    """How many readings of a history stand in some bytes one after the other, as numbers of eight bytes.

    Returns:
        the length of the first run of at least `LONGEST_RUN`, 0 where there is none. Runs of a few values over and over
        are no sign of anything. Cost: one search of the bytes for every 24 readings.

    >>> y = np.sin(np.arange(100.0))
    >>> readings_held(b"model" + y[20:90].tobytes(), y), readings_held(y[::2].tobytes(), y)
    (70, 0)
    """
    values = np.ascontiguousarray(values, dtype="<f8")
    if len(data) < 8 * LONGEST_RUN:
        return 0
    raw = values.tobytes()
    for start in range(0, len(values) - _BLOCK + 1, _BLOCK):
        block = raw[8 * start : 8 * (start + _BLOCK)]
        # A run of 48 holds a block of 24 wherever it begins.
        found = data.find(block) if len(set(struct.iter_unpack("<d", block))) >= _FEWEST_VALUES else -1
        if found < 0:
            continue
        before = _equal(raw[: 8 * start][::-1], data[:found][::-1])
        after = _equal(raw[8 * start :], data[found:])
        if before + after >= LONGEST_RUN:
            return before + after
    return 0


def _equal(one: bytes, other: bytes) -> int:
    """How many whole numbers of eight bytes two texts begin with in common."""
    size = min(len(one), len(other)) // 8 * 8
    same = np.frombuffer(one, np.uint8, size) == np.frombuffer(other, np.uint8, size)
    return (size if same.all() else int(same.argmin())) // 8


@contextmanager
def by_value(folder: Path) -> Iterator[None]:
    """Within, what is defined in the files of a folder is pickled with its code, as what a notebook defines is."""
    import cloudpickle

    mine = [module for module in list(sys.modules.values()) if _lies_in(module, folder)]
    for module in mine:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in mine:
            cloudpickle.unregister_pickle_by_value(module)


_INSTALLED = tuple(
    Path(place).resolve()
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
    if (place := sysconfig.get_path(name))
)


def _lies_in(module: ModuleType, folder: Path) -> bool:
    """Whether it is a file of the user's in this folder, and not of an environment that happens to be there too."""
    name, file = getattr(module, "__name__", ""), getattr(module, "__file__", None)
    if not file or name.partition(".")[0] in HOUSES or name.startswith((PREFIX, "__m")):
        return False
    place = Path(file).resolve()
    elsewhere = any(place.is_relative_to(installed) for installed in _INSTALLED) or "site-packages" in place.parts
    return place.is_relative_to(folder.resolve()) and not elsewhere


# -- identity ------------------------------------------------------------------------------------------------------


def identity(thing: object, what: str = "") -> tuple[str, frozenset[str]]:
    """A hash that is the same for equal definitions in any process, and the top-level modules that it names.

    What a notebook defines counts by what it does: its compiled code, the values that it closes over, the globals it
    reads, the state of an instance. Another minor release of Python compiles otherwise and gives another hash.

    Args:
        what: it is, for the message.

    Raises:
        Unsaveable: something in it has no state that can be read.
    """
    walk = _Walk()
    digest = attempt(walk.digest, thing)
    if isinstance(digest, Failed):
        raise Unsaveable(f"{what or type(thing).__name__} cannot be pickled: {digest.error}")
    return digest.hex(), frozenset(walk.modules)


class _Walk:
    """Hashes objects from their parts: what is shared counts as what is equal, the order of a set does not count."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self._known: dict[int, tuple[object, bytes]] = {}
        self._open: list[int] = []

    def digest(self, thing: object) -> bytes:
        if id(thing) in self._known:
            return self._known[id(thing)][1]
        if id(thing) in self._open:
            return f"again {len(self._open) - self._open.index(id(thing))}".encode()
        self._open.append(id(thing))
        made = hashlib.sha256(b"\0".join(self._parts(thing))).digest()
        self._open.pop()
        self._known[id(thing)] = thing, made  # kept, so that no other object can come to have its id
        return made

    def _all(self, things: Any) -> Iterator[bytes]:
        return (self.digest(one) for one in things)

    def _parts(self, thing: object) -> Iterator[bytes]:
        yield type(thing).__qualname__.encode()
        match thing:
            case None | bool() | int() | float() | complex() | str() | bytes() if type(thing).__module__ == "builtins":
                yield repr(thing).encode("utf-8", "surrogatepass")
            case tuple() | list() if type(thing) in (tuple, list):
                yield from self._all(thing)
            case dict() | MappingProxyType() if type(thing) in (dict, MappingProxyType):
                yield from self._all(part for item in thing.items() for part in item)
            case set() | frozenset() if type(thing) in (set, frozenset):
                yield from sorted(self._all(thing))
            case np.ndarray() if thing.dtype != object:
                yield from (str((thing.dtype.str, thing.shape)).encode(), np.ascontiguousarray(thing).tobytes())
            case ModuleType():
                yield self._named(thing.__name__)
            case FunctionType() | type():
                yield from self._definition(thing)
            case CodeType():
                names = (thing.co_names, thing.co_varnames, thing.co_freevars, thing.co_cellvars)
                counts = (thing.co_argcount, thing.co_posonlyargcount, thing.co_kwonlyargcount, thing.co_flags)
                yield from self._all([thing.co_code, thing.co_consts, names, counts])
            case CellType() | staticmethod() | classmethod() | property() | MethodType():
                yield from self._all(getattr(thing, name, None) for name in _INSIDE)
            case _:
                yield from self._reduced(thing)

    def _named(self, module: str) -> bytes:
        self.modules.add(module.partition(".")[0])
        return module.encode()

    def _definition(self, thing: FunctionType | type) -> Iterator[bytes]:
        """A function or class: its name where it can be imported, else what it is made of."""
        yield thing.__qualname__.encode()
        if _importable(thing):
            yield self._named(thing.__module__)
        elif isinstance(thing, FunctionType):
            yield self.digest(thing.__code__)
            home = thing.__globals__
            seen = {name: home[name] for name in _globals_read(thing.__code__) if name in home}
            yield from self._all([thing.__defaults__, thing.__kwdefaults__, thing.__closure__, seen])
        else:
            yield from self._all(thing.__bases__)
            for name, member in sorted(vars(thing).items()):
                if name not in _OF_NO_ACCOUNT and not _is_slot(member):
                    yield from (name.encode(), self.digest(member))

    def _reduced(self, thing: object) -> Iterator[bytes]:
        """Anything else: how it would be made again."""
        reduce = copyreg.dispatch_table.get(type(thing))
        made = reduce(thing) if reduce else thing.__reduce_ex__(4)
        if isinstance(made, str):
            owner = getattr(thing, "__self__", None) if isinstance(thing, BuiltinFunctionType) else None
            module = getattr(thing, "__module__", None) or getattr(owner, "__name__", "")
            yield from (self._named(str(module)), made.encode(), self.digest(getattr(thing, "__wrapped__", None)))
        else:
            maker, arguments, *rest = made
            state, items, pairs = [*rest, None, None, None][:3]
            yield from self._all([maker, arguments, state, list(items or ()), list(pairs or ())])


# What the shells around functions and values hold.
_INSIDE = ("cell_contents", "__func__", "__self__", "fget", "fset", "fdel")
_OF_NO_ACCOUNT = frozenset(
    {"__dict__", "__weakref__", "__module__", "__doc__", "__annotations__", "__qualname__", "__firstlineno__"}
    | {"__static_attributes__", "__annotate__", "__annotate_func__", "__annotations_cache__", "_abc_impl"}
)


def _is_slot(member: object) -> bool:
    return type(member).__name__ in ("member_descriptor", "getset_descriptor")


def _importable(thing: FunctionType | type) -> bool:
    """Whether another process finds it by its name; the same rule as the pickler's."""
    from cloudpickle import cloudpickle

    by_reference: Callable[[object], bool] = cloudpickle._should_pickle_by_reference  # noqa: SLF001  there is no public one
    return by_reference(thing)


def _globals_read(code: CodeType) -> list[str]:
    """The names that a function and those inside it read from its module."""
    names = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names.update(_globals_read(constant))
    return sorted(names)
