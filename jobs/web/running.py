"""Where a job that somebody asks for over REST goes: whoever runs jobs, behind two methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol


class Runner(Protocol):
    """What takes requests to run a job."""

    def jobs(self) -> Sequence[str]:
        """The names of the jobs there are."""
        ...

    def ask(
        self, job: str, *, key: str, actor: str, slot: datetime | None = None, anew: bool = False
    ) -> Mapping[str, object]:
        """Write down that a job shall run now, and what became of the request: at least its ``id`` and ``status``.

        Args:
            key: of whoever asks; the same key for the same job is the same request, and has no second effect.
            actor: who asks, for the ledger.
            slot: the logical time; the last one that is due without it.
            anew: do it although it is done.

        Raises:
            CommitConflict: the key was used for something else.
            JobRunning: the job is at work.
        """
        ...
