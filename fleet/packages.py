"""The code of a user's own models as a value: the text of their modules, which can be hashed, stored and run.

A package holds the modules that a recipe names and those beside fleet.toml that they import, found by reading their
import statements. It runs under names of its own that are made of its hash, so two states of one module live side by
side in a process, and a version runs with the text it was judged with. Imports inside a package find its own modules
first; everything else (Python's own, what is installed) they find where any program does. What is imported by a name
that is put together at run time is not found here, and is today's.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import decode_source
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from fleet.errors import ConfigInvalid
from fleet.libraries import HOUSES

PREFIX = "tsfleet_code_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """Source text of a user's modules.

    Args:
        files: (path with slashes, text) of each, sorted by path.
        home: the folder that they are from, where a module looks for a file beside it.
        kept: the text is from the store, and may be another one than lies in `home`.
    """

    files: tuple[tuple[str, str], ...]
    home: str = field(default="", compare=False)
    kept: bool = field(default=False, compare=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        text = json.dumps(self.files, separators=(",", ":"))
        object.__setattr__(self, "digest", sha256(text.encode()).hexdigest())

    def does_as(self, other: Package) -> bool:
        """Whether another state of the text is the same program: comments and layout do nothing.

        >>> one, other = (Package(files=(("models.py", text),)) for text in ("x = 1", "x  =  1  # one"))
        >>> one.does_as(other), one == other
        (True, False)
        """
        mine, its = dict(self.files), dict(other.files)
        return mine.keys() == its.keys() and all(_program(text) == _program(its[path]) for path, text in mine.items())

    @property
    def root(self) -> str:
        """The name that its modules have above them in this process."""
        return PREFIX + self.digest[:16]

    @property
    def tops(self) -> frozenset[str]:
        """The first parts of its modules' names."""
        return frozenset(path.partition("/")[0].removesuffix(".py") for path, _ in self.files)

    def find(self, module: str) -> tuple[str, str] | None:
        """(path, text) of a module; the text of a folder without ``__init__.py`` is empty. None where it is not here.

        >>> Package(files=(("rules/clip.py", ""),)).find("rules")
        ('rules/', '')
        """
        place, texts = module.replace(".", "/"), dict(self.files)
        for path in (f"{place}/__init__.py", f"{place}.py"):
            if path in texts:
                return path, texts[path]
        return (f"{place}/", "") if any(path.startswith(f"{place}/") for path in texts) else None

    def load(self, module: str) -> ModuleType:
        """A module of it, run when it is first asked for in this process."""
        _FINDER.packages.setdefault(self.root, self)
        return importlib.import_module(f"{self.root}.{module}")

    def imports(self) -> frozenset[str]:
        """The top-level modules that it imports from elsewhere."""
        named = {name.partition(".")[0] for path, text in self.files for name in _imported(path, text)}
        return frozenset(named - self.tops)


def package_of(modules: Iterable[str], folder: Path) -> Package | None:
    """The modules of these names that lie in a folder, and all that they import from there; None where none does.

    Args:
        folder: of fleet.toml. It goes before everything else, as the folder of a script does.
    """
    files: dict[str, str] = {}
    waiting = [module for module in modules if module]
    while waiting:
        for path in _files_of(waiting.pop(), folder):
            if path not in files:
                files[path] = _text(folder / path)
                waiting += _imported(path, files[path])
    if not files:
        return None
    return Package(files=tuple(sorted(files.items())), home=str(folder.resolve()))


def _files_of(module: str, folder: Path) -> Iterator[str]:
    """The files that importing a name would run, those above it first."""
    parts = module.split(".")
    if parts[0] in HOUSES or parts[0] in sys.builtin_module_names or not all(part.isidentifier() for part in parts):
        return
    for depth in range(1, len(parts) + 1):
        place = "/".join(parts[:depth])
        if (folder / place / "__init__.py").is_file():
            yield f"{place}/__init__.py"
        elif (folder / f"{place}.py").is_file():
            yield f"{place}.py"
            return
        elif not (folder / place).is_dir():
            return


def _text(file: Path) -> str:
    try:
        return decode_source(file.read_bytes())
    except (UnicodeDecodeError, SyntaxError) as error:
        raise ConfigInvalid(f"{file.name}: no Python text: {error}") from error
    except OSError as error:
        raise ConfigInvalid(f"{file}: {error.strerror}") from error


def _program(text: str) -> str:
    try:
        return ast.dump(ast.parse(text))
    except (SyntaxError, ValueError):
        return text


def _imported(path: str, text: str) -> set[str]:
    """The modules that a file may import, as full names; of ``from a import b`` both a and a.b.

    >>> sorted(_imported("rules/clip.py", "from . import limits; import numpy as np"))
    ['numpy', 'rules', 'rules.limits']
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return set()  # whoever imports it is told of the line
    here = path.split("/")[:-1]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = here[: len(here) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found.update([base] if base else [])
            found.update(f"{base}.{alias.name}".lstrip(".") for alias in node.names if alias.name != "*")
    return found


class _Loader(Loader):
    """Runs one module of a package."""

    def __init__(self, package: Package, path: str, text: str) -> None:
        self._package, self._text = package, text
        # A debugger finds the file; where the text is an older one, nothing pretends to be it.
        place = f"<stored {package.digest[:8]}>" if package.kept else package.home
        self._filename = f"{place}/{path}"

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        code: CodeType = compile(self._text, self._filename, "exec", dont_inherit=True)
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _importing(self._package)}
        exec(code, module.__dict__)  # noqa: S102  the user's own module, run as an import runs it

    def get_source(self, fullname: str) -> str:
        """For tracebacks."""
        return self._text


class _Finder(MetaPathFinder):
    """Finds the modules of the packages that this process has loaded from."""

    def __init__(self) -> None:
        self.packages: dict[str, Package] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        root, _, module = fullname.partition(".")
        package = self.packages.get(root)
        found = ("", "") if package is not None and not module else package.find(module) if package else None
        if package is None or found is None:
            return None
        place, text = found
        origin = str(Path(package.home, place))
        folder = not place.endswith(".py") or place.endswith("__init__.py")
        spec = ModuleSpec(fullname, _Loader(package, place, text), origin=origin, is_package=folder)
        spec.has_location = place.endswith(".py")
        return spec


_FINDER = _Finder()
sys.meta_path.append(_FINDER)


def _importing(package: Package) -> Callable[..., ModuleType]:
    """``__import__`` for the modules of a package: its own first."""
    tops = package.tops

    def importing(
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002  the names that Python calls it with
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        top = name.partition(".")[0]
        if level or top not in tops:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        module = builtins.__import__(f"{package.root}.{name}", globals, locals, fromlist or (), 0)
        return module if fromlist else sys.modules[f"{package.root}.{top}"]

    return importing
