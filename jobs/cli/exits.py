"""What a command's exit code says, so that a script need not read text."""

from __future__ import annotations

from enum import IntEnum

from jobs.cli.console import OutputLost
from store.errors import TsfleetError


class Exit(IntEnum):
    """The closed set of exit codes."""

    OK = 0
    """All went well, also when nothing was due."""
    PARTLY = 1
    """Some asset failed or fell back, or a check found something."""
    USAGE = 2
    """The command line, the configuration or the input does not hold."""
    NOTHING_SELECTED = 3
    """--select or --where matched no asset."""
    LOCKED = 4
    """Another process holds the store."""
    NOT_ALLOWED = 5
    """The store or the folder does not admit it."""
    BUG = 70
    """An error that tsfleet did not expect."""
    INTERRUPTED = 130
    """Ctrl-C; what was finished is in the store."""


_BY_CODE = {
    "nothing-selected": Exit.NOTHING_SELECTED,
    "store-busy": Exit.LOCKED,
    "read-only": Exit.NOT_ALLOWED,
    "no-space": Exit.NOT_ALLOWED,
    "write-failed": Exit.NOT_ALLOWED,
}


def exit_of(error: BaseException) -> Exit:
    """The exit code that an error ends the command with.

    >>> exit_of(KeyboardInterrupt()).name, exit_of(PermissionError()).name, exit_of(ZeroDivisionError()).name
    ('INTERRUPTED', 'NOT_ALLOWED', 'BUG')
    """
    if isinstance(error, KeyboardInterrupt):
        return Exit.INTERRUPTED
    if isinstance(error, TsfleetError):
        return _BY_CODE.get(error.code, Exit.USAGE)
    return Exit.NOT_ALLOWED if isinstance(error, PermissionError | OutputLost) else Exit.BUG
