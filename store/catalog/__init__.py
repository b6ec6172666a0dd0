"""The catalog: the only file that decides what a store holds, and the only package that speaks SQLite.

A commit is one SQLite transaction under the writers' lock: its snapshot row, hot rows, segment and pack rows become
visible together or not at all. Readers use a connection of their own that cannot write and never checkpoints.
"""

from store.catalog.layout import FORMAT, NAME, Columns, HotRows, Retired, Segment, State, quoted
from store.catalog.making import create, exists
from store.catalog.reader import Catalog
from store.catalog.writer import Writer

__all__ = [
    "FORMAT",
    "NAME",
    "Catalog",
    "Columns",
    "HotRows",
    "Retired",
    "Segment",
    "State",
    "Writer",
    "create",
    "exists",
    "quoted",
]
