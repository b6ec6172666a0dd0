"""What the commands print: tables and JSON on stdout, everything else on stderr.

A table is a list of rows (mappings with equal keys). As JSON it is one array of objects: NaN and infinities are null,
instants are ISO 8601 with Z. On a terminal it is drawn; in a pipe it is plain, aligned text of whatever width the
rows need.
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Row = Mapping[str, object]
NO_LIMIT = 100_000
LONGEST_WORD = 30


#: What an operating system says when output goes nowhere: the disk is full, broken, or not to be written.
LOST = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EBADF})


class OutputLost(Exception):
    """What a command had to tell could not be written; what it did is done."""

    hint = "what the command did is done; send its output elsewhere"

    def __init__(self, cause: OSError) -> None:
        super().__init__(f"the output cannot be written: {cause.strerror}")


def open_streams() -> None:
    """Make stdout and stderr fit for any text: closed ones lead nowhere, narrow ones escape what they lack."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # the caller closed it, as with >&-
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # open until the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def close_output() -> None:
    """Lead stdout nowhere, so that Python does not complain again when it closes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)


def plain(value: object) -> object:
    """A value as JSON has it.

    >>> plain(float("nan")), plain(datetime(2024, 6, 10, tzinfo=UTC)), plain({"a": (1, 2.5)})
    (None, '2024-06-10T00:00:00Z', {'a': [1, 2.5]})
    """
    match value:
        case bool() | int() | str() | None:
            return value
        case float():
            return value if math.isfinite(value) else None
        case datetime():
            return (value.astimezone(UTC) if value.tzinfo else value).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Mapping():
            return {str(key): plain(inner) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(inner) for inner in value]
        case _ if hasattr(value, "item"):  # a NumPy scalar
            return plain(value.item())
        case _:
            return str(value)


def print_json(value: object) -> None:
    """Prints a value as JSON on stdout, rows one a line so that a diff shows the row."""
    made = plain(value)
    if isinstance(made, list):
        lines = ",\n ".join(json.dumps(row, ensure_ascii=False) for row in made)
        sys.stdout.write(f"[{lines}]\n")
    else:
        sys.stdout.write(json.dumps(made, ensure_ascii=False, indent=1) + "\n")


def print_rows(rows: Sequence[Row], *, as_json: bool, title: str = "", empty: str = "no rows") -> None:
    """Prints a table on stdout; without rows it says so on stderr."""
    if as_json:
        print_json(list(rows))
    elif rows:
        _draw(rows, title)
    else:
        say(empty)


def say(text: str = "") -> None:
    """Prints a line for people on stderr."""
    console_on(sys.stderr).print(text, markup=False, highlight=False, soft_wrap=True)


def say_error(message: str, hint: str = "") -> None:
    """Prints an error as one line, and its hint as another."""
    say(f"tsfleet: {' '.join(message.split())}")
    if hint:
        say(f"  hint: {hint}")


def console_on(stream: TextIO) -> Console:
    """A console on a stream: as wide as the terminal, or as wide as the text when there is none."""
    from rich.console import Console

    return Console(file=stream) if stream.isatty() else Console(file=stream, width=NO_LIMIT, force_terminal=False)


#: Columns that speak only when they hold something else than nothing; left out where a line is too short for all.
SPEAK_UP = ("missing", "undefined", "perfect_foresight")


def _draw(rows: Sequence[Row], title: str) -> None:
    console = console_on(sys.stdout)
    table = _table(rows, list(rows[0]))
    room = console.options.update(width=NO_LIMIT)
    if console.measure(table, options=room).maximum > console.width:
        silent = {name for name in SPEAK_UP if not any(row.get(name) for row in rows)}
        table = _table(rows, [name for name in rows[0] if name not in silent])
    # Numbers are never folded; a table that is still too wide runs over the edge, where it can be read.
    console.width = max(console.width, console.measure(table, options=room).minimum)
    with console.capture() as drawn:
        console.print(table)
    lines = ["", title, *drawn.get().splitlines()] if title else drawn.get().splitlines()
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in lines))


def _table(rows: Sequence[Row], names: Sequence[str]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in names:
        numeric = all(isinstance(row.get(name), int | float | None) for row in rows)
        words = [len(word) for row in rows for word in cell(row.get(name)).split()]
        table.add_column(
            Text(name),
            justify="right" if numeric else "left",
            overflow="fold",
            no_wrap=numeric,
            min_width=min(max([len(name), *words]), LONGEST_WORD),
        )
    for row in rows:
        table.add_row(*(Text(cell(row.get(name))) for name in names))
    return table


def cell(value: object) -> str:
    """A value as a person reads it in a table.

    >>> cell(0.123456), cell(12345.6), cell(1e300), cell(7), cell(None), cell(float("nan")), cell(True)
    ('0.1235', '12,346', '1e+300', '7', '', '', 'yes')
    """
    value = value.item() if hasattr(value, "item") else value
    match value:
        case bool():
            return "yes" if value else "no"
        case float() if math.isfinite(value):
            return f"{value:,.0f}" if 10_000 <= abs(value) < 1e15 else f"{value:.4g}"
        case float() | None:
            return ""
        case int():
            return f"{value:,}"
        case datetime() if value.tzinfo:
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%MZ}"
        case _:
            made = plain(value)
            return made if isinstance(made, str) else json.dumps(made, ensure_ascii=False)
