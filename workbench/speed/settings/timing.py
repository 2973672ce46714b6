"""Times several ways of computing the same result: in turn, after a warm-up each, and compares medians."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

ROUNDS, MOST_ROUNDS, BUDGET_SECONDS = 3, 7, 0.4


def alternated(ways: Sequence[Any], seconds: Callable[[Any], float]) -> dict[Any, float]:
    """Return the median time of each way in seconds; infinity for a way that fails its warm-up."""
    taken: dict[Any, list[float]] = {way: [] for way in ways if math.isfinite(seconds(way))}
    begun, rounds = time.perf_counter(), 0
    while rounds < ROUNDS or (rounds < MOST_ROUNDS and time.perf_counter() - begun < BUDGET_SECONDS):
        for way in list(taken)[:: 1 if rounds % 2 == 0 else -1]:
            taken[way].append(seconds(way))
        rounds += 1
    return {way: statistics.median(taken[way]) if way in taken else math.inf for way in ways}


def seconds_of(act: Callable[[], Any], device: torch.device) -> float:
    """Return the time of one call in seconds; infinity if it raises an error, such as a lack of memory or a kernel."""
    try:
        _await(device)
        begun = time.perf_counter()
        act()
        _await(device)
        return time.perf_counter() - begun
    except Exception:  # a model may raise anything; if every way fails, the run will raise the error again
        return math.inf


def _await(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
