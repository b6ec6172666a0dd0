"""Tracking from a notebook: runs, their parameters, metrics, models and artifacts, visible as soon as they are logged.

``store.run`` makes one, ``store.batch`` many at once, ``store.resume`` takes one up again, ``store.runs`` finds them.
What has no column of its own in ``runs`` is kept in its tags, under names that ``values.RESERVED`` lists.
"""

from store.tracking.artifacts import Artifact
from store.tracking.batch import Batch
from store.tracking.book import Book, Ids
from store.tracking.ledger import Ledger
from store.tracking.run import Run, Saves
from store.tracking.search import Search

__all__ = ["Artifact", "Batch", "Book", "Ids", "Ledger", "Run", "Saves", "Search"]
