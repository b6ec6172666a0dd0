"""What became of the assets of a job: values, never exceptions that stop a fleet.

A model's failure is turned into `Failed` in exactly one place (`failure_of`), with the cause in the words of the
store's `outcomes` table. A `Report` is what every verb returns.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal, ParamSpec, TypeVar

from fleet.errors import AdapterMissing, BadOutput, CovariateMissing, NoData, TooShort, Unsaveable
from store.errors import TsfleetError


class Cause(StrEnum):
    """Why an asset failed; the closed set of the `outcomes` table."""

    EXCEPTION = "exception"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    MEMORY = "memory"
    BAD_OUTPUT = "bad_output"
    TOO_SHORT = "too_short"
    NO_DATA = "no_data"
    MISSING_COVARIATE = "missing_covariate"
    UNPICKLABLE = "unpicklable"
    ADAPTER_MISSING = "adapter_missing"
    CANCELLED = "cancelled"


Status = Literal["ok", "failed", "fell_back", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """One failure as a value: a stable code, the cause, one line for people, and the trace for whoever debugs.

    Args:
        passing: what caused it can go away by itself, so that the same work may come through a moment later.
    """

    code: str
    cause: Cause
    error: str
    trace: str = ""
    passing: bool = False


class Passing(Exception):
    """A failure that can pass by itself, on its way out of a chunk to the engine that will try the item again."""

    def __init__(self, failed: Failed) -> None:
        self.failed = failed
        super().__init__(failed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one asset in one job.

    >>> Outcome(asset_id="b1", status="ok", recipe="gbm").cause is None
    True
    """

    asset_id: str
    status: Status
    product: str = "default"
    recipe: str | None = None
    failure: Failed | None = None
    duration_s: float = 0.0

    @property
    def cause(self) -> Cause | None:
        """The cause of the failure, if there was one (a fallback keeps the cause that led to it)."""
        return self.failure.cause if self.failure else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a verb is, for a bar or a line.

    Args:
        done: assets that are through what the verb is `doing` now, of `total`.
        seconds: since it began with that.
        doing: one word, such as judging; empty where the verb is one act.
    """

    done: int
    total: int
    ok: int = 0
    failed: int = 0
    fell_back: int = 0
    skipped: int = 0
    seconds: float = 0.0
    doing: str = ""

    @property
    def rate(self) -> float:
        """Assets worked on a second, those that were skipped left out."""
        return (self.done - self.skipped) / self.seconds if self.seconds > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest takes at this rate; None while there is none.

        >>> Progress(done=30, total=90, ok=30, seconds=10.0).left_s
        20.0
        """
        return (self.total - self.done) / self.rate if self.rate else None


