"""A table outside the store as one relation: what stands after FROM, its columns, what a message calls it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from fleet.config.messages import meant
from fleet.errors import SeriesInvalid
from store.duck import query_source
from store.errors import SourceUnreadable


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


def from_sql(relation: str, folder: Path, label: str) -> Source:
    """A source that is what stands after FROM."""
    return Source(label=label, relation=relation, folder=folder, columns=columns_of(relation, folder, label))


def columns_of(relation: str, folder: Path, label: str) -> dict[str, pa.DataType]:
    """The columns of a relation and their Arrow types; reads no row."""
    schema = ask(f"SELECT * FROM {relation} LIMIT 0", folder, label).schema
    return dict(zip(schema.names, schema.types, strict=True))
