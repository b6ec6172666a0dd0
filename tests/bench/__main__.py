"""Benchmarks: ``python -m tests.bench NAME [options]`` prints one JSON line a figure.

They measure whole commands, as a user types them: wall seconds, CPU seconds of the process tree, peak memory. Nothing
here judges whether the answers are right; the tests do.
"""

from __future__ import annotations

import importlib
import sys

NAMES = (
    *("boards", "compare", "coverage", "cycle", "faults", "feed", "flips", "forecast", "halfway", "many"),
    *("schedulers", "store", "tracking", "train", "web"),
)


def main(words: list[str]) -> None:
    if not words or words[0] not in NAMES:
        sys.exit(f"usage: python -m tests.bench {'|'.join(NAMES)} [options]")
    importlib.import_module(f"tests.bench.{words[0]}").main(words[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