Show = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroup:
    """Failures of one cause and message, with the first asset as the example."""

    cause: str
    count: int
    asset_id: str
    recipe: str | None
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What a verb would do: judge, fit or issue with a recipe, on so many assets.

    Args:
        recipe: its name; None for the one that the judging will find best.
    """

    act: Literal["judge", "fit", "issue"]
    recipe: str | None
    assets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a verb did: counts, failures grouped by cause, rows written, seconds.

    Args:
        retry: what to type to have the failed done again; empty where nothing failed.
        planned: what would be done; None unless that was all that was asked.
    """

    job: str
    slot: datetime
    assets: int
    ok: int = 0
    failed: int = 0
    fell_back: int = 0
    skipped: int = 0
    seconds: float = 0.0
    failures: tuple[FailureGroup, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    interrupted: bool = False
    retry: str = ""
    planned: tuple[Planned, ...] | None = None

    @property
    def clean(self) -> bool:
        """True when no asset failed or fell back and nobody interrupted."""
        return not (self.failed or self.fell_back or self.interrupted)

    def _repr_html_(self) -> str:
        from fleet import cards

        return cards.report_card(self)


P = ParamSpec("P")
T = TypeVar("T")


def attempt(act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Failed:
    """What `act` returns, or its exception as a value: the border between a model and the fleet.

    >>> attempt(float, "x").error
    "ValueError: could not convert string to float: 'x'"
    """
    try:
        return act(*args, **kwargs)
    except (Exception, SystemExit) as error:  # noqa: BLE001  a user's model may raise anything; it costs one outcome
        return failure_of(error)


def attempt_part(act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Failed:
    """`attempt` for one part of an item (a recipe, a link of a chain).

    Raises:
        Passing: what failed may come through a moment later; whoever runs the chunk tries the item again.
    """
    done = attempt(act, *args, **kwargs)
    if isinstance(done, Failed) and done.passing:
        raise Passing(done)
    return done


def failure_of(error: BaseException) -> Failed:
    """The exception of a model or its library as a value, with its cause.

    A lack of memory may pass, and so may what the system or the network refused; a path that is not there will not be
    there a second later.

    >>> failure_of(TooShort("needs 24 steps, has 3")).cause
    <Cause.TOO_SHORT: 'too_short'>
    >>> failure_of(AdapterMissing("prophet is not installed", hint="pip install prophet")).error
    'prophet is not installed; pip install prophet'
    >>> failure_of(ZeroDivisionError("division by zero")).error
    'ZeroDivisionError: division by zero'
    >>> failure_of(ConnectionResetError("reset by peer")).passing, failure_of(FileNotFoundError("no such file")).passing
    (True, False)
    """
    if isinstance(error, Passing):
        return error.failed
    cause = next(
        (cause for kind, cause in (*OURS.items(), *THEIRS.items()) if isinstance(error, kind)), Cause.EXCEPTION
    )
    expected = isinstance(error, TsfleetError)
    first_line = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, AdapterMissing) and error.hint:  # the line to type
        first_line = f"{first_line}; {' '.join(error.hint.split())}"
    if not expected and any(words in first_line for words in NO_MEMORY):
        cause = Cause.MEMORY
    refused = isinstance(error, OSError) and not isinstance(error, OF_A_PATH) and cause is not Cause.TIMEOUT
    return Failed(
        code=error.code if isinstance(error, TsfleetError) else cause.replace("_", "-"),
        cause=cause,
        error=first_line if expected else f"{type(error).__name__}: {first_line}",
        trace="" if expected else "".join(traceback.format_exception(error))[-4000:],
        passing=not expected and (cause is Cause.MEMORY or refused),
    )


OURS: Mapping[type[TsfleetError], Cause] = {
    TooShort: Cause.TOO_SHORT,
    NoData: Cause.NO_DATA,
    BadOutput: Cause.BAD_OUTPUT,
    CovariateMissing: Cause.MISSING_COVARIATE,
    Unsaveable: Cause.UNPICKLABLE,
    AdapterMissing: Cause.ADAPTER_MISSING,
}
THEIRS: Mapping[type[BaseException], Cause] = {MemoryError: Cause.MEMORY, TimeoutError: Cause.TIMEOUT}
# What libraries that are not written in Python call a lack of memory.
NO_MEMORY = ("std::bad_alloc", "Cannot allocate memory", "can't allocate memory")
OF_A_PATH = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)


def cause_of(code: str) -> Cause:
    """The cause that a stored error code stands for.

    >>> cause_of("too-short"), cause_of("unsaveable")
    (<Cause.TOO_SHORT: 'too_short'>, <Cause.UNPICKLABLE: 'unpicklable'>)
    """
    word = code.replace("-", "_")
    known = {kind.code: cause for kind, cause in OURS.items()}
    return known.get(code, Cause(word) if word in set(Cause) else Cause.EXCEPTION)


def grouped(failures: Sequence[tuple[str, str | None, Failed]]) -> tuple[FailureGroup, ...]:
    """(asset, recipe, failure) triples grouped by cause, recipe and code, the largest group first."""
    groups: dict[tuple[str, str | None, str], list[tuple[str, Failed]]] = {}
    for asset_id, recipe, failure in failures:
        groups.setdefault((failure.cause, recipe, failure.code), []).append((asset_id, failure))
    rows = [
        FailureGroup(cause=cause, count=len(found), asset_id=found[0][0], recipe=recipe, error=found[0][1].error)
        for (cause, recipe, _), found in groups.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.count, row.cause, row.recipe or "")))
