"""Tables that lie outside the store: files, a DuckDB query, a Python function, a frame in memory.

Whatever it was, it becomes one relation that DuckDB reads as a stream, with the columns it has and the words a
message calls it by. Nothing is guessed: the columns of a CSV stay text until a rule says what they are (an id "007"
is no number), and files whose types differ are widened, never rounded.
"""

from fleet.sources.opening import opened
from fleet.sources.python import importable, spooled
from fleet.sources.relation import Source, identifier, literal, streamed

__all__ = ["Source", "identifier", "importable", "literal", "opened", "spooled", "streamed"]
