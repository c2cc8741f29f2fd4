"""Timings, their spread, and the circumstances they were taken in."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from espalier import environment
from espalier.train.devices import detect_machine

Spread = dict[str, Any]


@dataclass(frozen=True)
class Timing:
    """Seconds on the clock, and seconds of all threads of this process."""

    wall: float
    cpu: float


def timed(work: Callable[[], object]) -> Timing:
    """How long a call took."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Timing(time.perf_counter() - wall, time.process_time() - cpu)


def spread(values: Sequence[float]) -> Spread:
    """Median, smallest and largest of repeats, and the repeats themselves, to 5 digits."""
    return {
        "median": short(statistics.median(values)),
        "low": short(min(values)),
        "high": short(max(values)),
        "repeats": len(values),
        "values": [short(value) for value in values],
    }


def by_clock(timings: Sequence[Timing], summary: Callable[[list[float]], Spread]) -> dict[str, Any]:
    """A summary of the wall seconds and one of the CPU-seconds."""
    return {
        "wall": summary([timing.wall for timing in timings]),
        "cpu": summary([timing.cpu for timing in timings]),
    }


def middle_half(values: Sequence[float]) -> Spread:
    """As ``spread`` for many noisy values: median and quartiles, without the values."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {
        "median": short(median),
        "low": short(low),
        "high": short(high),
        "repeats": len(values),
    }


def short(value: float) -> float:
    """Five significant digits: more would be noise."""
    return float(f"{value:.5g}")


def circumstances() -> dict[str, Any]:
    """Hardware, versions, commit and time: what a figure means nothing without."""
    machine = detect_machine()
    return {
        "hardware": {
            "name": machine.device_name,
            "device": machine.device,
            "cores": machine.cores,
            "memory_gb": round(machine.memory / 1e9, 1),
        },
        "versions": environment.versions(),
        "commit": environment.commit(),
        "date": environment.now(),
    }


def load_average() -> list[float]:
    """Processes that wanted a core, over the last 1, 5 and 15 minutes; empty where unknown."""
    try:
        return [round(value, 2) for value in os.getloadavg()]
    except (AttributeError, OSError):
        return []
