"""Somebody's SQL, asked in a process of its own: a bounded address space, a deadline that kills, nothing written.

DuckDB's own settings are no such bounds: a question can take more memory than its limit says, and one that is told to
stop may not. The store refuses everything but one SELECT over its views; this holds the SELECT to what it may cost.
"""

from jobs.web.sandbox.asking import Answered, Sandbox

__all__ = ["Answered", "Sandbox"]
