"""Parquet and CSV files: found by name, pattern or folder, and read as one relation however they differ."""

from __future__ import annotations

import csv
import glob
import gzip
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fleet.sources.relation import Source, ask, columns_of, literal
from store.errors import SourceUnreadable

PARQUET = (".parquet", ".pq", ".parq")
CSV = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
_DELIMITERS = (",", ";", "\t", "|")


def found_files(paths: Sequence[str], folder: Path, section: str) -> list[Path]:
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


def from_files(files: Sequence[Path], folder: Path, label: str) -> Source:
    """Files as one source; Parquet or CSV, not both."""
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
    columns = columns_of(relation, folder, label)
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
        label=label, relation=relation, folder=folder, columns=columns_of(relation, folder, label), uneven=uneven
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
    # A table written with its index has one column without a name.
    return delimiter, tuple(name or f"column{place}" for place, name in enumerate(names))
