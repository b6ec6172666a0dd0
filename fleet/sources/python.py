"""Functions and frames: what Python makes becomes a file for as long as it is read, so there is one way of reading."""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from fleet.config.messages import meant
from fleet.errors import SeriesInvalid
from fleet.sources.files import from_files
from fleet.sources.relation import Source
from store.errors import SourceUnreadable

_WANTED = "return a DataFrame, an Arrow table, or several of them"


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """The folder of ``fleet.toml`` is on the path while its functions are imported and called."""
    place = str(folder.resolve())
    sys.path.insert(0, place)
    try:
        yield
    finally:
        if place in sys.path:
            sys.path.remove(place)


def function(name: str, label: str) -> Callable[[], object]:
    """The function that ``module:function`` names."""
    module, _, attribute = name.partition(":")
    try:
        with _UserCode(label, only_exit=True):
            home = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise SourceUnreadable(f"{label}: {error}", hint=f"is {module}.py beside fleet.toml?") from error
    found = getattr(home, attribute, None)
    if not callable(found):
        names = [key for key, value in vars(home).items() if callable(value) and not key.startswith("_")]
        raise SourceUnreadable(f"{label}: {module} has no function {attribute}{meant(attribute, names)}")
    made: Callable[[], object] = found
    return made


class _UserCode:
    """What a user's function raises becomes one line that names the function; the traceback stays as its cause.

    An exit too: the function is asked for data, and does not end the program. An interrupt stays one.
    """

    def __init__(self, label: str, *, only_exit: bool = False) -> None:
        self._label = label
        self._kinds = SystemExit if only_exit else (Exception, SystemExit)

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, self._kinds) and not isinstance(error, SourceUnreadable | SeriesInvalid):
            said = f"{self._label} raised {type(error).__name__}: {error}"
            raise SourceUnreadable(said, hint="--debug shows where") from error


@contextmanager
def spooled(make: Callable[[], object], folder: Path, label: str) -> Iterator[Source]:
    """What Python made, in a Parquet file that lives as long as the source: one way of reading for all sources."""
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory(prefix="tsfleet-") as scratch:
        path, writer = Path(scratch) / "source.parquet", None
        with _UserCode(label):
            made = make()
            for table in _tables(made, label):
                if writer is None:
                    options = {"compression": "none", "coerce_timestamps": "us", "allow_truncated_timestamps": True}
                    writer = pq.ParquetWriter(path, table.schema, **options)
                writer.write_table(table.cast(writer.schema), row_group_size=122_880)
        if writer is None:
            raise SourceUnreadable(f"{label}: gave no table", hint=_WANTED)
        writer.close()
        yield from_files([path], folder, label)


def _tables(made: object, label: str) -> Iterator[pa.Table]:
    if isinstance(made, pa.Table):
        yield made
    elif isinstance(made, pa.RecordBatch):
        yield pa.Table.from_batches([made])
    elif hasattr(made, "to_parquet") and hasattr(made, "reset_index"):
        yield _from_frame(made)
    elif hasattr(made, "__arrow_c_stream__"):
        yield pa.table(made)
    elif isinstance(made, Iterable) and not isinstance(made, str | bytes | Mapping):
        for part in made:
            yield from _tables(part, label)
    else:
        raise SourceUnreadable(f"{label}: gave a {type(made).__name__}", hint=_WANTED)


def _from_frame(frame: Any) -> pa.Table:
    """A DataFrame; the levels of its index that have a name are columns too."""
    named = [name for name in frame.index.names if name is not None]
    return pa.Table.from_pandas(frame.reset_index(level=named) if named else frame, preserve_index=False)


def kind_of(given: object) -> str:
    """What a message calls an object that was given."""
    return f"function {getattr(given, '__name__', '')}".strip() if callable(given) else type(given).__name__
