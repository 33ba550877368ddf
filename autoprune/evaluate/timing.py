"""Timing of alternatives that take turns, so that whatever happens to the machine happens to all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

Name = TypeVar("Name")
Measured = TypeVar("Measured")


@dataclass(frozen=True)
class Spread:
    """Repeated measurements of one thing.

    Attributes:
        median: Their median.
        iqr: Their interquartile range.
    """

    median: float
    iqr: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        if len(values) < 2:
            return cls(values[0], 0.0)
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, high - low)


def take_turns(
    arms: Mapping[Name, Callable[[], Measured]],
    repeats: int,
    warmup: int = 0,
    on_step: Callable[[str], object] = lambda step: None,
) -> dict[Name, list[Measured]]:
    """Measure every arm once per round; each round begins with another arm, so that none always follows the same one.

    Args:
        arms: By name, a call that brings about the state to be measured, measures it, and leaves none of it behind.
        repeats: Rounds whose results are kept.
        warmup: Rounds before them whose results are not.
        on_step: Called with a description of what is about to run.

    Returns:
        For each arm its results, one of each kept round: results with one index were measured in the same round.
    """
    results: dict[Name, list[Measured]] = {name: [] for name in arms}
    names = list(arms)
    for turn in range(warmup + repeats):
        first = turn % max(1, len(names))
        for name in names[first:] + names[:first]:
            on_step(f"round {turn + 1} of {warmup + repeats}: {name}")
            result = arms[name]()
            if turn >= warmup:
                results[name].append(result)
    return results


def now(device: torch.device) -> float:
    """Seconds on a clock that only differences are read from, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def milliseconds(device: torch.device, call: Callable[[], Any]) -> float:
    """Time that a call takes until the device has done all of it."""
    started = now(device)
    call()
    return 1000 * (now(device) - started)
