"""On whose behalf a verb works: a run of a job that somebody claimed before.

The claim's holder keeps the row in ``job_runs``; the verb's part is to commit under the run's ids and to leave out what
an earlier attempt at the same run has finished.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One run of a job.

    Args:
        job: its name.
        slot: its logical time, aware.
        revision: 0, and one more each time that the slot is run anew on purpose.
    """

    job: str
    slot: datetime
    revision: int = 0

    def commit_id(self, chunk: int) -> str:
        """The id of the run's commit of this number; a retry goes on counting where the attempt before it stopped.

        >>> Turn(job="forecast", slot=datetime(2024, 6, 1, tzinfo=UTC)).commit_id(17)
        'forecast/2024-06-01T00:00:00+00:00/0/17'
        """
        return f"{self.job}/{self.slot.astimezone(UTC).isoformat()}/{self.revision}/{chunk}"
