"""Tables that lie outside the store: files, a DuckDB query, a Python function, a frame in memory.

Whatever it was, it becomes one relation that DuckDB reads as a stream, with the columns it has and the words a
message calls it by. Nothing is guessed: the columns of a CSV stay text until a rule says what they are (an id "007"
is no number), and files whose types differ are widened, never rounded.
"""

from __future__ import annotations

import csv
import glob
import gzip
import importlib
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from fleet.config import Origin
from fleet.config.messages import meant
from fleet.errors import SeriesInvalid
from store.duck import query_source
from store.errors import SourceUnreadable

PARQUET = (".parquet", ".pq", ".parq")
CSV = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
_WANTED = "return a DataFrame, an Arrow table, or several of them"
_DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A table to be read.

    Args:
        label: what messages call it.
        relation: what stands after FROM.
        folder: relative paths in a user's query begin here.
        columns: name -> Arrow type.
        rows: how many there are, where the files say so without being read.
        uneven: column -> what is wrong with it, where only some files have it or files disagree about zones.
        stored: whether the rows may lie in order already, so that looking is cheaper than sorting.
    """

    label: str
    relation: str
    folder: Path
    columns: Mapping[str, pa.DataType]
    rows: int | None = None
    uneven: Mapping[str, str] = field(default_factory=dict)
    stored: bool = False

    def read(self, select: Sequence[str], *, tail: str = "") -> pa.RecordBatchReader:
        """The rows as a stream; `select` and `tail` are SQL over the source's columns."""
        return ask(f"SELECT {', '.join(select)} FROM {self.relation} {tail}", self.folder, self.label)

    def require(self, key: str, name: str) -> pa.DataType:
        """The type of a column that the configuration names under a key.

        Raises:
            SeriesInvalid: the source does not have it; the message has the nearest name and all that there are.
        """
        found = self.columns.get(name)
        if found is None:
            raise SeriesInvalid(f'{self.label}: no column {key} = "{name}"{meant(name, self.columns)}')
        if name in self.uneven:
            said = f"{self.label}: column {name} {self.uneven[name]}"
            raise SeriesInvalid(said, hint="name the files apart in path, or write sql")
        return found


def identifier(name: str) -> str:
    """A column name in SQL.

    >>> print(identifier('y "kW" net'))
    "y ""kW"" net"
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text in SQL.

    >>> literal("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def ask(sql: str, folder: Path, label: str) -> pa.RecordBatchReader:
    """A question to DuckDB about data outside the store; an error begins with the source's label."""
    try:
        return query_source(sql, folder=folder)
    except SourceUnreadable as error:
        raise unreadable(error, label) from error


def streamed(reader: pa.RecordBatchReader, label: str) -> Iterator[pa.RecordBatch]:
    """The batches of a stream; what DuckDB finds wrong on the way is an error of the source too."""
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except (pa.ArrowException, OSError, RuntimeError) as error:
            raise SourceUnreadable(f"{label}: {_one_line(str(error))}") from error
        yield batch


def unreadable(error: SourceUnreadable, label: str) -> SourceUnreadable:
    """The error with the words that say which source it is about."""
    return SourceUnreadable(f"{label}: {_one_line(str(error.__cause__ or error))}", hint=error.hint)


