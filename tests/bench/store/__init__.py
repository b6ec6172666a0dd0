"""The store under load: ``python -m tests.bench store [PART ...] [options]``, one JSON line a figure.

Every part makes its data on the spot from a seed, and measures its peer in the same run; a line tells the limit, where
there is one. Options go to each part that is run. Without parts all run, one after the other.
"""

from __future__ import annotations

import importlib

PARTS = ("commit", "writers", "append", "small", "opening", "questions", "latest", "volume")


def main(words: list[str]) -> None:
    asked = [word for word in words if word in PARTS]
    options = [word for word in words if word not in asked]
    for part in asked or PARTS:
        importlib.import_module(f"tests.bench.store.{part}").main(options)
