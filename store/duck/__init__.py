"""DuckDB, in memory, and the only package that speaks it.

It reads segments in place, holds a copy of the hot rows that is brought up to date by ``_v``, and answers on one
cursor a question. UTC, no extensions from outside, no Python variables as tables, no file outside the store.
"""

from store.duck.engine import Engine, instant, literal
from store.duck.question import Checked, Held, Params, Question
from store.duck.source import query_source

__all__ = ["Checked", "Engine", "Held", "Params", "Question", "instant", "literal", "query_source"]