def _one_line(text: str) -> str:
    r"""What DuckDB says over many lines in one, the place of a broken line of a CSV included.

    >>> _one_line("Invalid Input Error: CSV Error on Line: 3\nOriginal Line: y,2,3\nPossible fixes:\n  file = a.csv")
    'CSV Error on Line: 3; Original Line: y,2,3; file = a.csv'
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return "cannot be read"
    if "CSV Error" not in text:
        return lines[0]
    wanted = ("Original Line", "Expected", "Error when", "file =", "Could not convert")
    return "; ".join([lines[0].removeprefix("Invalid Input Error: "), *(x for x in lines[1:] if x.startswith(wanted))])


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
        made, label = (given() if callable(given) else given), f"{section} {_kind(given)}"
        with _spooled(lambda: made, folder, label) as source:
            yield source
    elif origin.path is not None:
        yield _files(_found(origin.path, folder, section), folder, _paths_label(origin.path, section))
    elif origin.sql is not None:
        yield _relation(f"({origin.sql.strip().rstrip(';')}\n) AS source", folder, f"{section} sql")
    elif origin.python is not None:
        label = f'{section} python = "{origin.python}"'
        with importable(folder), _spooled(function(origin.python, label), folder, label) as source:
            yield source
    else:
        raise SourceUnreadable(f"{section}: nothing says where the data are", hint='such as path = "data/*.parquet"')


# -- files -------------------------------------------------------------------------------------------------------------


def _found(paths: Sequence[str], folder: Path, section: str) -> list[Path]:
    """The files that the paths stand for, in the order of their names."""
    found: list[Path] = []
    for text in paths:
        path = folder / Path(text).expanduser()
        where = f'{section} path = "{text}"'
        if path.is_file():
            matches = [path]
        elif path.is_dir():
            matches = _inside(path)
            if not matches:
                raise SourceUnreadable(f"{where}: no Parquet or CSV file in {path}", hint=_listing(path))
        elif glob.has_magic(text):
            # Path.glob takes no pattern that begins at the root.
            names = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
            matches = [Path(name) for name in names if Path(name).is_file()]
            if not matches:
                raise SourceUnreadable(f"{where}: matches no file", hint=_listing(_parent(path)))
        else:
            raise SourceUnreadable(f"{where}: no such file or folder", hint=_listing(_parent(path)))
        found += matches
    for path in found:
        if not str(path).lower().endswith(PARQUET + CSV):
            accepted = f"accepted: {', '.join(PARQUET + CSV)}"
            raise SourceUnreadable(f"{section}: {path} is neither Parquet nor CSV", hint=accepted)
        if path.stat().st_size == 0:
            raise SourceUnreadable(f"{section}: {path} is empty (0 bytes)", hint="remove it, or export it again")
    return list(dict.fromkeys(found))


def _inside(folder: Path) -> list[Path]:
    """The data files of a folder and those below; a name with a dot or an underscore in front is a working file."""
    found = []
    for path in sorted(folder.rglob("*")):
        working = any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
        if path.name.lower().endswith(PARQUET + CSV) and path.is_file() and not working:
            found.append(path)
    return found


def _parent(path: Path) -> Path:
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path


def _listing(folder: Path) -> str:
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in folder.iterdir())
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    return f"{folder} holds {shown}" if names else f"{folder} is empty"


def _paths_label(paths: Sequence[str], section: str) -> str:
    return f"{section} {paths[0]}" if len(paths) == 1 else f"{section} {paths[0]} and {len(paths) - 1} more"


def _files(files: Sequence[Path], folder: Path, label: str) -> Source:
    parquet = [path for path in files if str(path).lower().endswith(PARQUET)]
    if not parquet:
        return _csv(files, folder, label)
    if len(parquet) < len(files):
        other = next(path for path in files if path not in parquet)
        both = f"{label}: both Parquet ({parquet[0].name}) and CSV ({other.name})"
        raise SourceUnreadable(both, hint="name one kind in path")
    names = ", ".join(literal(str(path)) for path in parquet)
    mixed, uneven = _parquet_types(names, len(parquet), folder, label)
    # By the types of the first file, a second file's 1.5 would be read as its integer 2: then widen, column by column.
    relation = f"read_parquet([{names}]{', union_by_name = true' if mixed else ''})"
    counted = ask(f"SELECT sum(num_rows)::BIGINT AS n FROM parquet_file_metadata([{names}])", folder, label).read_all()
    rows = int(counted["n"][0].as_py() or 0)
    if rows == 0:
        raise SourceUnreadable(f"{label}: holds no row", hint="is it the right file?")
    columns = _columns(relation, folder, label)
    return Source(label=label, relation=relation, folder=folder, columns=columns, rows=rows, uneven=uneven, stored=True)


def _parquet_types(names: str, files: int, folder: Path, label: str) -> tuple[bool, dict[str, str]]:
    """Whether files differ in the type of a column, and the columns that cannot be read as one.

    A column that only some files have would be read as missing, a stamp without a zone beside one with a zone as UTC.
    """
    sql = f"""SELECT name, duckdb_type AS type, count(DISTINCT file_name) AS files, min(file_name) AS example
              FROM parquet_schema([{names}]) WHERE duckdb_type IS NOT NULL GROUP BY ALL ORDER BY ALL"""
    found: dict[str, dict[str, tuple[int, str]]] = {}
    for row in ask(sql, folder, label).read_all().to_pylist():
        found.setdefault(row["name"], {})[row["type"]] = (row["files"], row["example"])
    uneven = {}
    for name, types in found.items():
        count = sum(n for n, _ in types.values())
        if count < files:
            uneven[name] = f"stands in only {count} of {files} files (in {next(iter(types.values()))[1]})"
        elif len({kind.endswith("TIME ZONE") for kind in types}) > 1:
            uneven[name] = "is " + " and ".join(f"{kind} in {example}" for kind, (_, example) in types.items())
    return any(len(types) > 1 for types in found.values()), uneven


def _csv(files: Sequence[Path], folder: Path, label: str) -> Source:
    """Every column as text, delimiter and header from each file's first line: sniffing drops odd lines."""
    groups: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for path in files:
        groups.setdefault(_csv_header(path, label), []).append(literal(str(path)))
    parts = []
    for (delimiter, names), paths in groups.items():
        columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
        parts.append(
            f"SELECT * FROM read_csv([{', '.join(paths)}], auto_detect = false, header = true, "
            f"delim = {literal(delimiter)}, quote = '\"', escape = '\"', columns = {{{columns}}})"
        )
    relation = f"({' UNION ALL BY NAME '.join(parts)}) AS source"
    uneven = {}
    for _, names in groups:
        for name in names:
            lacking = next((paths[0] for (_, others), paths in groups.items() if name not in others), None)
            if lacking is not None:
                uneven[name] = f"is missing in {lacking}"
    return Source(
        label=label, relation=relation, folder=folder, columns=_columns(relation, folder, label), uneven=uneven
    )


