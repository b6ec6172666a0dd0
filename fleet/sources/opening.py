"""From a section of the configuration, or an object in memory, to a source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fleet.config import Origin
from fleet.sources.files import found_files, from_files
from fleet.sources.python import function, importable, kind_of, spooled
from fleet.sources.relation import Source, from_sql
from store.errors import SourceUnreadable


@contextmanager
def opened(origin: Origin, folder: Path, *, section: str, given: object = None) -> Iterator[Source]:
    """The source that a section of the configuration describes, or the object given instead.

    Args:
        origin: the section, with one of path, sql, python.
        folder: the folder of ``fleet.toml``.
        section: its header, for messages: ``[data]``.
        given: a DataFrame, an Arrow table, anything with the Arrow stream interface, an iterable of those, or a
            function without arguments that returns one.

    Raises:
        SourceUnreadable: missing, empty or broken files; a query or function that fails.
    """
    if given is not None:
        made, label = (given() if callable(given) else given), f"{section} {kind_of(given)}"
        with spooled(lambda: made, folder, label) as source:
            yield source
    elif origin.path is not None:
        yield from_files(found_files(origin.path, folder, section), folder, _paths_label(origin.path, section))
    elif origin.sql is not None:
        yield from_sql(f"({origin.sql.strip().rstrip(';')}\n) AS source", folder, f"{section} sql")
    elif origin.python is not None:
        label = f'{section} python = "{origin.python}"'
        with importable(folder), spooled(function(origin.python, label), folder, label) as source:
            yield source
    else:
        raise SourceUnreadable(f"{section}: nothing says where the data are", hint='such as path = "data/*.parquet"')


def _paths_label(paths: Sequence[str], section: str) -> str:
    return f"{section} {paths[0]}" if len(paths) == 1 else f"{section} {paths[0]} and {len(paths) - 1} more"
