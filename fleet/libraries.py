"""What is installed: the distribution behind a module, and its version. Nothing is imported to find out."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import metadata

HOUSES = frozenset({"store", "fleet", "jobs"})
# Finding one of another name reads the record of every distribution: half a second that these need not cost.
_WELL_KNOWN = {"sklearn": "scikit-learn", "dateutil": "python-dateutil", "yaml": "PyYAML"}


@cache
def version_of(distribution: str) -> str:
    """The version that is installed; empty when it is not.

    >>> version_of("a-library-that-is-nowhere")
    ''
    """
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


@cache
def distribution_of(module: str) -> str:
    """The distribution that a top-level module comes from; empty for Python's own and for a file of the user's.

    >>> distribution_of("sklearn"), distribution_of("json")
    ('scikit-learn', '')
    """
    if module in HOUSES:
        return "tsfleet"
    if module in sys.stdlib_module_names:
        return ""
    name = _WELL_KNOWN.get(module, module)
    if version_of(name):
        return name
    return _distributions().get(module, "")


@cache
def _distributions() -> dict[str, str]:
    """By module the distribution that brings it."""
    return {module: names[0] for module, names in metadata.packages_distributions().items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugged:
    """What an installed distribution offers under a name.

    Args:
        place: of it, as ``module:Name``.
        distributions: that offer it; a name that two offer is of neither.
    """

    place: str
    distributions: tuple[str, ...]


def plugged(group: str) -> dict[str, Plugged]:
    """What installed distributions offer in a group of entry points, by name.

    >>> plugged("a.group.of.nobody")
    {}
    """
    return _plugged(group, tuple(sys.path))


@cache
def _plugged(group: str, path: tuple[str, ...]) -> dict[str, Plugged]:  # noqa: ARG001  what is installed depends on it
    found: dict[str, Plugged] = {}
    for point in metadata.entry_points(group=group):
        name = point.dist.name if point.dist else "?"
        others = found[point.name].distributions if point.name in found else ()
        if name not in others:
            found[point.name] = Plugged(place=point.value.replace(" ", ""), distributions=(*others, name))
    return found


def release(version: str) -> tuple[int, int]:
    """Major and minor of a version.

    >>> release("2.10.1rc1"), release("3"), release("")
    ((2, 10), (3, 0), (0, 0))
    """
    major, minor, *_ = [*map(int, re.findall(r"\d+", version)[:2]), 0, 0]
    return major, minor


def releases(modules: Iterable[str]) -> str:
    """What a model of the user's own was made with: the distributions of the modules it imports, major and minor.

    >>> releases(["a_file_of_mine", "json"])
    ''
    """
    found = sorted({distribution_of(module) for module in modules} - {"", "tsfleet"})
    return ", ".join(f"{name} {'.'.join(map(str, release(version_of(name))))}" for name in found)


def python() -> str:
    """Major and minor of this Python."""
    return ".".join(platform.python_version_tuple()[:2])
