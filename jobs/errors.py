"""What can go wrong on the way in: a command typed wrongly, a folder that is not what it should be."""

from __future__ import annotations

from store.errors import TsfleetError


class JobsError(TsfleetError):
    """The command could not do what was asked."""

    code = "jobs"


class UsageInvalid(JobsError, ValueError):
    """An option or argument does not hold; type it as the help of the command says."""

    code = "usage-invalid"


class AlertUnknown(JobsError, LookupError):
    """No open alert has this id; list them and name one."""

    code = "alert-unknown"


class AlertNotSent(JobsError):
    """A channel did not take an alert; it is tried again with the next run."""

    code = "alert-not-sent"


class DeliveryInvalid(JobsError, ValueError):
    """A delivery cannot be made as its configuration says; change what the hint names."""

    code = "delivery-invalid"


class DeliveryMissing(JobsError, LookupError):
    """There is no such delivery or number; list those that there are."""

    code = "delivery-missing"


class ScheduleInvalid(JobsError, ValueError):
    """A job's times make no sense; correct [jobs.NAME] in fleet.toml."""

    code = "schedule-invalid"


class JobRunning(JobsError):
    """The job is at work, here or in another process; wait, or cancel it."""

    code = "job-running"


class JobFailed(JobsError):
    """A kind of job could not be loaded, or said something else than how it went."""

    code = "job-failed"
