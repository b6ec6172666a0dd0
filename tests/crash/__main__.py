"""The crash harness: ``python -m tests.crash PART [options]`` prints JSON lines and fails when something was lost."""

from __future__ import annotations

import importlib
import sys

PARTS = ("faults", "kills", "replay", "syscalls")

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in PARTS:
        sys.exit(f"usage: python -m tests.crash {'|'.join(PARTS)} [options]")
    sys.exit(importlib.import_module(f"tests.crash.{sys.argv[1]}").main(sys.argv[2:]))
