"""Calls measured in turns, so that their ratios hold where the speed of the machine changes."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any


def in_turns(calls: dict[str, Callable[[], Any]], *, repeats: int, rounds: int) -> dict[str, float]:
    """Median seconds of each call, after two rounds to warm up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 2):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(repeats):
                call()
            if turn >= 2:
                times[name].append((time.perf_counter() - start) / repeats)
    return {name: median(found) for name, found in times.items()}