def _csv_header(path: Path, label: str) -> tuple[str, tuple[str, ...]]:
    opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            line = file.readline()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceUnreadable(f"{label}: {path}: {error}", hint="a CSV is UTF-8 text") from error
    delimiter = max(_DELIMITERS, key=line.count)
    names = next(csv.reader([line], delimiter=delimiter), [])
    if not any(names):
        raise SourceUnreadable(f"{label}: line 1 of {path} names no column", hint="a CSV begins with its header")
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise SourceUnreadable(f'{label}: {path} has two columns "{doubled}"', hint="rename one of them")
    return delimiter, tuple(names)


def _relation(relation: str, folder: Path, label: str) -> Source:
    return Source(label=label, relation=relation, folder=folder, columns=_columns(relation, folder, label))


def _columns(relation: str, folder: Path, label: str) -> dict[str, pa.DataType]:
    schema = ask(f"SELECT * FROM {relation} LIMIT 0", folder, label).schema
    return dict(zip(schema.names, schema.types, strict=True))


# -- Python ------------------------------------------------------------------------------------------------------------


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
    """What a user's function raises becomes one line that names the function; the traceback stays as its cause."""

    def __init__(self, label: str) -> None:
        self._label = label

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, SourceUnreadable):
            said = f"{self._label} raised {type(error).__name__}: {error}"
            raise SourceUnreadable(said, hint="--debug shows where") from error


@contextmanager
def _spooled(make: Callable[[], object], folder: Path, label: str) -> Iterator[Source]:
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
        yield _files([path], folder, label)


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


def _kind(given: object) -> str:
    return f"function {getattr(given, '__name__', '')}".strip() if callable(given) else type(given).__name__
