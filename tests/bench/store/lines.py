"""What parts print and how they count: one JSON line a figure, medians, fair turns, peak memory."""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def tell(part: str, **figures: Any) -> None:
    """Print one line; numbers are rounded to what can be meant."""
    shown = {name: _rounded(value) for name, value in figures.items()}
    print(json.dumps({"bench": "store", "part": part, **shown, "load": round(os.getloadavg()[0], 1)}), flush=True)


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def judged(ratio: float, limit: float) -> dict[str, Any]:
    """A ratio beside its limit."""
    return {"ratio": ratio, "limit": limit, "within": ratio <= limit}


def timed(act: Callable[[], object]) -> float:
    """Wall seconds of a call."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def cpu(act: Callable[[], object]) -> tuple[float, float]:
    """Wall seconds of a call, and the processor seconds that this process spent on it in all its threads."""
    before, began = time.process_time(), time.perf_counter()
    act()
    return time.perf_counter() - began, time.process_time() - before


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and worst of many waits."""
    ordered = sorted(1_000 * one for one in seconds)
    return {
        "median_ms": statistics.median(ordered),
        "p99_ms": ordered[int(0.99 * (len(ordered) - 1))],
        "worst_ms": ordered[-1],
    }


def peak_mb() -> float:
    """The most memory this process ever held, in megabytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # What getrusage says began with the memory of the process that started this one (Linux keeps it over an exec).
        held = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
        return int(held.split()[1]) / 1_024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1 << 20) if sys.platform == "darwin" else most / 1_024
