"""From the user's tables into the store: read as a stream, checked by asset, committed at once or not at all.

The order of a run: register, actuals, covariates; one transaction. Bad rows refuse the whole run with one line, or
are written beside the store and the rest goes in; odd data are told and never changed.
"""

from fleet.ingest.report import Finding, IngestReport
from fleet.ingest.verb import ingest

__all__ = ["Finding", "IngestReport", "ingest"]
