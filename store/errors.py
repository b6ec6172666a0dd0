"""What can go wrong, grouped by what the catcher does about it.

Every error of the project has one root, a stable ``code``, the values in its message and the next step in its
``hint``. Errors are built from their message and hint alone, so they survive pickling between processes.
"""

from __future__ import annotations

from typing import ClassVar


class TsfleetError(Exception):
    """Root of every error that tsfleet raises on purpose."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def message(self) -> str:
        """The sentence that says what is wrong, with the values in it."""
        return str(self.args[0])

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, dict(self.__dict__))


def _rebuild(kind: type[TsfleetError], message: str, state: dict[str, object]) -> TsfleetError:
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


class StoreError(TsfleetError):
    """The store could not do what was asked."""

    code = "store"


class NotFound(StoreError, LookupError):
    """No such store, asset, run, blob or snapshot; look at the name."""

    code = "not-found"


class SnapshotExpired(NotFound):
    """The snapshot has ended, or rows that it showed were folded away; ask the oldest that is whole, or a newer one."""

    code = "snapshot-expired"


class AlreadyExists(StoreError):
    """The name is taken; choose another or open what is there."""

    code = "already-exists"


class WrongState(StoreError):
    """A run has not begun, has ended or is deleted; begin, resume or restore it first."""

    code = "wrong-state"


class InvalidId(StoreError, ValueError):
    """The id is too long or holds control characters; mend it at its source."""

    code = "invalid-id"


class CommitConflict(StoreError):
    """The same commit id came with another payload, or the head moved; begin again from the current state."""

    code = "commit-conflict"


class Overtaken(CommitConflict):
    """A watermark is not what the transaction relied on: another took the work over; look before going on."""

    code = "overtaken"


class StoreBusy(StoreError):
    """Another writer holds the lock; try again."""

    code = "store-busy"


class ReadOnly(StoreError):
    """The store was opened for reading, or the folder does not admit writing."""

    code = "read-only"


class NoSpace(StoreError):
    """The disk is full; make room and do it again. What was acknowledged before is there."""

    code = "no-space"


class WriteFailed(StoreError):
    """The disk did not take what was to be written; look at the disk. What was acknowledged before is there."""

    code = "write-failed"


class WrongProcess(StoreError):
    """The store was opened in another process; open it again in this one."""

    code = "wrong-process"


class SchemaMismatch(StoreError, ValueError):
    """Rows do not fit the table; mend the column that is named."""

    code = "schema-mismatch"


class SourceUnreadable(StoreError, ValueError):
    """A user's file or query could not be read; mend it."""

    code = "source-unreadable"


class QueryInvalid(StoreError, ValueError):
    """The SQL of a question does not hold; mend it."""

    code = "query-invalid"


class FormatTooNew(StoreError):
    """The folder was written by a newer release; install that release."""

    code = "format-too-new"


class Damaged(StoreError):
    """Bytes on disk are not what was written; restore them and call a human."""

    code = "damaged"
